//! What the service costs, and how soon it notices: `hostagent watch` as its unit on a whole host.
//!
//! `cargo bench --bench service` (root and Docker; about 10 minutes, most of them waiting) runs two hosts side by side
//! with the unit as it is shipped:
//!
//! - on one, before the other is there, the service starts again and again (from the start of its process to READY=1, by
//!   systemd's own time stamps: without the unit's sandbox, which systemd makes before the program begins, and with it),
//!   idles unsettled (memory, processor time, questions counted at the region's DNS server), and notices the
//!   last of the three endpoints again and again, at moments spread over a TTL;
//! - on the other it moves the agent and is settled, with its default settings; processor time is counted from one look
//!   to the next, six minutes later, so that all that recurs is in it. dockerd, which idles on the same host, is counted beside it.
//!
//! Memory is what is resident of the service's process (`VmRSS`, shared libraries included), the most of several
//! readings. Each look is a process of its own that lasts a fraction of a second: its processor time is counted, and
//! its memory shown. The processor time of the helper that lists the NAT rules for the service is counted, too.
//! It prints what it found and fails when a bound is missed.

mod support;

use hostagent::events;
use hostagent_lab::{
    host::{Host, HostOptions},
    region::{
        place::Service,
        switch::{Change, Path, What},
    },
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use support::{ROUNDS, Result, median, spread, verdict, within};

const MEMORY_MIB: f64 = 8.0;
/// Of one core, settled.
const CPU_PERCENT: f64 = 0.02;
const READY_MS: f64 = 50.0;
/// Questions for one name and record type in one TTL.
const QUESTIONS: f64 = 1.0;

/// While unsettled, in seconds: as short as the service takes it by default.
const TTL_S: u32 = 5;
/// So many TTLs are watched for questions.
const TTLS: u32 = 12;
/// While endpoints are being noticed. The confirmation takes two of them: three looks, each when the answers before have
/// gone from every cache, which is a second after their TTL.
const SHORT_TTL_S: u32 = 2;
const NOTICING: &str = "[watch]\non_ready = \"report\"\n[confirm]\nmin_spread_s = 1\n";
const CONFIRMATION_TTLS: u32 = 2;
/// What a look may take itself, in seconds: there are three between an endpoint and "ready".
const LOOK_S: f64 = 0.25;
/// Settled, the looks are as far apart as they are by default from the first on.
const LONG_TTL_S: u32 = 360;
const WINDOW_LOOKS: usize = 1;
/// For the agent to be moved with default settings, and to be held.
const MOVED: Duration = Duration::from_secs(300);

const UNITS: [(&str, &str); 3] = [
    ("/usr/lib/systemd/system/hostagent.service", include_str!("../../systemd/hostagent.service")),
    ("/usr/lib/systemd/system/hostagent-nat.socket", include_str!("../../systemd/hostagent-nat.socket")),
    ("/usr/lib/systemd/system/hostagent-nat@.service", include_str!("../../systemd/hostagent-nat@.service")),
];

fn main() -> Result<ExitCode> {
    support::build_programs()?;
    let host = installed("")?;
    host.set(&Change { ttl: Some(TTL_S), ..Change::default() });
    let bare_ms = (0..ROUNDS).map(|_| start_bare(&host)).collect::<Result<Vec<f64>>>()?;
    let ready_ms = (0..ROUNDS).map(|_| start(&host)).collect::<Result<Vec<f64>>>()?;
    let (unsettled, settled) = thread::scope(|scope| {
        let settled = scope.spawn(|| settled().map_err(|error| error.to_string()));
        (unsettled(&host), settled.join())
    });
    let (unsettled, settled) = (unsettled?, settled.map_err(|_| "the settled host failed")??);
    Ok(verdict(judge(&bare_ms, &ready_ms, &unsettled, &settled)))
}

/// A host with the service installed.
fn installed(hostagent: &str) -> Result<Host> {
    let files = UNITS.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let host = Host::try_start(&HostOptions { hostagent: hostagent.into(), files, ..HostOptions::default() })?;
    Ok(host)
}

/// What is resident of a process, and the processor time its unit has used.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    resident_mib: f64,
    cpu_ms: f64,
}

/// Reads the service, or dockerd. Shell, so that nothing of it is counted to either.
fn used(host: &Host, unit: &str) -> Result<Used> {
    // The group of the unit, wherever this kernel's hierarchy has it, and that of the helper's instances.
    let script = format!(
        "pid=$(systemctl show --property=MainPID --value {unit})\n\
         awk '/^VmRSS:/ {{ print $2 }}' /proc/$pid/status\n\
         find /sys/fs/cgroup \\( -path '*/system.slice/{unit}/cpu.stat' -o \
           -path '*/system.slice/system-{}*.slice/cpu.stat' \\) -exec awk '/^usage_usec/ {{ print $2 }}' {{}} +",
        unit.trim_end_matches(".service")
    );
    let output = host.sh(&script);
    let mut numbers = output.ok().lines().map(str::parse::<f64>);
    let resident_kib = numbers.next().ok_or("the process is gone")??;
    let usage_us = numbers.collect::<std::result::Result<Vec<_>, _>>()?;
    if usage_us.is_empty() {
        return Err(format!("no processor time is told of {unit}").into());
    }
    Ok(Used { resident_mib: resident_kib / 1024.0, cpu_ms: usage_us.iter().sum::<f64>() / 1e3 })
}

const SERVICE: &str = "hostagent.service";
const ENGINE: &str = "docker.service";

/// The service's own words, from where they are written at every look.
fn words(host: &Host) -> Value {
    serde_json::from_str(&host.sh("cat /run/hostagent/watch.json").stdout).unwrap_or_default()
}

/// Waits for so many looks more; the reading after each.
fn looks(host: &Host, more: usize, patience: Duration) -> Result<Vec<Used>> {
    let mut last = words(host)["looked_at"].clone();
    let mut seen = Vec::new();
    let mut began = Instant::now();
    while seen.len() < more {
        thread::sleep(Duration::from_millis(500));
        let now = words(host)["looked_at"].clone();
        if now != last {
            last = now;
            // The look's process has ended, and the service has put its words on disk.
            thread::sleep(Duration::from_millis(500));
            seen.push(used(host, SERVICE)?);
            began = Instant::now();
        }
        if began.elapsed() > patience {
            return Err(format!("the service did not look within {patience:?}").into());
        }
    }
    Ok(seen)
}

/// The most that was resident.
fn most(seen: &[Used]) -> f64 {
    seen.iter().map(|used| used.resident_mib).fold(0.0, f64::max)
}

struct Unsettled {
    resident_mib: f64,
    cpu_per_look_ms: f64,
    /// The most in a TTL, by name and record type.
    questions: BTreeMap<(String, String), f64>,
    /// The most that is resident of a look's process.
    look_mib: f64,
    /// From the last endpoint to "ready".
    noticed_s: Vec<f64>,
}

fn unsettled(host: &Host) -> Result<Unsettled> {
    // The first looks have other distances than those that follow.
    looks(host, 3, Duration::from_secs(60))?;
    let (mark, before) = (host.mark(), used(host, SERVICE)?);
    let seen = looks(host, TTLS as usize, Duration::from_secs(60))?;
    let after = used(host, SERVICE)?;
    let mut asked: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    for event in host.events(mark, Duration::ZERO) {
        if let What::Dns { name, qtype, .. } = event.what {
            asked.entry((name, qtype)).or_default().push(event.at_ms);
        }
    }
    let peak = host.sh("/usr/bin/time --format %M hostagent check >/dev/null").stderr;
    let peak: f64 = peak.lines().last().unwrap_or_default().parse()?;

    host.configure("50-noticing", NOTICING);
    host.set(&Change { ttl: Some(SHORT_TTL_S), ..Change::default() });
    host.exec(&["systemctl", "restart", "hostagent"]).ok();
    host.set(&Change::path(&[Service::Ecs, Service::EcsTelemetry], Path::Endpoint));
    looks(host, 3, Duration::from_secs(60))?;
    let noticed_s = (0..ROUNDS).map(|round| notice(host, round)).collect::<Result<Vec<f64>>>()?;
    Ok(Unsettled {
        resident_mib: most(&seen),
        cpu_per_look_ms: (after.cpu_ms - before.cpu_ms) / f64::from(TTLS),
        questions: asked.into_iter().map(|(name, at_ms)| (name, in_a_ttl(&at_ms))).collect(),
        look_mib: peak / 1024.0,
        noticed_s,
    })
}

/// The most questions in a TTL: by the shortest time from one to the next.
fn in_a_ttl(at_ms: &[u64]) -> f64 {
    let gaps = at_ms.iter().zip(at_ms.iter().skip(1)).map(|(one, next)| next.saturating_sub(*one));
    f64::from(TTL_S) * 1e3 / gaps.min().map_or(f64::NAN, |shortest| shortest as f64)
}

/// Starts the service anew: from its process to READY=1, in milliseconds.
fn start(host: &Host) -> Result<f64> {
    host.sh("systemctl reset-failed hostagent; systemctl restart hostagent").ok();
    to_ready(host, SERVICE)
}

/// The same of a unit that has nothing but the program.
fn start_bare(host: &Host) -> Result<f64> {
    const BARE: &str = "bare.service";
    host.exec(&["systemd-run", "--quiet", "--collect", "--unit", BARE, "--service-type=notify", "hostagent", "watch"])
        .ok();
    let took = to_ready(host, BARE);
    host.exec(&["systemctl", "stop", BARE]).ok();
    took
}

fn to_ready(host: &Host, unit: &str) -> Result<f64> {
    let stamp = |property: &str| -> Result<f64> {
        let shown = host.exec(&["systemctl", "show", "--value", &format!("--property={property}"), unit]);
        Ok(shown.ok().parse()?)
    };
    Ok((stamp("ActiveEnterTimestampMonotonic")? - stamp("ExecMainStartTimestampMonotonic")?) / 1e3)
}

/// Makes the last endpoint appear, and waits until the service says that all are ready; then takes it away again.
/// The time between the two in seconds, by the region's clock and the journal's, which are one.
fn notice(host: &Host, round: usize) -> Result<f64> {
    // Spread over the TTL, whatever the looks before took.
    thread::sleep(Duration::from_secs(u64::from(SHORT_TTL_S)).mul_f64(round as f64 / ROUNDS as f64));
    let records = || -> Vec<Value> {
        let id = format!("MESSAGE_ID={}", events::ENDPOINTS_READY.id);
        let found = host.exec(&["journalctl", "--quiet", "--no-pager", "--output=json", &id]).stdout;
        found.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let before = records().len();
    let appeared = SystemTime::now().duration_since(UNIX_EPOCH)?;
    host.set(&Change::path(&[Service::EcsAgent], Path::Endpoint));
    let record = host.until("ready", |_| {
        let all = records();
        (all.len() > before).then(|| all.last().cloned().unwrap_or_default())
    });
    let said_us: f64 = record["__REALTIME_TIMESTAMP"].as_str().ok_or("a record without its time")?.parse()?;
    host.set(&Change::path(&[Service::EcsAgent], Path::Public));
    host.until("unsettled again", |host| (words(host)["state"]["phase"]["phase"] == "observing").then_some(()));
    Ok(said_us / 1e6 - appeared.as_secs_f64())
}

struct Settled {
    resident_mib: f64,
    window_s: f64,
    cpu_percent: f64,
    engine: Used,
    engine_cpu_percent: f64,
}

fn settled() -> Result<Settled> {
    // Everything as by default but the splay, for which nobody needs to wait here.
    let host = installed("[watch]\nsplay_max_s = 0\n")?;
    host.set(&Change { ttl: Some(1), ..Change::default() });
    host.set(&Change::path(&[Service::Ecs, Service::EcsAgent, Service::EcsTelemetry], Path::Endpoint));
    host.exec(&["systemctl", "start", "hostagent"]).ok();
    let began = Instant::now();
    while words(&host)["state"]["phase"]["phase"] != "settled" {
        if began.elapsed() > MOVED {
            return Err(format!("not settled within {MOVED:?}: {}", words(&host)["words"]).into());
        }
        thread::sleep(Duration::from_secs(1));
    }
    let eased = looks(&host, 3, Duration::from_secs(120))?;
    host.set(&Change { ttl: Some(LONG_TTL_S), ..Change::default() });
    // The first after which the next is as far away as it will be from now on.
    let far = Duration::from_secs(u64::from(LONG_TTL_S) * 5 / 4);
    let first = looks(&host, 1, far)?;
    let (mine, engine, began) = (used(&host, SERVICE)?, used(&host, ENGINE)?, Instant::now());
    let seen = looks(&host, WINDOW_LOOKS, far)?;
    let (mine_after, engine_after, window) = (used(&host, SERVICE)?, used(&host, ENGINE)?, began.elapsed());
    let percent = |before: Used, after: Used| (after.cpu_ms - before.cpu_ms) / 10.0 / window.as_secs_f64();
    Ok(Settled {
        resident_mib: most(&[eased, first, seen].concat()),
        window_s: window.as_secs_f64(),
        cpu_percent: percent(mine, mine_after),
        engine: engine_after,
        engine_cpu_percent: percent(engine, engine_after),
    })
}

fn judge(bare_ms: &[f64], ready_ms: &[f64], unsettled: &Unsettled, settled: &Settled) -> bool {
    let Unsettled { resident_mib, cpu_per_look_ms, questions, look_mib, noticed_s } = unsettled;
    println!("hostagent watch, medians of {ROUNDS} rounds (least to most)");
    println!("{:<44}{}", "from its start to READY=1, in ms", spread(bare_ms, 1));
    println!("{:<44}{}", "with the sandbox that systemd makes first", spread(ready_ms, 1));
    println!("{:<44}{}", "from the last endpoint to ready, in s", spread(noticed_s, 2));
    println!("\nunsettled, over {TTLS} looks at a TTL of {TTL_S} s");
    println!(
        "processor time of a look: {cpu_per_look_ms:.1} ms, {:.3} % of a core at a TTL of 60 s; its process has \
         {look_mib:.1} MiB at its peak",
        cpu_per_look_ms / 600.0
    );
    for ((name, qtype), asked) in questions {
        println!("{:<44}{asked:.2} questions in a TTL at most", format!("{name} {qtype}"));
    }
    println!("\nsettled, over {:.0} s beside dockerd ({WINDOW_LOOKS} looks)", settled.window_s);
    let row = |what: &str, mib: f64, percent: f64| println!("{what:<44}{mib:>8.2} MiB{percent:>10.4} % of a core");
    row("hostagent", settled.resident_mib, settled.cpu_percent);
    row("dockerd", settled.engine.resident_mib, settled.engine_cpu_percent);
    println!(
        "hostagent / dockerd: memory {:.3}, processor {:.3}\n",
        settled.resident_mib / settled.engine.resident_mib,
        settled.cpu_percent / settled.engine_cpu_percent
    );

    let mut holds = within("resident, unsettled", *resident_mib, MEMORY_MIB, " MiB");
    holds &= within("resident, settled", settled.resident_mib, MEMORY_MIB, " MiB");
    holds &= within("processor, settled", settled.cpu_percent, CPU_PERCENT, " % of a core");
    let asked = questions.values().copied().fold(0.0, f64::max);
    holds &= !questions.is_empty() && within("questions for a name and type in a TTL", asked, QUESTIONS, "");
    let noticing = f64::from(SHORT_TTL_S + (SHORT_TTL_S + 1) * CONFIRMATION_TTLS) + 3.0 * LOOK_S;
    let latest = noticed_s.iter().copied().fold(0.0, f64::max);
    holds &= within("noticing, the latest: TTL + confirmation", latest, noticing, " s");
    holds & within("start to READY=1", median(bare_ms), READY_MS, " ms")
}
