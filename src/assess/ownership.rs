//! Who owns the agent, and in what condition it is.
//!
//! A Docker restart of a container that ecs-init owns leaves the unit dead and the container stopped; so does an
//! operator's `systemctl stop`. The two must be told apart, because one is to be mended and the other left alone:
//!
//! | left behind | Docker restart | `systemctl stop` |
//! |---|---|---|
//! | ecs-init's exit | 0: the agent ended with 0 | 0, or SIGTERM (15) if systemd was quicker |
//! | container | `Exited (143)`: ExecStop met an agent just started | `Exited (0)`: the agent saved and ended |
//!
//! So 143 with exit 0 is a Docker restart for certain: an operator's stop that killed an agent with 143 leaves
//! ecs-init in its retry loop, and systemd ends it with SIGTERM. `Exited (0)` with exit 0 may be either (an agent
//! that had its signal handler in place before ExecStop came also ends with 0), and is never acted upon.
//! A container that runs while its unit is dead is unsupervised whoever started it, and the unit's next start
//! replaces it.

use crate::facts::{
    AgentContainer, AgentFacts, ContainerState, Fact, Missing, Presence, RestartPolicy, Systemd, Unit, UnitRole,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who restarts the agent here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "owner", rename_all = "snake_case")]
pub enum Ownership {
    /// ecs-init under systemd: only the unit may be restarted.
    EcsInit {
        unit: String,
    },
    /// A container that no unit knows of and Docker itself starts again (its restart policy), on a host without a trace
    /// of ecs-init: only Docker may restart it.
    BareDocker,
    /// The agent is a process of the host under its unit (Bottlerocket).
    HostProcess {
        unit: String,
    },
    /// A unit that is not ecs-init's runs the agent.
    Foreign {
        unit: String,
    },
    /// Nothing here is an ECS agent.
    NoAgent,
    Unclear {
        why: String,
    },
    /// Engine or init system could not be asked.
    Unknown(Missing),
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ownership::EcsInit { unit } => write!(f, "ecs-init ({unit})"),
            Ownership::BareDocker => f.write_str("Docker alone"),
            Ownership::HostProcess { unit } => write!(f, "a host process ({unit})"),
            Ownership::Foreign { unit } => write!(f, "{unit}, which is not ecs-init's"),
            Ownership::NoAgent => f.write_str("no agent here"),
            Ownership::Unclear { why } => write!(f, "unclear: {why}"),
            Ownership::Unknown(missing) => write!(f, "unknown: {missing}"),
        }
    }
}

/// In what condition the agent is, as its owner and its container tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Condition {
    /// Up, under its owner.
    Running,
    /// What a Docker restart leaves of an agent that ecs-init owns.
    BrokenByDocker {
        unit: String,
        /// Up without a supervisor, and without the rules by which tasks get their credentials.
        running: bool,
        what: String,
    },
    /// Stopped by a person: left alone.
    Stopped { what: String, remedy: String },
    /// Stopped by a person or by a Docker restart: cannot be told, so left alone.
    StoppedUnclear { what: String, remedy: String },
    /// Down in a way that a start may not mend.
    Down { what: String, remedy: String },
    /// On its way from one state to another right now.
    Changing { what: String },
    /// No agent here.
    Absent,
    /// Could not be seen.
    Unknown,
}

/// Who owns the agent.
pub fn ownership(agent: &AgentFacts, systemd: &Fact<Systemd>) -> Ownership {
    let presence = match &agent.presence {
        Fact::Known(presence) => presence,
        Fact::Unknown(missing) => return Ownership::Unknown(missing.clone()),
    };
    let units = match systemd {
        Fact::Known(Systemd::Booted { units }) => units.as_slice(),
        Fact::Known(Systemd::NotBooted) => &[],
        Fact::Unknown(missing) => return Ownership::Unknown(missing.clone()),
    };
    let there = |u: &&Unit| u.load_state != "not-found";
    let ours: Vec<&Unit> = units.iter().filter(there).filter(|u| u.role != UnitRole::Foreign).collect();
    let foreign: Vec<&Unit> = units.iter().filter(there).filter(|u| u.role == UnitRole::Foreign).collect();
    let unclear = |why: String| Ownership::Unclear { why };

    let Some(unit) = the_one(&ours) else {
        if let [one, two, ..] = ours.as_slice() {
            return unclear(format!("both {} and {} could run the agent", one.name, two.name));
        }
        // A unit may start the container and end (`docker run -d`), so one that is inactive owns it as well.
        return match (the_one(&foreign).or(foreign.first().copied()), presence) {
            (Some(unit), _) => Ownership::Foreign { unit: unit.name.clone() },
            (None, Presence::Container(container)) => bare_docker(container, &agent.ecs_init),
            (None, Presence::HostProcess { exe, pid }) => unclear(format!("process {pid} ({exe}) belongs to no unit")),
            (None, Presence::Absent) => Ownership::NoAgent,
        };
    };
    if unit.load_state != "loaded" {
        return unclear(format!("{} is {}", unit.name, unit.load_state));
    }
    if let Some(other) = foreign.iter().find(|u| live(u)) {
        return unclear(format!("{} is active beside {} and names the agent too", other.name, unit.name));
    }
    match (unit.role, presence) {
        (UnitRole::EcsInit, Presence::Absent) => Ownership::EcsInit { unit: unit.name.clone() },
        (UnitRole::EcsInit, Presence::Container(container)) => match doubt(unit, container, &foreign) {
            Some(why) => unclear(why),
            None => Ownership::EcsInit { unit: unit.name.clone() },
        },
        (_, Presence::Absent) => Ownership::HostProcess { unit: unit.name.clone() },
        (UnitRole::AgentProcess, Presence::HostProcess { pid, .. }) if unit.main_pid == *pid => {
            Ownership::HostProcess { unit: unit.name.clone() }
        }
        (_, Presence::HostProcess { pid, exe }) => {
            unclear(format!("process {pid} ({exe}) is not the main process of {}", unit.name))
        }
        (_, Presence::Container(container)) => unclear(format!(
            "{} runs the agent as a process of the host, and there is a container {} as well",
            unit.name, container.name
        )),
    }
}

/// A container that no unit names. Whether that makes it Docker's own takes more than seeing nobody else: through Docker,
/// an agent that ecs-init owns after all would end dead.
fn bare_docker(container: &AgentContainer, ecs_init: &Fact<Vec<String>>) -> Ownership {
    let name = &container.name;
    let traces = match ecs_init {
        Fact::Known(traces) => traces,
        Fact::Unknown(missing) => return Ownership::Unknown(missing.clone()),
    };
    if !traces.is_empty() {
        let why = format!("no unit runs container {name}, and ecs-init has been here ({})", traces.join(", "));
        return Ownership::Unclear { why };
    }
    if container.restart_policy == RestartPolicy::No {
        let why =
            format!("no unit runs container {name}, and its restart policy is no: who starts it is not to be seen");
        return Ownership::Unclear { why };
    }
    Ownership::BareDocker
}

/// Why a container beside a unit of ecs-init's may still not be ecs-init's.
fn doubt(unit: &Unit, container: &AgentContainer, foreign: &[&Unit]) -> Option<String> {
    let AgentContainer { name, restart_policy, state, .. } = container;
    if *restart_policy != RestartPolicy::No {
        return Some(format!(
            "container {name} has restart policy {}, which ecs-init never sets, while {} is loaded",
            policy_name(*restart_policy),
            unit.name
        ));
    }
    if *state != ContainerState::Running || live(unit) {
        return None;
    }
    if never_ran(unit) {
        return Some(format!("container {name} runs, and {} has not been started since boot", unit.name));
    }
    foreign.first().map(|f| format!("container {name} may have been started by {} or by {}", unit.name, f.name))
}

/// In what condition the agent is.
pub fn condition(agent: &AgentFacts, systemd: &Fact<Systemd>, ownership: &Ownership) -> Condition {
    let container = match agent.presence.known() {
        Some(Presence::Container(c)) => Some(c.as_ref()),
        _ => None,
    };
    let unit_of = |name: &str| match systemd.known() {
        Some(Systemd::Booted { units }) => units.iter().find(|u| u.name == name),
        _ => None,
    };
    match ownership {
        Ownership::Unknown(_) => Condition::Unknown,
        Ownership::NoAgent => Condition::Absent,
        Ownership::EcsInit { unit } | Ownership::HostProcess { unit } => match unit_of(unit) {
            Some(unit) => supervised(unit, agent.presence.known(), container),
            None => Condition::Unknown,
        },
        Ownership::BareDocker => container.map_or(Condition::Absent, bare),
        Ownership::Foreign { unit } => match agent.presence.known() {
            Some(Presence::Container(c)) if c.state != ContainerState::Running => Condition::Down {
                what: format!("container {} is {}", c.name, state_name(c.state)),
                remedy: format!("systemctl status {unit}"),
            },
            Some(Presence::Absent) | None => Condition::Down {
                what: format!("{unit} names the agent, and there is no agent"),
                remedy: format!("systemctl status {unit}"),
            },
            Some(_) => Condition::Running,
        },
        Ownership::Unclear { why } => match agent.presence.known() {
            Some(Presence::HostProcess { .. }) => Condition::Running,
            Some(Presence::Container(c)) if c.state == ContainerState::Running => Condition::Running,
            _ => Condition::StoppedUnclear {
                what: format!("the agent does not run, and {why}"),
                remedy: "systemctl status ecs; docker ps -a --filter name=ecs-agent".into(),
            },
        },
    }
}

fn supervised(unit: &Unit, presence: Option<&Presence>, container: Option<&AgentContainer>) -> Condition {
    let name = &unit.name;
    if let Some(job) = &unit.job {
        return Condition::Changing { what: format!("{name} has a job under way ({job})") };
    }
    let journal = format!("journalctl -u {name} -n 50 --no-pager");
    match unit.active_state.as_str() {
        "active" => under_active_unit(unit, presence, container),
        "activating" if unit.sub_state == "auto-restart" => Condition::Down {
            what: format!("{name} fails and is started again and again ({})", unit.result),
            remedy: journal,
        },
        "activating" | "deactivating" | "reloading" => {
            Condition::Changing { what: format!("{name} is {} ({})", unit.active_state, unit.sub_state) }
        }
        "failed" => failed(unit, container),
        "inactive" if unit.result != "success" => failed(unit, container),
        "inactive" => stopped(unit, container),
        other => Condition::Down { what: format!("{name} is {other}"), remedy: format!("systemctl status {name}") },
    }
}

fn under_active_unit(unit: &Unit, presence: Option<&Presence>, container: Option<&AgentContainer>) -> Condition {
    let name = &unit.name;
    if unit.role == UnitRole::AgentProcess && matches!(presence, Some(Presence::HostProcess { .. })) {
        return Condition::Running;
    }
    let Some(c) = container else {
        return Condition::Down {
            what: format!("{name} is active and there is no agent"),
            remedy: format!("journalctl -u {name} -n 50 --no-pager"),
        };
    };
    match c.state {
        ContainerState::Running => Condition::Running,
        ContainerState::Restarting | ContainerState::Removing => {
            Condition::Changing { what: format!("container {} is {}", c.name, state_name(c.state)) }
        }
        ContainerState::Paused => paused(c),
        state => Condition::Down {
            what: format!(
                "{name} is active and container {} is {}; ecs-init tries again by itself every 0.5-15 s",
                c.name,
                state_name(state)
            ),
            remedy: format!("docker logs --tail 50 {}; journalctl -u {name} -n 50 --no-pager", c.name),
        },
    }
}

/// The unit is inactive and its last run ended well.
fn stopped(unit: &Unit, container: Option<&AgentContainer>) -> Condition {
    let name = &unit.name;
    let start = format!("to start it: systemctl start {name}");
    if never_ran(unit) {
        return Condition::Stopped {
            what: format!("{name} has not been started since boot"),
            remedy: format!("{start}; to start it at every boot: systemctl enable --now {name}"),
        };
    }
    let Some(c) = container else {
        return Condition::Stopped {
            what: format!("{name} was stopped and container ecs-agent is gone: somebody's doing, left alone"),
            remedy: start,
        };
    };
    let SupervisorEnd { clean, by_systemd } = SupervisorEnd::of(unit);
    match c.state {
        ContainerState::Running => Condition::BrokenByDocker {
            unit: name.clone(),
            running: true,
            what: format!(
                "{} runs without its supervisor: {name} is inactive, so tasks cannot get their role's credentials",
                c.name
            ),
        },
        ContainerState::Exited { code: 143 } if clean => Condition::BrokenByDocker {
            unit: name.clone(),
            running: false,
            what: format!(
                "{name} is inactive and {} is Exited (143): what a Docker restart (or stop and start) leaves behind",
                c.name
            ),
        },
        ContainerState::Exited { code } if by_systemd => Condition::Stopped {
            what: format!("{name} was stopped with systemctl ({} is Exited ({code})): left alone", c.name),
            remedy: start,
        },
        ContainerState::Exited { .. } | ContainerState::Created => Condition::StoppedUnclear {
            what: format!(
                "{name} is inactive (exit status {}) and {} is {}: either somebody ran systemctl stop or docker stop, \
                 or a Docker restart broke it; the two look the same from here",
                unit.exec_main_status,
                c.name,
                state_name(c.state)
            ),
            remedy: format!("if nobody stopped it on purpose: systemctl start {name}"),
        },
        ContainerState::Paused => paused(c),
        ContainerState::Restarting | ContainerState::Removing => {
            Condition::Changing { what: format!("container {} is {}", c.name, state_name(c.state)) }
        }
        ContainerState::Dead => Condition::Down {
            what: format!("container {} is dead: Docker could not remove it", c.name),
            remedy: format!("docker rm -f {}; systemctl start {name}", c.name),
        },
    }
}

/// How ecs-init itself ended.
struct SupervisorEnd {
    /// By itself, with 0: the agent had ended with 0.
    clean: bool,
    /// By systemd's SIGTERM: only a stop job sends it.
    by_systemd: bool,
}

impl SupervisorEnd {
    fn of(unit: &Unit) -> Self {
        // systemd gives the signal's number; a wrapper shell would give 128 + 15.
        Self { clean: unit.exec_main_status == 0, by_systemd: matches!(unit.exec_main_status, 15 | 143) }
    }
}

fn failed(unit: &Unit, container: Option<&AgentContainer>) -> Condition {
    let Unit { name, result, exec_main_status, .. } = unit;
    let journal = format!("journalctl -u {name} -n 50 --no-pager");
    if let Some(c) = container.filter(|c| c.state == ContainerState::Running) {
        return Condition::Down {
            what: format!("{name} has failed ({result}, {exec_main_status}) and {} runs without it", c.name),
            remedy: format!("{journal}; then systemctl reset-failed {name} && systemctl restart {name}"),
        };
    }
    let terminal = if *exec_main_status == 5 {
        ": the agent refused to start (cluster or instance type changed, an attribute rejected, or its state is \
         unreadable)"
    } else {
        ""
    };
    Condition::Down {
        what: format!("{name} has failed ({result}, exit status {exec_main_status}){terminal}"),
        remedy: format!("{journal}; once mended: systemctl reset-failed {name} && systemctl start {name}"),
    }
}

fn bare(c: &AgentContainer) -> Condition {
    let logs = format!("docker logs --tail 50 {}", c.name);
    match c.state {
        ContainerState::Running => Condition::Running,
        ContainerState::Exited { code: 0 } => Condition::Stopped {
            what: format!("{} is Exited (0): it was stopped, and Docker does not start it again", c.name),
            remedy: format!("to start it: docker start {}", c.name),
        },
        ContainerState::Created => Condition::Stopped {
            what: format!("{} was created and never started", c.name),
            remedy: format!("to start it: docker start {}", c.name),
        },
        ContainerState::Paused => paused(c),
        ContainerState::Removing => Condition::Changing { what: format!("container {} is being removed", c.name) },
        state => Condition::Down {
            what: format!("container {} is {}", c.name, state_name(state)),
            remedy: format!("{logs}; then docker start {}", c.name),
        },
    }
}

fn paused(c: &AgentContainer) -> Condition {
    Condition::Down { what: format!("container {} is paused", c.name), remedy: format!("docker unpause {}", c.name) }
}

/// The only unit, or the only live one of several.
fn the_one<'a>(units: &[&'a Unit]) -> Option<&'a Unit> {
    if let [unit] = units {
        return Some(unit);
    }
    let mut lively = units.iter().filter(|u| live(u));
    match (lively.next(), lively.next()) {
        (Some(unit), None) => Some(unit),
        _ => None,
    }
}

fn live(unit: &Unit) -> bool {
    !matches!(unit.active_state.as_str(), "inactive" | "failed")
}

fn never_ran(unit: &Unit) -> bool {
    unit.invocation_id.is_empty() && unit.inactive_exit_us == 0
}

/// A container's state as `docker ps` words it.
pub fn state_name(state: ContainerState) -> String {
    match state {
        ContainerState::Exited { code } => format!("exited ({code})"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn policy_name(policy: RestartPolicy) -> String {
    match policy {
        RestartPolicy::No => "no".into(),
        RestartPolicy::Always => "always".into(),
        RestartPolicy::UnlessStopped => "unless-stopped".into(),
        RestartPolicy::OnFailure { max } => format!("on-failure:{max}"),
    }
}
