//! `hostagent fleet rollout` and `follow`.

use super::{
    args::{FollowArgs, RolloutArgs},
    bar::Bar,
    check::typed,
    halt,
};
use crate::{
    cli::Context as Cli,
    decide::{Reason, exit},
    facts::{Execution, ExecutionStatus, Targets},
    fleet::{
        Cloud,
        documents::ROLLOUT,
        rollout::{self, Plan, RIVAL, Standing, tally},
    },
    ports::aws::{AwsError, ErrorKind},
    report::{RolloutReport, Verdict, Word},
};
use anyhow::{Context, Result, bail};
use std::time::Duration;

/// Looks in a row that may fail for want of a network, or of patience on the side of AWS.
const FAILURES: u32 = 20;

pub async fn rollout(cli: &Cli, cloud: &Cloud, args: &RolloutArgs) -> Result<u8> {
    let targets = args.targets.targets();
    if let Targets::Cluster(cluster) = &targets
        && let Some(code) = halt::refuse(cli, cloud, cluster).await?
    {
        return Ok(code);
    }
    let plan = Plan {
        targets,
        zone_share: args.zone_share,
        growth: args.growth,
        pause: args.pause,
        wait: args.wait,
        calendars: args.calendars.clone(),
        alarms: args.alarms.clone(),
        approvers: args.approvers.clone(),
        approval_topic: args.approval_topic.clone(),
        role: args.role.clone(),
    };
    let id = cloud.automation.start(ROLLOUT, &plan.parameters(), None).await?;
    if args.detach {
        let execution = cloud.automation.execution(&id).await.with_context(|| goes_on(&id))?;
        let report = report(&execution);
        cli.print(&report);
        return Ok(exit::SETTLED);
    }
    watch(cli, cloud, &id, args.pace.every).await
}

pub async fn follow(cli: &Cli, cloud: &Cloud, args: &FollowArgs) -> Result<u8> {
    let id = match &args.execution {
        Some(id) => id.clone(),
        None => last(cloud).await?,
    };
    watch(cli, cloud, &id, args.pace.every).await
}

/// The ID of the last rollout in this account and region.
pub async fn last(cloud: &Cloud) -> Result<String> {
    match cloud.automation.executions(ROLLOUT).await?.into_iter().next() {
        Some(execution) => Ok(execution.id),
        None => bail!("there is no rollout on record in {}: start one with hostagent fleet rollout", cloud.region),
    }
}

fn goes_on(id: &str) -> String {
    format!("the rollout goes on without being followed; hostagent fleet follow {id} takes it up")
}

/// Follows to the end, or to Ctrl-C, which ends nothing but the following.
async fn watch(cli: &Cli, cloud: &Cloud, id: &str, every: Duration) -> Result<u8> {
    let bar = cli.bar();
    bar.at(0, None, &format!("rollout {id}; Ctrl-C ends the following, not the rollout"));
    let mut failures = 0;
    let execution = loop {
        match cloud.automation.execution(id).await {
            Ok(execution) => {
                failures = 0;
                tell(&bar, &execution);
                if execution.status.is_final() {
                    break execution;
                }
            }
            Err(AwsError { kind: ErrorKind::Throttled | ErrorKind::Unreachable, why, .. }) if failures < FAILURES => {
                failures += 1;
                bar.at(0, None, &format!("AWS does not answer: {why}"));
            }
            Err(error) if error.kind == ErrorKind::Missing => return Err(error.into()),
            Err(error) => return Err(anyhow::Error::new(error).context(goes_on(id))),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = tokio::signal::ctrl_c() => {
                let execution = cloud.automation.execution(id).await.with_context(|| goes_on(id))?;
                break execution;
            }
        }
    };
    drop(bar);
    let report = report(&execution);
    cli.print(&report);
    Ok(report.verdict.exit_code)
}

fn tell(bar: &Bar, execution: &Execution) {
    let standing = Standing::of(execution);
    let of = standing.state.as_ref().map(|state| state.hosts);
    bar.at(standing.state.as_ref().map_or(0, rollout::State::done), of, &standing.says);
}

fn report(execution: &Execution) -> RolloutReport {
    let standing = Standing::of(execution);
    let verdict = verdict(&standing);
    let typed = rollout::targets(execution).map(|targets| typed(&targets)).unwrap_or_default();
    let next = match verdict.verdict {
        Word::UnderWay => vec![format!("hostagent fleet follow {}", execution.id)],
        Word::Halted => vec![
            format!("hostagent fleet report {} --output rollout.html   what was done, host by host", execution.id),
            format!("hostagent fleet check {typed}   who stands where now"),
        ],
        Word::Done if verdict.exit_code != exit::SETTLED => {
            vec![format!("hostagent fleet rollout {typed}   takes up what is left")]
        }
        _ => Vec::new(),
    };
    RolloutReport { verdict, rollout: standing, next }
}

/// What a rollout came to.
fn verdict(standing: &Standing) -> Verdict {
    let state = standing.state.as_ref();
    let (word, exit_code) = match standing.status {
        ExecutionStatus::UnderWay | ExecutionStatus::WaitsForApproval => (Word::UnderWay, exit::RESTART_NEEDED),
        ExecutionStatus::Stopped => (Word::Halted, exit::REFUSED),
        ExecutionStatus::Failed if standing.says.contains(RIVAL) => (Word::Busy, exit::BUSY),
        ExecutionStatus::Failed => match state {
            // A host could not be verified, or a brake was found set.
            Some(state) if state.phase == "halted" && state.instance.is_some() => (Word::Halted, exit::BROKEN),
            Some(state) if state.phase == "halted" => (Word::Halted, exit::REFUSED),
            Some(state) if state.hosts > state.done() => (Word::Done, exit::RESTART_NEEDED),
            _ => (Word::Unknown, exit::UNKNOWN),
        },
        ExecutionStatus::Success => match state {
            Some(state) if state.hosts == 0 => (Word::Unknown, exit::UNKNOWN),
            Some(state) if state.count("moved") + state.count("settled_before") < state.hosts => {
                (Word::Done, exit::RESTART_NEEDED)
            }
            Some(state) if state.count("moved") == 0 => (Word::Settled, exit::SETTLED),
            _ => (Word::Moved, exit::SETTLED),
        },
    };
    let headline = match (word, state) {
        (Word::Done | Word::Moved | Word::Settled, Some(state)) => format!("{}: {}", standing.whom, tally(state)),
        (Word::Unknown, Some(state)) if state.hosts == 0 => format!("no host of {} was found", standing.whom),
        _ => format!("{}: {}", standing.whom, standing.says),
    };
    let reasons = match (word, state) {
        (Word::Halted, Some(state)) if state.why.is_some() => vec![Reason::new(
            "rollout-halted",
            format!("{}; {}", standing.says, tally(state)),
            "mend the host, then hostagent fleet resume, then start the rollout again: it takes up what is left",
        )],
        _ => Vec::new(),
    };
    Verdict { verdict: word, exit_code, headline, reasons }
}
