//! Every host of a fleet asked what it stands at, and the answers put together.

use super::{
    Cloud,
    answer::{Answer, Standing},
    documents::CHECK,
};
use crate::{
    catalog::Requirement,
    facts::{Invocation, Member, Targets},
    ports::aws::{
        self,
        run_command::{IDS, Order, RunCommand},
    },
};
use clap::ValueEnum;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

/// Calls at once: Run Command allows a few a second, and the SDK waits where it is told to.
const AT_ONCE: usize = 4;
/// How long SSM tries to reach a host. It is there at once, or it is not.
const DELIVERY_S: i32 = 30;
/// Between two looks at the commands, at first and at most.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(5);
/// This machine's clock and that of AWS may differ by so much.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

/// What is to be asked.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub targets: &'a Targets,
    pub need: Requirement,
    /// How long to wait for answers.
    pub patience: Duration,
}

/// One host of a fleet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Host {
    pub instance: String,
    /// As ECS tells it; `None` where ECS was not asked.
    pub agent_connected: Option<bool>,
    #[serde(flatten)]
    pub answer: Answer,
}

/// How far it is: hosts that answered, of how many; `None` while that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub answered: usize,
    pub of: Option<usize>,
}

/// Asks every host; ordered by zone and instance ID.
///
/// A cluster of n hosts costs n/50 calls for its list, n/50 to send and n/50 to read; a tag only the last. Waiting costs
/// few: the commands are looked at together, 50 in a call.
pub async fn check(cloud: &Cloud, question: &Question<'_>, told: &dyn Fn(Progress)) -> aws::Result<Vec<Host>> {
    let members = match question.targets {
        Targets::Cluster(name) => Some(cloud.clusters.members(name).await?),
        Targets::Tag { .. } | Targets::Instances(_) => None,
    };
    let batches: Vec<Targets> = match (&members, question.targets) {
        (Some(members), _) => {
            let ids: Vec<String> = members.iter().map(|member| member.instance_id.clone()).collect();
            ids.chunks(IDS).map(|some| Targets::Instances(some.to_vec())).collect()
        }
        (None, targets) => vec![targets.clone()],
    };
    let named: Option<BTreeSet<String>> = match (&members, question.targets) {
        (Some(members), _) => Some(members.iter().map(|m| m.instance_id.clone()).collect()),
        (None, Targets::Instances(ids)) => Some(ids.iter().cloned().collect()),
        (None, _) => None,
    };
    let expected = named.as_ref().map(BTreeSet::len);
    told(Progress { answered: 0, of: expected });
    let began = Timestamp::now();
    let sent = stream::iter(batches.iter().map(|targets| send(&cloud.run_command, question.need, targets)));
    let commands: Vec<String> = sent.buffer_unordered(AT_ONCE).try_collect().await?;
    let answers = collect(&cloud.run_command, commands, began, question.patience, |answered| {
        told(Progress { answered, of: expected });
    });
    Ok(together(answers.await?, members.as_deref().unwrap_or_default(), named.unwrap_or_default()))
}

async fn send(run_command: &RunCommand, need: Requirement, targets: &Targets) -> aws::Result<String> {
    let need = need.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let order = Order {
        document: CHECK,
        targets,
        parameters: BTreeMap::from([("Require".to_owned(), vec![need])]),
        comment: "hostagent fleet check",
        // It changes nothing, and each host only asks for itself.
        at_once: "100%",
        errors: "100%",
        delivery_s: DELIVERY_S,
    };
    run_command.send(&order).await
}

/// Waits until the commands have ended, or for so long, and reads what each host answered.
pub(super) async fn collect(
    run_command: &RunCommand,
    commands: Vec<String>,
    began: Timestamp,
    patience: Duration,
    told: impl Fn(usize),
) -> aws::Result<Vec<Invocation>> {
    let deadline = Instant::now() + patience;
    let mut open: HashSet<String> = commands.into_iter().collect();
    let mut answers: Vec<Invocation> = Vec::new();
    let mut pause = FIRST_LOOK;
    while !open.is_empty() {
        let late = Instant::now() >= deadline;
        let ended: Vec<String> =
            if late { open.iter().cloned().collect() } else { ended(run_command, &open, began).await? };
        let reads = stream::iter(ended.iter().map(|id| run_command.invocations(id)));
        let pages: Vec<Vec<Invocation>> = reads.buffer_unordered(AT_ONCE).try_collect().await?;
        answers.extend(pages.into_iter().flatten());
        for id in &ended {
            open.remove(id);
        }
        told(answers.len());
        if open.is_empty() || late {
            break;
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = sleep_until(deadline) => {}
        }
        pause = (pause * 2).min(LAST_LOOK);
    }
    Ok(answers)
}

/// Which of the open commands have ended: one call for a single one, one for each 50 otherwise.
async fn ended(run_command: &RunCommand, open: &HashSet<String>, began: Timestamp) -> aws::Result<Vec<String>> {
    let known = match open.iter().next() {
        Some(only) if open.len() == 1 => run_command.command(only).await?.into_iter().collect(),
        _ => run_command.commands(CHECK, began - CLOCKS).await?,
    };
    Ok(known.into_iter().filter(|c| c.ended && open.contains(&c.id)).map(|c| c.id).collect())
}

/// One row for each host that was asked for or that answered. A host that has no invocation is not left out.
fn together(answers: Vec<Invocation>, members: &[Member], mut named: BTreeSet<String>) -> Vec<Host> {
    let members: HashMap<&str, &Member> = members.iter().map(|m| (m.instance_id.as_str(), m)).collect();
    let mut hosts: Vec<Host> = Vec::with_capacity(answers.len());
    for invocation in &answers {
        named.remove(&invocation.instance_id);
        hosts.push(Host {
            instance: invocation.instance_id.clone(),
            agent_connected: None,
            answer: Answer::of(invocation),
        });
    }
    hosts.extend(named.into_iter().map(|instance| Host {
        instance,
        agent_connected: None,
        answer: Answer::unmanaged(),
    }));
    for host in &mut hosts {
        if let Some(member) = members.get(host.instance.as_str()) {
            host.agent_connected = Some(member.agent_connected);
            host.answer.zone = member.zone.clone().or(host.answer.zone.take());
        }
    }
    hosts.sort_by(|a, b| (&a.answer.zone, &a.instance).cmp(&(&b.answer.zone, &b.instance)));
    hosts.dedup_by(|a, b| a.instance == b.instance);
    hosts
}

/// Hosts alike: what they stand at, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    pub standing: Standing,
    pub rule: String,
    /// In the words of the first of them.
    pub why: String,
    pub remedy: String,
    pub hosts: Vec<String>,
}

/// The hosts that are not settled, by reason: the most urgent first, and of those the largest group.
pub fn groups(hosts: &[Host]) -> Vec<Group> {
    let mut groups: BTreeMap<(Standing, &str), Group> = BTreeMap::new();
    for host in hosts.iter().filter(|host| host.answer.standing != Standing::Settled) {
        let answer = &host.answer;
        // Hosts that give no rule differ in numbers and addresses only.
        let key = (answer.standing, answer.rule.as_str());
        let group = groups.entry(key).or_insert_with(|| Group {
            standing: answer.standing,
            rule: answer.rule.clone(),
            why: answer.why.clone(),
            remedy: answer.remedy.clone(),
            hosts: Vec::new(),
        });
        group.hosts.push(host.instance.clone());
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| (group.standing, std::cmp::Reverse(group.hosts.len())));
    groups
}

/// How many hosts stand where.
pub fn counts<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> BTreeMap<Standing, usize> {
    let mut counts = BTreeMap::new();
    for host in hosts {
        *counts.entry(host.answer.standing).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::InvocationState;

    fn answer(instance: &str, output: &str) -> Invocation {
        Invocation {
            instance_id: instance.into(),
            state: InvocationState::Success,
            output: output.into(),
            began_at: None,
            ended_at: None,
        }
    }

    fn member(instance: &str, zone: &str) -> Member {
        Member {
            instance_id: instance.into(),
            zone: Some(zone.into()),
            arn: format!("arn:aws:ecs:eu-west-1:1:container-instance/prod/{instance}"),
            agent_connected: true,
        }
    }

    #[test]
    fn no_host_is_forgotten_and_none_is_counted_twice() {
        let members = [member("i-1", "b"), member("i-2", "a"), member("i-3", "a")];
        let named = members.iter().map(|m| m.instance_id.clone()).collect();
        let answers = vec![answer("i-1", "SETTLED: x"), answer("i-2", "REFUSED: y"), answer("i-2", "REFUSED: y")];
        let hosts = together(answers, &members, named);
        let seen: Vec<_> = hosts.iter().map(|h| (h.instance.as_str(), h.answer.standing)).collect();
        assert_eq!(seen, [("i-2", Standing::Refused), ("i-3", Standing::NoAnswer), ("i-1", Standing::Settled)]);
        assert!(hosts.iter().all(|host| host.agent_connected == Some(true)));
    }

    #[test]
    fn hosts_are_grouped_by_why_and_the_urgent_come_first() {
        let page = |rule: &str| {
            format!("REFUSED: x\n{{\"verdict\":\"refuse\",\"reasons\":[{{\"rule\":\"{rule}\",\"text\":\"t\"}}]}}")
        };
        let answers = vec![
            answer("i-1", &page("task-busy")),
            answer("i-2", &page("budget")),
            answer("i-3", &page("budget")),
            answer("i-4", "SETTLED: x"),
            answer("i-5", "BROKEN: x"),
        ];
        let groups = groups(&together(answers, &[], BTreeSet::new()));
        let seen: Vec<_> = groups.iter().map(|g| (g.rule.as_str(), g.hosts.len())).collect();
        assert_eq!(seen, [("", 1), ("budget", 2), ("task-busy", 1)]);
    }
}
