//! What a run tells while it goes on, and what it came to. Written by the worker, read by whoever follows it.

use crate::{
    decide::{Decision, Method},
    facts::Observation,
    verify::Outcome,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One line of `progress.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub at: Timestamp,
    #[serde(flatten)]
    pub event: Event,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The worker runs; `unit` is its transient unit, where systemd is there.
    Started { run_id: String, unit: Option<String> },
    /// An earlier run was interrupted; what is being done about it.
    Recovering { run_id: String, text: String },
    /// The host was looked at; the verdict in a word (`restart`, `waiting`, …).
    Observed { verdict: String },
    /// One of the agreeing look-ups was made; the next one follows in so many seconds.
    Confirming { sample: u32, of: u32, next_in_s: f64 },
    /// Tasks between states hold the restart up.
    WaitingForTasks { tasks: Vec<String>, left_s: u64 },
    /// From here on an interruption is recovered from.
    IntentWritten,
    /// The agent is being restarted or started.
    Acting { method: Method },
    /// The agent runs, is registered, and has its websockets.
    Back { after_s: f64 },
    /// It is not back; it is being started again.
    StartingAgain { attempt: u32, of: u32, why: String },
    /// The new connections must stand this long.
    Holding { seconds: u64 },
    /// The proof was made, or could not be made.
    Verified { ok: bool },
    /// The cluster's halt is being written, so that no other host follows.
    Halting { parameter: String },
    /// What became of that.
    Halted { halt: ClusterHalt },
}

/// What became of the halt of this host's cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ClusterHalt {
    /// Nothing was moved, or it is proved.
    #[default]
    NotNeeded,
    /// It stands: no host of the cluster is moved while it does.
    Written {
        parameter: String,
    },
    NotWritten {
        why: String,
    },
}

/// How long things were gone, in seconds, to within `resolution_s`. `None`: it could not be measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// The introspection server, which opens once the agent is registered.
    pub agent_s: Option<f64>,
    /// Until both websockets stood on endpoint addresses.
    pub websockets_s: Option<f64>,
    /// The credential rules; 0 when they were there at every look.
    pub credential_rules_s: Option<f64>,
    pub resolution_s: f64,
}

/// What a run came to: `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub run_id: String,
    /// The decision that ended the run, or that was carried out.
    pub decision: Decision,
    /// Whether the agent was touched.
    pub acted: bool,
    /// An earlier, interrupted run that this one finished.
    pub recovered: Option<String>,
    pub before: Option<Observation>,
    pub after: Option<Observation>,
    pub outcome: Option<Outcome>,
    pub outage: Option<Outage>,
    /// Results of an older version tell nothing of it.
    #[serde(default)]
    pub halt: ClusterHalt,
    /// What a person must look at now, loudest first.
    pub alarms: Vec<String>,
    pub exit_code: u8,
}
