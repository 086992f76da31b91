//! A host with what every scene asserts about it.

use hostagent::events::Known;
use hostagent_lab::{
    host::{Container, CredentialRules, Host, HostOptions, IMPATIENT, Output, on_host},
    region::{
        place::Service,
        switch::{Change, Path},
    },
};
use serde_json::Value;

/// The three services that gate a restart.
pub const CONTROL_PLANE: [Service; 3] = [Service::Ecs, Service::EcsAgent, Service::EcsTelemetry];

const README: &str = include_str!("../../README.md");

/// The lines that a section of the README shows to be typed.
pub fn commands(section: &str) -> Vec<String> {
    let sections = README.split("\n## ");
    let found = sections.into_iter().find(|text| text.lines().next() == Some(section)).expect(section);
    found.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

pub struct Scene<'a> {
    pub host: &'a mut Host,
    workloads: Vec<Container>,
}

/// Runs a scene on a host, and proves at its end that no workload was touched.
pub fn scene(options: HostOptions, play: impl FnOnce(&mut Scene<'_>)) {
    let own = options.hostagent;
    on_host(HostOptions { hostagent: IMPATIENT.into(), ..options }, |host| {
        if !own.is_empty() {
            host.configure("25-scene", &own);
        }
        let workloads = host.workloads();
        assert_eq!(workloads.len(), 3, "three workloads run beside the agent: {workloads:?}");
        assert!(workloads.iter().all(|w| w.running), "{workloads:?}");
        let mut scene = Scene { host, workloads };
        play(&mut scene);
        let Scene { host, workloads } = scene;
        assert_eq!(host.workloads(), workloads, "a workload was touched");
    });
}

impl Scene<'_> {
    /// Runs hostagent, asserts its exit code, and gives what it printed.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.host.hostagent(arguments);
        answered(&output, code, arguments)
    }

    /// Runs hostagent and asserts exit code and every word that must be in its answer.
    #[track_caller]
    pub fn says(&self, code: i32, arguments: &[&str], words: &[&str]) -> String {
        let text = self.expect(code, arguments);
        for word in words {
            assert!(text.contains(word), "hostagent {} does not say {word:?}:\n{text}", arguments.join(" "));
        }
        text
    }

    /// A restart that must not happen: neither `check` nor `restart` act, and the agent is the same afterwards.
    #[track_caller]
    pub fn holds_still(&self, code: i32, words: &[&str]) {
        let before = self.host.agent();
        self.says(code, &["check"], words);
        self.expect(code, &["restart"]);
        assert_eq!(self.host.agent(), before, "the agent was touched");
    }

    /// Sends names along a path.
    #[track_caller]
    pub fn path(&self, services: &[Service], path: Path) {
        self.host.set(&Change::path(services, path));
    }

    /// All three endpoints are there.
    #[track_caller]
    pub fn endpoints_appear(&self) {
        self.path(&CONTROL_PLANE, Path::Endpoint);
    }

    /// Waits until a run has told this step.
    #[track_caller]
    pub fn until_told(&self, step: &str) {
        self.host.until(step, |host| {
            host.sh("cat /run/hostagent/runs/*/progress.jsonl").stdout.contains(step).then_some(())
        });
    }

    /// After the host was booted again: its workloads are there, and are other processes than before.
    #[track_caller]
    pub fn rebooted(&mut self) {
        let up = |host: &Host| Some(host.workloads()).filter(|all| all.len() == self.workloads.len());
        self.workloads = self.host.until("the workloads run again", up);
    }

    /// The journal's records of an event that has an ID.
    #[track_caller]
    pub fn records(&self, event: &Known) -> Vec<Value> {
        let script = format!("journalctl --sync; journalctl --quiet --no-pager --output=json MESSAGE_ID={}", event.id);
        // journalctl fails where there is no record at all.
        let found = self.host.sh(&script).stdout;
        found.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[track_caller]
    pub fn until_inactive(&self) {
        self.host.until("ecs.service inactive", |host| (host.unit("ecs.service").active == "inactive").then_some(()));
    }

    #[track_caller]
    pub fn agent(&self) -> Container {
        self.host.agent().expect("there is an agent container")
    }

    /// The region, as an independent witness: both websockets come in on endpoint addresses.
    #[track_caller]
    pub fn is_private(&self) {
        let websockets = self.host.state().websockets;
        let on = |service| websockets.iter().any(|w| w.service == service && w.host == host(service));
        assert!(on(Service::EcsAgent) && on(Service::EcsTelemetry), "{websockets:?}");
    }

    /// The agent is supervised, runs, and the credential rules stand once.
    #[track_caller]
    pub fn is_whole(&self) {
        assert_eq!(self.host.unit("ecs.service").active, "active");
        assert!(self.agent().running);
        assert_eq!(self.host.credential_rules(), CredentialRules::ONCE);
    }

    /// How often the agent has registered: once a start.
    #[track_caller]
    pub fn registrations(&self) -> u32 {
        self.host.state().instances.iter().map(|i| i.registrations).sum()
    }
}

#[track_caller]
pub fn answered(output: &Output, code: i32, arguments: &[&str]) -> String {
    let Output { stdout, stderr, .. } = output;
    assert_eq!(output.code, code, "hostagent {}\n{stdout}\n{stderr}", arguments.join(" "));
    stdout.clone()
}

fn host(service: Service) -> &'static str {
    match service {
        Service::EcsAgent => "ecs-a.eu-west-1.amazonaws.com",
        _ => "ecs-t.eu-west-1.amazonaws.com",
    }
}
