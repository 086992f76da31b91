//! A request's members, with the constraints the services' models put on them.

use super::error::ApiError;
use regex::Regex;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, ops::RangeInclusive, sync::Mutex};

/// A structure of a request.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    members: &'a Map<String, Value>,
}

impl<'a> Input<'a> {
    /// The members are among `known`: what the original has besides is not silently left out here.
    ///
    /// # Errors
    ///
    /// `SerializationException` for anything but a structure; `ValidationException` for another member.
    pub fn new(value: &'a Value, known: &[&str]) -> Result<Self, ApiError> {
        let Some(members) = value.as_object() else {
            return Err(ApiError::new("SerializationException", "Start of structure or map found where not expected."));
        };
        match members.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(ApiError::unsupported(format_args!("the member {name}"))),
            None => Ok(Self { members }),
        }
    }

    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn missing(name: &str) -> ApiError {
        ApiError::constraint("null", name, "Member must not be null").with_plain_null()
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.value(name).map(|value| value.as_str().ok_or_else(|| wrong_type(name, "a string"))).transpose()
    }

    pub fn required(&self, name: &str) -> Result<&'a str, ApiError> {
        self.text(name)?.ok_or_else(|| Self::missing(name))
    }

    /// A string whose length in characters is within `length`.
    pub fn sized(&self, name: &str, length: RangeInclusive<usize>) -> Result<Option<&'a str>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let characters = text.chars().count();
        if characters > *length.end() {
            let constraint = format!("Member must have length less than or equal to {}", length.end());
            return Err(ApiError::constraint(text, name, constraint));
        }
        if characters < *length.start() {
            let constraint = format!("Member must have length greater than or equal to {}", length.start());
            return Err(ApiError::constraint(text, name, constraint));
        }
        Ok(Some(text))
    }

    /// A string that matches `pattern` as a whole.
    pub fn pattern(&self, name: &str, pattern: &str) -> Result<Option<&'a str>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if !matches(pattern, text) {
            let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
            return Err(ApiError::constraint(text, name, constraint));
        }
        Ok(Some(text))
    }

    pub fn one_of(&self, name: &str, values: &[&str]) -> Result<Option<&'a str>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if !values.contains(&text) {
            let constraint = format!("Member must satisfy enum value set: [{}]", values.join(", "));
            return Err(ApiError::constraint(text, name, constraint));
        }
        Ok(Some(text))
    }

    pub fn boolean(&self, name: &str) -> Result<bool, ApiError> {
        let value = self.value(name).map(|value| value.as_bool().ok_or_else(|| wrong_type(name, "a boolean")));
        Ok(value.transpose()?.unwrap_or(false))
    }

    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_i64().ok_or_else(|| wrong_type(name, "an integer"))?;
        if number > *range.end() {
            let constraint = format!("Member must have value less than or equal to {}", range.end());
            return Err(ApiError::constraint(number, name, constraint));
        }
        if number < *range.start() {
            let constraint = format!("Member must have value greater than or equal to {}", range.start());
            return Err(ApiError::constraint(number, name, constraint));
        }
        Ok(Some(number))
    }

    /// A list of at most `most` members; empty when it is not there.
    pub fn list(&self, name: &str, most: usize) -> Result<&'a [Value], ApiError> {
        let Some(value) = self.value(name) else { return Ok(&[]) };
        let list = value.as_array().ok_or_else(|| wrong_type(name, "a list"))?;
        if list.len() > most {
            let constraint = format!("Member must have length less than or equal to {most}");
            return Err(ApiError::constraint(value, name, constraint));
        }
        Ok(list)
    }

    /// A list of strings, each matching `pattern` as a whole.
    pub fn strings(&self, name: &str, most: usize, pattern: &str) -> Result<Vec<&'a str>, ApiError> {
        let strings = self.list(name, most)?.iter().map(|value| {
            let text = value.as_str().ok_or_else(|| wrong_type(name, "a list of strings"))?;
            if !pattern.is_empty() && !matches(pattern, text) {
                let constraint = format!(
                    "Member must satisfy constraint: [Member must satisfy regular expression pattern: {pattern}]"
                );
                return Err(ApiError::constraint(format_args!("[{text}]"), name, constraint));
            }
            Ok(text)
        });
        strings.collect()
    }

    /// A map of strings to lists of strings, such as the parameters of a document.
    pub fn lists(&self, name: &str) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(BTreeMap::new()) };
        let map = value.as_object().ok_or_else(|| wrong_type(name, "a map"))?;
        let entry = |(key, value): (&String, &Value)| {
            let texts: Option<Vec<String>> =
                value.as_array().and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
            Ok((key.clone(), texts.ok_or_else(|| wrong_type(name, "a map of lists of strings"))?))
        };
        map.iter().map(entry).collect()
    }
}

impl ApiError {
    /// `Value null`, without quotes, is how a missing member is named.
    fn with_plain_null(mut self) -> Self {
        self.message = self.message.replace("Value 'null' at", "Value null at");
        self
    }
}

fn wrong_type(name: &str, wanted: &str) -> ApiError {
    ApiError::new("SerializationException", format_args!("{name} is not {wanted}"))
}

/// Whether the whole of `text` matches, as Java's `matches` has it. A pattern that cannot be read matches nothing.
pub fn matches(pattern: &str, text: &str) -> bool {
    // Compiled once: ten thousand instance IDs go through here.
    static COMPILED: Mutex<BTreeMap<String, Option<Regex>>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !compiled.contains_key(pattern) {
        compiled.insert(pattern.to_owned(), whole(pattern));
    }
    compiled.get(pattern).and_then(Option::as_ref).is_some_and(|regex| regex.is_match(text))
}

/// `pattern` with anchors around; `None` when it is not one.
pub fn whole(pattern: &str) -> Option<Regex> {
    // A line feed at the end is no part of what `$` lets through here.
    Regex::new(&format!(r"\A(?:{pattern})\z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn constraints_are_named_as_the_original_names_them() {
        let value = json!({"Name": "x", "MaxResults": 51, "Ids": ["i-1", "i-2"]});
        let input = Input::new(&value, &["Name", "MaxResults", "Ids"]).unwrap();
        let message = input.sized("Name", 3..=128).unwrap_err().message;
        assert!(message.contains("Value 'x' at 'name' failed"), "{message}");
        let message = input.integer("MaxResults", 1..=50).unwrap_err().message;
        assert!(message.contains("Value '51' at 'maxResults'"), "{message}");
        assert!(input.strings("Ids", 1, "").is_err() && input.strings("Ids", 2, "i-[0-9]").is_ok());
        assert!(input.required("Other").unwrap_err().message.contains("Value null at 'other'"));
        assert!(Input::new(&value, &["Name"]).unwrap_err().message.contains("does not know the member"));
    }

    #[test]
    fn patterns_are_of_the_whole_text() {
        assert!(matches("a|b", "b") && !matches("a|b", "xb") && !matches("^[a-z]+$", "ab\n") && !matches("(", "("));
        assert!(matches(r"[\p{L} ]*", "Zoë é"));
    }
}
