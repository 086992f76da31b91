//! What stands between "ready" and the deed, a restart or the start of the cluster's runbook: splay, pause, window, the
//! last look, hooks; in this order. Pure.

use super::{
    Policy, rollout, splay,
    state::{Doing, Effects, Hold, Kind, Moment, Phase, State},
    words,
};
use crate::{
    config::{OnReady, Opening},
    decide::EndpointSet,
};
use std::time::Duration;

/// Sets of endpoints remembered as tried. The history on disk remembers more.
const KEPT_SETS: usize = 16;

/// Lets a state that waits through, or tells what holds it.
pub(super) fn gates(next: &mut State, effects: &mut Effects, hooks_agree: bool, moment: &Moment, policy: &Policy) {
    let Phase::Waiting { endpoints, hold, .. } = &next.phase else { return };
    // The runbook is being asked for: there is no way back.
    if *hold == Hold::Rollout {
        return;
    }
    let endpoints = endpoints.clone();
    let others = match policy.on_ready {
        OnReady::Restart => false,
        OnReady::Report => true,
        OnReady::Rollout => !next.wants_rollout(&endpoints),
    };
    if others {
        effects.note(Kind::Ready, words::left_to_others(policy.on_ready));
        next.phase = Phase::Ready { endpoints };
        return;
    }
    match held(next, hooks_agree, moment, policy) {
        Some(held) => hold_at(next, effects, held, policy),
        None => pass(next, effects, endpoints, policy),
    }
}

fn held(next: &mut State, hooks_agree: bool, moment: &Moment, policy: &Policy) -> Option<Hold> {
    let now = moment.up_ms;
    let not_before_ms = next.not_before_ms;
    let id = next.instance_id.clone().unwrap_or_default();
    let Phase::Waiting { endpoints, splay_until_ms, agrees, hold, .. } = &mut next.phase else { return None };
    if let (Hold::Window { .. }, Opening::Open { length_s }) = (&*hold, moment.opening) {
        // A fleet that waited for the window does not act all at once when it opens.
        let most = longest_splay(policy).min(Duration::from_secs(length_s / 2));
        *splay_until_ms = now.saturating_add(super::step::millis(splay::splay(&id, endpoints, most)));
    }
    if now < *splay_until_ms {
        return Some(Hold::Splay);
    }
    if now < not_before_ms {
        return Some(Hold::BackOff);
    }
    if moment.paused {
        return Some(Hold::Paused);
    }
    if let Opening::Closed { opens } = moment.opening {
        return Some(Hold::Window { opens });
    }
    if !*agrees {
        return Some(Hold::Look);
    }
    match &*hold {
        _ if hooks_agree => None,
        Hold::Veto { again_ms, .. } if now < *again_ms => Some(hold.clone()),
        _ => Some(Hold::Hooks),
    }
}

/// The longest splay before the deed.
pub(super) fn longest_splay(policy: &Policy) -> Duration {
    match policy.on_ready {
        // The first host that asks starts it for all: there is no canary among those who ask.
        OnReady::Rollout => policy.splay_max.min(rollout::SPREAD),
        _ => policy.splay_max,
    }
}

fn hold_at(next: &mut State, effects: &mut Effects, held: Hold, policy: &Policy) {
    let Phase::Waiting { hold, .. } = &mut next.phase else { return };
    let changed = std::mem::discriminant(&held) != std::mem::discriminant(&*hold);
    if changed {
        match held {
            Hold::Hooks => effects.doing = Some(Doing::AskHooks),
            Hold::Look => effects.doing = Some(Doing::Look),
            Hold::Paused | Hold::Window { .. } | Hold::BackOff => {
                effects.note(Kind::Waiting, words::held(&held, policy));
            }
            _ => {}
        }
    }
    *hold = held;
}

fn pass(next: &mut State, effects: &mut Effects, endpoints: EndpointSet, policy: &Policy) {
    if policy.on_ready == OnReady::Rollout {
        effects.doing = Some(Doing::StartRollout);
        if let Phase::Waiting { hold, .. } = &mut next.phase {
            *hold = Hold::Rollout;
        }
        return;
    }
    effects.note(Kind::Acting, format!("restarting the agent for {}", words::set(&endpoints)));
    effects.doing = Some(Doing::Restart);
    next.tried.push(endpoints.clone());
    let old = next.tried.len().saturating_sub(KEPT_SETS);
    next.tried.drain(..old);
    next.phase = Phase::Acting { endpoints, run: None, recovering: false };
}
