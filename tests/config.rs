//! Configuration files as a user writes them: merging, origins, and one clear error for each mistake.

use hostagent::config::{Loaded, Origin, Settings, Source, load};
use std::{fs, path::Path};
use tempfile::TempDir;

fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn load_dirs(dirs: &[&TempDir]) -> Result<Loaded, String> {
    load(&Source::Dirs(dirs.iter().map(|d| d.path().to_owned()).collect())).map_err(|error| error.to_string())
}

/// The error of one file `10-a.toml`, with the directory taken out of it.
fn error(text: &str) -> String {
    let dir = dir(&[("10-a.toml", text)]);
    let error = load_dirs(&[&dir]).expect_err(text);
    error.replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn without_files_the_defaults_stand() {
    let loaded = load_dirs(&[&dir(&[])]).unwrap();
    assert_eq!(loaded, Loaded::default());
    assert!(loaded.entries().iter().all(|(_, _, origin)| *origin == Origin::Default));
}

#[test]
fn later_names_win_key_by_key_and_each_value_knows_its_line() {
    let lib = dir(&[
        ("10-a.toml", "[restart]\nhold_s = 20\ndeadline_s = 60\n"),
        ("90-z.toml", "[network]\nresolver = \"10.0.0.2\"\nendpoint_cidrs = [\n  \"10.9.0.0/16\",\n]\n"),
    ]);
    let etc = dir(&[("50-m.toml", "restart.deadline_s = 90\n[network]\nresolver = \"10.0.0.3:5353\"\n")]);
    let loaded = load_dirs(&[&lib, &etc]).unwrap();
    let settings = &loaded.settings;
    assert_eq!((settings.restart.hold_s, settings.restart.deadline_s), (20, 90));
    assert_eq!(settings.network.resolver, Some("10.0.0.2:53".parse().unwrap()));
    assert_eq!(settings.network.endpoint_cidrs, ["10.9.0.0/16".parse().unwrap()]);
    let at = |key: &str| {
        let origin = loaded.origin(key).to_string();
        Path::new(&origin).file_name().unwrap().to_string_lossy().into_owned()
    };
    assert_eq!(at("restart.hold_s"), "10-a.toml:2");
    assert_eq!(at("restart.deadline_s"), "50-m.toml:1");
    assert_eq!(at("network.resolver"), "90-z.toml:2");
    assert_eq!(at("network.endpoint_cidrs"), "90-z.toml:3");
    assert_eq!(at("agent.container"), "default");
    assert_eq!(loaded.files.iter().map(|f| loaded.in_effect(f)).collect::<Vec<_>>(), [1, 1, 2]);
}

#[test]
fn a_masked_file_sets_nothing() {
    let lib = dir(&[("10-a.toml", "[restart]\nhold_s = 20\n")]);
    let etc = dir(&[]);
    std::os::unix::fs::symlink("/dev/null", etc.path().join("10-a.toml")).unwrap();
    let loaded = load_dirs(&[&lib, &etc]).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(loaded.files, [etc.path().join("10-a.toml")]);
}

#[test]
fn the_commented_default_file_is_the_built_in_defaults() {
    let text = include_str!("../packaging/config/00-hostagent.toml");
    let as_shipped = load_dirs(&[&dir(&[("00-hostagent.toml", text)])]).unwrap();
    assert_eq!(as_shipped.in_effect(&as_shipped.files[0]), 0);

    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    let uncommented = text.lines().map(uncomment).collect::<Vec<_>>().join("\n");
    let loaded = load_dirs(&[&dir(&[("00-hostagent.toml", &uncommented)])]).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    for (key, _, origin) in loaded.entries() {
        assert_ne!(origin, Origin::Default, "{key} is missing in the default file");
    }
}

#[test]
fn each_mistake_is_one_line_that_names_place_key_found_and_allowed() {
    let cases = [
        (
            "[agent]\n\ncontainr = \"x\"",
            "10-a.toml:3: agent.containr: unknown key; did you mean \"container\"? (keys of",
        ),
        (
            "[agnet]\n",
            "10-a.toml:1: agnet: unknown section; did you mean \"agent\"? (sections: agent, docker, network,",
        ),
        ("[zebra]\n", "10-a.toml:1: zebra: unknown section; sections: agent,"),
        ("samples = 3", "10-a.toml:1: samples: unknown section; it belongs under [confirm]"),
        ("agent = 1", "10-a.toml:1: agent: found a value; allowed: a section [agent] with keys under it"),
        ("[confirm]\nsamples = 1", "10-a.toml:2: confirm.samples: found 1; allowed: a count from 2 to 100"),
        ("[confirm]\nsamples = \"3\"", "10-a.toml:2: confirm.samples: found \"3\"; allowed: a count"),
        ("[confirm]\nmin_spread_s = 2.5", "10-a.toml:2: confirm.min_spread_s: found the float 2.5; allowed: seconds"),
        ("[network]\ndns_timeout_ms = 0", "network.dns_timeout_ms: found 0; allowed: milliseconds, from 10 to 60000"),
        ("[network]\nprobe_timeout_ms = 0", "network.probe_timeout_ms: found 0; allowed: milliseconds"),
        ("[network]\nprobe_timeout_ms = 600001", "found 600001; allowed"),
        ("[network]\nhttps_port = 0", "network.https_port: found 0; allowed: a port from 1 to 65535"),
        ("[network]\nhttps_port = 65536", "network.https_port: found 65536; allowed: a port from 1 to 65535"),
        ("[network]\ndiscover = \"yes\"", "network.discover: found \"yes\"; allowed: true or false"),
        ("[network]\nendpoint_cidrs = \"10.0.0.0/8\"", "endpoint_cidrs: found \"10.0.0.0/8\"; allowed: a list of"),
        (
            "[network]\nendpoint_cidrs = [\n \"10.9.0.0/16\",\n \"10.0.0.0/33\"]",
            "10-a.toml:4: network.endpoint_cidrs: found \"10.0.0.0/33\"; allowed: a list",
        ),
        ("[network]\nendpoint_cidrs = [\"10.9.0.1\"]", "(an address without a prefix length)"),
        ("[network]\nendpoint_cidrs = [\"10.9.0.1/16\"]", "beyond its prefix; the block is 10.9.0.0/16)"),
        ("[network]\nendpoint_cidrs = [\"0.0.0.0/0\"]", "(a prefix shorter than /8 holds public addresses too)"),
        ("[network]\nendpoint_cidrs = [\"::/0\"]", "(a prefix shorter than /7 holds public addresses too)"),
        ("[network]\nresolver = \"dns.example\"", "network.resolver: found \"dns.example\"; allowed: \"ADDRESS\""),
        ("[network]\nresolver = \"10.0.0.2:0\"", "network.resolver: found \"10.0.0.2:0\"; allowed"),
        ("[restart]\nhold_s = 0", "restart.hold_s: found 0; allowed: seconds, from 1"),
        ("[restart]\ndeadline_s = 0", "restart.deadline_s: found 0; allowed: seconds, from 1"),
        ("[restart]\ndeadline_s = 9223372036854775807", "found 9223372036854775807; allowed"),
        (
            "[restart]\ndeadline_s = 92233720368547758070",
            "10-a.toml:2: restart.deadline_s: found 92233720368547758070;",
        ),
        ("[restart]\nbudget_per_day = -1", "restart.budget_per_day: found -1; allowed: a count from 0"),
        ("[agent]\ncontainer = \"a b\"", "agent.container: found \"a b\"; allowed: a container name"),
        ("[agent]\ncontainer = \"\"", "agent.container: found \"\"; allowed"),
        ("[agent]\nunits = []", "agent.units: found a list (no entries); allowed: a list of 1 to 16"),
        ("[agent]\nunits = [\"ecs\"]", "agent.units: found \"ecs\"; allowed: a list of 1 to 16 service unit names"),
        ("[agent]\nunits = [\"../x.service\"]", "agent.units: found \"../x.service\""),
        (
            "[agent]\nintrospection = \"https://127.0.0.1:51678\"",
            "(these servers speak plain HTTP); allowed: \"http://",
        ),
        (
            "[agent]\nintrospection = \"http://127.0.0.1:0\"",
            "found \"http://127.0.0.1:0\"; allowed: \"http://HOST:PORT\"",
        ),
        (
            "[agent]\nintrospection = \"http://127.0.0.1/v1\"",
            "found \"http://127.0.0.1/v1\"; allowed: \"http://HOST:PORT\"",
        ),
        ("[instance]\nimds = \"169.254.169.254\"", "instance.imds: found \"169.254.169.254\"; allowed: \"http://"),
        ("[instance]\nimds = \"http://u:p@169.254.169.254\"", "instance.imds: found"),
        (
            "[docker]\nhost = \"tcp://10.0.0.1:2375\"",
            "(only this host's own engine is used); allowed: \"unix:///PATH\"",
        ),
        (
            "[docker]\nhost = \"unix://docker.sock\"",
            "docker.host: found \"unix://docker.sock\"; allowed: \"unix:///PATH\"",
        ),
        (
            "[watch]\non_ready = \"move\"",
            "watch.on_ready: found \"move\"; allowed: \"restart\", \"report\" or \"rollout\"",
        ),
        (
            "[agent]\n[watch]\non_ready = \"rollout\"",
            "10-a.toml:3: watch.on_ready: \"rollout\" needs fleet.rollout_role, and that is empty; set it to the ARN of the role",
        ),
        ("[watch]\nsplay_max_s = 86401", "watch.splay_max_s: found 86401; allowed: seconds, from 0 (at once) to 86400"),
        ("[watch]\nsettled_interval_s = 4", "watch.settled_interval_s: found 4; allowed: seconds, from 5"),
        ("[watch]\nwindow = \"Mon 22:00-04:00 UTC\"", "watch.window: found \"Mon 22:00-04:00 UTC\"; allowed: a list"),
        (
            "[watch]\nwindow = [\n \"Mon-Fri 22:00-04:00 Europe/Berlin\",\n \"Mon 22:00-04:00 Europe/Atlantis\"]",
            "10-a.toml:4: watch.window: found \"Mon 22:00-04:00 Europe/Atlantis\" (the zone \"Europe/Atlantis\" is not in",
        ),
        ("[watch]\nhooks_dir = \"hooks.d\"", "watch.hooks_dir: found \"hooks.d\"; allowed: an absolute path"),
        (
            "[watch]\ninventory = \"on\"",
            "watch.inventory: found \"on\"; allowed: \"auto\", \"off\" or an absolute path",
        ),
        ("[watch]\npause_file = true", "watch.pause_file: found true; allowed: an absolute path"),
        ("[paths]\nstate_dir = \"var/lib\"", "paths.state_dir: found \"var/lib\"; allowed: an absolute path"),
        ("[paths]\nstate_dir = 1979-05-27", "paths.state_dir: found a date; allowed: an absolute path"),
        ("[paths]\nstate_dir = { a = 1 }", "paths.state_dir: found a table; allowed: an absolute path"),
        ("[agent]\ncontainer = \"x\"\ncontainer = \"y\"", "10-a.toml:3: not TOML: duplicate key"),
        ("[agent]\ncontainer = ", "10-a.toml:2: not TOML: "),
        ("[agent\n", "10-a.toml:1: not TOML: "),
        ("[agent]\n\"a\\u001b[31m\" = 1", "agent.a\\u{1b}[31m: unknown key"),
    ];
    for (text, expected) in cases {
        let error = error(text);
        assert!(error.contains(expected), "{text:?}\n got: {error}\nwant: {expected}");
        assert!(!error.contains('\n') && !error.contains('\u{1b}'), "{error:?}");
    }
}

#[test]
fn a_block_that_is_both_endpoint_and_public_is_an_error() {
    let text = "[network]\nendpoint_cidrs = [\"10.9.0.0/16\"]\npublic_cidrs = [\"10.9.7.0/24\"]\n";
    let error = error(text);
    let expected =
        "10-a.toml:2: network.endpoint_cidrs: 10.9.0.0/16 overlaps 10-a.toml:3: network.public_cidrs: 10.9.7.0/24; an";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn urls_and_addresses_that_are_right_are_taken() {
    let text = "[agent]\nintrospection = \"http://localhost:1/\"\n[instance]\nimds = \"http://[fd00:ec2::254]\"\n\
                [network]\nresolver = \"[::1]:53\"\nendpoint_cidrs = [\"fd00::/8\", \"10.0.0.0/8\"]\n\
                [restart]\nbudget_per_day = 0x10\n";
    let settings = load_dirs(&[&dir(&[("a.toml", text)])]).unwrap().settings;
    assert_eq!(settings.agent.introspection, "http://localhost:1");
    assert_eq!(settings.instance.imds, "http://[fd00:ec2::254]");
    assert_eq!(settings.network.resolver, Some("[::1]:53".parse().unwrap()));
    assert_eq!(settings.restart.budget_per_day, 16);
}

#[test]
fn the_wait_option_replaces_the_setting_and_says_so() {
    let mut loaded = Loaded::default();
    loaded.set_task_wait(90);
    assert_eq!(loaded.settings.restart.task_wait_s, 90);
    assert_eq!(loaded.origin("restart.task_wait_s").to_string(), "--wait");
}

proptest::proptest! {
    /// Arbitrary bytes give settings or one line of error: no panic, nothing a terminal would obey.
    #[test]
    fn any_bytes_give_settings_or_one_line(bytes: Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.toml"), bytes).unwrap();
        if let Err(error) = load_dirs(&[&dir]) {
            proptest::prop_assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    /// The same for text that comes near a configuration.
    #[test]
    fn near_misses_give_settings_or_one_line(
        section in "(agent|network|restart|[a-z]{1,8})",
        key in "(container|units|resolver|endpoint_cidrs|hold_s|\"[^\"\\\\]{0,6}\")",
        value in "([0-9-]{1,25}|\"[^\"\\\\]{0,80}\"|\\[\"[^\"\\\\]{0,20}\"\\]|\\{ a = 1 \\}|[^\n]{0,10})",
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.toml"), format!("[{section}]\n{key} = {value}\n")).unwrap();
        if let Err(error) = load_dirs(&[&dir]) {
            proptest::prop_assert!(!error.contains(char::is_control), "{error:?}");
        }
    }
}
