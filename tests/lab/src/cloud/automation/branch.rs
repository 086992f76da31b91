//! Choices of aws:branch and the condition of aws:loop.

use super::values::plain;
use serde_json::{Map, Value};

const OPERATORS: [&str; 9] = [
    "StringEquals",
    "EqualsIgnoreCase",
    "StartsWith",
    "EndsWith",
    "Contains",
    "BooleanEquals",
    "NumericEquals",
    "NumericGreater",
    "NumericLesser",
];

/// # Errors
///
/// What is wrong with the choice, in words.
pub fn validate(choice: &Value) -> Result<(), String> {
    let choice = choice.as_object().ok_or("a choice is not a map")?;
    for (word, only) in [("And", true), ("Or", true), ("Not", false)] {
        match choice.get(word) {
            None => {}
            Some(Value::Array(several)) if only => return several.iter().try_for_each(validate),
            Some(one @ Value::Object(_)) if !only => return validate(one),
            Some(_) => return Err(format!("{word} holds no choices")),
        }
    }
    let operators: Vec<&String> =
        choice.keys().filter(|key| !["NextStep", "Variable"].contains(&key.as_str())).collect();
    match operators[..] {
        [operator] if OPERATORS.contains(&operator.as_str()) && choice.contains_key("Variable") => Ok(()),
        _ => Err(format!("a choice takes Variable and one of {OPERATORS:?}, and has {operators:?}")),
    }
}

/// Whether a choice, its references filled in, holds.
pub fn holds(choice: &Value) -> bool {
    let several = |word: &str| choice.get(word).and_then(Value::as_array);
    if let Some(all) = several("And") {
        return all.iter().all(holds);
    }
    if let Some(any) = several("Or") {
        return any.iter().any(holds);
    }
    if let Some(not) = choice.get("Not") {
        return !holds(not);
    }
    let empty = Map::new();
    let members = choice.as_object().unwrap_or(&empty);
    let Some(variable) = members.get("Variable") else { return false };
    let (text, number) = (plain(variable), plain(variable).parse::<f64>().ok());
    members.iter().filter(|(key, _)| OPERATORS.contains(&key.as_str())).all(|(operator, wanted)| {
        let (other, limit) = (plain(wanted), plain(wanted).parse::<f64>().ok());
        match operator.as_str() {
            "StringEquals" | "BooleanEquals" => text == other,
            "EqualsIgnoreCase" => text.eq_ignore_ascii_case(&other),
            "StartsWith" => text.starts_with(&other),
            "EndsWith" => text.ends_with(&other),
            "Contains" => text.contains(&other),
            "NumericEquals" => number.is_some() && number == limit,
            "NumericGreater" => number.zip(limit).is_some_and(|(number, limit)| number > limit),
            _ => number.zip(limit).is_some_and(|(number, limit)| number < limit),
        }
    })
}
