//! `hostagent config show`: every value with where it comes from.

use crate::{
    config::{Loaded, Origin},
    report::{self, Format, ssm::Summary},
    text::clean,
};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The configuration as text. The human form is TOML that can be pasted into a drop-in.
pub fn config_show(loaded: &Loaded, format: Format) -> String {
    match format {
        Format::Human => human(loaded),
        Format::Json => report::json::text(&document(loaded)),
        Format::Ssm => {
            let set = loaded.entries().into_iter().filter(|(_, _, origin)| *origin != Origin::Default);
            let changed: Map<String, Value> = set.map(|(key, value, _)| (key.to_owned(), value)).collect();
            let verdict = format!("CONFIGURATION: {} of {} values set by files", changed.len(), loaded.entries().len());
            let facts = vec![("schema", SCHEMA.into())];
            let changed = changed.into_iter().map(|(key, value)| json!({ "key": key, "value": value }));
            report::ssm::page(&verdict, &Summary { facts, lists: vec![("changed", changed.collect())] }, "")
        }
    }
}

const SCHEMA: &str = "hostagent/config/1";

fn human(loaded: &Loaded) -> String {
    let mut page = String::new();
    if loaded.files.is_empty() {
        page.push_str("# No configuration file was found: the built-in defaults.\n");
    } else {
        page.push_str("# Files read, in this order; a later one wins:\n");
    }
    for file in &loaded.files {
        let count = match loaded.in_effect(file) {
            0 => "nothing in effect".to_owned(),
            1 => "1 value in effect".to_owned(),
            n => format!("{n} values in effect"),
        };
        _ = writeln!(page, "#   {} ({count})", clean(&file.to_string_lossy()));
    }
    let entries: Vec<(&str, String, Origin)> =
        loaded.entries().into_iter().map(|(key, value, origin)| (key, toml_value(&value), origin)).collect();
    let leaf = |key: &'static str| key.split_once('.').unwrap_or(("", key));
    let width = entries.iter().map(|(key, value, _)| leaf(key).1.len() + value.chars().count()).max().unwrap_or(0);
    let mut last = "";
    for (key, value, origin) in &entries {
        let (section, leaf) = leaf(key);
        if section != last {
            _ = writeln!(page, "\n[{section}]");
            last = section;
        }
        let pad = width.min(60).saturating_sub(leaf.len() + value.chars().count());
        _ = writeln!(page, "{leaf} = {value}{:pad$}  # {}", "", clean(&origin.to_string()));
    }
    page
}

/// A setting as TOML writes it. Settings hold no tables, and `null` only where the empty text means "none".
fn toml_value(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".into(),
        // A TOML basic string escapes as JSON does for every text that passed the checks.
        other => other.to_string(),
    }
}

fn document(loaded: &Loaded) -> Value {
    let settings: Map<String, Value> = loaded
        .entries()
        .into_iter()
        .map(|(key, value, origin)| {
            let origin = match origin {
                Origin::Default => json!({ "from": "default" }),
                Origin::File(place) => json!({ "from": "file", "file": place.file, "line": place.line }),
                Origin::Option(option) => json!({ "from": "option", "option": option }),
            };
            (key.to_owned(), json!({ "value": value, "origin": origin }))
        })
        .collect();
    json!({ "schema": SCHEMA, "files": loaded.files, "settings": settings })
}
