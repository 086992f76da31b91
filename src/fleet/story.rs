//! What a rollout did, put together from SSM's own records: the commands it sent bear its name in their comments.

use super::{
    Cloud,
    answer::{Answer, Standing as HostStanding},
    documents::{CHECK, RESTART},
    rollout::Standing,
};
use crate::{
    facts::{CommandState, Execution, Invocation, InvocationState},
    ports::aws,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

const AT_ONCE: usize = 4;
/// SSM keeps what hosts answered for so long.
pub const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A rollout from its beginning to where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    #[serde(flatten)]
    pub standing: Standing,
    /// Who started it, as an ARN.
    pub by: String,
    pub parameters: BTreeMap<String, Vec<String>>,
    pub waves: Vec<Wave>,
    /// Every host that was asked, ordered by zone and instance ID.
    pub hosts: Vec<HostStory>,
}

/// The hosts that were restarted together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Wave {
    pub number: u32,
    pub zone: Option<String>,
    /// Those whose agent was restarted, or may have been: not those that were never reached or turned it away.
    pub restarted: Vec<String>,
    pub settled: usize,
    pub began_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// One host, before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostStory {
    pub instance: String,
    pub wave: u32,
    pub before: Option<Answer>,
    /// What its restart said; `None` when it was sent none.
    pub restart: Option<Answer>,
    pub restarted_at: Option<Timestamp>,
    pub after: Option<Answer>,
}

impl HostStory {
    fn new(instance: &str) -> Self {
        let instance = instance.to_owned();
        Self { instance, wave: 0, before: None, restart: None, restarted_at: None, after: None }
    }

    pub fn zone(&self) -> Option<&str> {
        let answers = [&self.after, &self.restart, &self.before];
        answers.into_iter().flatten().find_map(|answer| answer.zone.as_deref())
    }

    /// What is known of it last.
    pub fn last(&self) -> Option<&Answer> {
        self.after.as_ref().or(self.restart.as_ref()).or(self.before.as_ref())
    }
}

/// What a command of a rollout was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Check,
    Restart,
    Verify,
}

/// `hostagent rollout <execution> wave <n> check`
fn comment(comment: &str, execution: &str) -> Option<(u32, Act)> {
    let rest = comment.strip_prefix("hostagent rollout ")?.strip_prefix(execution)?.strip_prefix(" wave ")?;
    let (number, act) = rest.split_once(' ')?;
    let act = match act {
        "check" => Act::Check,
        "restart" => Act::Restart,
        "verify" => Act::Verify,
        _ => return None,
    };
    Some((number.parse().ok()?, act))
}

/// Reads a rollout's records: one call for each 50 commands and for each 50 answers.
pub async fn read(cloud: &Cloud, execution: &Execution) -> aws::Result<Story> {
    let since = execution.began_at.unwrap_or_else(|| Timestamp::now() - KEPT) - SignedDuration::from_secs(1);
    let mut commands: Vec<(CommandState, u32, Act)> = Vec::new();
    for document in [CHECK, RESTART] {
        let all = cloud.run_command.commands(document, since).await?;
        let mine = all.into_iter().filter_map(|c| comment(&c.comment, &execution.id).map(|(wave, act)| (c, wave, act)));
        commands.extend(mine);
    }
    let reads = commands.iter().map(|(command, wave, act)| async move {
        let invocations = cloud.run_command.invocations(&command.id).await?;
        Ok::<_, aws::AwsError>((command.requested_at, *wave, *act, invocations))
    });
    let mut read: Vec<(Option<Timestamp>, u32, Act, Vec<Invocation>)> =
        stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
    read.sort_by_key(|(at, wave, act, _)| (*at, *wave, *act));
    Ok(tell(execution, &read))
}

/// What is not known counts as touched.
fn may_have_restarted(restart: &Invocation, answer: &Answer) -> bool {
    let ran = !matches!(restart.state, InvocationState::NotSent | InvocationState::NotReached);
    ran && !matches!(answer.standing, HostStanding::Refused | HostStanding::Waiting)
}

/// Puts the records together, oldest first.
fn tell(execution: &Execution, read: &[(Option<Timestamp>, u32, Act, Vec<Invocation>)]) -> Story {
    let mut hosts: BTreeMap<&str, HostStory> = BTreeMap::new();
    let mut waves: BTreeMap<u32, Wave> = BTreeMap::new();
    for (at, number, act, invocations) in read {
        for invocation in invocations {
            let id = invocation.instance_id.as_str();
            let host = hosts.entry(id).or_insert_with(|| HostStory::new(id));
            let answer = Answer::of(invocation);
            match act {
                // Looked at more than once, the first is how it was before.
                Act::Check => _ = host.before.get_or_insert(answer),
                Act::Restart => {
                    let wave = waves.entry(*number).or_insert_with(|| Wave { number: *number, ..Wave::default() });
                    let mut began = None;
                    if may_have_restarted(invocation, &answer) {
                        began = invocation.began_at.or(*at);
                        wave.restarted.push(id.to_owned());
                    }
                    wave.began_at = [wave.began_at, began].into_iter().flatten().min();
                    wave.ended_at = wave.ended_at.max(invocation.ended_at);
                    (host.wave, host.restarted_at, host.restart) = (*number, began, Some(answer));
                }
                Act::Verify => {
                    if let Some(wave) = waves.get_mut(number) {
                        wave.ended_at = wave.ended_at.max(invocation.ended_at);
                    }
                    host.after = Some(answer);
                }
            }
        }
    }
    for wave in waves.values_mut() {
        let of = wave.restarted.iter().filter_map(|id| hosts.get(id.as_str()));
        wave.zone = of.clone().find_map(|host| host.zone()).map(str::to_owned);
        let settled = |h: &&HostStory| h.after.as_ref().is_some_and(|a| a.standing == HostStanding::Settled);
        wave.settled = of.filter(settled).count();
    }
    let mut hosts: Vec<HostStory> = hosts.into_values().collect();
    hosts.sort_by(|a, b| (a.zone(), &a.instance).cmp(&(b.zone(), &b.instance)));
    Story {
        standing: Standing::of(execution),
        by: execution.by.clone(),
        parameters: execution.parameters.clone(),
        waves: waves.into_values().collect(),
        hosts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::ExecutionStatus;

    #[test]
    fn a_comment_names_rollout_wave_and_act() {
        assert_eq!(comment("hostagent rollout a-1 wave 12 verify", "a-1"), Some((12, Act::Verify)));
        assert_eq!(comment("hostagent rollout a-12 wave 1 check", "a-1"), None);
        assert_eq!(comment("hostagent fleet check", "a-1"), None);
        assert_eq!(comment("hostagent rollout a-1 wave 1 dance", "a-1"), None);
    }

    #[test]
    fn a_host_that_was_not_sent_to_or_turned_it_away_was_not_restarted() {
        let execution = Execution {
            id: "a-1".into(),
            status: ExecutionStatus::Failed,
            word: "Failed".into(),
            began_at: None,
            ended_at: None,
            by: String::new(),
            step: String::new(),
            failure: String::new(),
            parameters: BTreeMap::new(),
            outputs: BTreeMap::new(),
            variables: BTreeMap::new(),
        };
        let at = Timestamp::from_second(60).ok();
        let restart = |number: u32, state, verdict: &str| Invocation {
            instance_id: format!("i-{number}"),
            state,
            output: format!("{verdict}: x"),
            began_at: at,
            ended_at: at,
        };
        let wave = vec![
            restart(1, InvocationState::Success, "MOVED"),
            restart(2, InvocationState::Success, "REFUSED"),
            restart(3, InvocationState::NotSent, ""),
            restart(4, InvocationState::NotReached, ""),
            restart(5, InvocationState::TimedOut, ""),
            restart(6, InvocationState::Failed, "NOT VERIFIED"),
        ];
        let story = tell(&execution, &[(at, 1, Act::Restart, wave)]);
        assert_eq!(story.waves[0].restarted, ["i-1", "i-5", "i-6"]);
        let times: Vec<bool> = story.hosts.iter().map(|host| host.restarted_at.is_some()).collect();
        assert_eq!(times, [true, false, false, false, true, true]);
        assert!(story.hosts.iter().all(|host| host.wave == 1 && host.restart.is_some()), "each was chosen");
    }
}
