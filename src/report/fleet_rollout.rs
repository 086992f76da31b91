//! `fleet rollout`, `follow`, `status`, `stop`, `resume`, `install` and `uninstall`.

use super::{
    Look, Render, Verdict,
    human::{self, Page, cell},
    look::{Tone, paint},
    ssm::{Summary, brief},
    words::ending_tone,
};
use crate::{
    fleet::{
        documents::Change,
        halt::Halt,
        rollout::{KINDS, Standing},
    },
    text::clean,
};
use serde::Serialize;
use serde_json::json;

/// `hostagent fleet rollout` and `follow`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RolloutReport {
    #[serde(flatten)]
    pub verdict: Verdict,
    pub rollout: Standing,
    #[serde(skip)]
    pub next: Vec<String>,
}

impl Render for RolloutReport {
    const SCHEMA: &'static str = "hostagent/fleet-rollout/1";

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn human(&self, look: Look) -> String {
        let mut page = Page::new(&self.verdict, look);
        page.reasons(&self.verdict);
        page.heading("Rollout");
        page.line(2, &format!("{:<11}{}", "Execution", clean(&self.rollout.execution)));
        page.line(2, &format!("{:<11}{}", "For", clean(&self.rollout.whom)));
        page.line(2, &format!("{:<11}{}", "Status", clean(&self.rollout.word)));
        if let Some(state) = &self.rollout.state {
            page.line(2, &format!("{:<11}{}", "Waves", state.wave));
            page.line(2, &format!("{:<11}{}", "Hosts", state.hosts));
            for (kind, words) in KINDS.into_iter().filter(|(kind, _)| state.count(kind) > 0) {
                let tone = if matches!(kind, "moved" | "settled_before") { Tone::Good } else { Tone::Warn };
                let tone = if matches!(kind, "failed" | "broken") { Tone::Bad } else { tone };
                let named = state.samples.get(kind).map(|ids| ids.join(" ")).unwrap_or_default();
                page.line(4, &format!("{:>6} {} {}", state.count(kind), paint(tone, words), cell(&named)));
            }
        }
        page.next(&self.next.iter().map(String::as_str).collect::<Vec<_>>());
        page.finish()
    }

    fn summary(&self) -> Summary {
        let state = self.rollout.state.as_ref();
        Summary {
            facts: vec![
                ("execution", brief(&self.rollout.execution)),
                ("status", json!(self.rollout.status)),
                ("ending", json!(self.rollout.ending.word())),
                ("waves", json!(state.map(|s| s.wave))),
                ("hosts", json!(state.map(|s| s.hosts))),
                ("counts", json!(state.map(|s| &s.counts))),
                ("instance", json!(state.and_then(|s| s.instance.as_ref()))),
            ],
            lists: vec![("reasons", human::reasons(&self.verdict))],
        }
    }
}

/// `hostagent fleet status`, `stop` and `resume`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BrakesReport {
    #[serde(flatten)]
    pub verdict: Verdict,
    pub cluster: String,
    pub halt: Option<Halt>,
    /// Each calendar and whether it is open.
    pub calendars: Vec<(String, bool)>,
    /// The cluster's last rollouts, newest first; `None` where they were not asked for.
    pub rollouts: Option<Vec<Standing>>,
    #[serde(skip)]
    pub next: Vec<String>,
}

impl Render for BrakesReport {
    const SCHEMA: &'static str = "hostagent/fleet-status/1";

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn human(&self, look: Look) -> String {
        let mut page = Page::new(&self.verdict, look);
        page.reasons(&self.verdict);
        page.heading("Brakes");
        let halt = match &self.halt {
            Some(halt) => paint(Tone::Bad, &halt.words()),
            None => paint(Tone::Good, "not set"),
        };
        page.line(2, &format!("{:<11}{halt}", "Halt"));
        for (name, open) in &self.calendars {
            let state = if *open { paint(Tone::Good, "open") } else { paint(Tone::Bad, "closed") };
            page.line(2, &format!("{:<11}{state} {}", "Calendar", clean(name)));
        }
        if let Some(rollouts) = &self.rollouts {
            page.heading("Rollouts");
            if rollouts.is_empty() {
                page.line(2, "none on record");
            }
            let row = |r: &Standing| {
                let at = r.began_at.map_or_else(|| "?".into(), |at| format!("{at:.0}"));
                let word = paint(ending_tone(&r.ending), r.ending.word());
                vec![cell(&r.execution), cell(&at), word, cell(&r.says)]
            };
            page.table(&[], rollouts.iter().map(row).collect());
        }
        page.next(&self.next.iter().map(String::as_str).collect::<Vec<_>>());
        page.finish()
    }

    fn summary(&self) -> Summary {
        let rollouts = self.rollouts.iter().flatten();
        Summary {
            facts: vec![
                ("cluster", brief(&self.cluster)),
                ("halt", json!(self.halt.as_ref().map(Halt::words))),
                ("calendars", json!(self.calendars)),
            ],
            lists: vec![(
                "rollouts",
                rollouts
                    .map(|r| json!({ "execution": r.execution, "status": r.status, "says": brief(&r.says) }))
                    .collect(),
            )],
        }
    }
}

/// `hostagent fleet install` and `uninstall`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentsReport {
    #[serde(flatten)]
    pub verdict: Verdict,
    pub region: String,
    pub dry_run: bool,
    pub documents: Vec<DocumentView>,
    /// What was done about each association, in words.
    pub associations: Vec<String>,
    #[serde(skip)]
    pub next: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentView {
    pub name: String,
    /// In words: `created`, `version 3 is the default now`, …
    pub done: String,
    #[serde(flatten)]
    pub change: Option<Change>,
}

impl Render for DocumentsReport {
    const SCHEMA: &'static str = "hostagent/fleet-documents/1";

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn human(&self, look: Look) -> String {
        let mut page = Page::new(&self.verdict, look);
        page.reasons(&self.verdict);
        page.heading("Documents");
        page.table(&[], self.documents.iter().map(|d| vec![cell(&d.name), cell(&d.done)]).collect());
        for association in &self.associations {
            page.line(2, &clean(association));
        }
        for document in &self.documents {
            if let Some(diff) = document.change.as_ref().map(Change::diff).filter(|diff| !diff.is_empty()) {
                page.heading(&format!("Changes of {}", document.name));
                for line in diff.lines() {
                    let tone = match line.as_bytes().first() {
                        Some(b'+') => Tone::Good,
                        Some(b'-') => Tone::Bad,
                        _ => Tone::Faint,
                    };
                    page.line(2, &paint(tone, line));
                }
            }
        }
        page.next(&self.next.iter().map(String::as_str).collect::<Vec<_>>());
        page.finish()
    }

    fn summary(&self) -> Summary {
        let document = |d: &DocumentView| json!({ "name": d.name, "done": d.done });
        Summary {
            facts: vec![("region", brief(&self.region)), ("dry_run", json!(self.dry_run))],
            lists: vec![
                ("reasons", human::reasons(&self.verdict)),
                ("documents", self.documents.iter().map(document).collect()),
            ],
        }
    }
}
