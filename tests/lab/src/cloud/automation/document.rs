//! A runbook's steps: read, and looked at as strictly as the service does.

use super::values::{Reference, Selector, is_of, references};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Types of outputs and variables.
const TYPES: [&str; 6] = ["String", "Boolean", "Integer", "StringList", "MapList", "StringMap"];
const STEP: [&str; 13] = [
    "name",
    "action",
    "description",
    "inputs",
    "outputs",
    "nextStep",
    "isEnd",
    "onFailure",
    "onCancel",
    "isCritical",
    "timeoutSeconds",
    "maxAttempts",
    "isCancel",
];
/// The longest that a script may take, in seconds.
pub const SCRIPT_S: u64 = 600;
/// Iterations of a loop.
pub const ITERATIONS: u64 = 100;

/// An action: inputs it must have, inputs it may have, outputs it always has. `None` for inputs: any.
struct Action {
    name: &'static str,
    required: &'static [&'static str],
    optional: Option<&'static [&'static str]>,
    outputs: &'static [&'static str],
}

const ACTIONS: [Action; 10] = [
    Action {
        name: "aws:executeScript",
        required: &["Runtime", "Handler", "Script"],
        optional: Some(&["InputPayload"]),
        outputs: &["Payload"],
    },
    Action { name: "aws:executeAwsApi", required: &["Service", "Api"], optional: None, outputs: &[] },
    Action {
        name: "aws:assertAwsResourceProperty",
        required: &["Service", "Api", "PropertySelector", "DesiredValues"],
        optional: None,
        outputs: &[],
    },
    Action {
        name: "aws:waitForAwsResourceProperty",
        required: &["Service", "Api", "PropertySelector", "DesiredValues"],
        optional: None,
        outputs: &[],
    },
    Action {
        name: "aws:runCommand",
        required: &["DocumentName"],
        optional: Some(&[
            "InstanceIds",
            "Targets",
            "Parameters",
            "Comment",
            "TimeoutSeconds",
            "MaxConcurrency",
            "MaxErrors",
            "DocumentVersion",
        ]),
        outputs: &["CommandId", "Status", "ResponseCode", "Output"],
    },
    Action { name: "aws:branch", required: &["Choices"], optional: Some(&["Default"]), outputs: &[] },
    Action {
        name: "aws:approve",
        required: &["Approvers"],
        optional: Some(&["NotificationArn", "Message", "MinRequiredApprovals"]),
        outputs: &["ApprovalStatus", "ApproverDecisions"],
    },
    Action { name: "aws:sleep", required: &[], optional: Some(&["Duration", "Timestamp"]), outputs: &[] },
    Action {
        name: "aws:loop",
        required: &["Steps"],
        optional: Some(&["LoopCondition", "MaxIterations", "Iterators", "IteratorDataType"]),
        outputs: &["CurrentIteratorValue"],
    },
    Action { name: "aws:updateVariable", required: &["Name", "Value"], optional: Some(&[]), outputs: &[] },
];

/// Runtimes of scripts that are still to be had.
const RUNTIMES: [&str; 2] = ["python3.11", "python3.12"];

fn map<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{what} is not a map"))
}

fn known(value: &Map<String, Value>, members: &[&str], what: &str) -> Result<(), String> {
    match value.keys().find(|key| !members.contains(&key.as_str())) {
        Some(key) => Err(format!("{what}: {key} is not known")),
        None => Ok(()),
    }
}

/// What references may name.
#[derive(Default)]
struct Names {
    parameters: BTreeSet<String>,
    variables: BTreeMap<String, String>,
    outputs: BTreeSet<(String, String)>,
    /// With their actions.
    steps: BTreeMap<String, &'static str>,
}

impl Names {
    fn refer(&self, value: &Value) -> Result<(), String> {
        for reference in references(value)? {
            let there = match &reference {
                Reference::Parameter(name) => self.parameters.contains(name),
                Reference::Variable(name) => self.variables.contains_key(name),
                Reference::Output(step, output) => self.outputs.contains(&(step.clone(), output.clone())),
                Reference::Global(_) | Reference::ExecutionId => true,
            };
            if !there {
                return Err(format!("{reference:?} is not defined in the document"));
            }
        }
        Ok(())
    }
}

/// Looks at a runbook; its parameters' declarations have been looked at.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn validate(content: &Value) -> Result<(), String> {
    let whole = map(content, "the document")?;
    let members =
        ["schemaVersion", "description", "assumeRole", "parameters", "variables", "mainSteps", "outputs", "files"];
    known(whole, &members, "the document")?;
    let parameters = content["parameters"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let mut names = Names { parameters, ..Names::default() };
    for (name, declared) in content["variables"].as_object().into_iter().flatten() {
        let declared = map(declared, name)?;
        known(declared, &["type", "default", "description"], name)?;
        let kind = declared.get("type").and_then(Value::as_str).filter(|kind| TYPES.contains(kind));
        let kind = kind.ok_or_else(|| format!("variable {name}: its type is none of {TYPES:?}"))?;
        if declared.get("default").is_some_and(|default| !is_of(default, kind)) {
            return Err(format!("variable {name}: the default is not of type {kind}"));
        }
        names.variables.insert(name.clone(), kind.to_owned());
    }
    let steps = steps(&content["mainSteps"])?;
    collect(steps, &mut names)?;
    if let Some(role) = whole.get("assumeRole") {
        names.refer(role)?;
    }
    look(steps, &names, &BTreeSet::new())?;
    for output in content["outputs"].as_array().into_iter().flatten() {
        let output = output.as_str().ok_or("outputs is not a list of texts")?;
        names.refer(&format!("{{{{ {output} }}}}").into())?;
    }
    Ok(())
}

fn steps(value: &Value) -> Result<&[Value], String> {
    let steps = value.as_array().filter(|steps| !steps.is_empty());
    steps.map(Vec::as_slice).ok_or_else(|| "the steps are not a list of any".to_owned())
}

fn action(step: &Value) -> Result<&'static Action, String> {
    let name = step["action"].as_str().ok_or("it has no action")?;
    ACTIONS.iter().find(|action| action.name == name).ok_or_else(|| format!("the action {name} is not known"))
}

/// Names of steps and of their outputs, the steps of loops among them.
fn collect(steps: &[Value], names: &mut Names) -> Result<(), String> {
    for step in steps {
        let name = step["name"].as_str().ok_or("a step has no name")?;
        if !crate::cloud::matches("[a-zA-Z0-9_]{3,128}", name) || names.steps.contains_key(name) {
            return Err(format!("the step's name {name} is no name, or is there twice"));
        }
        let wrong = |why: String| format!("step {name}: {why}");
        let action = action(step).map_err(wrong)?;
        names.steps.insert(name.to_owned(), action.name);
        names.outputs.extend(action.outputs.iter().map(|output| (name.to_owned(), (*output).to_owned())));
        for output in step["outputs"].as_array().into_iter().flatten() {
            let output = map(output, "an output").map_err(wrong)?;
            known(output, &["Name", "Selector", "Type"], "an output").map_err(wrong)?;
            let text = |member: &str| output.get(member).and_then(Value::as_str).unwrap_or_default();
            Selector::parse(text("Selector")).map_err(wrong)?;
            if !TYPES.contains(&text("Type")) || text("Name").is_empty() {
                return Err(wrong(format!("the output {} has no type that is known", text("Name"))));
            }
            names.outputs.insert((name.to_owned(), text("Name").to_owned()));
        }
        if action.name == "aws:loop" {
            collect(self::steps(&step["inputs"]["Steps"]).map_err(wrong)?, names)?;
        }
    }
    Ok(())
}

/// `outside`: the steps around the loop that these are in, if they are in one.
fn look(steps: &[Value], names: &Names, outside: &BTreeSet<&str>) -> Result<(), String> {
    let here: BTreeSet<&str> = steps.iter().filter_map(|step| step["name"].as_str()).collect();
    for step in steps {
        let name = step["name"].as_str().unwrap_or_default();
        look_at(step, names, &here, outside).map_err(|why| format!("step {name}: {why}"))?;
    }
    Ok(())
}

/// What a step of this action cannot have, or be gone to by, when an execution is cancelled; as documented.
const NO_ON_CANCEL: [&str; 2] = ["aws:loop", "aws:updateVariable"];
const NOT_ON_CANCEL: [&str; 3] = ["aws:approve", "aws:loop", "aws:sleep"];

fn look_at(step: &Value, names: &Names, here: &BTreeSet<&str>, outside: &BTreeSet<&str>) -> Result<(), String> {
    let action = action(step)?;
    known(map(step, "the step")?, &STEP, "the step")?;
    let inputs = step.get("inputs").ok_or("there are no inputs")?;
    let given = map(inputs, "inputs")?;
    if let Some(missing) = action.required.iter().find(|member| !given.contains_key(**member)) {
        return Err(format!("the input {missing} is missing"));
    }
    if let Some(optional) = action.optional {
        known(given, &[action.required, optional].concat(), "inputs")?;
    }
    let to = |step: &Value| {
        let named = step.as_str().unwrap_or_default();
        if here.contains(named) { Ok(()) } else { Err(format!("there is no step {named} to go to")) }
    };
    step.get("nextStep").map_or(Ok(()), to)?;
    for member in ["onFailure", "onCancel"] {
        match step.get(member).and_then(Value::as_str) {
            None | Some("Abort") => {}
            Some("Continue") if member == "onFailure" => {}
            Some(other) => match other.strip_prefix("step:") {
                // A loop takes over where its steps go to then.
                Some(named) if outside.contains(named) => {}
                Some(named) => to(&named.into())?,
                None => return Err(format!("{member} cannot be {other}")),
            },
        }
    }
    if let Some(on_cancel) = step["onCancel"].as_str() {
        let target = on_cancel.strip_prefix("step:").and_then(|named| names.steps.get(named));
        if NO_ON_CANCEL.contains(&action.name) || target.is_some_and(|target| NOT_ON_CANCEL.contains(target)) {
            return Err(format!("onCancel is not supported from {} to {}", action.name, target.unwrap_or(&"any")));
        }
    }
    if step
        .get("timeoutSeconds")
        .is_some_and(|seconds| !seconds.is_u64() && references(seconds).is_ok_and(|of| of.is_empty()))
    {
        return Err("timeoutSeconds is not a number".into());
    }
    match action.name {
        "aws:loop" => {
            if !outside.is_empty() {
                return Err("a loop in a loop is not known here".into());
            }
            if given.contains_key("LoopCondition") == given.contains_key("Iterators") {
                return Err("it takes either LoopCondition or Iterators".into());
            }
            let most = given.get("MaxIterations").map_or(Some(ITERATIONS), Value::as_u64);
            if !most.is_some_and(|most| (1..=ITERATIONS).contains(&most)) {
                return Err(format!("MaxIterations is 1 to {ITERATIONS}"));
            }
            if let Some(condition) = given.get("LoopCondition") {
                super::branch::validate(condition)?;
                names.refer(condition)?;
            }
            given.get("Iterators").map_or(Ok(()), |iterators| names.refer(iterators))?;
            // Its steps are looked at for themselves.
            return look(steps(&inputs["Steps"])?, names, here);
        }
        "aws:branch" => {
            let choices =
                inputs["Choices"].as_array().filter(|choices| !choices.is_empty()).ok_or("there are no Choices")?;
            for choice in choices {
                to(&choice["NextStep"])?;
                super::branch::validate(choice)?;
            }
            given.get("Default").map_or(Ok(()), to)?;
        }
        "aws:executeScript" => {
            if !RUNTIMES.contains(&inputs["Runtime"].as_str().unwrap_or_default()) {
                return Err(format!("Runtime is none of {RUNTIMES:?}"));
            }
            if step["timeoutSeconds"].as_u64().is_some_and(|seconds| seconds > SCRIPT_S) {
                return Err(format!("a script runs for at most {SCRIPT_S} seconds"));
            }
        }
        "aws:updateVariable" => {
            let name = inputs["Name"].as_str().and_then(|name| name.strip_prefix("variable:")).unwrap_or_default();
            if !names.variables.contains_key(name) {
                return Err(format!("there is no variable {name}"));
            }
        }
        "aws:sleep" if given.len() != 1 => return Err("it takes Duration or Timestamp".into()),
        "aws:assertAwsResourceProperty" | "aws:waitForAwsResourceProperty" => {
            Selector::parse(inputs["PropertySelector"].as_str().unwrap_or_default())?;
        }
        _ => {}
    }
    names.refer(inputs)
}
