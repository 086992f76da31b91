//! The rollouts on record, found by whom they are for.

use super::{Cloud, documents::ROLLOUT, rollout};
use crate::{
    facts::{Execution, Targets},
    ports::aws,
};

/// Whether a rollout for the one would meet hosts of the other: as the runbook tells its rivals.
pub fn meet(one: &Targets, other: &Targets) -> bool {
    match (one, other) {
        (Targets::Instances(some), Targets::Instances(others)) => some.iter().any(|id| others.contains(id)),
        (one, other) => one == other,
    }
}

/// The last rollouts, at most so many, newest first; of those for some hosts where they are given. Of the last 500 on
/// record: a call for each 50, and one for each that is looked at, because the list does not tell whom a rollout is for.
pub async fn last(cloud: &Cloud, targets: Option<&Targets>, most: usize) -> aws::Result<Vec<Execution>> {
    look(cloud, targets, most, |_| true).await
}

/// A rollout for some of these hosts that goes on now. One that began a moment ago may not be listed yet: the runbook
/// itself looks again.
pub async fn under_way(cloud: &Cloud, targets: &Targets) -> aws::Result<Option<Execution>> {
    Ok(look(cloud, Some(targets), 1, |execution| !execution.status.is_final()).await?.pop())
}

async fn look(
    cloud: &Cloud,
    targets: Option<&Targets>,
    most: usize,
    wanted: impl Fn(&Execution) -> bool,
) -> aws::Result<Vec<Execution>> {
    let mut found = Vec::new();
    for listed in cloud.automation.executions(ROLLOUT).await?.into_iter().filter(|listed| wanted(listed)) {
        if found.len() == most {
            break;
        }
        let execution = cloud.automation.execution(&listed.id).await?;
        let theirs = rollout::targets(&execution);
        if targets.is_none_or(|mine| theirs.is_some_and(|theirs| meet(mine, &theirs))) {
            found.push(execution);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollouts_meet_where_they_are_for_the_same_hosts() {
        let cluster = |name: &str| Targets::Cluster(name.into());
        let tag = |value: &str| Targets::Tag { key: "Cluster".into(), value: value.into() };
        let some = |ids: &[&str]| Targets::Instances(ids.iter().map(|id| (*id).into()).collect());
        assert!(meet(&cluster("prod"), &cluster("prod")) && !meet(&cluster("prod"), &cluster("test")));
        assert!(meet(&tag("prod"), &tag("prod")) && !meet(&tag("prod"), &tag("test")));
        assert!(meet(&some(&["i-1", "i-2"]), &some(&["i-2", "i-3"])) && !meet(&some(&["i-1"]), &some(&["i-2"])));
        assert!(!meet(&cluster("prod"), &tag("prod")));
    }
}
