//! One drop-in's text as entries: `section.key`, its value and its line.

use super::{
    ConfigError, Place,
    files::DropIn,
    keys::{self, Key},
    values::Found,
};
use crate::text;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key that a drop-in sets.
pub(super) struct Entry<'i> {
    pub key: &'static Key,
    pub value: Spanned<DeValue<'i>>,
}

/// The entries of one file. Unknown sections and keys are errors: a misspelt key that is passed
/// over would leave a safety limit at a value its owner believes changed.
pub(super) fn parse(file: &DropIn) -> Result<Vec<Entry<'_>>, ConfigError> {
    let place = |offset: usize| place(file, offset);
    let root = DeTable::parse(&file.text).map_err(|error| ConfigError::Syntax {
        place: place(error.span().map_or(0, |span| span.start)),
        message: text::clean(error.message()).into_owned(),
    })?;
    let mut entries = Vec::new();
    for (name, section) in root.into_inner() {
        let at = name.span().start;
        let name = name.into_inner();
        if !keys::sections().any(|known| known == name) {
            let allowed = match keys::KEYS.iter().find(|key| key.leaf() == name) {
                Some(key) => format!("it belongs under [{}]", key.section()),
                None => suggest(&name, keys::sections(), "sections"),
            };
            return Err(ConfigError::Unknown { place: place(at), key: shown(&name), what: "section", allowed });
        }
        let at = section.span().start;
        let DeValue::Table(table) = section.into_inner() else {
            return Err(ConfigError::Value {
                place: place(at),
                key: shown(&name),
                found: "a value".into(),
                allowed: format!("a section [{name}] with keys under it"),
            });
        };
        for (leaf, value) in table {
            let Some(key) = keys::find(&name, leaf.get_ref()) else {
                let known = keys::KEYS.iter().filter(|key| key.section() == name).map(|key| key.leaf());
                return Err(ConfigError::Unknown {
                    place: place(leaf.span().start),
                    key: format!("{name}.{}", shown(leaf.get_ref())),
                    what: "key",
                    allowed: suggest(leaf.get_ref(), known, &format!("keys of [{name}]")),
                });
            };
            entries.push(Entry { key, value });
        }
    }
    // A table is sorted by name; errors and origins read better in the order of the file.
    entries.sort_by_key(|entry| entry.value.span().start);
    Ok(entries)
}

/// Checks an entry and says where it stands.
pub(super) fn check(file: &DropIn, entry: &Entry<'_>) -> Result<(Place, keys::Set), ConfigError> {
    let at = place(file, entry.value.span().start);
    match (entry.key.parse)(&entry.value) {
        Ok(set) => Ok((at, set)),
        Err(Found { text, offset }) => Err(ConfigError::Value {
            place: offset.map_or(at, |offset| place(file, offset)),
            key: entry.key.name.into(),
            found: text,
            allowed: entry.key.allowed.into(),
        }),
    }
}

fn place(file: &DropIn, offset: usize) -> Place {
    let before = file.text.as_bytes().iter().take(offset);
    Place { file: file.path.clone(), line: 1 + before.filter(|&&byte| byte == b'\n').count() }
}

/// A name from a file, fit for one line of a terminal.
fn shown(name: &str) -> String {
    super::values::cut(name)
}

fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str>, what: &str) -> String {
    let known: Vec<&str> = known.collect();
    let close = known.iter().map(|k| (distance(name, k), k)).min().filter(|(d, k)| *d <= 1 + k.len() / 3);
    let all = format!("{what}: {}", known.join(", "));
    match close {
        Some((_, nearest)) => format!("did you mean {nearest:?}? ({all})"),
        None => all,
    }
}

/// Edits (insert, delete, replace) between two names.
fn distance(a: &str, b: &str) -> usize {
    // Keys are short; a long name is far from all of them.
    let a: Vec<char> = a.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, cb) in b.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, ca) in a.iter().enumerate() {
            let replace = row[j] + usize::from(*ca != cb);
            next.push(replace.min(row[j + 1] + 1).min(next[j] + 1));
        }
        row = next;
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("container", "container"), 0);
        assert_eq!(distance("containr", "container"), 1);
        assert_eq!(distance("", "imds"), 4);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
