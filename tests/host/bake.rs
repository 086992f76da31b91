//! Images with hostagent in them, made as an AMI is made, and the hosts made from them.

use crate::scene::{Scene, commands, scene};
use hostagent_lab::host::{
    Host, HostOptions, Output, Snapshot, Supervisor, on_host,
    packages::{Build, Format, VERSION},
};
use std::{collections::BTreeSet, sync::Arc};

const SCRIPT: &str = include_str!("../../packaging/packer/hostagent.sh");
/// Where the script and the package are uploaded to.
const UPLOADED: &str = "/tmp";

/// The build host, and instances of its image.
const BUILDER: &str = "i-0f00dfacade00001";
// Whose splays differ in whole seconds.
const INSTANCES: [&str; 3] = ["i-0f00dfacade00002", "i-0f00dfacade00004", "i-0f00dfacade00007"];

/// An instance with an SSM agent, a collector of metrics, and these settings of hostagent.
fn instance(id: &str, settings: &str, image: Option<&Arc<Snapshot>>) -> HostOptions {
    let metrics = "/var/lib/prometheus/node-exporter";
    let watch = format!("settled_interval_s = 5\nmetrics_file = \"{metrics}/hostagent.prom\"");
    let files = [
        ("/etc/hostagent/config.d/30-scene.toml".to_owned(), format!("[watch]\n{watch}\n{settings}")),
        (format!("{metrics}/other.prom"), String::new()),
        (format!("/var/lib/amazon/ssm/{id}/inventory/custom/other.json"), String::new()),
    ];
    HostOptions { instance_id: id.into(), files: files.into(), image: image.cloned(), ..HostOptions::default() }
}

/// Uploads script and package; gives the package's SHA-256.
#[track_caller]
fn upload(host: &Host, format: Format, as_name: &str) -> String {
    host.write(&format!("{UPLOADED}/hostagent.sh"), SCRIPT);
    let package = host.package(Build::Quick, format, VERSION);
    host.exec(&["cp", &package, &format!("{UPLOADED}/{as_name}")]).ok();
    let sum = host.exec(&["sha256sum", &package]);
    sum.ok().split_whitespace().next().expect("a sum").to_owned()
}

/// Runs commands in the directory of the uploads.
#[track_caller]
fn run(host: &Host, commands: &str, sha256: &str) -> Output {
    let sum = format!("--env=HOSTAGENT_SHA256={sha256}");
    host.exec_with(&["--workdir", UPLOADED, &sum], &["sh", "-euc", commands], None)
}

/// The README's commands on the build host, up to the first with `last` in it.
fn readme(last: &str) -> String {
    let ours = |line: &String| line.starts_with("export HOSTAGENT_PACKAGE=") || line.starts_with("sh hostagent.sh");
    let lines: Vec<String> = commands("Bake").into_iter().filter(ours).collect();
    let end = lines.iter().position(|line| line.contains(last)).expect(last);
    lines[..=end].join("\n")
}

#[track_caller]
fn refused(output: &Output, words: &str) {
    let said = output.stderr.lines().last().unwrap_or_default();
    assert!(output.code == 1 && said.starts_with("hostagent.sh: ") && said.contains(words), "{words}: {output:?}");
}

/// Serves on the build host until the agent was moved, then ends the agent's own part as AWS asks for images of it.
#[track_caller]
fn serves(s: &Scene<'_>) {
    s.host.exec(&["systemctl", "start", "hostagent"]).ok();
    s.until_said("waiting for endpoints");
    s.endpoints_appear();
    s.until_state("settled");
    s.host.sh("systemctl stop ecs && rm -rf /var/lib/ecs/data/*").ok();
}

/// Everything on the disk by which a host knows itself.
fn traces(host: &Host) -> Vec<String> {
    let find = "find /var/lib/hostagent /run/hostagent /var/lib/prometheus /var/lib/amazon -type f \
                -name '*hostagent*' -o -path '*hostagent/*' -type f; cat /etc/machine-id";
    host.sh(find).stdout.lines().map(str::to_owned).collect()
}

/// Makes the image, with everything on the way that must not end in it.
#[track_caller]
fn bakes(s: &Scene<'_>) -> Snapshot {
    let host = &s.host;
    let sum = upload(host, Format::Deb, "hostagent.deb");
    refused(&run(host, "HOSTAGENT_PACKAGE= sh hostagent.sh", &sum), "HOSTAGENT_PACKAGE is not set");
    refused(&run(host, "HOSTAGENT_PACKAGE=/none.deb sh hostagent.sh", &sum), "no package at /none.deb");
    refused(&run(host, "HOSTAGENT_PACKAGE=http://x/y.deb sh hostagent.sh", &sum), "begins with https:// or s3://");
    refused(&run(host, &readme("install"), &"0".repeat(64)), "find out which is right");
    assert!(!host.exec(&["systemctl", "cat", "hostagent"]).success(), "a package of another sum is not installed");

    run(host, &readme("install"), &sum).ok();
    serves(s);
    refused(&run(host, "sh hostagent.sh verify", ""), "hostagent.service runs");
    host.exec(&["systemctl", "stop", "hostagent"]).ok();
    refused(&run(host, "sh hostagent.sh verify", ""), "/var/lib/hostagent/history.json would be in the image");
    host.configure("90-mine", &format!("# for {BUILDER}\n"));
    refused(&run(host, "sh hostagent.sh seal", ""), "90-mine.toml names an instance ID");
    host.exec(&["rm", "/etc/hostagent/config.d/90-mine.toml"]).ok();
    assert_eq!(traces(host), [""; 0], "removed before that was found");

    // Again, from the start, as a recipe that is repeated would.
    host.exec(&["systemctl", "start", "hostagent"]).ok();
    s.until_state("blocked");
    assert!(!traces(host).is_empty());
    run(host, &readme("seal"), &sum).ok();
    run(host, "sh hostagent.sh verify", "").ok();
    assert_eq!(traces(host), [""; 0]);

    // And in a root where no systemd runs.
    host.sh("echo 0123456789abcdef0123456789abcdef >/etc/machine-id; systemctl disable hostagent").ok();
    let bare = format!("mount -t tmpfs tmpfs /run\n{}", readme("seal"));
    run(host, &format!("unshare --mount sh -euc '{bare}'"), &sum).ok();
    assert_eq!(traces(host), [""; 0]);
    host.exec(&["rm", "-r", &format!("{UPLOADED}/hostagent.sh"), &format!("{UPLOADED}/hostagent.deb")]).ok();
    host.snapshot()
}

/// What must be of one host alone.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Own {
    machine_id: String,
    container_instance: String,
    splay: String,
}

/// A host made from the image: its service runs by itself, remembers nothing, and moves its own agent once.
#[track_caller]
fn lives(s: &Scene<'_>, id: &str) -> Own {
    s.until_said("waiting for endpoints");
    let tested = s.host.exec(&["sh", "/usr/share/hostagent/bake.sh", "test"]);
    assert!(tested.ok().contains(VERSION), "{tested:?}");
    let status = s.status();
    assert_eq!((&status["instance"], &status["budget"]["left"]), (&id.into(), &2.into()), "{status}");
    assert!(!status["time_line"].to_string().contains("moved"), "{status}");
    let before = s.registrations();
    s.endpoints_appear();
    s.until_state("settled");
    s.after_looks(1);
    s.is_private();
    s.is_whole();
    assert_eq!(s.registrations(), before + 1, "moved once: {}", s.said());
    let history = s.host.exec(&["cat", "/var/lib/hostagent/history.json"]);
    let history: serde_json::Value = serde_json::from_str(history.ok()).expect("JSON");
    assert_eq!(history["instance_id"], id);
    assert_eq!(history["restarts"].as_array().map(Vec::len), Some(1), "{history}");
    let inventory = s.host.sh("grep -h ContainerInstanceArn /var/lib/amazon/ssm/*/inventory/custom/hostagent.json");
    let container_instance = s.host.state().instances[0].arn.clone();
    assert_eq!(inventory.ok(), format!("\"ContainerInstanceArn\": \"{container_instance}\","), "one, and its own");
    let said = s.said();
    let splay = said.lines().find_map(|line| line.split_once("after a splay of ")).expect(&said).1.to_owned();
    Own { machine_id: s.host.exec(&["cat", "/etc/machine-id"]).ok().to_owned(), container_instance, splay }
}

#[test]
fn three_hosts_of_one_image_are_three_services() {
    let mut image = None;
    scene(instance(BUILDER, "splay_max_s = 0", None), |s| image = Some(bakes(s)));
    let Some(image) = image.map(Arc::new) else { return };
    let mut own = Vec::new();
    for id in INSTANCES {
        scene(instance(id, "splay_max_s = 6", Some(&image)), |s| own.push(lives(s, id)));
    }
    let different = |of: fn(&Own) -> &String| own.iter().map(of).collect::<BTreeSet<_>>().len();
    assert_eq!(different(|o| &o.machine_id), 3, "{own:?}");
    assert_eq!(different(|o| &o.container_instance), 3, "{own:?}");
    assert_eq!(different(|o| &o.splay), 3, "{own:?}");
    assert!(own.iter().all(|o| o.machine_id.len() == 32), "{own:?}");
}

#[test]
fn what_was_done_on_the_build_host_does_not_bind_its_image() {
    let settings = "splay_max_s = 0\n[restart]\nbudget_per_day = 1";
    let mut image = None;
    scene(instance(BUILDER, settings, None), |s| {
        s.host.install_service();
        serves(s);
        s.host.exec(&["systemctl", "stop", "hostagent"]).ok();
        image = Some(s.host.snapshot());
    });
    let Some(image) = image.map(Arc::new) else { return };
    // The control: the same instance is bound by it.
    scene(instance(BUILDER, settings, Some(&image)), |s| {
        s.endpoints_appear();
        s.until_state("blocked");
        s.says(75, &["check"], &["1 restarts in 24 hours"]);
    });
    scene(instance(INSTANCES[0], settings, Some(&image)), |s| {
        let before = s.registrations();
        // Until its service has looked, the last words are those of the build host.
        s.host.until("its own words", |_| (s.status()["instance"] == INSTANCES[0]).then_some(()));
        s.endpoints_appear();
        s.until_state("settled");
        s.is_private();
        assert_eq!(s.registrations(), before + 1);
        let status = s.status();
        let first = status["time_line"][0]["text"].as_str().unwrap_or_default();
        assert!(first.contains("another instance: starting with a clean memory"), "{status}");
        assert_eq!(status["budget"]["left"], 0, "{status}");
    });
}

#[test]
fn where_there_is_no_apt_the_rpm_is_installed() {
    let options = HostOptions { supervisor: Supervisor::None, workloads: false, ..HostOptions::default() };
    on_host(options, |host| {
        let sum = upload(host, Format::Rpm, "hostagent.rpm");
        // dnf resolves dependencies in a root that rpm made; this is a Debian one.
        host.write(
            "/usr/local/bin/dnf",
            "#!/bin/sh\n[ \"$1 $2\" = 'install -y' ] && exec rpm --install --nodeps \"$3\"\n",
        );
        host.exec(&["chmod", "+x", "/usr/local/bin/dnf"]).ok();
        let bake = "mount --bind /dev/null /usr/bin/apt-get; HOSTAGENT_PACKAGE=/tmp/hostagent.rpm sh hostagent.sh";
        run(host, &format!("unshare --mount sh -euc '{bake}'"), &sum).ok();
        assert!(host.exec(&["rpm", "--query", "hostagent"]).ok().starts_with(&format!("hostagent-{VERSION}")));
        assert_eq!(traces(host), [""; 0]);
    });
}
