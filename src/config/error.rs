//! One clear error: where, which key, what was found, what is allowed.

use std::{fmt, io, path::PathBuf};
use thiserror::Error;

/// A line of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Why the configuration cannot be used. Nothing is guessed: the first error stops the load.
///
/// The cause stands in the message: a chain that prints causes would say it twice.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{}: cannot list this configuration directory: {error}; {hint}", dir.display())]
    Directory { dir: PathBuf, error: io::Error, hint: &'static str },
    #[error("{}: cannot read this configuration file: {error}; {hint}", file.display())]
    Unreadable { file: PathBuf, error: io::Error, hint: &'static str },
    #[error("{}: is {found}, not a regular file (or a link to /dev/null, to mask another)", file.display())]
    NotAFile { file: PathBuf, found: &'static str },
    #[error("{}: larger than {limit} bytes; this is no configuration file of hostagent", file.display())]
    TooLarge { file: PathBuf, limit: u64 },
    #[error("{place}: byte 0x{byte:02x} is not UTF-8; a configuration file is UTF-8 text")]
    NotUtf8 { place: Place, byte: u8 },
    #[error("{place}: not TOML: {message}")]
    Syntax { place: Place, message: String },
    #[error("{place}: {key}: unknown {what}; {allowed}")]
    Unknown { place: Place, key: String, what: &'static str, allowed: String },
    #[error("{place}: {key}: found {found}; allowed: {allowed}")]
    Value { place: Place, key: String, found: String, allowed: String },
    /// `place` is where "rollout" was chosen.
    #[error(
        "{place}: watch.on_ready: \"rollout\" needs fleet.rollout_role, and that is empty; set it to the ARN of the role \
         that the runbook acts with (AutomationRole of packaging/cloudformation), or choose \"restart\" or \"report\""
    )]
    NoRole { place: String },
    /// Each side is `PLACE: KEY: BLOCK`.
    #[error(
        "{endpoint} overlaps {public}; an address is either an endpoint's or public: \
         take the block out of one of them"
    )]
    Overlap { endpoint: String, public: String },
}
