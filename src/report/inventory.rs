//! What a fleet owner asks of a host, as a file of custom inventory that the host's own SSM agent collects: it needs no
//! permission of ours.
//!
//! The limits are those of the agent's gatherer, which leaves out a file that breaks one of them:
//! `agent/plugins/inventory/gatherers/custom/customGatherer.go` of aws/amazon-ssm-agent. Values are texts, lengths count
//! bytes, and what is not known is the empty text, as that file advises.

use super::metrics::MetricsView;
use crate::{
    assess::Assessment,
    catalog::{CONTROL_PLANE, Service},
    decide::{EndpointSet, History, Reason, RecordedOutcome},
    facts::Observation,
    progress::Outage,
    text::{clean, cut},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Under which SSM files it; the part after the colon is ours.
pub const TYPE_NAME: &str = "Custom:Hostagent";
const SCHEMA_VERSION: &str = "1.0";
/// The gatherer reads every `*.json` of its directory.
const FILE_NAME: &str = "hostagent.json";
/// `DefaultDataStorePath` of the SSM agent on Linux.
pub const SSM_DATA: &str = "/var/lib/amazon/ssm";

/// `AttributeCountLimit`, `AttributeNameLengthLimit` and `AttributeValueLengthLimit`, the lengths in bytes.
pub const ATTRIBUTES: usize = 50;
pub const NAME_BYTES: usize = 64;
pub const VALUE_BYTES: usize = 4_096;

/// What [`render`] writes down. Texts may hold anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InventoryView {
    /// What metrics tell as well.
    pub metrics: MetricsView,
    pub container_instance_arn: Option<String>,
    /// The addresses of the three names, when all of them lead to endpoints only.
    pub endpoints: EndpointSet,
    pub last_restart: Option<LastRestart>,
    /// When the host was last looked at.
    pub observed_at: Option<Timestamp>,
    /// The state's word is [`MetricsView::state`]; since when, and the state in a line.
    pub since: Option<Timestamp>,
    pub says: String,
    /// Why nothing is to be done about this host, if so.
    pub reasons: Vec<Reason>,
}

/// The last restart or repair on record.
#[derive(Debug, Clone, PartialEq)]
pub struct LastRestart {
    pub at: Timestamp,
    pub repair: bool,
    pub outcome: RecordedOutcome,
    /// How long the agent was away, in seconds.
    pub away_s: Option<f64>,
}

impl InventoryView {
    /// The view of one look. `measured` is a run and what was gone meanwhile.
    pub fn of(
        assessment: &Assessment,
        observation: &Observation,
        history: Option<&History>,
        measured: Option<(&str, &Outage)>,
        metrics: MetricsView,
    ) -> Self {
        let records = history.map(|h| h.of(assessment.instance_id.as_deref())).unwrap_or_default();
        let last = records.iter().rfind(|r| r.outcome != RecordedOutcome::NotActed);
        let introspection = observation.agent.introspection.known();
        Self {
            metrics,
            container_instance_arn: introspection.and_then(|i| i.container_instance_arn.clone()),
            endpoints: assessment.endpoint_set.clone(),
            last_restart: last.map(|record| LastRestart {
                at: record.at,
                repair: record.repair,
                outcome: record.outcome,
                away_s: measured.filter(|(run, _)| *run == record.run_id).and_then(|(_, outage)| outage.agent_s),
            }),
            observed_at: Some(assessment.at),
            ..Self::default()
        }
    }

    /// Before anything was seen.
    pub fn of_nothing() -> Self {
        let metrics = MetricsView { version: env!("CARGO_PKG_VERSION").into(), ..MetricsView::default() };
        Self { metrics, ..Self::default() }
    }

    fn path(&self, service: Service) -> &str {
        let found = self.metrics.services.iter().find(|s| s.service == service.id());
        found.map_or("", |s| &s.path.now)
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let time = |at: Option<Timestamp>| at.map(|at| format!("{at:.0}")).unwrap_or_default();
        let [ecs, agent, telemetry] = CONTROL_PLANE.map(|service| self.path(service).to_owned());
        let public = self.metrics.connections.iter().find(|(path, _)| path == "public");
        let last = self.last_restart.as_ref();
        let rules: Vec<&str> = self.reasons.iter().map(|r| r.rule.as_str()).collect();
        let reasons: Vec<&str> = self.reasons.iter().map(|r| r.text.as_str()).collect();
        vec![
            ("State", self.metrics.state.now.clone()),
            ("Since", time(self.since)),
            ("Says", self.says.clone()),
            ("Verdict", self.metrics.decision.now.clone()),
            ("Rules", rules.join(", ")),
            ("Reasons", reasons.join("; ")),
            ("EcsPath", ecs),
            ("EcsAgentPath", agent),
            ("EcsTelemetryPath", telemetry),
            ("EndpointAddresses", self.endpoints.to_string()),
            ("PublicConnections", public.map(|(_, count)| count.to_string()).unwrap_or_default()),
            ("Cluster", text(&self.metrics.cluster)),
            ("ContainerInstanceArn", text(&self.container_instance_arn)),
            ("AgentVersion", text(&self.metrics.agent_version)),
            ("HostagentVersion", self.metrics.version.clone()),
            ("LastRestartAt", time(last.map(|r| r.at))),
            ("LastRestartKind", last.map(|r| if r.repair { "repair" } else { "restart" }).unwrap_or_default().into()),
            ("LastRestartOutcome", last.map(|r| r.outcome.word()).unwrap_or_default().into()),
            (
                "LastRestartAwaySeconds",
                last.and_then(|r| r.away_s).filter(|s| s.is_finite()).map(|s| format!("{s:.2}")).unwrap_or_default(),
            ),
            ("RestartsLeft", self.metrics.budget_left.map(|n| n.to_string()).unwrap_or_default()),
            ("ObservedAt", time(self.observed_at)),
        ]
    }
}

/// The file's text, with a line end.
pub fn render(view: &InventoryView) -> String {
    let content: Map<String, Value> = view
        .attributes()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::String(cut(&clean(&value), VALUE_BYTES).into_owned())))
        .collect();
    format!("{:#}\n", json!({ "SchemaVersion": SCHEMA_VERSION, "TypeName": TYPE_NAME, "Content": content }))
}

/// Where the SSM agent of this instance looks for it; `None` for an ID that is none. The directory is made by that
/// agent when it starts: where there is none, there is nobody to read it.
pub fn file(ssm_data: &Path, instance_id: &str) -> Option<PathBuf> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_id = !instance_id.is_empty() && instance_id.chars().all(fits);
    is_id.then(|| ssm_data.join(instance_id).join("inventory/custom").join(FILE_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        facts::Address,
        report::metrics::{OneOf, ServiceMetrics},
    };
    use proptest::prelude::*;

    /// The rules of `convertToItem` in the SSM agent's customGatherer.go, one by one.
    fn gathered(file: &str) -> Result<Map<String, Value>, String> {
        let item: Value = serde_json::from_str(file).map_err(|error| error.to_string())?;
        let text = |key: &str| item[key].as_str().ok_or(format!("no {key}"));
        let name = text("TypeName")?;
        if name.len() > 100 || !name.starts_with("Custom:") {
            return Err(format!("the type name {name}"));
        }
        let (major, minor) = text("SchemaVersion")?.split_once('.').ok_or("no schema version")?;
        if ![major, minor].iter().all(|n| (1..=6).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit())) {
            return Err(format!("the schema version {major}.{minor}"));
        }
        let content = item["Content"].as_object().ok_or("no content")?;
        if content.len() > ATTRIBUTES {
            return Err(format!("{} attributes", content.len()));
        }
        for (name, value) in content {
            if name.is_empty() || name.len() > NAME_BYTES {
                return Err(format!("the attribute name {name}"));
            }
            match value {
                Value::String(text) if text.len() <= VALUE_BYTES => {}
                Value::String(text) => return Err(format!("{name} is of {} bytes", text.len())),
                other => return Err(format!("{name} is no text: {other}")),
            }
        }
        Ok(content.clone())
    }

    #[test]
    fn every_attribute_is_there_and_what_is_not_known_is_empty() {
        let bare = gathered(&render(&InventoryView::default())).unwrap();
        assert!(bare.len() >= 20 && bare.values().all(|value| value == ""), "{bare:?}");
        let view = InventoryView {
            metrics: MetricsView {
                state: OneOf::new("settled", &[]),
                services: vec![ServiceMetrics {
                    service: "ecs-agent".into(),
                    path: OneOf::new("endpoint", &[]),
                    ..ServiceMetrics::default()
                }],
                connections: vec![("endpoint".into(), 3), ("public".into(), 0)],
                budget_left: Some(1),
                ..MetricsView::default()
            },
            endpoints: EndpointSet([(Service::Ecs, [10, 0, 0, 1].into())].into()),
            last_restart: Some(LastRestart {
                at: Timestamp::UNIX_EPOCH,
                repair: false,
                outcome: RecordedOutcome::Verified,
                away_s: Some(0.8049),
            }),
            reasons: vec![Reason::new("cool-down", "too soon", ""), Reason::new("budget-spent", "no more", "")],
            ..InventoryView::default()
        };
        let full = gathered(&render(&view)).unwrap();
        let names = |content: &Map<String, Value>| content.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&full), names(&bare), "a query finds the same attributes on every host");
        for (name, value) in [
            ("State", "settled"),
            ("EcsAgentPath", "endpoint"),
            ("EcsPath", ""),
            ("EndpointAddresses", "ecs 10.0.0.1"),
            ("PublicConnections", "0"),
            ("RestartsLeft", "1"),
            ("LastRestartAt", "1970-01-01T00:00:00Z"),
            ("LastRestartKind", "restart"),
            ("LastRestartOutcome", "verified"),
            ("LastRestartAwaySeconds", "0.80"),
            ("Rules", "cool-down, budget-spent"),
            ("Reasons", "too soon; no more"),
        ] {
            assert_eq!(full[name], value, "{name}");
        }
    }

    #[test]
    fn the_file_lies_where_the_agent_of_this_instance_looks() {
        let of = |id: &str| file(Path::new(SSM_DATA), id);
        let path = "/var/lib/amazon/ssm/i-0f00dfacade00001/inventory/custom/hostagent.json";
        assert_eq!(of("i-0f00dfacade00001"), Some(path.into()));
        for id in ["", "..", "../etc", "i-1/x", "i 1", "i-1\n"] {
            assert_eq!(of(id), None, "{id:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_seen_the_agent_takes_the_file(texts in prop::collection::vec(any::<String>(), 5), long in 0usize..9_000) {
            let mut texts = texts.into_iter();
            let mut text = || format!("{}{}", texts.next().unwrap_or_default(), "é".repeat(long / 2));
            let address = |n: u32| Address { ip: std::net::IpAddr::from(n.to_be_bytes()), ttl_s: None }.ip;
            let view = InventoryView {
                says: text(),
                container_instance_arn: Some(text()),
                metrics: MetricsView { cluster: Some(text()), state: OneOf::new(&text(), &[]), ..MetricsView::default() },
                endpoints: EndpointSet((0..long as u32 / 8).map(|n| (Service::Ecs, address(n))).collect()),
                reasons: (0..3).map(|_| Reason::new("rule", text(), "")).collect(),
                ..InventoryView::default()
            };
            let content = gathered(&render(&view)).map_err(TestCaseError::fail)?;
            let cluster = clean(view.metrics.cluster.as_deref().unwrap_or_default()).into_owned();
            let told = content["Cluster"].as_str().unwrap_or_default();
            prop_assert!(told == cluster || (cluster.len() > VALUE_BYTES && told.ends_with('…')));
        }
    }
}
