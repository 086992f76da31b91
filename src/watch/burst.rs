//! What others do to the agent comes in bursts: one look for many events, soon after the last of them, and never long
//! after the first. An agent that is started over and over does not make as many looks.

use std::{collections::BTreeSet, time::Duration};

/// From the last event to the look: the agent has to come back and register first.
pub const QUIET: Duration = Duration::from_secs(3);
/// From the first event to the look at most, however the events go on.
pub const MOST: Duration = Duration::from_secs(30);
/// From one look for the sake of events to the next such look at least.
pub const APART: Duration = Duration::from_secs(15);

/// Events that no look has answered yet. Times are milliseconds since boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Burst {
    /// The first and the last event since the last look.
    span: Option<(u64, u64)>,
    /// When a look last answered a burst.
    answered_ms: Option<u64>,
    told: BTreeSet<String>,
    untold: usize,
}

impl Burst {
    /// Something happened; whether it is worth an entry of its own: the first of its kind in a burst is.
    pub fn happened(&mut self, action: &str, now_ms: u64) -> bool {
        let first = self.span.map_or(now_ms, |(first, _)| first);
        self.span = Some((first, now_ms.max(first)));
        // What the engine calls its events is bounded; what it might send is not.
        let new = self.told.len() < 8 && self.told.insert(action.to_owned());
        self.untold += usize::from(!new);
        new
    }

    /// When the host is to be looked at because of it; `None` when nothing happened.
    pub fn due_ms(&self) -> Option<u64> {
        let (first, last) = self.span?;
        let apart = self.answered_ms.map_or(0, |at| at.saturating_add(millis(APART)));
        Some(last.saturating_add(millis(QUIET)).max(apart).min(first.saturating_add(millis(MOST))))
    }

    /// A look begins, for whatever reason. Where it answers the burst: how many of its events were not told one by one.
    ///
    /// It answers what happened long enough before it. One that comes in the middle leaves the burst as it is: the agent
    /// may not be back.
    pub fn looked(&mut self, now_ms: u64) -> Option<usize> {
        self.due_ms().filter(|due| now_ms >= *due)?;
        let untold = self.untold;
        *self = Self { answered_ms: Some(now_ms), ..Self::default() };
        Some(untold)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_event_is_answered_once_the_agent_may_be_back() {
        let mut burst = Burst::default();
        assert_eq!((burst.due_ms(), burst.looked(5)), (None, None));
        assert!(burst.happened("die", 1_000) && burst.happened("start", 1_400));
        assert_eq!(burst.due_ms(), Some(4_400));
        // A look that was due anyway, too early to answer it.
        assert_eq!((burst.looked(2_000), burst.due_ms()), (None, Some(4_400)));
        assert!(!burst.happened("die", 3_000), "told already");
        assert_eq!((burst.looked(6_000), burst.due_ms()), (Some(1), None));
        assert!(burst.happened("die", 7_000), "of another burst");
        assert_eq!(burst.due_ms(), Some(21_000), "15 s after the last look");
    }

    proptest! {
        /// Looks are as few as the time allows, and no event waits for its look longer than it may.
        #[test]
        fn a_storm_makes_few_looks_and_every_event_has_one(
            gaps in prop::collection::vec(prop_oneof![4 => 0_u64..2_000, 1 => 2_000_u64..40_000], 1..400),
        ) {
            let (mut burst, mut now, mut looks) = (Burst::default(), 0_u64, Vec::new());
            let mut waiting: Option<u64> = None;
            for gap in gaps {
                let next = now + gap;
                // The timer goes off before the next event where it is due before it.
                while let Some(due) = burst.due_ms().filter(|due| *due <= next) {
                    now = now.max(due);
                    let first = waiting.take().expect("something happened");
                    prop_assert!(now >= first && now - first <= millis(MOST), "waited {}", now - first);
                    prop_assert!(burst.looked(now).is_some());
                    looks.push(now);
                }
                now = next;
                burst.happened("start", now);
                waiting.get_or_insert(now);
            }
            prop_assert!(burst.due_ms().is_some(), "the last event has its look, too");
            for pair in looks.windows(2) {
                prop_assert!(pair[1] - pair[0] >= millis(APART), "{pair:?}");
            }
        }
    }
}
