//! `check` for people, and the pieces the other pages share.

use super::{
    CheckReport, ConnectionView, FindingView, Look, Render, ServiceView, Severity, Verdict,
    look::{Tone, finish, paint},
    model::sorted,
    ssm::{Summary, brief},
};
use crate::text::{clean, cut};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

/// The rule that finds each connection that is not on an endpoint.
const STALE: &str = "stale-connection";

impl Render for CheckReport {
    const SCHEMA: &'static str = "hostagent/check/1";

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn human(&self, look: Look) -> String {
        let mut page = Page::new(&self.verdict, look);
        page.reasons(&self.verdict);
        page.services(self);
        page.connections("The agent's connections", &self.connections);
        page.agent(self);
        // The table of connections has said where each leads.
        let findings: Vec<FindingView> =
            self.findings.iter().filter(|finding| finding.rule != STALE).cloned().collect();
        page.findings(&findings);
        page.next(self.verdict.verdict.next_after_check());
        page.finish()
    }

    fn summary(&self) -> Summary {
        let services = self.services.iter().map(|s| {
            let bad: Vec<&str> =
                s.addresses.iter().filter(|a| a.reached == Some(false)).map(|a| a.ip.as_str()).collect();
            let mut entry = json!({ "service": s.service, "path": s.path });
            if !bad.is_empty() {
                entry["unreachable"] = brief(&bad.join(" "));
            }
            entry
        });
        let agent = &self.agent;
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        let facts = [
            ("version", &agent.version),
            ("cluster", &agent.cluster),
            ("instance", &agent.instance),
            ("zone", &agent.zone),
            ("hostagent", &version),
        ];
        Summary {
            facts: facts.into_iter().filter_map(|(key, fact)| Some((key, brief(fact.as_deref()?)))).collect(),
            lists: vec![
                ("reasons", reasons(&self.verdict)),
                ("connections", connections(&self.connections)),
                ("services", services.collect()),
                ("findings", findings(&self.findings)),
            ],
        }
    }
}

pub(super) fn reasons(verdict: &Verdict) -> Vec<Value> {
    verdict
        .reasons
        .iter()
        .map(|r| json!({ "rule": brief(&r.rule), "text": brief(&r.text), "remedy": brief(&r.remedy) }))
        .collect()
}

pub(super) fn connections(connections: &[ConnectionView]) -> Vec<Value> {
    connections.iter().map(|c| json!({ "service": c.service, "peer": brief(&c.peer), "path": c.path })).collect()
}

pub(super) fn findings(findings: &[FindingView]) -> Vec<Value> {
    sorted(findings)
        .iter()
        .map(|f| json!({ "rule": brief(&f.rule), "severity": f.severity, "text": brief(&f.text) }))
        .collect()
}

/// A page being written. Everything from outside goes through `paint` or `clean`.
pub(super) struct Page {
    text: String,
    look: Look,
}

impl Page {
    pub fn new(verdict: &Verdict, look: Look) -> Self {
        let word = paint(verdict.verdict.tone(), verdict.verdict.shout());
        Self { text: format!("{word}: {}\n", clean(&verdict.headline)), look }
    }

    pub fn finish(self) -> String {
        finish(&self.text, self.look)
    }

    pub fn line(&mut self, indent: usize, text: &str) {
        self.text.push_str(&format!("{:indent$}{text}\n", ""));
    }

    pub fn heading(&mut self, text: &str) {
        self.text.push('\n');
        self.line(0, &paint(Tone::Strong, text));
    }

    /// Rows under a heading line, indented; cells are clean or painted already.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        match self.look.width {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        if !header.is_empty() {
            table.set_header(header.iter().map(|cell| paint(Tone::Faint, cell)));
        }
        table.add_rows(rows);
        for line in table.lines() {
            self.line(1, line.trim_end());
        }
    }

    /// What stands in the way, with the remedies. A reason that the verdict line gives in full is not repeated.
    pub fn reasons(&mut self, verdict: &Verdict) {
        for reason in &verdict.reasons {
            let rule = paint(Tone::Faint, &format!("[{}]", reason.rule));
            if verdict.headline != reason.text {
                self.line(2, &format!("- {} {rule}", clean(&reason.text)));
            }
            if !reason.remedy.is_empty() {
                self.line(4, &format!("→ {}", clean(&reason.remedy)));
            }
        }
    }

    fn services(&mut self, report: &CheckReport) {
        let services = &report.services;
        if services.is_empty() {
            return;
        }
        self.heading("Services");
        let row = |s: &ServiceView| {
            // Which address goes where matters only when they differ.
            let mixed = s.addresses.iter().any(|a| a.path != s.path);
            let address = |a: &super::AddressView| {
                if mixed { format!("{} ({})", cell(&a.ip), cell(&a.path)) } else { cell(&a.ip) }
            };
            vec![
                cell(&s.service),
                cell(&s.host),
                s.addresses.iter().map(address).collect::<Vec<_>>().join(" "),
                paint(Tone::of(s.private), &words(&s.path)),
                reach(s),
            ]
        };
        self.table(&["service", "host", "addresses", "path", "reach"], services.iter().map(row).collect());
        let said = |remedy: &str| {
            let reasons = report.verdict.reasons.iter().map(|reason| &reason.remedy);
            reasons.chain(report.findings.iter().map(|finding| &finding.remedy)).any(|other| other == remedy)
        };
        for service in services.iter().filter(|s| !s.remedy.is_empty() && !said(&s.remedy)) {
            self.line(2, &format!("→ {}: {}", clean(&service.service), clean(&service.remedy)));
        }
    }

    pub fn connections(&mut self, heading: &str, connections: &[ConnectionView]) {
        self.heading(heading);
        if connections.is_empty() {
            self.line(2, "none seen");
            return;
        }
        let row = |c: &ConnectionView| {
            vec![cell(c.service.as_deref().unwrap_or("?")), cell(&c.peer), paint(Tone::of(c.private), &words(&c.path))]
        };
        self.table(&["service", "peer", "path"], connections.iter().map(row).collect());
    }

    fn agent(&mut self, report: &CheckReport) {
        let a = &report.agent;
        let facts = [
            ("version", &a.version),
            ("owner", &a.owner),
            ("container", &a.container),
            ("cluster", &a.cluster),
            ("instance", &a.instance),
            ("region", &a.region),
        ];
        let known =
            |(name, fact): &(&str, &Option<String>)| fact.as_deref().map(|fact| format!("{name} {}", clean(fact)));
        let unknown: Vec<&str> = facts.iter().filter(|(_, fact)| fact.is_none()).map(|(name, _)| *name).collect();
        self.heading("Agent");
        let mut parts: Vec<String> = facts.iter().filter_map(known).collect();
        if !unknown.is_empty() {
            parts.push(paint(Tone::Warn, &format!("not seen: {}", unknown.join(", "))));
        }
        self.line(2, &parts.join(" · "));
        if let Some(converges) = &a.converges {
            self.line(2, &clean(converges));
        }
    }

    pub fn findings(&mut self, findings: &[FindingView]) {
        if findings.is_empty() {
            return;
        }
        self.heading("Findings");
        for finding in sorted(findings) {
            let (word, tone) = match finding.severity {
                Severity::Error => ("error", Tone::Bad),
                Severity::Warning => ("warning", Tone::Warn),
                Severity::Info => ("info", Tone::Faint),
            };
            let rule = paint(Tone::Faint, &format!("[{}]", finding.rule));
            self.line(2, &format!("{}: {} {rule}", paint(tone, word), clean(&finding.text)));
            for evidence in &finding.evidence {
                self.line(6, &clean(evidence));
            }
            if !finding.remedy.is_empty() {
                self.line(4, &format!("→ {}", clean(&finding.remedy)));
            }
        }
    }

    /// What to type next, one command a line.
    pub fn next(&mut self, commands: &[&str]) {
        for (n, command) in commands.iter().enumerate() {
            let label = if n == 0 { format!("\n{}:", paint(Tone::Strong, "Next")) } else { "     ".to_owned() };
            self.line(0, &format!("{label} {command}"));
        }
    }
}

/// `private_elsewhere` as people write it.
fn words(path: &str) -> String {
    cell(&path.replace('_', " "))
}

/// Text of a table's cell: what is longer is in the JSON.
pub(super) fn cell(text: &str) -> String {
    cut(&clean(text), 200).into_owned()
}

fn reach(service: &ServiceView) -> String {
    let probed: Vec<_> = service.addresses.iter().filter(|a| a.reached.is_some()).collect();
    let bad: Vec<_> = probed.iter().filter(|a| a.reached == Some(false)).collect();
    match (probed.len(), bad.as_slice()) {
        (0, _) => paint(Tone::Faint, "not tried"),
        (_, []) => paint(Tone::Good, "ok"),
        (1, [one]) => paint(Tone::Bad, &cell(&one.reach)),
        (n, bad) => {
            let bad_words: Vec<String> = bad.iter().map(|a| format!("{}: {}", a.ip, a.reach)).collect();
            let word = paint(Tone::Bad, &format!("{} of {n}", n - bad.len()));
            format!("{word} ok; {}", cell(&bad_words.join("; ")))
        }
    }
}
