//! The agent's connections: which service each belongs to, and which of them call for a restart.

use super::ownership::Condition;
use super::path::{Path, PathMap};
use super::services::ServiceReport;
use super::targets::{Target, Targets};
use crate::catalog::Service;
use crate::config::Settings;
use crate::facts::{AgentContainer, Observation, Presence, Setting, Socket};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// One connection from the agent to a service, or to something that may be one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Connection {
    pub socket: Socket,
    /// The service whose name leads to the peer's address now; `None` when none of the names looked up does, or when
    /// several do. The numbered public names (`ecs-a-3`) are of this kind.
    pub service: Option<Service>,
    pub path: Path,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Connection { socket, service, path } = self;
        write!(f, "{} -> {} ({path}", socket.local, socket.peer)?;
        match service {
            Some(service) => write!(f, ", {service})"),
            None => f.write_str(", none of the names looked up leads there now)"),
        }
    }
}

/// Whether the agent's connections call for a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "need", rename_all = "snake_case")]
pub enum Need {
    /// Both websockets are on endpoint addresses, and nothing of the control plane is elsewhere.
    Nothing,
    /// Control-plane connections that are not on endpoint addresses.
    Stale { connections: Vec<Connection> },
    /// None is stale, and these are missing. Brief gaps are normal.
    Disconnected { missing: Vec<Service> },
    /// The agent does not run, or its connections could not be seen.
    Unknown,
}

/// The agent's connections to its services, without those to this host and from its tasks.
pub fn connections(
    observation: &Observation,
    targets: &Targets,
    map: &PathMap<'_>,
    settings: &Settings,
) -> Vec<Connection> {
    let Some(sockets) = observation.sockets.known() else { return Vec::new() };
    let attribution = attribution(observation);
    let all: Vec<&Target> = targets.running.iter().chain(&targets.next).flatten().collect();
    let mut ports: Vec<u16> = all.iter().map(|t| t.port).collect();
    ports.push(settings.network.https_port);
    let served = [settings.agent.credentials_port, introspection_port(&settings.agent.introspection)];

    let mut found: Vec<Connection> = sockets
        .iter()
        // A connection made to one of the agent's own servers: a task asking for credentials, introspection.
        .filter(|s| !served.contains(&s.local.port()))
        .filter_map(|socket| {
            let ip = socket.peer.ip().to_canonical();
            let service = attribution.get(&ip).copied().flatten();
            let path = match map.path(ip) {
                _ if service.is_none() && to_proxy(&all, socket) => Path::Proxy,
                path if ports.contains(&socket.peer.port()) => path,
                _ => return None,
            };
            let at_home = path != Path::Endpoint && path != Path::Public && on_this_host(ip) && service.is_none();
            (!at_home || path == Path::Proxy).then(|| Connection { socket: socket.clone(), service, path })
        })
        .collect();
    found.sort();
    found
}

/// Which service each address belongs to by the names looked up; `None` for an address that several share.
fn attribution(observation: &Observation) -> BTreeMap<IpAddr, Option<Service>> {
    let mut map: BTreeMap<IpAddr, Option<Service>> = BTreeMap::new();
    for name in &observation.names {
        for ip in name.answer.ips() {
            map.entry(ip.to_canonical())
                .and_modify(|s| *s = s.filter(|s| *s == name.service))
                .or_insert(Some(name.service));
        }
    }
    map
}

/// A proxy named by address is known by it; one named by host only by its port.
fn to_proxy(targets: &[&Target], socket: &Socket) -> bool {
    targets.iter().filter_map(|t| t.proxy.as_ref()).any(|proxy| {
        let literal = proxy.host.parse::<IpAddr>().ok();
        proxy.port == socket.peer.port() && literal.is_none_or(|ip| ip == socket.peer.ip().to_canonical())
    })
}

/// Loopback, and the metadata service: never a way out.
fn on_this_host(ip: IpAddr) -> bool {
    const IMDS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6 == IMDS_V6,
    }
}

/// The port in the base URL of the introspection server.
fn introspection_port(url: &str) -> u16 {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or(authority);
    authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(51678)
}

/// The websockets the agent keeps: ACS always, TCS unless its metrics and health reports are both off.
pub fn websockets(observation: &Observation) -> &'static [Service] {
    match observation.agent.presence.known() {
        Some(Presence::Container(container)) => websockets_of(Some(container)),
        _ => websockets_of(None),
    }
}

/// As [`websockets`], by the agent's container; `None` where it has none, or it is not known.
pub fn websockets_of(container: Option<&AgentContainer>) -> &'static [Service] {
    let Some(container) = container else { return &[Service::EcsAgent, Service::EcsTelemetry] };
    let off = |setting: Setting| setting.boolean(&container.env) == Some(true);
    if off(Setting::DisableMetrics) && off(Setting::DisableHealthCheck) {
        &[Service::EcsAgent]
    } else {
        &[Service::EcsAgent, Service::EcsTelemetry]
    }
}

/// What the connections call for.
pub fn need(
    observation: &Observation,
    condition: &Condition,
    connections: &[Connection],
    services: &[ServiceReport],
) -> Need {
    let up = matches!(condition, Condition::Running | Condition::BrokenByDocker { running: true, .. });
    if !up || observation.sockets.known().is_none() {
        return Need::Unknown;
    }
    let on_endpoint = |s: &Service| connections.iter().any(|c| c.service == Some(*s) && c.path == Path::Endpoint);
    let mut missing: Vec<Service> = websockets(observation).iter().copied().filter(|s| !on_endpoint(s)).collect();
    // A name that leads to no endpoint now says nothing of connections made while it did: those are told by their
    // path alone.
    let untold = |s: &Service| services.iter().all(|r| r.service != *s || r.path.endpoint().is_none());
    let nameless = connections.iter().filter(|c| c.service.is_none());
    let mut spare = nameless.clone().filter(|c| c.path == Path::Endpoint).count();
    if nameless.clone().all(|c| c.path == Path::Endpoint) {
        missing.retain(|s| {
            let taken = spare > 0 && untold(s);
            spare -= usize::from(taken);
            !taken
        });
    }
    let stale: Vec<Connection> = connections
        .iter()
        .filter(|c| match (c.path, c.service) {
            (Path::Endpoint, _) => false,
            // Image registries, S3 and the like are not what a restart is for.
            (_, Some(service)) => service.is_control_plane(),
            // With both websockets on endpoints, what is left cannot be one: an API connection that will close by
            // itself, or a service whose name was not looked up.
            (_, None) => !missing.is_empty(),
        })
        .cloned()
        .collect();
    match (stale.is_empty(), missing.is_empty()) {
        (false, _) => Need::Stale { connections: stale },
        (true, true) => Need::Nothing,
        (true, false) => Need::Disconnected { missing },
    }
}
