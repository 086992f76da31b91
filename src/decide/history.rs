//! What was done before on this instance: the base of budget, cool-down and "once per set".

use super::EndpointSet;
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
    /// How long the agent was away, in seconds; `None` where that was not measured, or by an older version.
    #[serde(default)]
    pub outage_s: Option<f64>,
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
