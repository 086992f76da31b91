//! The time of `hostagent check`: against the slowest single probe it makes, and against a shell script.
//!
//! `cargo bench --bench check` (root and Docker) runs, in turn on one host whose endpoints are there and whose agent
//! is not on them: `hostagent check` from its start to its end, with how long it says each of its probes took; each
//! of these probes alone, as a call of the library with nothing beside it and nothing kept from before; and
//! `check.sh`, which asks the same questions one after the other. It does so without network delay and with a round
//! trip of 50 ms. It prints the medians and fails when a ratio misses its bound.
//!
//! A probe of an endpoint is the look-up of its name and the connections to all of its addresses. The bound is on the
//! slowest probe made alone. Without delay nothing is waited for but processors, which the probes of a check share with
//! each other and with the stand-ins that answer them on the same host: there the bound asks that all of them, and the
//! start of the program, cost hardly more than one. What can be asked of a check there is shown beside it: its ratio to
//! the slowest probe as it makes it, beside the others, and to the sum of the probes made alone.

mod support;

use hostagent::{
    catalog::{CONTROL_PLANE, Place},
    config::{self, Settings, Source},
    observe,
    ports::Ports,
};
use hostagent_lab::{
    host::{Host, HostOptions},
    region::switch::{Change, Path},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};
use support::{Helper, ROUNDS, Result, median, spread, verdict, within};

/// `hostagent check` over its slowest probe.
const PROBE_BOUND: f64 = 1.3;
/// `hostagent check` over the script, with delay: ten times faster.
const SCRIPT_BOUND: f64 = 0.1;
const ROUND_TRIP_MS: u64 = 50;
const MEASURE: &str = "measure";
const SCRIPT: &str = "/usr/local/bin/check.sh";
/// The exit code of a check that says that a restart is needed.
const RESTART_NEEDED: i32 = 10;

fn main() -> Result<ExitCode> {
    if support::helper(MEASURE).is_some() {
        return on_the_host();
    }
    support::build_programs()?;
    let host = Host::try_start(&HostOptions::default())?;
    host.set(&Change::path(&[], Path::Endpoint));
    host.write(SCRIPT, include_str!("check.sh"));
    host.exec(&["chmod", "+x", SCRIPT]).ok();
    let mut holds = true;
    for round_trip_ms in [0, ROUND_TRIP_MS] {
        host.delay(round_trip_ms / 2);
        let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for line in Helper::start(&host, &[MEASURE])?.finish()? {
            let (what, ms) = line.split_once('\t').ok_or(format!("the helper said: {line}"))?;
            times.entry(what.to_owned()).or_default().push(ms.parse()?);
        }
        holds &= judge(round_trip_ms, &times)?;
    }
    Ok(verdict(holds))
}

fn judge(round_trip_ms: u64, times: &BTreeMap<String, Vec<f64>>) -> Result<bool> {
    println!("\nround trip {round_trip_ms} ms; milliseconds: medians of {ROUNDS} rounds, in turn (least to most)");
    println!("{:<28}{:<28}{:<28}", "", "alone", "within check");
    let of = |what: &str| times.get(what).ok_or(format!("nothing was measured of {what}"));
    let (check, script) = (of("check")?, of("script")?);
    let (mut slowest, mut sum) = (("", 0.0), 0.0);
    for (what, alone) in times {
        let Some(probe) = what.strip_prefix("alone:") else { continue };
        let beside = times.get(&format!("within:{probe}")).map(|ms| spread(ms, 1)).unwrap_or_default();
        println!("probe {probe:<22}{:<28}{beside:<28}", spread(alone, 1));
        sum += median(alone);
        if median(alone) > slowest.1 {
            slowest = (probe, median(alone));
        }
    }
    println!("{:<28}{}", "hostagent check", spread(check, 1));
    println!("{:<28}{}", "check.sh", spread(script, 1));
    println!("check / its slowest probe within it: {:.3}", median(of("ratio")?));
    println!("check / the sum of its probes alone: {:.3}", median(check) / sum);
    let what = format!("check / its slowest probe alone ({})", slowest.0);
    let mut holds = within(&what, median(check) / slowest.1, PROBE_BOUND, "");
    let ratio = median(check) / median(script);
    if round_trip_ms == 0 {
        println!("check / check.sh: {ratio:.3}");
    } else {
        holds &= within("check / check.sh", ratio, SCRIPT_BOUND, "");
    }
    Ok(holds)
}

/// The host's side: prints a line for each time it took, in milliseconds.
fn on_the_host() -> Result<ExitCode> {
    let settings = config::load(&Source::System)?.settings;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for _ in 0..ROUNDS {
        check()?;
        runtime.block_on(alone(&settings))?;
        script()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn say(what: &str, ms: f64) {
    println!("{what}\t{ms}");
}

fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn check() -> Result<()> {
    let start = Instant::now();
    let output = Command::new("hostagent").args(["--format", "json", "check"]).output()?;
    let took_ms = since(start);
    say("check", took_ms);
    if output.status.code() != Some(RESTART_NEEDED) {
        return Err(format!("hostagent check: {}: {}", output.status, String::from_utf8_lossy(&output.stdout)).into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let mut slowest_ms = 0.0_f64;
    for took in report["observation"]["took_ms"].as_array().ok_or("the report tells no times")? {
        if let (Some(probe), Some(ms)) = (took["probe"].as_str(), took["ms"].as_f64()) {
            say(&format!("within:{probe}"), ms);
            slowest_ms = slowest_ms.max(ms);
        }
    }
    say("ratio", took_ms / slowest_ms);
    Ok(())
}

fn script() -> Result<()> {
    let start = Instant::now();
    let output = Command::new(SCRIPT).stdin(Stdio::null()).output()?;
    say("script", since(start));
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{SCRIPT}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// Every probe that takes part in a check, by itself. Adapters are made anew for each, as at the start of a check.
async fn alone(settings: &Settings) -> Result<()> {
    macro_rules! probe {
        ($name:literal, $ports:ident, $call:expr) => {{
            let $ports = Ports::of_this_host(settings);
            let start = Instant::now();
            let seen = $call.await;
            say(concat!("alone:", $name), since(start));
            seen
        }};
    }
    let failed = |missing: hostagent::facts::Missing| missing.to_string();
    let name = &settings.agent.container;
    let words = [name.clone(), "amazon-ecs-agent".to_owned()];
    let agent = probe!("container", ports, ports.engine.agent(name)).map_err(failed)?.ok_or("there is no agent")?;
    let pid = agent.pid.ok_or("the agent does not run")?;
    probe!("workloads", ports, ports.engine.workloads(name)).map_err(failed)?;
    probe!("introspection", ports, ports.introspect.metadata()).map_err(failed)?;
    probe!("tasks", ports, ports.introspect.tasks()).map_err(failed)?;
    probe!("units", ports, ports.init.units(&settings.agent.units, &words)).map_err(failed)?;
    probe!("sockets", ports, ports.sockets.established(pid)).map_err(failed)?;
    probe!("credentials", ports, ports.nat.credential_rules()).map_err(failed)?;
    let instance = probe!("instance", ports, ports.metadata.instance()).map_err(failed)?;
    let place = Place {
        region: &instance.region,
        dns_suffix: &instance.dns_suffix,
        account: &instance.account,
        partition: &instance.partition,
    };
    for service in CONTROL_PLANE {
        let ports = Ports::of_this_host(settings);
        let start = Instant::now();
        let names = observe::look_up(&ports, vec![(service, service.host(&place))]).await;
        let reach = observe::probe(&ports, names.iter().map(|name| (name, settings.network.https_port))).await;
        say(&format!("alone:endpoint {}", service.id()), since(start));
        if reach.len() != 2 || reach.iter().any(|reach| !reach.outcome.reached()) {
            return Err(format!("not both addresses of {service} answer: {reach:?}").into());
        }
    }
    Ok(())
}
