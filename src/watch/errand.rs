//! What the service has done in a process of its own, which ends with it: looks, and runs that are handed off and
//! followed.
//!
//! They need most of what there is of hostagent (TLS and its trusted certificates, D-Bus, the Docker client, DNS) for a
//! moment, now and then. In the service itself all of it would stay resident from the first time on, the code more than
//! the data. What goes wrong ends with the process, too: a look that hangs is killed.

use super::work;
use crate::{
    act::handoff::Job,
    assess,
    catalog::Requirement,
    config::Settings,
    decide::EndpointSet,
    facts::NameFact,
    flow::{self, Check},
    observe,
    ports::{Ports, resolver::Answered},
    progress::{Progress, RunResult},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};

/// Every probe of a look has its own deadline; this is for what none of them foresees.
const LOOK: Duration = Duration::from_secs(180);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// When the names in `only` still lead where they did, they are all that is looked at.
    Look { settings: Settings, only: Option<Vec<NameFact>> },
    /// Hand a run off and follow it. `program` is the worker's.
    Run { settings: Settings, program: PathBuf, job: Job },
    /// Start the cluster's runbook for these endpoints, or join it.
    Rollout { settings: Settings, endpoints: EndpointSet },
    /// Tell SSM Compliance how this host stands.
    Comply { settings: Settings, compliant: bool, verdict: String, says: String },
    /// Follow a run that an earlier service handed off.
    Rejoin { settings: Settings, run: String },
}

/// What came of it: a line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Looked(Box<Check>),
    /// The names lead where they led.
    Unchanged(Vec<NameFact>),
    Began {
        run: String,
    },
    Progress(Box<Progress>),
    Ended(Box<RunResult>),
    Lost(String),
    Rollout(Result<String, String>),
    Complied(Result<(), String>),
}

/// Why it did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ErrandError {
    #[error("no process could be started for it: {0}")]
    Start(io::Error),
    #[error("it did not end within {} s", LOOK.as_secs())]
    TooLong,
    #[error("its process could not be talked to: {0}")]
    Talk(#[from] io::Error),
    #[error("what its process told cannot be read: {0}")]
    Told(#[from] serde_json::Error),
    #[error("its process ended with {0}")]
    Ended(ExitStatus),
}

/// Sends processes on errands.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    /// Held open: the hostagent of this service's version, also after a package has put another in its place.
    program: Arc<File>,
    /// Of what is logged.
    verbosity: u8,
}

impl Sender {
    pub(super) fn new(program: &Path, verbosity: u8) -> io::Result<Self> {
        Ok(Self { program: Arc::new(File::open(program)?), verbosity })
    }

    fn command(&self) -> Command {
        // Found before the file is closed on exec.
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.arg0("hostagent").arg("errand").args((0..self.verbosity).map(|_| "-v"));
        command
    }
}

/// Sends a process on the errand: `hostagent errand`. Dropped before its end, the process is ended.
pub(super) async fn elsewhere(errand: &Errand, sender: &Sender, mut tell: impl FnMut(Told)) -> Result<(), ErrandError> {
    let mut command = sender.command();
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().map_err(ErrandError::Start)?;
    let (input, output) = (process.stdin.take(), process.stdout.take());
    let asked = serde_json::to_vec(errand)?;
    let talk = async {
        if let Some(mut input) = input {
            input.write_all(&asked).await?;
        }
        if let Some(output) = output {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await? {
                tell(serde_json::from_str(&line)?);
            }
        }
        let status = process.wait().await?;
        if status.success() { Ok(()) } else { Err(ErrandError::Ended(status)) }
    };
    match errand {
        Errand::Look { .. } | Errand::Rollout { .. } | Errand::Comply { .. } => {
            timeout(LOOK, talk).await.unwrap_or(Err(ErrandError::TooLong))
        }
        // Following a run is bounded by how long it may take.
        Errand::Run { .. } | Errand::Rejoin { .. } => talk.await,
    }
}

/// Does it in this process.
pub async fn here(errand: Errand, mut tell: impl FnMut(Told)) {
    match errand {
        Errand::Look { settings, only } => tell(look(&settings, only).await),
        Errand::Run { settings, program, job } => work::run(&settings, &program, job, tell).await,
        Errand::Rejoin { settings, run } => work::rejoin(&settings, &run, tell).await,
        Errand::Rollout { settings, endpoints } => {
            tell(Told::Rollout(work::roll_out(&settings, &endpoints).await.map_err(|missing| missing.to_string())));
        }
        Errand::Comply { settings, compliant, verdict, says } => {
            let done = work::comply(&settings, compliant, verdict, says).await;
            tell(Told::Complied(done.map_err(|missing| missing.to_string())));
        }
    }
}

async fn look(settings: &Settings, only: Option<Vec<NameFact>>) -> Told {
    let mut ports = Ports::of_this_host(settings);
    if let Some(before) = only {
        let hosts = before.iter().map(|name| (name.service, name.host.clone())).collect();
        let names = observe::look_up(&ports, hosts).await;
        if same(&before, &names) {
            return Told::Unchanged(names);
        }
        // A name is asked for once a TTL: what it just answered stands for this look.
        ports.resolver = Arc::new(Answered::new(names, ports.resolver));
    }
    Told::Looked(Box::new(flow::check(&ports, settings, &[Requirement::Agent], true).await))
}

fn same(before: &[NameFact], now: &[NameFact]) -> bool {
    let alike = |a: &NameFact, b: &NameFact| {
        assess::same_host(&a.host, &b.host)
            && a.answer.ips() == b.answer.ips()
            && std::mem::discriminant(&a.answer) == std::mem::discriminant(&b.answer)
    };
    before.len() == now.len() && before.iter().all(|a| now.iter().any(|b| a.service == b.service && alike(a, b)))
}
