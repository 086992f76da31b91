//! An execution from its first step to its last.

use super::{
    actions::{self, Failure},
    branch,
    document::ITERATIONS,
    store::{Parent, Step, Stop, log},
    values::{Scope, plain, texts},
};
use crate::cloud::Shared;
use serde_json::{Map, Value, json};
use std::{pin::Pin, sync::Arc};
use tokio::{sync::watch, time::Instant};

/// What AWS shows for an output that there is not.
const NO_OUTPUT: &str = "No output available yet because the step is not successfully executed";

/// How a list of steps ended.
enum Flow {
    Done,
    /// A step failed for good: why, and whether its time was up.
    Aborted(String, bool),
    Cancelled,
    Completed,
    /// On to a step outside of the loop: which, the status that the loop ends with, and why.
    Left(String, &'static str, Option<String>),
}

/// Seconds that the steps have that are gone to on a cancel.
const CANCEL_S: f64 = 120.0;

pub struct Run {
    shared: Arc<Shared>,
    id: String,
    scope: Scope,
    stop: watch::Receiver<Stop>,
    /// A step failed that the execution went on after.
    critical: Option<String>,
    /// The role that scripts act with.
    role: Option<String>,
    /// It was cancelled, and goes on until then at most.
    until: Option<Instant>,
}

/// Runs execution `id` to its end.
pub async fn run(shared: Arc<Shared>, id: String, content: Arc<Value>, scope: Scope, stop: watch::Receiver<Stop>) {
    let role = content.get("assumeRole").and_then(|role| scope.fill(role).ok()).map(|role| plain(&role));
    let role = role.filter(|role| !role.is_empty());
    let mut run = Run { shared, id, scope, stop, critical: None, role, until: None };
    log(&run.shared, &run.id, "", "InProgress");
    let steps = as_steps(&content["mainSteps"]);
    let flow = run.steps(&steps, None).await;
    let (status, failure) = match (flow, run.critical.take()) {
        _ if run.until.is_some() => ("Cancelled", None),
        (Flow::Cancelled, _) => ("Cancelled", None),
        (Flow::Left(to, ..), _) => ("Failed", Some(format!("there is no step {to} to go to"))),
        (Flow::Aborted(why, true), _) => ("TimedOut", Some(why)),
        (Flow::Aborted(why, false), _) => ("Failed", Some(why)),
        (_, Some(why)) => ("Failed", Some(why)),
        (Flow::Done | Flow::Completed, None) => ("Success", None),
    };
    let outputs = content["outputs"].as_array().into_iter().flatten().filter_map(Value::as_str).map(|name| {
        let found = name.split_once('.').and_then(|(step, output)| run.scope.outputs.get(step)?.get(output));
        (name.to_owned(), json!(found.map_or_else(|| vec![NO_OUTPUT.to_owned()], texts)))
    });
    let outputs: Map<_, _> = outputs.collect();
    let now_s = run.shared.clock.now_s();
    run.shared.automation.change(&run.id, |execution| {
        execution.status = status.into();
        execution.ended_s = Some(now_s);
        execution.failure = failure;
        execution.outputs = outputs;
        // Steps that were never come to.
        execution.steps.retain(|step| step.began_s.is_some() || status == "Success");
    });
    log(&run.shared, &run.id, "", status);
}

pub fn as_steps(value: &Value) -> Vec<Arc<Value>> {
    value.as_array().into_iter().flatten().cloned().map(Arc::new).collect()
}

impl Run {
    /// Runs steps from the first on. Boxed: a loop's are run from within.
    fn steps<'a>(
        &'a mut self,
        steps: &'a [Arc<Value>],
        parent: Option<&'a Parent>,
    ) -> Pin<Box<dyn Future<Output = Flow> + Send + 'a>> {
        Box::pin(async move {
            let at = |name: &str| steps.iter().position(|step| step["name"] == *name);
            let mut here = 0;
            while let Some(step) = steps.get(here) {
                let stop = *self.stop.borrow();
                let mut left = ("Cancelled", None);
                let mut next = step["nextStep"].as_str().map(str::to_owned);
                match stop {
                    Stop::Cancel if self.until.is_none() => match self.on_cancel(step) {
                        Some(to) => match at(&to) {
                            Some(step) => {
                                here = step;
                                continue;
                            }
                            None => return Flow::Left(to, left.0, left.1),
                        },
                        None => return Flow::Cancelled,
                    },
                    Stop::Complete => return Flow::Completed,
                    Stop::Cancel | Stop::No => {}
                }
                let id = self.begin(step, parent);
                let done = self.attempts(step, &id).await;
                match done {
                    Ok(Done::Outputs(outputs)) => self.end(&id, step, outputs, "Success", None),
                    Ok(Done::Go(to)) => {
                        self.end(&id, step, Map::new(), "Success", None);
                        next = Some(to);
                    }
                    Err(Failure::Cancelled) => {
                        self.end(&id, step, Map::new(), "Cancelled", None);
                        match self.on_cancel(step) {
                            Some(to) => next = Some(to),
                            None => return Flow::Cancelled,
                        }
                    }
                    Err(Failure::Left(to, status, why)) => {
                        self.end(&id, step, Map::new(), status, why.clone());
                        left = (status, why);
                        next = Some(to);
                    }
                    Err(Failure::Completed) => {
                        self.end(&id, step, Map::new(), "Success", None);
                        return Flow::Completed;
                    }
                    Err(Failure::Failed(why) | Failure::TimedOut(why)) if self.goes_on(step, &why, &mut next) => {
                        self.end(&id, step, Map::new(), "Failed", Some(why.clone()));
                        left = ("Failed", Some(why));
                    }
                    Err(Failure::Failed(why)) => {
                        self.end(&id, step, Map::new(), "Failed", Some(why.clone()));
                        return Flow::Aborted(why, false);
                    }
                    Err(Failure::TimedOut(why)) => {
                        self.end(&id, step, Map::new(), "TimedOut", Some(why.clone()));
                        return Flow::Aborted(why, true);
                    }
                }
                if step["isEnd"].as_bool() == Some(true) {
                    return Flow::Done;
                }
                here = match next {
                    Some(name) => match at(&name) {
                        Some(step) => step,
                        None => return Flow::Left(name, left.0, left.1),
                    },
                    None => here + 1,
                };
            }
            Flow::Done
        })
    }

    /// Where onCancel goes to. From now on the steps have little time, and cannot be cancelled again.
    fn on_cancel(&mut self, step: &Value) -> Option<String> {
        let to = step["onCancel"].as_str()?.strip_prefix("step:").filter(|_| self.until.is_none())?;
        self.until = Some(Instant::now() + self.shared.clock.real(CANCEL_S));
        Some(to.to_owned())
    }

    /// What onFailure says.
    fn goes_on(&mut self, step: &Value, why: &str, next: &mut Option<String>) -> bool {
        let on_failure = step["onFailure"].as_str().unwrap_or("Abort");
        let to = on_failure.strip_prefix("step:");
        if let Some(to) = to {
            *next = Some(to.to_owned());
        }
        let goes_on = to.is_some() || on_failure == "Continue";
        if goes_on && step["isCritical"].as_bool() != Some(false) {
            self.critical = Some(why.to_owned());
        }
        goes_on
    }

    async fn attempts(&mut self, step: &Arc<Value>, id: &str) -> Result<Done, Failure> {
        let attempts = step["maxAttempts"].as_u64().unwrap_or(1).max(1);
        for attempt in 1..=attempts {
            match self.attempt(step, id).await {
                Err(Failure::Failed(_)) if attempt < attempts => {}
                done => return done,
            }
        }
        Err(Failure::Failed("maxAttempts is 0".into()))
    }

    async fn attempt(&mut self, step: &Arc<Value>, id: &str) -> Result<Done, Failure> {
        let action = step["action"].as_str().unwrap_or_default();
        if action == "aws:loop" {
            return self.repeat(step, id).await;
        }
        let inputs = self.scope.fill(&step["inputs"]).map_err(failed)?;
        let shown = inputs.as_object().cloned().unwrap_or_default();
        self.shared.automation.change(&self.id, |execution| {
            if let Some(step) = execution.step(id) {
                step.inputs = shown;
            }
        });
        match action {
            "aws:branch" => {
                let chosen = inputs["Choices"].as_array().into_iter().flatten().find(|choice| branch::holds(choice));
                let to = chosen.map_or(&inputs["Default"], |choice| &choice["NextStep"]);
                to.as_str()
                    .map(|to| Done::Go(to.to_owned()))
                    .ok_or_else(|| failed("no choice holds, and there is no Default"))
            }
            "aws:updateVariable" => self.update(&inputs).map(|()| Done::Outputs(Map::new())),
            _ => {
                let default_s = if action == "aws:executeScript" {
                    600
                } else if action == "aws:approve" {
                    604_800
                } else {
                    3_600
                };
                let limit_s = step["timeoutSeconds"].as_u64().unwrap_or(default_s) as f64;
                let limit = self.shared.clock.real(limit_s);
                let (mut stop, until) = (self.stop.clone(), self.until);
                let cancelled = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until).await,
                        // Its other end is kept with the execution.
                        None => drop(stop.wait_for(|stop| *stop == Stop::Cancel).await),
                    }
                };
                let role = self.role.as_deref();
                tokio::select! {
                    done = actions::act(&self.shared, &self.id, id, step, &inputs, role) => done.map(Done::Outputs),
                    () = tokio::time::sleep(limit) => Err(Failure::TimedOut(format!("Step timed out while {action} was running: {limit_s} seconds"))),
                    () = cancelled => Err(Failure::Cancelled),
                }
            }
        }
    }

    fn update(&mut self, inputs: &Value) -> Result<(), Failure> {
        let name = inputs["Name"].as_str().and_then(|name| name.strip_prefix("variable:")).unwrap_or_default();
        let value = &inputs["Value"];
        let found = self.shared.automation.change(&self.id, |execution| {
            let kind = execution.content["variables"][name]["type"].as_str().unwrap_or_default();
            if !super::values::is_of(value, kind) {
                return Err(failed(format!("the variable {name} is of type {kind}, and the value is not: {value}")));
            }
            super::values::fits_a_variable(value)
                .map_err(|why| failed(format!("the variable {name} was given {why}")))?;
            execution.variables.insert(name.to_owned(), value.clone());
            Ok(())
        });
        found.unwrap_or_else(|| Err(failed("the execution is gone")))?;
        self.scope.variables.insert(name.to_owned(), value.clone());
        Ok(())
    }

    async fn repeat(&mut self, step: &Value, id: &str) -> Result<Done, Failure> {
        let (inputs, name) = (&step["inputs"], step["name"].as_str().unwrap_or_default());
        let steps = as_steps(&inputs["Steps"]);
        let condition = inputs.get("LoopCondition");
        let values = match inputs.get("Iterators") {
            Some(iterators) => self.scope.fill(iterators).map_err(failed)?.as_array().cloned().unwrap_or_default(),
            None => Vec::new(),
        };
        let most = match condition {
            Some(_) => inputs["MaxIterations"].as_u64().unwrap_or(ITERATIONS),
            None if values.len() as u64 > ITERATIONS => {
                return Err(failed(format!("there are more than {ITERATIONS} iterators")));
            }
            None => values.len() as u64,
        };
        for iteration in 1..=most {
            let value = values.get(iteration as usize - 1);
            if let Some(value) = value {
                let current = Map::from_iter([("CurrentIteratorValue".to_owned(), value.clone())]);
                self.scope.outputs.insert(name.to_owned(), current);
            }
            let parent = Parent { id: id.to_owned(), name: name.to_owned(), iteration, value: value.map(plain) };
            match self.steps(&steps, Some(&parent)).await {
                Flow::Done => {}
                Flow::Aborted(why, false) => return Err(failed(why)),
                Flow::Aborted(why, true) => return Err(Failure::TimedOut(why)),
                Flow::Cancelled => return Err(Failure::Cancelled),
                Flow::Left(to, status, why) => return Err(Failure::Left(to, status, why)),
                Flow::Completed => return Err(Failure::Completed),
            }
            if let Some(condition) = condition
                && !branch::holds(&self.scope.fill(condition).map_err(failed)?)
            {
                break;
            }
        }
        Ok(Done::Outputs(Map::new()))
    }

    fn begin(&self, declared: &Arc<Value>, parent: Option<&Parent>) -> String {
        let (now_s, fresh) = {
            let mut state = self.shared.state();
            (state.now_s(), state.uuid())
        };
        let name = declared["name"].as_str().unwrap_or_default();
        let id = self.shared.automation.change(&self.id, |execution| {
            let pending = |step: &Step| {
                step.began_s.is_none() && step.parent.is_none() && parent.is_none() && step.name() == name
            };
            let mut step = match execution.steps.iter().position(pending) {
                Some(at) => execution.steps.remove(at),
                None => pending_step(fresh, declared.clone(), parent.cloned()),
            };
            step.status = "InProgress".into();
            step.began_s = Some(now_s);
            let id = step.id.clone();
            let first_to_come = execution.steps.iter().position(|step| step.began_s.is_none());
            execution.steps.insert(first_to_come.unwrap_or(execution.steps.len()), step);
            id
        });
        log(&self.shared, &self.id, name, "InProgress");
        id.unwrap_or_default()
    }

    fn end(&mut self, id: &str, declared: &Value, outputs: Map<String, Value>, status: &str, failure: Option<String>) {
        let now_s = self.shared.clock.now_s();
        let name = declared["name"].as_str().unwrap_or_default();
        self.shared.automation.change(&self.id, |execution| {
            if let Some(step) = execution.step(id) {
                step.status = status.into();
                step.ended_s = Some(now_s);
                step.outputs = outputs.iter().map(|(name, value)| (name.clone(), json!(texts(value)))).collect();
                step.failure = failure;
            }
        });
        if status == "Success" {
            self.scope.outputs.entry(name.to_owned()).or_default().extend(outputs);
        }
        log(&self.shared, &self.id, name, status);
    }
}

/// A step that has not begun.
pub fn pending_step(id: String, declared: Arc<Value>, parent: Option<Parent>) -> Step {
    Step {
        id,
        declared,
        parent,
        status: "Pending".into(),
        began_s: None,
        ended_s: None,
        inputs: Map::new(),
        outputs: Map::new(),
        failure: None,
        decisions: Vec::new(),
    }
}

fn failed(why: impl ToString) -> Failure {
    Failure::Failed(why.to_string())
}

/// What came of a step.
enum Done {
    Outputs(Map<String, Value>),
    /// On to another step.
    Go(String),
}
