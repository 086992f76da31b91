//! Automation: executions of runbooks.

mod actions;
mod branch;
mod document;
mod listing;
mod run;
mod script;
mod store;
mod values;

pub use document::validate;
pub use store::Store;

use super::{ApiError, Input, Shared, documents::parameters};
use run::{as_steps, pending_step};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use store::{Execution, OVER, Stop};
use tokio::sync::watch;

/// Operations of Systems Manager that are Automation's.
pub const OPERATIONS: [&str; 6] = [
    "StartAutomationExecution",
    "GetAutomationExecution",
    "DescribeAutomationExecutions",
    "DescribeAutomationStepExecutions",
    "StopAutomationExecution",
    "SendAutomationSignal",
];

const UUID: &str = "[a-fA-F0-9]{8}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{12}";
/// Executions that may run at the same time.
const RUNNING: usize = 100;

/// Answers one of [`OPERATIONS`]. The state is not locked when this is called.
///
/// # Errors
///
/// As the service.
pub fn handle(shared: &Arc<Shared>, op: &str, input: &Value) -> Result<Value, ApiError> {
    match op {
        "StartAutomationExecution" => start(shared, input),
        "GetAutomationExecution" => get(shared, input),
        "DescribeAutomationExecutions" => listing::executions(shared, input),
        "DescribeAutomationStepExecutions" => listing::steps(shared, input),
        "StopAutomationExecution" => stop(shared, input),
        "SendAutomationSignal" => signal(shared, input),
        other => Err(ApiError::new("UnknownOperationException", other)),
    }
}

fn no_such_execution(id: &str) -> ApiError {
    let message = format!("Unable to find Automation with executionId: {id}");
    ApiError::new("AutomationExecutionNotFoundException", message)
}

/// The ID of an execution that a request is about.
fn id_of<'a>(input: &Input<'a>) -> Result<&'a str, ApiError> {
    let id = input.required("AutomationExecutionId")?;
    input.sized("AutomationExecutionId", 36..=36)?;
    Ok(id)
}

fn start(shared: &Arc<Shared>, input: &Value) -> Result<Value, ApiError> {
    let members = ["DocumentName", "DocumentVersion", "Parameters", "ClientToken", "Mode", "Tags"];
    let input = Input::new(input, &members)?;
    let name = input.required("DocumentName")?;
    input.pattern("DocumentName", r"[a-zA-Z0-9_.\-:/]{3,130}")?;
    let version = input.pattern("DocumentVersion", r"[$]LATEST|[$]DEFAULT|[1-9][0-9]*")?;
    let token = input.pattern("ClientToken", UUID)?.map(str::to_owned);
    if input.one_of("Mode", &["Auto", "Interactive"])? == Some("Interactive") {
        return Err(ApiError::unsupported("executions step by step"));
    }
    let given = input.lists("Parameters")?;
    for (name, values) in &given {
        if name.len() > 50
            || values.len() > 50
            || values.iter().any(|value| !(1..=512).contains(&value.chars().count()))
        {
            let constraint = "Map value must satisfy constraint: at most 50 values of 1 to 512 characters each";
            return Err(ApiError::constraint(format_args!("{{{name}={values:?}}}"), "Parameters", constraint));
        }
    }
    let tags = super::tags::read(&input, "Tags")?.into_iter().collect();

    let found = {
        let state = shared.state();
        let (document, version) =
            state.documents.version(name, version).map_err(|error| match error.kind.as_str() {
                "InvalidDocumentVersion" => {
                    ApiError::new("AutomationDefinitionVersionNotFoundException", error.message)
                }
                _ => ApiError::new("AutomationDefinitionNotFoundException", error.message),
            })?;
        (document.name.clone(), document.kind.clone(), version.number.to_string(), version.content.clone())
    };
    let (document, kind, version, content) = found;
    let invalid = |message: String| ApiError::new("InvalidAutomationExecutionParametersException", message);
    if kind != "Automation" {
        let message = format!("Document {document} is of type {kind}, and no runbook");
        return Err(ApiError::new("AutomationDefinitionNotFoundException", message));
    }
    let parameters = parameters::resolve(&content, &given).map_err(|error| invalid(error.message))?;
    let (id, now_s, pending) = {
        let mut state = shared.state();
        let steps = as_steps(&content["mainSteps"]);
        let pending = steps.into_iter().map(|step| pending_step(state.uuid(), step, None)).collect();
        (state.uuid(), state.now_s(), pending)
    };
    let variables: Map<String, Value> = content["variables"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, declared)| Some((name.clone(), declared.get("default")?.clone())))
        .collect();
    let scope = values::Scope {
        execution: id.clone(),
        parameters: values::typed(&content, &parameters),
        variables: variables.clone(),
        began: began(shared.clock.unix_s(now_s)),
        ..values::Scope::default()
    };
    let (stop, stopped) = watch::channel(Stop::No);
    let execution = Execution {
        id: id.clone(),
        document,
        version,
        content: content.clone(),
        parameters,
        given,
        token,
        tags,
        status: "InProgress".into(),
        began_s: now_s,
        ended_s: None,
        outputs: Map::new(),
        variables,
        failure: None,
        steps: pending,
        stop,
        signals: watch::channel(0).0,
    };
    {
        let mut all = shared.automation.lock();
        // Looked for under the lock under which it is entered: of two at once, one starts it.
        let before =
            execution.token.as_ref().and_then(|token| all.iter().find(|other| other.token.as_ref() == Some(token)));
        if let Some(before) = before {
            if before.document != execution.document || before.given != execution.given {
                let message = "The idempotency token was used with other parameters";
                return Err(ApiError::new("IdempotentParameterMismatch", message));
            }
            return Ok(json!({ "AutomationExecutionId": before.id }));
        }
        if all.iter().filter(|other| !OVER.contains(&other.status.as_str())).count() >= RUNNING {
            let message = format!("more than {RUNNING} executions at the same time");
            return Err(ApiError::new("AutomationExecutionLimitExceededException", message));
        }
        all.push(execution);
    }
    shared.runtime.spawn(run::run(shared.clone(), id.clone(), content, scope, stopped));
    Ok(json!({ "AutomationExecutionId": id }))
}

/// `yyyy-MM-dd_HH.mm.ss`
fn began(unix_s: f64) -> String {
    let iso = crate::clock::iso(unix_s as u64);
    iso.trim_end_matches('Z').replace('T', "_").replace(':', ".")
}

fn get(shared: &Arc<Shared>, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AutomationExecutionId"])?;
    let id = id_of(&input)?;
    let shown = shared.automation.change(id, |execution| execution.shown(shared));
    shown.map(|shown| json!({ "AutomationExecution": shown })).ok_or_else(|| no_such_execution(id))
}

fn stop(shared: &Arc<Shared>, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AutomationExecutionId", "Type"])?;
    let id = id_of(&input)?;
    let how = match input.one_of("Type", &["Complete", "Cancel"])? {
        Some("Complete") => Stop::Complete,
        _ => Stop::Cancel,
    };
    let done = shared.automation.change(id, |execution| {
        if OVER.contains(&execution.status.as_str()) {
            let message = format!("Automation execution {id} has ended as {} and cannot be stopped", execution.status);
            return Err(ApiError::new("InvalidAutomationStatusUpdateException", message));
        }
        if how == Stop::Cancel {
            execution.status = "Cancelling".into();
        }
        execution.stop.send_replace(how);
        Ok(json!({}))
    });
    done.unwrap_or_else(|| Err(no_such_execution(id)))
}

fn signal(shared: &Arc<Shared>, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AutomationExecutionId", "SignalType", "Payload"])?;
    let id = id_of(&input)?;
    input.required("SignalType")?;
    let kind = input.one_of("SignalType", &["Approve", "Reject", "StartStep", "StopStep", "Resume", "Revoke"])?;
    let approved = match kind {
        Some("Approve") => true,
        Some("Reject") => false,
        other => return Err(ApiError::unsupported(format_args!("the signal {other:?}"))),
    };
    input.lists("Payload")?;
    let done = shared.automation.change(id, |execution| {
        let refuse = |why: &str| Err(ApiError::new("InvalidAutomationSignalException", why));
        let waiting = execution
            .steps
            .iter_mut()
            .find(|step| step.status == "Waiting" && step.declared["action"] == "aws:approve");
        let Some(step) = waiting else { return refuse("no step of the execution waits for an approval") };
        let caller = store::caller();
        let allowed = step.inputs["Approvers"].as_array().is_some_and(|all| all.iter().any(|one| *one == *caller));
        if !allowed {
            return refuse(&format!("{caller} is none of the approvers"));
        }
        if step.decisions.iter().any(|(who, _)| *who == caller) {
            return refuse(&format!("{caller} has decided already"));
        }
        step.decisions.push((caller, approved));
        execution.signals.send_modify(|count| *count += 1);
        Ok(json!({}))
    });
    done.unwrap_or_else(|| Err(no_such_execution(id)))
}
