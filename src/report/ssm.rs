//! For SSM Run Command, which shows 2,500 characters of a plugin's output in lists and 510 of an
//! association's summary: the verdict first and short, a JSON summary, the rest in a file.

use super::{Render, json};
use crate::text::{clean, cut};
use serde_json::Value;
use std::{fs, io, io::Write, path::Path};

/// Bytes of the first line, its line end not counted.
pub const FIRST_LINE: usize = 510;
/// Bytes of the JSON summary.
pub const SUMMARY: usize = 2_400;
/// Bytes of the whole page, as long as the name of the report file is no monster.
const PAGE: usize = 2_500;

/// What a summary holds besides the verdict: as much as fits, in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    pub facts: Vec<(&'static str, Value)>,
    pub lists: Vec<(&'static str, Vec<Value>)>,
}

/// A text short enough for a summary, in which many must fit.
pub fn brief(text: &str) -> Value {
    Value::String(cut(&clean(text), 240).into_owned())
}

/// Writes the full report to `report_file` and gives the page that names it.
pub fn render<R: Render>(report: &R, report_file: &Path) -> String {
    let verdict = report.verdict();
    let first = format!("{}: {}", verdict.verdict.shout(), verdict.headline);
    let name = report_file.to_string_lossy();
    let written = write_report(report_file, &json::text(&json::Document::of(report)));
    let last = match &written {
        Ok(()) => format!("Full report: {}", clean(&name)),
        Err(error) => format!("The full report could not be written to {}: {error}", clean(&name)),
    };
    let mut summary = report.summary();
    let head = [
        ("schema", R::SCHEMA.into()),
        ("verdict", serde_json::to_value(verdict.verdict).unwrap_or_default()),
        ("exit_code", verdict.exit_code.into()),
    ];
    let file = if written.is_ok() { Value::String(name.into_owned()) } else { Value::Null };
    summary.facts.splice(0..0, head.into_iter().chain([("report", file)]));
    page(&first, &summary, &last)
}

/// Verdict line, JSON line, last line; within the sizes whatever they hold.
pub fn page(first: &str, summary: &Summary, last: &str) -> String {
    let first = clean(first);
    let first = cut(&first, FIRST_LINE);
    let last = clean(last);
    let others = first.len() + last.len() + 3;
    // A monstrous last line does not cost the summary its core.
    let room = PAGE.saturating_sub(others).clamp(600, SUMMARY);
    let mut page = format!("{first}\n{}\n", fit(summary, room));
    if !last.is_empty() {
        page.push_str(&last);
        page.push('\n');
    }
    page
}

/// The summary as one JSON object of at most `room` bytes (of 600 and more).
///
/// What does not fit is left out whole, and counted under `omitted`.
fn fit(summary: &Summary, room: usize) -> String {
    let mut object = Object::default();
    // Room for the worst `omitted` is kept free from the start.
    let worst = |(key, list): &(&str, Vec<Value>)| key.len() + 4 + list.len().to_string().len();
    let reserve = 32 + summary.lists.iter().map(worst).sum::<usize>();
    let room = room.saturating_sub(reserve);
    let mut omitted = serde_json::Map::new();
    let mut facts = 0_usize;
    for (key, value) in &summary.facts {
        facts += usize::from(!object.push(key, &json::line(value), room));
    }
    if facts > 0 {
        omitted.insert("facts".into(), facts.into());
    }
    for (key, list) in &summary.lists {
        let mut kept = String::from("[");
        let mut count = 0;
        for value in list {
            let item = json::line(value);
            if !object.fits(key, kept.len() + 1 + item.len() + 1, room) {
                break;
            }
            if count > 0 {
                kept.push(',');
            }
            kept.push_str(&item);
            count += 1;
        }
        kept.push(']');
        if count < list.len() {
            omitted.insert((*key).to_owned(), (list.len() - count).into());
        }
        if count > 0 {
            object.push(key, &kept, room);
        }
    }
    if !omitted.is_empty() {
        object.push("omitted", &json::line(&omitted), usize::MAX);
    }
    format!("{{{}}}", object.0)
}

/// The inside of a JSON object.
#[derive(Default)]
struct Object(String);

impl Object {
    /// Whether a value of `bytes` bytes has its place: `,"key":value` and the two braces.
    fn fits(&self, key: &str, bytes: usize, room: usize) -> bool {
        self.0.len() + key.len() + bytes + 6 <= room
    }

    fn push(&mut self, key: &str, value: &str, room: usize) -> bool {
        let fits = self.fits(key, value.len(), room);
        if fits {
            let comma = if self.0.is_empty() { "" } else { "," };
            self.0.push_str(&format!("{comma}\"{key}\":{value}"));
        }
        fits
    }
}

/// Whole or not at all, and never through a link that someone else laid there.
fn write_report(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
