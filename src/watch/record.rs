//! What the service tells: the journal, systemd, and its words on disk.

use super::{
    driver::{Driver, up_ms},
    notify, saved,
    state::{Kind, Note},
    words,
};
use crate::{
    decide::Decision,
    ports::store,
    report::metrics::{self, OneOf},
};
use jiff::Timestamp;

impl Driver {
    /// Into the time line and the journal.
    pub(super) fn note(&mut self, kind: Kind, text: impl Into<String>) {
        let text = text.into();
        let state = words::phase(&self.saved.state.phase);
        // The names under which the journal's catalog knows what matters. Restarts have theirs in the run's own unit.
        let event = match (kind, &self.saved.decision) {
            (Kind::Ready, _) => Some("endpoints-ready"),
            (Kind::EndpointsGone, _) => Some("endpoints-gone"),
            (Kind::ReloadRefused, _) => Some("configuration-refused"),
            (Kind::Unknown, _) => Some("blocked"),
            (Kind::Blocked, Some(Decision::Refuse { .. })) => Some("refused"),
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

    /// The metrics of the last look with the state as it is now, where a file is configured for them.
    fn expose(&mut self) {
        let (Some(path), Some(view)) = (&self.settings.watch.metrics_file, &mut self.metrics) else { return };
        view.state = OneOf::new(words::phase(&self.saved.state.phase), &words::PHASES);
        let trouble = store::publish(path, &metrics::render(view)).err().map(|error| error.to_string());
        if trouble != self.metrics_trouble {
            if let Some(error) = &trouble {
                tracing::warn!("metrics cannot be written: {error}");
            }
            self.metrics_trouble = trouble;
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
