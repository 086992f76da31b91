//! Settings: what the rest of the program reads, and where each value came from.
//!
//! drop-in files ([`files`](self::files)) → entries with file and line ([`fragment`]) → checked and
//! merged over the defaults, later file names winning key by key ([`load`]).

mod error;
mod files;
mod fragment;
mod keys;
mod load;
mod values;
mod window;

pub use error::{ConfigError, Place};
pub use files::SYSTEM_DIRS;
pub use load::{Loaded, Origin, Source, load};
pub use window::{Opening, Window, opening, opens_words};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};

/// Validated settings. Durations are whole seconds, named `_s`, unless they say milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub agent: AgentSettings,
    pub docker: DockerSettings,
    pub network: NetworkSettings,
    pub instance: InstanceSettings,
    pub confirm: ConfirmSettings,
    pub restart: RestartSettings,
    /// Requests of an older version, taken up after an upgrade, have none.
    #[serde(default)]
    pub watch: WatchSettings,
    #[serde(default)]
    pub fleet: FleetSettings,
    pub paths: PathSettings,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSettings {
    /// Name of the agent's container.
    pub container: String,
    /// Units under which the agent usually runs, looked at in this order.
    pub units: Vec<String>,
    /// Base URL of the introspection server.
    pub introspection: String,
    pub config_file: PathBuf,
    pub cache_dir: PathBuf,
    /// Port of the credential endpoint on the host.
    pub credentials_port: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DockerSettings {
    /// `unix:///path/of/socket`
    pub host: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkSettings {
    /// Blocks outside this VPC that hold endpoints (a central endpoint VPC).
    pub endpoint_cidrs: Vec<IpNet>,
    /// Blocks to call public although they are special-purpose addresses.
    pub public_cidrs: Vec<IpNet>,
    /// Name server to ask instead of the host's configuration.
    pub resolver: Option<SocketAddr>,
    pub resolv_conf: PathBuf,
    pub hosts_file: PathBuf,
    /// Port of the endpoints.
    pub https_port: u16,
    /// Deadline of one DNS look-up, in milliseconds.
    pub dns_timeout_ms: u64,
    /// Deadline of one TCP connection, one TLS handshake and one HTTP answer each, in milliseconds.
    pub probe_timeout_ms: u64,
    /// Ask the control plane with the instance role which names it hands out.
    pub discover: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSettings {
    /// Base URL of the metadata service.
    pub imds: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfirmSettings {
    /// Agreeing look-ups of the three names before a restart; at least 2.
    pub samples: u32,
    /// The samples span at least this long, and never less than one TTL.
    pub min_spread_s: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestartSettings {
    /// How long to wait for tasks between states.
    pub task_wait_s: u64,
    /// The agent must be back and registered within this time.
    pub deadline_s: u64,
    /// The new websockets must stand at least this long.
    pub hold_s: u64,
    /// Before the Docker engine kills an agent that does not stop by itself.
    pub docker_stop_timeout_s: u32,
    pub budget_per_day: u32,
    pub cool_down_s: u64,
}

/// What the service does once the endpoints are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReady {
    /// Moves this host's agent, after its splay.
    Restart,
    /// Says so and touches nothing.
    Report,
    /// Leaves the move to the cluster's runbook: says so and touches nothing by itself.
    Rollout,
}

/// Whether the brakes of the fleet have to be read before the agent is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Brake {
    /// A brake that cannot be read holds the host.
    Required,
    /// One that cannot be read is told and passed over; one that is set always holds.
    IfAvailable,
    Off,
}

/// Where the service writes custom inventory for the SSM agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Inventory {
    /// Where the SSM agent of this instance looks, if one lives here.
    Auto,
    Off,
    File(PathBuf),
}

impl From<Inventory> for String {
    fn from(inventory: Inventory) -> Self {
        match inventory {
            Inventory::Auto => "auto".into(),
            Inventory::Off => "off".into(),
            Inventory::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl From<String> for Inventory {
    fn from(text: String) -> Self {
        match text.as_str() {
            "auto" => Self::Auto,
            "off" => Self::Off,
            _ => Self::File(text.into()),
        }
    }
}

/// Requests of an older version, taken up after an upgrade, may lack the newest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchSettings {
    pub on_ready: OnReady,
    /// The longest time between "ready" and the restart; a host's own is drawn from its ID and the addresses.
    pub splay_max_s: u64,
    /// Between two looks when nothing is expected to change.
    pub settled_interval_s: u64,
    /// When a restart may be made; empty: at any time.
    pub window: Vec<Window>,
    /// Programs that may veto a restart.
    pub hooks_dir: PathBuf,
    /// While this file exists nothing is done.
    pub pause_file: PathBuf,
    /// Where metrics are written for node_exporter's textfile collector.
    pub metrics_file: Option<PathBuf>,
    pub inventory: Inventory,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            on_ready: OnReady::Restart,
            splay_max_s: 1_800,
            settled_interval_s: 360,
            window: Vec::new(),
            hooks_dir: "/etc/hostagent/hooks.d".into(),
            pause_file: "/run/hostagent/pause".into(),
            metrics_file: None,
            inventory: Inventory::Auto,
        }
    }
}

/// What this host has to do with the others of its cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetSettings {
    pub brake: Brake,
    /// Change Calendars of SSM, by name or ARN: all of them have to be open.
    pub calendars: Vec<String>,
    /// Whether the service tells SSM Compliance how the host stands.
    pub compliance: bool,
    /// ARN of the role that the runbook is started with; there is one when `on_ready` is `rollout`.
    pub rollout_role: Option<String>,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self { brake: Brake::IfAvailable, calendars: Vec::new(), compliance: false, rollout_role: None }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathSettings {
    /// History and intent; survives reboots.
    pub state_dir: PathBuf,
    /// Lock and progress; gone at reboot.
    pub runtime_dir: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent: AgentSettings {
                container: "ecs-agent".into(),
                units: vec!["ecs.service".into(), "amazon-ecs.service".into()],
                introspection: "http://127.0.0.1:51678".into(),
                config_file: "/etc/ecs/ecs.config".into(),
                cache_dir: "/var/cache/ecs".into(),
                credentials_port: 51679,
            },
            docker: DockerSettings { host: "unix:///var/run/docker.sock".into() },
            network: NetworkSettings {
                endpoint_cidrs: Vec::new(),
                public_cidrs: Vec::new(),
                resolver: None,
                resolv_conf: "/etc/resolv.conf".into(),
                hosts_file: "/etc/hosts".into(),
                https_port: 443,
                dns_timeout_ms: 3_000,
                probe_timeout_ms: 3_000,
                discover: false,
            },
            instance: InstanceSettings { imds: "http://169.254.169.254".into() },
            confirm: ConfirmSettings { samples: 3, min_spread_s: 5 },
            restart: RestartSettings {
                task_wait_s: 300,
                deadline_s: 120,
                hold_s: 10,
                docker_stop_timeout_s: 30,
                budget_per_day: 2,
                cool_down_s: 3_600,
            },
            watch: WatchSettings::default(),
            fleet: FleetSettings::default(),
            paths: PathSettings { state_dir: "/var/lib/hostagent".into(), runtime_dir: "/run/hostagent".into() },
        }
    }
}
