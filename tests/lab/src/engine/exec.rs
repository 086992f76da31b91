//! Commands run in a container: made, started, looked at.

use super::{
    Shared,
    container::{Container, Status, exit_code},
};
use crate::clock;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::Command,
};

/// The commands made so far, by ID.
#[derive(Default)]
pub struct Execs(Mutex<BTreeMap<String, Exec>>);

#[derive(Clone)]
pub struct Exec {
    pub id: String,
    container: Arc<Container>,
    command: Vec<String>,
    env: Vec<String>,
    stdout: bool,
    stderr: bool,
    started: bool,
    running: bool,
    pid: u32,
    exit_code: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub struct Create {
    pub cmd: Option<Vec<String>>,
    pub attach_stdout: Option<bool>,
    pub attach_stderr: Option<bool>,
    pub env: Option<Vec<String>>,
    pub tty: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Start {
    pub detach: Option<bool>,
}

/// Status and message of an error answer.
pub type Refusal = (u16, String);

impl Execs {
    fn change<T>(&self, id: &str, change: impl FnOnce(&mut Exec) -> T) -> Result<T, Refusal> {
        let mut execs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = || (404, format!("No such exec instance: {id}"));
        execs.get_mut(id).map(change).ok_or_else(missing)
    }

    pub fn create(&self, container: &Arc<Container>, create: Create) -> Result<Value, Refusal> {
        let command = create.cmd.unwrap_or_default();
        if command.is_empty() {
            return Err((400, "No exec command specified".into()));
        }
        if container.view().status != Status::Running {
            return Err((409, format!("Container {} is not running", container.id)));
        }
        if create.tty == Some(true) {
            return Err((501, "the lab's engine has no terminals".into()));
        }
        let exec = Exec {
            id: clock::random_hex(64),
            container: container.clone(),
            command,
            env: create.env.unwrap_or_default(),
            stdout: create.attach_stdout.unwrap_or(false),
            stderr: create.attach_stderr.unwrap_or(false),
            started: false,
            running: false,
            pid: 0,
            exit_code: None,
        };
        let answer = json!({ "Id": exec.id });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(exec.id.clone(), exec);
        Ok(answer)
    }

    pub fn inspect(&self, id: &str) -> Result<Value, Refusal> {
        let exec = self.change(id, |exec| exec.clone())?;
        Ok(json!({
            "ID": exec.id,
            "Running": exec.running,
            "ExitCode": exec.exit_code,
            "ProcessConfig": {
                "tty": false,
                "entrypoint": exec.command.first(),
                "arguments": exec.command.get(1..),
                "privileged": false,
            },
            "OpenStdin": false,
            "OpenStderr": exec.stderr,
            "OpenStdout": exec.stdout,
            "CanRemove": false,
            "ContainerID": exec.container.id,
            "DetachKeys": "",
            "Pid": exec.pid,
        }))
    }

    /// Takes the command for starting; it can be taken once.
    pub fn take(&self, id: &str) -> Result<Exec, Refusal> {
        let exec = self.change(id, |exec| (std::mem::replace(&mut exec.started, true), exec.clone()))?;
        match exec {
            (true, exec) => Err((409, format!("Error: Exec command {} is already running", exec.id))),
            (false, exec) if exec.container.view().status != Status::Running => {
                Err((409, format!("Container {} is not running", exec.container.id)))
            }
            (false, exec) => Ok(exec),
        }
    }
}

/// Runs the command and writes its output in the engine's frames: stream, three zeros, length, bytes.
pub async fn run(shared: Arc<Shared>, exec: Exec, mut out: impl AsyncWrite + Unpin) {
    let code = output(&shared, &exec, &mut out).await.unwrap_or(255);
    let _ = shared.execs.change(&exec.id, |exec| {
        exec.running = false;
        exec.exit_code = Some(code);
    });
    // The client sees the end of the stream only once the code can be asked for.
    let _ = out.shutdown().await;
}

async fn output(shared: &Shared, exec: &Exec, out: &mut (impl AsyncWrite + Unpin)) -> anyhow::Result<i32> {
    let spec = &exec.container.spec;
    let program = exec.command.first().map(String::as_str).unwrap_or_default();
    if program != spec.path {
        let words = format!(
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \"{program}\": \
             stat {program}: no such file or directory: unknown\r\n"
        );
        frame(out, 1, words.as_bytes()).await?;
        return Ok(127);
    }
    let own = exec.env.iter().filter_map(|pair| pair.split_once('='));
    let mut child = Command::new(&spec.program)
        .args(exec.command.iter().skip(1))
        .env_clear()
        .envs(&spec.env)
        .envs(own)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().unwrap_or(0);
    let _ = shared.execs.change(&exec.id, |exec| {
        exec.running = true;
        exec.pid = pid;
    });
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut first, mut second) = ([0; 8192], [0; 8192]);
    while stdout.is_some() || stderr.is_some() {
        let (stream, wanted, length, buffer) = tokio::select! {
            length = read(&mut stdout, &mut first) => (1, exec.stdout, length, &first),
            length = read(&mut stderr, &mut second) => (2, exec.stderr, length, &second),
        };
        if length == 0 {
            if stream == 1 { stdout = None } else { stderr = None }
        } else if wanted {
            frame(out, stream, &buffer[..length]).await?;
        }
    }
    Ok(exit_code(child.wait().await?))
}

/// Bytes read; 0 at the end, and for ever pending once there is nothing to read from.
async fn read(from: &mut Option<impl tokio::io::AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match from {
        Some(from) => from.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn frame(out: &mut (impl AsyncWrite + Unpin), stream: u8, bytes: &[u8]) -> std::io::Result<()> {
    let mut framed = vec![stream, 0, 0, 0];
    framed.extend((bytes.len() as u32).to_be_bytes());
    framed.extend(bytes);
    out.write_all(&framed).await
}
