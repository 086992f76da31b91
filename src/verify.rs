//! Whether the agent moved, came back as the same instance, and nothing else was touched. Pure.
//!
//! A fact that could not be had makes a check undecided, and an undecided check makes the outcome not verified.

use crate::assess::{
    Assessment, Condition, Connection, Need, Ownership, Path, assess, reloads, version_allowed, websockets,
};
use crate::catalog::Service;
use crate::config::Settings;
use crate::decide::recover::Late;
use crate::facts::{
    AgentContainer, ContainerState, Fact, Missing, Observation, Presence, Systemd, Task, Unit, Workload,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What the comparison of before and after came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Every check passed.
    pub verified: bool,
    pub checks: Vec<Check>,
}

/// One thing compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Stable across versions: `same-container-instance`.
    pub name: String,
    /// `None` when it could not be told.
    pub ok: Option<bool>,
    pub text: String,
}

impl Outcome {
    /// The checks that did not pass.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| c.ok != Some(true))
    }
}

type Verdict = Result<(bool, String), Missing>;

/// Compares the host before a restart or repair, after it, and once the connections had to be held.
///
/// `before` is [`crate::decide::Permit::before`]; `later` is taken `restart.hold_s` after `after`. After a
/// repair while the endpoints are not ready the websockets only have to be held, on whatever path there is.
pub fn verify(before: &Observation, after: &Observation, later: &Observation, settings: &Settings) -> Outcome {
    compare(before, after, later, settings, None)
}

/// As [`verify`], when the host was rebooted in the middle or much time has gone by: what that does to tasks, to other
/// containers, to the agent's version and to the endpoints is not held against the restart.
pub fn verify_late(
    before: &Observation,
    after: &Observation,
    later: &Observation,
    settings: &Settings,
    late: Late,
) -> Outcome {
    compare(before, after, later, settings, Some(late))
}

fn compare(
    before: &Observation,
    after: &Observation,
    later: &Observation,
    settings: &Settings,
    late: Option<Late>,
) -> Outcome {
    let sides = Sides {
        before,
        after,
        later,
        late,
        was: assess(before, settings),
        is: assess(after, settings),
        then: assess(later, settings),
    };
    let checks = vec![
        check("supervised", sides.supervised()),
        check("one-agent-container", sides.one_container()),
        check("same-container-instance", sides.same_instance()),
        check("same-cluster", sides.same_cluster()),
        check("version", sides.version()),
        check("same-tasks", sides.same_tasks()),
        check("workloads-untouched", sides.workloads()),
        check("credential-rules", sides.credential_rules()),
        check("credential-port", sides.credential_port()),
        check("websockets-moved", sides.moved()),
        check("websockets-held", sides.held()),
    ];
    Outcome { verified: checks.iter().all(|c| c.ok == Some(true)), checks }
}

fn check(name: &str, verdict: Verdict) -> Check {
    let (ok, text) = match verdict {
        Ok((ok, text)) => (Some(ok), text),
        Err(missing) => (None, format!("could not tell: {missing}")),
    };
    Check { name: name.into(), ok, text }
}

fn known<T>(fact: &Fact<T>) -> Result<&T, Missing> {
    match fact {
        Fact::Known(value) => Ok(value),
        Fact::Unknown(missing) => Err(missing.clone()),
    }
}

struct Sides<'a> {
    before: &'a Observation,
    after: &'a Observation,
    later: &'a Observation,
    late: Option<Late>,
    was: Assessment,
    is: Assessment,
    then: Assessment,
}

impl Sides<'_> {
    fn both_after(&self) -> [(&Observation, &Assessment); 2] {
        [(self.after, &self.is), (self.later, &self.then)]
    }

    /// Whether the agent could not be asked before because it was down.
    fn was_dead(&self) -> bool {
        matches!(self.was.condition, Condition::BrokenByDocker { running: false, .. } | Condition::Down { .. })
    }

    fn was_broken(&self) -> bool {
        matches!(self.was.condition, Condition::BrokenByDocker { .. })
    }

    /// Whether it has to be connected, and no more, while the endpoints are not ready.
    fn any_path(&self) -> bool {
        self.was_broken() || self.late.is_some()
    }

    fn bare(&self) -> bool {
        self.was.ownership == Ownership::BareDocker
    }

    fn supervised(&self) -> Verdict {
        for (seen, judged) in self.both_after() {
            known(&seen.systemd)?;
            known(&seen.agent.presence)?;
            if judged.condition != Condition::Running {
                return Ok((
                    false,
                    format!("the agent is not up as it should be: {}", condition_text(&judged.condition)),
                ));
            }
            if judged.ownership != self.was.ownership {
                let text = format!("the owner was {}, and is {}", self.was.ownership, judged.ownership);
                return Ok((false, text));
            }
        }
        let (Ownership::EcsInit { unit } | Ownership::HostProcess { unit }) = &self.was.ownership else {
            return Ok((self.bare(), format!("no unit owns the agent: {}", self.was.ownership)));
        };
        let run = |seen: &Observation| unit_of(seen, unit).map(|u| (u.invocation_id.clone(), u.active_state.clone()));
        let (Some(one), Some(two)) = (run(self.after), run(self.later)) else {
            return Ok((false, format!("{unit} is gone")));
        };
        let same = one.0 == two.0;
        let text = if same { format!("{unit} is active") } else { format!("{unit} was started again meanwhile") };
        Ok((same && two.1 == "active", text))
    }

    fn one_container(&self) -> Verdict {
        let after = known(&self.after.agent.presence)?;
        let later = known(&self.later.agent.presence)?;
        let (Presence::Container(after), Presence::Container(later)) = (after, later) else {
            let process = |p: &Presence| if let Presence::HostProcess { pid, .. } = p { Some(*pid) } else { None };
            let same = process(after).is_some() && process(after) == process(later);
            return Ok((same, if same { "the agent is one process" } else { "the agent is gone" }.into()));
        };
        let old = container(self.before).filter(|c| c.id != after.id);
        let left_over = known(&self.after.workloads)?.iter().find(|w| old.is_some_and(|o| o.id == w.id));
        if let Some(left) = left_over {
            return Ok((false, format!("the old agent {} is still there as {}", short(&left.id), left.name)));
        }
        if after.id != later.id || after.started_at != later.started_at {
            return Ok((false, format!("{} was replaced or started again meanwhile", after.name)));
        }
        if self.bare() && old.is_some() {
            return Ok((false, format!("{} is another container than before", after.name)));
        }
        let up = |c: &AgentContainer| c.state == ContainerState::Running;
        Ok((up(after) && up(later), format!("{} {} is up", after.name, short(&after.id))))
    }

    fn same_instance(&self) -> Verdict {
        let after = known(&self.after.agent.introspection)?.container_instance_arn.as_ref();
        let later = known(&self.later.agent.introspection)?.container_instance_arn.as_ref();
        let Some(arn) = after.filter(|_| after == later) else {
            return Ok((false, "the agent has not registered, or not for long".into()));
        };
        if self.was_dead() && self.before.agent.introspection.known().is_none() {
            return Ok((true, format!("registered as {arn} (down before, so not compared)")));
        }
        let before = known(&self.before.agent.introspection)?.container_instance_arn.as_ref();
        let same = before == Some(arn);
        let was = before.map_or("not registered", String::as_str);
        Ok((same, if same { format!("still {arn}") } else { format!("was {was}, and is {arn}") }))
    }

    fn same_cluster(&self) -> Verdict {
        let is = &known(&self.later.agent.introspection)?.cluster;
        let was = match (&self.before.agent.introspection, container(self.before)) {
            (Fact::Known(introspection), _) => introspection.cluster.clone(),
            (Fact::Unknown(_), Some(c)) if self.was_dead() => c.env.get("ECS_CLUSTER").unwrap_or(is).clone(),
            (Fact::Unknown(missing), _) => return Err(missing.clone()),
        };
        Ok((*is == was, if *is == was { format!("cluster {is}") } else { format!("was {was}, and is {is}") }))
    }

    fn version(&self) -> Verdict {
        let is = &known(&self.later.agent.version)?.version;
        let was = match &self.before.agent.version {
            Fact::Known(version) => &version.version,
            Fact::Unknown(_) if self.was_dead() => {
                return Ok((version_allowed(is), format!("agent {is} (down before, so not compared)")));
            }
            Fact::Unknown(missing) => return Err(missing.clone()),
        };
        if is == was {
            return Ok((true, format!("agent {is}")));
        }
        if let Some(late) = self.late {
            return Ok((version_allowed(is), format!("agent {was} became {is}; {}", late.words())));
        }
        let cache = self.before.agent.cache.known().filter(|_| !self.bare());
        let staged = cache.and_then(|c| c.staged.as_ref());
        match (staged, cache.is_some_and(|c| reloads(&c.state))) {
            (Some(staged), _) if staged == is => Ok((true, format!("agent {was} became {is}, as was staged"))),
            (None, true) => Err(Missing::new("the staged version", format!("unknown; {was} became {is}"), "")),
            _ => Ok((false, format!("agent {was} became {is}, which was not staged"))),
        }
    }

    fn same_tasks(&self) -> Verdict {
        let after = known(&self.later.agent.tasks)?;
        if let Some(late) = self.late {
            return Ok((true, format!("{} tasks ({}, so not compared)", after.len(), late.words())));
        }
        let before = match &self.before.agent.tasks {
            Fact::Known(tasks) => tasks,
            Fact::Unknown(_) if self.was_dead() => {
                return Ok((true, format!("{} tasks (down before, so not compared)", after.len())));
            }
            Fact::Unknown(missing) => return Err(missing.clone()),
        };
        let (mut lost, mut ended) = (Vec::new(), Vec::new());
        for was in before.iter().filter(|t| t.known_status == "RUNNING") {
            let id = was.arn.rsplit('/').next().unwrap_or(&was.arn);
            let containers = |t: &Task| t.containers.iter().cloned().collect::<BTreeSet<String>>();
            match after.iter().find(|now| now.arn == was.arn && containers(now) == containers(was)) {
                Some(now) if is_stopped(now) => ended.push(id),
                Some(now) if now.known_status == "RUNNING" => {}
                _ => lost.push(id),
            }
        }
        if !lost.is_empty() {
            return Ok((false, format!("not running as before, or with other containers: {}", lost.join(", "))));
        }
        let ended = match ended.as_slice() {
            [] => String::new(),
            ended => format!("; the agent stopped meanwhile, as it tells itself: {}", ended.join(", ")),
        };
        Ok((true, format!("{} tasks, none lost{ended}", after.len())))
    }

    fn workloads(&self) -> Verdict {
        let before = known(&self.before.workloads)?;
        if let Some(late) = self.late {
            return Ok((true, format!("{}, so not compared", late.words())));
        }
        let of = |o: &'_ Observation| -> Result<BTreeMap<String, Workload>, Missing> {
            Ok(known(&o.workloads)?.iter().map(|w| (w.id.clone(), w.clone())).collect())
        };
        let (after, later) = (of(self.after)?, of(self.later)?);
        let (mut same, mut touched, mut ended) = (0, Vec::new(), Vec::new());
        for was in before.iter().filter(|w| w.running) {
            let name = format!("{} ({})", was.name, short(&was.id));
            let fates = [&after, &later].map(|now| fate(was, now.get(&was.id), self.stopped_task_of(&was.id)));
            match fates {
                [Fate::Untouched, Fate::Untouched] => same += 1,
                [Fate::Touched, _] | [_, Fate::Touched] => touched.push(name),
                // What has ended once does not run again as it was.
                [Fate::Ended(_), Fate::Untouched] => touched.push(name),
                [_, Fate::Ended(why)] => ended.push(format!("{name}, {why}")),
            }
        }
        if !touched.is_empty() {
            return Ok((false, format!("stopped, restarted or gone meanwhile: {}", touched.join(", "))));
        }
        let ended = match ended.as_slice() {
            [] => String::new(),
            ended => format!("; ended by itself meanwhile: {}", ended.join("; ")),
        };
        Ok((true, format!("{same} other containers, same IDs, processes and start times{ended}")))
    }

    /// The task of this container, if the agent itself tells that it is stopped. An agent that cannot be asked tells
    /// nothing.
    fn stopped_task_of(&self, container: &str) -> Option<&Task> {
        let tasks = self.later.agent.tasks.known()?;
        tasks.iter().find(|task| is_stopped(task) && task.containers.iter().any(|id| id == container))
    }

    /// Docker alone never touches the rules, so on such a host they only have to be as they were.
    fn credential_rules(&self) -> Verdict {
        let rules = |o: &Observation| -> Result<_, Missing> { known(&known(&o.credentials)?.rules).copied() };
        if self.bare() {
            return Ok(match (rules(self.before), rules(self.later)) {
                (Ok(was), Ok(is)) => (was == is, format!("PREROUTING {}, OUTPUT {}", is.prerouting, is.output)),
                _ => (true, "not compared: a Docker restart does not touch them".into()),
            });
        }
        for side in [self.after, self.later] {
            let is = rules(side)?;
            if (is.prerouting, is.output) != (1, 1) {
                let had = rules(self.before).is_ok_and(|was| (was.prerouting, was.output) == (1, 1));
                let before = if had || self.was_broken() { "" } else { "; they were not right before either" };
                let text =
                    format!("PREROUTING {}, OUTPUT {}: each has to stand once{before}", is.prerouting, is.output);
                return Ok((false, text));
            }
        }
        Ok((true, "each stands once".into()))
    }

    fn credential_port(&self) -> Verdict {
        let answers =
            |o: &Observation| -> Result<bool, Missing> { known(&known(&o.credentials)?.port_answers).copied() };
        let answered_before = answers(self.before).unwrap_or(true) || self.was_broken();
        if self.bare() && !answered_before {
            return Ok((true, "not in use before either".into()));
        }
        let ok = answers(self.later)?;
        Ok((ok, if ok { "answers" } else { "nothing listens" }.into()))
    }

    /// Both websockets on endpoint addresses, and nothing of the control plane elsewhere.
    fn moved(&self) -> Verdict {
        for (seen, judged) in self.both_after() {
            known(&seen.sockets)?;
            known(&seen.instance)?;
            match &judged.need {
                Need::Nothing => {}
                Need::Stale { .. } if self.any_path() && !judged.ready => {}
                Need::Stale { connections } => {
                    let list = connections.iter().map(Connection::to_string).collect::<Vec<_>>().join("; ");
                    return Ok((false, format!("not on endpoints: {list}")));
                }
                Need::Disconnected { missing } => {
                    let list = missing.iter().map(|s| s.id()).collect::<Vec<_>>().join(", ");
                    return Ok((false, format!("no connection to {list}")));
                }
                Need::Unknown => return Ok((false, "the agent is not up".into())),
            }
        }
        let peers: Vec<String> = self
            .then
            .connections
            .iter()
            .filter(|c| c.path == Path::Endpoint)
            .filter_map(|c| c.service.filter(|s| s.is_control_plane()).map(|s| format!("{s} {}", c.socket.peer.ip())))
            .collect();
        Ok((true, if peers.is_empty() { "connected; the endpoints are not ready".into() } else { peers.join(", ") }))
    }

    /// The same connections, by both ends, after the hold time.
    fn held(&self) -> Verdict {
        known(&self.after.sockets)?;
        known(&self.later.sockets)?;
        let pairs = |a: &Assessment, service: Option<Service>| -> BTreeSet<_> {
            let wanted = a.connections.iter().filter(|c| service.is_none() || c.service == service);
            wanted.map(|c| (c.socket.local, c.socket.peer)).collect()
        };
        if self.any_path() && matches!(self.then.need, Need::Stale { .. }) && !self.then.ready {
            // Public hosts have numbered names, so which connection is which cannot be told.
            let held = pairs(&self.is, None).intersection(&pairs(&self.then, None)).count();
            return Ok((held > 0, format!("{held} connections held")));
        }
        let dropped: Vec<&str> = websockets(self.later)
            .iter()
            .filter(|s| pairs(&self.is, Some(**s)).intersection(&pairs(&self.then, Some(**s))).count() == 0)
            .map(|s| s.id())
            .collect();
        let text = if dropped.is_empty() { "held".into() } else { format!("not held: {}", dropped.join(", ")) };
        Ok((dropped.is_empty(), text))
    }
}

/// What became of a container that ran before.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Untouched,
    /// By itself, or because the agent ended its task: why.
    Ended(String),
    /// Stopped, killed, started anew or removed by somebody.
    Touched,
}

/// Exit codes of a container that somebody ended: by SIGHUP, SIGINT, SIGQUIT, SIGKILL or SIGTERM.
const KILLED: [i64; 5] = [129, 130, 131, 137, 143];

/// A container that did what it had to do, or failed at it, was not touched; and the agent stops containers of tasks that
/// are to end, whoever restarts it. Whatever started anew is another run of it, which is nobody's doing only where Docker
/// counts it as one of the container's own restart policy: that count begins anew at a start by anybody else, and
/// no policy starts what somebody stopped or killed through Docker.
fn fate(before: &Workload, now: Option<&Workload>, stopped: Option<&Task>) -> Fate {
    let by_its_task = stopped.map(|task| {
        let id = task.arn.rsplit('/').next().unwrap_or(&task.arn);
        Fate::Ended(format!("with its task {id}, which the agent stopped"))
    });
    let Some(now) = now else { return by_its_task.unwrap_or(Fate::Touched) };
    let same_start = now.started_at == before.started_at;
    let by_policy = before.restart_count.zip(now.restart_count).filter(|(was, is)| is > was);
    match now.exit_code {
        _ if now.running && same_start && now.pid == before.pid => Fate::Untouched,
        // While it waits for its next start Docker calls it running, without a process.
        _ if now.running => by_policy.map_or(Fate::Touched, |(was, is)| {
            Fate::Ended(format!("and was started again by its own restart policy (restart count {was}, now {is})"))
        }),
        _ if !same_start && by_policy.is_none() => Fate::Touched,
        Some(code) if !KILLED.contains(&code) => Fate::Ended(format!("exit code {code}")),
        _ => by_its_task.unwrap_or(Fate::Touched),
    }
}

/// Whether the agent tells that the task is stopped, or is to be.
fn is_stopped(task: &Task) -> bool {
    task.known_status == "STOPPED" || task.desired_status.as_deref() == Some("STOPPED")
}

fn container(seen: &Observation) -> Option<&AgentContainer> {
    match seen.agent.presence.known() {
        Some(Presence::Container(c)) => Some(c),
        _ => None,
    }
}

fn unit_of<'a>(seen: &'a Observation, name: &str) -> Option<&'a Unit> {
    match seen.systemd.known() {
        Some(Systemd::Booted { units }) => units.iter().find(|u| u.name == name),
        _ => None,
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn condition_text(condition: &Condition) -> String {
    match condition {
        Condition::Running => "it runs".into(),
        Condition::Absent => "there is none".into(),
        Condition::Unknown => "it could not be seen".into(),
        Condition::BrokenByDocker { what, .. }
        | Condition::Stopped { what, .. }
        | Condition::StoppedUnclear { what, .. }
        | Condition::Down { what, .. }
        | Condition::Changing { what } => what.clone(),
    }
}
