//! Looking at a host: its containers, units and credential rules.

use super::Host;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A container of the host's engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    /// The full ID.
    pub id: String,
    /// In the host's own process namespace; 0 when it does not run.
    pub pid: u32,
    /// As the engine writes it, RFC 3339 with nanoseconds.
    pub started_at: String,
    pub running: bool,
    /// Of the last run; 0 while it runs.
    pub exit_code: i64,
    pub restart_count: u64,
}

/// A unit as `systemctl show` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    /// `running`, `dead`, `auto-restart`, …
    pub sub: String,
    /// `success`, `exit-code`, `signal`, …
    pub result: String,
    /// 0 when there is none.
    pub main_pid: u32,
    /// Exit code or signal of the main process that ended last.
    pub exec_main_status: i32,
    /// Automatic restarts.
    pub restarts: u32,
}

/// How often each of the two rules for 169.254.170.2 stands in the nat table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialRules {
    pub prerouting: usize,
    pub output: usize,
}

impl CredentialRules {
    pub const ONCE: Self = Self { prerouting: 1, output: 1 };
    pub const GONE: Self = Self { prerouting: 0, output: 0 };
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    restart_count: u64,
    state: InspectedState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    running: bool,
    pid: u32,
    exit_code: i64,
    started_at: String,
}

impl From<Inspected> for Container {
    fn from(Inspected { id, name, restart_count, state }: Inspected) -> Self {
        let InspectedState { running, pid, exit_code, started_at } = state;
        Self { name: name.trim_start_matches('/').into(), id, pid, started_at, running, exit_code, restart_count }
    }
}

impl Host {
    /// The container of this name or ID, running or not.
    #[track_caller]
    pub fn container(&self, name: &str) -> Option<Container> {
        let output = self.exec(&["docker", "container", "inspect", name]);
        if !output.success() && output.stderr.contains("No such container") {
            return None;
        }
        parse_containers(output.ok()).pop()
    }

    /// The agent's container, known by its name.
    #[track_caller]
    pub fn agent(&self) -> Option<Container> {
        self.container("ecs-agent")
    }

    /// Every container that runs, except the agent. Equal before and after when nobody touched them.
    #[track_caller]
    pub fn workloads(&self) -> Vec<Container> {
        let script = "docker ps --quiet --no-trunc | xargs --no-run-if-empty docker container inspect";
        let mut all = parse_containers(self.sh(script).ok());
        all.retain(|container| container.name != "ecs-agent");
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The state of a unit; `inactive` also when no such unit exists.
    #[track_caller]
    pub fn unit(&self, name: &str) -> Unit {
        let properties = "--property=ActiveState,SubState,Result,MainPID,ExecMainStatus,NRestarts";
        parse_unit(self.exec(&["systemctl", "show", properties, name]).ok())
    }

    /// Counts the rules for the credential address.
    #[track_caller]
    pub fn credential_rules(&self) -> CredentialRules {
        parse_rules(self.exec(&["iptables", "-t", "nat", "-S"]).ok())
    }
}

fn parse_containers(json: &str) -> Vec<Container> {
    if json.is_empty() {
        return Vec::new();
    }
    match serde_json::from_str::<Vec<Inspected>>(json) {
        Ok(inspected) => inspected.into_iter().map(Container::from).collect(),
        Err(error) => panic!("docker inspect on the host printed what we cannot read: {error}\n{json}"),
    }
}

fn parse_unit(text: &str) -> Unit {
    let properties: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let word = |key: &str| properties.get(key).copied().unwrap_or_default().to_owned();
    Unit {
        active: word("ActiveState"),
        sub: word("SubState"),
        result: word("Result"),
        main_pid: word("MainPID").parse().unwrap_or_default(),
        exec_main_status: word("ExecMainStatus").parse().unwrap_or_default(),
        restarts: word("NRestarts").parse().unwrap_or_default(),
    }
}

fn parse_rules(listing: &str) -> CredentialRules {
    let count = |chain: &str| {
        let prefix = format!("-A {chain} ");
        listing.lines().filter(|line| line.starts_with(&prefix) && line.contains("-d 169.254.170.2/32")).count()
    };
    CredentialRules { prerouting: count("PREROUTING"), output: count("OUTPUT") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_prints_is_read() {
        let unit = parse_unit(
            "MainPID=0\nNRestarts=3\nExecMainStatus=5\nResult=exit-code\nActiveState=failed\nSubState=failed",
        );
        assert_eq!((unit.active.as_str(), unit.exec_main_status, unit.restarts), ("failed", 5, 3));

        let rules = "-P OUTPUT ACCEPT\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
            -A PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679\n\
            -A OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679\n";
        assert_eq!(parse_rules(rules), CredentialRules::ONCE);
        assert_eq!(parse_rules(""), CredentialRules::GONE);

        let inspected = r#"[{"Id":"ab","Name":"/w","RestartCount":1,"Extra":{},
            "State":{"Running":false,"Pid":0,"ExitCode":143,"StartedAt":"2026-01-01T00:00:00Z","Dead":false}}]"#;
        let [container] = &parse_containers(inspected)[..] else { panic!("one container") };
        assert_eq!((container.name.as_str(), container.exit_code, container.running), ("w", 143, false));
        assert!(parse_containers("").is_empty());
    }
}
