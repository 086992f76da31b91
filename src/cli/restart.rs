//! `hostagent restart`: looks, hands off to a worker, follows it.

use super::{Context as Cli, args::RestartArgs, views};
use crate::{
    act::handoff::{self, HandoffError, Job},
    catalog::Requirement,
    config::Settings,
    decide::{Decision, exit},
    facts::{Fact, Systemd},
    flow::{self, Files, Run},
    ports::Ports,
    progress::Progress,
};
use anyhow::{Context, Result};

pub async fn restart(cli: &Cli, args: &RestartArgs) -> Result<u8> {
    let mut settings = cli.settings.clone();
    if let Some(wait) = args.wait {
        settings.restart.task_wait_s = wait.as_secs();
    }
    let ports = Ports::of_this_host(&settings);
    cli.steps.meanwhile("looking at the host");
    let seen = flow::check(&ports, &settings, &[Requirement::Agent], args.repair).await;
    let act = match &seen.decision {
        Decision::Restart { .. } => true,
        Decision::Repair { .. } => args.repair,
        _ => false,
    };
    // An interrupted run is taken up even where a new one would have nothing to do.
    let interrupted = !args.dry_run && Files(&settings).intent().exists();
    if !act && !interrupted {
        cli.print(&views::not_begun(&seen));
        return Ok(seen.decision.exit_code());
    }
    if args.dry_run {
        return dry_run(cli, &ports, &settings, args).await;
    }
    let booted = match &seen.observation.systemd {
        Fact::Known(systemd) => matches!(systemd, Systemd::Booted { .. }),
        Fact::Unknown(missing) => anyhow::bail!("cannot tell how to start the worker: {missing}"),
    };
    let program = std::env::current_exe().context("cannot tell where hostagent itself is")?;
    let job = Job { allow_repair: args.repair, ..Job::default() };
    let handoff = handoff::hand_off(&ports, &settings, &program, job, handoff::as_unit(booted)).await?;
    let tell = |progress: Progress| cli.steps.step(&progress);
    match handoff.follow(&ports, &settings, tell).await {
        Ok(result) => {
            cli.print(&views::ended(&result, &settings));
            Ok(result.exit_code)
        }
        // The worker may have been at it: that is for the loudest code.
        Err(error @ (HandoffError::Died { .. } | HandoffError::TooLong(..))) => {
            cli.print(&views::lost(&error.to_string()));
            Ok(exit::BROKEN)
        }
        Err(error) => Err(error.into()),
    }
}

/// All but the act: confirms, waits for tasks, asks for the permit.
async fn dry_run(cli: &Cli, ports: &Ports, settings: &Settings, args: &RestartArgs) -> Result<u8> {
    let dir = tempfile::tempdir().context("cannot make a directory for the progress of the dry run")?;
    let told = |progress: &Progress| cli.steps.step(progress);
    let run = Run {
        ports,
        settings,
        run_id: "dry-run".to_owned(),
        dir: dir.path().to_owned(),
        told: Some(&told),
        allow_repair: args.repair,
        recover_only: false,
        own: false,
        dry_run: true,
    };
    let result = flow::restart(&run).await;
    cli.print(&views::ended(&result, settings));
    Ok(result.exit_code)
}
