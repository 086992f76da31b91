//! Associations and their runs as they are listed.

use super::{Association, Execution, ID, none};
use crate::cloud::{
    command::{Command, Status},
    error::ApiError,
    input::Input,
    page::page,
    state::State,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Of a host's invocation, in State Manager's words.
fn word(status: Status) -> &'static str {
    match status {
        Status::Success => "Success",
        Status::Pending | Status::Delayed => "Pending",
        Status::InProgress | Status::Cancelling => "InProgress",
        Status::DeliveryTimedOut | Status::ExecutionTimedOut => "TimedOut",
        Status::Terminated | Status::Cancelled => "Skipped",
        Status::Failed | Status::Undeliverable | Status::AccessDenied => "Failed",
    }
}

fn counts(command: Option<&Command>) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for invocation in command.into_iter().flat_map(|command| &command.invocations) {
        *counts.entry(word(invocation.status)).or_default() += 1;
    }
    counts
}

/// Status of a run.
fn status(state: &State, execution: &Execution) -> &'static str {
    let Some(command) = execution.command.as_deref().and_then(|id| state.commands.get(id)) else { return "Skipped" };
    match command.is_over() {
        false => "InProgress",
        true if command.count(|status| status != Status::Success) > 0 => "Failed",
        true => "Success",
    }
}

/// An association as most answers show it.
pub(super) fn shown(state: &State, association: &Association) -> Value {
    let last = association.executions.last();
    let command = last.and_then(|last| last.command.as_deref()).and_then(|id| state.commands.get(id));
    let status = last.map_or("Pending", |last| status(state, last));
    let mut shown = json!({
        "Name": association.document, "AssociationId": association.id,
        "AssociationVersion": association.number.to_string(), "Date": state.stamp_at(association.created_s),
        "LastUpdateAssociationDate": state.stamp_at(association.updated_s),
        "Overview": {"Status": status, "DetailedStatus": status, "AssociationStatusAggregatedCount": counts(command)},
        "DocumentVersion": association.version, "Parameters": association.parameters, "Targets": association.targets,
        "ComplianceSeverity": association.severity, "SyncCompliance": association.sync,
        "ApplyOnlyAtCronInterval": association.only_at_interval, "CalendarNames": association.calendars,
    });
    let optional = [
        ("ScheduleExpression", association.schedule.as_deref()),
        ("AssociationName", association.name.as_deref()),
        ("MaxErrors", association.max_errors.as_deref()),
        ("MaxConcurrency", association.max_concurrency.as_deref()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            shown[name] = value.into();
        }
    }
    if let Some(last) = last {
        shown["LastExecutionDate"] = state.stamp_at(last.created_s).into();
    }
    shown
}

fn asked<'a>(state: &'a State, input: &Input<'_>) -> Result<&'a Association, ApiError> {
    let id = input.required("AssociationId")?;
    input.pattern("AssociationId", ID)?;
    state.associations.get(id).ok_or_else(|| none(id))
}

fn listed(member: &str, all: &[Value], of: &str, input: &Input<'_>) -> Result<Value, ApiError> {
    let size = input.integer("MaxResults", 1..=50)?.unwrap_or(50) as usize;
    let (items, next) = page(all, of, input.text("NextToken")?, size)?;
    let mut output = Map::from_iter([(member.to_owned(), items.into())]);
    output.extend(next.map(|next| ("NextToken".to_owned(), next.into())));
    Ok(output.into())
}

pub fn describe(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AssociationId", "AssociationVersion"])?;
    Ok(json!({ "AssociationDescription": shown(state, asked(state, &input)?) }))
}

pub fn list(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AssociationFilterList", "MaxResults", "NextToken"])?;
    let mut filters = Vec::new();
    for filter in input.list("AssociationFilterList", 5)? {
        let filter = Input::new(filter, &["key", "value"])?;
        let key = filter.required("key")?;
        if !["Name", "AssociationId", "AssociationName", "AssociationStatusName"].contains(&key) {
            return Err(ApiError::unsupported(format_args!("the filter {key}")));
        }
        filters.push((key, filter.required("value")?));
    }
    let brief = ["Name", "AssociationId", "AssociationVersion", "DocumentVersion", "Targets", "LastExecutionDate"];
    let brief = [&brief[..], &["Overview", "ScheduleExpression", "AssociationName"]].concat();
    let mut all = Vec::new();
    for association in state.associations.values() {
        let whole = shown(state, association);
        let passes = filters.iter().all(|(key, value)| match *key {
            "AssociationStatusName" => whole["Overview"]["Status"] == *value,
            key => whole[key] == *value,
        });
        if passes {
            let kept = whole.as_object().into_iter().flatten().filter(|(name, _)| brief.contains(&name.as_str()));
            all.push(Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect()));
        }
    }
    listed("Associations", &all, &format!("associations {filters:?}"), &input)
}

pub fn describe_executions(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AssociationId", "MaxResults", "NextToken"])?;
    let association = asked(state, &input)?;
    let one = |execution: &Execution| {
        let command = execution.command.as_deref().and_then(|id| state.commands.get(id));
        let counts: Vec<String> = counts(command).iter().map(|(name, count)| format!("{name}={count}")).collect();
        let status = status(state, execution);
        json!({
            "AssociationId": association.id, "AssociationVersion": association.number.to_string(),
            "ExecutionId": execution.id, "Status": status,
            "DetailedStatus": execution.skipped.as_deref().unwrap_or(status),
            "CreatedTime": state.stamp_at(execution.created_s),
            "ResourceCountByStatus": format!("{{{}}}", counts.join(", ")),
        })
    };
    let all: Vec<Value> = association.executions.iter().rev().map(one).collect();
    listed("AssociationExecutions", &all, &format!("executions {}", association.id), &input)
}

pub fn describe_execution_targets(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AssociationId", "ExecutionId", "MaxResults", "NextToken"])?;
    let association = asked(state, &input)?;
    let id = input.required("ExecutionId")?;
    let execution = association.executions.iter().find(|execution| execution.id == id);
    let execution = execution.ok_or_else(|| ApiError::new("AssociationExecutionDoesNotExist", id))?;
    let command = execution.command.as_deref().and_then(|id| state.commands.get(id));
    let one = |(invocation, command): (&crate::cloud::command::Invocation, &Command)| {
        json!({
            "AssociationId": association.id, "AssociationVersion": association.number.to_string(),
            "ExecutionId": id, "ResourceId": invocation.instance, "ResourceType": "ManagedInstance",
            "Status": word(invocation.status), "DetailedStatus": invocation.status.details(),
            "LastExecutionDate": state.stamp_at(invocation.ended_s.unwrap_or(command.requested_s)),
            "OutputSource": {"OutputSourceId": command.id, "OutputSourceType": "RunCommand"},
        })
    };
    let all: Vec<Value> =
        command.into_iter().flat_map(|of| of.invocations.iter().map(move |one| (one, of))).map(one).collect();
    listed("AssociationExecutionTargets", &all, &format!("targets {id}"), &input)
}
