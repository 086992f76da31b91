//! When to look next: once a TTL while something may change, and ever more rarely while nothing does.

use super::{
    Policy, splay,
    state::{Phase, State},
};
use crate::decide::{Decision, TTL_CAP_S, run_out_ms};
use std::time::Duration;

/// Where the answers carry no TTL: "no such name" does not, and neither does the hosts file.
const WITHOUT_TTL_S: u32 = 60;
/// Looks are put off by up to this part of their interval, so that a fleet that booted together does not ask together.
/// Eager ones once, after the first look: from then on they come a TTL apart and stay spread. Any later, and what
/// changed would be noticed after more than a TTL; any sooner, and a name would be asked for twice in one.
const JITTER: u32 = 8;
/// After a look that came to nothing, at first.
const AFTER_LOST: Duration = Duration::from_secs(10);
/// Within this time of its beginning a look has its answers. What then takes longer are addresses that do not answer.
const ANSWERED: Duration = Duration::from_secs(1);
/// What timers round.
const TIMERS: Duration = Duration::from_millis(50);

/// How eager to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Something is expected to change: as soon as the answers are out of date.
    Eager,
    /// Looks that agree are being counted: as soon as the answers have gone from every cache, so that the next ones are
    /// sure to be others.
    Counting,
    /// Nothing is, and so many looks in a row have found the same: twice as long each time, up to the settled interval.
    Easing { same: u32 },
}

/// How eager to be in this state, after a look that came to `last`.
pub fn pace(state: &State, last: Option<&Decision>) -> Pace {
    match state.phase {
        Phase::Observing if matches!(last, Some(Decision::Waiting { .. })) => Pace::Eager,
        // Somebody else is about to move the agent, or the runbook is.
        Phase::Ready { .. } => Pace::Eager,
        Phase::Candidate { .. } | Phase::Waiting { .. } => Pace::Counting,
        _ => Pace::Easing { same: state.same },
    }
}

/// Time from the answers of a look to the next. `ttl_s` is the longest of them, or what a cache says is left of it;
/// `nth` counts the looks from 1, for the jitter.
///
/// Never shorter than that (capped), so that a name is asked for once a TTL at most.
pub fn interval(pace: Pace, ttl_s: Option<u32>, instance_id: &str, nth: u64, policy: &Policy) -> Duration {
    let ttl = u64::from(ttl_s.unwrap_or(WITHOUT_TTL_S).min(TTL_CAP_S));
    let eager = Duration::from_secs(ttl.max(policy.min_spread_s).max(1));
    let settled = policy.settled_interval.max(eager);
    let base = match pace {
        Pace::Eager => eager,
        Pace::Counting => {
            let gone = ttl_s.map_or(Duration::ZERO, |ttl| Duration::from_millis(run_out_ms(ttl)) + TIMERS);
            gone.max(eager)
        }
        Pace::Easing { same } => eager.saturating_mul(1 << same.min(16)).min(settled),
    };
    match pace {
        Pace::Counting => base,
        Pace::Eager if nth > 1 => base,
        _ => base + splay::part(&format!("{instance_id} look {nth}"), base / JITTER),
    }
}

/// Time from a look of which nothing came to the next, by how many in a row there were: soon, for most of what loses one
/// is over in a moment; then twice as long each time, up to the settled interval.
pub fn after_lost(in_a_row: u32, policy: &Policy) -> Duration {
    AFTER_LOST.saturating_mul(1 << in_a_row.saturating_sub(1).min(16)).min(policy.settled_interval)
}

/// What is left of an interval at the end of a look that took so long: its answers are that much older.
pub fn left(interval: Duration, took: Duration) -> Duration {
    interval.saturating_sub(took.saturating_sub(ANSWERED)).max(ANSWERED)
}

/// When a look that began and ended then had its answers at the latest, all in milliseconds since boot.
pub fn answered_ms(began_ms: u64, ended_ms: u64) -> u64 {
    ended_ms.min(began_ms.saturating_add(ANSWERED.as_millis() as u64))
}

/// Whether names that lead elsewhere are all that is looked at: nothing else needs to be, as long as they do. Now and then
/// all is; and so it is by the look that `answers` what was done to the agent, which a look that was under way then may
/// not have seen.
pub fn names_alone(state: &State, since_full: Duration, answers: bool, policy: &Policy) -> bool {
    state.phase == Phase::Observing && !answers && since_full < policy.settled_interval
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::burst::Burst;

    fn policy() -> Policy {
        Policy { settled_interval: Duration::from_secs(300), min_spread_s: 5, ..Policy::default() }
    }

    #[test]
    fn eager_is_once_a_ttl_and_a_fleet_is_spread_by_the_first_look() {
        let first = |instance| interval(Pace::Eager, Some(60), instance, 1, &policy());
        let fleet: Vec<_> = ["i-1", "i-2", "i-3", "i-4"].map(first).into();
        assert!(fleet.iter().all(|wait| (60_000..=67_500).contains(&wait.as_millis())), "{fleet:?}");
        assert!(fleet.windows(2).all(|w| w[0] != w[1]), "jittered: {fleet:?}");
        for nth in 2..100 {
            assert_eq!(interval(Pace::Eager, Some(60), "i-1", nth, &policy()), Duration::from_secs(60));
        }
        assert!(interval(Pace::Eager, Some(0), "i-1", 2, &policy()) >= Duration::from_secs(5));
        assert!(interval(Pace::Eager, Some(u32::MAX), "i-1", 1, &policy()) <= Duration::from_secs(338));
    }

    #[test]
    fn what_is_left_of_a_ttl_has_gone_before_looks_are_counted_on() {
        let of = |ttl_s, nth| interval(Pace::Counting, ttl_s, "i-1", nth, &policy()).as_millis();
        assert_eq!([of(Some(60), 1), of(Some(60), 7), of(Some(4), 2)], [61_050, 61_050, 5_050]);
        assert_eq!((of(Some(3), 2), of(Some(u32::MAX), 2)), (5_000, 301_050), "the least, and the cap");
        // Answers that carry none come from the hosts file, which nobody caches.
        assert_eq!(of(None, 2), 60_000);
        // However long a look takes, the next begins when the answers have gone.
        for took_ms in [20, 900, 1_000, 3_500, 30_000] {
            let (began, ended) = (5_000, 5_000 + took_ms);
            let looks = crate::decide::Agreement::new(began, answered_ms(began, ended), Some(60));
            let wait = left(Duration::from_millis(61_050), Duration::from_millis(took_ms)).as_millis() as u64;
            assert!(ended + wait >= looks.gone_ms, "{took_ms} ms");
        }
    }

    #[test]
    fn a_look_that_is_long_in_probing_does_not_put_the_next_one_off() {
        let left = |took_ms| left(Duration::from_secs(60), Duration::from_millis(took_ms)).as_millis();
        assert_eq!([left(50), left(1_000), left(4_000), left(100_000)], [60_000, 60_000, 57_000, 1_000]);
    }

    #[test]
    fn lost_looks_are_made_again_soon_and_then_ever_more_rarely() {
        let waits = [1, 2, 3, 5, 6, 7, u32::MAX].map(|lost| after_lost(lost, &policy()).as_secs());
        assert_eq!(waits, [10, 20, 40, 160, 300, 300, 300]);
    }

    #[test]
    fn what_is_done_to_the_agent_while_it_is_looked_at_is_answered_by_a_whole_look() {
        let (state, mut burst) = (State::default(), Burst::default());
        let full_ms = 2_000;
        let alone = |burst: &mut Burst, now_ms: u64| {
            let since_full = Duration::from_millis(now_ms - full_ms);
            names_alone(&state, since_full, burst.looked(now_ms).is_some(), &policy())
        };
        // In the middle of the look that ended at two seconds, whose names would do for the next ones.
        burst.happened("start", 1_000);
        let due = burst.due_ms().unwrap();
        assert!(alone(&mut burst, due - 1), "too early to answer it");
        assert!(!alone(&mut burst, due));
        assert!(alone(&mut burst, due + 1) && !alone(&mut burst, full_ms + 300_000), "now and then all is looked at");
        let settled = State { phase: Phase::Settled, ..State::default() };
        assert!(!names_alone(&settled, Duration::ZERO, false, &policy()));
    }

    #[test]
    fn a_host_that_others_are_to_move_is_looked_at_as_one_that_moves_itself() {
        let endpoints = crate::decide::EndpointSet::default();
        let state = State { phase: Phase::Ready { endpoints }, same: 9, ..State::default() };
        assert_eq!(pace(&state, None), Pace::Eager);
    }

    #[test]
    fn nothing_new_eases_to_the_settled_interval() {
        let at = |same| interval(Pace::Easing { same }, Some(60), "i-1", 0, &policy()).as_secs();
        assert!((60..=68).contains(&at(0)) && (120..=135).contains(&at(1)));
        assert!((300..=338).contains(&at(3)) && (300..=338).contains(&at(u32::MAX)));
    }
}
