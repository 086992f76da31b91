//! hostagent's page for Run Command, as a simulated host would print it: verdict line, JSON, where the rest is.

use crate::cloud::hosts::{HostState, SimulatedHost};
use serde_json::{Value, json};

/// What hostagent answers: its word as it shouts it and as its JSON has it, the exit code and the headline.
pub(super) type Verdict = (&'static str, &'static str, i32, &'static str);

const NAMES: [&str; 3] = ["ecs", "ecs-agent", "ecs-telemetry"];

/// Members in hostagent's own order: what is cut off must be what is cut off there.
struct Members(Vec<String>);

impl Members {
    fn new(schema: &str, verdict: Verdict, report: &str) -> Self {
        let mut members = Self(Vec::new());
        members.add("schema", schema.into());
        members.add("verdict", verdict.1.into());
        members.add("exit_code", verdict.2.into());
        members.add("report", report.into());
        members
    }

    fn add(&mut self, name: &str, value: Value) {
        self.0.push(format!("\"{name}\":{value}"));
    }

    fn page(&self, verdict: Verdict, report: &str) -> String {
        format!("{}: {}\n{{{}}}\nFull report: {report}\n", verdict.0, verdict.3, self.0.join(","))
    }
}

/// `hostagent check`
pub(super) fn check(host: &SimulatedHost, verdict: Verdict) -> String {
    let report = "/run/hostagent/last-check.json";
    let mut members = Members::new("hostagent/check/1", verdict, report);
    members.add("version", host.agent_version.as_str().into());
    members.add("cluster", host.cluster.as_str().into());
    members.add("instance", host.instance.as_str().into());
    // The first of all versions told neither.
    if let Some(version) = host.hostagent.as_deref().filter(|version| !version.starts_with("0.0.")) {
        members.add("zone", host.zone.as_str().into());
        members.add("hostagent", version.into());
    }
    reasons(&mut members, host, verdict);
    if host.state != HostState::Broken && host.state != HostState::Unknown {
        members.add("connections", connections(host.state == HostState::Settled));
        let path = if host.state == HostState::Waiting { "public" } else { "endpoint" };
        members.add("services", NAMES.iter().map(|name| json!({"service": name, "path": path})).collect());
    }
    members.page(verdict, report)
}

/// `hostagent restart`; `moved`: something was done.
pub(super) fn restart(host: &SimulatedHost, verdict: Verdict, moved: bool) -> String {
    let report = "/run/hostagent/last-restart.json";
    let mut members = Members::new("hostagent/restart/1", verdict, report);
    if moved {
        members.add("run_id", format!("run-{}", host.instance).into());
        // An agent that stays away has no end of being away to measure.
        if verdict.2 == 0 {
            let outage = json!({"agent_api_s": 0.784, "credential_rules_s": 0.061, "websockets_s": 0.81});
            members.add("outage", outage);
        }
        members.add("method", "systemctl restart ecs.service (over D-Bus)".into());
        members.add("deadline_s", 120.into());
    }
    members.add("checks_passed", if moved && verdict.2 == 0 { 11 } else { 0 }.into());
    reasons(&mut members, host, verdict);
    if moved {
        members.add("after", connections(verdict.2 == 0));
        members.add("before", connections(false));
    }
    members.page(verdict, report)
}

fn connections(settled: bool) -> Value {
    let (path, net) = if settled { ("endpoint", "10.50.1.1") } else { ("public", "198.51.100.1") };
    let one =
        |(number, name): (usize, &&str)| json!({"path": path, "peer": format!("{net}{number}:443"), "service": name});
    NAMES.iter().enumerate().map(one).collect()
}

fn reasons(members: &mut Members, host: &SimulatedHost, verdict: Verdict) {
    let default = match verdict.1 {
        "refuse" => "version-too-old",
        "waiting" => "not-private",
        "broken" => "agent-down",
        "unknown" => "engine-silent",
        "spent" => "budget-spent",
        "busy" => "busy",
        _ => return,
    };
    let one = |rule: &str, text: &str| json!({"remedy": "", "rule": rule, "text": text});
    let all: Vec<Value> = if host.reasons.is_empty() {
        vec![one(default, verdict.3)]
    } else {
        host.reasons.iter().map(|(rule, text)| one(rule, text)).collect()
    };
    members.add("reasons", all.into());
}
