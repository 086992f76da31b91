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
        self, ErrorKind,
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
/// How long SSM tries to reach a host. It is there at once, or it is not. What the document itself may take is its own.
const DELIVERY_S: i32 = 30;
/// Which EC2 Auto Scaling puts on every instance of a group.
const GROUP_TAG: &str = "aws:autoscaling:groupName";
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

/// One command: whom it is sent to, and the hosts that are meant to answer, as far as their IDs are known.
#[derive(Debug, Clone, PartialEq)]
struct Batch {
    targets: Targets,
    hosts: Vec<String>,
}

/// What came of the commands.
#[derive(Debug, Default)]
struct Heard {
    answers: Vec<Invocation>,
    /// Hosts that could not be asked, or whose command had not ended in time, and what is said of them instead.
    instead: BTreeMap<String, Answer>,
}

/// Asks every host; ordered by zone and instance ID. What happens to one host, or to one command of many, is told of the
/// hosts it is about, and costs the others nothing.
///
/// Calls for n hosts, without the waiting: a tag costs 1 to send and n/50 to read. A cluster costs n/100 for its list and
/// n/100 for the descriptions as well, and 1 for its capacity providers. Where the instances come from Auto Scaling groups
/// of capacity providers, their tag is sent to, at 1 a group, and it is 10,000/100 + 10,000/100 + 1 + g + 10,000/50 =
/// 401 + g for 10,000 hosts in g groups. Others are sent to by their IDs, 50 in a call: n/50 more, 600 for 10,000.
/// Waiting costs at most 40 looks in 3 minutes, at all commands together, 50 in a call.
pub async fn check(cloud: &Cloud, question: &Question<'_>, told: &dyn Fn(Progress)) -> aws::Result<Vec<Host>> {
    let deadline = Instant::now() + question.patience;
    let members = match question.targets {
        Targets::Cluster(name) => cloud.clusters.members(name).await?,
        Targets::Tag { .. } | Targets::Instances(_) => Vec::new(),
    };
    let batches = match question.targets {
        Targets::Cluster(_) => batches(&members, &scaling_groups(cloud, &members).await),
        Targets::Tag { .. } => vec![Batch { targets: question.targets.clone(), hosts: Vec::new() }],
        Targets::Instances(ids) => vec![Batch { targets: question.targets.clone(), hosts: ids.clone() }],
    };
    let named: BTreeSet<String> = batches.iter().flat_map(|batch| batch.hosts.iter().cloned()).collect();
    let expected = (!matches!(question.targets, Targets::Tag { .. })).then_some(named.len());
    told(Progress { answered: 0, of: expected });
    let mut heard = Heard::default();
    ask(cloud, question, &batches, deadline, &mut heard, &|answered| told(Progress { answered, of: expected })).await?;
    // Whoever lacks the tag of the group they came from. When SSM does not manage them, it is asked in vain.
    let missed = missed(&batches, &heard);
    let again = by_id(&missed);
    ask(cloud, question, &again, deadline, &mut heard, &|answered| told(Progress { answered, of: expected })).await?;
    Ok(together(heard, &members, named))
}

/// The Auto Scaling groups of a cluster's capacity providers. Not needed: without them, hosts are sent to by their IDs.
async fn scaling_groups(cloud: &Cloud, members: &[Member]) -> BTreeMap<String, String> {
    let providers: BTreeSet<&String> = members.iter().filter_map(|member| member.capacity_provider.as_ref()).collect();
    if providers.is_empty() || members.len() <= IDS {
        return BTreeMap::new();
    }
    let providers: Vec<String> = providers.into_iter().cloned().collect();
    cloud.clusters.groups(&providers).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the cluster's groups are not known");
        BTreeMap::new()
    })
}

/// The commands that reach these hosts: one for the tag of each group with more of them than one call takes by ID, which
/// may reach hosts that are not of the cluster and only looks at those, too; the others by ID.
fn batches(members: &[Member], groups: &BTreeMap<String, String>) -> Vec<Batch> {
    let mut grouped: BTreeMap<Option<&String>, Vec<String>> = BTreeMap::new();
    for member in members {
        let group = member.capacity_provider.as_ref().and_then(|provider| groups.get(provider));
        grouped.entry(group).or_default().push(member.instance_id.clone());
    }
    let (mut batches, mut rest) = (Vec::new(), Vec::new());
    for (group, hosts) in grouped {
        match group.filter(|_| hosts.len() > IDS) {
            Some(group) => {
                let targets = Targets::Tag { key: GROUP_TAG.into(), value: group.clone() };
                batches.push(Batch { targets, hosts });
            }
            None => rest.extend(hosts),
        }
    }
    batches.extend(by_id(&rest));
    batches
}

fn by_id(hosts: &[String]) -> Vec<Batch> {
    let batch = |some: &[String]| Batch { targets: Targets::Instances(some.to_vec()), hosts: some.to_vec() };
    hosts.chunks(IDS).map(batch).collect()
}

/// Hosts that were meant by a tag, and of which nothing was heard.
fn missed(batches: &[Batch], heard: &Heard) -> Vec<String> {
    let answered: HashSet<&String> = heard.answers.iter().map(|answer| &answer.instance_id).collect();
    let tagged = batches.iter().filter(|batch| matches!(batch.targets, Targets::Tag { .. }));
    let hosts = tagged.flat_map(|batch| &batch.hosts);
    hosts.filter(|host| !answered.contains(host) && !heard.instead.contains_key(*host)).cloned().collect()
}

/// Sends the commands, waits for them, and puts what came of them with what was heard before.
///
/// # Errors
///
/// When none could be sent, or one for a reason that stands in the way of all; when what they say cannot be read.
async fn ask(
    cloud: &Cloud,
    question: &Question<'_>,
    batches: &[Batch],
    deadline: Instant,
    heard: &mut Heard,
    told: &dyn Fn(usize),
) -> aws::Result<()> {
    let began = Timestamp::now();
    let sent = stream::iter(batches.iter().map(|batch| send(&cloud.run_command, question.need, &batch.targets)));
    let sent: Vec<aws::Result<String>> = sent.buffered(AT_ONCE).collect().await;
    let none = sent.iter().all(Result::is_err);
    let mut commands: HashMap<String, &Batch> = HashMap::new();
    for (batch, sent) in batches.iter().zip(sent) {
        match sent {
            Ok(id) => _ = commands.insert(id, batch),
            Err(error) if none || is_for_all(error.kind) => return Err(error),
            Err(error) => {
                let not_asked = Answer::not_asked(&error);
                heard.instead.extend(batch.hosts.iter().map(|host| (host.clone(), not_asked.clone())));
            }
        }
    }
    let before = heard.answers.len();
    let ids = commands.keys().cloned().collect();
    let (answers, open) = collect(&cloud.run_command, ids, began, deadline, |answered| told(before + answered)).await?;
    heard.answers.extend(answers);
    let late = open.iter().filter_map(|id| commands.get(id)).flat_map(|batch| &batch.hosts);
    heard.instead.extend(late.map(|host| (host.clone(), Answer::late())));
    Ok(())
}

/// Whether what was refused once will be refused for every host.
fn is_for_all(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::Credentials | ErrorKind::Missing)
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

/// Waits until the commands have ended, or until the deadline, and reads what each host answered. With it, the commands
/// that had not ended.
async fn collect(
    run_command: &RunCommand,
    commands: Vec<String>,
    began: Timestamp,
    deadline: Instant,
    told: impl Fn(usize),
) -> aws::Result<(Vec<Invocation>, HashSet<String>)> {
    let mut open: HashSet<String> = commands.into_iter().collect();
    let mut answers: Vec<Invocation> = Vec::new();
    let mut pause = FIRST_LOOK;
    while !open.is_empty() {
        let late = Instant::now() >= deadline;
        let over: Vec<String> =
            if late { open.iter().cloned().collect() } else { ended(run_command, &open, began).await? };
        let reads = stream::iter(over.iter().map(|id| run_command.invocations(id)));
        let pages: Vec<Vec<Invocation>> = reads.buffer_unordered(AT_ONCE).try_collect().await?;
        answers.extend(pages.into_iter().flatten());
        told(answers.len());
        if late {
            break;
        }
        for id in &over {
            open.remove(id);
        }
        if open.is_empty() {
            break;
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = sleep_until(deadline) => {}
        }
        pause = (pause * 2).min(LAST_LOOK);
    }
    Ok((answers, open))
}

/// Which of the open commands have ended: one call for a single one, one for each 50 otherwise.
async fn ended(run_command: &RunCommand, open: &HashSet<String>, began: Timestamp) -> aws::Result<Vec<String>> {
    let known = match open.iter().next() {
        Some(only) if open.len() == 1 => run_command.command(only).await?.into_iter().collect(),
        _ => run_command.commands(CHECK, began - CLOCKS).await?,
    };
    Ok(known.into_iter().filter(|c| c.ended && open.contains(&c.id)).map(|c| c.id).collect())
}

/// One row for each host that was asked for or, of a tag, that answered. A host that has no invocation is not left out.
fn together(heard: Heard, members: &[Member], mut named: BTreeSet<String>) -> Vec<Host> {
    let members: HashMap<&str, &Member> = members.iter().map(|m| (m.instance_id.as_str(), m)).collect();
    let mut hosts: Vec<Host> = Vec::with_capacity(heard.answers.len());
    for invocation in &heard.answers {
        // The tag of a group may reach others.
        if members.is_empty() || members.contains_key(invocation.instance_id.as_str()) {
            named.remove(&invocation.instance_id);
            hosts.push(Host {
                instance: invocation.instance_id.clone(),
                agent_connected: None,
                answer: Answer::of(invocation),
            });
        }
    }
    let mut instead = heard.instead;
    hosts.extend(named.into_iter().map(|instance| {
        let answer = instead.remove(&instance).unwrap_or_else(Answer::unmanaged);
        Host { instance, agent_connected: None, answer }
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
            capacity_provider: None,
        }
    }

    fn heard(answers: Vec<Invocation>) -> Heard {
        Heard { answers, instead: BTreeMap::new() }
    }

    /// Members of a capacity provider, by number.
    fn of(provider: Option<&str>, numbers: std::ops::Range<usize>) -> Vec<Member> {
        let one = |number| Member {
            capacity_provider: provider.map(str::to_owned),
            ..member(&format!("i-{number:05}"), "a")
        };
        numbers.map(one).collect()
    }

    #[test]
    fn large_groups_are_sent_to_by_their_tag_and_the_others_by_id() {
        let groups =
            BTreeMap::from([("large".to_owned(), "asg-1".to_owned()), ("small".to_owned(), "asg-2".to_owned())]);
        let members: Vec<Member> = [
            of(Some("large"), 0..51),
            of(Some("small"), 100..150),
            of(Some("managed-instances"), 200..203),
            of(None, 300..302),
        ]
        .concat();
        let batches = batches(&members, &groups);
        let sizes: Vec<_> = batches.iter().map(|batch| (batch.targets.to_string(), batch.hosts.len())).collect();
        let sizes: Vec<_> = sizes.iter().map(|(targets, hosts)| (targets.as_str(), *hosts)).collect();
        assert_eq!(sizes, [("tag aws:autoscaling:groupName=asg-1", 51), ("50 instances", 50), ("5 instances", 5)]);
        let all: BTreeSet<_> = batches.iter().flat_map(|batch| batch.hosts.iter().cloned()).collect();
        assert_eq!(all.len(), members.len(), "each host once");
        // Ten thousand hosts in six groups: calls to send.
        let members: Vec<Member> =
            (0..6).flat_map(|group| of(Some(&format!("cp-{group}")), group * 1_700..group * 1_700 + 1_667)).collect();
        let groups = (0..6).map(|group| (format!("cp-{group}"), format!("asg-{group}"))).collect();
        assert_eq!(super::batches(&members, &groups).len(), 6);
        assert_eq!(super::batches(&members, &BTreeMap::new()).len(), members.len().div_ceil(IDS));
    }

    #[test]
    fn only_hosts_of_a_tag_that_nothing_was_heard_of_are_asked_again() {
        let tagged = Batch {
            targets: Targets::Tag { key: GROUP_TAG.into(), value: "asg".into() },
            hosts: ["i-1", "i-2", "i-3"].map(str::to_owned).into(),
        };
        let named = by_id(&["i-4".to_owned()]).remove(0);
        let mut heard = heard(vec![answer("i-1", "SETTLED: x")]);
        heard.instead.insert("i-2".into(), Answer::late());
        assert_eq!(missed(&[tagged, named], &heard), ["i-3"]);
    }

    #[test]
    fn a_host_that_was_not_heard_of_says_why_and_strangers_are_left_out() {
        let members = [member("i-1", "a"), member("i-2", "a"), member("i-3", "a")];
        let named = members.iter().map(|m| m.instance_id.clone()).collect();
        let mut heard = heard(vec![answer("i-1", "SETTLED: x"), answer("i-9", "SETTLED: of another cluster")]);
        heard.instead.insert("i-2".into(), Answer::late());
        let hosts = together(heard, &members, named);
        let seen: Vec<_> = hosts.iter().map(|h| (h.instance.as_str(), h.answer.rule.as_str())).collect();
        assert_eq!(seen, [("i-1", ""), ("i-2", "no-answer-yet"), ("i-3", "not-managed")]);
    }

    #[test]
    fn no_host_is_forgotten_and_none_is_counted_twice() {
        let members = [member("i-1", "b"), member("i-2", "a"), member("i-3", "a")];
        let named = members.iter().map(|m| m.instance_id.clone()).collect();
        let answers = vec![answer("i-1", "SETTLED: x"), answer("i-2", "REFUSED: y"), answer("i-2", "REFUSED: y")];
        let hosts = together(heard(answers), &members, named);
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
        let groups = groups(&together(heard(answers), &[], BTreeSet::new()));
        let seen: Vec<_> = groups.iter().map(|g| (g.rule.as_str(), g.hosts.len())).collect();
        assert_eq!(seen, [("", 1), ("budget", 2), ("task-busy", 1)]);
    }
}
