//! Real hosts under the lab's cloud: documents run in them as the SSM agent runs them.

use crate::scene::{CONTROL_PLANE, scene};
use hostagent::events;
use hostagent_lab::{
    cloud::{Cloud, CloudOptions, Event, Online},
    host::{
        Container, Host, HostOptions, IMPATIENT, on_hosts,
        packages::{Format, NEXT_VERSION, VERSION},
    },
    region::switch::{Change, Path},
};
use serde_json::{Value, json};
use std::{
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Simulated seconds a second: the runbook's waits pass faster, and a host still has time to answer.
const SPEED: f64 = 5.0;
/// Real time within which a document has ended on a host.
const PATIENCE: Duration = Duration::from_secs(300);
const ROLLOUT: [&str; 9] = ["rollout", "--cluster", "prod", "--every", "1s", "--pause", "1s", "--wait", "1s"];

fn id(number: usize) -> String {
    format!("i-0f00dfacade00000{number}")
}

fn host(number: usize) -> HostOptions {
    HostOptions { instance_id: id(number), ..HostOptions::default() }
}

/// The cloud, and the program of whoever moves the fleet.
struct Operator {
    cloud: Cloud,
}

impl Operator {
    /// With the cluster `prod` and the documents installed.
    fn new(speed: f64) -> Self {
        let python = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python")).output().expect("tests/python");
        let python = String::from_utf8(python.stdout).expect("a path").lines().last().expect("a path").into();
        let options = CloudOptions { speed, python: Some(python), ..CloudOptions::default() };
        let operator = Self { cloud: Cloud::start(options).expect("a cloud") };
        operator.cloud.cluster("prod");
        operator.says(0, &["install"], &["4 of 4 documents"]);
        operator
    }

    /// Makes the host one of the cluster, with all endpoints there and its agent still public.
    fn attach(&self, host: &Host, zone: &str) {
        host.configure("20-impatient", IMPATIENT);
        host.set(&Change::path(&CONTROL_PLANE, Path::Endpoint));
        self.cloud.attach(host, zone, "prod").expect("the host is attached");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostagent"));
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(self.cloud.environment());
        command.arg("fleet").args(arguments).stdin(Stdio::null());
        command
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hostagent")
    }

    /// Asserts the exit code and every word of the answer.
    #[track_caller]
    fn says(&self, code: i32, arguments: &[&str], words: &[&str]) {
        answered(&self.command(arguments).output().expect("hostagent"), code, words);
    }

    /// What `fleet check` tells of each host, by instance ID.
    #[track_caller]
    fn stands(&self, code: i32) -> impl Fn(usize) -> Value {
        let output = self.command(&["check", "--cluster", "prod", "--format", "json"]).output().expect("hostagent");
        answered(&output, code, &[]);
        let page: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        move |number| {
            let hosts = page["hosts"].as_array().expect("hosts");
            hosts.iter().find(|host| host["instance"] == id(number)).expect("the host").clone()
        }
    }

    fn call(&self, action: &str, input: &Value) -> Value {
        self.cloud.shared().call("ssm", action, input).unwrap_or_else(|error| panic!("{action}: {error:?}"))
    }

    /// The same, until what was just written can be read: reads are eventually consistent, and a document that refuses
    /// at once has ended before.
    fn settled(&self, action: &str, input: &Value) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.cloud.shared().call("ssm", action, input) {
                Err(error) if error.kind == "InvocationDoesNotExist" && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                answer => return answer.unwrap_or_else(|error| panic!("{action}: {error:?}")),
            }
        }
    }

    /// Runs HostAgent-Install on a host that is not to move by itself; exit code, standard output, standard error.
    fn install(&self, number: usize, url: &str, sha256: &str) -> (i64, String, String) {
        let sent = self.call(
            "SendCommand",
            &json!({
                "DocumentName": "HostAgent-Install",
                "InstanceIds": [id(number)],
                "Parameters": { "PackageUrl": [url], "PackageSha256": [sha256], "OnReady": ["report"] },
            }),
        );
        let sent = sent["Command"]["CommandId"].as_str().expect("an ID").to_owned();
        let ended = |event: &Event| matches!(event, Event::Ended { command, .. } if *command == sent);
        self.cloud.wait_for(PATIENCE, ended).expect("the document ends");
        let answer = self.settled("GetCommandInvocation", &json!({ "CommandId": sent, "InstanceId": id(number) }));
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        let code = answer["ResponseCode"].as_i64().expect("a code");
        (code, text("StandardOutputContent"), text("StandardErrorContent"))
    }
}

#[track_caller]
fn answered(output: &Output, code: i32, words: &[&str]) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

fn registrations(host: &Host) -> u32 {
    host.state().instances.iter().map(|instance| instance.registrations).sum()
}

/// Three hosts, each with its own region, under one cloud: the runbook moves them one at a time, and their own checks
/// and websockets prove it.
#[test]
fn a_rollout_moves_three_real_hosts_one_outage_at_a_time() {
    on_hosts((1..=3).map(host).collect(), |hosts| {
        let fleet = Operator::new(SPEED);
        let workloads: Vec<Vec<Container>> = hosts.iter().map(Host::workloads).collect();
        for (host, zone) in hosts.iter().zip(["eu-west-1a", "eu-west-1a", "eu-west-1b"]) {
            fleet.attach(host, zone);
        }
        fleet.says(10, &["check", "--cluster", "prod"], &["3 public"]);
        fleet.says(0, &ROLLOUT, &["MOVED: cluster prod: 3 moved"]);
        fleet.says(0, &["check", "--cluster", "prod"], &["3 settled"]);
        for (host, before) in hosts.iter().zip(&workloads) {
            assert_eq!(registrations(host), 2, "restarted once");
            assert_eq!(&host.workloads(), before, "a workload was touched");
        }
        one_at_a_time(&fleet.cloud);
    });
}

/// By the cloud's own log.
fn one_at_a_time(cloud: &Cloud) {
    let mut away = 0;
    for event in cloud.log() {
        match event {
            Event::Delivered { document, .. } if document == "HostAgent-Restart" => {
                away += 1;
                assert_eq!(away, 1, "two restarts at once");
            }
            Event::Ended { document, .. } if document == "HostAgent-Restart" => away -= 1,
            _ => {}
        }
    }
}

/// Stands before the program on a host, and does with its output what `then` says.
fn in_front(host: &Host, then: &str) {
    let script = format!("#!/bin/sh\nout=$(/usr/bin/hostagent \"$@\")\ncode=$?\n{then}\nexit $code\n");
    host.write("/usr/local/bin/hostagent", &script);
    host.exec(&["chmod", "755", "/usr/local/bin/hostagent"]).ok();
}

/// One host without hostagent, one with an older version, and one whose output is longer than SSM shows.
#[test]
fn a_mixed_fleet_is_told_apart_moved_and_brought_up_to_date() {
    on_hosts((1..=3).map(host).collect(), |hosts| {
        let fleet = Operator::new(SPEED);
        hosts.iter().for_each(|host| fleet.attach(host, "eu-west-1a"));
        let bare = &hosts[0];
        bare.exec(&["rm", "/usr/bin/hostagent"]).ok();
        in_front(&hosts[1], r#"printf '%s\n' "$out" | sed 's/"hostagent":"[^"]*"/"hostagent":"0.0.9"/'"#);
        in_front(&hosts[2], r#"printf '%s\n' "$out"; printf '%30000s\n' x; printf '%30000s\n' x >&2"#);

        let words = ["2 public, 1 not installed", "run the document HostAgent-Install", "0.0.9"];
        fleet.says(10, &["check", "--cluster", "prod"], &words);
        let stands = fleet.stands(10);
        assert_eq!(stands(1)["standing"], "not_installed", "{}", stands(1));
        assert_eq!((&stands(2)["standing"], &stands(2)["hostagent_version"]), (&"restart".into(), &"0.0.9".into()));
        // What matters stands first, and is whole where the rest was cut.
        let listed = fleet.call("ListCommandInvocations", &json!({ "InstanceId": id(3), "Details": true }));
        let listed = listed["CommandInvocations"][0]["CommandPlugins"][0]["Output"].as_str().unwrap_or_default();
        assert!(listed.contains("---Output truncated---") && listed.contains("---Error truncated---"), "{listed}");
        assert_eq!((&stands(3)["standing"], &stands(3)["hostagent_version"]), (&"restart".into(), &VERSION.into()));

        fleet.says(10, &ROLLOUT, &["2 moved, 1 without hostagent", &id(1)]);
        assert_eq!([0, 1, 2].map(|host| registrations(&hosts[host])), [1, 2, 2]);
        installs_and_upgrades(&fleet, bare);
        fleet.says(0, &ROLLOUT, &["1 moved, 2 settled before"]);
        assert_eq!([0, 1, 2].map(|host| registrations(&hosts[host])), [2, 2, 2]);
        fleet.says(0, &["check", "--cluster", "prod"], &["3 settled"]);
    });
}

/// The life of the package on the first host.
#[track_caller]
fn installs_and_upgrades(fleet: &Operator, host: &Host) {
    let (url, sha256) = host.publish(Format::Deb, VERSION);
    let gone = || host.sh("command -v hostagent || dpkg-query --show hostagent || ls /var/lib/hostagent").code != 0;
    let line = |said: &str| said.lines().next().unwrap_or_default().to_owned();

    let (code, out, err) = fleet.install(1, &url, &"0".repeat(64));
    let wanted = format!(
        "the package has the SHA-256 {sha256}, not {}: find out which is right; nothing was changed",
        "0".repeat(64)
    );
    assert!(code == 1 && line(&out).starts_with("NOT INSTALLED: ") && out.contains(&wanted), "{out}{err}");
    assert!(gone(), "installed nevertheless");
    let (code, out, err) = fleet.install(1, &url.replace("hostagent", "no-such"), &sha256);
    assert!(code == 1 && out.contains("cannot be downloaded") && err.contains("403"), "{out}{err}");
    assert!(gone(), "installed nevertheless");

    host.configure("50-mine", "[watch]\nsplay_max_s = 77\n");
    let (code, out, err) = fleet.install(1, &url, &sha256);
    assert_eq!((code, line(&out)), (0, format!("INSTALLED: hostagent {VERSION}")), "{err}");
    assert_eq!(host.unit("hostagent.service").active, "active");
    // It is the rollout that is to move this host.
    let shown = host.hostagent(&["config", "show"]);
    assert!(shown.ok().contains("90-on-ready.toml"), "{shown:?}");
    assert_eq!(host.hostagent(&["check"]).code, 10);
    let began = host.unit("hostagent.service").main_pid;
    let (code, out, err) = fleet.install(1, &url, &sha256.to_uppercase());
    assert_eq!((code, line(&out)), (0, format!("ALREADY INSTALLED: hostagent {VERSION}")), "{err}");
    assert_eq!(host.unit("hostagent.service").main_pid, began, "the service was touched");

    let (url, sha256) = host.publish(Format::Deb, NEXT_VERSION);
    let (code, out, err) = fleet.install(1, &url, &sha256);
    assert!(code == 0 && line(&out).ends_with(&format!("; it was package {VERSION}-1")), "{out}{err}");
    let query = ["dpkg-query", "--show", "--showformat=${Version}", "hostagent"];
    assert_eq!(host.exec(&query).ok(), format!("{NEXT_VERSION}-1"));
    let unit = host.unit("hostagent.service");
    assert!(unit.active == "active" && unit.main_pid != began, "the new version serves: {unit:?}");
    let shown = host.hostagent(&["config", "show"]);
    assert!(shown.ok().contains("50-mine.toml") && shown.stdout.contains("77"), "{shown:?}");
}

/// Run Command is cut off in the middle; the restart is not, and what is asked later tells how it ended.
#[test]
fn a_restart_goes_on_when_the_ssm_agent_dies() {
    scene(HostOptions { instance_id: id(1), hostagent: "[restart]\nhold_s = 5\n".into(), ..host(1) }, |s| {
        let fleet = Operator::new(4.0 * SPEED);
        fleet.attach(s.host, "eu-west-1a");
        let laptop = fleet.spawn(&ROLLOUT);
        s.until_told("acting");
        // First lost, so that its end is not taken for an answer.
        fleet.cloud.change(&id(1), |host| host.online = Online::ConnectionLost);
        for killed in ["hostagent-lab ssm-agent", "hostagent --format ssm restart"] {
            let pids = s.host.pids(killed);
            assert!(!pids.is_empty(), "{killed} runs");
            assert!(pids.into_iter().all(|pid| s.host.kill("KILL", pid)), "{killed} is killed");
        }
        let verified = |host: &Host| {
            let found = format!("journalctl --quiet MESSAGE_ID={}", events::RESTART_VERIFIED.id);
            (!host.sh(&found).stdout.is_empty()).then_some(())
        };
        s.host.until("the restart is proved", verified);
        s.is_private();
        s.is_whole();

        // Nobody could tell the rollout.
        let output = laptop.wait_with_output().expect("hostagent");
        answered(&output, 13, &["HALTED", &id(1), "could not be verified"]);
        fleet.says(1, &["check", "--cluster", "prod"], &["1 no answer", "SSM could not reach it"]);
        fleet.cloud.change(&id(1), |host| host.online = Online::Yes);
        fleet.says(0, &["check", "--cluster", "prod"], &["SETTLED: 1 hosts of cluster prod: 1 settled"]);
        fleet.says(12, &ROLLOUT, &["nothing was started", &id(1)]);
        fleet.says(0, &["resume", "--cluster", "prod"], &["may move again"]);
        fleet.says(0, &ROLLOUT, &["SETTLED: cluster prod: 1 settled before"]);
        assert_eq!(s.registrations(), 2, "restarted once");
    });
}
