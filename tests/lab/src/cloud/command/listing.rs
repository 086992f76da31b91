//! Commands and invocations as they are listed: in pages, cut, and a little late.

use super::{
    Command, Invocation, Plugin, Status,
    output::{self, LISTED},
    send::INSTANCE,
};
use crate::{
    clock::iso,
    cloud::{error::ApiError, input::Input, page::page, state::State},
};
use serde_json::{Map, Value, json};

/// A command as SendCommand and ListCommands show it.
pub(super) fn shown(state: &State, command: &Command) -> Value {
    let (status, details) = command.status();
    let expires_s = command.requested_s + command.delivery_s + command.execution_s;
    json!({
        "CommandId": command.id, "DocumentName": command.document, "DocumentVersion": command.version,
        "Comment": command.comment, "ExpiresAfter": state.stamp_at(expires_s), "Parameters": command.parameters,
        "InstanceIds": command.instance_ids, "Targets": command.targets,
        "RequestedDateTime": state.stamp_at(command.requested_s), "Status": status, "StatusDetails": details,
        "OutputS3BucketName": "", "OutputS3KeyPrefix": "", "OutputS3Region": "eu-west-1",
        "MaxConcurrency": command.max_concurrency, "MaxErrors": command.max_errors,
        "TargetCount": command.invocations.len(), "CompletedCount": command.count(Status::is_over),
        "ErrorCount": command.count(Status::is_error),
        "DeliveryTimedOutCount": command.count(|status| status == Status::DeliveryTimedOut),
        "ServiceRole": "", "NotificationConfig": {"NotificationArn": "", "NotificationEvents": [], "NotificationType": ""},
        "CloudWatchOutputConfig": {"CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": false},
        "TimeoutSeconds": command.delivery_s as i64,
    })
}

struct Filters<'a> {
    key: &'a str,
    value: &'a str,
}

fn filters<'a>(input: &Input<'a>) -> Result<Vec<Filters<'a>>, ApiError> {
    let keys = ["InvokedAfter", "InvokedBefore", "Status", "ExecutionStage", "DocumentName"];
    let one = |filter: &'a Value| {
        let filter = Input::new(filter, &["key", "value"])?;
        filter.one_of("key", &keys)?;
        filter.sized("value", 1..=128)?;
        Ok(Filters { key: filter.required("key")?, value: filter.required("value")? })
    };
    input.list("Filters", 5)?.iter().map(one).collect()
}

fn passes(state: &State, filters: &[Filters<'_>], command: &Command, status: &str, over: bool) -> bool {
    let requested = || iso(state.stamp_at(command.requested_s) as u64);
    filters.iter().all(|Filters { key, value }| match *key {
        "InvokedAfter" => requested().as_str() > *value,
        "InvokedBefore" => requested().as_str() < *value,
        "Status" => status == *value,
        "ExecutionStage" => *value == if over { "Complete" } else { "Executing" },
        _ => command.document == *value,
    })
}

/// Whether lists know of the command yet, and it is one that they show.
fn seen(state: &State, command: &Command) -> bool {
    command.association.is_none() && state.now_s() >= command.requested_s + state.options.settle_s
}

/// The members that both lists have, with the page they ask for.
const MEMBERS: [&str; 6] = ["CommandId", "InstanceId", "MaxResults", "NextToken", "Filters", "Details"];

fn finished(member: &str, items: Vec<Value>, next: Option<String>) -> Value {
    let mut output = Map::from_iter([(member.to_owned(), items.into())]);
    output.extend(next.map(|next| ("NextToken".to_owned(), next.into())));
    output.into()
}

pub fn list(state: &State, input: &Value) -> Result<Value, ApiError> {
    let of = list_name(input);
    let input = Input::new(input, &MEMBERS[..5])?;
    let (id, instance) = (input.sized("CommandId", 36..=36)?, input.pattern("InstanceId", INSTANCE)?);
    let size = input.integer("MaxResults", 1..=50)?.unwrap_or(50) as usize;
    let filters = filters(&input)?;
    let chosen: Vec<&Command> = state
        .commands
        .latest_first()
        .filter(|command| seen(state, command) && id.is_none_or(|id| command.id == id))
        .filter(|command| instance.is_none_or(|one| command.invocations.iter().any(|of| of.instance == one)))
        .filter(|command| passes(state, &filters, command, command.status().0, command.is_over()))
        .collect();
    let (items, next) = page(&chosen, &of, input.text("NextToken")?, size)?;
    Ok(finished("Commands", items.into_iter().map(|command| shown(state, command)).collect(), next))
}

/// What a token belongs to: the request without the token.
fn list_name(request: &Value) -> String {
    let mut request = request.clone();
    if let Some(members) = request.as_object_mut() {
        members.remove("NextToken");
    }
    request.to_string()
}

pub fn list_invocations(state: &State, input: &Value) -> Result<Value, ApiError> {
    let of = list_name(input);
    let input = Input::new(input, &MEMBERS)?;
    let (id, instance) = (input.sized("CommandId", 36..=36)?, input.pattern("InstanceId", INSTANCE)?);
    let size = input.integer("MaxResults", 1..=50)?.unwrap_or(50) as usize;
    let details = input.boolean("Details")?;
    let filters = filters(&input)?;
    let commands = id.map_or_else(
        || state.commands.latest_first().collect(),
        |id| state.commands.get(id).into_iter().collect::<Vec<_>>(),
    );
    let chosen: Vec<(&Command, &Invocation)> = commands
        .into_iter()
        .filter(|command| seen(state, command))
        .flat_map(|command| command.invocations.iter().map(move |invocation| (command, invocation)))
        .filter(|(_, invocation)| instance.is_none_or(|instance| invocation.instance == instance))
        .filter(|(command, of)| passes(state, &filters, command, of.status.word(), of.status.is_over()))
        .collect();
    let (items, next) = page(&chosen, &of, input.text("NextToken")?, size)?;
    let items = items.into_iter().map(|(command, invocation)| shown_invocation(state, command, invocation, details));
    Ok(finished("CommandInvocations", items.collect(), next))
}

fn shown_invocation(state: &State, command: &Command, invocation: &Invocation, details: bool) -> Value {
    let plugins: Vec<Value> = if details {
        plugins(command, invocation).iter().map(|plugin| shown_plugin(state, plugin)).collect()
    } else {
        Vec::new()
    };
    let name = state.hosts.get(&invocation.instance).and_then(|host| host.tag("Name")).unwrap_or_default();
    json!({
        "CommandId": command.id, "InstanceId": invocation.instance, "InstanceName": name,
        "Comment": command.comment, "DocumentName": command.document, "DocumentVersion": command.version,
        "RequestedDateTime": state.stamp_at(invocation.sent_s.unwrap_or(command.requested_s)),
        "Status": invocation.status.word(), "StatusDetails": invocation.status.details(),
        "StandardOutputUrl": "", "StandardErrorUrl": "", "CommandPlugins": plugins, "ServiceRole": "",
        "NotificationConfig": {"NotificationArn": "", "NotificationEvents": [], "NotificationType": ""},
        "CloudWatchOutputConfig": {"CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": false},
    })
}

/// Its plugins, or where none has said anything yet, the first with the invocation's own status.
fn plugins(command: &Command, invocation: &Invocation) -> Vec<Plugin> {
    if !invocation.plugins.is_empty() {
        return invocation.plugins.clone();
    }
    let name = command.content.pointer("/mainSteps/0/name").and_then(Value::as_str).unwrap_or_default();
    vec![Plugin {
        name: name.to_owned(),
        status: invocation.status,
        code: -1,
        stdout: String::new(),
        stderr: String::new(),
        began_s: invocation.began_s.unwrap_or_default(),
        ended_s: invocation.ended_s.unwrap_or_default(),
    }]
}

fn shown_plugin(state: &State, plugin: &Plugin) -> Value {
    let mut shown = json!({
        "Name": plugin.name, "Status": plugin.status.word(), "StatusDetails": plugin.status.details(),
        "ResponseCode": plugin.code, "Output": output::joined(&plugin.stdout, &plugin.stderr, LISTED),
        "StandardOutputUrl": "", "StandardErrorUrl": "", "OutputS3Region": "eu-west-1",
        "OutputS3BucketName": "", "OutputS3KeyPrefix": "",
    });
    if plugin.status.is_over() && plugin.began_s > 0.0 {
        shown["ResponseStartDateTime"] = state.stamp_at(plugin.began_s).into();
        shown["ResponseFinishDateTime"] = state.stamp_at(plugin.ended_s).into();
    }
    shown
}

pub fn get_invocation(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["CommandId", "InstanceId", "PluginName"])?;
    let (id, instance) = (input.required("CommandId")?, input.required("InstanceId")?);
    input.sized("CommandId", 36..=36)?;
    input.pattern("InstanceId", INSTANCE)?;
    let name = input.sized("PluginName", 4..=500)?;
    let none = || ApiError::new("InvocationDoesNotExist", "");
    let command = state.commands.get(id).filter(|command| seen(state, command)).ok_or_else(none)?;
    let invocation = command.invocations.iter().find(|of| of.instance == instance).ok_or_else(none)?;
    let plugins = plugins(command, invocation);
    let several = command.content["mainSteps"].as_array().is_some_and(|steps| steps.len() > 1);
    let chosen = match name {
        Some(name) => plugins.iter().find(|plugin| plugin.name == name || name == "aws:runShellScript"),
        None if several => {
            return Err(ApiError::new("InvalidPluginName", "The document has several plugins: name one."));
        }
        None => plugins.first(),
    };
    let plugin = chosen.ok_or_else(|| ApiError::new("InvalidPluginName", name.unwrap_or_default()))?;
    let time = |at_s: f64| iso(state.stamp_at(at_s) as u64).replace('Z', ".000Z");
    let began = invocation.began_s.map(time).unwrap_or_default();
    let ended = invocation.ended_s.filter(|_| invocation.began_s.is_some()).map(time).unwrap_or_default();
    let elapsed = match (invocation.began_s, invocation.ended_s) {
        (Some(began_s), Some(ended_s)) => format!("PT{:.3}S", ended_s - began_s),
        _ => String::new(),
    };
    Ok(json!({
        "CommandId": command.id, "InstanceId": invocation.instance, "Comment": command.comment,
        "DocumentName": command.document, "DocumentVersion": command.version, "PluginName": plugin.name,
        "ResponseCode": plugin.code, "ExecutionStartDateTime": began, "ExecutionElapsedTime": elapsed,
        "ExecutionEndDateTime": ended, "Status": plugin.status.word(), "StatusDetails": plugin.status.details(),
        "StandardOutputContent": output::stdout(&plugin.stdout), "StandardOutputUrl": "",
        "StandardErrorContent": output::stderr(&plugin.stderr), "StandardErrorUrl": "",
        "CloudWatchOutputConfig": {"CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": false},
    }))
}
