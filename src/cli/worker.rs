//! The hidden `worker`: the process that carries a restart out, started by `restart` in a unit of its own.

use super::args::WorkerArgs;
use crate::{
    act::handoff::Request,
    decide::Decision,
    events,
    flow::{self, Run},
    ports::{Ports, store},
    progress::{Event, RunResult},
};
use anyhow::{Context, Result};

/// Runs what the request in the run directory asks for. Its exit code is the run's.
pub async fn worker(args: &WorkerArgs) -> Result<u8> {
    // Without systemd we were started as a plain child: leave the caller's session, so that what kills the caller's
    // process group does not kill us. In a unit of our own we lead a session already, and this fails harmlessly.
    let _ = rustix::process::setsid();
    let request = args.run_dir.join("request.json");
    let Request { run_id, settings, allow_repair, recover_only, own, unit } =
        store::read(&request)?.with_context(|| format!("{} is not there; run hostagent restart", request.display()))?;
    let result = args.run_dir.join("result.json");
    // Started again after the result was written: there is nothing left to do.
    if let Some(done) = store::read::<RunResult>(&result)? {
        return Ok(done.exit_code);
    }
    let ports = Ports::of_this_host(&settings);
    let run = Run {
        ports: &ports,
        settings: &settings,
        run_id,
        dir: args.run_dir.clone(),
        told: None,
        allow_repair,
        recover_only,
        own,
        dry_run: false,
    };
    run.tell(Event::Started { run_id: run.run_id.clone(), unit });
    let done = flow::restart(&run).await;
    log(&done);
    store::write(&result, &done)?;
    Ok(done.exit_code)
}

fn log(done: &RunResult) {
    for alarm in &done.alarms {
        tracing::error!(run = %done.run_id, "{alarm}");
    }
    if !done.acted {
        let known = match &done.decision {
            Decision::Refuse { .. } => Some(events::REFUSED),
            Decision::Unknown { .. } => Some(events::BLOCKED),
            _ => None,
        };
        if let Some(known) = known {
            let why: Vec<&str> = done.decision.reasons().iter().map(|r| r.text.as_str()).collect();
            tracing::warn!(event = known.name, run = %done.run_id, why = why.join("; "), "{}", known.subject);
        }
    }
    let failed: Vec<&str> =
        done.outcome.iter().flat_map(|o| &o.checks).filter(|c| c.ok != Some(true)).map(|c| c.name.as_str()).collect();
    tracing::info!(run = %done.run_id, acted = done.acted, exit_code = done.exit_code, ?failed, "run ended");
}
