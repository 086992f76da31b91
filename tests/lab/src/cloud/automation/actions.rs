//! The actions that do something outside of the execution.

use super::{
    script,
    store::log,
    values::{Selector, is_of, plain},
};
use crate::cloud::{ApiError, Shared};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

/// How a step comes to nothing.
pub enum Failure {
    Failed(String),
    TimedOut(String),
    /// The execution was cancelled.
    Cancelled,
    /// The execution was to end after the step under way, which was this one's.
    Completed,
    /// A loop that is left for a step outside of it: which, the status that the loop ends with, and why.
    Left(String, &'static str, Option<String>),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Failed(format!("Step fails when it is Execute/Cancelling action. {error}"))
    }
}

fn failed(why: impl ToString) -> Failure {
    Failure::Failed(why.to_string())
}

/// Seconds between two looks at something that is waited for.
const LOOK_S: f64 = 5.0;

/// Carries out the step with ID `step_id` of execution `execution`, scripts with the rights of `role`; gives its outputs.
///
/// # Errors
///
/// Why it failed. Time-outs are the caller's.
pub async fn act(
    shared: &Arc<Shared>,
    execution: &str,
    step_id: &str,
    step: &Value,
    inputs: &Value,
    role: Option<&str>,
) -> Result<Map<String, Value>, Failure> {
    let text = |name: &str| inputs[name].as_str().unwrap_or_default();
    let whole = match step["action"].as_str().unwrap_or_default() {
        "aws:executeScript" => {
            let payload = inputs.get("InputPayload").cloned().unwrap_or_else(|| json!({}));
            let done = script::run(shared, text("Script"), text("Handler"), &payload, role).await;
            let why = |why| failed(format!("Step fails when it is Poll action status for completion. {why}"));
            json!({ "Payload": done.map_err(why)? })
        }
        "aws:executeAwsApi" => call(shared, inputs, &[])?,
        "aws:assertAwsResourceProperty" => {
            let found = property(shared, inputs)?;
            if !desired(inputs, found.as_ref()) {
                return Err(failed(format!("Step fails when it is Verifying. The property is {found:?}")));
            }
            json!({})
        }
        "aws:waitForAwsResourceProperty" => {
            while !desired(inputs, property(shared, inputs)?.as_ref()) {
                pause(shared, LOOK_S).await;
            }
            json!({})
        }
        "aws:runCommand" => run_command(shared, inputs).await?,
        "aws:approve" => approve(shared, execution, step_id, inputs).await?,
        "aws:sleep" => {
            let seconds =
                duration(text("Duration")).ok_or_else(|| failed("only Durations such as PT10M are known here"))?;
            pause(shared, seconds).await;
            json!({})
        }
        other => return Err(failed(format!("the action {other} is not known"))),
    };
    outputs(step, whole)
}

async fn pause(shared: &Shared, seconds: f64) {
    tokio::time::sleep(shared.clock.real(seconds).max(Duration::from_millis(1))).await;
}

/// The outputs that are declared, by their selectors; and those that the action always has.
fn outputs(step: &Value, whole: Value) -> Result<Map<String, Value>, Failure> {
    let mut outputs = Map::new();
    for declared in step["outputs"].as_array().into_iter().flatten() {
        let text = |member: &str| declared[member].as_str().unwrap_or_default();
        let selector = Selector::parse(text("Selector")).map_err(failed)?;
        let (name, kind) = (text("Name"), text("Type"));
        let value = selector
            .pick(&whole)
            .ok_or_else(|| failed(format!("{} of output {name} picks nothing", text("Selector"))))?;
        if !is_of(&value, kind) {
            return Err(failed(format!("the output {name} is to be of type {kind}, and is {value}")));
        }
        outputs.insert(name.to_owned(), value);
    }
    let always = ["aws:executeScript", "aws:runCommand", "aws:approve"];
    if let (true, Value::Object(all)) = (always.contains(&step["action"].as_str().unwrap_or_default()), whole) {
        outputs.extend(all);
    }
    Ok(outputs)
}

/// Calls the API that the inputs name, with the rest of them.
fn call(shared: &Arc<Shared>, inputs: &Value, besides: &[&str]) -> Result<Value, Failure> {
    let own = [&["Service", "Api"], besides].concat();
    let input: Map<String, Value> = inputs
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let service = match inputs["Service"].as_str().unwrap_or_default() {
        "cloudwatch" => "monitoring",
        other => other,
    };
    Ok(shared.call(service, inputs["Api"].as_str().unwrap_or_default(), &input.into())?)
}

fn property(shared: &Arc<Shared>, inputs: &Value) -> Result<Option<Value>, Failure> {
    let answer = call(shared, inputs, &["PropertySelector", "DesiredValues"])?;
    let selector = Selector::parse(inputs["PropertySelector"].as_str().unwrap_or_default()).map_err(failed)?;
    Ok(selector.pick(&answer))
}

fn desired(inputs: &Value, found: Option<&Value>) -> bool {
    let wanted = || inputs["DesiredValues"].as_array().into_iter().flatten().map(plain);
    let is = |value: &Value| wanted().any(|wanted| wanted == plain(value));
    match found {
        Some(Value::Array(list)) => !list.is_empty() && list.iter().all(is),
        Some(value) => is(value),
        None => false,
    }
}

async fn run_command(shared: &Arc<Shared>, inputs: &Value) -> Result<Value, Failure> {
    let sent = shared.call("ssm", "SendCommand", inputs)?;
    let id = sent["Command"]["CommandId"].clone();
    let mut last = Value::Null;
    loop {
        pause(shared, LOOK_S).await;
        let listed = shared.call("ssm", "ListCommands", &json!({ "CommandId": id }))?;
        let status = listed["Commands"][0]["Status"].as_str().unwrap_or("Pending").to_owned();
        if ["Pending", "InProgress", "Cancelling"].contains(&status.as_str()) {
            continue;
        }
        let invocations = shared.call("ssm", "ListCommandInvocations", &json!({ "CommandId": id, "Details": true }))?;
        if let Some(first) = invocations["CommandInvocations"].get(0) {
            last = first["CommandPlugins"][0].clone();
        }
        if status != "Success" {
            return Err(failed(format!(
                "Step fails when it is Polling command. Command {} ended as {status}",
                plain(&id)
            )));
        }
        return Ok(json!({
            "CommandId": id, "Status": status, "ResponseCode": last["ResponseCode"], "Output": last["Output"].as_str().unwrap_or_default(),
        }));
    }
}

/// Waits for the signals that SendAutomationSignal brings.
async fn approve(shared: &Arc<Shared>, execution: &str, step_id: &str, inputs: &Value) -> Result<Value, Failure> {
    let least = inputs["MinRequiredApprovals"].as_u64().unwrap_or(1) as usize;
    let approvers: Vec<String> = inputs["Approvers"].as_array().into_iter().flatten().map(plain).collect();
    if approvers.is_empty() || least > approvers.len() {
        return Err(failed(format!("{least} approvals of {} approvers are wanted", approvers.len())));
    }
    let signals = shared.automation.change(execution, |execution| {
        execution.status = "Waiting".into();
        let step = execution.step(step_id)?;
        step.status = "Waiting".into();
        let name = step.name().to_owned();
        Some((execution.signals.subscribe(), name))
    });
    let Some((mut signals, name)) = signals.flatten() else { return Err(failed("the execution is gone")) };
    log(shared, execution, &name, "Waiting");
    loop {
        let decisions =
            shared.automation.change(execution, |execution| execution.step(step_id).map(|step| step.decisions.clone()));
        let decisions = decisions.flatten().unwrap_or_default();
        let approved = decisions.iter().filter(|(_, approved)| *approved).count();
        let rejected = decisions.iter().find(|(_, approved)| !approved);
        if rejected.is_some() || approved >= least {
            shared.automation.change(execution, |execution| execution.status = "InProgress".into());
        }
        if let Some((who, _)) = rejected {
            return Err(failed(format!("Approval was rejected by {who}")));
        }
        if approved >= least {
            let decisions: Vec<Value> =
                decisions.iter().map(|(who, _)| json!({"approver": who, "decision": "Approve"})).collect();
            return Ok(json!({ "ApprovalStatus": "Approved", "ApproverDecisions": decisions }));
        }
        if signals.changed().await.is_err() {
            return Err(failed("the execution is gone"));
        }
    }
}

/// Seconds of an ISO 8601 duration of days, hours, minutes and seconds.
fn duration(text: &str) -> Option<f64> {
    let (mut seconds, mut number, mut any) = (0.0, String::new(), false);
    for c in text.strip_prefix('P')?.chars() {
        let unit = match c {
            'T' if number.is_empty() => continue,
            '0'..='9' | '.' => {
                number.push(c);
                continue;
            }
            'D' => 86_400.0,
            'H' => 3_600.0,
            'M' => 60.0,
            'S' => 1.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        number.clear();
        any = true;
    }
    (any && number.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("PT1M30S"), Some(90.0));
        assert_eq!(duration("P1DT1H"), Some(90_000.0));
        for wrong in ["", "P", "PT", "10S", "PT10", "PT1X"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn outputs_are_of_the_types_they_are_declared_with() {
        let step = |kind: &str| json!({"action": "aws:executeScript", "outputs": [{"Name": "A", "Selector": "$.Payload.a", "Type": kind}]});
        assert!(outputs(&step("String"), json!({"Payload": {"a": "x"}})).is_ok_and(|all| all["A"] == "x"));
        assert!(outputs(&step("Boolean"), json!({"Payload": {"a": "x"}})).is_err());
        assert!(outputs(&step("String"), json!({"Payload": {}})).is_err());
    }
}
