//! What is in the packages of a release, and what their program needs.

use hostagent_lab::host::{
    Host, HostOptions, Supervisor, on_host,
    packages::{Build, Format, VERSION, built},
};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    process::Command,
};

/// What both kinds hold, as (mode, path). Completions for zsh and what only Debian wants are not in here.
const FILES: [(&str, &str); 31] = [
    ("-rwxr-xr-x", "/usr/bin/hostagent"),
    ("-rwxr-xr-x", "/usr/bin/hostagent-watch"),
    ("-rw-r--r--", "/usr/lib/hostagent/config.d/00-hostagent.toml"),
    ("-rw-r--r--", "/usr/lib/systemd/catalog/hostagent.catalog"),
    ("-rw-r--r--", "/usr/lib/systemd/system-preset/90-hostagent.preset"),
    ("-rw-r--r--", "/usr/lib/systemd/system/hostagent-nat.socket"),
    ("-rw-r--r--", "/usr/lib/systemd/system/hostagent-nat@.service"),
    ("-rw-r--r--", "/usr/lib/systemd/system/hostagent.service"),
    ("-rw-r--r--", "/usr/share/bash-completion/completions/hostagent"),
    ("-rw-r--r--", "/usr/share/doc/hostagent/LICENSE"),
    ("-rw-r--r--", "/usr/share/doc/hostagent/THIRD-PARTY"),
    ("-rw-r--r--", "/usr/share/fish/vendor_completions.d/hostagent.fish"),
    ("-rwxr-xr-x", "/usr/share/hostagent/bake.sh"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-check.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-config-show.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-config.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet-check.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet-follow.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet-install.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet-report.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet-resume.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet-rollout.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet-status.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet-stop.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet-uninstall.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-fleet.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-plan.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-restart.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-status.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent-watch.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/hostagent.1.gz"),
];
const DEB_ONLY: [(&str, &str); 3] = [
    ("-rw-r--r--", "/usr/share/doc/hostagent/changelog.Debian.gz"),
    ("-rw-r--r--", "/usr/share/doc/hostagent/copyright"),
    ("-rw-r--r--", "/usr/share/zsh/vendor-completions/_hostagent"),
];
const RPM_ONLY: [(&str, &str); 1] = [("-rw-r--r--", "/usr/share/zsh/site-functions/_hostagent")];
/// What the payload and the header may ask of rpm: 4.11, of Amazon Linux 2, knows these.
const OLD_RPM: [&str; 3] = ["CompressedFileNames", "FileDigests", "PayloadFilesHavePrefix"];
/// The C library of Amazon Linux 2.
const GLIBC: (u32, u32) = (2, 26);

fn on_bare_host(test: impl FnOnce(&mut Host)) {
    let options = HostOptions { supervisor: Supervisor::None, workloads: false, ..HostOptions::default() };
    on_host(options, test);
}

/// `-rw-r--r-- root root … path` of each file in a listing by `dpkg-deb` or `rpm`; both begin and end so.
fn listed(listing: &str) -> BTreeSet<(String, String)> {
    let files = listing.lines().filter(|line| line.starts_with('-'));
    let ends = files.filter_map(|line| {
        let (mode, rest) = line.split_once(' ')?;
        assert!(rest.contains("0/0") || rest.matches("root").count() == 2, "owned by root: {line}");
        Some((mode.to_owned(), rest.rsplit(' ').next()?.trim_start_matches('.').to_owned()))
    });
    ends.collect()
}

fn expected(more: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    FILES.iter().chain(more).map(|(mode, path)| ((*mode).to_owned(), (*path).to_owned())).collect()
}

#[test]
fn they_hold_what_they_should_and_nothing_of_the_build() {
    on_bare_host(|host| {
        let deb = host.package(Build::Release, Format::Deb, VERSION);
        let rpm = host.package(Build::Release, Format::Rpm, VERSION);
        let of_deb = host.exec(&["dpkg-deb", "--contents", &deb]);
        assert_eq!(listed(of_deb.ok()), expected(&DEB_ONLY));
        let of_rpm = host.exec(&["rpm", "--query", "--package", "--list", "--verbose", &rpm]);
        assert_eq!(listed(of_rpm.ok()), expected(&RPM_ONLY));

        host.exec(&["dpkg-deb", "--extract", &deb, "/root/deb"]).ok();
        let ours = env!("CARGO_MANIFEST_DIR");
        let found = host.sh(&format!("grep -rlaF -e '{ours}/' -e '/.cargo/' -e '/.rustup/' /root/deb"));
        assert_eq!((found.code, found.stdout.as_str()), (1, ""), "paths of the build");

        let pages =
            host.sh("cd /root/deb/usr/share/man/man1 && gunzip --keep *.gz && mandoc -Tlint -Wwarning *.1 2>&1");
        assert_eq!((pages.code, pages.stdout.as_str()), (0, ""));
        // Without the overstrikes by which it makes letters bold.
        let page = host.sh("mandoc /root/deb/usr/share/man/man1/hostagent.1 | sed 's/.\\x08//g'").ok().to_owned();
        for words in ["hostagent-restart(1)", "EXIT STATUS", "/etc/hostagent/config.d"] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(!page.contains("worker"), "not for people to type: {page}");
        let bash = "bash --norc -c 'source /root/deb/usr/share/bash-completion/completions/hostagent && complete -p'";
        assert!(host.sh(bash).ok().contains(" hostagent"), "registered");
        let third_party = host.exec(&["cat", "/root/deb/usr/share/doc/hostagent/THIRD-PARTY"]).ok().to_owned();
        for inside in ["tokio 1.", "ring 0.", "bollard 0."] {
            assert!(third_party.contains(inside), "{inside}");
        }
        for outside in ["proptest ", "clap_mangen ", "hostagent-lab "] {
            assert!(!third_party.contains(outside), "{outside}");
        }
        let needs = host.exec(&["rpm", "--query", "--package", "--requires", &rpm]).ok().to_owned();
        for feature in needs.lines().filter_map(|line| line.strip_prefix("rpmlib(")?.split_once(')')) {
            assert!(OLD_RPM.contains(&feature.0), "rpm 4.11 does not know {}", feature.0);
        }
        assert!(needs.lines().any(|line| line == "glibc >= 2.26"), "{needs}");
    });
}

#[test]
fn their_program_needs_no_newer_libc_and_runs() {
    on_bare_host(|host| {
        host.install(Build::Release, Format::Rpm, VERSION).ok();
        let sums = ["sha256sum", "/usr/bin/hostagent", "/usr/bin/hostagent-watch"];
        let of_rpm = host.exec(&sums).ok().to_owned();
        host.exec(&["rpm", "--erase", "hostagent"]).ok();
        host.install(Build::Release, Format::Deb, VERSION).ok();
        assert_eq!(host.exec(&sums).ok(), of_rpm, "the same programs in both");
        host.exec(&["systemctl", "start", "hostagent"]).ok();
        assert_eq!(host.unit("hostagent.service").active, "active");
        assert_eq!(host.exec(&["hostagent", "--version"]).ok(), format!("hostagent {VERSION}"));
        let taken = tempfile::tempdir().expect("a directory");
        for program in PROGRAMS {
            let from = format!("{}:/usr/bin/{program}", host.id());
            let program = taken.path().join(program);
            let copied = Command::new("docker").args(["cp", &from]).arg(&program).status().expect("docker");
            assert!(copied.success());
            no_newer_libc(&program);
        }
    });
}

const PROGRAMS: [&str; 2] = ["hostagent", "hostagent-watch"];

/// Where the target can be had. The build says where it cannot, and then there is nothing to run.
#[test]
fn so_does_the_one_for_graviton() {
    if std::env::var("HOSTAGENT_TESTS").is_ok_and(|choice| choice == "no-host") {
        // Past the test harness, as on_host does.
        let _ =
            writeln!(io::stderr(), "left out because HOSTAGENT_TESTS=no-host: packed::so_does_the_one_for_graviton");
        return;
    }
    let here = built(Build::Release, Format::Deb, VERSION).unwrap_or_else(|error| panic!("{error:#}"));
    let packages = here.parent().expect("it lies in a directory");
    let not_built = fs::read_to_string(packages.join("not-built")).expect("packaging/build says what it did not build");
    let aarch64 = packages.join(format!("hostagent_{VERSION}-1_arm64.deb"));
    if let Some(why) = not_built.lines().find(|line| line.contains("aarch64")) {
        assert!(!aarch64.exists(), "built after all: {not_built}");
        // tests/run counts it, and says so at its end.
        let name = "packed::so_does_the_one_for_graviton";
        let _ = writeln!(io::stderr(), "left out because there is no package for it: {name}: {why}");
        return;
    }
    assert!(aarch64.exists() && packages.join(format!("hostagent-{VERSION}-1.aarch64.rpm")).exists());
    let programs = packages.with_file_name("aarch64-unknown-linux-gnu").join("release");
    // The libraries are Debian's libc6-arm64-cross.
    let run = |program: &str, arguments: &[&str]| {
        let mut qemu = Command::new("qemu-aarch64-static");
        qemu.args(["-L", "/usr/aarch64-linux-gnu"]).arg(programs.join(program)).args(arguments);
        qemu.output().expect("qemu-user-static is installed (tests/run does it)")
    };
    for program in PROGRAMS {
        no_newer_libc(&programs.join(program));
        let version = run(program, &["--version"]);
        assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), format!("{program} {VERSION}"), "{version:?}");
    }
    // The configuration, and so the file system, the clock and the parser.
    let empty = tempfile::tempdir().expect("a directory");
    let shown = run("hostagent", &["config", "show", "--config-dir", empty.path().to_str().expect("UTF-8")]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("splay_max_s"), "{shown:?}");
}

/// The versions of the C library's symbols that a program asks for.
#[track_caller]
fn no_newer_libc(program: &std::path::Path) {
    let output = Command::new("readelf").args(["--version-info", "--wide"]).arg(program).output().expect("binutils");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let versions: Vec<(u32, u32)> = text
        .split("Name: GLIBC_")
        .skip(1)
        .map(|rest| {
            let version = rest.split_whitespace().next().unwrap_or_default();
            let mut parts = version.split('.').map(|part| part.parse().unwrap_or_else(|_| panic!("GLIBC_{version}")));
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        })
        .collect();
    assert!(!versions.is_empty(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let newest = versions.iter().max();
    assert!(newest <= Some(&GLIBC), "{} asks for GLIBC {newest:?}", program.display());
}
