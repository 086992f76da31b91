//! What was done before on this instance: the base of budget, cool-down and "once per set".

use super::EndpointSet;
use crate::facts::{Observation, Presence};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Restarts made on this instance, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Another instance ID (a new host from the same image) starts with a clean history.
    pub instance_id: String,
    pub restarts: Vec<RestartRecord>,
}

impl History {
    /// The records of this instance: those of another (a host from the same image) are not its own. With the instance
    /// unknown, all are taken for it.
    pub fn of(&self, instance_id: Option<&str>) -> &[RestartRecord] {
        if instance_id.is_some_and(|id| id != self.instance_id) { &[] } else { &self.restarts }
    }
}

/// One restart, written before it is carried out and completed afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestartRecord {
    pub run_id: String,
    pub at: Timestamp,
    pub endpoints: EndpointSet,
    pub repair: bool,
    pub outcome: RecordedOutcome,
    /// The agent that was proved; `None` where none was, and in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentRun>,
    /// How long the agent was away, in seconds; `None` where that was not measured, or by an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_s: Option<f64>,
}

/// One run of the agent, told from every other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRun {
    pub container_id: String,
    /// As the engine gave it; compared, never parsed.
    pub started_at: String,
}

impl AgentRun {
    /// The agent that was seen; `None` when it has no container, or that could not be seen.
    pub fn of(observation: &Observation) -> Option<Self> {
        match observation.agent.presence.known()? {
            Presence::Container(c) => Some(Self { container_id: c.id.clone(), started_at: c.started_at.clone() }),
            Presence::HostProcess { .. } | Presence::Absent => None,
        }
    }
}

impl RestartRecord {
    /// Whether another restart of `now` for the same endpoints would be for nothing: it was restarted for them, and
    /// nothing says that somebody else has restarted it since.
    pub fn spends(&self, now: Option<&AgentRun>) -> bool {
        match (&self.agent, now) {
            (Some(proved), Some(now)) => self.outcome != RecordedOutcome::Verified || proved == now,
            _ => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedOutcome {
    /// Counted before acting; how it ended is not known yet.
    Begun,
    /// Interrupted before the agent was touched: proved, so it does not count.
    NotActed,
    Verified,
    NotVerified,
}

impl RecordedOutcome {
    pub const ALL: [Self; 4] = [Self::Begun, Self::NotActed, Self::Verified, Self::NotVerified];

    /// As metrics and inventory name it; stable across versions.
    pub fn word(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::NotActed => "not_acted",
            Self::Verified => "verified",
            Self::NotVerified => "not_verified",
        }
    }
}
