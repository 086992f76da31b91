//! The last words on disk: what the service is at, and the time line of what it saw and did.

use super::state::{Kind, Note, State};
use crate::{
    config::Settings,
    decide::Decision,
    ports::store::{self, StoreError},
    progress::Outage,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Entries of the time line that are kept.
const KEPT: usize = 50;

/// `watch.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// `/proc/sys/kernel/random/boot_id`; the marks in `state` count from that boot.
    pub boot_id: String,
    pub state: State,
    /// When the phase began.
    pub since: Option<Timestamp>,
    /// When these words were written.
    pub at: Option<Timestamp>,
    /// The state in words.
    pub words: String,
    /// What the last look came to, and when it was made.
    pub decision: Option<Decision>,
    pub looked_at: Option<Timestamp>,
    pub next_look: Option<Timestamp>,
    /// The last run that was followed to its end.
    pub last_run: Option<LastRun>,
    /// How long the agent was seen with connections that are not on endpoints, in seconds.
    #[serde(default)]
    pub public_path_s: f64,
    /// Looks of which nothing came.
    #[serde(default)]
    pub looks_lost: u64,
    /// Oldest first.
    pub time_line: Vec<Entry>,
}

/// A run in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    pub run_id: String,
    /// When it ended.
    pub at: Timestamp,
    pub acted: bool,
    pub exit_code: u8,
    pub outage: Option<Outage>,
}

/// Something the service saw or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    pub kind: Kind,
    pub text: String,
}

impl Saved {
    pub fn add(&mut self, at: Timestamp, note: &Note) {
        self.time_line.push(Entry { at, kind: note.kind, text: note.text.clone() });
        let old = self.time_line.len().saturating_sub(KEPT);
        self.time_line.drain(..old);
    }
}

/// Where the service keeps its words.
pub fn path(settings: &Settings) -> PathBuf {
    settings.paths.state_dir.join("watch.json")
}

/// The same, written at every look to where nothing has to be spared.
pub fn live_path(settings: &Settings) -> PathBuf {
    settings.paths.runtime_dir.join("watch.json")
}

/// Held by the service as long as it runs.
pub fn lock(settings: &Settings) -> PathBuf {
    settings.paths.runtime_dir.join("watch.lock")
}

/// The last words; `None` where no service ever ran. The fresher of the two files that can be read.
pub fn read(settings: &Settings) -> Result<Option<Saved>, StoreError> {
    let live = store::read::<Saved>(&live_path(settings)).ok().flatten();
    match store::read::<Saved>(&path(settings)) {
        Ok(Some(kept)) if live.as_ref().is_none_or(|live| live.at < kept.at) => Ok(Some(kept)),
        Ok(_) => Ok(live),
        Err(error) => live.map(Some).ok_or(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_line_forgets_the_oldest() {
        let mut saved = Saved::default();
        for n in 0..60 {
            saved.add(Timestamp::UNIX_EPOCH, &Note { kind: Kind::Observing, text: n.to_string() });
        }
        assert_eq!((saved.time_line.len(), saved.time_line[0].text.as_str()), (50, "10"));
    }
}
