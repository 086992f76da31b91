//! The states of the service as values, what can happen to it, and what it then does.
//!
//! A step gives leave to begin, no more: the run itself confirms, asks for its permit and counts itself before it touches
//! anything. What the states add is patience: agreement over time, splay, window, pause, veto.

use super::rollout::{Fate, Joined};
use crate::{
    assess::{Assessment, Finding, Severity},
    config::Opening,
    decide::{AgentRun, Agreement, Decision, EndpointSet},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the service knows and is about to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub phase: Phase,
    /// Another instance ID (a new host from the same image) starts afresh.
    pub instance_id: Option<String>,
    /// Looks in a row that found nothing new.
    pub same: u32,
    /// The verdict of the last look and its rules, to tell what is new.
    pub verdict: String,
    /// Sets for which the agent was restarted.
    pub tried: Vec<EndpointSet>,
    /// Sets on which an agent was proved to be, and that agent: another one may be moved there again.
    #[serde(default)]
    pub proved: Vec<(EndpointSet, AgentRun)>,
    /// Tries in a row that did not come about, and when the next may be made, in milliseconds since boot.
    pub failures: u32,
    pub not_before_ms: u64,
    /// Where the names led while the agent was on the endpoints, empty for elsewhere; `None` until it was seen so.
    pub led: Option<EndpointSet>,
    /// The execution of the cluster's runbook that was started, or joined.
    #[serde(default)]
    pub joined: Option<Joined>,
    /// What stands in the way of the rollout, as it was last said.
    #[serde(default)]
    pub rollout_trouble: String,
    /// Since when the agent has been seen without a connection that it needs, in milliseconds since boot.
    pub gap_since_ms: Option<u64>,
}

/// Where the control plane's names led at a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// All of them to endpoints only.
    Endpoints(EndpointSet),
    Elsewhere {
        why: String,
    },
    Unknown,
}

impl From<&Assessment> for Lead {
    fn from(assessment: &Assessment) -> Self {
        if !assessment.endpoint_set.0.is_empty() {
            return Lead::Endpoints(assessment.endpoint_set.clone());
        }
        let elsewhere = |f: &&Finding| f.severity == Severity::Waiting && f.rule == "name-not-endpoint";
        match assessment.findings.iter().find(elsewhere) {
            Some(finding) => Lead::Elsewhere { why: finding.text.clone() },
            None => Lead::Unknown,
        }
    }
}

/// Where it stands. Times are milliseconds since boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Not all three endpoints are there, or too little can be seen.
    #[default]
    Observing,
    /// They are there; looks that agree are being counted.
    Candidate {
        endpoints: EndpointSet,
        #[serde(flatten)]
        looks: Agreement,
    },
    /// Proved, and somebody else moves the agent: `on_ready` is `report`, or the cluster's runbook was started.
    Ready { endpoints: EndpointSet },
    /// Proved; about to act, and held by something.
    Waiting {
        endpoints: EndpointSet,
        since_ms: u64,
        splay_until_ms: u64,
        /// Whether the last look still said so.
        agrees: bool,
        hold: Hold,
    },
    /// A run is under way; `recovering` when it finishes an interrupted one.
    Acting { endpoints: EndpointSet, run: Option<String>, recovering: bool },
    /// The run has the agent back and proves that it moved.
    Verifying { endpoints: EndpointSet, run: Option<String>, recovering: bool },
    /// Every connection is on an endpoint.
    Settled,
    /// A restart is wanted and may not be made now.
    Blocked,
    /// The agent is down, or what was done could not be verified.
    Broken,
}

/// What holds a restart up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum Hold {
    Splay,
    /// The last try did not come about.
    BackOff,
    Paused,
    Window {
        opens: Option<Timestamp>,
    },
    /// Too little was seen at the last look, or the agent was disturbed since.
    Look,
    /// The hooks are being asked.
    Hooks,
    Veto {
        hook: String,
        said: String,
        again_ms: u64,
    },
    /// The cluster's runbook is being started.
    Rollout,
}

/// What is so right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since boot: no setting of the clock touches it.
    pub up_ms: u64,
    pub paused: bool,
    pub opening: Opening,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The host was looked at.
    Looked {
        decision: Decision,
        /// When it began, in milliseconds since boot: what it heard is no older.
        asked_ms: u64,
        /// The longest TTL of its answers, or what a cache says is left of it.
        ttl_s: Option<u32>,
        instance_id: Option<String>,
        /// The agent that was seen.
        agent: Option<AgentRun>,
        lead: Lead,
    },
    /// The names were looked up, and nothing had changed.
    Unchanged,
    /// Time went by.
    Tick,
    /// Something happened to the agent or the configuration: what was known may not hold any more.
    Disturbed,
    /// What the hooks said: `None` is "go", else which vetoed and what it said.
    Hooks(Option<(String, String)>),
    /// The run was handed off.
    Began {
        run: String,
    },
    /// The run has the agent back.
    Back,
    RunEnded(RunEnd),
    /// The run could not be begun, or was lost sight of. What it did is in the intent and the history.
    RunLost {
        why: String,
    },
    /// The runbook was started, or why not.
    Rollout(Result<String, String>),
    /// What became of the runbook's execution, or why that cannot be told.
    AskedAfter(Result<Fate, String>),
    /// An interrupted run was found, and nobody is at it.
    Interrupted {
        run: String,
    },
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    pub acted: bool,
    pub exit_code: u8,
    pub decision: Decision,
    /// The agent that was proved, if one was.
    pub agent: Option<AgentRun>,
    /// In a line: what was proved, or what went wrong.
    pub words: String,
}

/// What is to be done about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// For the time line and the journal, in order.
    pub notes: Vec<Note>,
    pub doing: Option<Doing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Hand off a restart.
    Restart,
    /// Hand off a run that finishes an interrupted one and does no more.
    TakeUp,
    AskHooks,
    /// Start the cluster's runbook, or join it.
    StartRollout,
    /// See what became of the execution that was joined.
    AskAfterRollout,
    /// Look at the host soon.
    Look,
}

/// One entry of the time line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub kind: Kind,
    pub text: String,
}

/// What an entry is about; stable across versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Started,
    Stopped,
    /// Not all endpoints are there yet.
    Observing,
    /// All three answer with endpoint addresses.
    EndpointsFound,
    /// They answer with other ones, or with none.
    EndpointsGone,
    Ready,
    /// The cluster's runbook was started or joined, or could not be.
    Rollout,
    /// What holds the restart up.
    Waiting,
    Vetoed,
    Acting,
    Moved,
    NotVerified,
    /// A run ended, or was lost, without touching the agent.
    NotActed,
    Settled,
    Blocked,
    Broken,
    Unknown,
    /// Somebody else did something to the agent.
    AgentEvent,
    Reloaded,
    /// The new configuration is wrong; the old one stays.
    ReloadRefused,
    /// The service's own files could not be read or written.
    Record,
}

impl Kind {
    /// As it is written in the journal's field `HOSTAGENT_KIND`.
    pub fn id(self) -> &'static str {
        match self {
            Kind::Started => "started",
            Kind::Stopped => "stopped",
            Kind::Observing => "observing",
            Kind::EndpointsFound => "endpoints_found",
            Kind::EndpointsGone => "endpoints_gone",
            Kind::Ready => "ready",
            Kind::Rollout => "rollout",
            Kind::Waiting => "waiting",
            Kind::Vetoed => "vetoed",
            Kind::Acting => "acting",
            Kind::Moved => "moved",
            Kind::NotVerified => "not_verified",
            Kind::NotActed => "not_acted",
            Kind::Settled => "settled",
            Kind::Blocked => "blocked",
            Kind::Broken => "broken",
            Kind::Unknown => "unknown",
            Kind::AgentEvent => "agent_event",
            Kind::Reloaded => "reloaded",
            Kind::ReloadRefused => "reload_refused",
            Kind::Record => "record",
        }
    }

    /// Whether a person should look.
    pub fn warns(self) -> bool {
        matches!(
            self,
            Kind::NotVerified | Kind::Blocked | Kind::Broken | Kind::NotActed | Kind::ReloadRefused | Kind::Record
        )
    }
}

impl Phase {
    /// The endpoints it is about.
    pub fn endpoints(&self) -> Option<&EndpointSet> {
        match self {
            Phase::Candidate { endpoints, .. }
            | Phase::Ready { endpoints }
            | Phase::Waiting { endpoints, .. }
            | Phase::Acting { endpoints, .. }
            | Phase::Verifying { endpoints, .. } => Some(endpoints),
            _ => None,
        }
    }

    /// Whether a run is under way.
    pub fn at_work(&self) -> bool {
        matches!(self, Phase::Acting { .. } | Phase::Verifying { .. })
    }

    /// Whether the run under way finishes an interrupted one.
    pub(super) fn recovers(&self) -> bool {
        matches!(self, Phase::Acting { recovering: true, .. } | Phase::Verifying { recovering: true, .. })
    }
}

impl State {
    /// The state as a service finds it that was started again. After another boot the marks mean nothing.
    pub fn resumed(mut self, same_boot: bool) -> Self {
        if !same_boot {
            (self.failures, self.not_before_ms, self.same, self.gap_since_ms) = (0, 0, 0, None);
            if self.phase.at_work() {
                self.untry();
            }
            // The agent was started anew: where its connections were, and what was said of that, was the one before it.
            (self.phase, self.led, self.verdict) = (Phase::Observing, None, String::new());
            self.rollout_trouble.clear();
            if let Some(joined) = &mut self.joined {
                joined.ask_ms = 0;
            }
            return self;
        }
        match &mut self.phase {
            Phase::Waiting { agrees, hold, .. } => (*agrees, *hold) = (false, Hold::Splay),
            Phase::Acting { run: None, .. } | Phase::Verifying { run: None, .. } => {
                self.untry();
                self.phase = Phase::Observing;
            }
            _ => {}
        }
        self
    }

    /// Until when [`step`] wants to be called again with [`Input::Tick`]; `None` when only a look or an event can help.
    pub fn tick_in(&self, now_ms: u64) -> Option<Duration> {
        let Phase::Waiting { splay_until_ms, hold, .. } = &self.phase else { return None };
        let until = |at: u64| Some(Duration::from_millis(at.saturating_sub(now_ms)));
        match hold {
            Hold::Splay => until(*splay_until_ms),
            Hold::BackOff => until(self.not_before_ms),
            Hold::Veto { again_ms, .. } => until(*again_ms),
            Hold::Paused => Some(Duration::from_secs(2)),
            // Not "until it opens": the clock may be set meanwhile.
            Hold::Window { .. } => Some(Duration::from_secs(20)),
            Hold::Look | Hold::Hooks | Hold::Rollout => None,
        }
    }
}
