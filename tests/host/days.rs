//! What happens in a life of days: reboots, clocks that jump, endpoints that are replaced, windows, long quiet.

use crate::{
    scene::{CONTROL_PLANE, Scene},
    served::served,
};
use hostagent::events;
use hostagent_lab::region::{
    place::Service,
    switch::{Change, Path, What},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

const TAKEN_UP: &str = "was interrupted; finishing it";

#[test]
fn killed_at_6_instants_it_restarts_nothing_twice() {
    served("[restart]\nbudget_per_day = 100\ncool_down_s = 0\n", |s| {
        let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
        for round in 0..6 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // From the endpoints' being there to the end of the run it takes about ten seconds.
            let after = Duration::from_millis(seed % 10_000);
            on_the_public_path(s);
            let before = s.registrations();
            s.endpoints_appear();
            let main = "systemctl show --property=MainPID --value hostagent";
            s.host.sh(&format!("sleep {}; kill -KILL $({main})", after.as_secs_f64())).ok();
            s.until_state("settled");
            s.after_looks(1);
            s.is_private();
            s.is_whole();
            let what = format!("round {round}, killed after {after:?}: {}", s.said());
            assert_eq!(s.registrations(), before + 1, "{what}");
            assert!(!s.host.sh("test -e /var/lib/hostagent/intent.json").success(), "{what}");
        }
    });
}

/// The agent is back on the public path, and the service knows nothing of what was.
#[track_caller]
fn on_the_public_path(s: &Scene<'_>) {
    s.host.exec(&["systemctl", "stop", "hostagent"]).ok();
    s.path(&[], Path::Public);
    s.host.sh("rm -rf /var/lib/hostagent/* /run/hostagent/runs /run/hostagent/watch.json").ok();
    let mark = s.host.mark();
    s.host.exec(&["systemctl", "restart", "ecs"]).ok();
    s.host.await_agent(mark);
    s.host.exec(&["systemctl", "start", "hostagent"]).ok();
    s.until_state("observing");
}

#[test]
fn the_power_fails_in_the_middle_of_a_restart() {
    // Held for long enough to be met in the middle.
    served("[restart]\nhold_s = 6\n", |s| {
        // The sandbox has a /proc of its own, where every boot would look the same.
        let boot = "[Service]\nBindReadOnlyPaths=/run/lab-boot-id:/proc/sys/kernel/random/boot_id\n";
        s.host.write("/etc/systemd/system/hostagent.service.d/boot.conf", boot);
        s.host.sh("systemctl daemon-reload && systemctl enable hostagent").ok();
        for (step, left) in [("confirming", 2), ("acting", 1), ("holding", 1)] {
            s.host.exec(&["rm", "-f", "/etc/lab-switches/00.json"]).ok();
            on_the_public_path(s);
            s.endpoints_appear();
            s.until_told(step);
            let (before, taken_up) = (s.registrations(), s.times_said(TAKEN_UP));
            // As the region is after the reboot, too.
            let there = serde_json::to_string(&Change::path(&CONTROL_PLANE, Path::Endpoint)).expect("JSON");
            s.host.write("/etc/lab-switches/00.json", &there);
            s.host.cut_power();
            s.rebooted();
            s.until_state("settled");
            s.is_private();
            s.is_whole();
            // It may have been back already when the power went.
            let most = before + if step == "acting" { 2 } else { 1 };
            assert!(
                (before + 1..=most).contains(&s.registrations()),
                "started by the boot alone ({step}): {}",
                s.said()
            );
            assert!(!s.host.sh("test -e /var/lib/hostagent/intent.json").success(), "{step}: {}", s.said());
            assert_eq!(s.times_said(TAKEN_UP) - taken_up, usize::from(step != "confirming"), "{step}: {}", s.said());
            assert_eq!(s.times_said("is not proved to have moved"), 0, "{step}: {}", s.said());
            s.says(0, &["status"], &["SETTLED", &format!("{left} of 2 restarts left")]);
        }
    });
}

#[test]
fn endpoints_go_away_and_are_replaced_once_all_is_settled() {
    served("[restart]\ncool_down_s = 0\n[network]\nendpoint_cidrs = [\"10.50.200.0/24\"]\n", |s| {
        s.endpoints_appear();
        s.until_moved(1);
        s.until_state("settled");
        s.after_looks(1);
        let (agent, before) = (s.agent(), s.registrations());
        s.path(&[Service::EcsAgent], Path::Public);
        s.until_said("the endpoints went away: ecs-a.eu-west-1.amazonaws.com resolves to the internet");
        assert_eq!(s.records(&events::ENDPOINTS_GONE).len(), 1);
        s.after_looks(2);
        s.says(0, &["status"], &["SETTLED"]);
        s.path(&[Service::EcsAgent], Path::Endpoint);
        s.until_said("all three endpoints are there again");
        // Other addresses, and the connections to the old ones break: the agent dials anew by itself.
        s.path(&CONTROL_PLANE, Path::Elsewhere);
        s.until_said("the endpoint addresses changed, from 10.50.1.10");
        let mark = s.host.mark();
        s.host.hang_up(None);
        s.host.await_agent(mark);
        s.until_state("settled");
        s.after_looks(2);
        assert_eq!((s.agent(), s.registrations(), s.times_said("BROKEN")), (agent.clone(), before, 0), "{}", s.said());
        // The internet again, and this time the agent follows: said, and nothing is touched.
        s.path(&[], Path::Public);
        let mark = s.host.mark();
        s.host.hang_up(None);
        s.host.await_agent(mark);
        s.until_state("observing");
        s.until_said("waiting for endpoints: ecs.eu-west-1.amazonaws.com resolves to the internet");
        s.after_looks(2);
        assert_eq!(s.agent(), agent);
        // A new set of addresses is a new question: answered by one restart.
        s.path(&CONTROL_PLANE, Path::Elsewhere);
        s.until_moved(2);
        s.until_state("settled");
        s.after_looks(2);
        s.is_private();
        s.is_whole();
        assert_eq!(s.registrations(), before + 1, "{}", s.said());
    });
}

#[test]
fn outside_its_window_it_waits_and_says_until_when() {
    served("", |s| {
        let agent = s.agent();
        let window = |days: &str| {
            s.host.configure("50-window", &format!("[watch]\nwindow = [\"{days} UTC\"]\n"));
            s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        };
        let day = s.host.sh("LC_ALL=C date -u -d '2 days' +%a").ok().to_owned();
        let date = s.host.sh("date -u -d '2 days' +%Y-%m-%d").ok().to_owned();
        let opens = format!("{day} 03:00 UTC ({date})");
        window(&format!("{day} 03:00-04:00"));
        s.endpoints_appear();
        s.until_said(&format!("outside the window, until {opens}"));
        s.says(10, &["status"], &["waiting", &date]);
        s.after_looks(3);
        let shown = s.host.exec(&["systemctl", "status", "hostagent"]).stdout;
        assert!(shown.contains(&opens), "{shown}");
        assert_eq!((s.agent(), s.times_said("restarting the agent for")), (agent, 0), "{}", s.said());
        window("Mon-Sun 00:00-24:00");
        s.until_moved(1);
        s.is_private();
    });
}

/// The clock of the service and of its runs alone: the host's is the machine's, and is nobody's to set.
fn clock(s: &Scene<'_>, offset: &str) {
    s.host.sh(&format!("echo '{offset}' >/run/.clock && mv /run/.clock /run/clock")).ok();
}

/// Gives units a clock of their own.
fn own_clock(s: &Scene<'_>, units: &[&str], shows: &str, how: &str) {
    clock(s, shows);
    let library = s.host.sh("ls /usr/lib/*/faketime/libfaketime.so.1").ok().to_owned();
    let drop_in = format!(
        "[Service]\nEnvironment=LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=/run/clock FAKETIME_NO_CACHE=1 {how}\n"
    );
    for unit in units {
        s.host.write(&format!("/etc/systemd/system/{unit}.d/clock.conf"), &drop_in);
    }
    s.host.sh("systemctl daemon-reload && systemctl restart hostagent").ok();
}

#[test]
fn the_clock_jumps_by_an_hour_and_back() {
    served("", |s| {
        let units = ["hostagent.service", "hostagent-restart-.service"];
        own_clock(s, &units, "+0", "FAKETIME_DONT_FAKE_MONOTONIC=1");
        s.until_state("observing");
        let before = s.registrations();
        s.host.configure("50-splay", "[watch]\nsplay_max_s = 3600\n");
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.endpoints_appear();
        // In the middle of counting, and of its splay: neither hurried by hours that did not pass, nor begun anew.
        s.until_state("candidate");
        clock(s, "-3600");
        s.until_said("ready: the agent is restarted after a splay of");
        s.after_looks(1);
        let looked_at = s.status()["looked_at"].as_str().unwrap_or_default().to_owned();
        let now = s.host.sh("date -u +%Y-%m-%dT%H:%M").ok().to_owned();
        assert!(!looked_at.is_empty() && looked_at < now, "the jump is seen: {looked_at} is before {now}");
        clock(s, "+3600");
        s.after_looks(3);
        s.until_state("waiting");
        assert_eq!((s.registrations(), s.times_said("ready: ")), (before, 1), "{}", s.said());
        s.path(&[], Path::Public);
        s.until_said("the endpoints went away");
        s.host.configure("50-splay", "[watch]\nsplay_max_s = 0\n");
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        // In the middle of a run: what it saw is an hour old by the clock, so it touches nothing and tries again.
        s.endpoints_appear();
        s.until_told("confirming");
        clock(s, "+7200");
        s.until_moved(1);
        s.until_state("settled");
        clock(s, "-3600");
        s.after_looks(3);
        clock(s, "+0");
        s.after_looks(2);
        s.until_state("settled");
        s.is_private();
        s.is_whole();
        assert_eq!(s.registrations(), before + 1, "{}", s.said());
    });
}

/// Looks in an hour and in a day that is settled, at the default of six minutes.
const HOUR_OF_LOOKS: usize = 10;
const DAY_OF_LOOKS: usize = 240;

/// For the service time goes ten times as fast: an hour of flapping, then a day of idling, by the looks they take.
#[test]
fn an_hour_of_flapping_moves_nothing_and_a_day_of_idling_grows_nothing() {
    served("", |s| {
        s.until_said("waiting for endpoints");
        // Deadlines pass ten times as fast, too, and over UDP what is not answered in 33 ms of ours is sent once more.
        s.host.configure("50-deadlines", "[network]\ndns_timeout_ms = 30000\nprobe_timeout_ms = 30000\n");
        s.host.write("/etc/resolv.conf", "nameserver 10.50.0.2\noptions use-vc timeout:30\n");
        own_clock(s, &["hostagent.service"], "+0 x10", "");
        let (agent, before, flapping) = (s.agent(), s.registrations(), s.host.mark());
        s.path(&CONTROL_PLANE, Path::Endpoint);
        s.path(&[Service::EcsAgent], Path::Flapping);
        after_many_looks(s, 60);
        assert!(s.times_said("the endpoints went away") >= 1, "it saw them come and go: {}", s.said());
        assert_eq!((s.agent(), s.times_said("restarting the agent")), (agent, 0), "{}", s.said());
        asks_for_three_names_a_look(s, flapping);
        s.path(&[Service::EcsAgent], Path::Endpoint);
        s.until_moved(1);
        s.until_state("settled");
        let idling = s.host.mark();
        after_many_looks(s, HOUR_OF_LOOKS);
        let resident = resident_kib(s);
        after_many_looks(s, DAY_OF_LOOKS - HOUR_OF_LOOKS);
        let grown = resident_kib(s);
        assert!(grown * 10 <= resident * 11, "{resident} KiB after an hour, {grown} KiB after a day");
        assert!(asks_for_three_names_a_look(s, idling) >= DAY_OF_LOOKS - 1);
        s.until_state("settled");
        assert_eq!((s.registrations(), s.host.unit("hostagent.service").restarts), (before + 1, 0), "{}", s.said());
    });
}

/// Memory of the service in RAM.
#[track_caller]
fn resident_kib(s: &Scene<'_>) -> u64 {
    let pid = s.host.unit("hostagent.service").main_pid;
    let line = s.host.exec(&["grep", "VmRSS", &format!("/proc/{pid}/status")]).ok().to_owned();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// As [`Scene::after_looks`], without asking for all that ever happened again and again.
#[track_caller]
fn after_many_looks(s: &Scene<'_>, looks: usize) {
    let deadline = Instant::now() + Duration::from_secs(400);
    let (mut seen, mut count) = (s.host.mark(), 0);
    while count < looks {
        assert!(Instant::now() < deadline, "{count} of {looks} looks: {}", s.said());
        for event in s.host.events(seen, Duration::from_secs(5)) {
            seen = event.seq;
            let a_look = |name: &str, qtype: &str| name.starts_with("ecs-a.") && qtype == "A";
            count += usize::from(matches!(&event.what, What::Dns { name, qtype, .. } if a_look(name, qtype)));
        }
    }
}

/// Asserts that since event number `mark`, with no restart in between, the three names were all that was asked for, A and
/// AAAA, each once a look; how many looks were whole.
#[track_caller]
fn asks_for_three_names_a_look(s: &Scene<'_>, mark: u64) -> usize {
    let mut asked = BTreeMap::<(String, String), usize>::new();
    for event in s.host.events(mark, Duration::ZERO) {
        if let What::Dns { name, qtype, .. } = event.what {
            *asked.entry((name, qtype)).or_default() += 1;
        }
    }
    let labels = ["ecs", "ecs-a", "ecs-t"].map(|label| format!("{label}.eu-west-1.amazonaws.com"));
    let wanted = labels.iter().flat_map(|name| ["A", "AAAA"].map(|qtype| (name.clone(), qtype.to_owned())));
    assert!(asked.keys().eq(wanted.collect::<BTreeSet<_>>().iter()), "{asked:#?}");
    // The first look and the last may be cut by where the counting begins and ends.
    let (fewest, most) = (asked.values().min().copied(), asked.values().max().copied());
    assert!(most <= fewest.map(|fewest| fewest + 2), "{asked:#?}");
    fewest.unwrap_or_default()
}
