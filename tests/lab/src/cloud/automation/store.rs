//! The executions there are, and how they are shown.

use crate::{
    cloud::{Event, Shared},
    region::place::ACCOUNT,
};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Who starts and approves.
pub fn caller() -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/engineer")
}

/// Statuses that are the last.
pub const OVER: [&str; 4] = ["Success", "TimedOut", "Cancelled", "Failed"];

/// What was asked for by StopAutomationExecution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stop {
    #[default]
    No,
    /// After the step under way.
    Complete,
    /// At once.
    Cancel,
}

/// The executions there are, oldest first.
#[derive(Default)]
pub struct Store(Mutex<Vec<Execution>>);

pub struct Execution {
    pub id: String,
    pub document: String,
    pub version: String,
    pub content: Arc<Value>,
    pub parameters: BTreeMap<String, Vec<String>>,
    pub given: BTreeMap<String, Vec<String>>,
    pub token: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub status: String,
    pub began_s: f64,
    pub ended_s: Option<f64>,
    pub outputs: Map<String, Value>,
    pub variables: Map<String, Value>,
    pub failure: Option<String>,
    /// In the order they began, those to come last.
    pub steps: Vec<Step>,
    pub stop: watch::Sender<Stop>,
    /// Counts the signals, so that waiting steps look again.
    pub signals: watch::Sender<u64>,
}

/// The iteration of a loop that a step is of.
#[derive(Debug, Clone)]
pub struct Parent {
    pub id: String,
    pub name: String,
    pub iteration: u64,
    pub value: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub id: String,
    pub declared: Arc<Value>,
    pub parent: Option<Parent>,
    pub status: String,
    pub began_s: Option<f64>,
    pub ended_s: Option<f64>,
    pub inputs: Map<String, Value>,
    /// Lists of texts.
    pub outputs: Map<String, Value>,
    pub failure: Option<String>,
    /// Approver, and whether it was approved.
    pub decisions: Vec<(String, bool)>,
}

impl Step {
    pub fn name(&self) -> &str {
        self.declared["name"].as_str().unwrap_or_default()
    }
}

impl Store {
    pub fn lock(&self) -> MutexGuard<'_, Vec<Execution>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one execution; nothing when it is not there.
    pub fn change<T>(&self, id: &str, change: impl FnOnce(&mut Execution) -> T) -> Option<T> {
        self.lock().iter_mut().find(|execution| execution.id == id).map(change)
    }
}

impl Execution {
    pub fn step(&mut self, id: &str) -> Option<&mut Step> {
        self.steps.iter_mut().find(|step| step.id == id)
    }

    fn current(&self) -> Option<&Step> {
        // Of a loop and the step in it, the step.
        self.steps.iter().rev().find(|step| step.began_s.is_some() && step.ended_s.is_none())
    }

    /// As DescribeAutomationExecutions lists it.
    pub fn metadata(&self, shared: &Shared) -> Value {
        let mut shown = self.common(shared);
        shown["AutomationType"] = "Local".into();
        shown["LogFile"] = "".into();
        shown
    }

    fn common(&self, shared: &Shared) -> Value {
        let mut shown = json!({
            "AutomationExecutionId": self.id, "DocumentName": self.document, "DocumentVersion": self.version,
            "AutomationExecutionStatus": self.status, "ExecutionStartTime": stamp(shared, self.began_s),
            "ExecutedBy": caller(), "Mode": "Auto", "Targets": [], "TargetMaps": [],
            "ResolvedTargets": {"ParameterValues": [], "Truncated": false}, "Outputs": self.outputs,
        });
        if let Some(ended_s) = self.ended_s {
            shown["ExecutionEndTime"] = stamp(shared, ended_s).into();
        }
        if let Some(step) = self.current() {
            shown["CurrentStepName"] = step.name().into();
            shown["CurrentAction"] = step.declared["action"].clone();
        }
        if let Some(failure) = &self.failure {
            shown["FailureMessage"] = failure.as_str().into();
        }
        shown
    }

    /// As GetAutomationExecution shows it.
    pub fn shown(&self, shared: &Shared) -> Value {
        const STEPS: usize = 100;
        let mut shown = self.common(shared);
        shown["StepExecutions"] = self.steps.iter().take(STEPS).map(|step| step.shown(shared)).collect();
        shown["StepExecutionsTruncated"] = (self.steps.len() > STEPS).into();
        shown["Parameters"] = json!(self.parameters);
        let variables = self.variables.iter().map(|(name, value)| (name.clone(), json!(super::values::texts(value))));
        shown["Variables"] = variables.collect::<Map<_, _>>().into();
        let count = |status: &[&str]| {
            let of = |step: &&Step| step.parent.is_none() && status.contains(&step.status.as_str());
            self.steps.iter().filter(of).count()
        };
        shown["ProgressCounters"] = json!({
            "TotalSteps": self.steps.iter().filter(|step| step.parent.is_none()).count(), "SuccessSteps": count(&["Success"]),
            "FailedSteps": count(&["Failed"]), "CancelledSteps": count(&["Cancelled"]), "TimedOutSteps": count(&["TimedOut"]),
        });
        shown
    }
}

impl Step {
    pub fn shown(&self, shared: &Shared) -> Value {
        let declared = &self.declared;
        let inputs = self.inputs.iter().map(|(name, value)| (name.clone(), Value::from(value.to_string())));
        let mut shown = json!({
            "StepExecutionId": self.id, "StepName": self.name(), "Action": declared["action"], "StepStatus": self.status,
            "OnFailure": declared["onFailure"].as_str().unwrap_or("Abort"),
            "MaxAttempts": declared["maxAttempts"].as_u64().unwrap_or(1),
            "Inputs": inputs.collect::<Map<_, _>>(), "Outputs": self.outputs, "OverriddenParameters": {},
            "IsEnd": declared["isEnd"].as_bool().unwrap_or(false), "IsCritical": declared["isCritical"].as_bool().unwrap_or(true),
        });
        for (member, at_s) in [("ExecutionStartTime", self.began_s), ("ExecutionEndTime", self.ended_s)] {
            if let Some(at_s) = at_s {
                shown[member] = stamp(shared, at_s).into();
            }
        }
        if let Some(seconds) = declared["timeoutSeconds"].as_u64() {
            shown["TimeoutSeconds"] = seconds.into();
        }
        if let Some(next) = declared["nextStep"].as_str() {
            shown["NextStep"] = next.into();
        }
        if self.status == "Success" {
            shown["ResponseCode"] = "0".into();
        }
        if let Some(failure) = &self.failure {
            shown["FailureMessage"] = failure.as_str().into();
            shown["Response"] = failure.as_str().into();
            shown["ResponseCode"] = "1".into();
            let details = json!({"FailureStage": "Invocation", "FailureType": "Verification", "Details": {"VerificationErrorMessage": [failure]}});
            shown["FailureDetails"] = details;
        }
        if let Some(parent) = &self.parent {
            let mut of = json!({
                "StepExecutionId": parent.id, "StepName": parent.name, "Action": "aws:loop", "Iteration": parent.iteration,
            });
            if let Some(value) = &parent.value {
                of["IteratorValue"] = value.as_str().into();
            }
            shown["ParentStepDetails"] = of;
        }
        shown
    }
}

pub fn stamp(shared: &Shared, at_s: f64) -> f64 {
    (shared.clock.unix_s(at_s) * 1_000.0).round() / 1_000.0
}

/// Puts a change of status in the cloud's log; `step` is empty for the execution itself.
pub fn log(shared: &Shared, id: &str, step: &str, status: &str) {
    let (execution, step, status) = (id.to_owned(), step.to_owned(), status.to_owned());
    shared.log(|at_s| Event::Automation { execution, step, status, at_s });
}
