//! A look at the host, made in a process of its own that ends with it.
//!
//! A look needs most of what there is of hostagent (TLS and its trusted certificates, D-Bus, the Docker client, DNS)
//! for a fraction of a second, now and then. In the service itself all of it would stay resident from the first look
//! on, the code more than the data. What a look does wrong ends with it, too: one that hangs is killed.

use crate::{
    assess,
    catalog::Requirement,
    config::Settings,
    facts::NameFact,
    flow::{self, Check},
    observe,
    ports::{Ports, resolver::Answered},
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// Every probe of a look has its own deadline; this is for what none of them foresees.
const DEADLINE: Duration = Duration::from_secs(180);
/// This very program, also after a package has put another version in its place.
const SELF: &str = "/proc/self/exe";

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub settings: Settings,
    /// When these names still lead where they did, they are all that is looked at.
    pub only: Option<Vec<NameFact>>,
}

/// What was seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    Host(Box<Check>),
    /// The names lead where they led.
    Unchanged(Vec<NameFact>),
}

/// Why nothing came of a look.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("no process could be started for it: {0}")]
    Start(io::Error),
    #[error("it did not end within {} s", DEADLINE.as_secs())]
    TooLong,
    #[error("its process could not be talked to: {0}")]
    Talk(#[from] io::Error),
    #[error("its process ended with {0}")]
    Ended(ExitStatus),
    #[error("what it told cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
}

/// Looks in another process: `hostagent look`. Dropped before its end, it is ended.
pub(super) async fn elsewhere(ask: &Ask, verbosity: u8) -> Result<Seen, LookError> {
    let mut command = Command::new(SELF);
    command.arg0("hostagent").arg("look").args((0..verbosity).map(|_| "-v"));
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().map_err(LookError::Start)?;
    let asked = serde_json::to_vec(ask)?;
    let talk = async {
        if let Some(mut input) = process.stdin.take() {
            input.write_all(&asked).await?;
        }
        let told = process.wait_with_output().await?;
        if !told.status.success() {
            return Err(LookError::Ended(told.status));
        }
        Ok(serde_json::from_slice(&told.stdout)?)
    };
    timeout(DEADLINE, talk).await.unwrap_or(Err(LookError::TooLong))
}

/// Looks in this process.
pub async fn here(ask: Ask) -> Seen {
    let Ask { settings, only } = ask;
    let mut ports = Ports::of_this_host(&settings);
    if let Some(before) = only {
        let hosts = before.iter().map(|name| (name.service, name.host.clone())).collect();
        let names = observe::look_up(&ports, hosts).await;
        if same(&before, &names) {
            return Seen::Unchanged(names);
        }
        // A name is asked for once a TTL: what it just answered stands for this look.
        ports.resolver = Arc::new(Answered::new(names, ports.resolver));
    }
    Seen::Host(Box::new(flow::check(&ports, &settings, &[Requirement::Agent], true).await))
}

fn same(before: &[NameFact], now: &[NameFact]) -> bool {
    let alike = |a: &NameFact, b: &NameFact| {
        assess::same_host(&a.host, &b.host)
            && a.answer.ips() == b.answer.ips()
            && std::mem::discriminant(&a.answer) == std::mem::discriminant(&b.answer)
    };
    before.len() == now.len() && before.iter().all(|a| now.iter().any(|b| a.service == b.service && alike(a, b)))
}
