//! What may hold a host back right before it is moved: what is known of it → whether the host may be moved.
//!
//! The fleet's brakes hold whoever asks; pause file and window hold the service's own runs.

use super::{Decision, Reason};
use crate::{
    config::{Brake, FleetSettings, Opening},
    facts::{AwsTrouble, Fact},
    fleet::halt::Halt,
};

/// The cluster's brakes, read just before acting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brakes {
    /// The cluster's halt parameter: its value, if there is one.
    pub halt: Result<Option<String>, AwsTrouble>,
    /// Whether all calendars are open; `None` when there are none to ask for.
    pub open: Option<Result<bool, AwsTrouble>>,
    /// Whether this host has read its cluster's halt before.
    pub read_before: bool,
}

/// Gives way, with what could not be read and is passed over, or the decision that holds the host.
///
/// A brake that is set always holds, and so does a calendar that somebody named and that cannot be read. A halt that
/// cannot be read holds where that is required; else only where it could be read before and nobody answers now: such a
/// host has the permission, and the trouble passes.
pub fn brake(brakes: &Brakes, settings: &FleetSettings) -> Result<Vec<String>, Decision> {
    if settings.brake == Brake::Off {
        return Ok(Vec::new());
    }
    let mut held = Held::default();
    let mut passed = Vec::new();
    match &brakes.halt {
        Ok(None) => {}
        Ok(Some(value)) => {
            let text = format!("this cluster is {}", Halt::read(value).words());
            let remedy = "once what is wrong is mended: hostagent fleet resume --cluster NAME";
            held.set.push(Reason::new("cluster-halted", text, remedy));
        }
        Err(trouble) => {
            let may_pass = match trouble {
                AwsTrouble::Refused(_) => true,
                AwsTrouble::NoAnswer(_) => !brakes.read_before,
            };
            if settings.brake == Brake::IfAvailable && may_pass {
                passed.push(trouble.to_string());
            } else {
                held.unread("halt-unknown", trouble);
            }
        }
    }
    match &brakes.open {
        None | Some(Ok(true)) => {}
        Some(Ok(false)) => {
            let text = format!("a change calendar is closed: {}", settings.calendars.join(", "));
            held.set.push(Reason::new("calendar-closed", text, "wait until it opens, or change fleet.calendars"));
        }
        Some(Err(trouble)) => held.unread("calendar-unknown", trouble),
    }
    held.decision().map_or(Ok(passed), Err)
}

/// What holds a host.
#[derive(Default)]
struct Held {
    /// Brakes that are set.
    set: Vec<Reason>,
    /// Brakes that AWS does not let it read.
    refused: Vec<Reason>,
    /// Brakes about which nobody answered: to be asked again.
    silent: Vec<Reason>,
}

impl Held {
    fn unread(&mut self, rule: &str, trouble: &AwsTrouble) {
        match trouble {
            AwsTrouble::Refused(_) => self.refused.push(Reason::new(rule, trouble.to_string(), UNREAD)),
            AwsTrouble::NoAnswer(_) => self.silent.push(Reason::new(rule, trouble.to_string(), SILENT)),
        }
    }

    fn decision(self) -> Option<Decision> {
        let Held { set, refused, silent } = self;
        match (set.is_empty(), refused.is_empty(), silent.is_empty()) {
            (false, _, _) => Some(Decision::Refuse { reasons: set }),
            (_, false, _) => Some(Decision::Refuse { reasons: refused.into_iter().chain(silent).collect() }),
            (_, _, false) => Some(Decision::Spent { reasons: silent }),
            (true, true, true) => None,
        }
    }
}

const UNREAD: &str =
    "give the instance role ssm:GetParameter and ssm:GetCalendarState, or correct fleet.calendars and fleet.brake";
const SILENT: &str = "see that ssm answers this host, then run this again; the service does so by itself";

/// Gives way, or the decision that holds a run of the service itself.
///
/// `paused` is whether the pause file is there. One that cannot be looked for holds, too.
pub fn own(paused: &Fact<bool>, opening: Opening) -> Result<(), Decision> {
    let reason = match (paused, opening) {
        (Fact::Known(true), _) => Reason::new("paused", "paused by the pause file", "remove it to go on"),
        (Fact::Unknown(missing), _) => {
            Reason::new("pause-unknown", format!("whether the pause file is there is not known: {missing}"), "")
        }
        (_, Opening::Closed { opens: Some(opens) }) => {
            let text = format!("outside the window, which opens at {opens:.0}");
            Reason::new("outside-window", text, "wait for it, or change watch.window")
        }
        (_, Opening::Closed { opens: None }) => {
            let text = "outside the window, which does not open within two weeks";
            Reason::new("outside-window", text, "change watch.window")
        }
        (Fact::Known(false), Opening::Always | Opening::Open { .. }) => return Ok(()),
    };
    Err(Decision::Spent { reasons: vec![reason] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Missing;
    use proptest::prelude::*;

    fn settings(brake: Brake) -> FleetSettings {
        FleetSettings { brake, calendars: vec!["freeze".into()], ..FleetSettings::default() }
    }

    fn trouble() -> impl Strategy<Value = AwsTrouble> {
        prop_oneof![
            Just(AwsTrouble::Refused(Missing::new("ssm", "AccessDeniedException", ""))),
            Just(AwsTrouble::NoAnswer(Missing::new("ssm", "ThrottlingException", ""))),
        ]
    }

    fn halts() -> impl Strategy<Value = Result<Option<String>, AwsTrouble>> {
        prop_oneof![any::<Option<String>>().prop_map(Ok), trouble().prop_map(Err)]
    }

    fn calendars() -> impl Strategy<Value = Option<Result<bool, AwsTrouble>>> {
        prop_oneof![
            Just(None),
            any::<bool>().prop_map(|open| Some(Ok(open))),
            trouble().prop_map(|trouble| Some(Err(trouble)))
        ]
    }

    proptest! {
        #[test]
        fn a_brake_that_is_set_always_holds(
            halt in halts(),
            open in calendars(),
            required: bool,
            read_before: bool,
        ) {
            let settings = settings(if required { Brake::Required } else { Brake::IfAvailable });
            let set = matches!(halt, Ok(Some(_))) || open == Some(Ok(false));
            let no_answer = matches!(halt, Err(AwsTrouble::NoAnswer(_)));
            let unread_holds = halt.is_err() && (required || (no_answer && read_before));
            let calendar_unread = matches!(open, Some(Err(_)));
            let refused = matches!(open, Some(Err(AwsTrouble::Refused(_))))
                || (required && matches!(halt, Err(AwsTrouble::Refused(_))));
            let passed = halt.is_err() && !unread_holds;
            match brake(&Brakes { halt, open, read_before }, &settings) {
                Ok(notes) => {
                    prop_assert!(!set && !unread_holds && !calendar_unread);
                    prop_assert_eq!(!notes.is_empty(), passed);
                }
                // What passes by itself is tried again; what does not is refused.
                Err(decision) => {
                    prop_assert!(set || unread_holds || calendar_unread);
                    prop_assert_eq!(matches!(decision, Decision::Refuse { .. }), set || refused, "{:?}", decision);
                }
            }
        }

        #[test]
        fn off_is_off(halt in halts(), open in calendars(), read_before: bool) {
            prop_assert_eq!(brake(&Brakes { halt, open, read_before }, &settings(Brake::Off)), Ok(vec![]));
        }
    }

    #[test]
    fn the_service_s_own_runs_are_held_by_its_pause_file_and_its_window() {
        let free = Fact::Known(false);
        assert_eq!(own(&free, Opening::Always), Ok(()));
        assert_eq!(own(&free, Opening::Open { length_s: 60 }), Ok(()));
        let held = |paused: &Fact<bool>, opening| own(paused, opening).unwrap_err().reasons()[0].rule.clone();
        assert_eq!(held(&free, Opening::Closed { opens: None }), "outside-window");
        assert_eq!(held(&Fact::Known(true), Opening::Always), "paused");
        assert_eq!(held(&Fact::unknown("pause file", "permission denied", ""), Opening::Always), "pause-unknown");
    }
}
