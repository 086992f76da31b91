//! What takes time besides [looks](super::look): hooks and runs. Each is bounded, and sends a message when it is done.

use super::{state::RunEnd, words};
use crate::{
    act::handoff::{self, Job},
    config::Settings,
    decide::exit,
    facts::NameFact,
    flow::Check,
    ports::Ports,
    progress::{Progress, RunResult},
};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc::UnboundedSender;

/// What work came to.
pub(super) enum Message {
    Looked(Box<Check>),
    /// The names lead where they led.
    Unchanged(Vec<NameFact>),
    /// Why nothing came of it.
    LookLost(String),
    Hooks(Option<(String, String)>),
    Began {
        run: String,
    },
    Progress(Box<Progress>),
    Ended(Box<RunResult>),
    Lost(String),
}

/// Hands a run off and follows it.
pub(super) async fn run(
    ports: Ports,
    settings: Settings,
    program: PathBuf,
    job: Job,
    messages: UnboundedSender<Message>,
) {
    let booted = Path::new("/run/systemd/system").is_dir();
    let message = match handoff::hand_off(&ports, &settings, &program, job, booted).await {
        Err(error) => Message::Lost(format!("it could not be begun: {error}")),
        Ok(handoff) => {
            let _ = messages.send(Message::Began { run: handoff.run_id.clone() });
            follow(handoff, &ports, &settings, &messages).await
        }
    };
    let _ = messages.send(message);
}

/// Follows a run that an earlier service handed off.
pub(super) async fn rejoin(ports: Ports, settings: Settings, run: String, messages: UnboundedSender<Message>) {
    let message = match handoff::rejoin(&settings, &run) {
        Err(error) => Message::Lost(error.to_string()),
        Ok(None) => Message::Lost(format!("nothing is left of run {run}")),
        Ok(Some(handoff)) => follow(handoff, &ports, &settings, &messages).await,
    };
    let _ = messages.send(message);
}

async fn follow(
    handoff: handoff::Handoff,
    ports: &Ports,
    settings: &Settings,
    messages: &UnboundedSender<Message>,
) -> Message {
    let tell = |progress: Progress| drop(messages.send(Message::Progress(Box::new(progress))));
    match handoff.follow(ports, settings, tell).await {
        Ok(result) => Message::Ended(Box::new(result)),
        Err(error) => Message::Lost(error.to_string()),
    }
}

/// A run's result as the states know it.
pub(super) fn end(result: &RunResult) -> RunEnd {
    let words = if !result.acted {
        words::verdict(&result.decision)
    } else if result.exit_code == exit::SETTLED {
        let away = result.outage.as_ref().and_then(|outage| outage.agent_s);
        let away = away.map(|s| format!("; it was away for {s:.2} s")).unwrap_or_default();
        format!("the agent was moved, and that is proved{away}")
    } else {
        let failed = result.outcome.iter().flat_map(|o| &o.checks).filter(|c| c.ok != Some(true));
        let failed: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
        match (result.alarms.first(), failed.as_slice()) {
            (Some(alarm), _) => format!("the agent was restarted, and is not proved to have moved: {alarm}"),
            (None, failed) => {
                format!("the agent was restarted, and is not proved to have moved: {}", failed.join(", "))
            }
        }
    };
    let RunResult { acted, exit_code, decision, .. } = result;
    RunEnd { acted: *acted, exit_code: *exit_code, decision: decision.clone(), words }
}
