//! `hostagent fleet rollout` and `follow`.

use super::{
    args::{FollowArgs, RolloutArgs, WhichArgs},
    bar::Bar,
    check::typed,
    halt,
};
use crate::{
    cli::Context as Cli,
    decide::{Reason, exit},
    facts::{Execution, Targets},
    fleet::{
        Cloud,
        documents::ROLLOUT,
        ending::Ending,
        find, role,
        rollout::{self, Plan, Standing, tally},
    },
    ports::{
        aws::{AwsError, ErrorKind},
        store,
    },
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
    if let Some(first) = find::under_way(cloud, &targets).await? {
        let report = rival(&targets, &first);
        cli.print(&report);
        return Ok(report.verdict.exit_code);
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
        role: acting_as(cloud, args.role.as_deref()).await?,
    };
    // One for this call: where its answer is lost, asking again finds what was started.
    let token = store::new_id().context("there is nothing to make a token of")?;
    let id = cloud.automation.start(ROLLOUT, &plan.parameters(), Some(&token)).await?;
    if args.detach {
        let execution = cloud.automation.execution(&id).await.with_context(|| goes_on(&id))?;
        let report = report(&execution);
        cli.print(&report);
        return Ok(exit::SETTLED);
    }
    watch(cli, cloud, &id, args.pace.every).await
}

/// ARN of the role that the rollout acts with: the one that is named, or the one of the caller's own account.
async fn acting_as(cloud: &Cloud, named: Option<&str>) -> Result<String> {
    if let Some(role) = named {
        return Ok(role.to_owned());
    }
    let give = || format!("it cannot be told in which account the role {} is: name it with --role", role::NAME);
    let caller = cloud.identity.caller().await.with_context(give)?;
    role::of_caller(&caller).with_context(|| format!("{} ({caller} is no ARN of IAM or STS)", give()))
}

pub async fn follow(cli: &Cli, cloud: &Cloud, args: &FollowArgs) -> Result<u8> {
    let id = which(cloud, &args.which).await?;
    watch(cli, cloud, &id, args.pace.every).await
}

/// The ID of the rollout that is meant: by its own, or the last one, of those for some hosts where they are given.
pub async fn which(cloud: &Cloud, which: &WhichArgs) -> Result<String> {
    if let Some(id) = &which.execution {
        return Ok(id.clone());
    }
    let targets = which.targets();
    if let Some(last) = find::last(cloud, targets.as_ref(), 1).await?.pop() {
        return Ok(last.id);
    }
    match targets {
        Some(targets) => bail!(
            "there is no rollout for {targets} on record in {}: start one with hostagent fleet rollout {}",
            cloud.region,
            typed(&targets)
        ),
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
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let (mut failures, mut last) = (0, None);
    let execution = loop {
        // A call may take minutes, and Ctrl-C is heard then, too.
        let looked = tokio::select! {
            looked = cloud.automation.execution(id) => looked,
            _ = &mut interrupted => break last.with_context(|| goes_on(id))?,
        };
        match looked {
            Ok(execution) => {
                failures = 0;
                tell(&bar, &execution);
                if execution.status.is_final() {
                    break execution;
                }
                last = Some(execution);
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
            _ = &mut interrupted => break last.with_context(|| goes_on(id))?,
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

/// Nothing was started, because of one that goes on.
fn rival(targets: &Targets, first: &Execution) -> RolloutReport {
    let ending = Ending::Rival { first: Some(first.id.clone()) };
    let standing = Standing::of(first);
    let verdict = Verdict {
        verdict: Word::of(&ending),
        exit_code: ending.exit_code(),
        headline: format!("{targets}: {}, {}", ending.line(None), standing.says),
        reasons: Vec::new(),
    };
    let next = ending.next(&first.id, &typed(targets));
    RolloutReport { verdict, rollout: standing, next }
}

fn report(execution: &Execution) -> RolloutReport {
    let standing = Standing::of(execution);
    let ending = &standing.ending;
    let headline = format!("{}: {}", standing.whom, standing.says);
    let reasons = match (ending.remedy(), &standing.state) {
        ("", _) => Vec::new(),
        (remedy, Some(state)) => {
            vec![Reason::new(ending.rule(), tally(state), remedy)]
        }
        (remedy, None) => vec![Reason::new(ending.rule(), standing.says.clone(), remedy)],
    };
    let verdict = Verdict { verdict: Word::of(ending), exit_code: ending.exit_code(), headline, reasons };
    let typed = rollout::targets(execution).map(|targets| typed(&targets)).unwrap_or_default();
    let next = ending.next(&execution.id, &typed);
    RolloutReport { verdict, rollout: standing, next }
}
