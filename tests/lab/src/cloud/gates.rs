//! What a rollout looks at before it goes on: alarms of CloudWatch and Change Calendars.

use super::{error::ApiError, input::Input, page::page, state::State};
use crate::{
    clock::iso,
    region::place::{ACCOUNT, REGION},
};
use serde_json::{Value, json};

/// An alarm.
#[derive(Debug, Clone)]
pub struct Alarm {
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    pub composite: bool,
    pub since_s: f64,
}

/// A Change Calendar.
#[derive(Debug, Clone, Copy)]
pub struct Calendar {
    pub open: bool,
    /// When it changes next, in simulated seconds.
    pub changes_s: Option<f64>,
}

const STATES: [&str; 3] = ["OK", "ALARM", "INSUFFICIENT_DATA"];

pub fn describe_alarms(state: &State, input: &Value) -> Result<Value, ApiError> {
    let members = ["AlarmNames", "AlarmNamePrefix", "AlarmTypes", "StateValue", "MaxRecords", "NextToken"];
    let input = Input::new(input, &members)?;
    let names = input.strings("AlarmNames", 100, "")?;
    let prefix = input.sized("AlarmNamePrefix", 1..=255)?;
    if !names.is_empty() && prefix.is_some() {
        return Err(ApiError::new(
            "InvalidParameterCombination",
            "AlarmNames and AlarmNamePrefix cannot be used together.",
        ));
    }
    let types = input.strings("AlarmTypes", 3, "CompositeAlarm|MetricAlarm|LogAlarm")?;
    let wanted = input.one_of("StateValue", &STATES)?;
    let size = input.integer("MaxRecords", 1..=100)?.unwrap_or(50) as usize;
    let chosen = |name: &str, alarm: &Alarm| {
        // Without a type, metric alarms alone are answered.
        let of_type = if alarm.composite {
            types.contains(&"CompositeAlarm")
        } else {
            types.is_empty() || types.contains(&"MetricAlarm")
        };
        of_type
            && (names.is_empty() || names.contains(&name))
            && prefix.is_none_or(|prefix| name.starts_with(prefix))
            && wanted.is_none_or(|wanted| wanted == alarm.state)
    };
    let all: Vec<(&String, &Alarm)> = state.alarms.iter().filter(|(name, alarm)| chosen(name, alarm)).collect();
    let of = format!("alarms {names:?} {prefix:?} {types:?} {wanted:?}");
    let (items, next) = page(&all, &of, input.text("NextToken")?, size)?;
    let (mut composite, mut metric) = (Vec::new(), Vec::new());
    for (name, alarm) in items {
        let shown = json!({
            "AlarmName": name, "AlarmArn": format!("arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"),
            "StateValue": alarm.state, "StateReason": "set by hand", "ActionsEnabled": true,
            "StateUpdatedTimestamp": state.stamp_at(alarm.since_s),
        });
        if alarm.composite { &mut composite } else { &mut metric }.push(shown);
    }
    let mut output = json!({ "CompositeAlarms": composite, "MetricAlarms": metric });
    if let Some(next) = next {
        output["NextToken"] = next.into();
    }
    Ok(output)
}

/// Whether all of these calendars, by name or ARN, are open.
///
/// # Errors
///
/// `InvalidDocument` for one that there is none of.
pub fn open(state: &State, names: &[&str]) -> Result<bool, ApiError> {
    let mut open = true;
    for name in names {
        let plain = name.rsplit(":document/").next().unwrap_or(name);
        match state.calendars.get(plain) {
            Some(calendar) => open &= calendar.open,
            None if state.documents.contains(plain) => {
                let message = format!("{plain} is no document of type ChangeCalendar.");
                return Err(ApiError::new("InvalidDocumentType", message));
            }
            None => {
                let message = format!("Document with name {plain} does not exist.");
                return Err(ApiError::new("InvalidDocument", message));
            }
        }
    }
    Ok(open)
}

pub fn get_calendar_state(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["CalendarNames"])?;
    if !input.has("CalendarNames") {
        input.required("CalendarNames")?;
    }
    let names = input.strings("CalendarNames", 100, "")?;
    if names.is_empty() {
        return Err(ApiError::validation("At least one calendar has to be named."));
    }
    let open = open(state, &names)?;
    let mut output = json!({
        "State": if open { "OPEN" } else { "CLOSED" },
        "AtTime": iso(state.stamp() as u64),
    });
    if let [only] = names[..] {
        let changes_s =
            state.calendars.get(only.rsplit(":document/").next().unwrap_or(only)).and_then(|of| of.changes_s);
        if let Some(changes_s) = changes_s {
            output["NextTransitionTime"] = iso(state.stamp_at(changes_s) as u64).into();
        }
    }
    Ok(output)
}
