//! Errors as AWS words them.

use std::fmt;

/// What a call is refused with: `kind` is the exception's name, `status` the HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct ApiError {
    pub kind: String,
    pub message: String,
    pub status: u16,
}

impl ApiError {
    /// The caller's fault: status 400.
    pub fn new(kind: &str, message: impl fmt::Display) -> Self {
        Self { kind: kind.into(), message: message.to_string(), status: 400 }
    }

    /// A member that does not keep to its constraint, worded as the services' front does.
    pub fn constraint(value: impl fmt::Display, member: &str, constraint: impl fmt::Display) -> Self {
        let member = lower_first(member);
        Self::validation(format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
        ))
    }

    pub fn validation(message: impl fmt::Display) -> Self {
        Self::new("ValidationException", message)
    }

    /// What the original can do and this stand-in cannot: loud, so that nobody takes silence for success.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::validation(format!("the test cloud does not know {what}"))
    }
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
