//! `hostagent fleet stop`, `resume` and `status`: the brakes.

use super::args::{ClusterArgs, StatusArgs, StopArgs};
use crate::{
    cli::Context as Cli,
    decide::{Reason, exit},
    facts::Targets,
    fleet::{
        Cloud, find,
        halt::{self, Halt},
        rollout::Standing,
    },
    ports::aws,
    report::{BrakesReport, Verdict, Word},
};
use anyhow::Result;
use jiff::Timestamp;

/// Rollouts that are shown.
const SHOWN: usize = 5;
/// When a halt is to be taken away.
const MENDED: &str = "once what is wrong is mended";

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
        next: vec![
            format!("hostagent fleet status --cluster {cluster}   what was going on"),
            format!("hostagent fleet resume --cluster {cluster}   {MENDED}"),
            format!("hostagent fleet rollout --cluster {cluster}   takes up what is left"),
        ],
    });
    Ok(Some(exit::REFUSED))
}

/// Who stops: the user of this machine, or whom the credentials are of where there is none, as in CI.
async fn signature(cloud: &Cloud) -> String {
    match std::env::var("USER") {
        Ok(user) if !user.is_empty() => user,
        _ => cloud.identity.caller().await.unwrap_or_else(|_| "an operator".into()),
    }
}

pub async fn stop(cli: &Cli, cloud: &Cloud, args: &StopArgs) -> Result<u8> {
    let cluster = &args.cluster.cluster;
    let by = signature(cloud).await;
    let was = read(cloud, cluster).await?;
    let already = format!("cluster {cluster} was halted already");
    let (halt, headline) = match was {
        // Who halted first, and why, is what whoever comes later needs to know.
        Some(halt) => (halt, already),
        None => {
            let halt = Halt::new(&by, Timestamp::now(), &args.why, None);
            match cloud.brakes.put_parameter_once(&halt::parameter(cluster), &halt.value(), halt::DESCRIPTION).await? {
                true => (
                    halt,
                    format!("cluster {cluster} is halted: a wave under way is verified, and no further one begins"),
                ),
                // A host or the runbook was faster.
                false => (read(cloud, cluster).await?.unwrap_or(halt), already),
            }
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

pub async fn status(cli: &Cli, cloud: &Cloud, args: &StatusArgs) -> Result<u8> {
    let cluster = &args.cluster.cluster;
    let halt = read(cloud, cluster).await?;
    // What cannot be seen hides nothing of the rest.
    let mut unseen = Vec::new();
    let rollouts = match find::last(cloud, Some(&Targets::Cluster(cluster.clone())), SHOWN).await {
        Ok(rollouts) => Some(rollouts),
        Err(error) => {
            unseen.push(Reason::new("rollouts-unseen", error.to_string(), "there may be one under way"));
            None
        }
    };
    let mut names: Vec<&String> = args.calendars.iter().collect();
    // Those that hold a rollout under way count as asked for.
    let going = rollouts.iter().flatten().filter(|rollout| !rollout.status.is_final());
    names.extend(going.filter_map(|rollout| rollout.parameters.get("Calendars")).flatten().filter(|n| !n.is_empty()));
    let mut calendars: Vec<(String, bool)> = Vec::new();
    for name in names {
        if calendars.iter().any(|(known, _)| known == name) {
            continue;
        }
        match cloud.brakes.is_open(std::slice::from_ref(name)).await {
            Ok(open) => calendars.push((name.clone(), open)),
            Err(error) => unseen.push(Reason::new("calendar-unseen", error.to_string(), "it may be closed")),
        }
    }
    let rollouts: Option<Vec<Standing>> = rollouts.map(|rollouts| rollouts.iter().map(Standing::of).collect());
    let verdict = stands(cluster, halt.as_ref(), &calendars, rollouts.as_deref(), unseen);
    let going = rollouts.iter().flatten().find(|rollout| !rollout.ending.is_final());
    let mut next = Vec::new();
    if let Some(going) = going {
        next.extend(going.ending.next(&going.execution, &format!("--cluster {cluster}")));
    }
    next.push(match &halt {
        Some(_) => format!("hostagent fleet resume --cluster {cluster}   {MENDED}"),
        None if going.is_some() => {
            format!("hostagent fleet stop --cluster {cluster} --why TEXT   move nothing further")
        }
        None => format!("hostagent fleet check --cluster {cluster}"),
    });
    let exit_code = verdict.exit_code;
    cli.print(&BrakesReport { verdict, cluster: cluster.clone(), halt, calendars, rollouts, next });
    Ok(exit_code)
}

/// A brake that is set comes first; then what could not be seen; then the rollout that goes on, or the last one.
fn stands(
    cluster: &str,
    halt: Option<&Halt>,
    calendars: &[(String, bool)],
    rollouts: Option<&[Standing]>,
    unseen: Vec<Reason>,
) -> Verdict {
    let rollouts = rollouts.unwrap_or_default();
    let going = rollouts.iter().find(|rollout| !rollout.ending.is_final());
    let closed = calendars.iter().find(|(_, open)| !open);
    let (verdict, exit_code, says) = match (halt, closed, going.or(rollouts.first())) {
        (Some(halt), ..) => (Word::Halted, exit::REFUSED, format!("is {}", halt.words())),
        (None, Some((name, _)), _) => (Word::Halted, exit::REFUSED, format!("is held: the calendar {name} is closed")),
        _ if !unseen.is_empty() => {
            (Word::Unknown, exit::UNKNOWN, "is not halted; not all of the rest could be seen".to_owned())
        }
        (.., Some(one)) => {
            let which = if one.ending.is_final() { "the last rollout ended" } else { "a rollout is under way" };
            let says = format!("is not halted; {which}: {}", one.says);
            (Word::of(&one.ending), one.ending.exit_code(), says)
        }
        (.., None) => (Word::Done, exit::SETTLED, "is not halted; there is no rollout on record".to_owned()),
    };
    Verdict { verdict, exit_code, headline: format!("cluster {cluster} {says}"), reasons: unseen }
}
