//! Runs: handed off and followed, and what they came to.

use super::{errand::Told, state::RunEnd, words};
use crate::{
    act::handoff::{self, Job},
    config::Settings,
    decide::exit,
    ports::{Ports, systemd},
    progress::{Progress, RunResult},
};
use std::path::Path;

/// Hands a run off and follows it.
pub(super) async fn run(settings: &Settings, program: &Path, job: Job, mut tell: impl FnMut(Told)) {
    let ports = Ports::of_this_host(settings);
    let booted = match systemd::booted() {
        Ok(booted) => booted,
        Err(missing) => return tell(Told::Lost(format!("it could not be begun: {missing}"))),
    };
    match handoff::hand_off(&ports, settings, program, job, booted).await {
        Err(error) => tell(Told::Lost(format!("it could not be begun: {error}"))),
        Ok(handoff) => {
            tell(Told::Began { run: handoff.run_id.clone() });
            follow(handoff, &ports, settings, tell).await;
        }
    }
}

/// Follows a run that an earlier service handed off.
pub(super) async fn rejoin(settings: &Settings, run: &str, mut tell: impl FnMut(Told)) {
    match handoff::rejoin(settings, run) {
        Err(error) => tell(Told::Lost(error.to_string())),
        Ok(None) => tell(Told::Lost(format!("nothing is left of run {run}"))),
        Ok(Some(handoff)) => follow(handoff, &Ports::of_this_host(settings), settings, tell).await,
    }
}

async fn follow(handoff: handoff::Handoff, ports: &Ports, settings: &Settings, mut tell: impl FnMut(Told)) {
    let followed = handoff.follow(ports, settings, |progress: Progress| tell(Told::Progress(Box::new(progress)))).await;
    tell(match followed {
        Ok(result) => Told::Ended(Box::new(result)),
        Err(error) => Told::Lost(error.to_string()),
    });
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
