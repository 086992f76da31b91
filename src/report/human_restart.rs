//! `plan` and `restart` for people.

use super::{
    CheckView, Look, Outage, PlanReport, Render, RestartReport, Verdict,
    event::method_words,
    halt_words,
    human::{self, Page},
    look::{Tone, paint},
    ssm::{Summary, brief},
};
use crate::{decide::Plan, progress::ClusterHalt, text::clean};
use serde_json::json;

impl Render for PlanReport {
    const SCHEMA: &'static str = "hostagent/plan/1";

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn human(&self, look: Look) -> String {
        let mut page = Page::new(&self.verdict, look);
        page.reasons(&self.verdict);
        if let Some(plan) = &self.plan {
            why(&mut page, plan);
        }
        if !self.steps.is_empty() {
            page.heading("Steps");
        }
        for (n, step) in self.steps.iter().enumerate() {
            page.line(1, &format!("{:>2}. {}", n + 1, clean(&step.what)));
            if !step.why.is_empty() {
                page.line(5, &paint(Tone::Faint, &step.why));
            }
            if !step.on_failure.is_empty() {
                page.line(5, &format!("if not: {}", clean(&step.on_failure)));
            }
        }
        page.findings(&self.findings);
        page.next(self.verdict.verdict.next_after_plan());
        page.finish()
    }

    fn summary(&self) -> Summary {
        Summary {
            facts: self.plan.iter().flat_map(plan_facts).collect(),
            lists: vec![
                ("reasons", human::reasons(&self.verdict)),
                ("why", self.plan.iter().flat_map(|plan| &plan.why).map(|line| brief(line)).collect()),
                ("steps", self.steps.iter().map(|step| brief(&step.what)).collect()),
                ("findings", human::findings(&self.findings)),
            ],
        }
    }
}

impl Render for RestartReport {
    const SCHEMA: &'static str = "hostagent/restart/1";

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn human(&self, look: Look) -> String {
        let mut page = Page::new(&self.verdict, look);
        page.reasons(&self.verdict);
        if let Some(plan) = &self.plan {
            why(&mut page, plan);
        }
        if !self.checks.is_empty() {
            page.heading("Verified");
            page.table(&[], self.checks.iter().map(check_row).collect());
        }
        if !self.before.is_empty() || !self.after.is_empty() {
            match &self.plan {
                Some(_) if !self.after.is_empty() => {
                    page.connections("Connections before", &self.before);
                    page.connections("Connections after", &self.after);
                }
                // Nothing was done: there is no before and after.
                _ => page.connections("The agent's connections", &self.before),
            }
        }
        if let Some(outage) = &self.outage {
            page.heading("Outage");
            page.line(2, &outage_words(outage));
        }
        if let Some(words) = halt_words(&self.halt) {
            page.heading("Cluster");
            let tone = if matches!(self.halt, ClusterHalt::NotWritten { .. }) { Tone::Bad } else { Tone::Warn };
            page.line(2, &paint(tone, &words));
        }
        page.findings(&self.findings);
        page.next(self.verdict.verdict.next_after_restart());
        page.finish()
    }

    fn summary(&self) -> Summary {
        let mut facts = Vec::new();
        facts.extend(self.run_id.as_deref().map(|id| ("run_id", brief(id))));
        if self.halt != ClusterHalt::NotNeeded {
            facts.push(("halt", halt_brief(&self.halt)));
        }
        facts.extend(self.outage.map(|outage| ("outage", json!(outage))));
        facts.extend(self.plan.iter().flat_map(plan_facts));
        let failed = self.checks.iter().filter(|check| check.passed != Some(true));
        let failed = failed.map(|c| json!({ "name": brief(&c.name), "passed": c.passed, "detail": brief(&c.detail) }));
        facts.push(("checks_passed", self.checks.iter().filter(|check| check.passed == Some(true)).count().into()));
        Summary {
            facts,
            lists: vec![
                ("reasons", human::reasons(&self.verdict)),
                ("checks_failed", failed.collect()),
                ("after", human::connections(&self.after)),
                ("before", human::connections(&self.before)),
                ("findings", human::findings(&self.findings)),
            ],
        }
    }
}

/// As in the JSON document, and short.
fn halt_brief(halt: &ClusterHalt) -> serde_json::Value {
    match halt {
        ClusterHalt::NotWritten { why } => json!({ "state": "not_written", "why": brief(why) }),
        halt => json!(halt),
    }
}

fn plan_facts(plan: &Plan) -> [(&'static str, serde_json::Value); 2] {
    [("method", brief(&method_words(&plan.method))), ("deadline_s", plan.deadline_s.into())]
}

fn why(page: &mut Page, plan: &Plan) {
    if plan.why.is_empty() {
        return;
    }
    page.heading("Why");
    for line in &plan.why {
        page.line(2, &format!("- {}", clean(line)));
    }
}

fn check_row(check: &CheckView) -> Vec<String> {
    let word = match check.passed {
        Some(true) => "ok",
        Some(false) => "FAILED",
        None => "not seen",
    };
    let name = check.name.replace(['-', '_'], " ");
    vec![paint(Tone::of(check.passed), word), human::cell(&name), human::cell(&check.detail)]
}

fn outage_words(outage: &Outage) -> String {
    let seconds = |s: Option<f64>| s.map_or_else(|| "not measured".to_owned(), |s| format!("{s:.2} s"));
    format!(
        "agent API {} · websockets {} · credential rules {}",
        seconds(outage.agent_api_s),
        seconds(outage.websockets_s),
        seconds(outage.credential_rules_s)
    )
}
