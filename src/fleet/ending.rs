//! How a rollout ended, judged in one place: from what SSM keeps of it to a line, an exit code and what to type next.

use super::{
    halt::{Halt, Setter},
    rollout::{State, tally},
};
use crate::{
    decide::exit,
    facts::{Execution, ExecutionStatus},
    text::clean,
};
use serde::Serialize;

/// How the runbook says that it was not the first; the execution's ID follows.
pub const RIVAL: &str = "another rollout for the same hosts is under way";
/// How the runbook says that it found the halt set; the parameter's value follows.
const HALT_SET: &str = "/halt is set: ";
/// How the runbook says that it failed where no harm is done.
const BETWEEN_WAVES: &str = "between two waves, and nobody was being restarted";

/// What a rollout came to. `Ending::of` is the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "ended", rename_all = "snake_case")]
pub enum Ending {
    /// Not yet.
    UnderWay,
    /// Not yet: somebody has to approve it.
    WaitsForApproval,
    /// Every host is settled, and some were moved.
    Moved,
    /// Every host was settled before.
    NothingToDo,
    /// All was done that could be; some hosts are left.
    Partly,
    /// It was for hosts that are not there.
    NoHosts,
    /// The time of one execution was up.
    Unfinished { why: String },
    /// A host could not be verified: `by` whom it was halted, `hosts` it was halted at.
    Halted { by: String, hosts: Vec<String>, why: String },
    /// A brake that names no host stood in the way: an alarm, or a halt that says nothing readable.
    Braked { why: String },
    /// A person halted the cluster.
    Stopped { by: String, why: String },
    /// A person ended the execution itself.
    Cancelled(Broken),
    /// SSM ended the execution.
    TimedOut(Broken),
    /// Who was asked for approval said no.
    Rejected,
    /// Another rollout for the same hosts was first; its ID, where it is told.
    Rival { first: Option<String> },
    /// Something else went wrong; `remedy` is empty where nothing can be said.
    Failed { why: String, remedy: &'static str },
}

/// What an execution left that was broken off: the wave that was under way, and its hosts as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub wave: Option<u32>,
    pub unverified: Vec<String>,
}

impl Broken {
    fn of(state: Option<&State>) -> Self {
        let Some(state) = state else { return Self::default() };
        // A runbook that could still say so has halted at the first host of the wave.
        let told = !state.unverified.is_empty() || (state.phase == "halted" && state.instance.is_some());
        let open = told || matches!(state.phase.as_str(), "restart" | "verify");
        Self { wave: open.then_some(state.wave), unverified: state.unverified.clone() }
    }

    /// To be put behind what broke it off.
    fn words(&self) -> String {
        match (&self.wave, self.unverified.as_slice()) {
            (None, _) => String::new(),
            (Some(wave), []) => format!("; wave {wave} was under way and is not verified"),
            (Some(wave), hosts) => format!("; wave {wave} was under way and is not verified: {}", few(hosts)),
        }
    }
}

/// The first of many.
fn few(hosts: &[String]) -> String {
    const NAMED: usize = 5;
    let named = hosts[..hosts.len().min(NAMED)].join(", ");
    if hosts.len() > NAMED { format!("{named} and {} more", hosts.len() - NAMED) } else { named }
}

impl Ending {
    /// From an execution and what its runbook says of itself.
    pub fn of(execution: &Execution, state: Option<&State>) -> Self {
        match (execution.status, execution.word.as_str()) {
            (ExecutionStatus::UnderWay, _) => Ending::UnderWay,
            (ExecutionStatus::WaitsForApproval, _) => Ending::WaitsForApproval,
            (ExecutionStatus::Stopped, _) => Ending::Cancelled(Broken::of(state)),
            (ExecutionStatus::Success, _) => success(state),
            (ExecutionStatus::Failed, "TimedOut") => Ending::TimedOut(Broken::of(state)),
            (ExecutionStatus::Failed, "Rejected") => Ending::Rejected,
            (ExecutionStatus::Failed, _) => failed(execution, state),
        }
    }

    /// Whether nothing more comes of it.
    pub fn is_final(&self) -> bool {
        !matches!(self, Ending::UnderWay | Ending::WaitsForApproval)
    }

    /// Of `fleet rollout` and `follow`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Ending::Moved | Ending::NothingToDo => exit::SETTLED,
            Ending::UnderWay | Ending::WaitsForApproval | Ending::Partly | Ending::Unfinished { .. } => {
                exit::RESTART_NEEDED
            }
            Ending::Halted { .. } => exit::BROKEN,
            Ending::Braked { .. } | Ending::Stopped { .. } | Ending::Cancelled(_) | Ending::Rejected => exit::REFUSED,
            Ending::Rival { .. } => exit::BUSY,
            Ending::NoHosts | Ending::TimedOut(_) | Ending::Failed { .. } => exit::UNKNOWN,
        }
    }

    /// In a word or two, for the head of a page.
    pub fn word(&self) -> &'static str {
        match self {
            Ending::UnderWay => "under way",
            Ending::WaitsForApproval => "waits for approval",
            Ending::Moved => "moved",
            Ending::NothingToDo => "nothing to do",
            Ending::Partly => "done, hosts left",
            Ending::NoHosts => "no hosts",
            Ending::Unfinished { .. } => "not finished",
            Ending::Halted { .. } | Ending::Braked { .. } => "halted",
            Ending::Stopped { .. } => "stopped",
            Ending::Cancelled(_) => "cancelled",
            Ending::TimedOut(_) => "timed out",
            Ending::Rejected => "not approved",
            Ending::Rival { .. } => "not started",
            Ending::Failed { .. } => "failed",
        }
    }

    /// In a line, after whom it was for. `state` has the figures.
    pub fn line(&self, state: Option<&State>) -> String {
        let tally = || state.map_or_else(|| "no figures are on record".into(), tally);
        match self {
            Ending::UnderWay => "under way".into(),
            Ending::WaitsForApproval => "waits for an approval; no host was touched".into(),
            Ending::Moved | Ending::NothingToDo | Ending::Partly => tally(),
            Ending::NoHosts => "no host was found".into(),
            Ending::Unfinished { why } => format!("not finished: {why}; {}", tally()),
            // Who halted often says at which host.
            Ending::Halted { by, hosts, why } if hosts.iter().all(|id| why.contains(id)) => {
                format!("halted by {by}: {why}")
            }
            Ending::Halted { by, hosts, why } => format!("halted by {by} at {}: {why}", few(hosts)),
            Ending::Braked { why } => format!("halted: {why}"),
            Ending::Stopped { by, why } => format!("stopped by {by}: {why}"),
            Ending::Cancelled(broken) => format!("its execution was cancelled{}; {}", broken.words(), tally()),
            Ending::TimedOut(broken) => format!("its execution ran out of time{}; {}", broken.words(), tally()),
            Ending::Rejected => "the approval was refused; no host was touched".into(),
            Ending::Rival { first: Some(first) } => format!("not started: {RIVAL}: {first}"),
            Ending::Rival { first: None } => format!("not started: {RIVAL}"),
            Ending::Failed { why, .. } => format!("failed: {why}"),
        }
    }

    /// Names what went wrong, for programs; never changes between versions.
    pub fn rule(&self) -> &'static str {
        match self {
            Ending::Halted { .. } => "rollout-halted",
            Ending::Braked { .. } => "rollout-braked",
            Ending::Stopped { .. } => "rollout-stopped",
            Ending::Failed { .. } => "rollout-failed",
            _ => "rollout",
        }
    }

    /// What to do about it; empty where there is nothing.
    pub fn remedy(&self) -> &'static str {
        match self {
            Ending::Halted { .. } => {
                "mend the host, then hostagent fleet resume, then start the rollout again: it takes up what is left"
            }
            Ending::Braked { .. } => {
                "see to what stood in the way, then start the rollout again: it takes up what is left"
            }
            Ending::Stopped { .. } => {
                "hostagent fleet resume once it may go on, then start the rollout again: it takes up what is left"
            }
            Ending::Failed { remedy, .. } => remedy,
            _ => "",
        }
    }

    /// What to type next. `id` is the execution's, `typed` names its targets: `--cluster prod`.
    pub fn next(&self, id: &str, typed: &str) -> Vec<String> {
        let resume = typed
            .starts_with("--cluster")
            .then(|| format!("hostagent fleet resume {typed}   once what is wrong is mended"));
        let report = format!("hostagent fleet report {id} --output rollout.html   what was done, host by host");
        let check = format!("hostagent fleet check {typed}   who stands where now");
        let again = format!("hostagent fleet rollout {typed}   takes up what is left");
        match self {
            Ending::UnderWay | Ending::WaitsForApproval => vec![format!("hostagent fleet follow {id}")],
            Ending::Moved => vec![report],
            Ending::NothingToDo | Ending::NoHosts | Ending::Rejected => Vec::new(),
            Ending::Partly => vec![check, again],
            Ending::Unfinished { .. } => vec![again],
            Ending::Cancelled(broken) | Ending::TimedOut(broken) if broken.wave.is_none() => vec![report, check, again],
            // Where a wave was broken off, the cluster is halted.
            Ending::Halted { .. } | Ending::Stopped { .. } | Ending::Cancelled(_) | Ending::TimedOut(_) => {
                [Some(report), Some(check), resume, Some(again)].into_iter().flatten().collect()
            }
            Ending::Braked { .. } => vec![report, check, again],
            Ending::Rival { first: Some(first) } => vec![format!("hostagent fleet follow {first}")],
            Ending::Rival { first: None } => vec![format!("hostagent fleet follow {typed}")],
            Ending::Failed { .. } => vec![check, again],
        }
    }
}

fn success(state: Option<&State>) -> Ending {
    match state {
        Some(state) if state.hosts == 0 => Ending::NoHosts,
        // Of hosts that are gone nothing is left to do.
        Some(state)
            if ["moved", "settled_before", "gone"].map(|kind| state.count(kind)).iter().sum::<usize>()
                < state.hosts =>
        {
            Ending::Partly
        }
        Some(state) if state.count("moved") == 0 => Ending::NothingToDo,
        Some(_) => Ending::Moved,
        // Done, and nobody can say what.
        None => Ending::Failed { why: "it left no record of what it did".into(), remedy: "" },
    }
}

fn failed(execution: &Execution, state: Option<&State>) -> Ending {
    let why = cause(&execution.failure);
    if let Some((_, rest)) = why.split_once(RIVAL) {
        let first = rest.trim_start_matches([':', ' ']).split_whitespace().next();
        return Ending::Rival { first: first.filter(|id| id.len() == 36).map(str::to_owned) };
    }
    if why.to_ascii_lowercase().contains("reject") && state.is_none_or(|state| state.wave == 0) {
        return Ending::Rejected;
    }
    match state {
        Some(state) if state.phase == "halted" => halted(state, &execution.id),
        Some(state) if state.phase == "unfinished" => Ending::Unfinished { why: reason(state) },
        Some(state) if matches!(state.phase.as_str(), "restart" | "verify") => {
            Ending::Unfinished { why: format!("wave {} was under way and is not verified: {why}", state.wave) }
        }
        _ => Ending::Failed { remedy: remedy(&why), why },
    }
}

fn reason(state: &State) -> String {
    state.why.clone().unwrap_or_else(|| "no reason is given".into())
}

/// By whom, and at which hosts.
fn halted(state: &State, execution: &str) -> Ending {
    let why = reason(state);
    if let Some(instance) = &state.instance {
        let failed = || state.samples.get("failed").cloned().unwrap_or_default();
        let mut hosts = if state.unverified.is_empty() { failed() } else { state.unverified.clone() };
        if !hosts.contains(instance) {
            hosts.insert(0, instance.clone());
        }
        return Ending::Halted { by: "the rollout".into(), hosts, why };
    }
    if why.contains(BETWEEN_WAVES) {
        return Ending::Unfinished { why };
    }
    let Some(halt) = why.split_once(HALT_SET).and_then(|(_, value)| Halt::quoted(value)) else {
        return match why.contains("could not be verified") {
            true => Ending::Halted { by: "the rollout".into(), hosts: Vec::new(), why },
            false => Ending::Braked { why },
        };
    };
    let hosts = halt.instance.iter().cloned().collect();
    match halt.setter() {
        Setter::Rollout(id) if id == execution => Ending::Halted { by: "the rollout".into(), hosts, why: halt.why },
        Setter::Rollout(_) | Setter::Host(_) => Ending::Halted { by: halt.by.clone(), hosts, why: halt.why },
        Setter::Person(by) => Ending::Stopped { by: by.to_owned(), why: halt.why.clone() },
        Setter::Nobody => Ending::Braked { why },
    }
}

fn remedy(why: &str) -> &'static str {
    let text = why.to_ascii_lowercase();
    if text.contains("assume") && text.contains("role") {
        return "deploy packaging/cloudformation/hostagent.yaml, which makes the role HostAgent-Rollout, or name another \
                with --role";
    }
    if text.contains("accessdenied") || text.contains("not authorized") {
        return "see the policy of the role that the rollout acts with";
    }
    ""
}

/// The line of a failure that says why: Automation wraps it in the name of the step and a traceback.
fn cause(failure: &str) -> String {
    let lines: Vec<&str> = failure.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let errors = ["Error: ", "Exception: "];
    let found = lines.iter().rev().find(|line| errors.iter().any(|error| line.contains(error)));
    let line = found.or(lines.first()).copied().unwrap_or("no reason is given");
    let told = errors.iter().filter_map(|error| line.split_once(error)).map(|(_, told)| told).next();
    clean(told.unwrap_or(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::halt;
    use std::collections::BTreeMap;

    const ID: &str = "4105a4fc-f944-11e6-9d32-0a1b2c3d4e5f";
    const OTHER: &str = "00000000-0000-0000-0000-000000000001";

    fn execution(status: ExecutionStatus, word: &str, failure: &str) -> Execution {
        Execution {
            id: ID.into(),
            status,
            word: word.into(),
            began_at: None,
            ended_at: None,
            by: String::new(),
            step: String::new(),
            failure: failure.into(),
            parameters: BTreeMap::new(),
            outputs: BTreeMap::new(),
            variables: BTreeMap::new(),
        }
    }

    /// 9 hosts, of which so many came to that.
    fn state(phase: &str, counts: &[(&str, usize)]) -> State {
        let counts = counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        State { phase: phase.into(), wave: 3, hosts: 9, counts, ..State::default() }
    }

    fn because(why: &str, instance: Option<&str>) -> State {
        State { why: Some(why.into()), instance: instance.map(str::to_owned), ..state("halted", &[("moved", 2)]) }
    }

    /// As the runbook quotes a halt that it found.
    fn found(by: &str, instance: Option<&str>) -> State {
        let value = Halt::new(by, jiff::Timestamp::UNIX_EPOCH, "INC-123", instance).value().replace(['{', '}'], " ");
        because(&format!("the parameter {} is set: {value}", halt::parameter("prod")), None)
    }

    #[test]
    fn every_ending_has_its_line_and_exit_code() {
        use ExecutionStatus::*;
        let rival = format!("Step fails. Traceback\n  File \"x.py\", line 3\nRuntimeError: {RIVAL}: {OTHER}\n");
        let role = "The defined assume role is unable to be assumed.";
        let mut two = because("i-1 was restarted and could not be verified", Some("i-1"));
        two.samples.insert("failed".into(), vec!["i-1".into(), "i-2".into()]);
        let none = State { hosts: 0, ..state("done", &[]) };
        for (execution, state, code, line) in [
            (execution(UnderWay, "InProgress", ""), None, 10, "under way"),
            (execution(WaitsForApproval, "Waiting", ""), None, 10, "waits for an approval; no host was touched"),
            (execution(Success, "Success", ""), Some(state("done", &[("moved", 9)])), 0, "9 moved"),
            (execution(Success, "Success", ""), Some(state("done", &[("settled_before", 9)])), 0, "9 settled before"),
            (
                execution(Success, "Success", ""),
                Some(state("done", &[("moved", 8), ("unreachable", 1)])),
                10,
                "8 moved, 1 not reached",
            ),
            (
                execution(Success, "Success", ""),
                Some(state("done", &[("moved", 8), ("gone", 1)])),
                0,
                "8 moved, 1 gone",
            ),
            (execution(Success, "Success", ""), Some(none), 1, "no host was found"),
            (execution(Success, "Success", ""), None, 1, "failed: it left no record of what it did"),
            (
                execution(Failed, "Failed", "x"),
                Some(two),
                13,
                "halted by the rollout at i-1, i-2: i-1 was restarted and could not be verified",
            ),
            (
                execution(Failed, "Failed", "x"),
                Some(because("wave 3 could not be verified (ClientError: no)", None)),
                13,
                "halted by the rollout: wave 3 could not be verified",
            ),
            (execution(Failed, "Failed", "x"), Some(found("i-7", Some("i-7"))), 13, "halted by i-7 at i-7: INC-123"),
            (
                execution(Failed, "Failed", "x"),
                Some(found(&format!("rollout {ID}"), Some("i-7"))),
                13,
                "halted by the rollout at i-7: INC-123",
            ),
            (
                execution(Failed, "Failed", "x"),
                Some(found(&format!("rollout {OTHER}"), Some("i-7"))),
                13,
                "halted by rollout 00000000-0000-0000-0000-000000000001 at i-7: INC-123",
            ),
            (execution(Failed, "Failed", "x"), Some(found("mayer", None)), 12, "stopped by mayer: INC-123"),
            (
                execution(Failed, "Failed", "x"),
                Some(because("the parameter /hostagent/prod/halt is set: stop", None)),
                12,
                "halted: the parameter /hostagent/prod/halt is set: stop",
            ),
            (
                execution(Failed, "Failed", "x"),
                Some(because("the alarm errors is ALARM", None)),
                12,
                "halted: the alarm errors is ALARM",
            ),
            (
                execution(Failed, "Failed", "x"),
                Some(State { why: Some("the time is up".into()), ..state("unfinished", &[("moved", 5)]) }),
                10,
                "not finished: the time is up; 5 moved, 4 to go",
            ),
            (
                execution(Failed, "Failed", "the loop is over"),
                Some(state("verify", &[("moved", 5)])),
                10,
                "not finished: wave 3 was under way and is not verified: the loop is over; 5 moved, 4 to go",
            ),
            (
                execution(Stopped, "Cancelled", ""),
                Some(state("restart", &[("moved", 2)])),
                12,
                "its execution was cancelled; wave 3 was under way and is not verified; 2 moved, 7 to go",
            ),
            (
                execution(Stopped, "Cancelled", ""),
                Some(State {
                    unverified: (1..=7).map(|number| format!("i-{number}")).collect(),
                    ..because("the rollout was cancelled in the middle of a wave", Some("i-1"))
                }),
                12,
                "its execution was cancelled; wave 3 was under way and is not verified: i-1, i-2, i-3, i-4, i-5 and 2 more; 2",
            ),
            (
                execution(Failed, "Failed", "x"),
                Some(State {
                    unverified: vec!["i-1".into(), "i-2".into()],
                    ..because("a step of the rollout failed in the middle of a wave", Some("i-1"))
                }),
                13,
                "halted by the rollout at i-1, i-2: a step of the rollout failed",
            ),
            (
                execution(Failed, "Failed", "x"),
                Some(because("a step of the rollout failed between two waves, and nobody was being restarted", None)),
                10,
                "not finished: a step of the rollout failed between two waves",
            ),
            (
                execution(Stopped, "Cancelled", ""),
                Some(because("the rollout was cancelled in the middle of a wave", Some("i-1"))),
                12,
                "its execution was cancelled; wave 3 was under way and is not verified; 2 moved, 7 to go",
            ),
            (
                execution(Stopped, "Cancelled", ""),
                Some(state("gate", &[("moved", 2)])),
                12,
                "its execution was cancelled; 2 moved, 7 to go",
            ),
            (execution(Failed, "TimedOut", ""), Some(state("gate", &[])), 1, "its execution ran out of time; 9 to go"),
            (execution(Failed, "Rejected", ""), None, 12, "the approval was refused; no host was touched"),
            (
                execution(Failed, "Failed", "Approval was rejected by mayer"),
                Some(State { wave: 0, ..state("gate", &[]) }),
                12,
                "the approval was refused; no host was touched",
            ),
            (
                execution(Failed, "Failed", &rival),
                None,
                75,
                "not started: another rollout for the same hosts is under way: 00000000-0000-0000-0000-000000000001",
            ),
            (execution(Failed, "Failed", role), None, 1, "failed: The defined assume role is unable to be assumed."),
            (execution(Failed, "Failed", ""), None, 1, "failed: no reason is given"),
        ] {
            let ending = Ending::of(&execution, state.as_ref());
            let said = ending.line(state.as_ref());
            assert_eq!(ending.exit_code(), code, "{said}");
            assert!(said.starts_with(line), "{said}\n{line}");
            assert_eq!(ending.is_final(), execution.status.is_final(), "{said}");
        }
    }

    #[test]
    fn what_to_type_next_names_the_execution_that_matters() {
        let rival = Ending::Rival { first: Some(OTHER.into()) };
        assert_eq!(rival.next(ID, "--cluster prod"), [format!("hostagent fleet follow {OTHER}")]);
        let unnamed = Ending::Rival { first: None }.next(ID, "--cluster prod");
        assert_eq!(unnamed, ["hostagent fleet follow --cluster prod"]);
        let halted = Ending::Halted { by: "the rollout".into(), hosts: vec!["i-1".into()], why: "x".into() };
        let next = halted.next(ID, "--cluster prod");
        assert!(next[2].starts_with("hostagent fleet resume --cluster prod"), "{next:?}");
        let broken = |wave| Ending::Cancelled(Broken { wave, unverified: Vec::new() }).next(ID, "--cluster prod");
        let resumes = |next: Vec<String>| next.iter().any(|line| line.contains("fleet resume"));
        assert!(resumes(broken(Some(2))) && !resumes(broken(None)));
        // A halt is a cluster's.
        assert!(!halted.next(ID, "--instance i-1").iter().any(|line| line.contains("resume")));
    }

    #[test]
    fn a_role_that_is_not_there_has_a_remedy() {
        let failed = Ending::of(
            &execution(ExecutionStatus::Failed, "Failed", "The defined assume role is unable to be assumed."),
            None,
        );
        assert!(failed.remedy().contains("packaging/cloudformation"), "{failed:?}");
    }

    #[test]
    fn a_failure_is_told_without_its_wrapping() {
        let failure = "Step fails when it is Poll action status for completion. Traceback (most recent call last):\n  \
            File \"x.py\", line 3\nValueError: give exactly one of them\n";
        assert_eq!(cause(failure), "give exactly one of them");
        assert_eq!(cause("\n only this \n"), "only this");
    }
}
