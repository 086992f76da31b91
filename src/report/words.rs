//! Verdicts and probe results in plain words.

use super::{ConnectionView, Word, look::Tone};
use crate::{
    decide::{Decision, Reason},
    facts::ReachOutcome,
    fleet::ending::Ending,
};

/// How a rollout that came to this is coloured.
pub(super) fn ending_tone(ending: &Ending) -> Tone {
    match ending {
        // Hosts are left.
        Ending::Partly => Tone::Warn,
        ending => Word::of(ending).tone(),
    }
}

impl Word {
    /// The word a verdict line begins with.
    pub fn shout(self) -> &'static str {
        match self {
            Word::Settled => "SETTLED",
            Word::Restart => "RESTART NEEDED",
            Word::Repair => "REPAIR NEEDED",
            Word::Waiting => "WAITING FOR ENDPOINTS",
            Word::Refuse => "REFUSED",
            Word::Spent => "NOT NOW",
            Word::Busy => "BUSY",
            Word::Broken => "BROKEN",
            Word::Unknown => "COULD NOT TELL",
            Word::Moved => "MOVED",
            Word::Repaired => "REPAIRED",
            Word::NotVerified => "NOT VERIFIED",
            Word::Done => "DONE",
            Word::Unfinished => "NOT FINISHED",
            Word::UnderWay => "UNDER WAY",
            Word::Halted => "HALTED",
        }
    }

    pub(super) fn tone(self) -> Tone {
        match self {
            Word::Settled | Word::Moved | Word::Repaired | Word::Done => Tone::Good,
            Word::Restart | Word::Waiting | Word::Spent | Word::Busy | Word::Unknown | Word::UnderWay => Tone::Warn,
            Word::Unfinished => Tone::Warn,
            Word::Repair | Word::Refuse | Word::Broken | Word::NotVerified | Word::Halted => Tone::Bad,
        }
    }

    /// Of a rollout.
    pub fn of(ending: &Ending) -> Self {
        match ending {
            Ending::UnderWay | Ending::WaitsForApproval => Word::UnderWay,
            Ending::Moved => Word::Moved,
            Ending::NothingToDo => Word::Settled,
            Ending::Partly => Word::Done,
            Ending::Unfinished { .. } | Ending::TimedOut(_) => Word::Unfinished,
            Ending::Halted { .. } | Ending::Braked { .. } | Ending::Stopped { .. } | Ending::Cancelled(_) => {
                Word::Halted
            }
            Ending::Rejected => Word::Refuse,
            Ending::Rival { .. } => Word::Busy,
            Ending::NoHosts | Ending::Failed { .. } => Word::Unknown,
        }
    }

    /// What to type after a check.
    pub(super) fn next_after_check(self) -> &'static [&'static str] {
        match self {
            Word::Restart => &["hostagent plan      what a restart would do here", "hostagent restart   do it"],
            Word::Repair => &["hostagent restart --repair"],
            _ => &[],
        }
    }

    /// What to type after a plan.
    pub(super) fn next_after_plan(self) -> &'static [&'static str] {
        match self {
            Word::Restart => &["hostagent restart"],
            other => other.next_after_check(),
        }
    }

    /// What to type after a restart.
    pub(super) fn next_after_restart(self) -> &'static [&'static str] {
        match self {
            Word::NotVerified | Word::Broken | Word::Repair => &[
                "hostagent check              what is wrong now",
                "hostagent restart --repair   mend it, where that is known how",
            ],
            Word::Busy => &["hostagent check   once the other restart is over"],
            _ => &[],
        }
    }
}

impl From<&Decision> for Word {
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Settled => Word::Settled,
            Decision::Waiting { .. } => Word::Waiting,
            Decision::Restart { .. } => Word::Restart,
            Decision::Repair { .. } => Word::Repair,
            Decision::Refuse { .. } => Word::Refuse,
            Decision::Spent { .. } => Word::Spent,
            Decision::Broken { .. } => Word::Broken,
            Decision::Unknown { .. } => Word::Unknown,
        }
    }
}

/// What follows the verdict's word: the reason with the most weight, and how many more there are.
pub fn headline(decision: &Decision, connections: &[ConnectionView]) -> String {
    let stale = connections.iter().filter(|c| c.private == Some(false)).count();
    let of = match connections.len() {
        1 => "the agent's 1 connection".to_owned(),
        n => format!("the agent's {n} connections"),
    };
    match decision {
        Decision::Settled if connections.is_empty() => "nothing to do".into(),
        Decision::Settled => format!("all of {of} are on endpoint addresses"),
        Decision::Restart { .. } if stale > 0 => {
            let are = if stale == 1 { "is" } else { "are" };
            format!("{stale} of {of} {are} not on an endpoint, and all three endpoints are ready")
        }
        Decision::Restart { plan } | Decision::Repair { plan } => first(&plan.why, "the agent is not on the endpoints"),
        Decision::Waiting { reasons }
        | Decision::Refuse { reasons }
        | Decision::Spent { reasons }
        | Decision::Broken { reasons }
        | Decision::Unknown { reasons } => {
            first(&reasons.iter().map(|Reason { text, .. }| text.clone()).collect::<Vec<_>>(), "no reason was given")
        }
    }
}

fn first(lines: &[String], otherwise: &str) -> String {
    match lines {
        [] => otherwise.into(),
        [one] => one.clone(),
        [one, _] => format!("{one} (and 1 more reason)"),
        [one, more @ ..] => format!("{one} (and {} more reasons)", more.len()),
    }
}

/// How far a probe came.
pub fn reach_words(outcome: &ReachOutcome) -> String {
    match outcome {
        ReachOutcome::Reached { .. } => "ok".into(),
        ReachOutcome::TcpTimedOut => "connection timed out".into(),
        ReachOutcome::TcpRefused => "connection refused".into(),
        ReachOutcome::TcpFailed(why) => format!("connection failed: {why}"),
        ReachOutcome::TlsTimedOut => "TLS timed out".into(),
        ReachOutcome::TlsFailed(why) => format!("TLS failed: {why}"),
        ReachOutcome::WrongService(why) => format!("not the service: {why}"),
    }
}
