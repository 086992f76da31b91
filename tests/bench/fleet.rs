//! `hostagent fleet` over 10,000 simulated hosts in the lab's cloud.
//!
//! `cargo bench --bench fleet` (neither root nor Docker; Python with venv; about half an hour, most of it one rollout) has
//! three parts, and runs those that are named behind `--`, or all:
//!
//! - `check` asks 1,000 and 10,000 hosts where they stand, and counts AWS's calls and our own processor time and memory;
//! - `halt` breaks one host of a thousand, and counts what is restarted after it;
//! - `rollout` moves 10,000 hosts in three zones, in simulated time, and reads from the cloud's log what was away when.
//!
//! A cluster costs more calls than a tag: ECS lists and describes 100 instances in a call, and Run Command lists 50. Its
//! hosts are of an Auto Scaling group a zone here, whose tag is sent to; by ID it would be 50 in a call, and 600 for 10,000
//! before anything is waited for.
//!
//! The ideal time of a rollout is its schedule's: for each wave the pause, the check, the restart and the proof, each as
//! long as the hosts and Run Command's own ramp (one host first, then twice as many each time) make it. The runbook's own
//! work on this machine counts as often as time runs faster than life: on one that does much else, wall time says nothing.

mod support;

use hostagent_lab::cloud::{Cloud, CloudOptions, Event, RestartBehaviour};
use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};
use support::{Result, median, spread, verdict, within};

/// In the order they run in: the long one last.
const PARTS: [&str; 3] = ["check", "halt", "rollout"];
const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];
const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// Of `fleet check`, for 10,000 hosts.
const CALLS: f64 = 450.0;
const CPU_S: f64 = 2.0;
const MEMORY_MIB: f64 = 64.0;
/// Of ten times the hosts; 1 would be a straight line.
const LINEAR: f64 = 1.15;
/// Wall time of the rollout / that of its schedule.
const IDEAL: f64 = 1.1;
const ROUNDS: usize = 5;

/// What a host takes, in seconds: a check, and a restart with its look-ups over more than one TTL and its proof.
const CHECK_S: f64 = 3.0;
const RESTART_S: f64 = 75.0;
/// From Run Command to a host, on average; and what it sends to at once.
const WAY_S: f64 = 0.75;
const BATCH: usize = 50;
/// Hosts of a wave at most, whatever the share: WAVE of the runbook.
const WAVE: usize = 500;
const SHARE: usize = 20;
const GROWTH: usize = 4;
const PAUSE_S: f64 = 60.0;
/// Simulated seconds a second. The runbook starts Python anew for each turn, a second or two on two cores: at 10 that still
/// fits into the pause.
const SPEED: f64 = 10.0;

fn main() -> Result<ExitCode> {
    // cargo adds --bench.
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(other) = named.iter().find(|name| !PARTS.contains(&name.as_str())) {
        return Err(format!("there is no part {other:?}: {}", PARTS.join(", ")).into());
    }
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    support::build_programs()?;
    let python = python()?;
    let mut holds = true;
    if wanted("check") {
        holds &= checks(&python)?;
    }
    if wanted("halt") {
        holds &= halt(halted(&python)?);
    }
    if wanted("rollout") {
        holds &= rolls(&rollout(&python)?);
    }
    Ok(verdict(holds))
}

fn python() -> Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
    let output = Command::new(script).stderr(Stdio::inherit()).output()?;
    let path = String::from_utf8(output.stdout)?;
    Ok(path.lines().last().ok_or("tests/python gave no path")?.trim().into())
}

fn cloud(python: &std::path::Path, hosts: usize, speed: f64) -> Result<Cloud> {
    let cloud = Cloud::start(CloudOptions { speed, python: Some(python.into()), ..CloudOptions::default() })?;
    cloud.fleet("prod", &ZONES, hosts);
    for number in 1..=hosts {
        cloud.change(&id(number), |host| {
            (host.check_s, host.restart_s) = (CHECK_S, RESTART_S);
            host.group = Some(format!("asg-{}", host.zone));
        });
    }
    Ok(cloud)
}

fn id(number: usize) -> String {
    format!("i-{number:017x}")
}

/// Runs the release program, and gives its exit code, its processor time in seconds and its peak memory in MiB.
fn hostagent(python: &std::path::Path, cloud: &Cloud, arguments: &[&str]) -> Result<(i32, f64, f64)> {
    const MEASURE: &str = "\
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_utime + used.ru_stime, used.ru_maxrss)";
    let program = std::env::current_exe()?;
    let programs = program.parent().and_then(|deps| deps.parent()).ok_or("this program lies in no directory")?;
    let mut command = Command::new(python);
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(cloud.environment());
    command.args(["-c", MEASURE]).arg(programs.join("hostagent")).arg("fleet").args(arguments);
    let text = String::from_utf8(command.output()?.stdout)?;
    let mut words = text.split_whitespace();
    let mut next = || words.next().ok_or(format!("not measured: {text}"));
    Ok((next()?.parse()?, next()?.parse()?, next()?.parse::<f64>()? / 1024.0))
}

/// What it takes to ask a fleet.
struct Asked {
    calls: Vec<f64>,
    cpu_s: Vec<f64>,
    memory_mib: Vec<f64>,
}

fn check(python: &std::path::Path, hosts: usize, target: &str, value: &str) -> Result<Asked> {
    // Ten times as fast as life: answers come while it waits, as they do there.
    let cloud = cloud(python, hosts, 10.0)?;
    hostagent(python, &cloud, &["install"])?;
    let mut asked = Asked { calls: vec![], cpu_s: vec![], memory_mib: vec![] };
    for _ in 0..ROUNDS {
        let before = cloud.all_calls();
        let (code, cpu_s, memory_mib) = hostagent(python, &cloud, &["check", target, value])?;
        if code != 10 {
            return Err(format!("fleet check of {hosts} hosts ended with {code}").into());
        }
        asked.calls.push((cloud.all_calls() - before) as f64);
        asked.cpu_s.push(cpu_s);
        asked.memory_mib.push(memory_mib);
    }
    Ok(asked)
}

/// What a rollout came to.
struct Rolled {
    moved: usize,
    /// The most agents away in a zone at any instant, of how many that may be.
    most: usize,
    allowed: usize,
    two_zones: bool,
    wall_s: f64,
    ideal_s: f64,
    calls: usize,
}

fn rollout(python: &std::path::Path) -> Result<Rolled> {
    let cloud = cloud(python, MANY, SPEED)?;
    hostagent(python, &cloud, &["install"])?;
    let (share, growth, pause) = (SHARE.to_string(), GROWTH.to_string(), format!("{PAUSE_S:.0}s"));
    let before = cloud.all_calls();
    let arguments = ["rollout", "--cluster", "prod", "--zone-share", &share, "--growth", &growth, "--pause", &pause];
    let (code, ..) = hostagent(python, &cloud, &arguments)?;
    if code != 0 {
        return Err(format!("the rollout ended with {code}").into());
    }
    let mut rolled = Rolled {
        moved: 0,
        most: 0,
        allowed: (MANY.div_ceil(ZONES.len()) * SHARE / 100).min(WAVE),
        two_zones: false,
        wall_s: 0.0,
        ideal_s: ideal_s(),
        calls: cloud.all_calls() - before,
    };
    let mut away: HashMap<String, usize> = HashMap::new();
    let (mut first, mut last) = (f64::INFINITY, 0.0_f64);
    for event in cloud.log() {
        match &event {
            Event::RestartBegan { zone, .. } => {
                *away.entry(zone.clone()).or_default() += 1;
                rolled.most = rolled.most.max(away[zone]);
                rolled.two_zones |= away.values().filter(|count| **count > 0).count() > 1;
            }
            Event::RestartEnded { zone, ok, .. } => {
                rolled.moved += usize::from(*ok);
                *away.entry(zone.clone()).or_default() -= 1;
            }
            Event::Automation { .. } => {}
            _ => continue,
        }
        (first, last) = (first.min(event.at_s()), last.max(event.at_s()));
    }
    rolled.wall_s = last - first;
    Ok(rolled)
}

/// The schedule's time, in simulated seconds.
fn ideal_s() -> f64 {
    let mut size = 1;
    let mut total = 0.0;
    for zone in 0..ZONES.len() {
        let hosts = MANY / ZONES.len() + usize::from(zone < MANY % ZONES.len());
        let most = (hosts * SHARE / 100).clamp(1, WAVE);
        let mut rest = hosts;
        while rest > 0 {
            let wave = size.min(most).min(rest);
            rest -= wave;
            total += PAUSE_S + 2.0 * ramp_s(wave, CHECK_S) + ramp_s(wave, RESTART_S);
            size = (size * GROWTH).min(WAVE);
        }
    }
    // None follows the last.
    total - PAUSE_S
}

/// As long as Run Command takes for a batch that begins with one host and doubles.
fn ramp_s(hosts: usize, each_s: f64) -> f64 {
    let batch = hosts.min(BATCH);
    let rounds = usize::BITS - batch.leading_zeros();
    f64::from(rounds) * (WAY_S + each_s)
}

/// How many hosts are restarted after one that does not come back, and how many commands to restart begin after it.
fn halted(python: &std::path::Path) -> Result<(usize, usize)> {
    let cloud = cloud(python, FEW, 4.0 * SPEED)?;
    hostagent(python, &cloud, &["install"])?;
    // In the fourth wave: 1, 4, 16 come before it.
    let broken = id(1 + 30 * ZONES.len());
    cloud.change(&broken, |host| host.restart = RestartBehaviour::DoesNotComeBack);
    let (code, ..) =
        hostagent(python, &cloud, &["rollout", "--cluster", "prod", "--zone-share", "20", "--pause", "10s"])?;
    if code != 13 {
        return Err(format!("a rollout with a broken host ended with {code}").into());
    }
    let log = cloud.log();
    let failed = log.iter().position(|e| matches!(e, Event::RestartEnded { ok: false, .. })).ok_or("no host failed")?;
    let later = log[failed..].iter().filter(|event| matches!(event, Event::RestartBegan { .. }));
    let commands = |events: &[Event]| -> HashSet<String> {
        let sent = events.iter().filter_map(|event| match event {
            Event::Delivered { command, document, .. } if document == "HostAgent-Restart" => Some(command.clone()),
            _ => None,
        });
        sent.collect()
    };
    Ok((later.count(), commands(&log[failed..]).difference(&commands(&log[..failed])).count()))
}

fn checks(python: &std::path::Path) -> Result<bool> {
    let (few, many) = (check(python, FEW, "--tag", "Cluster=prod")?, check(python, MANY, "--tag", "Cluster=prod")?);
    let cluster = check(python, MANY, "--cluster", "prod")?;
    for (what, asked) in [("1,000 by tag", &few), ("10,000 by tag", &many), ("10,000 by cluster", &cluster)] {
        println!(
            "fleet check of {what}: {} calls, {} s of processor time, {} MiB",
            spread(&asked.calls, 0),
            spread(&asked.cpu_s, 2),
            spread(&asked.memory_mib, 1)
        );
    }
    let per_host = |asked: &Asked, hosts: usize| median(&asked.cpu_s) / hosts as f64;
    let mut holds = within("fleet check, calls", median(&many.calls), CALLS, "");
    holds &= within("fleet check of a cluster, calls", median(&cluster.calls), CALLS, "");
    holds &= within("fleet check, processor time", median(&many.cpu_s), CPU_S, " s");
    holds &= within("fleet check, memory", median(&many.memory_mib), MEMORY_MIB, " MiB");
    Ok(holds & within("processor time a host, 10,000 / 1,000", per_host(&many, MANY) / per_host(&few, FEW), LINEAR, ""))
}

fn halt((after, waves): (usize, usize)) -> bool {
    let holds = within("commands to restart that begin after the failure", waves as f64, 0.0, "");
    // The rest of its own wave: a fifth of a zone.
    holds & within("restarted after the failure", after as f64, (FEW.div_ceil(ZONES.len()) * SHARE / 100) as f64, "")
}

fn rolls(rolled: &Rolled) -> bool {
    println!(
        "rollout over {MANY} hosts: {} moved, {} calls, {:.0} simulated seconds, schedule {:.0}",
        rolled.moved, rolled.calls, rolled.wall_s, rolled.ideal_s
    );
    let mut holds = within("agents away in a zone at once", rolled.most as f64, rolled.allowed as f64, "");
    holds &= within("zones at once", if rolled.two_zones { 2.0 } else { 1.0 }, 1.0, "");
    holds &= within("wall time / schedule", rolled.wall_s / rolled.ideal_s, IDEAL, "");
    holds & within("hosts not moved", (MANY - rolled.moved) as f64, 0.0, "")
}
