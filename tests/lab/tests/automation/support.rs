//! A cloud that runs scripts, and what tests ask of it.

use hostagent_lab::cloud::{ApiError, Cloud, CloudOptions};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Nothing here takes longer, whatever else the machine does.
pub const LONG: Duration = Duration::from_secs(240);

/// What rollouts act with.
pub const ROLE: &str = "arn:aws:iam::111122223333:role/HostAgent-Rollout";

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Python that tests/python makes.
pub fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let made = PYTHON.get_or_init(|| {
        let output = Command::new(root().join("tests/python")).output().expect("run tests/python");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a path").trim_end().into()
    });
    made.clone()
}

/// The text of one of hostagent's documents.
pub fn document(name: &str) -> String {
    let path = root().join(format!("packaging/ssm/{name}.yaml"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A cloud in which a second of ours is `speed` of its.
pub fn cloud(speed: f64) -> Cloud {
    Cloud::start(CloudOptions { speed, python: Some(python()), ..CloudOptions::default() }).unwrap()
}

pub fn ssm(cloud: &Cloud, action: &str, input: Value) -> Result<Value, ApiError> {
    cloud.shared().call("ssm", action, &input)
}

pub fn create(cloud: &Cloud, name: &str, kind: &str, text: &str) -> Result<Value, ApiError> {
    let input = json!({"Name": name, "DocumentType": kind, "DocumentFormat": "YAML", "Content": text});
    ssm(cloud, "CreateDocument", input)
}

pub fn start(cloud: &Cloud, name: &str, parameters: Value) -> String {
    let started = ssm(cloud, "StartAutomationExecution", json!({"DocumentName": name, "Parameters": parameters}));
    started.unwrap()["AutomationExecutionId"].as_str().unwrap().to_owned()
}

pub fn execution(cloud: &Cloud, id: &str) -> Value {
    let found = ssm(cloud, "GetAutomationExecution", json!({ "AutomationExecutionId": id }));
    found.unwrap()["AutomationExecution"].take()
}

/// The execution as soon as it is as wanted.
#[track_caller]
pub fn once(cloud: &Cloud, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let execution = execution(cloud, id);
        if wanted(&execution) {
            return execution;
        }
        assert!(began.elapsed() < LONG, "not {what} in time: {execution:#}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The execution when it has ended.
#[track_caller]
pub fn ended(cloud: &Cloud, id: &str) -> Value {
    let over = ["Success", "Failed", "TimedOut", "Cancelled"];
    once(cloud, id, "ended", |execution| over.contains(&execution["AutomationExecutionStatus"].as_str().unwrap()))
}

/// The steps of that name, in order.
pub fn steps(execution: &Value, name: &str) -> Vec<Value> {
    let all = execution["StepExecutions"].as_array().unwrap().iter();
    all.filter(|step| step["StepName"] == name).cloned().collect()
}
