//! aws:executeScript: the script really runs, in a process of its own, in simulated time, and sees this cloud and no other.

use crate::cloud::Shared;
use serde_json::{Value, json};
use std::{process::Stdio, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

/// Bytes of what a script may return.
const OUTPUT: usize = 100 * 1_024;
/// Bytes of what is kept of its standard error.
const STDERR: u64 = 64 * 1_024;

/// Runs a handler as Automation does: the payload in, what it returns out. Signatures are of real time, all else of simulated.
const DRIVER: &str = r#"
import json, os, sys, threading, time, traceback
out = os.dup(1)
os.dup2(2, 1)
job = json.load(sys.stdin)
speed, began, real_time, real_sleep = job["speed"], job["began"], time.time, time.sleep
time.time = lambda: began + (real_time() - began) * speed
time.monotonic = time.perf_counter = time.time
time.sleep = lambda seconds: real_sleep(seconds / speed)
# What waits with a time-out waits in it: botocore between calls that were throttled.
real_wait = threading.Condition.wait
threading.Condition.wait = lambda self, timeout=None: real_wait(self, timeout if timeout is None else timeout / speed)
names = {"__name__": "script"}
try:
    exec(compile(job["script"], "<script>", "exec"), names)
    answer = {"payload": names[job["handler"]](job["payload"], {})}
    text = json.dumps(answer)
except BaseException:
    text = json.dumps({"failure": traceback.format_exc()})
with os.fdopen(out, "w") as pipe:
    pipe.write(text)
"#;

/// The process group of a script; gone with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let group = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            // It may have ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Runs `script`'s `handler` with `payload`. Dropped, it is killed. Without a role it has no credentials, whoever began
/// the execution.
///
/// # Errors
///
/// Why the step failed, in words.
pub async fn run(
    shared: &Arc<Shared>,
    script: &str,
    handler: &str,
    payload: &Value,
    role: Option<&str>,
) -> Result<Value, String> {
    let python = shared.options.python.as_ref().ok_or("the test cloud was started without a Python for scripts")?;
    let home = tempfile::tempdir().map_err(|error| format!("make a directory: {error}"))?;
    let mut command = Command::new(python);
    let mut environment = shared.service_environment();
    if role.is_none() {
        const CREDENTIALS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        environment.retain(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
    }
    command.args(["-I", "-c", DRIVER]).env_clear().envs(environment).current_dir(home.path());
    command.env("PATH", "/usr/bin:/bin").env("HOME", home.path()).env("LANG", "C.UTF-8");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut process = Process(command.spawn().map_err(|error| format!("start {}: {error}", python.display()))?);
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (process.0.stdin.take(), process.0.stdout.take(), process.0.stderr.take())
    else {
        return Err("the script's process has no pipes".into());
    };
    let job = json!({
        "script": script, "handler": handler, "payload": payload,
        "speed": shared.clock.speed, "began": shared.clock.unix_s(0.0),
    });
    let (mut said, mut noise) = (Vec::new(), Vec::new());
    let write = async {
        stdin.write_all(job.to_string().as_bytes()).await?;
        drop(stdin);
        Ok::<_, std::io::Error>(())
    };
    let read = async {
        let mut limited = stdout.take(2 * OUTPUT as u64);
        limited.read_to_end(&mut said).await
    };
    // Read to its end, so that a talkative script is not held up.
    let listen = async {
        let mut stderr = stderr;
        (&mut stderr).take(STDERR).read_to_end(&mut noise).await?;
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await
    };
    let (written, read, _) = tokio::join!(write, read, listen);
    read.map_err(|error| format!("read from the script: {error}"))?;
    let ended = process.0.wait().await.map_err(|error| format!("wait for the script: {error}"))?;
    let noise = String::from_utf8_lossy(&noise);
    let answer: Value = serde_json::from_slice(&said).map_err(|_| {
        let lost = written.err().map(|error| format!("; {error}")).unwrap_or_default();
        format!("the script ended with {ended} and no answer{lost}: {noise}")
    })?;
    if let Some(failure) = answer["failure"].as_str() {
        return Err(failure.to_owned());
    }
    if said.len() > OUTPUT {
        return Err(format!("The output of the script is larger than {OUTPUT} bytes"));
    }
    Ok(answer["payload"].clone())
}
