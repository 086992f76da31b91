//! What was done before on this instance: the base of budget, cool-down and "once per set".

use super::EndpointSet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Restarts made on this instance, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Another instance ID (a new host from the same image) starts with a clean history.
    pub instance_id: String,
    pub restarts: Vec<RestartRecord>,
}

/// One restart, written before it is carried out and completed afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRecord {
    pub run_id: String,
    pub at: Timestamp,
    pub endpoints: EndpointSet,
    pub repair: bool,
    pub outcome: RecordedOutcome,
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
