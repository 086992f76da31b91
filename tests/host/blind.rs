//! A fact that is missing is named, and is never permission.

use crate::scene::scene;
use hostagent_lab::{
    host::HostOptions,
    region::switch::{Change, ImdsMode},
};

#[test]
fn a_metadata_service_that_is_down_malformed_or_hangs() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        for mode in [ImdsMode::Down, ImdsMode::Malformed, ImdsMode::Hang] {
            s.host.set(&Change { imds: Some(mode), ..Change::default() });
            s.holds_still(1, &["169.254.169.254"]);
        }
        s.host.set(&Change { imds: Some(ImdsMode::Up), ..Change::default() });
        s.expect(10, &["check"]);
    });
}

#[test]
fn a_silent_introspection_server() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        s.host.sh("iptables -I INPUT -i lo -p tcp --dport 51678 -j DROP").ok();
        s.holds_still(1, &["51678"]);
    });
}

#[test]
fn an_engine_that_is_down_or_a_bus_that_is_gone() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        let before = s.agent();
        // Stopped in its tracks: its socket is there and nobody answers.
        let engine = s.host.pids("^/usr/sbin/dockerd");
        assert_eq!(engine.len(), 1, "{engine:?}");
        s.host.kill("STOP", engine[0]);
        s.says(1, &["restart"], &["docker.sock"]);
        s.host.kill("CONT", engine[0]);
        s.host.sh("mv /run/dbus/system_bus_socket /run/dbus/away").ok();
        s.says(1, &["restart"], &["systemd over the system bus", "D-Bus"]);
        s.host.sh("mv /run/dbus/away /run/dbus/system_bus_socket").ok();
        assert_eq!(s.agent(), before);
        s.expect(10, &["check"]);
    });
}

#[test]
fn an_ordinary_user_is_told_what_could_not_be_seen() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        let output = s.host.exec_with(&["--user", "65534:65534"], &["hostagent", "check"], None);
        assert_eq!(output.code, 1, "{}\n{}", output.stdout, output.stderr);
        assert!(output.stdout.contains("permission denied") && output.stdout.contains("root"), "{}", output.stdout);
    });
}

#[test]
fn files_of_ours_that_are_damaged_are_named_and_stop_everything() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        for (file, words) in [
            ("/var/lib/hostagent/history.json", "move it away to start afresh"),
            ("/var/lib/hostagent/intent.json", "interrupted restart"),
        ] {
            s.host.write(file, "{");
            let before = s.agent();
            s.says(1, &["restart"], &[file, words]);
            assert_eq!(s.agent(), before);
            s.host.exec(&["rm", file]).ok();
        }
        s.expect(10, &["check"]);
    });
}

#[test]
fn bad_configuration_is_named_with_file_and_line() {
    scene(HostOptions::default(), |s| {
        s.host.configure("30-bad", "[network]\nendpoint_cidr = [\"10.0.0.0/8\"]\n");
        let output = s.host.hostagent(&["check"]);
        assert_eq!(output.code, 1);
        for word in ["30-bad.toml", "2", "endpoint_cidrs"] {
            assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
        }
    });
}
