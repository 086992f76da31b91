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

/// How a host signs that does not know its own name.
pub const NAMELESS_HOST: &str = "a host";

/// Who set a halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setter<'a> {
    Person(&'a str),
    /// By the execution's ID.
    Rollout(&'a str),
    /// By the instance's ID.
    Host(&'a str),
    /// It does not say.
    Nobody,
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

    /// A value as the runbook quotes it: without its braces, and cut where it is long. `None` where it says nothing.
    pub fn quoted(text: &str) -> Option<Self> {
        let text = text.trim();
        let whole = if text.starts_with('{') { text.to_owned() } else { format!("{{{text}}}") };
        // Cut within a text, or behind one.
        let ends = ["", "\"}", "}", "null}"];
        let cut = whole.trim_end_matches('}').trim_end();
        let read = |text: &str| serde_json::from_str::<Self>(text).ok();
        let halt = read(&whole).or_else(|| ends.iter().find_map(|end| read(&format!("{cut}{end}"))))?;
        (!halt.by.is_empty() || !halt.why.is_empty()).then_some(halt)
    }

    /// Who set it.
    pub fn setter(&self) -> Setter<'_> {
        let instance = |text: &str| text.starts_with("i-") || text.starts_with("mi-");
        match self.by.as_str() {
            "" => Setter::Nobody,
            by if self.instance.as_deref() == Some(by) || instance(by) || by == NAMELESS_HOST => Setter::Host(by),
            by => by.strip_prefix("rollout ").map_or(Setter::Person(by), Setter::Rollout),
        }
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
    fn a_quoted_value_is_read_as_far_as_it_goes() {
        let halt = Halt::new("i-1", Timestamp::UNIX_EPOCH, "the agent did not come back", Some("i-1"));
        let quoted = halt.value().replace(['{', '}'], " ");
        assert_eq!(Halt::quoted(&quoted), Some(halt.clone()));
        for end in 0..quoted.len() {
            let read = Halt::quoted(&quoted[..end]);
            assert!(read.is_none_or(|read| halt.why.starts_with(&read.why) && halt.by.starts_with(&read.by)), "{end}");
        }
        let why = quoted.find("did not").unwrap();
        assert_eq!(
            Halt::quoted(&quoted[..why]).map(|halt| (halt.by, halt.why)),
            Some(("i-1".into(), "the agent".into()))
        );
        for nothing in ["", "please stop", "\"x\":1", "[1]"] {
            assert_eq!(Halt::quoted(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn who_set_it_is_told_from_how_it_is_signed() {
        let by = |by: &str| Halt::new(by, Timestamp::UNIX_EPOCH, "", None);
        assert_eq!(by("mayer").setter(), Setter::Person("mayer"));
        assert_eq!(by("rollout 1").setter(), Setter::Rollout("1"));
        assert_eq!(by("i-1").setter(), Setter::Host("i-1"));
        assert_eq!(by(NAMELESS_HOST).setter(), Setter::Host(NAMELESS_HOST));
        assert_eq!(by("").setter(), Setter::Nobody);
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
