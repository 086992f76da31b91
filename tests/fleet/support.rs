//! A cloud with a fleet in it, and the program pointed at it.

use hostagent_lab::cloud::{Cloud, CloudOptions, Event};
use serde_json::Value;
use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
};

/// Simulated seconds a second: a restart takes a third of one.
const SPEED: f64 = 60.0;
pub const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];

/// The Python that runs the scripts of the runbook.
pub static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
    let output = Command::new(script).stderr(Stdio::inherit()).output().expect(script);
    assert!(output.status.success(), "{script} ended with {}", output.status);
    let path = String::from_utf8(output.stdout).expect("a path");
    path.lines().last().expect("a path").trim().into()
});

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub struct Fleet {
    pub cloud: Cloud,
    /// Where reports for SSM would go, were it asked for.
    dir: tempfile::TempDir,
}

impl Fleet {
    /// A cloud with `hosts` public hosts in the cluster `prod`.
    pub fn of(hosts: usize) -> Self {
        Self::with(CloudOptions { speed: SPEED, ..CloudOptions::default() }, hosts)
    }

    /// One in real time.
    pub fn slow(hosts: usize) -> Self {
        Self::with(CloudOptions::default(), hosts)
    }

    /// One that can run the runbook; the documents are installed.
    pub fn rolling(hosts: usize) -> Self {
        let python = Some(PYTHON.clone());
        let fleet = Self::with(CloudOptions { speed: SPEED, python, ..CloudOptions::default() }, hosts);
        fleet.ok(&["install"]);
        fleet
    }

    fn with(options: CloudOptions, hosts: usize) -> Self {
        let cloud = Cloud::start(options).expect("a cloud");
        cloud.cluster("prod");
        cloud.fleet("prod", &ZONES, hosts);
        Self { cloud, dir: tempfile::tempdir().expect("a directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.dir.path().join("config.d");
        std::fs::create_dir_all(&config).expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostagent"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("USER", "tester").envs(self.cloud.environment());
        command.arg("--config-dir").arg(config).arg("fleet").args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs `hostagent fleet …`.
    pub fn run(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().expect("hostagent"))
    }

    /// Starts it and does not wait.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hostagent")
    }

    /// Asserts the exit code and every word of the answer.
    #[track_caller]
    pub fn says(&self, code: i32, arguments: &[&str], words: &[&str]) -> String {
        let said = self.run(arguments);
        let all = format!("{}{}", said.out, said.err);
        assert_eq!(said.code, code, "hostagent fleet {}:\n{all}", arguments.join(" "));
        for word in words {
            assert!(all.contains(word), "hostagent fleet {} does not say {word:?}:\n{all}", arguments.join(" "));
        }
        said.out
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.says(0, arguments, &[])
    }

    /// The answer as JSON, whatever the exit code.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[&["--format", "json"], arguments].concat());
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err))
    }

    /// The IDs of the rollouts there are, newest first.
    pub fn executions(&self) -> Vec<String> {
        // As SSM lists them: what began a moment ago is not listed yet.
        let shared = self.cloud.shared();
        std::thread::sleep(shared.clock.real(shared.options.settle_s + 1.0));
        let listed = self.cloud.client().ssm("DescribeAutomationExecutions", &serde_json::json!({}));
        let listed = listed.expect("a list");
        let all = listed["AutomationExecutionMetadataList"].as_array().expect("a list").iter();
        all.map(|one| one["AutomationExecutionId"].as_str().expect("an ID").to_owned()).collect()
    }

    /// The instances that were restarted, in order.
    pub fn restarted(&self) -> Vec<String> {
        let began = |event: Event| match event {
            Event::RestartBegan { instance, .. } => Some(instance),
            _ => None,
        };
        self.cloud.log().into_iter().filter_map(began).collect()
    }

    /// The most agents that were away at once, in any zone and over all; and whether two zones ever were at once.
    pub fn most_away(&self) -> (usize, bool) {
        let mut away: Vec<(String, String)> = Vec::new();
        let (mut most, mut two_zones) = (0, false);
        for event in self.cloud.log() {
            match event {
                Event::RestartBegan { instance, zone, .. } => {
                    two_zones |= away.iter().any(|(_, other)| *other != zone);
                    away.push((instance, zone));
                    most = most.max(away.len());
                }
                Event::RestartEnded { instance, .. } => away.retain(|(id, _)| *id != instance),
                _ => {}
            }
        }
        (most, two_zones)
    }
}

pub fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// As the lab numbers simulated hosts.
pub fn id(number: usize) -> String {
    format!("i-{number:017x}")
}
