//! `on_ready = "rollout"`: the runbook is started behind the same gates as a restart, and again for who was left over.

use super::{ID, disconnected, other, restart, set};
use hostagent::{
    config::{OnReady, Opening},
    decide::Decision,
    watch::{
        Policy,
        rollout::Fate,
        state::{Doing, Effects, Hold, Input, Kind, Lead, Moment, Phase, State},
        step,
    },
};
use std::time::Duration;

const MINUTE_MS: u64 = 60_000;

struct Host {
    state: State,
    policy: Policy,
    moment: Moment,
    notes: Vec<(Kind, String)>,
}

impl Host {
    fn new() -> Self {
        let moment = Moment { up_ms: 1_000_000, paused: false, opening: Opening::Always };
        let policy = Policy { on_ready: OnReady::Rollout, splay_max: Duration::ZERO, ..Policy::default() };
        let state = State { instance_id: Some(ID.into()), ..State::default() };
        Self { state, policy, moment, notes: Vec::new() }
    }

    fn feed(&mut self, input: &Input) -> Option<Doing> {
        let (state, Effects { doing, notes }) = step(&self.state, input, &self.moment, &self.policy);
        self.state = state;
        self.notes.extend(notes.into_iter().map(|note| (note.kind, note.text)));
        doing
    }

    fn looks(&mut self, decision: Decision, after_ms: u64) -> Option<Doing> {
        self.moment.up_ms += after_ms;
        let (asked_ms, instance_id) = (self.moment.up_ms, Some(ID.into()));
        self.feed(&Input::Looked { decision, asked_ms, ttl_s: Some(60), instance_id, lead: Lead::Unknown })
    }

    /// Looks that agree until it is proved; what the last of them asks for.
    fn proves(&mut self, n: u8) -> Option<Doing> {
        (0..3).map(|_| self.looks(restart(n), 61_000)).last().flatten()
    }

    /// Proved, asked the hooks, and joined this execution.
    fn joins(&mut self, n: u8, execution: &str) {
        assert_eq!(self.proves(n), Some(Doing::AskHooks));
        assert_eq!(self.feed(&Input::Hooks(None)), Some(Doing::StartRollout));
        assert_eq!(self.feed(&Input::Rollout(Ok(execution.into()))), None);
        assert_eq!(self.state.phase, Phase::Ready { endpoints: set(n) });
    }

    /// Looks once a minute at a host that stays public, until it asks for something; after how many minutes that was.
    fn asks(&mut self, most: u64) -> (u64, Option<Doing>) {
        for minute in 1..=most {
            if let Some(doing) = self.looks(restart(0), MINUTE_MS) {
                return (minute, Some(doing));
            }
        }
        (most, None)
    }

    fn hold(&self) -> &Hold {
        let Phase::Waiting { hold, .. } = &self.state.phase else { panic!("{:?}", self.state.phase) };
        hold
    }

    fn said(&self, words: &str) -> usize {
        self.notes.iter().filter(|(_, text)| text.contains(words)).count()
    }
}

#[test]
fn pause_window_and_hooks_are_asked_before_the_runbook_is() {
    let mut host = Host::new();
    host.moment.paused = true;
    assert_eq!(host.proves(0), None);
    assert_eq!(host.hold(), &Hold::Paused);
    host.moment.paused = false;
    host.moment.opening = Opening::Closed { opens: None };
    assert_eq!(host.feed(&Input::Tick), None);
    assert_eq!(host.hold(), &Hold::Window { opens: None });
    host.moment.opening = Opening::Open { length_s: 3_600 };
    assert_eq!(host.feed(&Input::Tick), Some(Doing::AskHooks));
    assert_eq!(host.feed(&Input::Hooks(Some(("10-no".into(), "a deployment".into())))), None);
    assert!(matches!(host.hold(), Hold::Veto { hook, .. } if hook == "10-no"), "{:?}", host.state.phase);
    host.moment.up_ms += 61_000;
    assert_eq!(host.feed(&Input::Tick), Some(Doing::AskHooks));
    assert_eq!(host.feed(&Input::Hooks(None)), Some(Doing::StartRollout));
    // While it is being asked for, nothing asks again.
    assert_eq!(host.looks(restart(0), 1_000), None);
    assert_eq!(host.feed(&Input::Tick), None);
    assert_eq!(host.feed(&Input::Rollout(Ok("e1".into()))), None);
    assert_eq!(host.state.phase, Phase::Ready { endpoints: set(0) });
}

#[test]
fn a_runbook_that_could_not_be_started_is_said_once_and_asked_for_again_behind_the_hooks() {
    let mut host = Host::new();
    assert_eq!(host.proves(0), Some(Doing::AskHooks));
    let mut waits = Vec::new();
    for _ in 0..9 {
        assert_eq!(host.feed(&Input::Hooks(None)), Some(Doing::StartRollout));
        assert_eq!(host.feed(&Input::Rollout(Err("a change calendar is closed: freeze".into()))), None);
        let began = host.moment.up_ms;
        while host.looks(restart(0), MINUTE_MS) != Some(Doing::AskHooks) {}
        waits.push((host.moment.up_ms - began) / MINUTE_MS);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(host.said("a change calendar is closed"), 1, "{:?}", host.notes);
}

#[test]
fn who_is_left_over_starts_the_next_after_longer_and_longer_waits() {
    let mut host = Host::new();
    host.joins(0, "e0");
    let mut waits = Vec::new();
    for n in 0..8 {
        let (minutes, doing) = host.asks(500);
        assert_eq!(doing, Some(Doing::AskAfterRollout), "{n}");
        waits.push(minutes);
        // It may have been moved meanwhile: one more look, and the hooks, come before the next.
        assert_eq!(host.feed(&Input::AskedAfter(Ok(Fate::Ended))), Some(Doing::Look));
        assert_eq!(host.looks(restart(0), 500), Some(Doing::AskHooks));
        assert_eq!(host.feed(&Input::Hooks(None)), Some(Doing::StartRollout));
        let before = host.state.joined_for(&set(0)).map(|joined| joined.execution.clone());
        assert_eq!(before, Some(format!("e{n}")), "the token is made of the one before");
        assert_eq!(host.feed(&Input::Rollout(Ok(format!("e{}", n + 1)))), None);
    }
    assert!(waits[0] >= 10 && waits.windows(2).all(|w| w[1] >= w[0]), "{waits:?}");
    assert!((360..=405).contains(&waits[7]), "{waits:?}");
}

#[test]
fn a_rollout_under_way_or_not_to_be_seen_is_not_followed_by_another() {
    let mut host = Host::new();
    host.joins(0, "e0");
    for answer in [Ok(Fate::UnderWay), Err("AccessDenied".to_owned()), Err("AccessDenied".to_owned())] {
        let (minutes, doing) = host.asks(60);
        assert!(minutes >= 10 && doing == Some(Doing::AskAfterRollout), "{minutes} {doing:?}");
        assert_eq!(host.feed(&Input::AskedAfter(answer)), None);
        assert_eq!(host.state.phase, Phase::Ready { endpoints: set(0) });
    }
    assert_eq!(host.said("AccessDenied"), 1, "said once: {:?}", host.notes);
}

#[test]
fn what_somebody_cancelled_is_not_started_again() {
    let mut host = Host::new();
    host.joins(0, "e0");
    assert_eq!(host.asks(60).1, Some(Doing::AskAfterRollout));
    assert_eq!(host.feed(&Input::AskedAfter(Ok(Fate::Cancelled))), None);
    assert_eq!(host.asks(3_000), (3_000, None));
    assert_eq!(host.said("was cancelled"), 1);
    // Other endpoints are another question.
    host.joins(1, "f0");
}

#[test]
fn a_host_that_was_moved_asks_for_nothing_more() {
    let mut host = Host::new();
    host.joins(0, "e0");
    assert_eq!(host.looks(Decision::Settled, 30 * MINUTE_MS), None);
    // An answer that comes late.
    assert_eq!(host.feed(&Input::AskedAfter(Ok(Fate::Ended))), None);
    assert_eq!(host.state.phase, Phase::Settled);
    for decision in [disconnected(0), other(1), other(2)] {
        let doing = host.looks(decision, MINUTE_MS);
        assert!(!matches!(doing, Some(Doing::StartRollout | Doing::AskHooks)), "{doing:?}");
    }
}

#[test]
fn a_look_that_saw_too_little_changes_nothing_of_what_was_left_to_others() {
    let mut host = Host::new();
    host.joins(0, "e0");
    for decision in [other(1), disconnected(0)] {
        assert_eq!(host.looks(decision, 30 * MINUTE_MS), None, "nothing is asked on a missing fact");
        assert_eq!(host.state.phase, Phase::Ready { endpoints: set(0) });
    }
    assert_eq!(host.looks(restart(0), MINUTE_MS), Some(Doing::AskAfterRollout));
    assert_eq!(host.said("ready; on_ready"), 1, "{:?}", host.notes);
}

#[test]
fn after_a_reboot_it_is_asked_after_at_once() {
    let mut host = Host::new();
    host.joins(0, "e0");
    host.state = host.state.clone().resumed(false);
    host.moment.up_ms = 1_000;
    assert_eq!(host.state.phase, Phase::Observing);
    // Counted anew, and the rollout is known.
    assert_eq!(host.proves(0), None);
    assert_eq!(host.asks(2).1, Some(Doing::AskAfterRollout));
}
