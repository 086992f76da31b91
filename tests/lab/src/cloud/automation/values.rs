//! `{{ X }}` in a runbook: what it may refer to, and what it stands for.

use crate::region::place::{ACCOUNT, REGION};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::LazyLock};

static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{\{\s*([^{}]*?)\s*\}\}").ok());

/// What `{{ X }}` refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Parameter(String),
    /// An output of a step.
    Output(String, String),
    Variable(String),
    Global(String),
    ExecutionId,
}

/// Every reference in `value`.
///
/// # Errors
///
/// One that is none, in words.
pub fn references(value: &Value) -> Result<Vec<Reference>, String> {
    match value {
        Value::String(text) => {
            let found = REFERENCE.iter().flat_map(|regex| regex.captures_iter(text));
            found.filter_map(|captures| captures.get(1)).map(|name| reference(name.as_str())).collect()
        }
        Value::Array(list) => concat(list.iter().map(references)),
        Value::Object(map) => concat(map.values().map(references)),
        _ => Ok(Vec::new()),
    }
}

fn concat(lists: impl Iterator<Item = Result<Vec<Reference>, String>>) -> Result<Vec<Reference>, String> {
    lists.collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
}

fn reference(name: &str) -> Result<Reference, String> {
    const GLOBALS: [&str; 5] = ["DATE", "DATE_TIME", "REGION", "ACCOUNT_ID", "AWS_PARTITION"];
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    match name.split_once([':', '.']) {
        None if word(name) => Ok(Reference::Parameter(name.into())),
        _ if name == "automation:EXECUTION_ID" => Ok(Reference::ExecutionId),
        Some(("global", which)) if GLOBALS.contains(&which) => Ok(Reference::Global(which.into())),
        Some(("variable", which)) if word(which) => Ok(Reference::Variable(which.into())),
        Some((step, output)) if word(step) && word(output) && name.contains('.') => {
            Ok(Reference::Output(step.into(), output.into()))
        }
        _ => Err(format!("{{{{ {name} }}}} refers to nothing")),
    }
}

/// What an execution knows while it runs.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    pub execution: String,
    pub parameters: Map<String, Value>,
    pub variables: Map<String, Value>,
    /// By step.
    pub outputs: BTreeMap<String, Map<String, Value>>,
    /// `yyyy-MM-dd_HH.mm.ss` of the execution's start.
    pub began: String,
}

impl Scope {
    fn lookup(&self, reference: &Reference) -> Option<Value> {
        match reference {
            Reference::Parameter(name) => self.parameters.get(name).cloned(),
            Reference::Variable(name) => self.variables.get(name).cloned(),
            Reference::Output(step, output) => self.outputs.get(step)?.get(output).cloned(),
            Reference::ExecutionId => Some(self.execution.as_str().into()),
            Reference::Global(name) => Some(match name.as_str() {
                "REGION" => REGION.into(),
                "ACCOUNT_ID" => ACCOUNT.into(),
                "AWS_PARTITION" => "aws".into(),
                "DATE" => self.began.get(..10).unwrap_or_default().into(),
                _ => self.began.as_str().into(),
            }),
        }
    }

    /// `value` with every reference replaced: one alone keeps its type, within other text it becomes text.
    ///
    /// # Errors
    ///
    /// When there is no such value yet.
    pub fn fill(&self, value: &Value) -> Result<Value, String> {
        match value {
            Value::String(text) => self.fill_text(text),
            Value::Array(list) => {
                list.iter().map(|item| self.fill(item)).collect::<Result<Vec<_>, _>>().map(Value::from)
            }
            Value::Object(map) => {
                let filled = map.iter().map(|(key, value)| Ok((key.clone(), self.fill(value)?)));
                filled.collect::<Result<Map<_, _>, String>>().map(Value::from)
            }
            other => Ok(other.clone()),
        }
    }

    fn fill_text(&self, text: &str) -> Result<Value, String> {
        let Some(regex) = REFERENCE.as_ref() else { return Ok(text.into()) };
        let mut filled = String::new();
        let mut end = 0;
        for captures in regex.captures_iter(text) {
            let (Some(whole), Some(name)) = (captures.get(0), captures.get(1)) else { continue };
            let value = self
                .lookup(&reference(name.as_str())?)
                .ok_or_else(|| format!("{} has no value at this point of the execution", whole.as_str()))?;
            if whole.len() == text.len() {
                return Ok(value);
            }
            filled.push_str(&text[end..whole.start()]);
            filled.push_str(&plain(&value));
            end = whole.end();
        }
        filled.push_str(&text[end..]);
        Ok(filled.into())
    }
}

/// A value as text: text as it is, all else as JSON.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A value as the lists of texts in which Automation shows outputs and parameters.
pub fn texts(value: &Value) -> Vec<String> {
    value.as_array().map_or_else(|| vec![plain(value)], |list| list.iter().map(plain).collect())
}

/// Values of parameters in the types of their declarations.
pub fn typed(content: &Value, values: &BTreeMap<String, Vec<String>>) -> Map<String, Value> {
    let kind = |name: &str| content["parameters"][name]["type"].as_str().unwrap_or("String");
    let one = |(name, values): (&String, &Vec<String>)| {
        let first = values.first().map(String::as_str).unwrap_or_default();
        let value = match kind(name) {
            "StringList" => json!(values),
            "Integer" => first.parse::<i64>().map_or(Value::Null, Value::from),
            "Boolean" => first.eq_ignore_ascii_case("true").into(),
            "StringMap" => serde_json::from_str(first).unwrap_or(Value::Null),
            "MapList" => values.iter().filter_map(|value| serde_json::from_str::<Value>(value).ok()).collect(),
            list if list.starts_with("List<") => json!(values),
            _ => first.into(),
        };
        (name.clone(), value)
    };
    values.iter().map(one).collect()
}

/// Whether a value is of a type such as outputs and variables have.
pub fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "String" => value.is_string(),
        "Boolean" => value.is_boolean(),
        "Integer" => value.is_i64(),
        "StringList" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        "MapList" => value.as_array().is_some_and(|list| list.iter().all(Value::is_object)),
        "StringMap" => value.is_object(),
        _ => false,
    }
}

/// Whether a variable takes the value, by what AWS documents of aws:updateVariable.
///
/// # Errors
///
/// What there is too much or too little of, in words.
pub fn fits_a_variable(value: &Value) -> Result<(), String> {
    const TEXT: std::ops::RangeInclusive<usize> = 1..=512;
    match value {
        Value::String(text) if !TEXT.contains(&text.chars().count()) => {
            Err(format!("a text of {} characters, and 1 to 512 are allowed", text.chars().count()))
        }
        Value::Array(list) => {
            let most = if list.first().is_some_and(Value::is_object) { 200 } else { 50 };
            if list.len() > most {
                return Err(format!("a list of {} items, and {most} are allowed", list.len()));
            }
            list.iter().try_for_each(fits_a_variable)
        }
        Value::Object(map) => {
            if let Some(key) = map.keys().find(|key| !(1..=50).contains(&key.chars().count())) {
                return Err(format!("the key {key:?}, and 1 to 50 characters are allowed"));
            }
            map.values().try_for_each(fits_a_variable)
        }
        _ => Ok(()),
    }
}

/// A path such as `$.Payload.State` or `$.Reservations[0].Instances..InstanceId`, as far as it is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Member(String),
    /// The member wherever it is below.
    Anywhere(String),
    Index(usize),
}

impl Selector {
    /// # Errors
    ///
    /// When it is no path, or one not known here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("the selector {text} is not understood");
        let mut rest = text.strip_prefix('$').ok_or_else(wrong)?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (part, after) = if let Some(after) = rest.strip_prefix('[') {
                let (number, after) = after.split_once(']').ok_or_else(wrong)?;
                (Part::Index(number.parse().map_err(|_| wrong())?), after)
            } else {
                let anywhere = rest.starts_with("..");
                let after = rest.strip_prefix(if anywhere { ".." } else { "." }).ok_or_else(wrong)?;
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let name = after[..end].to_owned();
                if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return Err(wrong());
                }
                (if anywhere { Part::Anywhere(name) } else { Part::Member(name) }, &after[end..])
            };
            parts.push(part);
            rest = after;
        }
        Ok(Self(parts))
    }

    /// What is at the path: with `..` a list.
    pub fn pick(&self, value: &Value) -> Option<Value> {
        let mut found = vec![value];
        let mut several = false;
        for part in &self.0 {
            found = match part {
                Part::Member(name) => found.iter().filter_map(|value| value.get(name)).collect(),
                Part::Index(index) => found.iter().filter_map(|value| value.get(index)).collect(),
                Part::Anywhere(name) => {
                    several = true;
                    let mut below = Vec::new();
                    found.iter().for_each(|value| everywhere(value, name, &mut below));
                    below
                }
            };
        }
        if several { Some(found.into_iter().cloned().collect()) } else { found.first().map(|value| (*value).clone()) }
    }
}

fn everywhere<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(name));
            map.values().for_each(|value| everywhere(value, name, found));
        }
        Value::Array(list) => list.iter().for_each(|value| everywhere(value, name, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_alone_keeps_its_type_and_within_text_becomes_text() {
        let mut scope = Scope { execution: "e".into(), ..Scope::default() };
        scope.parameters = typed(
            &json!({"parameters": {"L": {"type": "StringList"}, "B": {"type": "Boolean"}, "S": {"type": "String"}}}),
            &BTreeMap::from([
                ("L".into(), vec!["a".into(), "b".into()]),
                ("B".into(), vec!["true".into()]),
                ("S".into(), vec!["{{ B }} \"".into()]),
            ]),
        );
        scope.outputs.insert("Step".into(), Map::from_iter([("Out".into(), json!("x"))]));
        let filled = scope.fill(&json!({"l": "{{L}}", "b": "{{ B }}", "t": "{{ Step.Out }}: {{ L }} {{ automation:EXECUTION_ID }}", "s": "{{ S }}"}));
        assert_eq!(filled, Ok(json!({"l": ["a", "b"], "b": true, "t": "x: [\"a\",\"b\"] e", "s": "{{ B }} \""})));
        assert!(scope.fill(&json!("{{ Step.Other }}")).unwrap_err().contains("no value"));
    }

    #[test]
    fn what_refers_to_nothing_is_no_reference() {
        for wrong in ["{{ a b }}", "{{ x.y.z }}", "{{ global:X }}", "{{ variable: }}", "{{ automation:ID }}", "{{}}"] {
            assert!(references(&json!([wrong])).is_err(), "{wrong}");
        }
        assert_eq!(references(&json!("{{ variable:S }}")), Ok(vec![Reference::Variable("S".into())]));
    }

    #[test]
    fn variables_hold_little() {
        let list = |items: usize, length: usize| json!(vec!["x".repeat(length); items]);
        for good in [json!("x"), json!([]), list(50, 512), json!({"k".repeat(50): "x"}), json!(true)] {
            assert_eq!(fits_a_variable(&good), Ok(()), "{good}");
        }
        for wrong in [json!(""), json!("x".repeat(513)), list(51, 1), list(1, 513), json!({"k".repeat(51): "x"})] {
            assert!(fits_a_variable(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn selectors_pick() {
        let value = json!({"A": [{"B": {"C": 1}}, {"B": {"C": 2}}]});
        let pick = |path: &str| Selector::parse(path).unwrap().pick(&value);
        assert_eq!(pick("$.A[1].B.C"), Some(json!(2)));
        assert_eq!(pick("$..C"), Some(json!([1, 2])));
        assert_eq!(pick("$.X"), None);
        for wrong in ["A", "$.A[x]", "$.A[?(@.B)]", "$.", "$A"] {
            assert!(Selector::parse(wrong).is_err(), "{wrong}");
        }
    }
}
