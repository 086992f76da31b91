//! Scripts, run with stand-ins for the programs they call: what the packages' do before the last version goes, and what
//! `tests/run` counts.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// The script, what an upgrade calls it with, and what a removal does.
const SCRIPTS: [(&str, &str, &str); 2] =
    [(include_str!("../packaging/deb/prerm"), "upgrade", "remove"), (include_str!("../packaging/rpm/preun"), "1", "0")];
const CONFIGURED: &str = "metrics/own.prom";
const INVENTORY: &str = "var/lib/amazon/ssm/i-1/inventory/custom/hostagent.json";
const USUAL: &str = "var/lib/prometheus/node-exporter/hostagent.prom";
const NOT_OURS: [&str; 4] = [
    "var/lib/prometheus/node-exporter/other.prom",
    "var/lib/amazon/ssm/i-1/inventory/custom/other.json",
    "var/lib/hostagent/history.json",
    "etc/hostagent/config.d/50-mine.toml",
];

fn program(root: &Path, name: &str, body: &str) {
    let path = root.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// Runs a script on a host that is a directory; what of its files is left.
fn left(script: &str, argument: &str, config: &str) -> Vec<&'static str> {
    let host = tempfile::tempdir().expect("a directory");
    let all: Vec<&str> = [CONFIGURED, INVENTORY, USUAL].into_iter().chain(NOT_OURS).collect();
    for file in &all {
        let path = host.path().join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, "words").expect("a file");
    }
    let programs = host.path().join("bin");
    fs::create_dir(&programs).expect("a directory");
    program(&programs, "systemctl", "exit 0");
    program(&programs, "hostagent", config);
    let root = host.path().display().to_string();
    // Nothing of this machine is to be found or removed.
    let script = script.replace(" /var/", &format!(" {root}/var/")).replace(">/var/", &format!(">{root}/var/"));
    let script = script.replace("/run/systemd/system", &format!("{root}/not-booted"));
    assert_eq!(script.matches("/var/").count(), script.matches(&format!("{root}/var/")).count(), "{script}");
    let output = Command::new("sh")
        .args(["-c", &script, "script", argument])
        .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
        .env("OWN", host.path().join(CONFIGURED))
        .output()
        .expect("sh");
    assert!(output.status.success(), "{output:?}");
    all.into_iter().filter(|file| host.path().join(file).exists()).collect()
}

const SHOWS: &str = r#"[ "$*" = "config show" ] && printf '[watch]\nmetrics_file = "%s"  # 50-mine.toml:2\ninventory = "auto"  # default\n' "$OWN""#;

#[test]
fn a_removal_takes_what_was_written_for_others_and_an_upgrade_does_not() {
    for (script, upgrade, remove) in SCRIPTS {
        assert_eq!(left(script, remove, SHOWS), NOT_OURS, "{script}");
        assert_eq!(left(script, upgrade, SHOWS).len(), 3 + NOT_OURS.len(), "{script}");
        // A configuration that cannot be read is no reason to stay installed.
        let kept: Vec<&str> = [CONFIGURED].into_iter().chain(NOT_OURS).collect();
        assert_eq!(left(script, remove, "echo '50-mine.toml:1: no' >&2; exit 78"), kept, "{script}");
    }
}

/// What the scripts ask of systemd after an upgrade, when it says this of the service.
fn asked_after_an_upgrade(script: &str, arguments: &[&str], state: &str) -> String {
    let host = tempfile::tempdir().expect("a directory");
    let (root, programs) = (host.path().display().to_string(), host.path().join("bin"));
    fs::create_dir(&programs).expect("a directory");
    for directory in ["run/systemd/system", "var/lib/hostagent"] {
        fs::create_dir_all(host.path().join(directory)).expect("a directory");
    }
    program(&programs, "journalctl", "exit 0");
    program(&programs, "systemctl", &format!("echo \"$*\" >>{root}/asked\n[ \"$1\" != is-active ] || echo {state}"));
    let mut here = script.to_owned();
    for directory in ["/run/", "/var/", "/etc/", "/usr/sbin/"] {
        here = here.replace(&format!(" {directory}"), &format!(" {root}{directory}"));
        here = here.replace(&format!("={directory}"), &format!("={root}{directory}"));
    }
    let mut run = Command::new("sh");
    run.args(["-c", &here, "script"]).args(arguments).env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
    let output = run.output().expect("sh");
    assert!(output.status.success(), "{output:?}");
    fs::read_to_string(host.path().join("asked")).expect("what was asked")
}

#[test]
fn an_upgrade_starts_anew_what_ran_and_nothing_that_was_stopped() {
    for (script, arguments) in [
        (include_str!("../packaging/deb/postinst"), &["configure", "0.1.0-1"][..]),
        (include_str!("../packaging/rpm/post"), &["2"]),
    ] {
        // "unknown" is systemd 219's word for what is disabled and stopped.
        for (state, wanted) in
            [("active", true), ("activating", true), ("failed", true), ("inactive", false), ("unknown", false)]
        {
            let asked = asked_after_an_upgrade(script, arguments, state);
            assert!(asked.contains("daemon-reload"), "{asked}");
            assert_eq!(asked.contains("--no-block restart hostagent.service"), wanted, "{state}: {asked}");
        }
    }
}

/// What each test program prints, and then what was left out.
const TESTED: &str = "\
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
left out because HOSTAGENT_TESTS=no-host: one
left out because HOSTAGENT_TESTS=no-host: two
left out because there is no package for it: three: packages for aarch64: no rustup
left out because there is no package for it: three: packages for aarch64: no rustup
test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";

#[test]
fn what_is_left_out_is_not_counted_as_passed() {
    let programs = tempfile::tempdir().expect("a directory");
    program(programs.path(), "python3", "exit 0");
    let run = |tested: &str| {
        program(programs.path(), "cargo", &format!("[ \"$1\" != test ] || cat <<'END'\n{tested}\nEND"));
        let mut run = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run"));
        run.arg("--no-host").env("PATH", format!("{}:/usr/bin:/bin", programs.path().display()));
        let output = run.output().expect("bash");
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        said.strip_prefix(&format!("{tested}\n")).expect("first what cargo said").to_owned()
    };
    let counted = "2 host tests left out, as asked\n\
                   1 test left out: three: packages for aarch64: no rustup\n\
                   14 passed, 0 failed\n";
    assert_eq!(run(TESTED), counted);
    assert_eq!(run("test result: ok. 5 passed; 0 failed"), "5 passed, 0 failed\n");
}
