//! When associations run, and on whom.

use super::{Association, Execution, ID, interval_s, none};
use crate::cloud::{
    command::{self, Order},
    error::ApiError,
    gates,
    input::Input,
    state::State,
};
use serde_json::{Value, json};

/// Seconds from a change of an association until it runs.
const SOON_S: f64 = 2.0;

/// Has the association run now, unless it is to wait for its interval, and then at each interval for as long as it is
/// at this number.
pub(super) fn begin(state: &mut State, id: &str, number: u64) {
    let Some(association) = state.associations.get(id) else { return };
    let interval = association.schedule.as_deref().and_then(|schedule| interval_s(schedule).ok());
    let id = id.to_owned();
    if !association.only_at_interval {
        let id = id.clone();
        state.after(SOON_S, move |state| {
            if current(state, &id, number) {
                run(state, &id, None);
            }
        });
    }
    if let Some(interval) = interval {
        again(state, id, number, interval);
    }
}

fn again(state: &mut State, id: String, number: u64, interval: f64) {
    state.after(interval, move |state| {
        if current(state, &id, number) {
            run(state, &id, None);
            again(state, id, number, interval);
        }
    });
}

fn current(state: &State, id: &str, number: u64) -> bool {
    state.associations.get(id).is_some_and(|association| association.number == number)
}

/// A run on all targets, or on one host of them.
fn run(state: &mut State, id: &str, only: Option<&str>) {
    let Some(association) = state.associations.get(id).cloned() else { return };
    let calendars: Vec<&str> = association.calendars.iter().map(String::as_str).collect();
    let open = gates::open(state, &calendars).unwrap_or(false);
    let sent = if open { state_command(state, &association, only) } else { Err("a calendar is closed".into()) };
    let execution = Execution {
        id: state.uuid(),
        created_s: state.now_s(),
        skipped: sent.as_ref().err().cloned(),
        command: sent.ok(),
    };
    if let Some(association) = state.associations.get_mut(id) {
        association.executions.push(execution);
    }
}

fn state_command(state: &mut State, association: &Association, only: Option<&str>) -> Result<String, String> {
    let order = Order {
        document: association.document.clone(),
        version: Some(association.version.clone()),
        parameters: association.parameters.clone(),
        instance_ids: only.map(str::to_owned).into_iter().collect(),
        targets: if only.is_some() { Vec::new() } else { association.targets.clone() },
        // Unlike those of Run Command.
        max_concurrency: Some(association.max_concurrency.clone().unwrap_or_else(|| "100%".into())),
        max_errors: Some(association.max_errors.clone().unwrap_or_else(|| "100%".into())),
        association: Some(association.id.clone()),
        ..Order::default()
    };
    command::send_order(state, order).map_err(|error| error.to_string())
}

/// A host has come: every association that it is a target of runs on it, whatever its limits and calendars.
pub fn joined(state: &mut State, instance: &str) {
    let targeted = |association: &&Association| {
        let chosen = command::chosen(state, &association.targets).unwrap_or_default();
        chosen.iter().any(|of| of == instance)
    };
    let ids: Vec<String> = state.associations.values().filter(targeted).map(|of| of.id.clone()).collect();
    for id in ids {
        let instance = instance.to_owned();
        state.after(SOON_S, move |state| run(state, &id, Some(&instance)));
    }
}

pub fn start_once(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AssociationIds"])?;
    let ids = input.strings("AssociationIds", 10, ID)?;
    if ids.is_empty() {
        return Err(ApiError::constraint("[]", "AssociationIds", "Member must have length greater than or equal to 1"));
    }
    if let Some(missing) = ids.iter().find(|id| !state.associations.contains_key(**id)) {
        return Err(none(missing));
    }
    for id in ids {
        let id = id.to_owned();
        state.after(SOON_S, move |state| run(state, &id, None));
    }
    Ok(json!({}))
}
