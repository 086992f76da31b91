//! The brakes of the fleet: what is known of them → whether this host may be moved.

use super::{Decision, Reason};
use crate::{
    config::{Brake, FleetSettings},
    facts::Fact,
    fleet::halt::Halt,
};

/// The cluster's brakes, read just before acting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brakes {
    /// The cluster's halt parameter: its value, if there is one.
    pub halt: Fact<Option<String>>,
    /// Whether all calendars are open; `None` when there are none to ask for.
    pub open: Option<Fact<bool>>,
}

/// Gives way, with what could not be read, or the decision that holds the host.
///
/// A brake that is set always holds. One that cannot be read holds where it is required.
pub fn brake(brakes: &Brakes, settings: &FleetSettings) -> Result<Vec<String>, Decision> {
    if settings.brake == Brake::Off {
        return Ok(Vec::new());
    }
    let mut set = Vec::new();
    let mut unread = Vec::new();
    match &brakes.halt {
        Fact::Known(None) => {}
        Fact::Known(Some(value)) => {
            let text = format!("this cluster is {}", Halt::read(value).words());
            let remedy = "once what is wrong is mended: hostagent fleet resume --cluster NAME";
            set.push(Reason::new("cluster-halted", text, remedy));
        }
        Fact::Unknown(missing) => unread.push(Reason::new("halt-unknown", missing.to_string(), UNREAD)),
    }
    match &brakes.open {
        None | Some(Fact::Known(true)) => {}
        Some(Fact::Known(false)) => {
            let text = format!("a change calendar is closed: {}", settings.calendars.join(", "));
            set.push(Reason::new("calendar-closed", text, "wait until it opens, or change fleet.calendars"));
        }
        Some(Fact::Unknown(missing)) => unread.push(Reason::new("calendar-unknown", missing.to_string(), UNREAD)),
    }
    match settings.brake {
        _ if !set.is_empty() => Err(Decision::Refuse { reasons: set }),
        Brake::Required if !unread.is_empty() => Err(Decision::Refuse { reasons: unread }),
        _ => Ok(unread.into_iter().map(|reason| reason.text).collect()),
    }
}

const UNREAD: &str = "give the instance role ssm:GetParameter and ssm:GetCalendarState, or set fleet.brake";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Missing;
    use proptest::prelude::*;

    fn settings(brake: Brake) -> FleetSettings {
        FleetSettings { brake, calendars: vec!["freeze".into()], ..FleetSettings::default() }
    }

    fn halts() -> impl Strategy<Value = Fact<Option<String>>> {
        prop_oneof![
            Just(Fact::Known(None)),
            any::<String>().prop_map(|value| Fact::Known(Some(value))),
            Just(Fact::Unknown(Missing::new("ssm:GetParameter", "AccessDeniedException", ""))),
        ]
    }

    fn calendars() -> impl Strategy<Value = Option<Fact<bool>>> {
        prop_oneof![
            Just(None),
            any::<bool>().prop_map(|open| Some(Fact::Known(open))),
            Just(Some(Fact::Unknown(Missing::new("ssm:GetCalendarState", "no answer", "")))),
        ]
    }

    proptest! {
        #[test]
        fn a_brake_that_is_set_always_holds(halt in halts(), open in calendars(), required: bool) {
            let settings = settings(if required { Brake::Required } else { Brake::IfAvailable });
            let set = matches!(halt, Fact::Known(Some(_))) || open == Some(Fact::Known(false));
            let unread = matches!(halt, Fact::Unknown(_)) || matches!(open, Some(Fact::Unknown(_)));
            let answer = brake(&Brakes { halt, open }, &settings);
            prop_assert_eq!(answer.is_err(), set || (required && unread));
            if let Ok(notes) = answer {
                prop_assert_eq!(!notes.is_empty(), unread);
            }
        }

        #[test]
        fn off_is_off(halt in halts(), open in calendars()) {
            prop_assert_eq!(brake(&Brakes { halt, open }, &settings(Brake::Off)), Ok(vec![]));
        }
    }
}
