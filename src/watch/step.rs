//! From one state to the next: pure.

use super::{
    Policy,
    gates::{KEPT_SETS, gates, longest_splay},
    rollout, schedule, splay,
    state::{Doing, Effects, Hold, Input, Kind, Lead, Moment, Note, Phase, RunEnd, State},
    words::{self, span},
};
use crate::{
    config::OnReady,
    decide::{self, AgentRun, Agreement, Decision, EndpointSet, exit},
};
use std::time::Duration;

/// Until a hook that vetoed is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// After a try that did not come about; twice as long after each further one, up to [`RETRY_MOST`].
const RETRY: Duration = Duration::from_secs(60);
const RETRY_MOST: Duration = Duration::from_secs(3_600);
/// Brief gaps in the agent's connections are normal several times an hour: judged over minutes.
const GAP: Duration = Duration::from_secs(180);

/// The next state, and what is to be done. Pure.
pub fn step(state: &State, input: &Input, moment: &Moment, policy: &Policy) -> (State, Effects) {
    let (mut next, mut effects) = (state.clone(), Effects::default());
    let mut hooks_agree = false;
    match input {
        Input::Looked { decision, asked_ms, ttl_s, instance_id, agent, lead } => {
            if let Some(id) = instance_id {
                if next.instance_id.as_ref().is_some_and(|old| old != id) && !next.phase.at_work() {
                    next = State::default();
                }
                next.instance_id = Some(id.clone());
            }
            if !next.phase.at_work() {
                led(&mut next, &mut effects, decision, lead);
                let answers = Answers {
                    asked_ms: *asked_ms,
                    answered_ms: schedule::answered_ms(*asked_ms, moment.up_ms),
                    ttl_s: *ttl_s,
                    agent: agent.as_ref(),
                };
                looked(&mut next, &mut effects, decision, answers, moment, policy);
            }
        }
        Input::Unchanged => next.same = next.same.saturating_add(1),
        Input::Tick => {}
        Input::Disturbed => {
            next.same = 0;
            if let Phase::Waiting { agrees, .. } = &mut next.phase {
                *agrees = false;
            }
            effects.doing = (!next.phase.at_work()).then_some(Doing::Look);
        }
        Input::Hooks(answer) => {
            if let Phase::Waiting { hold: hold @ Hold::Hooks, .. } = &mut next.phase {
                match answer {
                    None => hooks_agree = true,
                    Some((hook, said)) => {
                        effects.note(Kind::Vetoed, format!("vetoed by {hook}: {said}"));
                        let again_ms = moment.up_ms.saturating_add(millis(ASK_AGAIN));
                        *hold = Hold::Veto { hook: hook.clone(), said: said.clone(), again_ms };
                    }
                }
            }
        }
        Input::Began { run: id } => {
            if let Phase::Acting { run, .. } = &mut next.phase {
                *run = Some(id.clone());
            }
        }
        Input::Back => {
            if let Phase::Acting { endpoints, run, recovering } = &next.phase {
                let (endpoints, run) = (endpoints.clone(), run.clone());
                next.phase = Phase::Verifying { endpoints, run, recovering: *recovering };
            }
        }
        Input::RunEnded(end) if next.phase.at_work() => ended(&mut next, &mut effects, end, moment),
        Input::RunEnded(_) => {}
        Input::RunLost { why } if next.phase.at_work() => {
            next.untry();
            next.back_off(moment.up_ms);
            effects.note(Kind::NotActed, format!("the run was lost: {why}"));
            (next.phase, next.verdict) = (Phase::Observing, String::new());
            effects.doing = Some(Doing::Look);
        }
        Input::RunLost { .. } => {}
        Input::Rollout(answer) => rollout::started(&mut next, &mut effects, answer, moment),
        Input::AskedAfter(answer) => rollout::asked_after(&mut next, &mut effects, answer, moment),
        Input::Interrupted { run } => {
            if !next.phase.at_work() && next.may_take_up(moment.up_ms) {
                effects.note(Kind::Acting, format!("run {run} was interrupted; finishing it"));
                next.phase = Phase::Acting { endpoints: EndpointSet::default(), run: None, recovering: true };
                effects.doing = Some(Doing::TakeUp);
            }
        }
    }
    gates(&mut next, &mut effects, hooks_agree, moment, policy);
    (next, effects)
}

/// What a look heard of the names, in milliseconds since boot and seconds, and the agent it saw.
#[derive(Clone, Copy)]
struct Answers<'a> {
    asked_ms: u64,
    answered_ms: u64,
    ttl_s: Option<u32>,
    agent: Option<&'a AgentRun>,
}

fn looked(
    next: &mut State,
    effects: &mut Effects,
    decision: &Decision,
    answers: Answers<'_>,
    moment: &Moment,
    policy: &Policy,
) {
    let was = next.phase.clone();
    let new = next.judge(decision);
    let gap = next.gap(decision, moment.up_ms);
    if let Decision::Restart { plan } = decision {
        return agreed(next, effects, &plan.endpoints, answers, moment, policy);
    }
    let phase = match decision {
        Decision::Settled => Phase::Settled,
        Decision::Refuse { .. } | Decision::Spent { .. } => Phase::Blocked,
        // One look that saw too little does not undo what was proved, and is no leave to act either.
        _ if (gap || matches!(decision, Decision::Unknown { .. }))
            && matches!(was, Phase::Waiting { .. } | Phase::Ready { .. }) =>
        {
            if let Phase::Waiting { agrees, .. } = &mut next.phase {
                *agrees = false;
            }
            if new {
                let kind = if gap { Kind::Observing } else { Kind::Unknown };
                effects.note(kind, words::looked(decision, gap));
            }
            return;
        }
        Decision::Broken { .. } | Decision::Repair { .. } if !gap || was == Phase::Broken => Phase::Broken,
        _ => Phase::Observing,
    };
    if was.endpoints().is_some() && matches!(decision, Decision::Waiting { .. }) {
        effects.note(Kind::EndpointsGone, format!("the endpoints went away: {}", words::why(decision)));
    } else if new || phase != was {
        let kind = match decision {
            Decision::Settled => Kind::Settled,
            Decision::Unknown { .. } => Kind::Unknown,
            _ => match phase {
                Phase::Blocked => Kind::Blocked,
                Phase::Broken => Kind::Broken,
                _ => Kind::Observing,
            },
        };
        effects.note(kind, words::looked(decision, gap && phase == Phase::Observing));
    }
    if next.phase != phase {
        next.same = 0;
    }
    next.phase = phase;
}

/// What became of the endpoints while the agent is on them. Nothing is restarted because of it: its connections stand,
/// and where they do not, it dials anew by itself.
fn led(next: &mut State, effects: &mut Effects, decision: &Decision, lead: &Lead) {
    if *decision != Decision::Settled && !words::only_a_gap(decision) {
        // What else there is to do says it.
        if !matches!(decision, Decision::Unknown { .. }) {
            next.led = None;
        }
        return;
    }
    let (kind, text, now) = match (&next.led, lead) {
        (_, Lead::Unknown) => return,
        (Some(was), Lead::Endpoints(now)) if was == now => return,
        (Some(was), Lead::Elsewhere { .. }) if was.0.is_empty() => return,
        (None, Lead::Endpoints(now)) => {
            next.led = Some(now.clone());
            return;
        }
        (_, Lead::Elsewhere { why }) => {
            let text = format!("the endpoints went away: {why}; the agent is left as it is");
            (Kind::EndpointsGone, text, EndpointSet::default())
        }
        (Some(was), Lead::Endpoints(now)) if was.0.is_empty() => {
            (Kind::EndpointsFound, format!("all three endpoints are there again: {}", words::set(now)), now.clone())
        }
        (Some(was), Lead::Endpoints(now)) => {
            let (was, is) = (words::set(was), words::set(now));
            let text = format!("the endpoint addresses changed, from {was} to {is}; the agent is left as it is");
            (Kind::EndpointsGone, text, now.clone())
        }
    };
    effects.note(kind, text);
    next.led = Some(now);
}

/// A look that calls for a restart for these endpoints.
fn agreed(
    next: &mut State,
    effects: &mut Effects,
    found: &EndpointSet,
    answers: Answers<'_>,
    moment: &Moment,
    policy: &Policy,
) {
    let Answers { asked_ms, answered_ms, ttl_s, agent } = answers;
    if next.was_moved(found, agent) {
        if next.phase != Phase::Blocked {
            effects.note(Kind::Blocked, words::TRIED);
            (next.phase, next.same) = (Phase::Blocked, 0);
        }
        return;
    }
    match &mut next.phase {
        Phase::Waiting { endpoints, agrees, .. } if endpoints == found => {
            *agrees = true;
            return;
        }
        Phase::Ready { endpoints } if endpoints == found => {
            match policy.on_ready {
                OnReady::Restart => ready(next, effects, found, moment, policy),
                OnReady::Rollout => rollout::still_public(next, effects, moment),
                OnReady::Report => {}
            }
            return;
        }
        Phase::Candidate { endpoints, looks } if endpoints == found => looks.add(asked_ms, answered_ms, ttl_s),
        other => {
            if other.endpoints().is_some() {
                effects.note(Kind::EndpointsGone, "the endpoint addresses changed; counting anew");
            }
            effects.note(Kind::EndpointsFound, format!("all three endpoints are there: {}", words::set(found)));
            let looks = Agreement::new(asked_ms, answered_ms, ttl_s);
            *other = Phase::Candidate { endpoints: found.clone(), looks };
            next.same = 0;
        }
    }
    if let Phase::Candidate { looks, .. } = &next.phase
        && looks.proved(policy.samples.max(2), policy.min_spread_s)
    {
        ready(next, effects, found, moment, policy);
    }
}

/// The endpoints are proved.
fn ready(next: &mut State, effects: &mut Effects, found: &EndpointSet, moment: &Moment, policy: &Policy) {
    next.same = 0;
    let others = match policy.on_ready {
        OnReady::Restart => false,
        OnReady::Report => true,
        OnReady::Rollout => !next.wants_rollout(found),
    };
    if others {
        effects.note(Kind::Ready, words::left_to_others(policy.on_ready));
        next.phase = Phase::Ready { endpoints: found.clone() };
        return;
    }
    let wait = splay::splay(next.instance_id.as_deref().unwrap_or_default(), found, longest_splay(policy));
    effects.note(
        Kind::Ready,
        match policy.on_ready {
            OnReady::Rollout => words::left_to_others(policy.on_ready),
            _ => format!("ready: the agent is restarted after a splay of {}", span(wait)),
        },
    );
    next.phase = Phase::Waiting {
        endpoints: found.clone(),
        since_ms: moment.up_ms,
        splay_until_ms: moment.up_ms.saturating_add(millis(wait)),
        agrees: true,
        hold: Hold::Splay,
    };
}

fn ended(next: &mut State, effects: &mut Effects, end: &RunEnd, moment: &Moment) {
    next.same = 0;
    next.verdict = verdict(&end.decision);
    if end.acted {
        match next.phase.recovers() {
            // Where it could not be written down that it is finished (a full disk), the next look finds it again.
            true => next.back_off(moment.up_ms),
            false => (next.failures, next.not_before_ms) = (0, 0),
        }
        let verified = end.exit_code == exit::SETTLED;
        if let (true, Some(agent), Some(endpoints)) = (verified, &end.agent, next.phase.endpoints().cloned())
            // One that finishes an interrupted run does not know what for.
            && !endpoints.0.is_empty()
        {
            next.untry();
            next.proved.retain(|(set, _)| *set != endpoints);
            next.proved.push((endpoints, agent.clone()));
            let old = next.proved.len().saturating_sub(KEPT_SETS);
            next.proved.drain(..old);
        }
        let (kind, phase) = if verified { (Kind::Moved, Phase::Settled) } else { (Kind::NotVerified, Phase::Broken) };
        effects.note(kind, end.words.clone());
        next.phase = phase;
    } else {
        next.untry();
        let settled = end.decision == Decision::Settled;
        if settled {
            (next.failures, next.not_before_ms) = (0, 0);
            effects.note(Kind::Settled, words::verdict(&end.decision));
        } else {
            next.back_off(moment.up_ms);
            effects.note(Kind::NotActed, format!("nothing was touched: {}", end.words));
        }
        next.phase = match &end.decision {
            Decision::Settled => Phase::Settled,
            Decision::Broken { .. } | Decision::Repair { .. } => Phase::Broken,
            // Taking up what turned out never to have been begun ends with the restart it was for.
            Decision::Waiting { .. } | Decision::Restart { .. } => Phase::Observing,
            _ => Phase::Blocked,
        };
    }
    effects.doing = Some(Doing::Look);
}

/// The verdict with its rules, to tell one look from the next; texts may hold times and rotating addresses.
fn verdict(decision: &Decision) -> String {
    let mut rules: Vec<&str> = decision.reasons().iter().map(|r| r.rule.as_str()).collect();
    rules.sort_unstable();
    format!("{} {}", decide_word(decision), rules.join(" ")).trim_end().to_owned()
}

fn decide_word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Spent { reasons } if reasons.iter().any(|r| r.rule == decide::RULE_UNDER_WAY) => "busy",
        other => other.word(),
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Effects {
    pub(super) fn note(&mut self, kind: Kind, text: impl Into<String>) {
        self.notes.push(Note { kind, text: text.into() });
    }
}

impl State {
    /// The run did not come to anything: what counts against it is in the history.
    pub(super) fn untry(&mut self) {
        if let Some(endpoints) = self.phase.endpoints() {
            let endpoints = endpoints.clone();
            self.tried.retain(|tried| *tried != endpoints);
        }
    }

    /// Whether the agent was restarted for these endpoints, and nothing says that somebody else has restarted it since.
    fn was_moved(&self, endpoints: &EndpointSet, agent: Option<&AgentRun>) -> bool {
        let proved = self.proved.iter().find(|(set, _)| set == endpoints);
        self.tried.contains(endpoints) || proved.is_some_and(|(_, proved)| agent.is_none_or(|agent| agent == proved))
    }

    /// Whether an interrupted run may be taken up: at once after the first failure, because the agent may be down.
    pub(super) fn may_take_up(&self, now_ms: u64) -> bool {
        self.failures <= 1 || now_ms >= self.not_before_ms
    }

    pub(super) fn back_off(&mut self, now_ms: u64) {
        let wait = RETRY.saturating_mul(1 << self.failures.min(8)).min(RETRY_MOST);
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = now_ms.saturating_add(millis(wait));
    }

    /// Whether the agent only lacks a connection, and not for long enough to call it broken.
    fn gap(&mut self, decision: &Decision, now_ms: u64) -> bool {
        // A look that saw too little neither begins a gap nor ends it.
        if !matches!(decision, Decision::Unknown { .. }) {
            let since = self.gap_since_ms.unwrap_or(now_ms);
            self.gap_since_ms = words::only_a_gap(decision).then_some(since);
        }
        words::only_a_gap(decision) && self.gap_since_ms.is_some_and(|since| now_ms.saturating_sub(since) < millis(GAP))
    }

    /// Takes a verdict over; whether it is a new one.
    fn judge(&mut self, decision: &Decision) -> bool {
        let verdict = verdict(decision);
        let new = verdict != self.verdict;
        self.same = if new { 0 } else { self.same.saturating_add(1) };
        self.verdict = verdict;
        new
    }
}
