//! The invariants in plain words over facts: written apart from the rules they watch over, and in another way.

use crate::world::{Case, NAMES};
use hostagent::decide::{Method, Permit, RecordedOutcome};
use hostagent::facts::*;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

fn vpc() -> IpNet {
    "10.50.0.0/17".parse().unwrap()
}

/// The addresses of one name, if there is exactly such a name and all of them are in the VPC.
fn private(names: &[NameFact], host: &str) -> Option<BTreeSet<IpAddr>> {
    let answers: Vec<&Answer> = names.iter().filter(|n| n.host == host).map(|n| &n.answer).collect();
    let [Answer::Addresses(addresses)] = answers.as_slice() else { return None };
    let ips: BTreeSet<IpAddr> = addresses.iter().map(|a| a.ip.to_canonical()).collect();
    (!ips.is_empty() && ips.iter().all(|ip| vpc().contains(ip))).then_some(ips)
}

fn all_answer(reach: &[ReachFact], host: &str, ips: &BTreeSet<IpAddr>) -> bool {
    ips.iter().all(|ip| {
        let mut of = reach.iter().filter(|r| r.host == host && r.addr.ip().to_canonical() == *ip).peekable();
        of.peek().is_some() && of.all(|r| matches!(r.outcome, ReachOutcome::Reached { .. }))
    })
}

/// 1: whether the three names are proved to be private, stable and reachable.
pub fn endpoints_proved(case: &Case) -> bool {
    let Some(last) = case.rounds.last() else { return false };
    let mut ttl = 0;
    // Answers of one round that may still be in a cache at another are one answer. Whoever asks may choose which count.
    let cached = |r: &hostagent::decide::Round| {
        let of = NAMES.iter().flat_map(|(_, host, _)| r.names.iter().filter(move |n| n.host == *host));
        i64::from(of.filter_map(|n| n.answer.max_ttl_s()).fold(0, u32::max).min(300))
    };
    let (mut fresh, mut counted) = (1, &case.rounds[0]);
    for round in &case.rounds[1..] {
        if round.at.duration_since(counted.at).as_secs() > cached(counted) {
            (fresh, counted) = (fresh + 1, round);
        }
    }
    for (_, host, _) in NAMES {
        let Some(ips) = private(&case.fresh.names, host) else { return false };
        if case.rounds.iter().any(|r| private(&r.names, host).as_ref() != Some(&ips)) {
            return false;
        }
        if !all_answer(&case.fresh.reach, host, &ips) || !all_answer(&last.reach, host, &ips) {
            return false;
        }
        let answers = case.rounds.iter().flat_map(|r| r.names.iter().filter(|n| n.host == host));
        ttl = answers.filter_map(|n| n.answer.max_ttl_s()).fold(ttl, u32::max);
    }
    let span = last.at.duration_since(case.rounds[0].at).as_secs();
    fresh >= 2 && fresh >= case.policy.confirm.samples && span > i64::from(ttl.min(300))
}

/// 2: whether the version may be restarted.
pub fn version_fit(seen: &Observation) -> bool {
    let Fact::Known(AgentVersion { version, .. }) = &seen.agent.version else { return false };
    let v = (version.major, version.minor, version.patch);
    v >= (1, 25, 1) && !((1, 44, 0)..=(1, 44, 3)).contains(&v) && !((1, 50, 0)..=(1, 50, 1)).contains(&v)
}

/// 2: whether the agent's state survives.
pub fn state_survives(seen: &Observation, supervised: bool) -> bool {
    let Fact::Known(p) = &seen.agent.persistence else { return false };
    let kept = p.data_dir.is_some() && p.host_dir.is_some() && p.checkpoint;
    let saved = p.state_file.as_ref().is_some_and(|f| f.1 > 0);
    let next = match &seen.agent.config_file {
        Fact::Known(file) => {
            let off = ["0", "f", "F", "false", "FALSE", "False"];
            file.env.get("ECS_CHECKPOINT").is_none_or(|v| !off.contains(&v.trim()))
                && file.env.get("ECS_DATADIR").is_none_or(|v| Some(v) == p.data_dir.as_ref())
        }
        Fact::Unknown(_) => false,
    };
    kept && saved && (next || !supervised)
}

/// 3: whether the method goes through the only owner there can be.
pub fn right_owner(seen: &Observation, method: &Method) -> bool {
    let units: Vec<&Unit> = match &seen.systemd {
        Fact::Known(Systemd::Booted { units }) => units.iter().filter(|u| u.load_state != "not-found").collect(),
        Fact::Known(Systemd::NotBooted) => vec![],
        Fact::Unknown(_) => return false,
    };
    let Fact::Known(Presence::Container(c)) = &seen.agent.presence else { return false };
    match method {
        Method::DockerRestart { container_id, .. } => {
            let no_trace = matches!(&seen.agent.ecs_init, Fact::Known(traces) if traces.is_empty());
            units.is_empty() && no_trace && c.restart_policy != RestartPolicy::No && c.id == *container_id
        }
        Method::RestartUnit { unit } | Method::StartUnit { unit } => {
            let busy = |u: &&&Unit| !matches!(u.active_state.as_str(), "inactive" | "failed");
            let ours = units.iter().find(|u| u.name == *unit);
            let rivals = units.iter().filter(|u| u.name != *unit).filter(busy).count();
            ours.is_some_and(|u| u.role == UnitRole::EcsInit && u.load_state == "loaded" && u.job.is_none())
                && rivals == 0
                && c.restart_policy == RestartPolicy::No
        }
    }
}

/// 4: whether history allows one more.
pub fn within_budget(case: &Case, permit: &Permit) -> bool {
    if case.history.instance_id != crate::world::INSTANCE {
        return true;
    }
    let age = |r: &&hostagent::decide::RestartRecord| case.now.duration_since(r.at).as_secs();
    let counted: Vec<_> = case.history.restarts.iter().filter(|r| r.outcome != RecordedOutcome::NotActed).collect();
    let today = counted.iter().filter(|r| age(r) < 86_400).count();
    let Fact::Known(Presence::Container(c)) = &case.fresh.agent.presence else { return false };
    // Somebody asked for a start of what is dead: nothing is interrupted.
    let dead = permit.repair() && c.state != ContainerState::Running;
    let cool = dead || counted.iter().all(|r| age(r) >= case.policy.restart.cool_down_s as i64);
    let another = |r: &hostagent::decide::RestartRecord| {
        let proved = r.agent.as_ref().filter(|_| r.outcome == RecordedOutcome::Verified);
        proved.is_some_and(|a| a.container_id != c.id || a.started_at != c.started_at)
    };
    let endpoints = &permit.plan().endpoints;
    let same_set = |r: &hostagent::decide::RestartRecord| !endpoints.0.is_empty() && r.endpoints == *endpoints;
    let fresh_set = dead || counted.iter().all(|r| !same_set(r) || another(r));
    today < case.policy.restart.budget_per_day as usize && cool && fresh_set
}

/// 5: whether every task is in the state it is meant to be in.
pub fn tasks_at_rest(seen: &Observation) -> bool {
    let Fact::Known(tasks) = &seen.agent.tasks else { return false };
    tasks.iter().all(|t| match (t.desired_status.as_deref(), t.known_status.as_str()) {
        (None, known) => known == "RUNNING" || known == "STOPPED",
        (Some(desired), known) => desired == known && known != "PENDING",
    })
}
