//! Configuration on a whole host: who overrides whom, and what becomes of a service whose configuration is wrong.

use crate::{
    scene::{commands, scene},
    served::served,
};
use hostagent::events;
use hostagent_lab::host::HostOptions;

#[test]
fn drop_ins_override_and_mask_each_other_and_each_value_says_where_it_is_from() {
    scene(HostOptions { await_agent: false, ..HostOptions::default() }, |s| {
        let shows = |line: &str| {
            let shown = s.expect(0, &["config", "show"]);
            // Blanks between a value and its origin align the page.
            let blanks = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(shown.lines().any(|l| blanks(l) == line), "{line}:\n{shown}");
        };
        let write = |dir: &str, text: &str| s.host.write(&format!("{dir}/hostagent/config.d/00-hostagent.toml"), text);
        write("/usr/lib", include_str!("../../packaging/config/00-hostagent.toml"));
        shows("splay_max_s = 1800 # default");
        write("/usr/lib", "[watch]\nsplay_max_s = 1\n[confirm]\nsamples = 4\n");
        shows("splay_max_s = 1 # /usr/lib/hostagent/config.d/00-hostagent.toml:2");
        shows("samples = 4 # /usr/lib/hostagent/config.d/00-hostagent.toml:4");
        // A file of the same name takes the other's place as a whole.
        write("/run", "\n[watch]\nsplay_max_s = 2\n");
        shows("splay_max_s = 2 # /run/hostagent/config.d/00-hostagent.toml:3");
        shows("samples = 3 # default");
        write("/etc", "[watch]\n\n\nsplay_max_s = 3\n");
        shows("splay_max_s = 3 # /etc/hostagent/config.d/00-hostagent.toml:4");
        s.host.exec(&["ln", "-sf", "/dev/null", "/etc/hostagent/config.d/00-hostagent.toml"]).ok();
        shows("splay_max_s = 1800 # default");
        shows("# /etc/hostagent/config.d/00-hostagent.toml (nothing in effect)");
        // Another name wins by its place in the order, whatever its directory.
        s.host.write("/run/hostagent/config.d/90-fleet.toml", "[watch]\nsplay_max_s = 4\n");
        s.host.configure("50-local", "[watch]\nsplay_max_s = 5\n");
        shows("splay_max_s = 4 # /run/hostagent/config.d/90-fleet.toml:2");
        // What the README shows: a file's name in a comment, and the file.
        let example = commands("Configure");
        let path = example[0].strip_prefix("# ").expect("a path");
        s.host.write(path, &example.join("\n"));
        shows(&format!("{} # {path}:3", example[2]));
    });
}

#[test]
fn a_service_whose_configuration_is_wrong_does_not_start_and_says_so_once() {
    served("", |s| {
        s.until_said("waiting for endpoints");
        let agent = s.agent();
        s.host.exec(&["systemctl", "stop", "hostagent"]).ok();
        s.host.configure("60-bad", "[watch]\nsplay_max = 5\n");
        assert!(!s.host.exec(&["systemctl", "start", "hostagent"]).success());
        let unit = s.host.unit("hostagent.service");
        assert_eq!((unit.active.as_str(), unit.exec_main_status, unit.restarts), ("failed", 78, 0), "{unit:?}");
        let said = s.said();
        let words = "the configuration is refused, and the service does not start";
        let [line] = &said.lines().filter(|l| l.contains(words)).collect::<Vec<_>>()[..] else { panic!("{said}") };
        assert!(line.contains("/etc/hostagent/config.d/60-bad.toml:2") && line.contains("splay_max_s"), "{line}");
        let [record] = &s.records(&events::CONFIGURATION_REFUSED)[..] else { panic!("one record: {said}") };
        assert!(record["HOSTAGENT_WHY"].as_str().is_some_and(|why| why.contains("60-bad.toml:2")), "{record}");
        let shown = s.host.exec(&["systemctl", "status", "hostagent"]).stdout;
        assert!(shown.contains("60-bad.toml:2") && shown.contains("failed"), "{shown}");
        assert!(s.host.exec(&["systemctl", "--failed", "--plain"]).stdout.contains("hostagent.service"));
        assert_eq!(s.agent(), agent);
        s.host.exec(&["rm", "/etc/hostagent/config.d/60-bad.toml"]).ok();
        s.host.exec(&["systemctl", "start", "hostagent"]).ok();
        s.until_state("observing");
    });
}
