//! The brake a cluster has: a parameter that stands for "nothing further is moved".

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const SCHEMA: &str = "hostagent/halt/1";
pub const DESCRIPTION: &str = "While this is set, hostagent moves no ECS agent of this cluster";

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
    pub fn new(by: &str, at: Timestamp, why: &str, instance: Option<&str>) -> Self {
        Self {
            schema: SCHEMA.into(),
            by: by.into(),
            at: Some(at),
            why: why.into(),
            instance: instance.map(str::to_owned),
        }
    }

    /// What a value says. Any value halts: one that says nothing readable is quoted.
    pub fn read(value: &str) -> Self {
        serde_json::from_str(value).unwrap_or_else(|_| Self {
            schema: String::new(),
            by: "somebody".into(),
            at: None,
            why: format!("the parameter holds {:?}", crate::text::cut(value, 200)),
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
}
