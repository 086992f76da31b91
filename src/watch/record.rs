//! What the service tells: the journal, systemd, and its words on disk.

use super::{
    driver::{Driver, up_ms},
    notify, saved,
    state::{Kind, Note},
    words,
};
use crate::{
    config::Inventory,
    decide::Decision,
    events,
    ports::store,
    report::{
        inventory,
        metrics::{self, OneOf},
    },
};
use jiff::Timestamp;
use std::path::{Path, PathBuf};

/// A file that others read. What is wrong with it is said once.
pub(super) struct Outlet {
    what: &'static str,
    trouble: Option<String>,
    /// What stands there, as far as we know.
    written: Option<(PathBuf, String)>,
}

impl Outlet {
    pub fn new(what: &'static str) -> Self {
        Self { what, trouble: None, written: None }
    }

    fn write(&mut self, path: &Path, text: String) {
        if self.written.as_ref().is_some_and(|(at, old)| at == path && *old == text) {
            return;
        }
        let trouble = store::publish(path, &text).err().map(|error| error.to_string());
        self.written = trouble.is_none().then(|| (path.to_owned(), text));
        if trouble != self.trouble {
            if let Some(error) = &trouble {
                tracing::warn!("{} cannot be written: {error}", self.what);
            }
            self.trouble = trouble;
        }
    }
}

impl Driver {
    /// Into the time line and the journal.
    pub(super) fn note(&mut self, kind: Kind, text: impl Into<String>) {
        let text = text.into();
        let state = words::phase(&self.saved.state.phase);
        // The names under which the journal's catalog knows what matters. Restarts have theirs in the run's own unit.
        let event = match (kind, &self.saved.decision) {
            (Kind::Ready, _) => Some(events::ENDPOINTS_READY.name),
            (Kind::EndpointsGone, _) => Some(events::ENDPOINTS_GONE.name),
            (Kind::ReloadRefused, _) => Some(events::CONFIGURATION_REFUSED.name),
            (Kind::Unknown, _) => Some(events::BLOCKED.name),
            (Kind::Blocked, Some(Decision::Refuse { .. })) => Some(events::REFUSED.name),
            _ => None,
        };
        let (kind_id, why) = (kind.id(), event.map(|_| text.as_str()));
        match kind {
            Kind::Broken | Kind::NotVerified => tracing::error!(kind = kind_id, state, event, why, "{text}"),
            kind if kind.warns() => tracing::warn!(kind = kind_id, state, event, why, "{text}"),
            _ => tracing::info!(kind = kind_id, state, event, why, "{text}"),
        }
        self.saved.add(Timestamp::now(), &Note { kind, text });
    }

    /// Writes the words where they last. The service goes on without: what needs a record refuses by itself.
    pub(super) fn keep(&mut self) {
        self.saved.at = Some(Timestamp::now());
        self.saved.words = self.words();
        let written = store::write(&saved::path(&self.settings), &self.saved);
        let trouble = written.err().map(|error| error.to_string());
        if trouble != self.record_trouble {
            self.record_trouble = trouble.clone();
            match trouble {
                Some(error) => self.note(Kind::Record, format!("what the service sees cannot be recorded: {error}")),
                None => self.note(Kind::Record, "what the service sees can be recorded again"),
            }
        }
        self.publish();
    }

    /// For whoever asks: `hostagent status` reads this file; what else tells of the state (metrics, inventory) is
    /// written from here, too.
    pub(super) fn publish(&mut self) {
        self.saved.at = Some(Timestamp::now());
        self.saved.words = self.words();
        if let Err(error) = store::write(&saved::live_path(&self.settings), &self.saved) {
            tracing::debug!(%error, "the live words could not be written");
        }
        self.expose();
    }

    /// The last look for programs of others, with the state as it is now.
    fn expose(&mut self) {
        let inventory = self.inventory_file();
        let Some(view) = &mut self.told else { return };
        view.metrics.state = OneOf::new(words::phase(&self.saved.state.phase), &words::PHASES);
        if let Some(decision) = &self.saved.decision {
            view.metrics.decision.now = decision.word().into();
            view.reasons = decision.reasons().to_vec();
        }
        (view.since, view.says) = (self.saved.since, self.saved.words.clone());
        if let Some(path) = &self.settings.watch.metrics_file {
            self.metrics.write(path, metrics::render(&view.metrics));
        }
        if let Some(path) = inventory {
            self.inventory.write(&path, inventory::render(view));
        }
    }

    fn inventory_file(&self) -> Option<PathBuf> {
        match &self.settings.watch.inventory {
            Inventory::Off => None,
            Inventory::File(path) => Some(path.clone()),
            Inventory::Auto => {
                let instance = self.saved.state.instance_id.as_deref()?;
                let file = inventory::file(Path::new(inventory::SSM_DATA), instance)?;
                file.parent().is_some_and(Path::is_dir).then_some(file)
            }
        }
    }

    pub(super) fn words(&self) -> String {
        let now = Timestamp::now();
        let words = words::status(&self.saved.state, self.saved.decision.as_ref(), up_ms(), now, &self.policy);
        match &self.config_trouble {
            Some(error) => format!("{words}; configuration refused: {error}"),
            None => words,
        }
    }

    /// One line for `systemctl status`, when it is another one.
    pub(super) fn tell(&mut self) {
        let words = self.words();
        if words != self.said {
            notify::status(&words);
            self.said = words;
        }
    }
}
