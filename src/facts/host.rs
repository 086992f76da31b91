//! Facts about the host: its init system, its place in the VPC, its other containers.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The init system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Systemd {
    /// `/run/systemd/system` is not there: nothing on this host is a unit.
    NotBooted,
    Booted {
        /// The agent's usual units that exist, and every service whose command names the agent.
        units: Vec<Unit>,
    },
}

/// One systemd service unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    /// `loaded`, `not-found`, `masked`, …
    pub load_state: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, …
    pub active_state: String,
    pub sub_state: String,
    /// Why it ended: `success`, `exit-code`, `signal`, …
    pub result: String,
    pub main_pid: u32,
    /// Exit code of the last main process; meaningful once it has ended.
    pub exec_main_status: i32,
    /// `ExecStart`, one command line each.
    pub exec_start: Vec<String>,
    pub fragment_path: String,
    /// `CLOCK_MONOTONIC` microseconds at which the unit was last started; 0 if never.
    pub inactive_exit_us: u64,
    /// Identifies this run of the unit: its invocation ID, before systemd 232 when it began. Empty when it never ran.
    pub invocation_id: String,
    /// A queued or running job, if there is one.
    pub job: Option<String>,
    /// How the unit relates to the agent.
    pub role: UnitRole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitRole {
    /// Has one of the agent's usual unit names, and its command is ecs-init's.
    EcsInit,
    /// Has one of the usual names, but its command is the agent binary itself (Bottlerocket).
    AgentProcess,
    /// Any other unit whose command names the agent's container or image.
    Foreign,
}

/// Where the host is, from the instance metadata service (IMDSv2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub instance_id: String,
    pub account: String,
    pub region: String,
    pub partition: String,
    /// `amazonaws.com`, `amazonaws.com.cn`, …
    pub dns_suffix: String,
    pub availability_zone: String,
    /// Every CIDR block of the VPCs of the host's interfaces, IPv4 and IPv6.
    pub vpc_cidrs: Vec<IpNet>,
}

/// A container that is not the agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Workload {
    pub id: String,
    pub name: String,
    pub pid: u32,
    pub started_at: String,
    pub running: bool,
    /// The exit code of one that has exited; `None` for any other, and in the words of an older version.
    #[serde(default)]
    pub exit_code: Option<i64>,
    /// How often its own restart policy has started it again since somebody last started it; `None` in the words of an
    /// older version.
    #[serde(default)]
    pub restart_count: Option<i64>,
}
