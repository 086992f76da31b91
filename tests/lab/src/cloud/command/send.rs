//! SendCommand: what is asked for, looked at, and begun.

use super::{Command, Invocation, Status, behave, run};
use crate::cloud::{
    documents::parameters,
    error::ApiError,
    hosts::{Online, SimulatedHost},
    input::Input,
    state::State,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(in crate::cloud) const INSTANCE: &str = r"i-(\w{8}|\w{17})|mi-\w{17}";
const TARGET_KEY: &str = r"[\p{L}\p{Z}\p{N}_.:/=\-@]*|resource-groups:ResourceTypeFilters|resource-groups:Name";
pub(in crate::cloud) const CONCURRENCY: &str = "([1-9][0-9]*|[1-9][0-9]%|[1-9]%|100%)";
pub(in crate::cloud) const ERRORS: &str = "([1-9][0-9]*|[0]|[1-9][0-9]%|[0-9]%|100%)";
const VERSION: &str = r"[$]LATEST|[$]DEFAULT|[1-9][0-9]*";

/// A command to be, its members already looked at.
#[derive(Debug, Clone, Default)]
pub struct Order {
    pub document: String,
    pub version: Option<String>,
    pub parameters: BTreeMap<String, Vec<String>>,
    pub instance_ids: Vec<String>,
    pub targets: Vec<Value>,
    pub comment: String,
    pub max_concurrency: Option<String>,
    pub max_errors: Option<String>,
    /// Seconds for a host to take it.
    pub delivery_s: Option<f64>,
    pub association: Option<String>,
}

pub fn send(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let members = [
        "InstanceIds",
        "Targets",
        "DocumentName",
        "DocumentVersion",
        "DocumentHash",
        "DocumentHashType",
        "TimeoutSeconds",
        "Comment",
        "Parameters",
        "MaxConcurrency",
        "MaxErrors",
        "CloudWatchOutputConfig",
    ];
    let input = Input::new(input, &members)?;
    let document = input.required("DocumentName")?.to_owned();
    input.pattern("DocumentName", r"[a-zA-Z0-9_\-.:/]{3,128}")?;
    input.one_of("DocumentHashType", &["Sha256", "Sha1"])?;
    let version = input.pattern("DocumentVersion", VERSION)?.map(str::to_owned);
    let instance_ids = input.strings("InstanceIds", 50, INSTANCE)?;
    input.sized("MaxConcurrency", 1..=7)?;
    input.sized("MaxErrors", 1..=7)?;
    let order = Order {
        version,
        parameters: input.lists("Parameters")?,
        instance_ids: instance_ids.into_iter().map(str::to_owned).collect(),
        targets: targets(&input)?,
        comment: input.sized("Comment", 0..=100)?.unwrap_or_default().to_owned(),
        max_concurrency: input.pattern("MaxConcurrency", CONCURRENCY)?.map(str::to_owned),
        max_errors: input.pattern("MaxErrors", ERRORS)?.map(str::to_owned),
        delivery_s: input.integer("TimeoutSeconds", 30..=2_592_000)?.map(|seconds| seconds as f64),
        association: None,
        document,
    };
    if let Some(hash) = input.sized("DocumentHash", 0..=256)? {
        let (_, found) = state.documents.version(&order.document, order.version.as_deref())?;
        if found.hash != hash {
            return Err(ApiError::new("InvalidDocument", "The document hash does not match."));
        }
    }
    let id = send_order(state, order)?;
    let command = state.commands.get(&id).map(|command| super::listing::shown(state, command));
    let mut command = command.unwrap_or_default();
    if input.has("Targets") {
        // Who they are is found out afterwards.
        command["TargetCount"] = 0.into();
    }
    command["Status"] = "Pending".into();
    command["StatusDetails"] = "Pending".into();
    Ok(json!({ "Command": command }))
}

/// The list `Targets` of a request.
pub(in crate::cloud) fn targets(input: &Input<'_>) -> Result<Vec<Value>, ApiError> {
    for target in input.list("Targets", 5)? {
        let target = Input::new(target, &["Key", "Values"])?;
        target.required("Key")?;
        target.sized("Key", 1..=163)?;
        target.pattern("Key", TARGET_KEY)?;
        target.strings("Values", 50, "")?;
    }
    Ok(input.list("Targets", 5)?.to_vec())
}

/// Managed nodes that all of `targets` are true for, in the order of their IDs.
pub(in crate::cloud) fn chosen(state: &State, targets: &[Value]) -> Result<Vec<String>, ApiError> {
    let mut criteria: Vec<(&str, Vec<&str>)> = Vec::new();
    for target in targets {
        let values = target["Values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let key = target["Key"].as_str().unwrap_or_default();
        if key != "InstanceIds" && !key.starts_with("tag:") {
            return Err(ApiError::new("InvalidTarget", format_args!("the target key {key} is not valid here")));
        }
        criteria.push((key, values));
    }
    let fits = |host: &SimulatedHost| {
        criteria.iter().all(|(key, values)| match key.strip_prefix("tag:") {
            Some(tag) => host.tag(tag).is_some_and(|value| values.contains(&value)),
            None => values.iter().any(|value| *value == host.instance || *value == "*"),
        })
    };
    let there = |host: &&SimulatedHost| !matches!(host.online, Online::NotRegistered | Online::Stopped);
    Ok(state.hosts.iter().filter(there).filter(|host| fits(host)).map(|host| host.instance.clone()).collect())
}

/// A number, or a percentage of `whole`; at least `least`.
fn share(text: &str, whole: usize, least: usize) -> usize {
    let number = |text: &str| text.parse::<usize>().unwrap_or_default();
    text.strip_suffix('%').map_or_else(|| number(text), |percent| whole * number(percent) / 100).max(least)
}

/// Makes a command and begins it; its ID.
///
/// # Errors
///
/// As SendCommand.
pub fn send_order(state: &mut State, order: Order) -> Result<String, ApiError> {
    if order.instance_ids.is_empty() == order.targets.is_empty() {
        return Err(ApiError::validation("One of InstanceIds and Targets has to be there, and not both."));
    }
    let (document, version) = state.documents.version(&order.document, order.version.as_deref())?;
    if document.kind != "Command" {
        let message = format!("Document {} is of type {}, not Command.", document.name, document.kind);
        return Err(ApiError::new("InvalidDocument", message));
    }
    let content = Arc::clone(&version.content);
    let resolved = parameters::resolve(&content, &order.parameters)?;
    let mut seen = BTreeSet::new();
    if let Some(twice) = order.instance_ids.iter().find(|instance| !seen.insert(*instance)) {
        return Err(ApiError::new("DuplicateInstanceId", twice));
    }
    let there = |instance: &&String| {
        state.hosts.get(instance).is_none_or(|host| matches!(host.online, Online::NotRegistered | Online::Stopped))
    };
    let missing: Vec<&String> = order.instance_ids.iter().filter(there).collect();
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.into_iter().map(String::as_str).collect();
        let message = format!(
            "Instances [[{}]] not in a valid state for account {}",
            missing.join(", "),
            crate::region::place::ACCOUNT
        );
        return Err(ApiError::new("InvalidInstanceId", message));
    }
    let hosts = if order.targets.is_empty() { order.instance_ids.clone() } else { chosen(state, &order.targets)? };
    let max_concurrency = order.max_concurrency.unwrap_or_else(|| "50".into());
    let max_errors = order.max_errors.unwrap_or_else(|| "0".into());
    let execution_s = behave::timeout_s(&content, &resolved);
    let id = state.uuid();
    let invocation = |instance: String| Invocation {
        instance,
        status: Status::Pending,
        sent_s: None,
        began_s: None,
        ended_s: None,
        plugins: Vec::new(),
    };
    let command = Command {
        id: id.clone(),
        document: order.document,
        version: order.version.unwrap_or_else(|| "$DEFAULT".into()),
        content,
        parameters: order.parameters,
        resolved: Arc::new(resolved),
        comment: order.comment,
        instance_ids: order.instance_ids,
        targets: order.targets,
        requested_s: state.now_s(),
        concurrency: share(&max_concurrency, hosts.len(), 1),
        errors_allowed: share(&max_errors, hosts.len(), 0),
        max_concurrency,
        max_errors,
        delivery_s: order.delivery_s.unwrap_or(3_600.0),
        execution_s,
        invocations: hosts.into_iter().map(invocation).collect(),
        next: 0,
        in_flight: 0,
        errors: 0,
        window: 1,
        stopped: None,
        association: order.association,
    };
    state.commands.add(command);
    let begun = id.clone();
    // The answer is out before the first host hears of it.
    state.after(0.2, move |state| run::pump(state, &begun));
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_hosts_there_are() {
        assert_eq!(share("10%", 51, 1), 5);
        assert_eq!(share("1%", 51, 1), 1, "never none at once");
        assert_eq!((share("0", 51, 0), share("0%", 51, 0), share("100%", 51, 0), share("7", 3, 1)), (0, 0, 51, 7));
    }
}
