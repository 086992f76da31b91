//! `status`: what the service sees, since when, and what it did.

use super::{
    Look, Render, Verdict,
    human::{self, Page, cell},
    look::{Tone, paint},
    ssm::{Summary, brief},
};
use crate::text::clean;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

/// `hostagent status`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// Of the service's last look; in its reasons also that the service is down.
    #[serde(flatten)]
    pub verdict: Verdict,
    pub service: ServiceState,
    /// `observing`, `candidate`, `ready`, `waiting`, `acting`, `verifying`, `settled`, `blocked`, `broken`
    pub state: Option<String>,
    /// The state in a line, as `systemctl status` shows it.
    pub words: Option<String>,
    /// When the state began.
    pub since: Option<Timestamp>,
    pub looked_at: Option<Timestamp>,
    pub next_look: Option<Timestamp>,
    /// When all this was written down.
    pub last_words_at: Option<Timestamp>,
    pub instance: Option<String>,
    /// Whether the pause file is there.
    pub paused: bool,
    /// `None` when the history cannot be read.
    pub budget: Option<BudgetView>,
    /// Oldest first.
    pub time_line: Vec<TimeLineView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    Running,
    Stopped,
    /// It could not be told: only root may.
    Unknown,
}

/// Restarts within 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BudgetView {
    pub allowed: u32,
    pub used: u32,
    pub left: u32,
}

/// Something the service saw or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeLineView {
    pub at: Timestamp,
    /// Stable across versions: `endpoints_found`, `ready`, `moved`, …
    pub kind: String,
    pub text: String,
}

impl Render for StatusReport {
    const SCHEMA: &'static str = "hostagent/status/1";

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn human(&self, look: Look) -> String {
        let mut page = Page::new(&self.verdict, look);
        page.reasons(&self.verdict);
        page.heading("Service");
        let (word, tone) = match self.service {
            ServiceState::Running => ("running", Tone::Good),
            ServiceState::Stopped => ("not running", Tone::Bad),
            ServiceState::Unknown => ("cannot be told; run as root", Tone::Warn),
        };
        let time = |at: Option<Timestamp>| at.map(|at| format!("{at:.0}"));
        let state = self.state.as_ref().map(|state| match time(self.since) {
            Some(since) => format!("{}, since {since}", clean(state)),
            None => clean(state).into_owned(),
        });
        let budget = self.budget.map(|b| format!("{} of {} restarts left in these 24 hours", b.left, b.allowed));
        let rows = [
            ("Service", Some(paint(tone, word))),
            ("State", state),
            ("Says", self.words.as_deref().map(|words| clean(words).into_owned())),
            ("Paused", self.paused.then(|| paint(Tone::Warn, "yes: the pause file is there"))),
            ("Budget", budget.or_else(|| Some("not known: the history cannot be read".into()))),
            ("Last look", time(self.looked_at)),
            ("Next look", time(self.next_look)),
            ("Last words", time(self.last_words_at).filter(|_| self.service != ServiceState::Running)),
        ];
        for (name, value) in rows {
            if let Some(value) = value {
                page.line(2, &format!("{name:<11}{value}"));
            }
        }
        if !self.time_line.is_empty() {
            page.heading("Time line");
            let row = |e: &TimeLineView| vec![format!("{:.0}", e.at), cell(&e.kind.replace('_', " ")), cell(&e.text)];
            page.table(&[], self.time_line.iter().map(row).collect());
        }
        page.finish()
    }

    fn summary(&self) -> Summary {
        let time_line = self.time_line.iter().rev();
        Summary {
            facts: vec![
                ("service", json!(self.service)),
                ("state", json!(self.state)),
                ("since", json!(self.since)),
                ("next_look", json!(self.next_look)),
                ("budget_left", json!(self.budget.map(|b| b.left))),
                ("paused", json!(self.paused)),
            ],
            lists: vec![
                ("reasons", human::reasons(&self.verdict)),
                // Newest first: what does not fit is the oldest.
                ("time_line", time_line.map(|e| json!({ "at": e.at, "text": brief(&e.text) })).collect()),
            ],
        }
    }
}
