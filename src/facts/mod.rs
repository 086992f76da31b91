//! The data of one observation: types only, no I/O and no judgement.
//!
//! A fact that could not be had is [`Fact::Unknown`] with its reason. It is
//! never an empty list, a `false` or a "no": the rules treat the two apart.

mod agent;
mod fleet;
mod host;
mod network;
pub mod setting;

pub use agent::*;
pub use fleet::*;
pub use host::*;
pub use network::*;
pub use setting::Setting;

use serde::{Deserialize, Serialize};
use std::fmt;

/// Something looked at: either seen, or not seen and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact<T> {
    Known(T),
    Unknown(Missing),
}

/// Why a fact could not be had, in the words the operator will read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What was looked for, and where: `container ecs-agent (unix:///var/run/docker.sock)`.
    pub what: String,
    /// What happened instead: `permission denied`.
    pub why: String,
    /// What to do about it: `run as root, or join the docker group`.
    pub hint: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

impl Missing {
    pub fn new(what: impl Into<String>, why: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.to_string(), hint: hint.into() }
    }
}

impl<T> Fact<T> {
    /// The value, if it was seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Fact::Known(value) => Some(value),
            Fact::Unknown(_) => None,
        }
    }

    /// The reason, if it was not seen.
    pub fn missing(&self) -> Option<&Missing> {
        match self {
            Fact::Known(_) => None,
            Fact::Unknown(missing) => Some(missing),
        }
    }

    pub fn unknown(what: impl Into<String>, why: impl fmt::Display, hint: impl Into<String>) -> Self {
        Fact::Unknown(Missing::new(what, why, hint))
    }

    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Fact::Known(value) => Fact::Known(f(value)),
            Fact::Unknown(missing) => Fact::Unknown(missing),
        }
    }
}

impl<T> From<Result<T, Missing>> for Fact<T> {
    fn from(result: Result<T, Missing>) -> Self {
        match result {
            Ok(value) => Fact::Known(value),
            Err(missing) => Fact::Unknown(missing),
        }
    }
}

/// Everything seen in one look at the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When the look began.
    pub at: jiff::Timestamp,
    pub agent: AgentFacts,
    pub systemd: Fact<Systemd>,
    pub instance: Fact<Instance>,
    /// One entry for each endpoint name asked for. See [`NameFact`].
    pub names: Vec<NameFact>,
    /// One entry for each (name, address) probed. See [`ReachFact`].
    pub reach: Vec<ReachFact>,
    /// The agent's established TCP connections.
    pub sockets: Fact<Vec<Socket>>,
    pub credentials: Fact<Credentials>,
    /// Which names the control plane hands out now; `None` when it was not asked.
    pub discovery: Option<Fact<Discovery>>,
    /// Every container but the agent, for the proof that none was touched.
    pub workloads: Fact<Vec<Workload>>,
    /// How long each probe took, in milliseconds, for `--format json` and the bench.
    pub took_ms: Vec<Took>,
}

/// How long one probe took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Took {
    pub probe: String,
    pub ms: f64,
}
