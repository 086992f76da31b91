//! The kernel settings and packet-filter rules by which a task reaches the agent's credential endpoint.

use anyhow::{Context, Result, bail};
use std::{env, path::Path, process::Command};

type Rule = Vec<String>;

fn rule(text: &str) -> Rule {
    text.split_whitespace().map(str::to_owned).collect()
}

fn prerouting() -> Rule {
    rule("PREROUTING -p tcp -d 169.254.170.2 --dport 80 -j DNAT --to-destination 127.0.0.1:51679")
}

fn output() -> Rule {
    rule("OUTPUT -p tcp -d 169.254.170.2 --dport 80 -j REDIRECT --to-ports 51679")
}

fn localhost_filter() -> Rule {
    rule("INPUT --dst 127.0.0.0/8 ! --src 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP")
}

fn introspection_filter() -> Rule {
    rule("INPUT -p tcp --dport 51678 ! -i lo -j DROP")
}

fn introspection_for_bridge(bridge: &str) -> Rule {
    rule(&format!("INPUT -p tcp --dport 51678 -i {bridge} -j ACCEPT"))
}

/// Lays the rules. Like the original it does not look whether they are there already.
pub fn create(bridge: Option<&str>) -> Result<()> {
    change("nat", "-A", &prerouting(), false)?;
    if !flag("ECS_SKIP_LOCALHOST_TRAFFIC_FILTER") {
        change("filter", "-I", &localhost_filter(), false)?;
    }
    if !flag("ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS") {
        change("filter", "-I", &introspection_filter(), true)?;
        if let Some(bridge) = bridge {
            change("filter", "-I", &introspection_for_bridge(bridge), true)?;
        }
    }
    change("nat", "-A", &output(), false)
}

/// Takes the rules away, each once, going on after a failure.
pub fn remove(bridge: Option<&str>) {
    let mut failures = vec![change("nat", "-D", &prerouting(), false)];
    if !flag("ECS_SKIP_LOCALHOST_TRAFFIC_FILTER") {
        failures.push(change("filter", "-D", &localhost_filter(), false));
    }
    failures.push(change("filter", "-D", &introspection_filter(), true));
    if let Some(bridge) = bridge {
        failures.push(change("filter", "-D", &introspection_for_bridge(bridge), true));
    }
    failures.push(change("nat", "-D", &output(), false));
    for error in failures.into_iter().filter_map(Result::err) {
        eprintln!("error: {error:#}");
    }
}

fn flag(name: &str) -> bool {
    matches!(env::var(name).unwrap_or_default().as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn change(table: &str, action: &str, rule: &Rule, v6_too: bool) -> Result<()> {
    let arguments: Vec<&str> = ["-t", table, action].into_iter().chain(rule.iter().map(String::as_str)).collect();
    run("iptables", &arguments)?;
    if v6_too && Path::new("/proc/sys/net/ipv6").exists() {
        run("ip6tables", &arguments)?;
    }
    Ok(())
}

/// Lets packets from bridges be sent on to 127.0.0.1, or puts the default back.
pub fn route_localnet(on: bool) -> Result<()> {
    let default = "net.ipv4.conf.default.route_localnet";
    let value = if on { "1".to_owned() } else { run("sysctl", &["-n", default])?.trim().to_owned() };
    run("sysctl", &["-w", &format!("net.ipv4.conf.all.route_localnet={value}")]).map(drop)
}

pub fn disable_router_advertisements() -> Result<()> {
    run("sysctl", &["-e", "-w", "net.ipv6.conf.docker0.accept_ra=0"]).map(drop)
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("could not run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}: {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
