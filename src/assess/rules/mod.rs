//! The rules, as one table: what each looks at, how severe it is, and what it found.
//!
//! A rule says what is so and what to do about it. What follows for a restart is told by its severity alone, so that
//! `decide` needs to know no rule by name.

mod agent;
mod network;
mod restart;

pub use restart::{reloads, settled, version_allowed};

use super::connections::{Connection, Need};
use super::ownership::{Condition, Ownership};
use super::services::ServiceReport;
use super::targets::Targets;
use crate::catalog::Service;
use crate::config::Settings;
use crate::facts::{Missing, Observation};
use serde::{Deserialize, Serialize};

/// What a finding means for a restart. Ordered from harmless to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// To be looked at; does not stand in the way of a restart.
    Warning,
    /// A restart waits until it has passed.
    Hold,
    /// The endpoints are not ready.
    Waiting,
    /// A fact that is needed before acting could not be had.
    Missing,
    /// A restart would not be safe, or not help.
    Refuse,
    /// A fact without which nothing can be said of the agent could not be had.
    Blind,
    /// The agent is down or cannot serve its tasks.
    Broken,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Rule identifier, stable across versions: `version-too-old`.
    pub rule: String,
    pub severity: Severity,
    /// The service it is about, if it is about one.
    pub service: Option<Service>,
    /// One line: what was found.
    pub text: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

/// What the rules look at.
pub(super) struct View<'a> {
    pub seen: &'a Observation,
    pub settings: &'a Settings,
    pub ownership: &'a Ownership,
    pub condition: &'a Condition,
    pub targets: &'a Targets,
    pub services: &'a [ServiceReport],
    pub connections: &'a [Connection],
    pub need: &'a Need,
}

impl View<'_> {
    /// Whether ecs-init makes the next container, by its cache and `ecs.config`.
    fn ecs_init(&self) -> bool {
        matches!(self.ownership, Ownership::EcsInit { .. })
    }

    /// Whether an agent is up, supervised or not.
    fn up(&self) -> bool {
        matches!(self.condition, Condition::Running | Condition::BrokenByDocker { running: true, .. })
    }

    /// Whether an agent is there to be judged: up, or to be brought up.
    fn in_question(&self) -> bool {
        self.up() || matches!(self.condition, Condition::BrokenByDocker { .. })
    }
}

/// What one rule found.
pub(super) struct Hit {
    severity: Option<Severity>,
    service: Option<Service>,
    text: String,
    remedy: String,
}

impl Hit {
    fn new(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: None, service: None, text: text.into(), remedy: remedy.into() }
    }

    fn of(service: Service, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { service: Some(service), ..Self::new(text, remedy) }
    }

    fn missing(missing: &Missing) -> Self {
        Self::new(format!("{}: {}", missing.what, missing.why), missing.hint.clone())
    }

    /// Overrides the rule's own severity for this hit.
    fn graded(self, severity: Severity) -> Self {
        Self { severity: Some(severity), ..self }
    }
}

/// One rule of the table.
pub struct Rule {
    pub id: &'static str,
    /// The facts it looks at, for the manual.
    pub looks_at: &'static str,
    pub severity: Severity,
    check: fn(&View<'_>) -> Vec<Hit>,
}

/// Every rule, in the order findings are told.
pub fn table() -> impl Iterator<Item = &'static Rule> {
    agent::RULES.iter().chain(network::RULES).chain(restart::RULES)
}

/// The refusal of an agent that has no container; no other is told beside it.
pub const HOST_PROCESS: &str = "host-process";

/// Everything the rules find, worst first; the table's order among equals.
pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = table()
        .flat_map(|rule| {
            (rule.check)(view).into_iter().map(|hit| Finding {
                rule: rule.id.into(),
                severity: hit.severity.unwrap_or(rule.severity),
                service: hit.service,
                text: hit.text,
                remedy: hit.remedy,
            })
        })
        .collect();
    if matches!(view.ownership, Ownership::HostProcess { .. }) {
        // Nothing is restarted there, so nothing else stands in the way of it; most of these rules are about containers.
        let of_a_restart = [Severity::Hold, Severity::Missing, Severity::Refuse];
        findings.retain(|f| f.rule == HOST_PROCESS || !of_a_restart.contains(&f.severity));
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn identifiers_are_unique_and_plain() {
        let ids: Vec<&str> = table().map(|r| r.id).collect();
        let unique: BTreeSet<&&str> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
        for rule in table() {
            assert!(rule.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{}", rule.id);
            assert!(!rule.looks_at.is_empty(), "{}", rule.id);
        }
    }
}
