//! From findings, history and policy to a decision, and from a decision to the permission to act.
//!
//! Pure: no clock, no I/O. Time is an input.

pub mod brake;
mod confirm;
mod history;
mod needs;
mod permit;
mod plan;
mod policy;
pub mod recover;

pub use confirm::{Agreement, Round, TTL_CAP_S, longest_s, longest_ttl_s, next_round, run_out_ms, samples};
pub use history::*;
pub use needs::{about_the_agent, answer};
pub use permit::{Ask, FRESH_S, Permit, permit};
pub use plan::*;
pub use policy::{Policy, spent_today};

use crate::assess::{Assessment, Condition, Finding, Need, Ownership, Severity};
use crate::facts::{Observation, Presence};
use jiff::Timestamp;

/// Exit codes, as the manual lists them.
pub mod exit {
    /// Settled, done, or nothing to do.
    pub const SETTLED: u8 = 0;
    /// Could not tell.
    pub const UNKNOWN: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    pub const RESTART_NEEDED: u8 = 10;
    pub const WAITING: u8 = 11;
    pub const REFUSED: u8 = 12;
    /// The agent is broken, or what was done could not be verified.
    pub const BROKEN: u8 = 13;
    /// Another restart is under way, or the budget is spent.
    pub const BUSY: u8 = 75;
    /// `watch` alone: the configuration is wrong (`EX_CONFIG`), which another start does not mend.
    pub const CONFIGURATION: u8 = 78;
    /// Every code that is an answer, and no failure of the program.
    pub const ANSWERS: [u8; 7] = [SETTLED, UNKNOWN, RESTART_NEEDED, WAITING, REFUSED, BROKEN, BUSY];
}

/// The rule of a restart that is turned away because another is under way.
pub const RULE_UNDER_WAY: &str = "restart-under-way";

impl Decision {
    /// The exit code of a run that ends with this decision and did nothing more.
    pub fn exit_code(&self) -> u8 {
        match self {
            Decision::Settled => exit::SETTLED,
            Decision::Restart { .. } => exit::RESTART_NEEDED,
            Decision::Waiting { .. } => exit::WAITING,
            Decision::Refuse { .. } => exit::REFUSED,
            Decision::Repair { .. } | Decision::Broken { .. } => exit::BROKEN,
            Decision::Spent { .. } => exit::BUSY,
            Decision::Unknown { .. } => exit::UNKNOWN,
        }
    }

    /// The verdict in a word, as in JSON; stable across versions.
    pub fn word(&self) -> &'static str {
        match self {
            Decision::Settled => "settled",
            Decision::Waiting { .. } => "waiting",
            Decision::Restart { .. } => "restart",
            Decision::Repair { .. } => "repair",
            Decision::Refuse { .. } => "refuse",
            Decision::Spent { .. } => "spent",
            Decision::Broken { .. } => "broken",
            Decision::Unknown { .. } => "unknown",
        }
    }

    /// The plan, if there is something to do.
    pub fn plan(&self) -> Option<&Plan> {
        match self {
            Decision::Restart { plan } | Decision::Repair { plan } => Some(plan),
            _ => None,
        }
    }

    /// Why nothing is to be done; empty when there is, or nothing needs to.
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Decision::Waiting { reasons }
            | Decision::Refuse { reasons }
            | Decision::Spent { reasons }
            | Decision::Broken { reasons }
            | Decision::Unknown { reasons } => reasons,
            Decision::Settled | Decision::Restart { .. } | Decision::Repair { .. } => &[],
        }
    }
}

impl From<&Finding> for Reason {
    fn from(finding: &Finding) -> Self {
        Reason::new(finding.rule.clone(), finding.text.clone(), finding.remedy.clone())
    }
}

/// What to do about this host, by everything seen.
///
/// Tasks between states do not change the decision: a restart is still needed, and [`permit`] makes it wait.
pub fn decide(
    assessment: &Assessment,
    observation: &Observation,
    history: &History,
    policy: &Policy,
    now: Timestamp,
) -> Decision {
    let found = |severities: &[Severity]| reasons(assessment, severities);
    match &assessment.condition {
        Condition::Unknown => return Decision::Unknown { reasons: found(&[Severity::Blind]) },
        Condition::Absent | Condition::Stopped { .. } | Condition::StoppedUnclear { .. } => {
            return Decision::Refuse { reasons: found(&[Severity::Refuse]) };
        }
        Condition::Down { .. } => return Decision::Broken { reasons: found(&[Severity::Broken]) },
        Condition::Changing { .. } => return Decision::Spent { reasons: found(&[Severity::Hold]) },
        Condition::BrokenByDocker { unit, running, .. } => {
            return mend(assessment, history, policy, now, unit, *running);
        }
        Condition::Running => {}
    }

    let blind = found(&[Severity::Blind]);
    if !blind.is_empty() {
        return Decision::Unknown { reasons: blind };
    }
    if assessment.need == Need::Nothing || has(assessment, "not-registered") {
        let broken = found(&[Severity::Broken]);
        return if broken.is_empty() { Decision::Settled } else { Decision::Broken { reasons: broken } };
    }
    let decision = move_over(assessment, observation, history, policy, now);
    // An agent whose tasks cannot get credentials is broken today, whatever it waits for.
    match &decision {
        Decision::Waiting { reasons } | Decision::Spent { reasons } if has_severity(assessment, Severity::Broken) => {
            let broken = found(&[Severity::Broken]).into_iter().chain(reasons.iter().cloned());
            Decision::Broken { reasons: broken.collect() }
        }
        _ => decision,
    }
}

/// The agent runs, and not all of its control plane is on endpoints.
fn move_over(
    assessment: &Assessment,
    observation: &Observation,
    history: &History,
    policy: &Policy,
    now: Timestamp,
) -> Decision {
    let found = |severities: &[Severity]| reasons(assessment, severities);
    // A proxy is a setting: no endpoint will ever take the agent past it.
    if has(assessment, "proxied") {
        return Decision::Refuse { reasons: found(&[Severity::Refuse]) };
    }
    if has_severity(assessment, Severity::Waiting) {
        let mut reasons = found(&[Severity::Waiting, Severity::Missing]);
        let cut_off = matches!(assessment.need, Need::Disconnected { .. }) && has(assessment, "not-reached");
        if !cut_off {
            return Decision::Waiting { reasons };
        }
        // Already moved onto a path that does not carry: no new tasks, no credentials.
        reasons.splice(0..0, named(assessment, "not-connected"));
        return Decision::Broken { reasons };
    }
    let refuse = found(&[Severity::Refuse]);
    if !refuse.is_empty() {
        return Decision::Refuse { reasons: found(&[Severity::Refuse, Severity::Missing]) };
    }
    let missing = found(&[Severity::Missing]);
    if !missing.is_empty() {
        return Decision::Unknown { reasons: missing };
    }
    let Some(method) = method(assessment, observation, policy) else {
        return Decision::Unknown { reasons: vec![no_way()] };
    };
    if !assessment.ready {
        return Decision::Unknown { reasons: vec![not_ready()] };
    }

    let repair = matches!(assessment.need, Need::Disconnected { .. });
    let why = match &assessment.need {
        Need::Stale { connections } => connections.iter().map(|c| c.to_string()).collect(),
        _ => named(assessment, "not-connected").map(|r| r.text).collect(),
    };
    let endpoints = assessment.endpoint_set.clone();
    let spent = policy::spent(history, assessment.instance_id.as_deref(), policy, repair, &endpoints, now);
    let plan = Plan { method, why, endpoints, deadline_s: policy.restart.deadline_s };
    match (repair, spent.is_empty()) {
        (false, true) => Decision::Restart { plan },
        (false, false) => Decision::Spent { reasons: spent },
        (true, true) => Decision::Repair { plan },
        (true, false) => Decision::Broken { reasons: named(assessment, "not-connected").chain(spent).collect() },
    }
}

/// What a Docker restart left behind.
///
/// A dead agent is started whatever the endpoints do: an agent that reaches no control plane is no worse than none,
/// and it moves by itself once the path carries. One that runs unsupervised still has its connections, and
/// the unit's start replaces it: there the path must carry first, publicly or not, or the host would lose
/// what it has. Neither needs the version's floor: the damage that a bad version does at a restart is done.
/// State that would be lost, a cluster that changed and missing facts stop a repair as they stop a restart; an empty
/// cache does not, because the download comes before anything is stopped.
fn mend(
    assessment: &Assessment,
    history: &History,
    policy: &Policy,
    now: Timestamp,
    unit: &str,
    running: bool,
) -> Decision {
    let allowed = ["version-too-old", "version-known-bad", "cache-empty", "proxied"];
    let not_needed = ["version-unknown", "targets-unknown"];
    let network = |f: &Finding| f.service.is_some();
    let mut blockers: Vec<Reason> = assessment
        .findings
        .iter()
        .filter(|f| match f.severity {
            Severity::Refuse => !allowed.contains(&f.rule.as_str()),
            Severity::Missing => !network(f) && !not_needed.contains(&f.rule.as_str()),
            Severity::Blind => true,
            _ => false,
        })
        .map(Reason::from)
        .collect();
    if running {
        let path = |f: &&Finding| network(f) && (f.rule == "not-reached" || f.severity == Severity::Missing);
        blockers.extend(assessment.findings.iter().filter(path).filter(|f| control_plane(f)).map(Reason::from));
        blockers.extend(unreached(assessment));
    }
    let endpoints = if assessment.ready { assessment.endpoint_set.clone() } else { EndpointSet::default() };
    blockers.extend(policy::spent(history, assessment.instance_id.as_deref(), policy, true, &endpoints, now));
    let why: Vec<Reason> = reasons(assessment, &[Severity::Broken]);
    if !blockers.is_empty() {
        return Decision::Broken { reasons: why.into_iter().chain(blockers).collect() };
    }
    let method = Method::StartUnit { unit: unit.into() };
    let why = why.into_iter().map(|r| r.text).collect();
    Decision::Repair { plan: Plan { method, why, endpoints, deadline_s: policy.restart.deadline_s } }
}

/// Control-plane names of which not every address is known to answer, and that no finding names yet.
fn unreached(assessment: &Assessment) -> impl Iterator<Item = Reason> {
    crate::catalog::CONTROL_PLANE.into_iter().filter_map(|service| {
        let report = assessment.service(service);
        let carries = report.is_some_and(|r| {
            !r.addresses.is_empty() && r.addresses.iter().all(|a| a.reach.as_ref().is_some_and(|o| o.reached()))
        });
        let said = assessment.findings.iter().any(|f| f.service == Some(service) && f.rule == "not-reached");
        let host = report.map_or(service.id(), |r| r.host.as_str());
        let text = format!("{host} is not known to answer, and a fresh agent would depend on it");
        (!carries && !said).then(|| Reason::new("path-unproved", text, report.map_or("", |r| r.remedy.as_str())))
    })
}

fn control_plane(finding: &Finding) -> bool {
    finding.service.is_some_and(|s| s.is_control_plane())
}

/// The only right way to restart the agent here.
fn method(assessment: &Assessment, observation: &Observation, policy: &Policy) -> Option<Method> {
    match &assessment.ownership {
        Ownership::EcsInit { unit } | Ownership::HostProcess { unit } => {
            Some(Method::RestartUnit { unit: unit.clone() })
        }
        Ownership::BareDocker => match observation.agent.presence.known() {
            Some(Presence::Container(c)) => Some(Method::DockerRestart {
                container_id: c.id.clone(),
                stop_timeout_s: policy.restart.docker_stop_timeout_s,
            }),
            _ => None,
        },
        _ => None,
    }
}

fn no_way() -> Reason {
    Reason::new("ownership-unknown", "it is not known how the agent is restarted here", "")
}

fn not_ready() -> Reason {
    Reason::new("not-ready", "not every address of ecs, ecs-agent and ecs-telemetry is known to answer", "")
}

fn has(assessment: &Assessment, rule: &str) -> bool {
    assessment.findings.iter().any(|f| f.rule == rule)
}

fn has_severity(assessment: &Assessment, severity: Severity) -> bool {
    assessment.with(severity).next().is_some()
}

fn named<'a>(assessment: &'a Assessment, rule: &'a str) -> impl Iterator<Item = Reason> + 'a {
    assessment.findings.iter().filter(move |f| f.rule == rule).map(Reason::from)
}

/// The findings of these severities as reasons, in the order of the severities.
fn reasons(assessment: &Assessment, severities: &[Severity]) -> Vec<Reason> {
    severities.iter().flat_map(|s| assessment.with(*s)).map(Reason::from).collect()
}
