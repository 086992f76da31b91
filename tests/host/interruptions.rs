//! Killed at any instant, the agent is up in the end, and was restarted once at most.

use crate::scene::{Scene, answered, scene};
use hostagent_lab::{
    host::{HostOptions, Output},
    region::switch::Path,
};
use serde_json::Value;
use std::{process::Child, sync::mpsc, thread, time::Duration};

#[test]
fn a_second_restart_meanwhile_is_turned_away() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        s.host.write("/var/lib/ecs/data/tasks.json", r#"{"Tasks":[{"Arn":"arn:aws:ecs:eu-west-1:111122223333:task/prod/1","DesiredStatus":"RUNNING","KnownStatus":"PENDING","Containers":[]}]}"#);
        // The first waits for the task, holding the lock, until the task is settled.
        let first = s.host.spawn(&["hostagent", "restart", "--wait", "60s"]);
        s.until_told("waiting_for_tasks");
        s.says(75, &["restart"], &["under way"]);
        // Nothing has been touched yet, so there is no intent to tell of.
        assert!(!s.expect(10, &["check"]).contains("has not ended"));
        s.host.write("/var/lib/ecs/data/tasks.json", r#"{"Tasks":[]}"#);
        answered(&finished(first), 0, &["restart"]);
        s.is_private();
    });
}

/// The worker is a unit of its own: killing the caller, or its whole process group, does not stop it.
#[test]
fn the_caller_may_be_killed() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        let before = s.registrations();
        let child = s.host.spawn(&["setsid", "-w", "hostagent", "restart"]);
        s.until_told("started");
        s.host.sh("kill -KILL -- -$(pgrep -o -x hostagent -f 'hostagent restart')");
        let _ = finished(child);
        s.host.until("the run has its result", |host| {
            host.sh("ls /run/hostagent/runs/*/result.json").success().then_some(())
        });
        s.is_private();
        s.is_whole();
        assert_eq!(s.registrations(), before + 1);
        s.says(0, &["restart"], &["SETTLED"]);
    });
}

#[test]
fn the_caller_killed_at_25_instants() {
    killed_at_25_instants("hostagent restart", 0x2545_f491_4f6c_dd1d);
}

#[test]
fn the_worker_killed_at_25_instants() {
    killed_at_25_instants("hostagent worker", 0x9e37_79b9_7f4a_7c15);
}

/// So many of the 25 have to hit. A kill that comes before the process or after its end proves nothing; on a machine on
/// which most do, the instants are the wrong ones.
const HITS: usize = 13;

/// Instants over the whole run, from a fixed seed so that a failure can be had again.
fn killed_at_25_instants(victim: &str, mut seed: u64) {
    let generous = "[restart]\nbudget_per_day = 100\ncool_down_s = 0\n";
    scene(HostOptions { hostagent: generous.into(), ..HostOptions::default() }, |s| {
        let mut hits: Vec<String> = Vec::new();
        for round in 0..25 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // A run takes about seven seconds: three look-ups, a TTL of two seconds and one more apart, the restart, the
            // hold. Half of the instants are in its second half, where something is under way.
            let waiting = Duration::from_millis(6_000 * u64::from(round % 2));
            hits.extend(killed(s, round, victim, waiting + Duration::from_millis(seed % 3_000)));
        }
        let touched =
            |step: &String| matches!(step.as_str(), "intent_written" | "acting" | "back" | "holding" | "verified");
        assert!(hits.len() >= HITS, "{} of 25 kills hit a running {victim}: {hits:?}", hits.len());
        let after = hits.iter().filter(|step| touched(step)).count();
        assert!(
            after > 0 && after < hits.len(),
            "killed before the agent was about to be touched, and after: {hits:?}"
        );
    });
}

/// The step that the run had told last when its process was killed; `None` when there was none to kill.
fn killed(s: &Scene<'_>, round: u32, victim: &str, after: Duration) -> Option<String> {
    // Back on the public path, with nothing remembered of the set.
    s.path(&[], Path::Public);
    s.host.sh("rm -f /var/lib/hostagent/history.json; rm -rf /run/hostagent/runs").ok();
    let mark = s.host.mark();
    s.host.exec(&["systemctl", "restart", "ecs"]).ok();
    s.host.await_agent(mark);
    s.endpoints_appear();
    let before = s.registrations();
    let child = s.host.spawn(&["hostagent", "restart"]);
    // pkill succeeds when there was a process that it could send the signal to.
    let kill = format!(
        "sleep {}; pkill -KILL -o -f '^[^ ]*{victim}' || exit 3; tail -qn 1 /run/hostagent/runs/*/progress.jsonl; exit 0",
        after.as_secs_f64()
    );
    let kill = s.host.sh(&kill);
    assert!(matches!(kill.code, 0 | 3), "round {round}: {kill:?}");
    let _ = finished(child);
    // Whatever was killed: the next run finishes what was begun, or finds it done.
    let done = s.host.hostagent(&["restart"]);
    let what = format!("round {round}: {victim} killed after {after:?}\n{}\n{}", done.stdout, done.stderr);
    if done.code == 75 {
        s.host.until("the worker has ended", |host| host.pids("hostagent worker").is_empty().then_some(()));
    } else {
        assert_eq!(done.code, 0, "{what}");
    }
    s.is_whole();
    s.is_private();
    assert_eq!(s.registrations(), before + 1, "restarted once: {what}");
    assert!(!s.host.sh("test -e /var/lib/hostagent/intent.json").success(), "no intent is left: {what}");
    (kill.code == 0).then(|| step(&kill.stdout))
}

/// The step of the last line of a `progress.jsonl`; empty before the first.
fn step(lines: &str) -> String {
    let told: Option<Value> = lines.lines().last().and_then(|line| serde_json::from_str(line).ok());
    told.and_then(|told| Some(told["event"].as_str()?.to_owned())).unwrap_or_default()
}

/// What a program that was started on the host left behind; it has two minutes to end.
#[track_caller]
fn finished(child: Child) -> Output {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait_with_output()));
    let ended = told.recv_timeout(Duration::from_secs(120)).expect("docker exec ends within two minutes");
    let output = ended.expect("docker exec ends");
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
