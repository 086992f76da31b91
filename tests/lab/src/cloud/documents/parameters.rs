//! A document's parameters: their declarations, and the values a caller gives.

use crate::cloud::{
    error::ApiError,
    input::{matches, whole},
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Types of a Command document's parameters.
const COMMAND_TYPES: [&str; 6] = ["String", "StringList", "Integer", "Boolean", "MapList", "StringMap"];
/// Types that runbooks have besides, as written alone or in `List<…>`.
const RESOURCE_TYPES: [&str; 5] = [
    "AWS::EC2::Instance::Id",
    "AWS::IAM::Role::Arn",
    "AWS::S3::Bucket::Name",
    "AWS::SSM::Parameter::Name",
    "AWS::ECS::Cluster::Name",
];
const MEMBERS: [&str; 11] = [
    "type",
    "description",
    "default",
    "allowedValues",
    "allowedPattern",
    "displayType",
    "minItems",
    "maxItems",
    "minChars",
    "maxChars",
    "interpolationType",
];

/// Looks at the declarations in `content`. `automation`: by the rules of runbooks.
///
/// # Errors
///
/// What is wrong with them, in words.
pub fn validate(content: &Value, automation: bool) -> Result<(), String> {
    let Some(parameters) = content.get("parameters") else { return Ok(()) };
    let parameters = parameters.as_object().ok_or("parameters is not a map")?;
    for (name, declared) in parameters {
        validate_one(name, declared, automation).map_err(|wrong| format!("parameter {name}: {wrong}"))?;
    }
    Ok(())
}

fn validate_one(name: &str, declared: &Value, automation: bool) -> Result<(), String> {
    if !matches("[a-zA-Z0-9_]{1,64}", name) {
        return Err("this is no name".into());
    }
    let declared = declared.as_object().ok_or("is not a map")?;
    if let Some(unknown) = declared.keys().find(|member| !MEMBERS.contains(&member.as_str())) {
        return Err(format!("{unknown} is not known"));
    }
    let kind = declared.get("type").and_then(Value::as_str).ok_or("has no type")?;
    let inner = kind.strip_prefix("List<").and_then(|rest| rest.strip_suffix('>')).unwrap_or(kind);
    let known = COMMAND_TYPES.contains(&kind) || (automation && RESOURCE_TYPES.contains(&inner));
    if !known {
        return Err(format!("the type {kind} is not known"));
    }
    match declared.get("interpolationType").map(|value| value.as_str().unwrap_or_default()) {
        None => {}
        Some("ENV_VAR") if kind == "String" && !automation => {}
        Some(other) => {
            return Err(format!(
                "interpolationType {other} is for String parameters of Command documents, and ENV_VAR"
            ));
        }
    }
    if let Some(pattern) = declared.get("allowedPattern") {
        let pattern = pattern.as_str().ok_or("allowedPattern is not text")?;
        whole(pattern).ok_or_else(|| format!("allowedPattern {pattern} is no regular expression"))?;
    }
    if let Some(values) = declared.get("allowedValues") {
        let values =
            values.as_array().filter(|values| !values.is_empty()).ok_or("allowedValues is not a list of any")?;
        if let Some(wrong) = values.iter().find(|value| !fits(value, element(kind))) {
            return Err(format!("{wrong} of allowedValues is not of type {kind}; words such as yes have to be quoted"));
        }
    }
    let Some(default) = declared.get("default") else { return Ok(()) };
    if !fits(default, kind) {
        return Err(format!("the default {default} is not of type {kind}"));
    }
    allowed(name, declared, &texts(default)).map_err(|error| error.message)
}

/// The type of what a list holds.
fn element(kind: &str) -> &str {
    if kind == "StringList" { "String" } else { kind }
}

fn fits(value: &Value, kind: &str) -> bool {
    match kind {
        "Integer" => value.is_i64(),
        "Boolean" => value.is_boolean() || matches!(value.as_str(), Some("true" | "false")),
        "StringList" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        "MapList" => value.as_array().is_some_and(|list| list.iter().all(Value::is_object)),
        "StringMap" => value.is_object(),
        list if list.starts_with("List<") => value.is_array(),
        _ => value.is_string(),
    }
}

/// A value as the list of texts that callers give.
fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_array().map_or_else(|| vec![text(value)], |list| list.iter().map(text).collect())
}

/// Whether the values keep to allowedValues, allowedPattern and the limits.
fn allowed(name: &str, declared: &Map<String, Value>, values: &[String]) -> Result<(), ApiError> {
    let refuse = |value: &str, why: String| {
        Err(ApiError::new(
            "InvalidParameters",
            format_args!("Parameter \"{name}\" has invalid value \"{value}\": {why}"),
        ))
    };
    let choices = declared.get("allowedValues").map(texts);
    let pattern = declared.get("allowedPattern").and_then(Value::as_str);
    let limit = |member: &str| declared.get(member).and_then(Value::as_u64).map(|limit| limit as usize);
    for value in values {
        if choices.as_ref().is_some_and(|choices| !choices.contains(value)) {
            return refuse(value, format!("it is not in {:?}", choices.unwrap_or_default()));
        }
        if let Some(pattern) = pattern.filter(|pattern| !matches(pattern, value)) {
            return refuse(value, format!("it does not match {pattern}"));
        }
        let length = value.chars().count();
        if limit("minChars").is_some_and(|least| length < least) || limit("maxChars").is_some_and(|most| length > most)
        {
            return refuse(value, format!("{length} characters are too few or too many"));
        }
    }
    let count = values.len();
    if limit("minItems").is_some_and(|least| count < least) || limit("maxItems").is_some_and(|most| count > most) {
        return refuse("", format!("{count} items are too few or too many"));
    }
    Ok(())
}

/// The values of all parameters of `content`, given or default.
///
/// # Errors
///
/// `InvalidParameters` for a parameter that is unknown, missing, or has a value it may not have.
pub fn resolve(
    content: &Value,
    given: &BTreeMap<String, Vec<String>>,
) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let none = Map::new();
    let declared = content.get("parameters").and_then(Value::as_object).unwrap_or(&none);
    if let Some(unknown) = given.keys().find(|name| !declared.contains_key(*name)) {
        return Err(ApiError::new(
            "InvalidParameters",
            format_args!("Parameter \"{unknown}\" is not defined in the document."),
        ));
    }
    let mut resolved = BTreeMap::new();
    for (name, declared) in declared {
        let Some(declared) = declared.as_object() else { continue };
        let kind = declared.get("type").and_then(Value::as_str).unwrap_or("String");
        let values = match (given.get(name), declared.get("default")) {
            (Some(values), _) => {
                let list = kind.ends_with("List") || kind.starts_with("List<");
                let typed = |value: &String| match kind {
                    "Integer" => value.parse::<i64>().is_ok(),
                    "Boolean" => matches!(value.as_str(), "true" | "false" | "True" | "False"),
                    "AWS::IAM::Role::Arn" => matches("arn:[a-z-]+:iam::[0-9]{12}:role/.+", value),
                    _ => true,
                };
                if (!list && values.len() != 1) || !values.iter().all(typed) {
                    let message = format!("Parameter \"{name}\" is not of type {kind}: {values:?}");
                    return Err(ApiError::new("InvalidParameters", message));
                }
                allowed(name, declared, values)?;
                values.clone()
            }
            (None, Some(default)) => texts(default),
            (None, None) => {
                return Err(ApiError::new("InvalidParameters", format_args!("Parameter \"{name}\" requires a value.")));
            }
        };
        resolved.insert(name.clone(), values);
    }
    Ok(resolved)
}

/// The declarations as DescribeDocument lists them.
pub fn shown(content: &Value) -> Vec<Value> {
    let declared = content.get("parameters").and_then(Value::as_object).into_iter().flatten();
    let one = |(name, declared): (&String, &Value)| {
        let kind = declared.get("type").and_then(Value::as_str).unwrap_or("String");
        let mut map = Map::new();
        map.insert("Name".into(), name.as_str().into());
        map.insert("Type".into(), if kind.contains("List") { "StringList" } else { "String" }.into());
        if let Some(description) = declared.get("description").and_then(Value::as_str) {
            map.insert("Description".into(), description.into());
        }
        if let Some(default) = declared.get("default") {
            let text = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            map.insert("DefaultValue".into(), text.into());
        }
        Value::Object(map)
    };
    declared.map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn given(name: &str, values: &[&str]) -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([(name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())])
    }

    #[test]
    fn values_that_are_not_allowed_are_refused() {
        let content = json!({"parameters": {
            "Wait": {"type": "String", "default": "5m", "allowedPattern": "^[0-9]{1,4}[smh]$"},
            "Strict": {"type": "String", "default": "no", "allowedValues": ["no", "yes"]},
        }});
        assert_eq!(resolve(&content, &given("Strict", &["yes"])).unwrap()["Wait"], ["5m"]);
        for value in ["5m\n", "$(id)", "5m; id", "", "٣m", "'5m'"] {
            assert_eq!(resolve(&content, &given("Wait", &[value])).unwrap_err().kind, "InvalidParameters", "{value}");
        }
        assert!(resolve(&content, &given("Strict", &["maybe"])).is_err());
        assert!(resolve(&content, &given("Strict", &["no", "yes"])).is_err(), "one value only");
        assert!(resolve(&content, &given("Other", &["x"])).unwrap_err().message.contains("not defined"));
    }

    #[test]
    fn declarations_are_looked_at() {
        let one = |declared: Value| validate(&json!({"parameters": {"X": declared}}), false);
        assert_eq!(one(json!({"type": "String", "default": "a", "interpolationType": "ENV_VAR"})), Ok(()));
        for wrong in [
            json!({"default": "a"}),
            json!({"type": "Text"}),
            json!({"type": "String", "default": true}),
            json!({"type": "String", "allowedValues": [true, false]}),
            json!({"type": "String", "default": "c", "allowedValues": ["a", "b"]}),
            json!({"type": "String", "allowedPattern": "("}),
            json!({"type": "StringList", "interpolationType": "ENV_VAR"}),
            json!({"type": "String", "pattern": "x"}),
        ] {
            assert!(one(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
