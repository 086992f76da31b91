//! What can be switched in a running region, and what it tells of itself. All of it travels as JSON.

use super::place::Service;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// Where a service's name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    #[default]
    Public,
    /// To the two endpoint addresses in the VPC
    Endpoint,
    /// To an endpoint in a central VPC
    Elsewhere,
    /// To one endpoint address and the public one in the same answer
    Mixed,
    Nxdomain,
    Servfail,
    /// The name exists and has no addresses
    Empty,
    /// No answer at all
    Timeout,
    /// Bytes that are no DNS message
    Malformed,
    /// Public and endpoint in turn, one after the other
    Flapping,
}

/// What is wrong with TLS on a service's endpoint addresses. The public way always works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TlsFault {
    #[default]
    None,
    /// A trusted certificate for another name
    WrongName,
    /// The right name, signed by nobody the host trusts
    Untrusted,
    /// Accepts the connection and never answers the handshake
    Hang,
}

/// How the instance metadata service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ImdsMode {
    #[default]
    Up,
    /// Connection refused
    Down,
    /// Answers every path with text that is not what was asked for
    Malformed,
    /// Accepts and never answers
    Hang,
    /// As `up`, without any IAM role
    NoRole,
}

/// Which ARN a registration that names an ARN gets back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ArnMode {
    /// The one it names, as the real control plane does
    #[default]
    Stable,
    /// A new one every time
    Changing,
}

/// Switches of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSwitch {
    pub path: Path,
    /// Seconds.
    pub ttl: u32,
    pub tls: TlsFault,
    /// How many of the endpoint addresses refuse connections, counted from the first.
    pub dead: u8,
    /// Whether its name is answered out of a cache, which counts the TTL down and keeps an answer until that has gone.
    pub cached: bool,
}

/// The answer an API action gives instead of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiFault {
    pub status: u16,
    /// The `__type` of the error.
    pub kind: String,
    pub message: String,
}

/// Every switch, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    pub services: BTreeMap<Service, ServiceSwitch>,
    pub imds: ImdsMode,
    pub arn: ArnMode,
    /// By action name; `*` is every action without an entry of its own.
    pub api: BTreeMap<String, ApiFault>,
}

/// A change to some switches; what is not named stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Which services `path`, `ttl`, `tls`, `dead` and `cached` are for; empty means all.
    pub services: Vec<Service>,
    pub path: Option<Path>,
    pub ttl: Option<u32>,
    pub tls: Option<TlsFault>,
    pub dead: Option<u8>,
    pub cached: Option<bool>,
    pub imds: Option<ImdsMode>,
    pub arn: Option<ArnMode>,
    /// `None` for an action takes its fault away.
    pub api: BTreeMap<String, Option<ApiFault>>,
}

impl Change {
    /// Sends the names of `services` (all if empty) along `path`.
    pub fn path(services: &[Service], path: Path) -> Self {
        Self { services: services.to_vec(), path: Some(path), ..Self::default() }
    }

    pub(super) fn apply(&self, switches: &mut Switches) {
        for (service, switch) in &mut switches.services {
            if self.services.is_empty() || self.services.contains(service) {
                switch.path = self.path.unwrap_or(switch.path);
                switch.ttl = self.ttl.unwrap_or(switch.ttl);
                switch.tls = self.tls.unwrap_or(switch.tls);
                switch.dead = self.dead.unwrap_or(switch.dead);
                switch.cached = self.cached.unwrap_or(switch.cached);
            }
        }
        switches.imds = self.imds.unwrap_or(switches.imds);
        switches.arn = self.arn.unwrap_or(switches.arn);
        for (action, fault) in &self.api {
            match fault {
                Some(fault) => switches.api.insert(action.clone(), fault.clone()),
                None => switches.api.remove(action),
            };
        }
    }
}

/// Something that happened, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// 1, 2, 3, … without gaps.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A DNS question and its answer: addresses, or one word such as `NXDOMAIN`.
    Dns {
        from: SocketAddr,
        name: String,
        qtype: String,
        answer: Vec<String>,
    },
    /// A TCP connection that was accepted.
    Connect {
        service: Service,
        local: SocketAddr,
        peer: SocketAddr,
    },
    /// How its TLS handshake ended; `error` is absent when it went well.
    Tls {
        service: Service,
        local: SocketAddr,
        peer: SocketAddr,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sni: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// An HTTP request over TLS.
    Http {
        service: Service,
        local: SocketAddr,
        peer: SocketAddr,
        method: String,
        path: String,
        status: u16,
    },
    /// An ECS API call; `detail` holds the ARN or the error's type.
    Api {
        action: String,
        local: SocketAddr,
        peer: SocketAddr,
        status: u16,
        detail: String,
    },
    WsOpen {
        websocket: Websocket,
    },
    WsClose {
        websocket: Websocket,
        reason: String,
    },
    Imds {
        method: String,
        path: String,
        status: u16,
    },
    /// A request to the forward proxy.
    Proxy {
        peer: SocketAddr,
        target: String,
        status: u16,
    },
    /// A switch was thrown.
    Set {
        change: Change,
    },
}

/// An open websocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Websocket {
    pub id: u64,
    pub service: Service,
    /// The host the client asked for.
    pub host: String,
    /// The region's end.
    pub local: SocketAddr,
    /// The client's end.
    pub peer: SocketAddr,
    pub container_instance_arn: String,
    pub opened_ms: u64,
}

/// An open HTTPS connection that is not a websocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub service: Service,
    /// The region's end.
    pub local: SocketAddr,
    /// The client's end.
    pub peer: SocketAddr,
    pub opened_ms: u64,
}

/// A registered container instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub arn: String,
    pub cluster: String,
    pub agent_version: String,
    pub agent_connected: bool,
    pub status: String,
    /// How many times it has registered.
    pub registrations: u32,
}

/// What `GET /state` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub addresses: Addresses,
    pub switches: Switches,
    pub websockets: Vec<Websocket>,
    pub connections: Vec<Connection>,
    pub instances: Vec<Instance>,
    /// Number of the latest event.
    pub last_event: u64,
}

/// Where everything listens. Printed as one JSON line when the region is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    pub region: String,
    pub dns: SocketAddr,
    pub imds: SocketAddr,
    pub proxy: SocketAddr,
    pub https_port: u16,
    /// The lab's certificate authority, PEM.
    pub ca: PathBuf,
    /// Unix socket of the control API.
    pub control: PathBuf,
    pub vpc_cidrs: Vec<String>,
    pub public_cidr: String,
    pub elsewhere_cidr: String,
    pub services: BTreeMap<Service, ServiceAddresses>,
}

/// The addresses of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAddresses {
    pub host: String,
    pub public: IpAddr,
    pub endpoint: [IpAddr; 2],
    pub elsewhere: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbered: Option<(String, IpAddr)>,
}
