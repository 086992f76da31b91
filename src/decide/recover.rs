//! What became of a restart whose worker was killed: told from the intent on disk and from what is there now.
//!
//! The order on disk is: intent in phase [`Phase::Begun`], then [`Phase::Acting`] just before the one call that touches
//! the agent, then [`Phase::Acted`] once the call has returned. So `Begun` proves that nothing was touched, and
//! `Acting` leaves it open: the call may have been lost, or still be on its way.

use super::Method;
use crate::facts::{ContainerState, Fact, Missing, Observation, Presence, Systemd, Unit};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a call that was made may need until its effect shows, in seconds.
pub const SETTLE_S: i64 = 5;

/// A restart about to be made, written and synced before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The same as in the history's record.
    pub run_id: String,
    /// When the present phase began.
    pub at: Timestamp,
    pub phase: Phase,
    pub method: Method,
    /// The agent before anything was touched.
    pub before: Identity,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
}

/// How far a restart has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing has been touched.
    Begun,
    /// The call is about to be made, or has been made.
    Acting,
    /// The call has returned; what came of it is not verified yet.
    Acted,
}

/// What tells one run of the agent from another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `None` when the agent has no container.
    pub container: Option<SeenContainer>,
    /// Invocation ID of its unit; `None` when no unit owns it.
    pub invocation_id: Option<String>,
    /// `None` when the agent could not be asked.
    pub container_instance_arn: Option<String>,
}

/// The agent's container, as far as it tells one run from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenContainer {
    pub id: String,
    /// As the engine gave it; compared, never parsed.
    pub started_at: String,
    pub running: bool,
}

/// The agent's unit, as far as it tells one run from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenUnit {
    pub active_state: String,
    pub sub_state: String,
    pub job: Option<String>,
    pub invocation_id: String,
}

/// What is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub boot_id: Fact<String>,
    /// `Known(None)`: there is no container of that name.
    pub container: Fact<Option<SeenContainer>>,
    /// `Known(None)`: there is no such unit, or systemd is not running.
    pub unit: Fact<Option<SeenUnit>>,
}

impl From<&Unit> for SeenUnit {
    fn from(unit: &Unit) -> Self {
        Self {
            active_state: unit.active_state.clone(),
            sub_state: unit.sub_state.clone(),
            job: unit.job.clone(),
            invocation_id: unit.invocation_id.clone(),
        }
    }
}

impl Method {
    /// The unit it goes through, if it goes through one.
    pub fn unit(&self) -> Option<&str> {
        match self {
            Method::RestartUnit { unit } | Method::StartUnit { unit } => Some(unit),
            Method::DockerRestart { .. } => None,
        }
    }
}

impl Seen {
    /// What an observation shows of the agent that `method` is about.
    pub fn of(observation: &Observation, method: &Method, boot_id: Fact<String>) -> Self {
        let container = observation.agent.presence.clone().map(|presence| match presence {
            Presence::Container(c) => {
                let running = c.state == ContainerState::Running;
                Some(SeenContainer { id: c.id, started_at: c.started_at, running })
            }
            Presence::HostProcess { .. } | Presence::Absent => None,
        });
        let unit = observation.systemd.clone().map(|systemd| match systemd {
            Systemd::Booted { units } => {
                units.iter().find(|u| Some(u.name.as_str()) == method.unit()).map(SeenUnit::from)
            }
            Systemd::NotBooted => None,
        });
        Self { boot_id, container, unit }
    }
}

impl Identity {
    /// The identity to write into an intent for `method`; what is missing is named.
    pub fn of(observation: &Observation, method: &Method) -> Result<Self, Missing> {
        let seen = Seen::of(observation, method, Fact::Known(String::new()));
        let known = |missing: Option<&Missing>| missing.cloned().map_or(Ok(()), Err);
        known(seen.container.missing())?;
        if let Some(name) = method.unit() {
            known(seen.unit.missing())?;
            if seen.unit.known().is_some_and(Option::is_none) {
                return Err(Missing::new(name, "systemd does not know it", format!("systemctl status {name}")));
            }
        }
        Ok(Self {
            container: seen.container.known().cloned().flatten(),
            invocation_id: seen.unit.known().cloned().flatten().map(|u| u.invocation_id),
            container_instance_arn: observation
                .agent
                .introspection
                .known()
                .and_then(|i| i.container_instance_arn.clone()),
        })
    }
}

/// What the next run has to do about an intent it finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// The agent was not touched, for certain: strike the record, begin anew.
    NotActed,
    /// It is still under way: wait (bounded), look again; after that take what is down for [`Recovery::ActedDown`].
    InProgress,
    /// The agent was restarted and is up: verify it.
    ActedUp,
    /// The agent was touched and is down: start it, verify it. Long after that ([`Late::LongAgo`]) only if a repair was
    /// asked for.
    ActedDown,
    /// It cannot be told. Touch nothing, raise the alarm.
    Unclear { why: String },
}

/// A restart is over after this time, whoever was killed in the middle of it; in seconds.
pub const OLD_S: i64 = 3_600;

/// Why what is seen of the host now need not come from the restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// A boot stops and starts everything.
    Rebooted,
    /// Tasks came and went, and people were at work.
    LongAgo,
}

impl Late {
    pub fn words(self) -> &'static str {
        match self {
            Late::Rebooted => "the host was rebooted meanwhile",
            Late::LongAgo => "the restart was long ago",
        }
    }
}

/// Whether an intent is found too late to compare the host with what it was before.
pub fn late(intent: &Intent, boot_id: &Fact<String>, now: Timestamp) -> Option<Late> {
    if boot_id.known().is_some_and(|id| *id != intent.boot_id) {
        return Some(Late::Rebooted);
    }
    (now.duration_since(intent.at) > SignedDuration::from_secs(OLD_S)).then_some(Late::LongAgo)
}

/// Tells what became of `intent`.
pub fn recover(intent: &Intent, seen: &Seen, now: Timestamp) -> Recovery {
    if intent.phase == Phase::Begun {
        return Recovery::NotActed;
    }
    let unclear = |why: String| Recovery::Unclear { why };
    let boot_id = match &seen.boot_id {
        Fact::Known(id) => id,
        Fact::Unknown(missing) => return unclear(missing.to_string()),
    };
    let container = match &seen.container {
        Fact::Known(container) => container.as_ref(),
        Fact::Unknown(missing) => return unclear(missing.to_string()),
    };
    let rebooted = *boot_id != intent.boot_id;
    match &intent.method {
        Method::RestartUnit { unit } | Method::StartUnit { unit } => match &seen.unit {
            Fact::Unknown(missing) => unclear(missing.to_string()),
            Fact::Known(None) => unclear(format!("{unit} is gone")),
            Fact::Known(Some(now_unit)) => by_unit(intent, unit, now_unit, container, rebooted, now),
        },
        Method::DockerRestart { container_id, stop_timeout_s } => {
            by_docker(intent, container_id, i64::from(*stop_timeout_s), container, rebooted, now)
        }
    }
}

fn by_unit(
    intent: &Intent,
    name: &str,
    unit: &SeenUnit,
    container: Option<&SeenContainer>,
    rebooted: bool,
    now: Timestamp,
) -> Recovery {
    if unit.job.is_some() || (busy(&unit.active_state) && unit.sub_state != "auto-restart") {
        return Recovery::InProgress;
    }
    let active = unit.active_state == "active";
    // An agent that is a process of the host has no container to look at.
    let has_container = intent.before.container.is_some();
    let running = container.map_or(!has_container, |c| c.running);
    if rebooted {
        // The boot started the agent, or left a disabled unit alone; either way it was not us.
        return match (active, running) {
            (true, true) => Recovery::ActedUp,
            (true, false) => Recovery::InProgress,
            _ => Recovery::Unclear { why: format!("the host was rebooted, and {name} is {} since", unit.active_state) },
        };
    }
    let same_run = intent.before.invocation_id.as_deref() == Some(unit.invocation_id.as_str());
    if !same_run {
        return match (active, running) {
            (true, true) => Recovery::ActedUp,
            // ecs-init is up and its container is not there yet.
            (true, false) => Recovery::InProgress,
            _ => Recovery::ActedDown,
        };
    }
    let untouched = container == intent.before.container.as_ref();
    match intent.phase {
        Phase::Acted if untouched && active => {
            Recovery::Unclear { why: format!("the restart of {name} returned, and the agent is the same as before") }
        }
        Phase::Acted => Recovery::ActedDown,
        _ if within(intent.at, now, SETTLE_S) => Recovery::InProgress,
        // For a start, the unit was inactive before and is so still.
        _ if untouched && (active || matches!(intent.method, Method::StartUnit { .. })) => Recovery::NotActed,
        // ecs-init replaced its container by itself (the agent crashed): nothing of ours.
        _ if active => Recovery::NotActed,
        _ => Recovery::ActedDown,
    }
}

fn by_docker(
    intent: &Intent,
    id: &str,
    stop_timeout_s: i64,
    container: Option<&SeenContainer>,
    rebooted: bool,
    now: Timestamp,
) -> Recovery {
    let Some(container) = container else {
        return Recovery::Unclear { why: format!("container {id} was removed by someone") };
    };
    if container.id != id {
        return Recovery::Unclear { why: format!("container {id} was replaced by {}", container.id) };
    }
    let same_start = intent.before.container.as_ref().is_some_and(|b| b.started_at == container.started_at);
    match (container.running, same_start) {
        (true, false) => Recovery::ActedUp,
        // The engine may be waiting for the agent to stop, whoever asked it to and is gone.
        (true, true) if within(intent.at, now, stop_timeout_s + SETTLE_S) => Recovery::InProgress,
        (true, true) if intent.phase == Phase::Acted => {
            Recovery::Unclear { why: format!("the restart of {id} returned, and the agent is the same as before") }
        }
        (true, true) => Recovery::NotActed,
        (false, _) if rebooted => {
            Recovery::Unclear { why: format!("the host was rebooted, and container {id} does not run since") }
        }
        // A start of what runs already is harmless, so there is no need to wait for the engine here.
        (false, _) => Recovery::ActedDown,
    }
}

fn busy(active_state: &str) -> bool {
    matches!(active_state, "activating" | "deactivating" | "reloading")
}

fn within(at: Timestamp, now: Timestamp, seconds: i64) -> bool {
    let age = now.duration_since(at);
    // A clock that was set back must not make this wait for ever.
    !age.is_negative() && age < SignedDuration::from_secs(seconds)
}
