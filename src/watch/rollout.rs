//! `on_ready = "rollout"`: the cluster's runbook moves this host. Pure.
//!
//! The same gates stand before the start of the runbook as before a restart. Once it was started the host goes on
//! looking: when that execution has ended and the host is still public, the next one is started. Its token is made of the
//! one before, so that all hosts that were left over come to the same one again.

use super::{
    Policy,
    splay::part,
    state::{Doing, Effects, Hold, Kind, Moment, Phase, State},
    words,
};
use crate::{config::OnReady, decide::EndpointSet};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// From the start of an execution to the first question what became of it, and so to the next execution; twice as long
/// after each further one, up to [`ASK_MOST`]. A rollout of a large cluster takes hours, and who is left over by several is
/// not helped by many.
const ASK: Duration = Duration::from_secs(600);
const ASK_MOST: Duration = Duration::from_secs(6 * 3_600);
/// Hosts do not all ask at the same moment: each puts its question off by up to this part of the wait.
const JITTER: u32 = 8;
/// A fleet that becomes ready together does not call SSM all at once.
pub(super) const SPREAD: Duration = Duration::from_secs(60);

/// An execution of the runbook that this host's move is left to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    pub endpoints: EndpointSet,
    /// Its ID.
    pub execution: String,
    /// How many there were before it for the same endpoints, as far as this host knows.
    pub earlier: u32,
    /// When it is asked after, in milliseconds since boot.
    pub ask_ms: u64,
    pub fate: Fate,
}

/// What became of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    UnderWay,
    /// By itself, well or not.
    Ended,
    /// Somebody cancelled it, who did not want it to go on.
    Cancelled,
}

/// How long an execution is left alone.
fn alone(earlier: u32, instance_id: &str, execution: &str) -> Duration {
    let wait = ASK.saturating_mul(1 << earlier.min(16)).min(ASK_MOST);
    wait + part(&format!("{instance_id} asks after {execution}"), wait / JITTER)
}

impl State {
    /// The execution that was joined for these endpoints.
    pub fn joined_for(&self, endpoints: &EndpointSet) -> Option<&Joined> {
        self.joined.as_ref().filter(|joined| joined.endpoints == *endpoints)
    }

    /// Whether these endpoints want an execution that was not started yet.
    pub(super) fn wants_rollout(&self, endpoints: &EndpointSet) -> bool {
        self.joined_for(endpoints).is_none_or(|joined| joined.fate == Fate::Ended)
    }
}

/// A look found the host still public, though its move is left to the runbook.
pub(super) fn still_public(next: &mut State, effects: &mut Effects, moment: &Moment) {
    let Phase::Ready { endpoints } = &next.phase else { return };
    let endpoints = endpoints.clone();
    if next.wants_rollout(&endpoints) {
        to_gates(next, endpoints, moment, true);
        return;
    }
    let id = next.instance_id.clone().unwrap_or_default();
    if let Some(joined) = &mut next.joined
        && joined.fate == Fate::UnderWay
        && moment.up_ms >= joined.ask_ms
    {
        // Not twice at once; the answer sets it anew.
        joined.ask_ms = later(moment, alone(joined.earlier, &id, &joined.execution));
        effects.doing = Some(Doing::AskAfterRollout);
    }
}

/// Before the runbook stands what stands before a restart.
pub(super) fn to_gates(next: &mut State, endpoints: EndpointSet, moment: &Moment, agrees: bool) {
    next.phase =
        Phase::Waiting { endpoints, since_ms: moment.up_ms, splay_until_ms: moment.up_ms, agrees, hold: Hold::Splay };
}

/// What came of asking for the runbook.
pub(super) fn started(next: &mut State, effects: &mut Effects, answer: &Result<String, String>, moment: &Moment) {
    // Something else has happened meanwhile: the next "ready" asks again, and is told the same.
    let Phase::Waiting { endpoints, hold: Hold::Rollout, .. } = &next.phase else { return };
    let endpoints = endpoints.clone();
    match answer {
        Ok(execution) => {
            (next.failures, next.not_before_ms) = (0, 0);
            next.rollout_trouble.clear();
            let earlier = next.joined_for(&endpoints).map_or(0, |joined| joined.earlier.saturating_add(1));
            let id = next.instance_id.as_deref().unwrap_or_default();
            let ask_ms = later(moment, alone(earlier, id, execution));
            effects.note(Kind::Rollout, format!("the cluster's rollout moves this host: execution {execution}"));
            let execution = execution.clone();
            next.joined =
                Some(Joined { endpoints: endpoints.clone(), execution, earlier, ask_ms, fate: Fate::UnderWay });
            next.phase = Phase::Ready { endpoints };
        }
        Err(why) => {
            next.back_off(moment.up_ms);
            trouble(next, effects, format!("the cluster's rollout could not be started: {why}"));
            if let Phase::Waiting { hold, .. } = &mut next.phase {
                *hold = Hold::BackOff;
            }
        }
    }
}

/// What became of the execution.
pub(super) fn asked_after(next: &mut State, effects: &mut Effects, answer: &Result<Fate, String>, moment: &Moment) {
    let Some(joined) = &mut next.joined else { return };
    let execution = joined.execution.clone();
    match answer {
        // When it was asked it was put off already.
        Ok(Fate::UnderWay) => next.rollout_trouble.clear(),
        Ok(Fate::Ended) => {
            joined.fate = Fate::Ended;
            let endpoints = joined.endpoints.clone();
            next.rollout_trouble.clear();
            let text = format!("the rollout {execution} has ended, and this host is not moved: asking for the next");
            if matches!(&next.phase, Phase::Ready { endpoints: now } if *now == endpoints) {
                effects.note(Kind::Rollout, text);
                // It may have been moved since the last look.
                to_gates(next, endpoints, moment, false);
            }
        }
        Ok(Fate::Cancelled) => {
            joined.fate = Fate::Cancelled;
            let text = format!(
                "the rollout {execution} was cancelled: no other is started for these endpoints; hostagent fleet rollout \
                 starts one"
            );
            trouble(next, effects, text);
        }
        // What is not known to have ended goes on.
        Err(why) => trouble(next, effects, format!("the rollout {execution} cannot be asked after: {why}")),
    }
}

/// Said once, until it is something else.
fn trouble(next: &mut State, effects: &mut Effects, text: String) {
    if next.rollout_trouble != text {
        effects.note(Kind::Rollout, text.clone());
        next.rollout_trouble = text;
    }
}

/// The status line of a host whose move is the runbook's.
pub(super) fn words_of(state: &State, endpoints: &EndpointSet, policy: &Policy) -> String {
    let others = words::left_to_others(policy.on_ready);
    match state.joined_for(endpoints).filter(|_| policy.on_ready == OnReady::Rollout) {
        _ if !state.rollout_trouble.is_empty() && policy.on_ready == OnReady::Rollout => {
            format!("ready; {}", state.rollout_trouble)
        }
        Some(joined) => format!("{others}: execution {}", joined.execution),
        None => others,
    }
}

fn later(moment: &Moment, wait: Duration) -> u64 {
    moment.up_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_is_left_alone_for_ten_minutes_and_later_ones_for_longer_up_to_six_hours() {
        let minutes = |earlier| alone(earlier, "i-1", "an-execution").as_secs() / 60;
        assert!((10..12).contains(&minutes(0)) && (20..23).contains(&minutes(1)), "{} {}", minutes(0), minutes(1));
        for earlier in [6, 100, u32::MAX] {
            assert!((360..405).contains(&minutes(earlier)), "{}", minutes(earlier));
        }
        assert_ne!(alone(0, "i-1", "an-execution"), alone(0, "i-2", "an-execution"), "a fleet is spread");
    }
}
