//! What the service has done in a process of its own, which ends with it: looks, and runs that are handed off and
//! followed.
//!
//! They need most of what there is of hostagent (TLS and its trusted certificates, D-Bus, the Docker client, DNS) for a
//! moment, now and then. In the service itself all of it would stay resident from the first time on, the code more than
//! the data. What goes wrong ends with the process, too: a look that hangs is killed.

use super::{rollout::Fate, work};
use crate::{
    act::handoff::{self, Job},
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

/// Every probe of a look has its own deadline, and so has each question to SSM; this is for what none of them foresees.
const LOOK: Duration = Duration::from_secs(180);
/// A follower gives up by itself once a run takes longer than it may; and here once the follower does not.
const OVER_RUN: Duration = Duration::from_secs(120);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// When the names in `only` still lead where they did, they are all that is looked at.
    Look { settings: Settings, only: Option<Vec<NameFact>> },
    /// Hand a run off and follow it. `program` is the worker's.
    Run { settings: Settings, program: PathBuf, job: Job },
    /// Start the cluster's runbook for these endpoints, or join it: the first one, or the one `after` this execution.
    Rollout { settings: Settings, endpoints: EndpointSet, after: Option<String> },
    /// See what became of an execution of the runbook.
    AskAfter { settings: Settings, execution: String },
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
    AskedAfter(Result<Fate, String>),
    Complied(Result<(), String>),
}

/// Why it did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ErrandError {
    #[error("no process could be started for it: {0}")]
    Start(io::Error),
    #[error("it did not end within {} s", .0.as_secs())]
    TooLong(Duration),
    #[error("its process could not be talked to: {0}")]
    Talk(#[from] io::Error),
    #[error("what its process told cannot be read: {0}")]
    Told(#[from] serde_json::Error),
    #[error("its process told what it was not asked for")]
    Other,
    #[error("its process ended with {0}")]
    Ended(ExitStatus),
    #[error("its process ended without an answer")]
    Silent,
}

impl Errand {
    /// What telling this means for the errand; `None` when it is no answer to it.
    fn answer(&self, told: &Told) -> Option<Answer> {
        let more = |more: bool| Some(if more { Answer::More } else { Answer::Last });
        match (self, told) {
            (Errand::Look { .. }, Told::Looked(_)) => more(false),
            (Errand::Look { only: Some(_), .. }, Told::Unchanged(_)) => more(false),
            (Errand::Run { .. }, Told::Began { .. }) => more(true),
            (Errand::Run { .. } | Errand::Rejoin { .. }, Told::Progress(_)) => more(true),
            (Errand::Run { .. } | Errand::Rejoin { .. }, Told::Ended(_) | Told::Lost(_)) => more(false),
            (Errand::Rollout { .. }, Told::Rollout(_)) => more(false),
            (Errand::AskAfter { .. }, Told::AskedAfter(_)) => more(false),
            (Errand::Comply { .. }, Told::Complied(_)) => more(false),
            _ => None,
        }
    }

    /// The longest it may take.
    fn bound(&self) -> Duration {
        match self {
            Errand::Run { settings, .. } | Errand::Rejoin { settings, .. } => {
                Duration::from_secs(handoff::longest_run_s(settings)) + OVER_RUN
            }
            _ => LOOK,
        }
    }
}

enum Answer {
    More,
    Last,
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
///
/// `Ok` once the errand's last answer was told; what its process does after that changes nothing.
pub(super) async fn elsewhere(errand: &Errand, sender: &Sender, tell: impl FnMut(Told)) -> Result<(), ErrandError> {
    go(errand, sender.command(), errand.bound(), tell).await
}

async fn go(
    errand: &Errand,
    mut command: Command,
    bound: Duration,
    mut tell: impl FnMut(Told),
) -> Result<(), ErrandError> {
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().map_err(ErrandError::Start)?;
    let (input, output) = (process.stdin.take(), process.stdout.take());
    let asked = serde_json::to_vec(errand)?;
    let mut answered = false;
    let talk = async {
        if let Some(mut input) = input {
            input.write_all(&asked).await?;
        }
        if let Some(output) = output {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await? {
                let told: Told = serde_json::from_str(&line)?;
                match errand.answer(&told) {
                    Some(Answer::More) if !answered => {}
                    Some(Answer::Last) if !answered => answered = true,
                    _ => return Err(ErrandError::Other),
                }
                tell(told);
            }
        }
        let status = process.wait().await?;
        if status.success() { Err(ErrandError::Silent) } else { Err(ErrandError::Ended(status)) }
    };
    let ended = timeout(bound, talk).await.unwrap_or(Err(ErrandError::TooLong(bound)));
    if answered { Ok(()) } else { ended }
}

/// Does it in this process.
pub async fn here(errand: Errand, mut tell: impl FnMut(Told)) {
    match errand {
        Errand::Look { settings, only } => tell(look(&settings, only).await),
        Errand::Run { settings, program, job } => work::run(&settings, &program, job, tell).await,
        Errand::Rejoin { settings, run } => work::rejoin(&settings, &run, tell).await,
        Errand::Rollout { settings, endpoints, after } => {
            tell(Told::Rollout(work::roll_out(&settings, &endpoints, after.as_deref()).await));
        }
        Errand::AskAfter { settings, execution } => {
            let fate = work::ask_after(&settings, &execution).await;
            tell(Told::AskedAfter(fate.map_err(|missing| missing.to_string())));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of sending this script on a look.
    async fn sent(script: &str, bound: Duration) -> (Result<(), ErrandError>, usize) {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("cat >/dev/null; {script}")]);
        let errand = Errand::Look { settings: Settings::default(), only: Some(Vec::new()) };
        let mut told = 0;
        let came = go(&errand, command, bound, |_| told += 1).await;
        (came, told)
    }

    #[tokio::test]
    async fn a_look_that_brings_no_answer_is_lost_however_its_process_ends() {
        for (script, why) in [
            ("exit 0", "without an answer"),
            ("exit 3", "exit status: 3"),
            ("kill -9 $$", "signal: 9"),
            ("echo 'Segmentation fault'", "cannot be read"),
            (r#"echo '{"unchanged":[{}]}'"#, "cannot be read"),
            (r#"echo '{"began":{"run":"r"}}'"#, "not asked for"),
        ] {
            let (came, told) = sent(script, Duration::from_secs(60)).await;
            let error = came.expect_err(script).to_string();
            assert!(error.contains(why) && told == 0, "{script}: {error}");
        }
        let (came, _) = sent("exec sleep 1000", Duration::from_millis(50)).await;
        assert!(matches!(came, Err(ErrandError::TooLong(_))), "{came:?}");
    }

    #[tokio::test]
    async fn an_answer_stands_whatever_comes_after_it_and_only_the_first_counts() {
        for after in ["exit 0", "exit 1", "kill -9 $$", "echo nonsense", r#"echo '{"unchanged":[]}'"#] {
            let (came, told) = sent(&format!(r#"echo '{{"unchanged":[]}}'; {after}"#), Duration::from_secs(60)).await;
            assert!(came.is_ok() && told == 1, "{after}: {came:?}");
        }
    }
}
