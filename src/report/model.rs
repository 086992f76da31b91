//! What is rendered. The JSON documents are these structs, field by field: see [`super::json`].

use crate::{
    decide::{Plan, Reason},
    facts::Observation,
    progress::ClusterHalt,
};
use serde::Serialize;

/// The answer, its exit code and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    pub verdict: Word,
    pub exit_code: u8,
    /// What follows the word: "3 of the agent's 3 connections are public, …". One line.
    pub headline: String,
    pub reasons: Vec<Reason>,
}

/// The verdict in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Nothing to do: every connection is on an endpoint.
    Settled,
    /// `check`: the endpoints are ready and the agent is not on them.
    Restart,
    /// `check`: the agent is down or unsupervised, and can be mended.
    Repair,
    Waiting,
    Refuse,
    /// Budget, cool-down, or tried already.
    Spent,
    /// Another restart is under way.
    Busy,
    Broken,
    Unknown,
    /// `restart`: moved, and proved.
    Moved,
    /// `restart --repair`: mended, and proved.
    Repaired,
    /// `restart`: carried out, and not all of it could be proved.
    NotVerified,
    /// `fleet`: what was asked for is done.
    Done,
    /// `fleet`: a rollout ended before all was done that could be.
    Unfinished,
    /// `fleet`: a rollout goes on.
    UnderWay,
    /// `fleet`: nothing further is moved.
    Halted,
}

/// `hostagent check`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    #[serde(flatten)]
    pub verdict: Verdict,
    pub agent: AgentView,
    pub services: Vec<ServiceView>,
    pub connections: Vec<ConnectionView>,
    #[serde(serialize_with = "worst_first")]
    pub findings: Vec<FindingView>,
    /// Everything that was seen, as it was seen.
    pub observation: Option<Observation>,
}

/// `hostagent plan`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    #[serde(flatten)]
    pub verdict: Verdict,
    /// `None` when nothing would be done.
    pub plan: Option<Plan>,
    /// The plan in words, in order.
    pub steps: Vec<Step>,
    #[serde(serialize_with = "worst_first")]
    pub findings: Vec<FindingView>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What is done.
    pub what: String,
    /// Why, or what it means.
    pub why: String,
    /// What happens when it does not work; empty where nothing can fail.
    pub on_failure: String,
}

/// `hostagent restart`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestartReport {
    #[serde(flatten)]
    pub verdict: Verdict,
    /// `None` when nothing was begun.
    pub run_id: Option<String>,
    pub plan: Option<Plan>,
    pub checks: Vec<CheckView>,
    pub before: Vec<ConnectionView>,
    pub after: Vec<ConnectionView>,
    pub outage: Option<Outage>,
    /// What became of the halt of this host's cluster.
    pub halt: ClusterHalt,
    #[serde(serialize_with = "worst_first")]
    pub findings: Vec<FindingView>,
}

/// One thing that had to be true after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckView {
    /// Stable identifier: `same-container-instance`.
    pub name: String,
    /// `None`: could not be seen.
    pub passed: Option<bool>,
    /// What was seen, in a line.
    pub detail: String,
}

/// For how long something was away, in seconds; `None` where it was not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Outage {
    pub agent_api_s: Option<f64>,
    pub websockets_s: Option<f64>,
    pub credential_rules_s: Option<f64>,
}

/// The agent in a line; `None` where it could not be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AgentView {
    pub version: Option<String>,
    /// `ecs.service (ecs-init)`, `bare Docker`, …
    pub owner: Option<String>,
    /// `ecs-agent 3f2a… running`
    pub container: Option<String>,
    pub cluster: Option<String>,
    pub container_instance: Option<String>,
    pub instance: Option<String>,
    pub region: Option<String>,
    /// Availability zone.
    pub zone: Option<String>,
    /// When the agent would move by itself at the latest, in words.
    pub converges: Option<String>,
}

/// One service name and the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceView {
    /// `ecs-agent`
    pub service: String,
    pub host: String,
    /// `com.amazonaws.eu-west-1.ecs-agent`: what to create.
    pub endpoint_service: Option<String>,
    pub addresses: Vec<AddressView>,
    /// Path of all addresses together: `endpoint`, `mixed`, `public`, `nx_domain`, …
    pub path: String,
    /// Whether that path is the wanted one; `None` when it cannot be seen from a host.
    pub private: Option<bool>,
    /// What to create or open; empty when nothing is missing.
    pub remedy: String,
}

/// One address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressView {
    pub ip: String,
    pub ttl_s: Option<u32>,
    /// `endpoint`, `private_elsewhere`, `public`
    pub path: String,
    /// `None`: not probed.
    pub reached: Option<bool>,
    /// How far the probe came, in words.
    pub reach: String,
}

/// One connection of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionView {
    /// `None` when the address does not tell.
    pub service: Option<String>,
    pub peer: String,
    /// `endpoint`, `private_elsewhere`, `proxy`, `public`, `unknown`
    pub path: String,
    /// Whether it is where it should be; `None` when that cannot be told.
    pub private: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Error,
    Warning,
    Info,
}

/// Something that was found, its evidence, and what to type next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindingView {
    /// Rule identifier, stable across versions.
    pub rule: String,
    pub severity: Severity,
    pub text: String,
    pub evidence: Vec<String>,
    pub remedy: String,
}

/// Findings by severity; within one, as they were found.
pub(super) fn sorted(findings: &[FindingView]) -> Vec<&FindingView> {
    let mut sorted: Vec<&FindingView> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.severity);
    sorted
}

fn worst_first<S: serde::Serializer>(findings: &[FindingView], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sorted(findings))
}
