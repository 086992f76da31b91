//! A scene with the package installed and its service running, and what scenes ask of it.

use crate::scene::{Scene, scene};
use hostagent_lab::{host::HostOptions, region::switch::What};
use serde_json::Value;
use std::time::Duration;

/// No splay, and a look every five seconds once settled.
const PROMPT: &str = "\
[watch]
splay_max_s = 0
settled_interval_s = 5
metrics_file = \"/var/lib/prometheus/node-exporter/hostagent.prom\"
";

/// Where node_exporter, and the SSM agent of the lab's instance, look for files.
const COLLECTOR: &str = "/var/lib/prometheus/node-exporter";
const SSM_INVENTORY: &str = "/var/lib/amazon/ssm/i-0f00dfacade00001/inventory/custom";

/// A scene with the package installed and the service running.
pub fn served(watch: &str, play: impl FnOnce(&mut Scene<'_>)) {
    // The directories of those who read what it writes, which are there before the service starts.
    let others = [format!("{COLLECTOR}/other.prom"), format!("{SSM_INVENTORY}/other.json")];
    let files = others.into_iter().map(|path| (path, String::new())).collect();
    let hostagent = format!("{PROMPT}{watch}");
    let options = HostOptions { hostagent, files, ..HostOptions::default() };
    scene(options, |s| {
        s.host.write("/etc/systemd/system/hostagent.service.d/10-scene.conf", "[Service]\nRestartSec=100ms\n");
        s.host.install_service();
        play(s);
        assert_eq!(s.host.unit("hostagent.service").active, "active", "the service runs to the end");
    });
}

impl Scene<'_> {
    pub fn said(&self) -> String {
        self.host.exec(&["journalctl", "--no-pager", "--output=cat", "--unit=hostagent"]).stdout
    }

    /// Waits until the service has said this in the journal.
    #[track_caller]
    pub fn until_said(&self, words: &str) {
        self.host.until(words, |_| self.said().contains(words).then_some(()));
    }

    pub fn times_said(&self, words: &str) -> usize {
        self.said().matches(words).count()
    }

    pub fn status(&self) -> Value {
        let output = self.host.hostagent(&["--format", "json", "status"]);
        serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
    }

    /// What Prometheus would be told, a line a sample.
    #[track_caller]
    pub fn metrics(&self) -> String {
        self.host.exec(&["cat", &format!("{COLLECTOR}/hostagent.prom")]).ok().to_owned()
    }

    /// What SSM Inventory would show, by attribute.
    #[track_caller]
    pub fn inventory(&self) -> Value {
        let file = self.host.exec(&["cat", &format!("{SSM_INVENTORY}/hostagent.json")]).ok().to_owned();
        let item: Value = serde_json::from_str(&file).expect(&file);
        assert_eq!((&item["TypeName"], &item["SchemaVersion"]), (&"Custom:Hostagent".into(), &"1.0".into()));
        item["Content"].clone()
    }

    #[track_caller]
    pub fn until_state(&self, state: &str) {
        self.host.until(state, |_| (self.status()["state"] == state).then_some(()));
    }

    /// How often a name of the control plane was asked for (A records).
    pub fn asked(&self, service: &str) -> usize {
        let events = self.host.events(0, Duration::ZERO).into_iter();
        events
            .filter(|e| matches!(&e.what, What::Dns { name, qtype, .. } if qtype == "A" && name.starts_with(service)))
            .count()
    }

    /// Waits until the service has looked so many times more.
    #[track_caller]
    pub fn after_looks(&self, more: usize) {
        let before = self.asked("ecs-a.");
        self.host.until("further looks", |_| (self.asked("ecs-a.") >= before + more).then_some(()));
    }
}
