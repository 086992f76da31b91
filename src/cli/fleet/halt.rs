//! `hostagent fleet stop`, `resume` and `status`: the brakes.

use super::args::{ClusterArgs, StatusArgs, StopArgs};
use crate::{
    cli::Context as Cli,
    decide::{Reason, exit},
    facts::{ExecutionStatus, Targets},
    fleet::{
        Cloud,
        documents::ROLLOUT,
        halt::{self, Halt},
        rollout::{self, Standing},
    },
    ports::aws,
    report::{BrakesReport, Verdict, Word},
};
use anyhow::Result;
use jiff::Timestamp;

/// Rollouts that are shown.
const SHOWN: usize = 5;

async fn read(cloud: &Cloud, cluster: &str) -> aws::Result<Option<Halt>> {
    let value = cloud.brakes.parameter(&halt::parameter(cluster)).await?;
    Ok(value.map(|value| Halt::read(&value)))
}

/// Where the cluster is halted, says so; the exit code.
pub async fn refuse(cli: &Cli, cloud: &Cloud, cluster: &str) -> Result<Option<u8>> {
    let Some(halt) = read(cloud, cluster).await? else { return Ok(None) };
    let verdict = Verdict {
        verdict: Word::Halted,
        exit_code: exit::REFUSED,
        headline: format!("nothing was started: cluster {cluster} is {}", halt.words()),
        reasons: Vec::new(),
    };
    cli.print(&BrakesReport {
        verdict,
        cluster: cluster.to_owned(),
        halt: Some(halt),
        calendars: Vec::new(),
        rollouts: None,
        next: vec![format!("hostagent fleet resume --cluster {cluster}   once what is wrong is mended")],
    });
    Ok(Some(exit::REFUSED))
}

pub async fn stop(cli: &Cli, cloud: &Cloud, args: &StopArgs) -> Result<u8> {
    let cluster = &args.cluster.cluster;
    let by = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "an operator".into());
    let was = read(cloud, cluster).await?;
    let (halt, headline) = match was {
        // Who halted first, and why, is what whoever comes later needs to know.
        Some(halt) => (halt, format!("cluster {cluster} was halted already")),
        None => {
            let halt = Halt::new(&by, Timestamp::now(), &args.why, None);
            cloud.brakes.put_parameter_once(&halt::parameter(cluster), &halt.value(), halt::DESCRIPTION).await?;
            (halt, format!("cluster {cluster} is halted: a wave under way is verified, and no further one begins"))
        }
    };
    let verdict = Verdict { verdict: Word::Halted, exit_code: exit::SETTLED, headline, reasons: Vec::new() };
    cli.print(&BrakesReport {
        verdict,
        cluster: cluster.clone(),
        halt: Some(halt),
        calendars: Vec::new(),
        rollouts: None,
        next: vec![format!("hostagent fleet resume --cluster {cluster}")],
    });
    Ok(exit::SETTLED)
}

pub async fn resume(cli: &Cli, cloud: &Cloud, args: &ClusterArgs) -> Result<u8> {
    let cluster = &args.cluster;
    let was = read(cloud, cluster).await?;
    let there = cloud.brakes.delete_parameter(&halt::parameter(cluster)).await?;
    let headline = match (there, was) {
        (true, Some(halt)) => format!("cluster {cluster} may move again; it was {}", halt.words()),
        (true, None) => format!("cluster {cluster} may move again"),
        (false, _) => format!("cluster {cluster} was not halted"),
    };
    let verdict = Verdict { verdict: Word::Done, exit_code: exit::SETTLED, headline, reasons: Vec::new() };
    cli.print(&BrakesReport {
        verdict,
        cluster: cluster.clone(),
        halt: None,
        calendars: Vec::new(),
        rollouts: None,
        next: vec![format!("hostagent fleet rollout --cluster {cluster}   takes up what is left")],
    });
    Ok(exit::SETTLED)
}

/// The cluster's last rollouts, newest first.
async fn last_rollouts(cloud: &Cloud, cluster: &str) -> aws::Result<Vec<Standing>> {
    let mut rollouts = Vec::new();
    for execution in cloud.automation.executions(ROLLOUT).await? {
        if rollouts.len() == SHOWN {
            break;
        }
        // The list comes without parameters, and so without whom a rollout is for.
        let execution = cloud.automation.execution(&execution.id).await?;
        if rollout::targets(&execution) == Some(Targets::Cluster(cluster.to_owned())) {
            rollouts.push(Standing::of(&execution));
        }
    }
    Ok(rollouts)
}

pub async fn status(cli: &Cli, cloud: &Cloud, args: &StatusArgs) -> Result<u8> {
    let cluster = &args.cluster.cluster;
    let halt = read(cloud, cluster).await?;
    // What cannot be seen hides nothing of the rest.
    let (mut calendars, mut unseen) = (Vec::new(), Vec::new());
    for name in &args.calendars {
        match cloud.brakes.is_open(std::slice::from_ref(name)).await {
            Ok(open) => calendars.push((name.clone(), open)),
            Err(error) => unseen.push(Reason::new("calendar-unseen", error.to_string(), "it may be closed")),
        }
    }
    let rollouts = match last_rollouts(cloud, cluster).await {
        Ok(rollouts) => Some(rollouts),
        Err(error) => {
            unseen.push(Reason::new("rollouts-unseen", error.to_string(), "there may be one under way"));
            None
        }
    };
    let newest = rollouts.as_ref().and_then(|rollouts| rollouts.first());
    let running = rollouts.iter().flatten().find(|r| !r.status.is_final());
    let closed = calendars.iter().any(|(_, open)| !open);
    let (verdict, exit_code, headline) = match (&halt, running, newest) {
        (Some(halt), ..) => (Word::Halted, exit::REFUSED, format!("cluster {cluster} is {}", halt.words())),
        (None, ..) if closed => {
            (Word::Halted, exit::REFUSED, format!("cluster {cluster}: a change calendar is closed"))
        }
        _ if !unseen.is_empty() => (
            Word::Unknown,
            exit::UNKNOWN,
            format!("cluster {cluster} is not halted; not all of the rest could be seen"),
        ),
        (None, Some(one), _) => (Word::UnderWay, exit::RESTART_NEEDED, format!("cluster {cluster}: {}", one.says)),
        (None, None, Some(one)) if one.status == ExecutionStatus::Success => {
            (Word::Done, exit::SETTLED, format!("cluster {cluster}: the last rollout ended: {}", one.says))
        }
        (None, None, Some(one)) => {
            (Word::NotVerified, exit::BROKEN, format!("cluster {cluster}: the last rollout {}", one.says))
        }
        (None, None, None) => {
            (Word::Done, exit::SETTLED, format!("cluster {cluster} is not halted; there is no rollout on record"))
        }
    };
    let next = if halt.is_some() {
        vec![format!("hostagent fleet resume --cluster {cluster}   once what is wrong is mended")]
    } else {
        vec![format!("hostagent fleet check --cluster {cluster}")]
    };
    cli.print(&BrakesReport {
        verdict: Verdict { verdict, exit_code, headline, reasons: unseen },
        cluster: cluster.clone(),
        halt,
        calendars,
        rollouts,
        next,
    });
    Ok(exit_code)
}
