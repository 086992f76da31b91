//! The service's unit: what it may do is little, and enough.

use crate::{
    scene::{Scene, scene},
    served::served,
};
use hostagent::events;
use hostagent_lab::host::HostOptions;
use serde_json::Value;

/// As on distributions whose cloud-final.service ends after multi-user.target: the cycle an `After=` could make.
const CLOUD_FINAL: &str = "[Unit]\nAfter=multi-user.target\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Install]\nWantedBy=cloud-init.target\n";
const CLOUD_INIT: &str = "[Unit]\nAfter=multi-user.target\n[Install]\nWantedBy=multi-user.target\n";

/// The package, with its service stopped: what is run here is run in its place.
fn install(s: &Scene<'_>) {
    s.host.install_service();
    s.host.exec(&["systemctl", "stop", "hostagent"]).ok();
}

/// Runs a command of hostagent under every property of the unit, in place of the service, and gives what it printed.
#[track_caller]
fn inside(s: &Scene<'_>, arguments: &str) -> String {
    let instead = format!(
        "[Service]\nType=oneshot\nExecStart=\nExecStart=/usr/bin/hostagent {arguments}\nRestart=no\nWatchdogSec=0\n\
         TimeoutStartSec=60\nSuccessExitStatus=10\nStandardOutput=truncate:/run/answer\n"
    );
    s.host.write("/run/systemd/system/hostagent.service.d/instead.conf", &instead);
    s.host.sh("systemctl daemon-reload && systemctl start hostagent").ok();
    s.host.sh("cat /run/answer").ok().to_owned()
}

/// The paths of all facts that could not be had.
fn unknown(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "unknown" {
                    found.push(format!("{path}: {value}"));
                }
                unknown(value, &format!("{path}.{key}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| unknown(item, path, found)),
        _ => {}
    }
}

#[test]
fn the_unit_is_sound_hardened_and_in_nobodys_way() {
    scene(HostOptions { await_agent: false, ..HostOptions::default() }, |s| {
        install(s);
        let verify = s.host.sh("systemd-analyze verify --man=no hostagent.service hostagent-nat.socket");
        assert_eq!((verify.code, verify.stdout.trim(), verify.stderr.trim()), (0, "", ""));
        let security = s.host.sh("systemd-analyze security --threshold=20 hostagent.service");
        assert_eq!(security.code, 0, "exposed by more than 2.0:\n{}", security.stdout);

        s.host.write("/etc/systemd/system/cloud-final.service", CLOUD_FINAL);
        s.host.write("/etc/systemd/system/cloud-init.target", CLOUD_INIT);
        s.host.write("/etc/systemd/system-preset/99-none.preset", "disable *\n");
        s.host.sh("systemctl daemon-reload; systemctl enable cloud-final.service cloud-init.target").ok();
        // Enabled by the package; and so it would be on an image that applies presets.
        s.host.sh("systemctl is-enabled hostagent && systemctl disable hostagent").ok();
        s.host.sh("systemctl preset hostagent && systemctl is-enabled hostagent").ok();
        s.host.sh("systemctl daemon-reload").ok();
        let boot = s.host.sh("systemctl show --property=Wants,After multi-user.target").ok().to_owned();
        let (wants, after) = boot.split_once("After=").map_or(("", ""), |(w, a)| (w, a));
        let (wants, after) = if after.contains("Wants=") { (after, wants) } else { (wants, after) };
        assert!(wants.contains("hostagent.service"), "boot starts it: {boot}");
        assert!(after.contains("ecs.service") && !after.contains("hostagent.service"), "and does not wait: {boot}");
        // ecs.service, which is after cloud-final.service alone, is caught in the cycle: such a boot is what this is.
        // Which unit of a cycle is named first is chance, so all of them are read.
        let verify =
            "systemd-analyze verify --man=no multi-user.target 2>&1 | grep -E 'ordering cycle|Found dependency'";
        let cycle = s.host.sh(verify).stdout;
        assert!(cycle.contains("ecs.service") && !cycle.contains("hostagent"), "{cycle}");
    });
}

#[test]
fn everything_is_seen_and_done_from_inside_the_sandbox() {
    scene(HostOptions::default(), |s| {
        install(s);
        s.endpoints_appear();
        let outside = s.expect(10, &["check", "--require", "all", "--format", "json"]);
        let within = inside(s, "check --require all --format json");
        let [outside, within]: [Value; 2] = [outside, within].map(|text| serde_json::from_str(&text).expect(&text));
        let mut missing = Vec::new();
        unknown(&within["observation"], "observation", &mut missing);
        assert!(within["observation"]["credentials"]["known"]["rules"]["known"].is_object(), "{within}");
        assert!(within["observation"]["sockets"]["known"].as_array().is_some_and(|s| !s.is_empty()), "{within}");
        assert_eq!(missing, Vec::<String>::new(), "not seen from inside");
        for part in ["verdict", "exit_code", "headline", "reasons", "services", "findings", "connections"] {
            let of = |answer: &Value| {
                let mut part = answer[part].clone();
                without_ttls(&mut part);
                part
            };
            assert_eq!(of(&within), of(&outside), "{part}");
        }
        // The control: without the capability the sockets of the agent cannot be seen, so the test can tell.
        s.host.write(
            "/run/systemd/system/hostagent.service.d/less.conf",
            "[Service]\nCapabilityBoundingSet=~CAP_SYS_PTRACE\nSuccessExitStatus=1\n",
        );
        let blind: Value = serde_json::from_str(&inside(s, "check --format json")).expect("JSON");
        assert!(blind["observation"]["sockets"]["unknown"].is_object(), "{}", blind["observation"]["sockets"]);
        s.host.sh("rm /run/systemd/system/hostagent.service.d/less.conf").ok();

        // The hand-off to a unit of its own, outside the sandbox.
        let told = inside(s, "restart");
        assert!(told.contains("MOVED"), "{told}");
        s.is_private();
        s.is_whole();
        the_journal_knows(s);
    });
}

/// Says of each thing that the configuration's text about hooks mentions whether it can be done, and vetoes.
const PROBE: &str = "\
#!/bin/sh
try() { what=$1; shift; if \"$@\" >/dev/null 2>&1; then echo \"can $what\"; else echo \"cannot $what\"; fi; }
try 'write to /run' touch /run/probe
try 'write to its own directory' touch /var/lib/hostagent/probe
try 'write to /tmp' touch /tmp/probe
try 'ask systemd' systemctl is-active ecs.service
try 'start a unit' systemctl start probe.service
try 'ask Docker' curl --fail --silent --unix-socket /var/run/docker.sock http://docker/_ping
try 'write to /run/systemd' touch /run/systemd/probe
try 'write to /etc' touch /etc/probe
try 'write to /usr' touch /usr/probe
try 'see /root' ls /root
try 'mount' mount -t tmpfs probe /run
try 'change owners' chown 1 /run/probe
exit 1
";

/// What packaging/config says of hooks, tried by one.
#[test]
fn a_hook_can_do_what_the_configuration_says_and_no_more() {
    served("", |s| {
        s.host
            .write("/etc/systemd/system/probe.service", "[Service]\nType=oneshot\nExecStart=/bin/touch /etc/by-unit\n");
        s.host.exec(&["systemctl", "daemon-reload"]).ok();
        s.host.write("/etc/hostagent/hooks.d/10-probe", PROBE);
        s.host.exec(&["chmod", "+x", "/etc/hostagent/hooks.d/10-probe"]).ok();
        s.endpoints_appear();
        s.until_said("vetoed by 10-probe: cannot change owners");
        let said = s.said();
        let words = |can: &str| -> Vec<&str> {
            let marked = said.lines().filter_map(|line| line.split_once("hook 10-probe: ").map(|(_, words)| words));
            marked.filter_map(|words| words.strip_prefix(can)).collect()
        };
        let can = [
            "write to /run",
            "write to its own directory",
            "write to /tmp",
            "ask systemd",
            "start a unit",
            "ask Docker",
        ];
        let cannot = ["write to /run/systemd", "write to /etc", "write to /usr", "see /root", "mount", "change owners"];
        assert_eq!((words("can "), words("cannot ")), (can.to_vec(), cannot.to_vec()), "{said}");
        s.host.exec(&["test", "-e", "/etc/by-unit"]).ok();
        assert!(!s.host.exec(&["test", "-e", "/tmp/probe"]).success(), "a /tmp of its own");
    });
}

/// TTLs run down between two looks.
fn without_ttls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("ttl_s");
            fields.values_mut().for_each(without_ttls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_ttls),
        _ => {}
    }
}

/// The restart is found by its IDs, with fields, and with the catalog's words.
#[track_caller]
fn the_journal_knows(s: &Scene<'_>) {
    for known in [events::RESTART_BEGUN, events::RESTART_VERIFIED] {
        let [record] = &s.records(&known)[..] else { panic!("not one record of {}", known.name) };
        assert_eq!(record["HOSTAGENT_EVENT"], known.name);
        assert_eq!(record["SYSLOG_IDENTIFIER"], "hostagent");
        let run = record["HOSTAGENT_RUN"].as_str().unwrap_or_default();
        assert_eq!(run.len(), 36, "{record}");
        assert!(record["HOSTAGENT_ENDPOINTS"].as_str().is_some_and(|e| e.contains("ecs-agent 10.50.1.11")), "{record}");
        let explained = s.host.sh(&format!("journalctl --no-pager -x MESSAGE_ID={}", known.id)).ok().to_owned();
        assert!(explained.contains(&format!("Subject: {}", known.subject)), "{explained}");
        assert!(explained.matches(run).count() == 1 && !explained.contains('@'), "its field is filled in: {explained}");
    }
    let verified = &s.records(&events::RESTART_VERIFIED)[0];
    let outage: Option<f64> = verified["HOSTAGENT_AGENT_OUTAGE_S"].as_str().and_then(|s| s.parse().ok());
    assert!(outage.is_some_and(|s| s > 0.0), "{verified}");
    for other in events::TABLE.iter().filter(|k| ![events::RESTART_BEGUN, events::RESTART_VERIFIED].contains(k)) {
        assert!(s.records(other).is_empty(), "{}", other.name);
    }
}
