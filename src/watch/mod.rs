//! The service: notices endpoints, moves the agent once, and says what it sees.
//!
//! | file | what it holds |
//! |---|---|
//! | [`state`] | the states as values, what can happen, what is then done |
//! | [`step`](step()) | the one pure function from one state to the next |
//! | [`gates`], [`rollout`] | what stands between "ready" and the deed; the deed that is the cluster's runbook |
//! | [`splay`], [`schedule`] | how long a host waits before it acts; when to look next |
//! | [`burst`] | one look for many events |
//! | [`compliance`] | when SSM Compliance is told |
//! | [`words`] | states in words a person can read in `systemctl status` |
//! | [`saved`] | the last words on disk: state and time line |
//! | [`record`] | what is told of it: journal, systemd, the words on disk |
//! | [`hooks`], [`notify`] | programs that may veto; what systemd is told |
//! | [`errand`], [`work`] | looks and runs, each in a process of its own |
//! | [`driver`] | the loop around it all: timers, signals, events, the hand-off |
//!
//! Time inside is counted from the boot, by a clock that nobody sets: a clock that jumps neither hurries nor holds up
//! anything but the window, which is a matter of the time of day.

pub mod burst;
pub mod compliance;
pub mod driver;
pub mod errand;
mod gates;
pub mod hooks;
pub mod notify;
mod record;
pub mod rollout;
pub mod saved;
pub mod schedule;
pub mod splay;
pub mod state;
mod step;
pub mod words;
mod work;

pub use step::step;

use crate::config::{OnReady, Settings, Window};
use std::{path::PathBuf, time::Duration};

/// What the operator wants of the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub on_ready: OnReady,
    /// Agreeing looks before "ready"; taken as at least 2.
    pub samples: u32,
    /// They span at least this many seconds, and more than one TTL.
    pub min_spread_s: u64,
    pub splay_max: Duration,
    pub settled_interval: Duration,
    /// For the words of what holds it.
    pub window: Vec<Window>,
    pub pause_file: PathBuf,
}

impl Policy {
    pub fn new(settings: &Settings) -> Self {
        Self {
            on_ready: settings.watch.on_ready,
            samples: settings.confirm.samples.max(2),
            min_spread_s: settings.confirm.min_spread_s,
            splay_max: Duration::from_secs(settings.watch.splay_max_s),
            settled_interval: Duration::from_secs(settings.watch.settled_interval_s),
            window: settings.watch.window.clone(),
            pause_file: settings.watch.pause_file.clone(),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}
