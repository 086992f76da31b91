//! A rollout: the parameters of its runbook, and what the runbook says of itself as it goes.

use super::ending::Ending;
use crate::{
    decide::EndpointSet,
    facts::{Execution, ExecutionStatus, Targets},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// What a rollout is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub targets: Targets,
    /// The most hosts of a zone at once, in percent: 1 to 100.
    pub zone_share: u8,
    /// Each wave is at most so many times the one before: 2 to 10.
    pub growth: u8,
    /// Between two waves; at most an hour.
    pub pause: Duration,
    /// How long a host waits for its tasks that are between two states.
    pub wait: Duration,
    pub calendars: Vec<String>,
    pub alarms: Vec<String>,
    pub approvers: Vec<String>,
    /// SNS topic that is told of the approval wanted.
    pub approval_topic: Option<String>,
    /// ARN of the role Automation acts with.
    pub role: String,
}

impl Plan {
    /// With the runbook's own defaults; it has none for the role.
    pub fn new(targets: Targets, role: &str) -> Self {
        Self {
            targets,
            zone_share: 10,
            growth: 4,
            pause: Duration::from_secs(60),
            wait: Duration::from_secs(300),
            calendars: Vec::new(),
            alarms: Vec::new(),
            approvers: Vec::new(),
            approval_topic: None,
            role: role.to_owned(),
        }
    }

    /// As the runbook takes them. What is empty is left to its defaults.
    pub fn parameters(&self) -> BTreeMap<String, Vec<String>> {
        let mut parameters = BTreeMap::new();
        let mut set = |name: &str, values: Vec<String>| {
            if values.iter().any(|value| !value.is_empty()) {
                parameters.insert(name.to_owned(), values);
            }
        };
        match &self.targets {
            Targets::Cluster(name) => set("Cluster", vec![name.clone()]),
            Targets::Tag { key, value } => {
                set("TagKey", vec![key.clone()]);
                set("TagValue", vec![value.clone()]);
            }
            Targets::Instances(ids) => set("InstanceIds", ids.clone()),
        }
        set("ZoneShare", vec![self.zone_share.to_string()]);
        set("Growth", vec![self.growth.to_string()]);
        set("Pause", vec![self.pause.as_secs().to_string()]);
        set("Wait", vec![wait(self.wait)]);
        set("Calendars", self.calendars.clone());
        set("Alarms", self.alarms.clone());
        set("Approvers", self.approvers.clone());
        set("ApprovalTopic", self.approval_topic.iter().cloned().collect());
        set("AutomationAssumeRole", vec![self.role.clone()]);
        parameters
    }
}

/// The token of the rollout for these endpoints of a cluster: whichever host of it notices them first starts the runbook,
/// and all others join. The hosts that an execution left over come to the same one again: the one `after` it. A UUID made
/// of a SHA-256; never changes between versions.
pub fn token(cluster: &str, endpoints: &EndpointSet, after: Option<&str>) -> String {
    let after = after.map(|execution| format!(" after {execution}")).unwrap_or_default();
    let hex = super::documents::hash(&format!("hostagent rollout {cluster} {endpoints}{after}"));
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    // Version 8: made by the maker's own rule.
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// The documents take at most four digits and a unit.
fn wait(wait: Duration) -> String {
    match wait.as_secs() {
        s @ ..=9_999 => format!("{s}s"),
        s => format!("{}m", s / 60),
    }
}

/// The targets an execution was started for.
pub fn targets(execution: &Execution) -> Option<Targets> {
    let ids = execution.parameters.get("InstanceIds").filter(|ids| !ids.is_empty());
    match (execution.parameter("Cluster"), execution.parameter("TagKey"), ids) {
        ("", "", Some(ids)) => Some(Targets::Instances(ids.clone())),
        ("", "", None) => None,
        ("", key, _) => Some(Targets::Tag { key: key.into(), value: execution.parameter("TagValue").into() }),
        (cluster, ..) => Some(Targets::Cluster(cluster.into())),
    }
}

/// What the runbook carries from wave to wave in its variable `State`. What a newer runbook adds is passed over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub phase: String,
    /// Zone and number of hosts, in the order they are gone through.
    pub zones: Vec<(String, usize)>,
    /// Index of the zone it is at.
    pub zone: usize,
    pub wave: u32,
    /// Hosts meant, when it began.
    pub hosts: usize,
    /// Hosts by what came of them.
    pub counts: BTreeMap<String, usize>,
    /// Up to 20 of each kind that a person may want to look at.
    pub samples: BTreeMap<String, Vec<String>>,
    /// Why it halted.
    pub why: Option<String>,
    /// The host it halted at.
    pub instance: Option<String>,
    /// Hosts that were sent a restart and are not verified; not all of very many.
    pub unverified: Vec<String>,
    /// The next hosts in line, where it ended before their turn; up to 20.
    pub left: Vec<String>,
}

impl State {
    /// From the execution's variables; the outputs of one that ended hold the same.
    pub fn of(execution: &Execution) -> Option<Self> {
        // A variable's texts are short, and so the JSON comes in pieces.
        let text = execution.variables.get("State")?.concat();
        let state: Self = serde_json::from_str(&text).ok()?;
        (!state.phase.is_empty()).then_some(state)
    }

    /// Hosts that were looked at or moved.
    pub fn done(&self) -> usize {
        self.counts.values().sum()
    }

    /// Hosts that came to something.
    pub fn count(&self, kind: &str) -> usize {
        self.counts.get(kind).copied().unwrap_or(0)
    }
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    pub execution: String,
    pub status: ExecutionStatus,
    /// SSM's own word for the status.
    pub word: String,
    pub began_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Whom it is for, in words.
    pub whom: String,
    /// What it is at, or how it ended, in a line.
    pub says: String,
    pub ending: Ending,
    pub state: Option<State>,
    /// The summary of the runbook, once it has ended.
    pub summary: Option<String>,
}

impl Standing {
    pub fn of(execution: &Execution) -> Self {
        let state = State::of(execution);
        let summary = output(execution, "Summary.Text");
        let ending = Ending::of(execution, state.as_ref());
        let says = match (&ending, &state) {
            (Ending::UnderWay, Some(state)) => going(state),
            (Ending::UnderWay, None) => "is beginning".into(),
            (ending, state) => ending.line(state.as_ref()),
        };
        Self {
            execution: execution.id.clone(),
            status: execution.status,
            word: execution.word.clone(),
            began_at: execution.began_at,
            ended_at: execution.ended_at,
            whom: targets(execution).map(|targets| targets.to_string()).unwrap_or_default(),
            says,
            ending,
            state,
            summary,
        }
    }
}

/// Outputs hold texts as JSON strings, or as they are.
fn output(execution: &Execution, name: &str) -> Option<String> {
    let text = execution.outputs.get(name).and_then(|values| values.first())?;
    let text = serde_json::from_str::<String>(text).unwrap_or_else(|_| text.clone());
    (!text.is_empty() && !text.starts_with("No output")).then_some(text)
}

/// Where it is, while it goes on.
fn going(state: &State) -> String {
    let zone = state.zones.get(state.zone).map(|(zone, _)| zone.as_str()).unwrap_or_default();
    match state.wave {
        0 => format!("looking for the first host: {}", tally(state)),
        wave => format!("wave {wave} in {zone} {}: {}", doing(&state.phase), tally(state)),
    }
}

/// What a wave is at, by the runbook's name for it. `gate` and `pick` come before the next wave.
fn doing(phase: &str) -> &str {
    match phase {
        "gate" | "pick" => "done",
        "restart" => "restarting",
        "verify" => "being verified",
        other => other,
    }
}

/// The words for each count, in the order they are told.
pub const KINDS: [(&str, &str); 13] = [
    ("moved", "moved"),
    ("settled_before", "settled before"),
    ("failed", "failed"),
    ("broken", "broken before"),
    ("refused", "refused"),
    ("waiting", "waiting for endpoints"),
    ("busy", "busy"),
    ("unknown", "could not tell"),
    ("not_installed", "without hostagent"),
    ("unreachable", "not reached"),
    ("not_sent", "not sent to"),
    ("draining", "draining"),
    ("gone", "gone meanwhile"),
];

/// `12 moved, 3 settled before, 985 to go`
pub fn tally(state: &State) -> String {
    let mut parts: Vec<String> = KINDS
        .into_iter()
        .filter(|(kind, _)| state.count(kind) > 0)
        .map(|(kind, words)| format!("{} {words}", state.count(kind)))
        .collect();
    let left = state.hosts.saturating_sub(state.done());
    if left > 0 {
        parts.push(format!("{left} to go"));
    }
    if parts.is_empty() { "no hosts".into() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/HostAgent-Rollout";

    fn execution(status: ExecutionStatus) -> Execution {
        Execution {
            id: "4105a4fc-f944-11e6-9d32-0a1b2c3d495h".into(),
            status,
            word: String::new(),
            began_at: None,
            ended_at: None,
            by: String::new(),
            step: String::new(),
            failure: String::new(),
            parameters: Plan::new(Targets::Cluster("prod".into()), ROLE).parameters(),
            outputs: BTreeMap::new(),
            variables: BTreeMap::new(),
        }
    }

    #[test]
    fn every_kind_of_target_comes_back_from_the_parameters() {
        let tag = Targets::Tag { key: "Cluster".into(), value: "prod".into() };
        for wanted in [Targets::Cluster("prod".into()), tag, Targets::Instances(vec!["i-1".into(), "i-2".into()])] {
            let parameters = Plan::new(wanted.clone(), ROLE).parameters();
            assert_eq!(parameters["AutomationAssumeRole"], [ROLE], "{wanted}");
            assert_eq!(targets(&Execution { parameters, ..execution(ExecutionStatus::UnderWay) }), Some(wanted));
        }
    }

    #[test]
    fn a_rollout_says_where_it_is() {
        let state = r#"{"phase":"restart","zones":[["eu-west-1a",20],["eu-west-1b",20]],"zone":1,"wave":3,"hosts":40,
            "counts":{"moved":5,"settled_before":2},"later":"added"}"#;
        let (one, two) = state.split_at(40);
        let variables = BTreeMap::from([("State".to_owned(), vec![one.to_owned(), two.to_owned()])]);
        let standing = Standing::of(&Execution { variables, ..execution(ExecutionStatus::UnderWay) });
        assert_eq!(standing.says, "wave 3 in eu-west-1b restarting: 5 moved, 2 settled before, 33 to go");
        assert_eq!(Standing::of(&execution(ExecutionStatus::UnderWay)).says, "is beginning");
    }

    #[test]
    fn every_host_of_a_cluster_makes_the_same_token() {
        use crate::catalog::Service;
        let set = |last: u8| EndpointSet([(Service::Ecs, [10, 0, 0, last].into())].into());
        // A change here would have a fleet of two versions start two rollouts.
        let first = |cluster, last| token(cluster, &set(last), None);
        assert_eq!(first("prod", 1), "1de6a81e-e9bd-87d4-82db-4e608fe09668");
        assert_ne!(first("prod", 1), first("test", 1));
        assert_ne!(first("prod", 1), first("prod", 2));
        let next = |execution| token("prod", &set(1), Some(execution));
        assert_eq!(next("4105a4fc"), next("4105a4fc"));
        assert!(next("4105a4fc") != first("prod", 1) && next("4105a4fc") != next("51"));
        let token = first("prod", 1);
        let lengths: Vec<usize> = token.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{token}");
    }

    #[test]
    fn waits_fit_what_the_documents_take() {
        let texts = [0, 90, 300, 9_999, 10_000, 86_400].map(|s| wait(Duration::from_secs(s)));
        assert_eq!(texts, ["0s", "90s", "300s", "9999s", "166m", "1440m"]);
    }
}
