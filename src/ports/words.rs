//! Failures of the system in the words of a person.

use std::{fmt, io, time::Duration};

/// An I/O error without its number: `connection refused`.
pub(super) fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or(&text);
    lower_first(text)
}

/// The error and what caused it, each once: `error sending request: connection refused`.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let text = match error.downcast_ref::<io::Error>() {
            Some(error) => io_words(error),
            None => error.to_string(),
        };
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

/// What lies at the bottom of an error: `connection refused`.
pub(super) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.downcast_ref::<io::Error>().map_or_else(|| last.to_string(), io_words)
}

/// The first `max` characters of what came, on one line and printable, quoted.
pub(super) fn excerpt(text: &str, max: usize) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let start: String = text.trim().chars().take(max).map(printable).collect();
    if text.trim().chars().count() > max { format!("\"{start}…\"") } else { format!("\"{start}\"") }
}

/// A time limit as it is read aloud: `3 s`, `750 ms`.
pub(super) struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms >= 1000 && ms % 1000 == 0 => write!(f, "{} s", ms / 1000),
            ms => write!(f, "{ms} ms"),
        }
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // An acronym keeps its capitals.
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_words() {
        assert_eq!(io_words(&io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(io_words(&io::Error::other("TLS ended")), "TLS ended");
        assert_eq!(excerpt(" <html>\n<body> ", 60), "\"<html> <body>\"");
        assert_eq!(excerpt("abcdef", 3), "\"abc…\"");
        assert_eq!(Span(Duration::from_secs(3)).to_string(), "3 s");
        assert_eq!(Span(Duration::from_millis(1500)).to_string(), "1500 ms");
    }
}
