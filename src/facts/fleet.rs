//! Facts about a fleet, as SSM and ECS tell them.

use super::Missing;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Why a question to AWS has no useful answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum AwsTrouble {
    /// AWS said no: there is no permission, or it does not take what was asked. Asking again changes nothing.
    #[error("{0}")]
    Refused(Missing),
    /// No answer, too many questions, no valid credentials: another time it may be answered.
    #[error("{0}")]
    NoAnswer(Missing),
}

impl From<AwsTrouble> for Missing {
    fn from(trouble: AwsTrouble) -> Self {
        match trouble {
            AwsTrouble::Refused(missing) | AwsTrouble::NoAnswer(missing) => missing,
        }
    }
}

/// Which hosts are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// Every container instance of an ECS cluster, by the cluster's name.
    Cluster(String),
    /// Every managed node with this tag.
    Tag { key: String, value: String },
    /// These managed nodes, 1 to 50.
    Instances(Vec<String>),
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Targets::Cluster(name) => write!(f, "cluster {name}"),
            Targets::Tag { key, value } => write!(f, "tag {key}={value}"),
            Targets::Instances(ids) if ids.len() == 1 => f.write_str(&ids[0]),
            Targets::Instances(ids) => write!(f, "{} instances", ids.len()),
        }
    }
}

/// A container instance, as ECS knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `i-…`, or `mi-…` for ECS Anywhere.
    pub instance_id: String,
    pub zone: Option<String>,
    pub arn: String,
    pub agent_connected: bool,
    /// The one that the instance came from; `None` where it came by itself.
    pub capacity_provider: Option<String>,
}

/// One host's part in a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    pub instance_id: String,
    pub state: InvocationState,
    /// What the document wrote, cut by SSM at 2,500 characters.
    pub output: String,
    pub began_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvocationState {
    /// Not delivered yet, or running.
    UnderWay,
    Success,
    /// The document ended with an error.
    Failed,
    /// The document ran too long and was killed, or the host went away meanwhile.
    TimedOut,
    /// The host was never reached: nothing ran there.
    NotReached,
    /// Cancelled, or not sent because of others' errors.
    NotSent,
}

impl InvocationState {
    /// Whether more may come.
    pub fn is_final(self) -> bool {
        self != InvocationState::UnderWay
    }
}

/// A command as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandState {
    pub id: String,
    pub document: String,
    pub comment: String,
    pub ended: bool,
    pub targets: u32,
    pub requested_at: Option<Timestamp>,
}

/// A run of a runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    pub id: String,
    pub status: ExecutionStatus,
    /// SSM's own word: `InProgress`, `TimedOut`, …
    pub word: String,
    pub began_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Who or what started it, as an ARN.
    pub by: String,
    pub step: String,
    pub failure: String,
    pub parameters: BTreeMap<String, Vec<String>>,
    pub outputs: BTreeMap<String, Vec<String>>,
    pub variables: BTreeMap<String, Vec<String>>,
}

impl Execution {
    /// The first value of a parameter; empty when it has none.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionStatus {
    UnderWay,
    /// At an approval.
    WaitsForApproval,
    Success,
    Failed,
    Stopped,
}

impl ExecutionStatus {
    pub fn is_final(self) -> bool {
        !matches!(self, ExecutionStatus::UnderWay | ExecutionStatus::WaitsForApproval)
    }
}

/// A document as it stands in an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDocument {
    /// Of the default version.
    pub content: String,
    pub version: String,
    pub latest: String,
    pub tags: BTreeMap<String, String>,
}
