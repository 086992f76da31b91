//! The brake a cluster has: a parameter that stands for "nothing further is moved".

use crate::text::{cut, is_unsafe};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const SCHEMA: &str = "hostagent/halt/1";
pub const DESCRIPTION: &str = "While this is set, hostagent moves no ECS agent of this cluster";

/// Bytes of who halted, and of why: escaped in JSON they are six times as many at worst, and a value has 4,096.
const BY: usize = 120;
const WHY: usize = 400;

/// One short line, in which nothing looks like a reference to another parameter: a value with `{{` is turned down.
fn line(text: &str, bytes: usize) -> String {
    let plain: String = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    let mut line = String::with_capacity(plain.len());
    for word in plain.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            // `{ {`: a brace never follows one of its kind.
            if matches!(c, '{' | '}') && line.ends_with(c) {
                line.push(' ');
            }
            line.push(c);
        }
    }
    cut(&line, bytes).into_owned()
}

/// The parameter's name. Cluster names hold letters, digits, `_` and `-`.
pub fn parameter(cluster: &str) -> String {
    format!("/hostagent/{cluster}/halt")
}

/// Who halted the cluster, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    #[serde(default)]
    pub schema: String,
    /// A person, `rollout <execution ID>`, or the instance that could not be verified.
    #[serde(default)]
    pub by: String,
    pub at: Option<Timestamp>,
    #[serde(default)]
    pub why: String,
    #[serde(default)]
    pub instance: Option<String>,
}

impl Halt {
    /// What comes from a host is free text: it is made a short line that the Parameter Store takes.
    pub fn new(by: &str, at: Timestamp, why: &str, instance: Option<&str>) -> Self {
        Self {
            schema: SCHEMA.into(),
            by: line(by, BY),
            at: Some(at),
            why: line(why, WHY),
            instance: instance.map(|id| line(id, BY)),
        }
    }

    /// What a value says. Any value halts: one that says nothing readable is quoted.
    pub fn read(value: &str) -> Self {
        serde_json::from_str(value).unwrap_or_else(|_| Self {
            schema: String::new(),
            by: "somebody".into(),
            at: None,
            why: format!("the parameter holds {:?}", cut(value, 200)),
            instance: None,
        })
    }

    /// The parameter's value.
    pub fn value(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| SCHEMA.into())
    }

    /// In a line.
    pub fn words(&self) -> String {
        let at = self.at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
        let instance = self.instance.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
        format!("halted by {}{at}{instance}: {}", self.by, self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_halts_and_says_what_it_can() {
        let halt = Halt::new("rollout 1", Timestamp::UNIX_EPOCH, "i-1 did not come back", Some("i-1"));
        assert_eq!(Halt::read(&halt.value()), halt);
        assert_eq!(halt.words(), "halted by rollout 1 at 1970-01-01T00:00:00Z (i-1): i-1 did not come back");
        assert_eq!(Halt::read("please stop").why, "the parameter holds \"please stop\"");
        assert_eq!(Halt::read("{}").by, "");
    }

    #[test]
    fn free_text_becomes_a_line() {
        let why = "not verified: {{ssm:x}}\n\u{1b}[31m  name \"web\" }}}";
        let halt = Halt::new("i-1", Timestamp::UNIX_EPOCH, why, Some("i-1"));
        assert_eq!(halt.why, "not verified: { {ssm:x} } [31m name \"web\" } } }");
    }

    proptest::proptest! {
        #[test]
        fn the_parameter_store_takes_every_value(by: String, why in ".{0,3000}|[{} \n\\\\\"]{0,3000}", id: Option<String>) {
            let value = Halt::new(&by, Timestamp::UNIX_EPOCH, &why, id.as_deref()).value();
            proptest::prop_assert!(value.len() <= 4_096, "{} bytes", value.len());
            proptest::prop_assert!(!value.contains("{{") && !value.contains("}}"), "{value}");
            proptest::prop_assert!(!value.contains(is_unsafe), "{value}");
            proptest::prop_assert!(!Halt::read(&value).why.contains('\n'));
        }
    }
}
