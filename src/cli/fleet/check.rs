//! `hostagent fleet check`: who is still public?

use super::{args::CheckArgs, bar::Bar};
use crate::{
    cli::Context as Cli,
    decide::{Reason, exit},
    facts::Targets,
    fleet::{
        Cloud,
        answer::Standing,
        check::{self, Host, Progress, Question},
    },
    report::{FleetCheckReport, Verdict, Word, ZoneView},
};
use anyhow::Result;
use std::collections::BTreeMap;

pub async fn check(cli: &Cli, cloud: &Cloud, args: &CheckArgs) -> Result<u8> {
    let targets = args.targets.targets();
    let question = Question { targets: &targets, need: args.require, patience: args.patience };
    let bar = cli.bar();
    let told = |progress: Progress| tell(&bar, progress);
    let hosts = check::check(cloud, &question, &told).await?;
    drop(bar);
    let report = report(&targets, hosts, args.all);
    cli.print(&report);
    Ok(report.verdict.exit_code)
}

fn tell(bar: &Bar, progress: Progress) {
    let words = match progress.of {
        Some(of) => format!("{} of {of} hosts have answered", progress.answered),
        None => format!("{} hosts have answered", progress.answered),
    };
    bar.at(progress.answered, progress.of, &words);
}

fn report(targets: &Targets, hosts: Vec<Host>, all: bool) -> FleetCheckReport {
    let counts = check::counts(&hosts);
    let mut zones: BTreeMap<Option<&str>, Vec<&Host>> = BTreeMap::new();
    for host in &hosts {
        zones.entry(host.answer.zone.as_deref()).or_default().push(host);
    }
    let zones = zones
        .into_iter()
        .map(|(zone, hosts)| ZoneView {
            zone: zone.map(str::to_owned),
            hosts: hosts.len(),
            counts: check::counts(hosts.iter().copied()),
        })
        .collect();
    let verdict = verdict(targets, &counts, hosts.len());
    let next = next(targets, &counts);
    FleetCheckReport {
        verdict,
        targets: targets.to_string(),
        zones,
        groups: check::groups(&hosts),
        counts,
        hosts,
        all,
        next,
    }
}

/// The most urgent standing is the verdict. That a host could not be asked outweighs that others wait: what is not known
/// is never taken for well.
fn verdict(targets: &Targets, counts: &BTreeMap<Standing, usize>, hosts: usize) -> Verdict {
    let count = |standing: Standing| counts.get(&standing).copied().unwrap_or(0);
    let silent = count(Standing::NoAnswer) + count(Standing::Unknown) + count(Standing::NotInstalled);
    let (verdict, exit_code) = match () {
        () if hosts == 0 => (Word::Unknown, exit::UNKNOWN),
        () if count(Standing::Broken) > 0 => (Word::Broken, exit::BROKEN),
        () if count(Standing::Restart) > 0 => (Word::Restart, exit::RESTART_NEEDED),
        () if count(Standing::Refused) > 0 => (Word::Refuse, exit::REFUSED),
        () if silent > 0 => (Word::Unknown, exit::UNKNOWN),
        () if count(Standing::Waiting) > 0 => (Word::Waiting, exit::WAITING),
        () => (Word::Settled, exit::SETTLED),
    };
    let told = Standing::ALL.into_iter().filter(|s| count(*s) > 0).map(|s| format!("{} {}", count(s), s.words()));
    let told: Vec<String> = told.collect();
    let (headline, reasons) = if hosts == 0 {
        let remedy = match targets {
            Targets::Cluster(_) => "see the cluster's name and region; it has no container instances",
            Targets::Tag { .. } => {
                "see the tag's key and value (case matters), the region, and that SSM manages the hosts"
            }
            Targets::Instances(_) => "see the instances' IDs and the region, and that SSM manages them",
        };
        let text = format!("no host of {targets} was found");
        (text.clone(), vec![Reason::new("no-hosts", text, remedy)])
    } else {
        (format!("{hosts} hosts of {targets}: {}", told.join(", ")), Vec::new())
    };
    Verdict { verdict, exit_code, headline, reasons }
}

/// `--cluster prod`, as it was typed.
pub fn typed(targets: &Targets) -> String {
    match targets {
        Targets::Cluster(name) => format!("--cluster {name}"),
        // Blanks and colons are all there can be in a tag that a shell would mind.
        Targets::Tag { key, value } => format!("--tag '{key}={value}'"),
        Targets::Instances(ids) => format!("--instance {}", ids.join(",")),
    }
}

fn next(targets: &Targets, counts: &BTreeMap<Standing, usize>) -> Vec<String> {
    let mut next = Vec::new();
    if counts.contains_key(&Standing::Broken) {
        next.push("hostagent check   on the broken hosts: what is wrong there, and what mends it".to_owned());
    }
    if counts.contains_key(&Standing::Restart) {
        next.push(format!("hostagent fleet rollout {}   move them, one host first", typed(targets)));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(counts: &[(Standing, usize)]) -> (u8, String) {
        let counts: BTreeMap<_, _> = counts.iter().copied().collect();
        let hosts = counts.values().sum();
        let verdict = verdict(&Targets::Cluster("prod".into()), &counts, hosts);
        (verdict.exit_code, verdict.headline)
    }

    #[test]
    fn the_most_urgent_host_is_the_verdict() {
        use Standing::*;
        assert_eq!(judged(&[(Settled, 3)]), (0, "3 hosts of cluster prod: 3 settled".into()));
        assert_eq!(judged(&[(Settled, 3), (Waiting, 1)]).0, 11);
        assert_eq!(judged(&[(Settled, 3), (Waiting, 1), (NoAnswer, 1)]).0, 1);
        assert_eq!(judged(&[(Settled, 3), (NotInstalled, 1)]).0, 1);
        assert_eq!(judged(&[(Refused, 1), (NoAnswer, 1)]).0, 12);
        let (code, text) = judged(&[(Restart, 2), (Refused, 1), (Settled, 4)]);
        assert_eq!((code, text.as_str()), (10, "7 hosts of cluster prod: 2 public, 1 refused, 4 settled"));
        assert_eq!(judged(&[(Broken, 1), (Restart, 2)]).0, 13);
        assert_eq!(judged(&[]).0, 1);
    }
}
