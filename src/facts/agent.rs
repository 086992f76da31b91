//! Facts about the agent itself: its container, its answers, its files.

use super::{Fact, setting::Env};
use semver::Version;
use serde::{Deserialize, Serialize};

/// What is known of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentFacts {
    pub presence: Fact<Presence>,
    /// `/v1/metadata` of the introspection server. It opens only after the agent has registered.
    pub introspection: Fact<Introspection>,
    /// `/v1/tasks` of the introspection server.
    pub tasks: Fact<Vec<Task>>,
    pub version: Fact<AgentVersion>,
    pub cache: Fact<AgentCache>,
    pub persistence: Fact<Persistence>,
    /// `/etc/ecs/ecs.config`: what the next supervised start will read.
    pub config_file: Fact<ConfigFile>,
    /// Traces of ecs-init: its cache, its unit files, its upstart job; empty where there is none.
    #[serde(default = "not_looked_for")]
    pub ecs_init: Fact<Vec<String>>,
}

/// In an observation that an older version made and left.
fn not_looked_for() -> Fact<Vec<String>> {
    Fact::unknown("traces of ecs-init", "the version that made this observation did not look for them", "")
}

/// Where the agent is, if it is anywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    Container(Box<AgentContainer>),
    /// Bottlerocket: the agent is a process of the host under `ecs.service`.
    HostProcess {
        pid: u32,
        exe: String,
    },
    /// The engine answered, and has no container of that name.
    Absent,
}

/// The agent's container as the engine describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentContainer {
    pub id: String,
    pub name: String,
    pub image: String,
    pub image_id: String,
    pub state: ContainerState,
    /// The container's first process as seen from the host (`docker-init`; the agent is its child).
    pub pid: Option<u32>,
    /// RFC 3339, as the engine gave it; compared, never parsed.
    pub started_at: String,
    pub host_network: bool,
    pub restart_policy: RestartPolicy,
    pub mounts: Vec<Mount>,
    /// Only the settings that say where the agent goes and what it keeps
    /// (`ECS_*`, `AWS_*`, proxies); anything that may hold a secret is left out.
    pub env: Env,
    /// The health check's word. Healthy does not mean connected.
    pub health: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited { code: i64 },
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    No,
    Always,
    UnlessStopped,
    OnFailure { max: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub source: String,
    pub destination: String,
    pub read_write: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introspection {
    pub cluster: String,
    /// `None` until the agent has registered.
    pub container_instance_arn: Option<String>,
    /// As the agent words it: `Amazon ECS Agent - v1.105.1 (*a8b3e7d3)`.
    pub version: String,
}

/// One task as introspection tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Task {
    pub arn: String,
    /// Absent on some versions.
    pub desired_status: Option<String>,
    pub known_status: String,
    /// Docker IDs of its containers.
    pub containers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentVersion {
    pub version: Version,
    pub source: VersionSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionSource {
    Introspection,
    /// `/agent -version` run inside the container.
    Exec,
}

/// `/var/cache/ecs`: what ecs-init will load at the next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCache {
    pub state: CacheState,
    /// Version in the name behind the `ecs-agent.tar` link, if it is a link to such a name.
    pub staged: Option<Version>,
    /// Whether `ecs-agent.tar` is there and not empty.
    pub tar_present: bool,
    /// Image file named by `desired-image`, which exit code 42 would load.
    pub desired_image: Option<String>,
}

/// The word in `/var/cache/ecs/state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheState {
    /// No cache directory: the agent is not ecs-init's.
    NoCache,
    /// Missing or empty, or `0`: the next start downloads the agent from S3.
    Uncached,
    /// `1`
    Cached,
    /// `2`: the next start loads another agent version.
    ReloadNeeded,
    Other(String),
}

/// Whether the agent's state outlives its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// `ECS_DATADIR`, or `/data` when only the mount says so.
    pub data_dir: Option<String>,
    /// The directory of the host behind it.
    pub host_dir: Option<String>,
    /// `ECS_CHECKPOINT` as the agent will read it: defaults to true only when `ECS_DATADIR` is set.
    pub checkpoint: bool,
    /// `agent.db` or `ecs_agent_data.json` found in the host directory, with its size in bytes.
    pub state_file: Option<(String, u64)>,
}

/// The settings of `ecs.config` that matter to a restart; `path` absent on the host gives an empty map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    pub path: String,
    pub present: bool,
    /// Same selection as [`AgentContainer::env`].
    pub env: Env,
}
