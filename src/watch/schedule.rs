//! When to look next: once a TTL while something may change, and ever more rarely while nothing does.

use super::{
    Policy, splay,
    state::{Phase, State},
};
use crate::decide::{Decision, TTL_CAP_S};
use std::time::Duration;

/// Where the answers carry no TTL: "no such name" does not, and neither does the hosts file.
const WITHOUT_TTL_S: u32 = 60;
/// Looks are put off by up to this part of their interval, so that a fleet that booted together does not ask together.
const JITTER: u32 = 8;

/// How eager to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Something is expected to change: as soon as the answers are out of date.
    Eager,
    /// Nothing is, and so many looks in a row have found the same: twice as long each time, up to the settled interval.
    Easing { same: u32 },
}

/// How eager to be in this state, after a look that came to `last`.
pub fn pace(state: &State, last: Option<&Decision>) -> Pace {
    match state.phase {
        Phase::Observing if matches!(last, Some(Decision::Waiting { .. })) => Pace::Eager,
        Phase::Candidate { .. } | Phase::Waiting { .. } => Pace::Eager,
        _ => Pace::Easing { same: state.same },
    }
}

/// Time from one look to the next. `ttl_s` is the longest of the last answers; `nth` counts the looks, for the jitter.
///
/// Never shorter than the TTL (capped), so that a name is asked for once a TTL at most.
pub fn interval(pace: Pace, ttl_s: Option<u32>, instance_id: &str, nth: u64, policy: &Policy) -> Duration {
    let ttl = u64::from(ttl_s.unwrap_or(WITHOUT_TTL_S).min(TTL_CAP_S));
    let eager = Duration::from_secs(ttl.max(policy.min_spread_s).max(1));
    let settled = policy.settled_interval.max(eager);
    let base = match pace {
        Pace::Eager => eager,
        Pace::Easing { same } => eager.saturating_mul(1 << same.min(16)).min(settled),
    };
    base + splay::part(&format!("{instance_id} look {nth}"), base / JITTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy { settled_interval: Duration::from_secs(300), min_spread_s: 5, ..Policy::default() }
    }

    #[test]
    fn eager_is_once_a_ttl_with_jitter_and_never_sooner() {
        for nth in 0..100 {
            let next = interval(Pace::Eager, Some(60), "i-1", nth, &policy());
            assert!((60_000..=67_500).contains(&next.as_millis()), "{next:?}");
        }
        let some: Vec<_> = (0..4).map(|nth| interval(Pace::Eager, Some(60), "i-1", nth, &policy())).collect();
        assert!(some.windows(2).any(|w| w[0] != w[1]), "jittered: {some:?}");
        assert!(interval(Pace::Eager, Some(0), "i-1", 0, &policy()) >= Duration::from_secs(5));
        assert!(interval(Pace::Eager, Some(u32::MAX), "i-1", 0, &policy()) <= Duration::from_secs(338));
    }

    #[test]
    fn nothing_new_eases_to_the_settled_interval() {
        let at = |same| interval(Pace::Easing { same }, Some(60), "i-1", 0, &policy()).as_secs();
        assert!((60..=68).contains(&at(0)) && (120..=135).contains(&at(1)));
        assert!((300..=338).contains(&at(3)) && (300..=338).contains(&at(u32::MAX)));
    }
}
