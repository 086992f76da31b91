//! One step of a document: a script in a file, run by `sh` in a process group of its own.

use super::{Job, StepResult, StepStatus};
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Bytes of the outputs that are kept.
const STDOUT: usize = 24_000;
const STDERR: usize = 8_000;
/// Seconds a step may take that says nothing of it.
const TIMEOUT_S: u64 = 3_600;
/// The exit code by which a script asks for a reboot.
const REBOOT: i32 = 194;

/// Kills what runs now.
#[derive(Debug, Clone, Default)]
pub struct Killer(Arc<Mutex<Option<Pid>>>);

impl Killer {
    /// The whole process group of the running script, at once.
    pub fn kill(&self) {
        if let Some(group) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // Gone already is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn set(&self, group: Option<Pid>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = group;
    }
}

pub(super) fn run(
    job: &Job,
    step: &Value,
    values: &BTreeMap<String, Vec<String>>,
    killer: &Killer,
) -> anyhow::Result<StepResult> {
    let name = step["name"].as_str().unwrap_or_default();
    let inputs = &step["inputs"];
    let text = match &inputs["runCommand"] {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let (text, variables) = interpolate(job, &text, values);
    let timeout = inputs["timeoutSeconds"].as_str().map_or_else(|| inputs["timeoutSeconds"].to_string(), str::to_owned);
    let timeout = interpolate(&Job { new_agent: false, ..job.clone() }, &timeout, values).0;
    let timeout = Duration::from_secs(timeout.parse().ok().filter(|seconds| *seconds > 0).unwrap_or(TIMEOUT_S));

    let dir = job.dir.join(&job.command).join(name);
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let path = dir.join("_script.sh");
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    // Files, not pipes: a child that outlives the script would keep a pipe open.
    let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
    let directory = inputs["workingDirectory"].as_str().filter(|directory| !directory.is_empty()).unwrap_or("/usr/bin");
    let mut command = Command::new("sh");
    command.arg("-c").arg(&path).env_clear().envs(variables).current_dir(directory).process_group(0);
    // Nothing of the agent's own environment but what systemd gave it: there is no HOME.
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin").env("LANG", "en_US.UTF-8");
    command.env("AWS_SSM_PLATFORM_NAME", "Amazon Linux").env("AWS_SSM_PLATFORM_VERSION", "2023");
    command.env("AWS_SSM_INSTANCE_ID", &job.instance);
    command.env("AWS_SSM_REGION_NAME", &job.region).env("SSM_COMMAND_ID", &job.command);
    command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);

    let began = Instant::now();
    let mut child = command.spawn().context("run sh")?;
    killer.set(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
    let (ended, waited) = std::sync::mpsc::channel();
    let waiter = thread::spawn(move || {
        let status = child.wait();
        // Nobody waits any more when its time was over.
        let _ = ended.send(());
        status
    });
    let in_time = waited.recv_timeout(timeout).is_ok();
    if !in_time {
        killer.kill();
    }
    let status = waiter.join().map_err(|_| anyhow::anyhow!("the wait for the script failed"))??;
    killer.set(None);
    let mut result = StepResult {
        name: name.to_owned(),
        status: StepStatus::Success,
        code: code(status),
        stdout: head(&stdout, STDOUT)?,
        stderr: head(&stderr, STDERR)?,
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    if !in_time {
        result.status = StepStatus::TimedOut;
        result.stderr.push_str("failed to run commands: signal: killed");
    } else if result.code == REBOOT {
        result.status = StepStatus::Failed;
        result.stderr.push_str("exit status 194 asks for a reboot, and hosts of the lab are not rebooted");
    } else if result.code != 0 {
        result.status = StepStatus::Failed;
        result.stderr.push_str(&format!("failed to run commands: exit status {}", result.code));
    }
    Ok(result)
}

/// `text` with the values in it, and the variables that values are in instead.
fn interpolate(job: &Job, text: &str, values: &BTreeMap<String, Vec<String>>) -> (String, BTreeMap<String, String>) {
    let (mut text, mut variables) = (text.to_owned(), BTreeMap::new());
    for (name, values) in values {
        let declared = &job.content["parameters"][name];
        let list = declared["type"].as_str().is_some_and(|kind| kind.ends_with("List"));
        let value = match values.first() {
            // A list is pasted as JSON.
            _ if list => serde_json::to_string(values).unwrap_or_default(),
            Some(value) => value.clone(),
            None => String::new(),
        };
        let replacement = if job.new_agent && declared["interpolationType"] == "ENV_VAR" {
            variables.insert(format!("SSM_{name}"), value);
            format!("${{SSM_{name}}}")
        } else {
            value
        };
        let Ok(reference) = regex::Regex::new(&format!(r"\{{\{{\s*{name}\s*\}}\}}")) else { continue };
        text = reference.replace_all(&text, regex::NoExpand(&replacement)).into_owned();
    }
    (text, variables)
}

/// The exit code; that of a shell for a signal.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn head(path: &Path, most: usize) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
