//! A life with the packages: installed, upgraded, removed, installed again, purged; in an image and from user data.

use crate::{
    scene::{Scene, scene},
    served::served,
};
use hostagent::events;
use hostagent_lab::host::{
    Host, HostOptions,
    packages::{Build, Format, NEXT_VERSION, VERSION},
};

const PROMPT: &str =
    "[watch]\nsplay_max_s = 0\nsettled_interval_s = 5\nmetrics_file = \"/var/lib/prometheus/node-exporter/own.prom\"\n";
/// What the service writes for node_exporter, where [`PROMPT`] has it, and for the SSM agent.
const FOR_OTHERS: [&str; 2] = [
    "/var/lib/prometheus/node-exporter/own.prom",
    "/var/lib/amazon/ssm/i-0f00dfacade00001/inventory/custom/hostagent.json",
];
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/hostagent.service";

#[test]
fn the_deb_comes_changes_goes_and_comes_back() {
    life(Format::Deb);
}

#[test]
fn the_rpm_comes_changes_goes_and_comes_back() {
    life(Format::Rpm);
}

fn life(format: Format) {
    let others =
        FOR_OTHERS.iter().filter_map(|file| Some((format!("{}/other", file.rsplit_once('/')?.0), String::new())));
    let files = others.collect();
    scene(HostOptions { hostagent: PROMPT.into(), files, ..HostOptions::default() }, |s| {
        let install = |version| s.host.install(Build::Quick, format, version).ok().to_owned();
        install(VERSION);
        runs(s);
        let known = events::ENDPOINTS_READY;
        let explained = s.host.exec(&["journalctl", "--list-catalog", known.id]);
        assert!(explained.ok().contains(known.subject), "{explained:?}");
        s.endpoints_appear();
        s.until_said("the agent was moved, and that is proved");
        s.until_state("settled");
        let moved = s.agent();

        // What is the administrator's stays over an upgrade, and so does what was done and what was written for others.
        for file in FOR_OTHERS {
            s.host.until(file, |host| host.exec(&["test", "-s", file]).success().then_some(()));
        }
        s.host.configure("50-local", "[watch]\nsplay_max_s = 77\n");
        let own = "/etc/systemd/system/hostagent.service.d/50-own.conf";
        s.host.write(own, "[Service]\nEnvironment=OWN=yes\n");
        let old = s.host.unit("hostagent.service").main_pid;
        install(NEXT_VERSION);
        assert_eq!(installed_version(s, format), format!("{NEXT_VERSION}-1"));
        s.host.until("the new version runs", |host| {
            let unit = host.unit("hostagent.service");
            (unit.active == "active" && unit.main_pid != old).then_some(())
        });
        let pid = s.host.unit("hostagent.service").main_pid;
        let running = s.host.exec(&["readlink", &format!("/proc/{pid}/exe")]).ok().to_owned();
        assert_eq!(running, "/usr/bin/hostagent-watch", "not a file that is gone");
        let environment = s.host.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ")).ok().to_owned();
        assert!(environment.contains("OWN=yes"), "{environment}");
        runs(s);
        s.says(0, &["config", "show"], &["77", "50-local.toml"]);
        s.until_state("settled");
        s.says(0, &["status"], &["1 of 2 restarts left", "moved"]);

        for file in FOR_OTHERS {
            s.host.exec(&["test", "-s", file]).ok();
        }

        remove(s, format);
        gone(s.host, &FOR_OTHERS);
        assert_eq!(s.host.unit("hostagent.service").active, "inactive");
        assert_eq!(s.host.unit("hostagent-nat.socket").active, "inactive");
        let known = s.host.sh("systemctl show --property=LoadState --value hostagent.service hostagent-nat.socket");
        assert!(known.ok().split_whitespace().all(|word| word == "not-found"), "{known:?}");
        gone(
            s.host,
            &[
                "/usr/bin/hostagent",
                "/usr/bin/hostagent-watch",
                "/usr/lib/hostagent",
                "/usr/share/doc/hostagent",
                "/usr/share/hostagent",
                WANTED,
            ],
        );
        let left = s.host.sh("find /usr/lib/systemd /usr/share/man /usr/share/fish /usr/share/zsh -name '*hostagent*'");
        assert_eq!(left.stdout, "");
        assert_ne!(s.host.exec(&["journalctl", "--list-catalog", events::ENDPOINTS_READY.id]).code, 0);
        for kept in ["/etc/hostagent/config.d/50-local.toml", own, "/var/lib/hostagent"] {
            s.host.exec(&["test", "-e", kept]).ok();
        }

        // Back again, as if newly installed, with its memory.
        install(VERSION);
        runs(s);
        s.until_state("settled");
        s.says(0, &["status"], &["1 of 2 restarts left", "moved"]);
        assert_eq!(s.agent(), moved, "the agent is as it was");

        // Disabled and stopped by the administrator, it stays so over an upgrade.
        s.host.exec(&["systemctl", "disable", "--now", "hostagent"]).ok();
        install(NEXT_VERSION);
        assert_eq!(s.host.exec(&["systemctl", "is-enabled", "hostagent"]).stdout.trim(), "disabled");
        assert_eq!(s.host.unit("hostagent.service").active, "inactive");
        if format == Format::Deb {
            s.host.exec(&["dpkg", "--purge", "hostagent"]).ok();
            gone(s.host, &["/etc/hostagent", "/var/lib/hostagent", "/run/hostagent", WANTED]);
        }
    });
}

/// Enabled and running, with the socket it needs.
#[track_caller]
fn runs(s: &Scene<'_>) {
    assert_eq!(s.host.exec(&["systemctl", "is-enabled", "hostagent"]).stdout.trim(), "enabled");
    // The package does not wait for the service.
    s.host.exec(&["systemctl", "start", "hostagent"]).ok();
    assert_eq!(s.host.unit("hostagent.service").active, "active");
    assert_eq!(s.host.unit("hostagent-nat.socket").active, "active");
}

#[track_caller]
fn gone(host: &Host, paths: &[&str]) {
    for path in paths {
        let found = host.sh(&format!("ls -ld {path}"));
        assert_ne!(found.code, 0, "{}", found.stdout);
    }
}

fn installed_version(s: &Scene<'_>, format: Format) -> String {
    let query: &[&str] = match format {
        Format::Deb => &["dpkg-query", "--show", "--showformat=${Version}", "hostagent"],
        Format::Rpm => &["rpm", "--query", "--queryformat=%{VERSION}-%{RELEASE}", "hostagent"],
    };
    s.host.exec(query).ok().to_owned()
}

#[track_caller]
fn remove(s: &Scene<'_>, format: Format) {
    let removed = match format {
        Format::Deb => s.host.exec(&["dpkg", "--remove", "hostagent"]),
        Format::Rpm => s.host.exec(&["rpm", "--erase", "hostagent"]),
    };
    removed.ok();
}

#[test]
fn a_restart_under_way_survives_the_upgrade() {
    served("", |s| {
        let before = s.registrations();
        s.endpoints_appear();
        s.until_told("confirming");
        s.host.install(Build::Quick, Format::Deb, NEXT_VERSION).ok();
        // The result may be told by the old service or the new one.
        s.until_said("the agent was moved, and that is proved");
        s.until_state("settled");
        s.is_private();
        s.is_whole();
        assert_eq!(s.registrations(), before + 1, "moved once: {}", s.said());
    });
}

/// User data runs inside cloud-final.service, which the service is ordered after: who waited for it there, waited for ever.
#[test]
fn user_data_installs_it_without_waiting_for_it() {
    scene(HostOptions { await_agent: false, ..HostOptions::default() }, |s| {
        let package = s.host.package(Build::Quick, Format::Deb, VERSION);
        let unit =
            format!("[Service]\nType=oneshot\nTimeoutStartSec=60\nExecStart=/usr/bin/dpkg --install {package}\n");
        s.host.write("/etc/systemd/system/cloud-final.service", &unit);
        s.host.sh("systemctl daemon-reload && systemctl start cloud-final.service").ok();
        s.host.until("the service", |host| (host.unit("hostagent.service").active == "active").then_some(()));
    });
}

/// As images are built: in a changed root where no systemd runs.
#[test]
fn without_a_running_systemd_it_is_enabled_and_not_started() {
    scene(HostOptions { await_agent: false, ..HostOptions::default() }, |s| {
        // Without what is mounted below it, so without /run/systemd.
        s.host.sh("mkdir /image && mount --bind / /image && mount --bind /dev /image/dev").ok();
        s.host.exec(&["mount", "-t", "proc", "proc", "/image/proc"]).ok();
        for format in [Format::Deb, Format::Rpm] {
            let package = s.host.package(Build::Quick, format, VERSION);
            s.host.exec(&["cp", &package, "/root/package"]).ok();
            let (install, remove) = match format {
                Format::Deb => ("dpkg --install", "dpkg --purge"),
                Format::Rpm => ("rpm --install --nodeps", "rpm --erase"),
            };
            s.host.sh(&format!("chroot /image {install} /root/package")).ok();
            s.host.exec(&["test", "-L", WANTED]).ok();
            s.host.exec(&["systemctl", "daemon-reload"]).ok();
            assert_eq!(s.host.unit("hostagent.service").active, "inactive", "{format:?}");
            s.host.sh(&format!("chroot /image {remove} hostagent")).ok();
            gone(s.host, &[WANTED, "/usr/bin/hostagent", "/usr/bin/hostagent-watch"]);
        }
    });
}
