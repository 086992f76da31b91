//! One container: a process group, its state, its restart policy.

use super::{Spec, events::Events};
use crate::clock;
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    fs::OpenOptions,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    sync::{Mutex, watch},
    time::timeout,
};

/// `FinishedAt` of a container that has not.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// The first pause of the restart policy; doubled each time.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    /// Between two runs of the restart policy.
    Restarting,
    Exited,
}

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
        }
    }
}

/// A container as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub id: String,
    pub name: String,
    pub status: Status,
    /// 0 when it does not run.
    pub pid: u32,
    pub exit_code: i32,
    pub started_at: String,
    pub finished_at: String,
    pub restart_count: u32,
    /// How often its process has ended.
    pub ends: u64,
    /// A stop or a kill was asked for: the restart policy does not apply to the next end.
    stopping: bool,
}

pub struct Container {
    pub spec: Spec,
    /// 64 hexadecimal digits.
    pub id: String,
    pub created_nanos: u128,
    events: Events,
    view: watch::Sender<View>,
    /// Held while it is being started, stopped or restarted.
    operation: Mutex<()>,
}

impl Container {
    pub fn new(spec: Spec, events: Events) -> Arc<Self> {
        let id = clock::random_hex(64);
        let view = View {
            id: id.clone(),
            name: spec.name.clone(),
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            started_at: NEVER.into(),
            finished_at: NEVER.into(),
            restart_count: 0,
            ends: 0,
            stopping: false,
        };
        let created_nanos = clock::unix_nanos();
        Arc::new(Self { spec, id, created_nanos, events, view: watch::Sender::new(view), operation: Mutex::default() })
    }

    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    pub async fn wait_for(&self, wanted: impl FnMut(&View) -> bool) -> View {
        let mut views = self.view.subscribe();
        let mut wanted = wanted;
        // The sender is a field of this container, so it cannot go away meanwhile.
        let seen = views.wait_for(|view| wanted(view)).await.map(|view| view.clone());
        seen.unwrap_or_else(|_| self.view())
    }

    /// False if it runs already.
    ///
    /// # Errors
    ///
    /// When its program cannot be started.
    pub async fn start(self: &Arc<Self>) -> anyhow::Result<bool> {
        let _held = self.operation.lock().await;
        if self.view().status == Status::Running {
            return Ok(false);
        }
        self.run(0)?;
        Ok(true)
    }

    /// SIGTERM, then SIGKILL after `patience`; for ever patient without. False if it does not run.
    pub async fn stop(&self, patience: Option<Duration>) -> bool {
        let _held = self.operation.lock().await;
        self.stop_held(patience).await
    }

    /// Stop, if it runs, and start, under the same ID.
    ///
    /// # Errors
    ///
    /// When its program cannot be started.
    pub async fn restart(self: &Arc<Self>, patience: Option<Duration>) -> anyhow::Result<()> {
        let _held = self.operation.lock().await;
        self.stop_held(patience).await;
        self.run(0)?;
        self.events.tell(self, "restart", &[]);
        Ok(())
    }

    /// Sends a signal to its first process. False if it does not run.
    pub async fn kill(&self, signal: Signal) -> bool {
        let pid = self.view().pid;
        let Some(process) = Pid::from_raw(pid as i32).filter(|_| pid != 0) else { return false };
        let ending = signal == Signal::KILL || signal == Signal::TERM;
        if ending {
            self.view.send_modify(|view| view.stopping = true);
        }
        self.events.tell(self, "kill", &[("signal", signal.as_raw().to_string())]);
        if signal == Signal::KILL {
            self.kill_at_once();
            self.wait_for(|view| view.pid != pid).await;
        } else {
            // Ended in this very moment: then the signal has nobody to reach.
            let _ = kill_process(process, signal);
        }
        true
    }

    /// SIGKILL to its whole process group, whatever state it is in.
    pub fn kill_at_once(&self) {
        self.view.send_modify(|view| view.stopping = true);
        if let Some(group) = Pid::from_raw(self.view().pid as i32).filter(|_| self.view().pid != 0) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    async fn stop_held(&self, patience: Option<Duration>) -> bool {
        let before = self.view();
        let running = match before.status {
            Status::Running => true,
            Status::Restarting => false,
            Status::Created | Status::Exited => return false,
        };
        self.view.send_modify(|view| {
            view.stopping = true;
            if !running {
                view.status = Status::Exited;
            }
        });
        if running {
            self.kill(Signal::TERM).await;
            let ended = self.wait_for(|view| view.ends > before.ends);
            match patience {
                Some(patience) if timeout(patience, ended).await.is_err() => {
                    self.kill(Signal::KILL).await;
                    self.wait_for(|view| view.ends > before.ends).await;
                }
                Some(_) => {}
                None => {
                    self.wait_for(|view| view.ends > before.ends).await;
                }
            }
        }
        self.events.tell(self, "stop", &[]);
        true
    }

    fn run(self: &Arc<Self>, restart_count: u32) -> anyhow::Result<()> {
        let child = self.spawn().with_context(|| format!("start {}", self.spec.program.display()))?;
        let pid = child.id().unwrap_or(0);
        self.view.send_modify(|view| {
            view.status = Status::Running;
            view.pid = pid;
            view.exit_code = 0;
            view.started_at = clock::rfc3339_nanos(clock::unix_nanos());
            view.restart_count = restart_count;
            view.stopping = false;
        });
        self.events.tell(self, "start", &[]);
        tokio::spawn(self.clone().watch_over(child, pid));
        Ok(())
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let spec = &self.spec;
        let mut command = if spec.init {
            let mut command = Command::new(std::env::current_exe().context("find this program")?);
            command.arg("init").arg(&spec.program);
            command
        } else {
            Command::new(&spec.program)
        };
        command.args(&spec.args).env_clear().envs(&spec.env).env(super::init::WITH_PARENT, "1");
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        match &spec.log {
            Some(path) => {
                let log = OpenOptions::new().create(true).append(true).open(path);
                let log = log.with_context(|| format!("open {}", path.display()))?;
                command.stdout(log.try_clone()?).stderr(log);
            }
            None => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            }
        }
        Ok(command.spawn()?)
    }

    /// Waits for the end of the process, and starts it again if the policy says so.
    async fn watch_over(self: Arc<Self>, mut child: Child, pid: u32) {
        let code = child.wait().await.map_or(255, exit_code);
        // What the first process leaves behind ends with it, as in a PID namespace.
        if let Some(group) = Pid::from_raw(pid as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let mut again = None;
        self.view.send_modify(|view| {
            let retries =
                self.spec.retries.filter(|retries| code != 0 && !view.stopping && view.restart_count < *retries);
            again = retries.map(|_| view.restart_count + 1);
            view.status = if again.is_some() { Status::Restarting } else { Status::Exited };
            view.pid = 0;
            view.exit_code = code;
            view.finished_at = clock::rfc3339_nanos(clock::unix_nanos());
            view.ends += 1;
        });
        self.events.tell(&self, "die", &[("exitCode", code.to_string())]);
        let Some(count) = again else { return };
        tokio::time::sleep((BACK_OFF * 2_u32.saturating_pow(count - 1)).min(BACK_OFF_MAX)).await;
        let _held = self.operation.lock().await;
        // Somebody may have stopped or started it meanwhile.
        if self.view().status == Status::Restarting && self.run(count).is_err() {
            self.view.send_modify(|view| view.status = Status::Exited);
        }
    }
}

/// As the engine writes it: 128 and the signal for a process that a signal has ended.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}
