//! `hostagent-lab ssm-agent`: runs a Command document on this host as the SSM agent does.
//!
//! One line of JSON on standard input is the job, one line on standard output the answer. When standard input ends
//! before, whoever asked has gone, and what still runs is killed.

mod script;

use super::documents::parameters;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, BufRead as _, Read as _},
    path::PathBuf,
    process::ExitCode,
    thread,
};

/// A document to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub instance: String,
    pub region: String,
    pub command: String,
    /// The document as it was read.
    pub content: Value,
    /// As given by the caller.
    pub parameters: BTreeMap<String, Vec<String>>,
    /// Whether this agent knows `interpolationType`; an old one pastes every value into the script.
    pub new_agent: bool,
    /// Directory for scripts and outputs.
    #[serde(default = "orchestration")]
    pub dir: PathBuf,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    pub name: String,
    pub status: StepStatus,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// Real milliseconds that it took.
    pub took_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepStatus {
    Success,
    Failed,
    TimedOut,
    /// Its precondition was not met, or a step before it ended the document.
    Skipped,
}

fn orchestration() -> PathBuf {
    "/var/lib/amazon/ssm/orchestration".into()
}

/// `hostagent-lab ssm-agent`.
///
/// # Errors
///
/// When the job cannot be read, or its scripts cannot be written.
pub fn main(_args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("read the job")?;
    let job: Job = serde_json::from_str(&line).context("the job is no job")?;
    let killer = script::Killer::default();
    let others = killer.clone();
    thread::spawn(move || {
        // Its end, or an error, which is one too.
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        others.kill();
        std::process::exit(1);
    });
    println!("{}", serde_json::to_string(&run(&job, &killer)?)?);
    Ok(ExitCode::SUCCESS)
}

/// Runs the job's steps in order. They go on after a failure unless the step says otherwise.
///
/// # Errors
///
/// When scripts and outputs cannot be written.
pub fn run(job: &Job, killer: &script::Killer) -> anyhow::Result<Vec<StepResult>> {
    let steps = job.content["mainSteps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let values = match parameters::resolve(&job.content, &job.parameters) {
        Ok(values) => values,
        Err(error) => {
            let name = steps.first().and_then(|step| step["name"].as_str()).unwrap_or_default();
            return Ok(vec![failed(name, &error.to_string())]);
        }
    };
    let mut results = Vec::new();
    let mut over = false;
    for step in steps {
        let name = step["name"].as_str().unwrap_or_default();
        if over || !met(step) {
            let why = if over { "a step before it ended the document" } else { "its precondition is not met" };
            results.push(StepResult { status: StepStatus::Skipped, code: 0, ..failed(name, why) });
            continue;
        }
        let result = script::run(job, step, &values, killer)?;
        over = match result.status {
            StepStatus::Success => step["onSuccess"] == "exit",
            _ => step["onFailure"].is_string(),
        };
        results.push(result);
    }
    Ok(results)
}

fn failed(name: &str, why: &str) -> StepResult {
    StepResult {
        name: name.to_owned(),
        status: StepStatus::Failed,
        code: 1,
        stdout: String::new(),
        stderr: why.to_owned(),
        took_ms: 0,
    }
}

/// Whether the step is for this platform.
fn met(step: &Value) -> bool {
    let Some(sides) = step["precondition"]["StringEquals"].as_array() else { return true };
    let side = |value: &Value| match value.as_str() {
        Some("platformType") => Some("linux".to_owned()),
        other => other.map(str::to_lowercase),
    };
    sides.len() == 2 && side(&sides[0]) == side(&sides[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(steps: Value) -> Job {
        let value = json!({"type": "String", "default": "a", "interpolationType": "ENV_VAR"});
        Job {
            instance: "i-00000000000000001".into(),
            region: "eu-west-1".into(),
            command: "c".into(),
            content: json!({"schemaVersion": "2.2", "parameters": {"X": value, "Old": {"type": "String", "default": "b"}}, "mainSteps": steps}),
            parameters: BTreeMap::new(),
            new_agent: true,
            dir: PathBuf::new(),
        }
    }

    fn step(name: &str, lines: &[&str]) -> Value {
        json!({"action": "aws:runShellScript", "name": name, "inputs": {"runCommand": lines}})
    }

    fn ran(mut job: Job) -> Vec<StepResult> {
        let dir = tempfile::tempdir().unwrap();
        job.dir = dir.path().into();
        run(&job, &script::Killer::default()).unwrap()
    }

    #[test]
    fn steps_go_on_after_a_failure_unless_told_otherwise() {
        let results = ran(document(json!([step("a", &["echo one", "exit 3"]), step("b", &["echo two"])])));
        assert_eq!((results[0].status, results[0].code, results[0].stdout.as_str()), (StepStatus::Failed, 3, "one\n"));
        assert_eq!(results[0].stderr, "failed to run commands: exit status 3");
        assert_eq!((results[1].status, results[1].stdout.as_str()), (StepStatus::Success, "two\n"));

        let mut first = step("a", &["exit 3"]);
        first["onFailure"] = "exit".into();
        let results = ran(document(json!([first, step("b", &["echo two"])])));
        assert_eq!((results[1].status, results[1].stdout.as_str()), (StepStatus::Skipped, ""));
    }

    #[test]
    fn a_step_for_another_platform_is_passed_over() {
        let mut windows = step("a", &["exit 3"]);
        windows["precondition"] = json!({"StringEquals": ["platformType", "Windows"]});
        let mut linux = step("b", &["exit 0"]);
        linux["precondition"] = json!({"StringEquals": ["platformType", "Linux"]});
        let statuses: Vec<StepStatus> =
            ran(document(json!([windows, linux]))).iter().map(|result| result.status).collect();
        assert_eq!(statuses, [StepStatus::Skipped, StepStatus::Success]);
    }

    #[test]
    fn a_new_agent_passes_values_beside_the_script_and_an_old_one_pastes_them() {
        let guard = r#"if [ -z "${SSM_X+x}" ]; then export SSM_X="{{ X }}"; fi"#;
        let mut job = document(json!([step("a", &[guard, r#"printf '%s|{{Old}}|%s' "$SSM_X" "{{ X }}""#])]));
        job.parameters = BTreeMap::from([("X".into(), vec!["$(echo ran)".into()])]);
        assert_eq!(ran(job.clone())[0].stdout, "$(echo ran)|b|$(echo ran)");
        job.new_agent = false;
        assert_eq!(ran(job)[0].stdout, "ran|b|ran");
    }

    #[test]
    fn the_script_knows_where_it_is_and_stops_at_no_error() {
        let script = [
            "false",
            r#"echo "$PWD $PATH ${HOME-none}""#,
            r#"echo "$AWS_SSM_INSTANCE_ID $AWS_SSM_REGION_NAME $SSM_COMMAND_ID""#,
            "echo no >&2",
        ];
        let results = ran(document(json!([step("a", &script)])));
        let wanted =
            "/usr/bin /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin none\ni-00000000000000001 eu-west-1 c\n";
        assert_eq!(results[0].stdout, wanted);
        assert_eq!((results[0].status, results[0].stderr.as_str()), (StepStatus::Success, "no\n"));
    }

    #[test]
    fn at_its_time_the_whole_group_is_killed_and_a_child_in_its_own_session_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let pipe = |name: &str| {
            let path = dir.path().join(name);
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let (inside, outside) = (pipe("inside"), pipe("outside"));
        let lines = [
            format!("trap 'echo term >>{}' TERM", mark.display()),
            format!("sleep 60 >{} &", inside.display()),
            format!("setsid sh -c 'echo alive >{}' &", outside.display()),
            "sleep 60".to_owned(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut slow = step("a", &lines);
        slow["inputs"]["timeoutSeconds"] = "1".into();
        // A pipe ends when nobody holds its other end any more.
        let group = thread::spawn(move || std::fs::read(inside));
        let began = std::time::Instant::now();
        let results = ran(document(json!([slow])));
        assert_eq!((results[0].status, results[0].code), (StepStatus::TimedOut, 137));
        assert_eq!(group.join().unwrap().unwrap(), b"");
        assert!(began.elapsed().as_secs() < 30, "the group has not been waited for, but killed");
        assert_eq!(std::fs::read_to_string(outside).unwrap(), "alive\n", "it lives on");
        assert!(!mark.exists(), "no SIGTERM comes first");
    }
}
