//! A restart runs apart from whoever asked for it: in a transient systemd unit, or in a session of its own where
//! there is no systemd. The caller only follows, so that it may be killed (Run Command kills the whole process
//! group at its time-out) without leaving the restart half-way.

use crate::{
    config::Settings,
    facts::{Missing, Systemd},
    flow::bounds::longest_run_s,
    ports::{Ports, TransientUnit, Undone, store},
    progress::{Progress, RunResult},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

/// Between two looks at the worker's files.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A worker in a session of its own that dies is started again this many times; systemd does the same for a unit.
const RESPAWNS: u32 = 4;
/// Run directories kept for reading afterwards.
const KEPT_RUNS: usize = 20;
/// What a worker needs of the caller's environment. Nothing secret: a unit's environment can be read by anyone.
const PASSED_ON: &[&str] = &[
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_ECS",
    "AWS_ENDPOINT_URL_SSM",
    "RUST_BACKTRACE",
];

/// Why a run could not be handed off or followed.
#[derive(Debug, thiserror::Error)]
pub enum HandoffError {
    #[error("cannot make the run directory {}: {source} (run as root, or set paths.runtime_dir)", path.display())]
    RunDir { path: PathBuf, source: io::Error },
    #[error("cannot start the worker {}: {source}", path.display())]
    Spawn { path: PathBuf, source: io::Error },
    #[error("cannot start the worker: {0}")]
    Unit(Missing),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error("the worker ended without a result; {look}")]
    Died { look: String },
    #[error("the worker is still at work after {0} s; follow it with: {1}")]
    TooLong(u64, String),
}

/// What the worker is to do, as the caller validated it: `request.json` in the run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub run_id: String,
    pub settings: Settings,
    pub allow_repair: bool,
    /// Finish an interrupted run, and begin no other.
    #[serde(default)]
    pub recover_only: bool,
    /// See [`Job::own`].
    #[serde(default)]
    pub own: bool,
    pub unit: Option<String>,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub allow_repair: bool,
    /// Finish an interrupted run, and begin no other.
    pub recover_only: bool,
    /// The service's own: its pause file and its window hold it up to the last moment.
    #[serde(default)]
    pub own: bool,
}

/// A run that was handed off.
pub struct Handoff {
    pub run_id: String,
    pub dir: PathBuf,
    /// The transient unit, where there is one.
    pub unit: Option<String>,
    child: Option<Child>,
    command: Vec<String>,
}

/// Whether the worker can be a unit, where `booted` says that systemd is the init system: only root may ask the system's
/// manager for one.
pub fn as_unit(booted: bool) -> bool {
    booted && rustix::process::geteuid().is_root()
}

/// Starts a worker: `program worker --run-dir DIR`. As a transient unit, or else in a session of its own.
pub async fn hand_off(
    ports: &Ports,
    settings: &Settings,
    program: &Path,
    job: Job,
    as_unit: bool,
) -> Result<Handoff, HandoffError> {
    let run_id = store::new_id()?;
    let runs = settings.paths.runtime_dir.join("runs");
    prune(&runs, Duration::from_secs(longest_run_s(settings)));
    let dir = runs.join(&run_id);
    fs::create_dir_all(&dir).map_err(|source| HandoffError::RunDir { path: dir.clone(), source })?;
    let command: Vec<String> =
        ["worker", "--run-dir"].into_iter().map(str::to_owned).chain([dir.display().to_string()]).collect();
    let command = [vec![program.display().to_string()], command].concat();
    let unit = as_unit.then(|| format!("hostagent-restart-{run_id}.service"));
    let Job { allow_repair, recover_only, own } = job;
    let (id, asked) = (run_id.clone(), settings.clone());
    let request = Request { run_id: id, settings: asked, allow_repair, recover_only, own, unit: unit.clone() };
    store::write(&dir.join("request.json"), &request)?;
    let mut handoff = Handoff { run_id, dir, unit, child: None, command };
    match &handoff.unit {
        Some(name) => {
            let unit = TransientUnit {
                name: name.clone(),
                description: "hostagent: restart of the Amazon ECS agent".to_owned(),
                command: handoff.command.clone(),
                environment: PASSED_ON
                    .iter()
                    .filter_map(|key| Some(((*key).to_owned(), std::env::var(key).ok()?)))
                    .collect(),
                success_codes: crate::decide::exit::ANSWERS.iter().map(|code| i32::from(*code)).collect(),
                runtime_max_s: longest_run_s(settings),
            };
            match ports.init.start_transient(&unit).await {
                Ok(()) => {}
                // It may well run: whoever follows it finds out.
                Err(Undone::Unclear(missing)) => tracing::warn!("following a worker that may not run: {missing}"),
                Err(Undone::NotTaken(missing)) => return Err(HandoffError::Unit(missing)),
            }
        }
        None => handoff.spawn()?,
    }
    Ok(handoff)
}

/// A run that was handed off by a process that is gone, to be followed again; `None` when nothing is left of it.
pub fn rejoin(settings: &Settings, run_id: &str) -> Result<Option<Handoff>, HandoffError> {
    let dir = settings.paths.runtime_dir.join("runs").join(run_id);
    let Some(request) = store::read::<Request>(&dir.join("request.json"))? else { return Ok(None) };
    Ok(Some(Handoff { run_id: request.run_id, dir, unit: request.unit, child: None, command: Vec::new() }))
}

impl Handoff {
    /// The worker leaves our session by itself, before it touches anything.
    fn spawn(&mut self) -> Result<(), HandoffError> {
        let path = self.dir.join("worker.log");
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|source| HandoffError::RunDir { path, source })?;
        let program = PathBuf::from(&self.command[0]);
        let mut command = Command::new(&program);
        command.args(&self.command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().map_err(|source| HandoffError::Spawn { path: program, source })?);
        Ok(())
    }

    /// Follows the run to its end, telling each step once.
    pub async fn follow(
        mut self,
        ports: &Ports,
        settings: &Settings,
        mut tell: impl FnMut(Progress),
    ) -> Result<RunResult, HandoffError> {
        let mut lines = Tail::new(self.dir.join("progress.jsonl"));
        let result = self.dir.join("result.json");
        let bound = longest_run_s(settings) + 60;
        let began = Instant::now();
        let (mut respawns, mut next_look) = (0, Instant::now() + Duration::from_secs(2));
        loop {
            // The result is looked for first: what was told before it is then complete.
            let done = store::read::<RunResult>(&result)?;
            lines.read(&mut tell);
            if let Some(done) = done {
                return Ok(done);
            }
            if began.elapsed().as_secs() > bound {
                return Err(HandoffError::TooLong(bound, self.look()));
            }
            if let Some(child) = &mut self.child {
                if matches!(child.try_wait(), Ok(Some(_))) && !result.exists() {
                    if respawns == RESPAWNS {
                        return Err(HandoffError::Died { look: self.look() });
                    }
                    respawns += 1;
                    self.spawn()?;
                }
            } else if Instant::now() >= next_look {
                next_look = Instant::now() + Duration::from_secs(2);
                if self.worker_is_gone(ports, settings).await && !result.exists() {
                    return Err(HandoffError::Died { look: self.look() });
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether systemd has given the worker up. When it cannot be asked, the worker may well be at work.
    async fn worker_is_gone(&self, ports: &Ports, settings: &Settings) -> bool {
        let Some(name) = &self.unit else {
            // A worker without a unit, and not our child: it holds the lock as long as it lives.
            return matches!(store::Lock::take(&crate::flow::Files(settings).lock()), Ok(Some(_)));
        };
        match ports.init.units(std::slice::from_ref(name), &[]).await {
            Ok(Systemd::Booted { units }) => units
                .iter()
                .find(|u| &u.name == name)
                .is_none_or(|u| matches!(u.active_state.as_str(), "inactive" | "failed")),
            _ => false,
        }
    }

    /// The command that shows what the worker did.
    pub fn look(&self) -> String {
        match &self.unit {
            Some(unit) => format!("journalctl -u {unit}"),
            None => format!("cat {}", self.dir.join("worker.log").display()),
        }
    }
}

/// Reads whole lines as they are added to a file.
struct Tail {
    path: PathBuf,
    offset: u64,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    fn read(&mut self, tell: &mut impl FnMut(Progress)) {
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut text = String::new();
        if file.seek(SeekFrom::Start(self.offset)).is_err() || file.read_to_string(&mut text).is_err() {
            return;
        }
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.offset += whole as u64;
        for line in text[..whole].lines() {
            // A line that a killed worker left half-written is passed over.
            if let Ok(progress) = serde_json::from_str(line) {
                tell(progress);
            }
        }
    }
}

/// Removes all but the newest run directories. What cannot be removed stays, and so does a run that may still be at work:
/// one without a result that is not older than twice the longest a run can take.
fn prune(runs: &Path, longest_run: Duration) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    let over = |path: &Path, began: SystemTime| {
        // A clock that was set back makes it young.
        let age = began.elapsed().unwrap_or_default();
        path.join("result.json").exists() || age > longest_run * 2
    };
    let mut dirs: Vec<_> = entries
        .flatten()
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .filter(|(began, path)| over(path, *began))
        .collect();
    dirs.sort();
    dirs.reverse();
    for (_, old) in dirs.into_iter().skip(KEPT_RUNS) {
        let _ = fs::remove_dir_all(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_may_be_at_work_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (hour, now) = (Duration::from_secs(3_600), SystemTime::now());
        let run = |name: &str, age: Duration, result: bool| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            if result {
                fs::write(path.join("result.json"), "{}").unwrap();
            }
            File::open(&path).unwrap().set_modified(now - age).unwrap();
        };
        for n in 0..30_u32 {
            run(&format!("done-{n:02}"), Duration::from_secs(60) * n, true);
        }
        // Older than all of them, and with clocks that were set.
        run("live", hour - Duration::from_secs(10), false);
        run("dead", 3 * hour, false);
        run("from-the-future", Duration::ZERO, false);
        File::open(dir.path().join("from-the-future")).unwrap().set_modified(now + hour).unwrap();
        prune(dir.path(), hour);
        let mut left: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut wanted: Vec<String> = (0..20).map(|n| format!("done-{n:02}")).collect();
        wanted.extend(["from-the-future".to_owned(), "live".to_owned()]);
        assert_eq!(left, wanted);
    }
}
