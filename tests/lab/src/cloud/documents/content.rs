//! What a document says: read, and looked at as strictly as the service does.

use super::parameters;
use crate::cloud::{automation, error::ApiError, input::matches, yaml};
use regex::Regex;
use serde_json::Value;
use std::{collections::BTreeSet, sync::LazyLock};

/// Bytes of a document.
const SIZE: usize = 64 * 1_024;

fn invalid(why: impl std::fmt::Display) -> ApiError {
    ApiError::new("InvalidDocumentContent", why)
}

/// Reads `text` as a document of type `kind` in `format`.
///
/// # Errors
///
/// As CreateDocument.
pub fn read(text: &str, kind: &str, format: &str) -> Result<Value, ApiError> {
    if text.len() > SIZE {
        let message = format!("The content exceeds the maximum document size of {SIZE} bytes.");
        return Err(ApiError::new("MaxDocumentSizeExceeded", message));
    }
    let content: Value = match format {
        "JSON" => serde_json::from_str(text).map_err(|error| invalid(format_args!("JSON not well-formed: {error}")))?,
        "YAML" => yaml::read(text).map_err(|error| invalid(format_args!("YAML not well-formed: {error}")))?,
        other => return Err(ApiError::unsupported(format_args!("the format {other}"))),
    };
    let version = content.get("schemaVersion").and_then(Value::as_str);
    let version = version.ok_or_else(|| invalid("schemaVersion is not there, or is not text"))?;
    match (kind, version) {
        ("Command", "2.2") => command(&content).map_err(invalid)?,
        ("Automation", "0.3") => {
            parameters::validate(&content, true).map_err(invalid)?;
            automation::validate(&content).map_err(invalid)?;
        }
        ("Command" | "Automation", other) => {
            let message = format!("The schema version {other} is not supported for documents of type {kind}.");
            return Err(ApiError::new("InvalidDocumentSchemaVersion", message));
        }
        (other, _) => return Err(ApiError::unsupported(format_args!("documents of type {other}"))),
    }
    Ok(content)
}

fn known(value: &Value, members: &[&str], of: &str) -> Result<(), String> {
    let map = value.as_object().ok_or_else(|| format!("{of} is not a map"))?;
    match map.keys().find(|key| !members.contains(&key.as_str())) {
        Some(key) => Err(format!("{of}: {key} is not known")),
        None => Ok(()),
    }
}

fn command(content: &Value) -> Result<(), String> {
    known(content, &["schemaVersion", "description", "parameters", "mainSteps"], "the document")?;
    parameters::validate(content, false)?;
    let steps = content.get("mainSteps").and_then(Value::as_array).filter(|steps| !steps.is_empty());
    let mut names = BTreeSet::new();
    for step in steps.ok_or("mainSteps is not a list of any")? {
        let name = step.get("name").and_then(Value::as_str).ok_or("a step has no name")?;
        if !matches("[a-zA-Z0-9_.-]{1,128}", name) || !names.insert(name) {
            return Err(format!("the step's name {name} is no name, or is there twice"));
        }
        command_step(content, step).map_err(|wrong| format!("step {name}: {wrong}"))?;
    }
    Ok(())
}

fn command_step(content: &Value, step: &Value) -> Result<(), String> {
    known(
        step,
        &["action", "name", "inputs", "precondition", "onFailure", "onSuccess", "finallyStep", "maxAttempts"],
        "the step",
    )?;
    match step.get("action").and_then(Value::as_str) {
        Some("aws:runShellScript") => {}
        other => return Err(format!("the test cloud does not know the action {other:?}")),
    }
    for (member, values) in [("onFailure", &["exit", "successAndExit"][..]), ("onSuccess", &["exit"])] {
        let wrong = step.get(member).filter(|value| !values.contains(&value.as_str().unwrap_or_default()));
        if let Some(wrong) = wrong {
            return Err(format!("{member} cannot be {wrong}"));
        }
    }
    if let Some(precondition) = step.get("precondition") {
        known(precondition, &["StringEquals"], "precondition")?;
        let sides = precondition.get("StringEquals").and_then(Value::as_array).filter(|sides| sides.len() == 2);
        sides.ok_or("precondition: StringEquals takes two texts")?;
    }
    let inputs = step.get("inputs").ok_or("there are no inputs")?;
    known(inputs, &["runCommand", "workingDirectory", "timeoutSeconds"], "inputs")?;
    match inputs.get("runCommand") {
        Some(Value::Array(lines)) if lines.iter().all(Value::is_string) => {}
        Some(Value::String(_)) => {}
        _ => return Err("inputs: runCommand is not a list of lines".into()),
    }
    match inputs.get("timeoutSeconds") {
        None | Some(Value::String(_)) => {}
        Some(Value::Number(number)) if number.as_u64().is_some() => {}
        Some(other) => return Err(format!("inputs: timeoutSeconds cannot be {other}")),
    }
    let unknown = references(inputs).into_iter().find(|name| content.pointer(&format!("/parameters/{name}")).is_none());
    unknown.map_or(Ok(()), |name| Err(format!("{{{{ {name} }}}} is no parameter of the document")))
}

/// Names of the parameters that `{{ X }}` is written for somewhere in `value`.
pub fn references(value: &Value) -> BTreeSet<String> {
    static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}").ok());
    match value {
        Value::String(text) => {
            let found = REFERENCE.iter().flat_map(|regex| regex.captures_iter(text));
            found.filter_map(|captures| captures.get(1).map(|name| name.as_str().to_owned())).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        Value::Object(map) => map.values().flat_map(references).collect(),
        _ => BTreeSet::new(),
    }
}

/// Platforms that a document is for.
pub fn platforms(kind: &str, content: &Value) -> Vec<&'static str> {
    let first = content.pointer("/mainSteps/0/precondition/StringEquals/1").and_then(Value::as_str);
    match (kind, first) {
        ("Command", Some("Linux")) => vec!["Linux"],
        ("Command", _) => vec!["Linux", "MacOS"],
        _ => vec!["Windows", "Linux", "MacOS"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(step: Value) -> Result<Value, ApiError> {
        let text = json!({"schemaVersion": "2.2", "parameters": {"X": {"type": "String"}}, "mainSteps": [step]});
        read(&text.to_string(), "Command", "JSON")
    }

    #[test]
    fn a_command_document_is_looked_at() {
        let run = |line: &str| json!({"action": "aws:runShellScript", "name": "a", "inputs": {"runCommand": [line]}});
        assert!(with(run("echo {{ X }} '{{X}}'")).is_ok());
        for wrong in [
            run("echo {{ Y }}"),
            json!({"action": "aws:runPowerShellScript", "name": "a", "inputs": {"runCommand": ["x"]}}),
            json!({"action": "aws:runShellScript", "name": "a", "inputs": {"runCommand": ["x"], "timeout": "1"}}),
            json!({"action": "aws:runShellScript", "name": "a", "inputs": {"runCommand": ["x"]}, "onFailure": "stop"}),
            json!({"action": "aws:runShellScript", "inputs": {"runCommand": ["x"]}}),
        ] {
            assert_eq!(with(wrong.clone()).unwrap_err().kind, "InvalidDocumentContent", "{wrong}");
        }
        let old = read(r#"{"schemaVersion": "1.2"}"#, "Command", "JSON").unwrap_err();
        assert_eq!(old.kind, "InvalidDocumentSchemaVersion");
        assert_eq!(read("schemaVersion: '2.2'", "Command", "JSON").unwrap_err().kind, "InvalidDocumentContent");
        assert_eq!(read(&" ".repeat(SIZE + 1), "Command", "JSON").unwrap_err().kind, "MaxDocumentSizeExceeded");
    }
}
