//! Proof over time: several rounds of look-ups and probes that agree.

use super::{EndpointSet, Policy, Reason};
use crate::assess::{PathMap, Target, list, outcome_text, reach, same_host};
use crate::catalog::CONTROL_PLANE;
use crate::facts::{NameFact, ReachFact};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

/// One round of look-ups and probes of the control-plane names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// When the look-ups were made.
    pub at: Timestamp,
    pub names: Vec<NameFact>,
    pub reach: Vec<ReachFact>,
}

/// The longest TTL that is waited for, in seconds. A change under way shows within the TTL of AWS's records (60 s); a
/// private zone with a TTL of hours would only put the restart off for hours.
pub const TTL_CAP_S: u32 = 300;

/// How long the rounds must span, in seconds: more than the longest TTL seen (capped), and no less than configured.
pub fn spread_s<'a>(names: impl IntoIterator<Item = &'a NameFact>, policy: &Policy) -> u64 {
    let control_plane = names.into_iter().filter(|n| n.service.is_control_plane());
    let ttl = control_plane.filter_map(|n| n.answer.max_ttl_s()).max();
    let ttl = ttl.map_or(0, |ttl| u64::from(ttl.min(TTL_CAP_S)) + 1);
    ttl.max(policy.confirm.min_spread_s)
}

/// How many rounds it takes: as configured, and never fewer than two.
pub fn samples(policy: &Policy) -> usize {
    usize::try_from(policy.confirm.samples).unwrap_or(usize::MAX).max(2)
}

/// Whether the rounds prove `set`: enough of them, over more than one TTL, all with the same endpoint addresses,
/// every one of which answered for its name in the latest round.
pub(super) fn confirm(
    rounds: &[Round],
    set: &EndpointSet,
    targets: &[Target],
    map: &PathMap<'_>,
    policy: &Policy,
) -> Result<(), Vec<Reason>> {
    let unproved = |text: String, remedy: &str| Reason::new("endpoints-not-confirmed", text, remedy);
    let mut reasons = Vec::new();
    let wanted = samples(policy);
    if rounds.len() < wanted {
        reasons.push(unproved(format!("{} of {wanted} rounds of look-ups were made", rounds.len()), ""));
    }
    if rounds.iter().zip(rounds.iter().skip(1)).any(|(one, next)| next.at < one.at) {
        reasons.push(unproved("the clock was set back between the look-ups".into(), "run this again"));
    }
    let spread = spread_s(rounds.iter().flat_map(|r| &r.names), policy);
    if let (Some(first), Some(last)) = (rounds.first(), rounds.last()) {
        let span = last.at.duration_since(first.at).as_secs();
        if u64::try_from(span).map_or(true, |span| span < spread) {
            reasons.push(unproved(format!("the look-ups span {span} s, and {spread} s are wanted"), ""));
        }
    }
    for service in CONTROL_PLANE {
        let Some(target) = targets.iter().find(|t| t.service == service) else {
            reasons.push(unproved(format!("the host of {service} is not known"), ""));
            continue;
        };
        let of_service: BTreeSet<IpAddr> = set.0.iter().filter(|(s, _)| *s == service).map(|(_, ip)| *ip).collect();
        reasons.extend(disagreement(rounds, target, &of_service, map));
        if let Some(latest) = rounds.last() {
            reasons.extend(unanswered(latest, target, &of_service));
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// The first round that did not give just these addresses.
fn disagreement(rounds: &[Round], target: &Target, wanted: &BTreeSet<IpAddr>, map: &PathMap<'_>) -> Option<Reason> {
    rounds.iter().find_map(|round| {
        let mut facts =
            round.names.iter().filter(|n| n.service == target.service && same_host(&n.host, &target.host)).peekable();
        let host = &target.host;
        if facts.peek().is_none() {
            return Some(Reason::new(
                "endpoints-not-confirmed",
                format!("{host} was not looked up at {:.0}", round.at),
                "",
            ));
        }
        let paths: Vec<_> = facts.map(|n| map.name(n)).collect();
        let agree = paths.iter().all(|p| p.endpoint().is_some_and(|ips| ips == wanted));
        (!agree || wanted.is_empty()).then(|| {
            let seen = paths.iter().map(crate::assess::path_text).collect::<Vec<_>>().join("; ");
            Reason::new(
                "endpoints-not-stable",
                format!("at {:.0} {host} {seen}; before: {}", round.at, list(wanted)),
                "DNS is still changing: run this again in a few minutes",
            )
        })
    })
}

fn unanswered(latest: &Round, target: &Target, wanted: &BTreeSet<IpAddr>) -> Option<Reason> {
    wanted.iter().find_map(|ip| {
        let outcome = reach(&latest.reach, target.service, &target.host, SocketAddr::new(*ip, target.port));
        let said = match outcome {
            Some(outcome) if outcome.reached() => return None,
            Some(outcome) => outcome_text(outcome),
            None => "was not probed".into(),
        };
        let text = format!("at {:.0} {} at {ip}:{}: {said}", latest.at, target.host, target.port);
        Some(Reason::new("not-reached", text, "every address has to answer: see hostagent check"))
    })
}
