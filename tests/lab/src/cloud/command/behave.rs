//! What a simulated host does with a command: what hostagent's page for Run Command would say there.

use super::{
    Command,
    page::{self, Verdict},
};
use crate::cloud::{
    event::Event,
    hosts::{HostState, Online, RestartBehaviour, SimulatedHost},
    state::State,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Seconds that the agent needs to connect again after a restart that worked.
const RECONNECT_S: f64 = 5.0;
/// Share of a restart's time after which the agent goes away.
const AWAY_AT: f64 = 0.25;

/// What a document asks of a host.
#[derive(Debug, Clone)]
pub struct Task {
    kind: Kind,
    parameters: Arc<BTreeMap<String, Vec<String>>>,
    /// Name of the document's first step.
    pub step: String,
    lines: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Check,
    Restart,
    Install,
    /// Anybody's document: of its script only `echo`, `sleep` and `exit` are known.
    Other,
}

/// How a command began on a host.
#[derive(Debug, Clone, Copy)]
pub struct Began {
    /// Seconds until it ends; `None`: it never does.
    pub seconds: Option<f64>,
    restart: Option<RestartBehaviour>,
}

/// What it said in the end.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Task {
    pub fn of(command: &Command) -> Self {
        let step = &command.content["mainSteps"][0];
        let lines: Vec<String> = match &step["inputs"]["runCommand"] {
            Value::Array(lines) => {
                lines.iter().filter_map(Value::as_str).flat_map(str::lines).map(str::to_owned).collect()
            }
            Value::String(text) => text.lines().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let name = command.document.rsplit([':', '/']).next().unwrap_or_default();
        let kind = match name {
            name if name.ends_with("-Check") => Kind::Check,
            name if name.ends_with("-Restart") => Kind::Restart,
            name if name.ends_with("-Install") => Kind::Install,
            _ => Kind::Other,
        };
        let pasted = |line: String| {
            let paste = |line: String, (name, values): (&String, &Vec<String>)| {
                let value = values.join(" ");
                line.replace(&format!("{{{{ {name} }}}}"), &value).replace(&format!("{{{{{name}}}}}"), &value)
            };
            command.resolved.iter().fold(line, paste)
        };
        let lines = lines.into_iter().map(pasted).collect();
        let step = step["name"].as_str().unwrap_or_default().to_owned();
        Self { kind, parameters: Arc::clone(&command.resolved), step, lines }
    }

    fn is_set(&self, name: &str) -> bool {
        self.parameters.get(name).and_then(|values| values.first()).is_some_and(|value| value == "yes")
    }
}

/// Seconds that a document's first step may take: its `timeoutSeconds`, or the parameter named there.
pub fn timeout_s(content: &Value, parameters: &BTreeMap<String, Vec<String>>) -> f64 {
    let written = &content["mainSteps"][0]["inputs"]["timeoutSeconds"];
    let text = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
    let name = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
    let text = match name {
        Some(name) => parameters.get(name).and_then(|values| values.first()).cloned().unwrap_or_default(),
        None => text,
    };
    text.parse().ok().filter(|seconds| *seconds > 0.0).unwrap_or(3_600.0)
}

/// Begins the task on the host: a restart goes its own way from here, whatever becomes of the command.
pub fn begin(state: &mut State, instance: &str, task: &Task) -> Began {
    let Some(host) = state.hosts.get(instance) else { return Began { seconds: Some(0.1), restart: None } };
    let quick = |seconds: f64| Began { seconds: Some(seconds), restart: None };
    match task.kind {
        Kind::Check if host.hostagent.is_some() => quick(host.check_s),
        Kind::Install => quick(5.0),
        Kind::Other => {
            let sleeps = task.lines.iter().filter_map(|line| line.trim().strip_prefix("sleep ")?.parse::<f64>().ok());
            quick(0.1 + sleeps.sum::<f64>())
        }
        Kind::Restart if host.hostagent.is_some() => {
            let wanted = matches!(host.state, HostState::NeedsRestart)
                || (matches!(host.state, HostState::NeedsRepair | HostState::Broken) && task.is_set("Repair"));
            let held = matches!(host.restart, RestartBehaviour::Refused | RestartBehaviour::Busy);
            if !wanted || held || task.is_set("DryRun") || state.restarting.contains(instance) {
                return quick(host.check_s);
            }
            let (behaviour, restart_s) = (host.restart, host.restart_s);
            restart(state, instance, behaviour, restart_s);
            let endless = matches!(behaviour, RestartBehaviour::LosesSsmAgent | RestartBehaviour::Hangs);
            Began { seconds: (!endless).then_some(restart_s), restart: Some(behaviour) }
        }
        _ => quick(0.1),
    }
}

fn restart(state: &mut State, instance: &str, behaviour: RestartBehaviour, restart_s: f64) {
    state.restarting.insert(instance.to_owned());
    let (away, back) = (instance.to_owned(), instance.to_owned());
    state.after(restart_s * AWAY_AT, move |state| {
        let (zone, at_s) = (state.hosts.zone(&away), state.now_s());
        if let Some(host) = state.hosts.get_mut(&away) {
            host.agent_connected = false;
            if behaviour == RestartBehaviour::LosesSsmAgent {
                host.online = Online::ConnectionLost;
            }
        }
        state.events.push(Event::RestartBegan { instance: away, zone, at_s });
    });
    state.after(restart_s, move |state| {
        state.restarting.remove(&back);
        let ok = !matches!(
            behaviour,
            RestartBehaviour::DoesNotComeBack | RestartBehaviour::BreaksLater | RestartBehaviour::StaysDisconnected
        );
        let broken = matches!(behaviour, RestartBehaviour::DoesNotComeBack | RestartBehaviour::BreaksLater);
        let (zone, at_s) = (state.hosts.zone(&back), state.now_s());
        let mut halt = None;
        if let Some(host) = state.hosts.get_mut(&back) {
            host.state = if broken { HostState::Broken } else { HostState::Settled };
            if behaviour == RestartBehaviour::DoesNotComeBack && host.writes_halt {
                halt = Some(host.cluster.clone());
            }
        }
        if let Some(cluster) = halt {
            let value = json!({
                "schema": "hostagent/halt/1", "by": format!("host {back}"), "at": crate::clock::iso(state.stamp() as u64),
                "why": "the restart could not be verified", "instance": back,
            });
            let input = json!({"Name": format!("/hostagent/{cluster}/halt"), "Value": value.to_string(), "Type": "String", "Overwrite": true});
            let done = crate::cloud::parameters::put(state, &input);
            state.note("ssm", "PutParameter", done.err().as_ref());
        }
        state.events.push(Event::RestartEnded { instance: back.clone(), zone, at_s, ok });
        if ok {
            state.after(RECONNECT_S, move |state| {
                if let Some(host) = state.hosts.get_mut(&back) {
                    host.agent_connected = true;
                }
            });
        }
    });
}

/// What the host says at the end of the task, as it is then.
pub fn finish(state: &mut State, instance: &str, task: &Task, began: &Began) -> Said {
    let busy = state.restarting.contains(instance);
    let Some(host) = state.hosts.get_mut(instance) else { return Said::default() };
    let installed = host.hostagent.is_some();
    let (verdict, code) = match task.kind {
        Kind::Other => return other(&task.lines),
        Kind::Install => {
            host.hostagent = Some(host.installs.clone());
            return Said { stdout: format!("INSTALLED: hostagent {}\n", host.installs), ..Said::default() };
        }
        _ if !installed => {
            let page = "NOT INSTALLED: hostagent is not on this host; run the document HostAgent-Install\n\
                        {\"schema\":\"hostagent/document/1\",\"verdict\":\"not-installed\",\"exit_code\":127}\n";
            return said(127, page.to_owned());
        }
        Kind::Check => {
            let verdict = if busy { busy_verdict() } else { check(host) };
            let passed = verdict.2 == 1 || task.is_set("Strict");
            (verdict, if passed { verdict.2 } else { 0 })
        }
        Kind::Restart => {
            let verdict = restart_verdict(host, task, began, busy);
            let passed = matches!(verdict.2, 11 | 12 | 75) && task.is_set("Lenient");
            (verdict, if passed { 0 } else { verdict.2 })
        }
    };
    let mut page = "#".repeat(host.noise.saturating_sub(1));
    if host.noise > 0 {
        page.push('\n');
    }
    page.push_str(&match task.kind {
        Kind::Restart => page::restart(host, verdict, began.restart.is_some()),
        _ => page::check(host, verdict),
    });
    said(code, page)
}

fn said(code: i32, stdout: String) -> Said {
    let stderr = if code == 0 { String::new() } else { format!("failed to run commands: exit status {code}") };
    Said { code, stdout, stderr }
}

fn busy_verdict() -> Verdict {
    ("BUSY", "busy", 75, "another restart is under way")
}

fn check(host: &SimulatedHost) -> Verdict {
    match host.state {
        HostState::Settled => ("SETTLED", "settled", 0, "every connection of the agent is on an endpoint"),
        HostState::NeedsRestart => (
            "RESTART NEEDED",
            "restart",
            10,
            "3 of the agent's 3 connections are not on an endpoint, and all three endpoints are ready",
        ),
        HostState::NeedsRepair => ("REPAIR NEEDED", "repair", 10, "the agent is not supervised"),
        HostState::Waiting => {
            ("WAITING FOR ENDPOINTS", "waiting", 11, "ecs-a.eu-west-1.amazonaws.com leads to public addresses")
        }
        HostState::Refused => ("REFUSED", "refuse", 12, "agent 1.25.0 is older than 1.25.1"),
        HostState::Broken => ("BROKEN", "broken", 13, "the agent does not answer"),
        HostState::Unknown => ("COULD NOT TELL", "unknown", 1, "the engine does not answer"),
    }
}

fn restart_verdict(host: &SimulatedHost, task: &Task, began: &Began, busy: bool) -> Verdict {
    match began.restart {
        Some(RestartBehaviour::DoesNotComeBack) => {
            return ("NOT VERIFIED", "not_verified", 13, "the agent did not come back within 120 s");
        }
        Some(_) => return ("MOVED", "moved", 0, "the agent is back, and every connection is on an endpoint"),
        None => {}
    }
    let wanted = matches!(host.state, HostState::NeedsRestart | HostState::NeedsRepair | HostState::Broken);
    match host.restart {
        _ if busy => busy_verdict(),
        RestartBehaviour::Busy if wanted => ("NOT NOW", "spent", 75, "the budget of 2 restarts a day is spent"),
        RestartBehaviour::Refused if wanted => ("REFUSED", "refuse", 12, "a task is between states"),
        _ if task.is_set("DryRun") => check(host),
        _ if host.state == HostState::NeedsRepair => ("REPAIR NEEDED", "repair", 12, "the agent is not supervised"),
        _ => check(host),
    }
}

fn other(lines: &[String]) -> Said {
    let mut stdout = String::new();
    for line in lines.iter().map(|line| line.trim()) {
        if let Some(text) = line.strip_prefix("echo ") {
            stdout.push_str(text.trim_matches(['\'', '"']));
            stdout.push('\n');
        }
        if let Some(code) = line.strip_prefix("exit ").and_then(|code| code.parse().ok()) {
            return said(code, stdout);
        }
    }
    said(0, stdout)
}
