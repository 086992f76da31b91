//! Drop-ins merged over the defaults.

use super::{ConfigError, OnReady, Place, SYSTEM_DIRS, Settings, files, fragment, keys};
use ipnet::IpNet;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// Where drop-ins come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// [`SYSTEM_DIRS`]; those that do not exist are passed over.
    System,
    /// These directories in place of the system's, later ones winning; each must exist.
    Dirs(Vec<PathBuf>),
}

impl Source {
    /// The directories of `--config-dir`, or the system's when it was not given.
    pub fn from_args(dirs: &[PathBuf]) -> Self {
        if dirs.is_empty() { Source::System } else { Source::Dirs(dirs.to_vec()) }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(Place),
    /// A command-line option: `--wait`.
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(place) => place.fmt(f),
            Origin::Option(option) => f.write_str(option),
        }
    }
}

/// Settings with the origin of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// The files read, in the order they were applied.
    pub files: Vec<PathBuf>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Default for Loaded {
    /// The built-in defaults, no file read.
    fn default() -> Self {
        Self { settings: Settings::default(), files: Vec::new(), origins: BTreeMap::new() }
    }
}

/// Reads, checks and merges the configuration.
///
/// # Errors
/// The first thing that is wrong with any file that applies, even where a later file sets the key again.
pub fn load(source: &Source) -> Result<Loaded, ConfigError> {
    let drop_ins = match source {
        Source::System => files::drop_ins(&SYSTEM_DIRS.map(PathBuf::from), false)?,
        Source::Dirs(dirs) => files::drop_ins(dirs, true)?,
    };
    let mut loaded = Loaded::default();
    for drop_in in drop_ins {
        for entry in fragment::parse(&drop_in)? {
            let (place, set) = fragment::check(&drop_in, &entry)?;
            set(&mut loaded.settings);
            loaded.origins.insert(entry.key.name, Origin::File(place));
        }
        loaded.files.push(drop_in.path);
    }
    loaded.check_overlap()?;
    loaded.check_role()?;
    Ok(loaded)
}

impl Loaded {
    /// Where the value of `section.key` comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Every key, its value as JSON, and its origin, in the order of the sections.
    pub fn entries(&self) -> Vec<(&'static str, Value, Origin)> {
        let all = serde_json::to_value(&self.settings).unwrap_or_default();
        let value = |key: &keys::Key| all.get(key.section()).and_then(|section| section.get(key.leaf())).cloned();
        keys::KEYS.iter().map(|key| (key.name, value(key).unwrap_or_default(), self.origin(key.name))).collect()
    }

    /// Replaces `restart.task_wait_s` by what `--wait` says, in seconds.
    pub fn set_task_wait(&mut self, seconds: u64) {
        self.settings.restart.task_wait_s = seconds;
        self.origins.insert("restart.task_wait_s", Origin::Option("--wait"));
    }

    fn check_overlap(&self) -> Result<(), ConfigError> {
        let network = &self.settings.network;
        let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        let side = |key: &str, block: &IpNet| format!("{}: {key}: {block}", self.origin(key));
        for endpoint in &network.endpoint_cidrs {
            if let Some(public) = network.public_cidrs.iter().find(|public| overlap(endpoint, public)) {
                return Err(ConfigError::Overlap {
                    endpoint: side("network.endpoint_cidrs", endpoint),
                    public: side("network.public_cidrs", public),
                });
            }
        }
        Ok(())
    }

    /// A runbook without a role of its own would act with the rights of the host that happened to start it.
    fn check_role(&self) -> Result<(), ConfigError> {
        if self.settings.watch.on_ready != OnReady::Rollout || self.settings.fleet.rollout_role.is_some() {
            return Ok(());
        }
        Err(ConfigError::NoRole { place: self.origin("watch.on_ready").to_string() })
    }

    /// How many values in effect come from this file; 0 when it only masks another, or is overridden.
    pub fn in_effect(&self, file: &Path) -> usize {
        self.origins.values().filter(|origin| matches!(origin, Origin::File(place) if place.file == file)).count()
    }
}
