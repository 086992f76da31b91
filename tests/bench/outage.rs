//! The outage of the agent under `hostagent restart`, against a raw `systemctl restart ecs`.
//!
//! `cargo bench --bench outage` (root and Docker) restarts the agent of one host in both ways, in turn. Each time it
//! moves from public to endpoint addresses. Both are measured alike and from outside: a helper on the host knocks at
//! the introspection port, and the region tells when websockets closed and opened. It prints the medians and their
//! ratios, and beside them what hostagent itself reported; it fails when a ratio is over its bound, or when
//! hostagent's own report is further from what was seen than the resolution it claims.

mod support;

use hostagent_lab::{
    host::{Host, HostOptions, IMPATIENT},
    region::{
        place::Service,
        switch::{Change, Event, Path, What},
    },
};
use rustix::net::sockopt::set_socket_linger;
use std::{
    collections::BTreeSet,
    io::stdin,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{Helper, ROUNDS, Result, median, spread, verdict, within};

const BOUND: f64 = 1.05;
const SAMPLE: &str = "sample";
const INTROSPECTION: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 51678);
/// Between two knocks.
const EVERY: Duration = Duration::from_millis(5);
/// How long the agent may take to be seen again once it holds its websockets.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<ExitCode> {
    if support::helper(SAMPLE).is_some() {
        return sample();
    }
    support::build_programs()?;
    let host = Host::try_start(&HostOptions { hostagent: IMPATIENT.into(), ..HostOptions::default() })?;
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Whatever one leaves behind for the next falls on both alike.
        if round % 2 == 0 {
            ours.push(outage(&host, by_hostagent)?);
            raw.push(outage(&host, by_systemctl)?);
        } else {
            raw.push(outage(&host, by_systemctl)?);
            ours.push(outage(&host, by_hostagent)?);
        }
    }
    drop(host);
    Ok(verdict(judge(&ours, &raw)))
}

/// The things that are away during a restart, in the order of each [`Seconds`].
const THINGS: [&str; 2] = ["introspection", "websockets"];
type Seconds = [f64; THINGS.len()];

/// What one restart came to.
struct Outage {
    seen: Seconds,
    own: Option<Own>,
}

/// What hostagent itself reported.
struct Own {
    told: Seconds,
    resolution_s: f64,
}

/// One restart of an agent that moves from public to endpoint addresses.
fn outage(host: &Host, restart: impl Fn(&Host) -> Result<Option<Own>>) -> Result<Outage> {
    host.set(&Change::path(&[], Path::Public));
    let mark = host.mark();
    host.sh("systemctl reset-failed ecs; systemctl restart ecs").ok();
    host.await_agent(mark);
    host.set(&Change::path(&[Service::Ecs, Service::EcsAgent, Service::EcsTelemetry], Path::Endpoint));
    // Neither the budget of a day nor systemd's start limit is what is measured.
    host.sh("rm -f /var/lib/hostagent/history.json; systemctl reset-failed ecs").ok();

    let mut sampler = Helper::start(host, &[SAMPLE])?;
    sampler.line()?;
    let mark = host.mark();
    let own = restart(host)?;
    host.await_agent(mark);
    let seen = sampler.finish()?;
    let introspection = seen.first().ok_or("the sampler saw nothing")?.parse()?;
    let websockets = away(&host.events(mark, Duration::ZERO)).ok_or("the region saw no websocket close and open")?;
    Ok(Outage { seen: [introspection, websockets], own })
}

fn by_systemctl(host: &Host) -> Result<Option<Own>> {
    host.exec(&["systemctl", "restart", "ecs"]).ok();
    Ok(None)
}

fn by_hostagent(host: &Host) -> Result<Option<Own>> {
    let report: serde_json::Value = serde_json::from_str(host.hostagent(&["--format", "json", "restart"]).ok())?;
    let run = report["run_id"].as_str().ok_or("the restart was not begun")?;
    let result = host.sh(&format!("cat /run/hostagent/runs/{run}/result.json"));
    let result: serde_json::Value = serde_json::from_str(result.ok())?;
    let seconds = |key: &str| {
        result["outage"][key].as_f64().ok_or_else(|| format!("hostagent did not measure {key}: {}", result["outage"]))
    };
    Ok(Some(Own { told: [seconds("agent_s")?, seconds("websockets_s")?], resolution_s: seconds("resolution_s")? }))
}

/// From the first websocket's end until one of each service is open again, in seconds by the region's clock.
fn away(events: &[Event]) -> Option<f64> {
    let closed = events.iter().find(|event| matches!(event.what, What::WsClose { .. }))?;
    let mut open = BTreeSet::new();
    let back = events.iter().filter(|event| event.seq > closed.seq).find(|event| {
        if let What::WsOpen { websocket } = &event.what {
            open.insert(websocket.service);
        }
        open.contains(&Service::EcsAgent) && open.contains(&Service::EcsTelemetry)
    })?;
    Some((back.at_ms - closed.at_ms) as f64 / 1e3)
}

/// On the host: knocks until its input ends and the port is open; prints for how long at most it was closed.
fn sample() -> Result<ExitCode> {
    let address = SocketAddr::from(INTROSPECTION);
    let open = || match TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        Err(_) => false,
        // Reset and not closed, so that no port stays taken for a minute after each knock.
        Ok(stream) => set_socket_linger(&stream, Some(Duration::ZERO)).is_ok(),
    };
    if !open() {
        return Err("the introspection port is closed to begin with".into());
    }
    println!("ready");
    let ended = Arc::new(AtomicBool::new(false));
    let end = ended.clone();
    thread::spawn(move || {
        let _ = stdin().read_line(&mut String::new());
        end.store(true, Ordering::Relaxed);
    });
    let (mut closed_since, mut longest, mut give_up) = (None::<Instant>, 0.0_f64, None::<Instant>);
    loop {
        let there = open();
        let now = Instant::now();
        match (there, closed_since) {
            (true, Some(since)) => {
                longest = longest.max((now - since).as_secs_f64());
                closed_since = None;
            }
            (false, None) => closed_since = Some(now),
            _ => {}
        }
        if ended.load(Ordering::Relaxed) {
            if there {
                println!("{longest}");
                return Ok(ExitCode::SUCCESS);
            }
            if now > *give_up.get_or_insert(now + PATIENCE) {
                return Err("the introspection port stays closed".into());
            }
        }
        thread::sleep(EVERY);
    }
}

fn judge(ours: &[Outage], raw: &[Outage]) -> bool {
    println!("outage of the agent in seconds: medians of {ROUNDS} rounds each, in turn (least to most)");
    println!("{:<16}{:<28}{:<28}{:<28}", "", "hostagent restart", "systemctl restart ecs", "hostagent's own report");
    let own: Vec<&Own> = ours.iter().filter_map(|outage| outage.own.as_ref()).collect();
    let of = |outages: &[Outage], thing: usize| outages.iter().map(|o| o.seen[thing]).collect::<Vec<f64>>();
    for (thing, what) in THINGS.into_iter().enumerate() {
        let told: Vec<f64> = own.iter().map(|own| own.told[thing]).collect();
        let (ours, raw) = (spread(&of(ours, thing), 3), spread(&of(raw, thing), 3));
        println!("{what:<16}{ours:<28}{raw:<28}{:<28}", spread(&told, 3));
    }
    let resolution = own.iter().map(|own| own.resolution_s).fold(0.0, f64::max);
    let mut holds = true;
    for (thing, what) in THINGS.into_iter().enumerate() {
        let ratio = median(&of(ours, thing)) / median(&of(raw, thing));
        holds &= within(&format!("{what}, ratio"), ratio, BOUND, "");
        let off: Vec<f64> =
            of(ours, thing).into_iter().zip(&own).map(|(seen, own)| (own.told[thing] - seen).abs()).collect();
        println!("{what}, its report is off by {} s", spread(&off, 3));
        holds &= within(&format!("{what}, median error of its report"), median(&off), resolution, " s");
    }
    holds
}
