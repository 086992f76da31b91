//! What the operator allows: budget, cool-down, and how much proof a restart needs.

use super::{AgentRun, EndpointSet, History, Reason, RecordedOutcome, RestartRecord};
use crate::config::{ConfirmSettings, RestartSettings, Settings};
use jiff::{SignedDuration, Timestamp};

/// The rules of the operator for this run.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub restart: RestartSettings,
    pub confirm: ConfirmSettings,
    /// `--repair`: a broken agent may be mended.
    pub allow_repair: bool,
}

impl Policy {
    pub fn new(settings: &Settings, allow_repair: bool) -> Self {
        Self { restart: settings.restart.clone(), confirm: settings.confirm.clone(), allow_repair }
    }
}

const DAY_S: i64 = 86_400;

/// The restarts that count for this instance: those proved not to have happened do not.
fn counted<'a>(history: &'a History, instance_id: Option<&str>) -> impl Iterator<Item = &'a RestartRecord> {
    history.of(instance_id).iter().filter(|r| r.outcome != RecordedOutcome::NotActed)
}

/// Whether `at` lies less than `seconds` before `now`. A record from the future (the clock was set back) does.
fn within(at: Timestamp, now: Timestamp, seconds: i64) -> bool {
    now.duration_since(at) < SignedDuration::from_secs(seconds)
}

/// Restarts of the last 24 hours that count against the budget.
pub fn spent_today(history: &History, instance_id: Option<&str>, now: Timestamp) -> usize {
    counted(history, instance_id).filter(|r| within(r.at, now, DAY_S)).count()
}

/// What is about to be done, as far as the history has a say in it.
#[derive(Debug, Clone, Copy)]
pub struct Intended<'a> {
    /// It starts an agent that is dead, and interrupts nothing.
    pub starts_dead: bool,
    pub endpoints: &'a EndpointSet,
    /// The agent as it runs now; `None` when that is not known.
    pub agent: Option<&'a AgentRun>,
}

/// Why no restart may be made now; empty when one may.
///
/// What interrupts an agent that lives, a repair included, is bound by the budget, by the cool-down after whatever was
/// done before, and by "once a set": for an agent that was proved to be on these endpoints, as long as it is the very
/// one that runs. When somebody else has restarted it since, and it is public again, it may be moved again. A start of
/// a dead agent is bound by the budget alone, so that it cannot become a loop: somebody asked, and there is nothing to
/// interrupt.
pub fn spent(
    history: &History,
    instance_id: Option<&str>,
    policy: &Policy,
    intended: Intended<'_>,
    now: Timestamp,
) -> Vec<Reason> {
    let Intended { starts_dead, endpoints, agent } = intended;
    let mut reasons = Vec::new();
    let records: Vec<&RestartRecord> = counted(history, instance_id).collect();

    let today: Vec<&&RestartRecord> = records.iter().filter(|r| within(r.at, now, DAY_S)).collect();
    let budget = policy.restart.budget_per_day;
    if today.len() >= usize::try_from(budget).unwrap_or(usize::MAX) {
        let last = today.iter().map(|r| r.at).max();
        let last = last.map_or_else(String::new, |at| format!(", the last at {at:.0}"));
        reasons.push(Reason::new(
            "budget-spent",
            format!("{} restarts in 24 hours, and {budget} are allowed{last}", today.len()),
            "find out why one was not enough; then wait, or raise restart.budget_per_day",
        ));
    }

    if starts_dead {
        return reasons;
    }
    let cool_down = i64::try_from(policy.restart.cool_down_s).unwrap_or(i64::MAX);
    let hot = records.iter().filter(|r| within(r.at, now, cool_down)).map(|r| r.at).max();
    if let Some(last) = hot {
        let until = last.checked_add(SignedDuration::from_secs(cool_down)).unwrap_or(Timestamp::MAX);
        reasons.push(Reason::new(
            "cool-down",
            format!("the last restart was at {last:.0}; the next may be made at {until:.0}"),
            if last > now { "that is in the future: check this host's clock" } else { "" },
        ));
    }

    let same = |r: &&&RestartRecord| !endpoints.0.is_empty() && r.endpoints == *endpoints && r.spends(agent);
    let tried = records.iter().rfind(same);
    if let Some(record) = tried {
        reasons.push(Reason::new(
            "set-already-tried",
            format!(
                "the agent was restarted at {:.0} for these very endpoint addresses ({}), and another restart would \
                 end the same",
                record.at,
                match record.outcome {
                    RecordedOutcome::Verified if record.agent.is_some() => "verified, and nobody restarted it since",
                    RecordedOutcome::Verified => "verified",
                    RecordedOutcome::NotVerified => "not verified",
                    _ => "its end is not known",
                }
            ),
            "look for what sends it out: ecs.config, /etc/hosts, the endpoint policy; docker logs --tail 100 ecs-agent",
        ));
    }
    reasons
}
