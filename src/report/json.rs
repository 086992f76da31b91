//! JSON for programs.
//!
//! One document with `schema` first: `hostagent/check/1`, `hostagent/plan/1`, `hostagent/restart/1`,
//! `hostagent/status/1`, `hostagent/config/1`. The number changes when a field changes its meaning or goes away, not when
//! one is added. Names are snake_case, times of day RFC 3339, durations say their unit.
//!
//! Every document: `schema`, and `hostagent`, the version that wrote it. Check, plan and restart:
//!
//! | field | meaning |
//! |---|---|
//! | `verdict` | [`super::Word`]: `settled`, `restart`, `repair`, `waiting`, `refuse`, `spent`, `busy`, `broken`, … |
//! | `exit_code`, `headline` | the process's exit code; the verdict in a line |
//! | `reasons` | `rule`, `text`, `remedy` of what stands in the way |
//! | `findings` | `rule`, `severity` (`error`, `warning`, `info`), `text`, `evidence`, `remedy`; the worst first |
//!
//! Check:
//!
//! | field | meaning |
//! |---|---|
//! | `agent` | version, owner, container, cluster, …; `null` where it could not be seen |
//! | `services` | `host`, `endpoint_service`, `addresses` (`path`, `reached`, …), `path`, `private`, `remedy` |
//! | `connections` | `service`, `peer`, `path`, `private`; `null` is "cannot be told", never "no" |
//! | `observation` | everything seen, as it was seen ([`crate::facts::Observation`]) |
//!
//! Plan: `plan` as data, `steps` in words. Restart:
//!
//! | field | meaning |
//! |---|---|
//! | `run_id`, `plan` | the run and what it carried out; `null` when nothing was begun |
//! | `checks` | what had to hold afterwards: `name`, `passed` (`null`: could not be seen), `detail` |
//! | `before`, `after` | the agent's connections, as `connections` of check |
//! | `halt` | of the cluster: `state` (`not_needed`, `written`, `not_written`), `parameter`, `why` |
//! | `outage` | seconds without `agent_api_s`, `websockets_s`, `credential_rules_s`; `null`: not measured |
//!
//! Status: `service`, `state`, `words`, `since`, `looked_at`, `next_look`, `budget`, `time_line`; see
//! [`super::StatusReport`].

use super::Render;
use crate::text;
use serde::Serialize;

/// A report with the fields every document has.
#[derive(Serialize)]
pub struct Document<'a, R> {
    pub schema: &'static str,
    /// Version of hostagent that wrote it.
    pub hostagent: &'static str,
    #[serde(flatten)]
    pub report: &'a R,
}

impl<'a, R: Render> Document<'a, R> {
    pub fn of(report: &'a R) -> Self {
        Self { schema: R::SCHEMA, hostagent: env!("CARGO_PKG_VERSION"), report }
    }
}

/// Indented, with a line end.
pub fn text<T: Serialize>(value: &T) -> String {
    let mut text = harmless(serde_json::to_string_pretty(value));
    text.push('\n');
    text
}

/// On one line, without a line end.
pub fn line<T: Serialize>(value: &T) -> String {
    harmless(serde_json::to_string(value))
}

/// Everything a terminal would obey becomes `\uXXXX`: the same document to a program, and safe to look at.
fn harmless(json: serde_json::Result<String>) -> String {
    let json = match json {
        Ok(json) => json,
        // Only a map with keys that are not text can fail, and no report holds one.
        Err(error) => return serde_json::json!({ "error": error.to_string() }).to_string(),
    };
    // Control characters below space are escaped already, and the line ends are the layout's; the
    // rest can stand inside strings only.
    if !json.contains(|c| c != '\n' && text::is_unsafe(c)) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if c != '\n' && text::is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_same_document_without_anything_a_terminal_obeys(
            value: String,
            tail in "[\u{7f}-\u{9f}\u{202a}-\u{202e}\u{e0001}]*",
        ) {
            let value = vec![value, tail];
            for json in [line(&value), text(&value)] {
                proptest::prop_assert!(!json.contains(|c| c != '\n' && text::is_unsafe(c)));
                proptest::prop_assert_eq!(&serde_json::from_str::<Vec<String>>(&json).unwrap(), &value);
            }
        }
    }
}
