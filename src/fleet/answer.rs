//! What a host printed, read back: the page that `--format ssm` writes, as SSM hands it over.

use crate::{
    facts::{Invocation, InvocationState},
    ports::aws::AwsError,
    text::cut,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes kept of a text from a host.
const TEXT: usize = 600;

/// What a host stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The agent is down, unsupervised, or could not be verified.
    Broken,
    /// It still talks over the internet, and may be moved.
    Restart,
    /// It should be moved, and that would not be safe, or not yet.
    Refused,
    /// Not all endpoints are there.
    Waiting,
    /// The host answered, and could not tell.
    Unknown,
    NotInstalled,
    /// SSM did not reach it, or it did not answer in time.
    NoAnswer,
    Settled,
}

impl Standing {
    /// All of them, the most urgent first.
    pub const ALL: [Standing; 8] = [
        Standing::Broken,
        Standing::Restart,
        Standing::Refused,
        Standing::Waiting,
        Standing::Unknown,
        Standing::NotInstalled,
        Standing::NoAnswer,
        Standing::Settled,
    ];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Standing::Broken => "broken",
            Standing::Restart => "public",
            Standing::Refused => "refused",
            Standing::Waiting => "waiting",
            Standing::Unknown => "could not tell",
            Standing::NotInstalled => "not installed",
            Standing::NoAnswer => "no answer",
            Standing::Settled => "settled",
        }
    }
}

/// One host's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub standing: Standing,
    /// The rule that stands in the way, where one does; stable across versions.
    pub rule: String,
    /// In a line.
    pub why: String,
    /// What to do about it; empty when nothing is known.
    pub remedy: String,
    pub cluster: Option<String>,
    pub zone: Option<String>,
    /// Of the ECS agent.
    pub agent_version: Option<String>,
    pub hostagent_version: Option<String>,
    /// Connections of the agent that are not on an endpoint.
    pub public_connections: Option<usize>,
    /// For how long the agent was away during a restart, in seconds.
    pub away_s: Option<f64>,
}

impl Answer {
    /// A host that told nothing.
    pub fn silent(standing: Standing, rule: &str, why: impl Into<String>, remedy: &str) -> Self {
        Self {
            standing,
            rule: rule.into(),
            why: why.into(),
            remedy: remedy.into(),
            cluster: None,
            zone: None,
            agent_version: None,
            hostagent_version: None,
            public_connections: None,
            away_s: None,
        }
    }

    /// Of a host that SSM has no invocation for.
    pub fn unmanaged() -> Self {
        let why = "SSM does not manage this instance, or has lost it";
        Self::silent(Standing::NoAnswer, "not-managed", why, "see its SSM agent, its role and its way to SSM")
    }

    /// Of a host that has not answered in the time there was.
    pub fn late() -> Self {
        let remedy = "ask again with a longer --patience";
        Self::silent(Standing::NoAnswer, "no-answer-yet", "it has not answered yet", remedy)
    }

    /// Of a host to which nothing could be sent.
    pub fn not_asked(error: &AwsError) -> Self {
        let why = format!("it could not be asked: {}: {}", error.action, error.why);
        let remedy = if error.remedy.is_empty() { "ask again" } else { &error.remedy };
        Self::silent(Standing::NoAnswer, "not-asked", short(&why), remedy)
    }

    /// What an invocation of a check or restart tells.
    pub fn of(invocation: &Invocation) -> Self {
        let silent = |rule, why: &str, remedy| Self::silent(Standing::NoAnswer, rule, why, remedy);
        match invocation.state {
            InvocationState::UnderWay => Self::late(),
            InvocationState::NotReached => {
                silent("not-reached", "SSM could not reach it", "see its SSM agent, its role and its way to SSM")
            }
            InvocationState::NotSent => silent("not-sent", "the command was cancelled before it was sent", "ask again"),
            InvocationState::TimedOut => {
                let why = "it did not end in time: the command hangs there, or the host has gone";
                silent("timed-out", why, "see whether the instance still runs; on it, hostagent status")
            }
            InvocationState::Success | InvocationState::Failed => Self::read(&invocation.output),
        }
    }

    /// What a page tells: verdict line, then the JSON summary.
    fn read(page: &str) -> Self {
        let first = page.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let summary = page.lines().filter(|line| line.starts_with('{'));
        let summary = summary.filter_map(|line| serde_json::from_str::<Value>(line).ok()).next();
        let headline = first.split_once(": ").map_or(first, |(_, rest)| rest);
        let Some(summary) = summary.filter(|summary| summary["verdict"].is_string()) else {
            return match by_word(first) {
                Some(standing) => Self::silent(standing, "", short(headline), ""),
                None if page.trim().is_empty() => {
                    let remedy = "run the document again; see the SSM agent's log on the host";
                    Self::silent(Standing::Unknown, "no-output", "the command ended and printed nothing", remedy)
                }
                None => {
                    let why = format!("it printed something else than a verdict: {}", short(first));
                    Self::silent(Standing::Unknown, "not-a-verdict", why, "run hostagent check on the host")
                }
            };
        };
        let text = |key: &str| summary[key].as_str().map(short);
        let reason = summary["reasons"].get(0);
        let of_reason = |key: &str| reason.and_then(|r| r[key].as_str()).map(short);
        let connections = summary["connections"].as_array();
        let public = |all: &Vec<Value>| all.iter().filter(|c| c["path"] != "endpoint").count();
        let standing = by_verdict(summary["verdict"].as_str().unwrap_or_default());
        Self {
            standing,
            rule: of_reason("rule").unwrap_or_default(),
            why: of_reason("text").filter(|_| standing != Standing::Settled).unwrap_or_else(|| short(headline)),
            remedy: of_reason("remedy").unwrap_or_default(),
            cluster: text("cluster"),
            zone: text("zone"),
            agent_version: text("version"),
            hostagent_version: text("hostagent"),
            public_connections: connections.map(public),
            away_s: summary["outage"]["agent_api_s"].as_f64(),
        }
    }
}

fn short(text: &str) -> String {
    cut(text, TEXT).into_owned()
}

/// The verdicts of [`crate::report::Word`] as JSON has them, and the documents' own.
fn by_verdict(verdict: &str) -> Standing {
    match verdict {
        "settled" | "moved" | "repaired" => Standing::Settled,
        "restart" => Standing::Restart,
        "waiting" => Standing::Waiting,
        "refuse" | "spent" | "busy" => Standing::Refused,
        "repair" | "broken" | "not_verified" => Standing::Broken,
        "not-installed" => Standing::NotInstalled,
        _ => Standing::Unknown,
    }
}

/// Of a page whose summary was cut: by the first line's word.
fn by_word(line: &str) -> Option<Standing> {
    let (word, _) = line.split_once(": ")?;
    Some(match word {
        "SETTLED" | "MOVED" | "REPAIRED" => Standing::Settled,
        "RESTART NEEDED" => Standing::Restart,
        "WAITING FOR ENDPOINTS" => Standing::Waiting,
        "REFUSED" | "NOT NOW" | "BUSY" => Standing::Refused,
        "REPAIR NEEDED" | "BROKEN" | "NOT VERIFIED" => Standing::Broken,
        "COULD NOT TELL" => Standing::Unknown,
        "NOT INSTALLED" => Standing::NotInstalled,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Word;
    use proptest::prelude::*;

    fn answered(output: &str) -> Answer {
        Answer::of(&Invocation {
            instance_id: "i-1".into(),
            state: InvocationState::Success,
            output: output.into(),
            began_at: None,
            ended_at: None,
        })
    }

    #[test]
    fn a_page_is_read_back() {
        let page = "RESTART NEEDED: 2 of the agent's 3 connections are not on an endpoint\n\
            {\"schema\":\"hostagent/check/1\",\"verdict\":\"restart\",\"exit_code\":10,\"version\":\"1.105.1\",\
            \"cluster\":\"prod\",\"zone\":\"eu-west-1a\",\"connections\":[{\"path\":\"public\"},{\"path\":\"endpoint\"},\
            {\"path\":\"unknown\"}]}\nFull report: /run/hostagent/last-check.json\n";
        let answer = answered(page);
        assert_eq!(answer.standing, Standing::Restart);
        assert_eq!(answer.why, "2 of the agent's 3 connections are not on an endpoint");
        assert_eq!((answer.cluster.as_deref(), answer.zone.as_deref()), (Some("prod"), Some("eu-west-1a")));
        assert_eq!(answer.public_connections, Some(2));
    }

    #[test]
    fn the_first_reason_says_why() {
        let page = "WAITING FOR ENDPOINTS: not yet\n{\"verdict\":\"waiting\",\"reasons\":[{\"rule\":\"name-not-endpoint\",\
            \"text\":\"ecs-t resolves to the internet\",\"remedy\":\"create it\"}]}";
        let answer = answered(page);
        assert_eq!((answer.standing, answer.rule.as_str()), (Standing::Waiting, "name-not-endpoint"));
        assert_eq!((answer.why.as_str(), answer.remedy.as_str()), ("ecs-t resolves to the internet", "create it"));
    }

    #[test]
    fn a_page_whose_summary_was_cut_is_read_by_its_first_line() {
        for word in [Word::Settled, Word::Restart, Word::Repair, Word::Waiting, Word::Refuse, Word::Spent, Word::Busy]
            .into_iter()
            .chain([Word::Broken, Word::Unknown, Word::Moved, Word::Repaired, Word::NotVerified])
        {
            let verdict = serde_json::to_value(word).unwrap();
            let cut = answered(&format!("{}: why\n{{\"verdict\":\"{}", word.shout(), verdict.as_str().unwrap()));
            let whole = answered(&format!("{}: why\n{{\"verdict\":{verdict}}}", word.shout()));
            assert_eq!(cut, whole, "{word:?}");
        }
    }

    #[test]
    fn what_is_no_verdict_is_never_taken_for_one() {
        assert_eq!(answered("").rule, "no-output");
        assert_eq!(answered("sh: 1: hostagent: not found").rule, "not-a-verdict");
        assert_eq!(answered("{\"verdict\":\"fine\"}").standing, Standing::Unknown);
    }

    proptest! {
        #[test]
        fn garbage_is_read_without_harm(page: String) {
            prop_assert_ne!(answered(&page).standing, Standing::Settled);
        }
    }
}
