//! The permission to act: the one key that `act` takes.

use super::confirm::{Round, confirm};
use super::{Decision, History, Plan, Policy, Reason, decide};
use crate::assess::{Assessment, PathMap, Severity, assess};
use crate::config::Settings;
use crate::facts::Observation;
use jiff::{SignedDuration, Timestamp};

/// How old the last observation may be when acting, in seconds.
pub const FRESH_S: i64 = 60;

/// What is needed to ask for a permit.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The plan that was decided on first.
    pub plan: &'a Plan,
    /// Rounds of look-ups and probes since, oldest first.
    pub rounds: &'a [Round],
    /// A whole observation taken just before acting.
    pub fresh: &'a Observation,
    pub history: &'a History,
    pub settings: &'a Settings,
    pub policy: &'a Policy,
    pub now: Timestamp,
}

/// The permission to carry out one plan, once: it is neither made nor copied anywhere else.
#[derive(Debug, PartialEq)]
pub struct Permit {
    plan: Plan,
    repair: bool,
    before: Box<Observation>,
    issued_at: Timestamp,
}

impl Permit {
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether it mends a broken agent, rather than moves a working one.
    pub fn repair(&self) -> bool {
        self.repair
    }

    /// The host as it was when the permit was given: the "before" of the verification.
    pub fn before(&self) -> &Observation {
        &self.before
    }

    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// Whether it may still be used: within [`FRESH_S`] of the observation it rests on.
    pub fn valid_at(&self, now: Timestamp) -> bool {
        fresh(self.before.at, now)
    }
}

/// Gives the permit, or the decision that stands in its way.
///
/// Everything is judged anew from the fresh observation: the plan asked for only has to be the one that comes out.
pub fn permit(ask: &Ask<'_>) -> Result<Permit, Decision> {
    if !fresh(ask.fresh.at, ask.now) {
        return Err(Decision::Unknown {
            reasons: vec![Reason::new(
                "observation-not-fresh",
                format!("the last look at the host was at {:.0}, and it is {:.0}", ask.fresh.at, ask.now),
                "run this again; check this host's clock",
            )],
        });
    }
    let assessment = assess(ask.fresh, ask.settings);
    let decision = decide(&assessment, ask.fresh, ask.history, ask.policy, ask.now);
    let (plan, repair) = match &decision {
        Decision::Restart { plan } => (plan.clone(), false),
        Decision::Repair { plan } if ask.policy.allow_repair => (plan.clone(), true),
        _ => return Err(decision),
    };
    if plan.method != ask.plan.method {
        return Err(Decision::Spent { reasons: vec![changed()] });
    }
    // What runs may be in the middle of something, and its answer has to be known; what is dead is not.
    let hold: Vec<Reason> = assessment.with(Severity::Hold).map(Reason::from).collect();
    if !hold.is_empty() {
        return Err(Decision::Refuse { reasons: hold });
    }
    // Starting a dead or unsupervised agent is not a move: it rests on what `decide` asks for and on no more.
    if plan.method.moves() {
        settled_on(&plan, ask, &assessment)?;
    }
    Ok(Permit { plan, repair, before: Box::new(ask.fresh.clone()), issued_at: ask.now })
}

/// The endpoints are those of the plan, and have been for long enough.
fn settled_on(plan: &Plan, ask: &Ask<'_>, assessment: &Assessment) -> Result<(), Decision> {
    if plan.endpoints != ask.plan.endpoints {
        let text = "the endpoint addresses changed while they were being confirmed";
        let reason =
            Reason::new("endpoints-not-stable", text, "DNS is still changing: run this again in a few minutes");
        return Err(Decision::Waiting { reasons: vec![reason] });
    }
    let old = SignedDuration::from_secs(i64::try_from(ask.policy.restart.task_wait_s).unwrap_or(i64::MAX / 4) + 300);
    let stale = ask.rounds.last().is_some_and(|r| ask.now.duration_since(r.at) > old || r.at > ask.now);
    if stale {
        let text = "the look-ups that confirmed the endpoints are too old, or from the future";
        let reason = Reason::new("endpoints-not-confirmed", text, "run this again; check this host's clock");
        return Err(Decision::Waiting { reasons: vec![reason] });
    }
    let map = PathMap::new(&ask.fresh.instance, &ask.settings.network);
    confirm(ask.rounds, &plan.endpoints, assessment.targets.judged(), &map, ask.policy)
        .map_err(|reasons| Decision::Waiting { reasons })
}

fn fresh(at: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(at);
    !age.is_negative() && age <= SignedDuration::from_secs(FRESH_S)
}

fn changed() -> Reason {
    Reason::new(
        "host-changed",
        "the agent was stopped, started or replaced by someone else while this was getting ready",
        "run this again",
    )
}
