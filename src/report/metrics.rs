//! What Prometheus is told, as a text file for node_exporter's textfile collector.
//!
//! Names and labels are stable: a metric may be added, none changes its meaning. A value that is not known is left out,
//! for a zero would be taken for one.

use crate::{
    assess::{Assessment, NamePath, Path as Way, Readiness},
    decide::{Decision, History, RecordedOutcome, spent_today},
    facts::Observation,
    progress::Outage,
    text::clean,
};
use jiff::Timestamp;
use std::fmt::Write;

/// What [`render`] writes down. Labels may hold anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricsView {
    /// hostagent's own version.
    pub version: String,
    /// The ECS agent's version and cluster, where known.
    pub agent_version: Option<String>,
    pub cluster: Option<String>,
    /// When the last look began, in seconds since 1970.
    pub last_look_s: Option<f64>,
    /// Looks of the service of which nothing came.
    pub looks_lost: Option<u64>,
    pub services: Vec<ServiceMetrics>,
    /// How many connections to services the agent holds, by path; empty when they could not be seen.
    pub connections: Vec<(String, u64)>,
    /// Seconds during which the agent held control-plane connections that were not on endpoints, since the service
    /// started counting.
    pub public_path_s: Option<f64>,
    /// How many of the restarts on record ended so, as (kind, outcome, number).
    pub restarts: Vec<(String, String, u64)>,
    /// How long things were gone at the last restart, in seconds, by what was gone.
    pub outage_s: Vec<(String, f64)>,
    /// Restarts that may still be made within 24 hours.
    pub budget_left: Option<u64>,
    pub decision: OneOf,
    /// The state of the service.
    pub state: OneOf,
}

/// One service of the catalog.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceMetrics {
    pub service: String,
    pub host: String,
    /// Where its name leads.
    pub path: OneOf,
    /// 1 when it can be had without the internet, 0 when not; `None` when that cannot be told.
    pub ready: Option<bool>,
}

/// A value out of a fixed set: 1 for the one that holds, 0 for the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OneOf {
    pub now: String,
    pub all: Vec<String>,
}

impl OneOf {
    pub fn new(now: &str, all: &[&str]) -> Self {
        Self { now: now.to_owned(), all: all.iter().map(|&s| s.to_owned()).collect() }
    }
}

/// What only the service knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    pub state: OneOf,
    /// See [`MetricsView::public_path_s`].
    pub public_path_s: Option<f64>,
    pub last_outage: Option<Outage>,
    /// `restart.budget_per_day`.
    pub budget_per_day: u32,
    pub now: Timestamp,
}

const PATHS: [&str; 7] = ["endpoint", "private_elsewhere", "public", "mixed", "unknown", "absent", "failed"];
const WAYS: [(Way, &str); 5] = [
    (Way::Endpoint, "endpoint"),
    (Way::PrivateElsewhere, "private_elsewhere"),
    (Way::Proxy, "proxy"),
    (Way::Public, "public"),
    (Way::Unknown, "unknown"),
];
const DECISIONS: [&str; 8] = ["settled", "waiting", "restart", "repair", "refuse", "spent", "broken", "unknown"];

impl MetricsView {
    /// The view of one look, and of what was done before. `history` is `None` when it cannot be read.
    pub fn of(
        assessment: &Assessment,
        observation: &Observation,
        decision: &Decision,
        history: Option<&History>,
        service: &Service,
    ) -> Self {
        let introspection = observation.agent.introspection.known();
        let instance = assessment.instance_id.as_deref();
        let outage = service.last_outage.as_ref();
        let gone = [
            ("agent", outage.and_then(|o| o.agent_s)),
            ("websockets", outage.and_then(|o| o.websockets_s)),
            ("credential_rules", outage.and_then(|o| o.credential_rules_s)),
        ];
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            agent_version: observation.agent.version.known().map(|v| v.version.to_string()),
            cluster: introspection.map(|i| i.cluster.clone()),
            last_look_s: Some(assessment.at.as_millisecond() as f64 / 1000.0),
            looks_lost: None,
            services: assessment.services.iter().map(ServiceMetrics::of).collect(),
            connections: match observation.sockets.known() {
                Some(_) => connections(assessment),
                None => Vec::new(),
            },
            public_path_s: service.public_path_s,
            restarts: history.map(|h| restarts(h.of(instance))).unwrap_or_default(),
            outage_s: gone.into_iter().filter_map(|(what, s)| Some((what.to_owned(), s?))).collect(),
            budget_left: history.map(|h| {
                u64::from(service.budget_per_day).saturating_sub(spent_today(h, instance, service.now) as u64)
            }),
            decision: OneOf::new(decision.word(), &DECISIONS),
            state: service.state.clone(),
        }
    }
}

impl ServiceMetrics {
    fn of(report: &crate::assess::ServiceReport) -> Self {
        let path = match report.path {
            NamePath::Endpoint(_) => "endpoint",
            NamePath::PrivateElsewhere(_) => "private_elsewhere",
            NamePath::Public(_) => "public",
            NamePath::Mixed { .. } => "mixed",
            NamePath::Unplaced(_) => "unknown",
            NamePath::Absent(_) => "absent",
            NamePath::Failed(_) => "failed",
        };
        Self {
            service: report.service.id().to_owned(),
            host: report.host.clone(),
            path: OneOf::new(path, &PATHS),
            ready: match report.readiness {
                Readiness::Ready => Some(true),
                Readiness::NotReady => Some(false),
                Readiness::CannotTell => None,
            },
        }
    }
}

fn connections(assessment: &Assessment) -> Vec<(String, u64)> {
    let on = |way: Way| assessment.connections.iter().filter(|c| c.path == way).count() as u64;
    WAYS.iter().map(|(way, name)| ((*name).to_owned(), on(*way))).collect()
}

fn restarts(records: &[crate::decide::RestartRecord]) -> Vec<(String, String, u64)> {
    let count = |repair: bool, outcome| records.iter().filter(|r| (r.repair, r.outcome) == (repair, outcome)).count();
    let kinds = [(false, "restart"), (true, "repair")];
    kinds
        .iter()
        .flat_map(|(repair, kind)| {
            RecordedOutcome::ALL
                .map(|outcome| ((*kind).to_owned(), outcome.word().to_owned(), count(*repair, outcome) as u64))
        })
        .collect()
}

/// The view in Prometheus's text format, with a line end.
pub fn render(view: &MetricsView) -> String {
    let mut out = Exposition::default();
    out.family("hostagent_build_info", "gauge", "The version of hostagent; always 1.");
    out.sample(&[("version", &view.version)], 1.0);
    if view.agent_version.is_some() || view.cluster.is_some() {
        out.family("hostagent_ecs_agent_info", "gauge", "The version and cluster of the ECS agent; always 1.");
        let word = |text: &Option<String>| text.clone().unwrap_or_default();
        out.sample(&[("version", &word(&view.agent_version)), ("cluster", &word(&view.cluster))], 1.0);
    }
    if let Some(at) = view.last_look_s {
        out.family("hostagent_last_look_timestamp_seconds", "gauge", "When the host was last looked at.");
        out.sample(&[], at);
    }
    if let Some(lost) = view.looks_lost {
        out.family("hostagent_looks_lost_total", "counter", "Looks at the host of which nothing came.");
        out.sample(&[], lost as f64);
    }
    out.family("hostagent_service_path", "gauge", "Where the name of a service leads; 1 for the path it is on.");
    for service in &view.services {
        for (path, on) in service.path.samples() {
            out.sample(&[("service", &service.service), ("host", &service.host), ("path", path)], on);
        }
    }
    out.family(
        "hostagent_service_ready",
        "gauge",
        "Whether a service can be had without the internet; absent: unknown.",
    );
    for service in &view.services {
        if let Some(ready) = service.ready {
            out.sample(&[("service", &service.service), ("host", &service.host)], f64::from(u8::from(ready)));
        }
    }
    out.family("hostagent_agent_connections", "gauge", "Connections of the ECS agent to services, by path.");
    for (path, count) in &view.connections {
        out.sample(&[("path", path)], *count as f64);
    }
    if let Some(seconds) = view.public_path_s {
        let help = "Time for which the agent held control-plane connections that were not on endpoints.";
        out.family("hostagent_public_path_seconds_total", "counter", help);
        out.sample(&[], seconds);
    }
    out.family("hostagent_restarts", "gauge", "Restarts and repairs of the ECS agent on record, by how they ended.");
    for (kind, outcome, count) in &view.restarts {
        out.sample(&[("kind", kind), ("outcome", outcome)], *count as f64);
    }
    out.family("hostagent_last_outage_seconds", "gauge", "What was gone at the last restart, and for how long.");
    for (what, seconds) in &view.outage_s {
        out.sample(&[("of", what)], *seconds);
    }
    if let Some(left) = view.budget_left {
        out.family("hostagent_restart_budget_left", "gauge", "Restarts that may still be made within 24 hours.");
        out.sample(&[], left as f64);
    }
    out.one_of(
        "hostagent_decision",
        "What is to be done about this host; 1 for what holds.",
        "decision",
        &view.decision,
    );
    out.one_of("hostagent_state", "What the service is doing; 1 for what holds.", "state", &view.state);
    out.text
}

impl OneOf {
    /// Every value with whether it holds; one that is none of the set is added to it.
    fn samples(&self) -> impl Iterator<Item = (&str, f64)> {
        let other = (!self.now.is_empty() && !self.all.contains(&self.now)).then_some(self.now.as_str());
        let on = |word: &str| f64::from(u8::from(word == self.now));
        self.all.iter().map(String::as_str).chain(other).map(move |word| (word, on(word)))
    }
}

#[derive(Default)]
struct Exposition {
    text: String,
    /// The family's name.
    name: &'static str,
    /// Its head, until it has a sample: a family without any is left out.
    head: String,
    /// The labels it has had: two samples of the same would make the whole file invalid.
    seen: std::collections::BTreeSet<String>,
}

impl Exposition {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self.seen.clear();
    }

    fn one_of(&mut self, name: &'static str, help: &str, label: &str, set: &OneOf) {
        self.family(name, "gauge", help);
        for (word, on) in set.samples() {
            self.sample(&[(label, word)], on);
        }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        if !self.seen.insert(labels.clone()) {
            return;
        }
        self.text.push_str(&std::mem::take(&mut self.head));
        let value = match value {
            v if v.is_nan() => "NaN".to_owned(),
            v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
            v => v.to_string(),
        };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

/// A label's value: no control characters, and nothing that ends it.
fn escaped(text: &str) -> String {
    clean(text).replace('\\', "\\\\").replace('"', "\\\"")
}
