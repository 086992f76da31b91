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
    time::Duration,
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

/// A cache tells a TTL in whole seconds: what it says has 3 s left may live on for almost 4.
const ROUNDING_MS: u64 = 1_000;

/// Looks that agree, as far as they count.
///
/// An answer may come from a cache that counts its TTL down (the VPC's resolver and systemd-resolved do). As long as
/// that lasts, to ask again is to hear the same answer again, and what is left of it is not the TTL. So a look counts
/// only when it was asked after the answers of the last that counted had run out, and the looks have to span more than
/// the longest TTL seen. Times are milliseconds of any clock that goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agreement {
    /// Looks that count, the first included.
    pub seen: u32,
    /// When the first was asked.
    pub since_ms: u64,
    /// When the last that counts was asked.
    pub last_ms: u64,
    /// The longest TTL seen, capped, in seconds; `None` as long as no answer had one (the hosts file).
    pub longest_ttl_s: Option<u32>,
    /// For how long the answers of the last that counts may stay in a cache, counted from when they were had.
    pub cached_ms: u64,
    /// When they have gone from there.
    pub gone_ms: u64,
}

impl Agreement {
    /// The first look: asked and answered at these times, with answers of at most this TTL.
    pub fn new(asked_ms: u64, answered_ms: u64, ttl_s: Option<u32>) -> Self {
        let mut agreement = Self { since_ms: asked_ms, ..Self::default() };
        agreement.count(asked_ms, answered_ms, ttl_s);
        agreement
    }

    /// A further look that agrees. It counts when its answers cannot be those of the last that did.
    pub fn add(&mut self, asked_ms: u64, answered_ms: u64, ttl_s: Option<u32>) {
        // What a cache says is left adds nothing; a server that hands out a longer TTL does, whenever it says so.
        self.longest_ttl_s = self.longest_ttl_s.max(ttl_s.map(|ttl| ttl.min(TTL_CAP_S)));
        if asked_ms >= self.gone_ms.max(self.last_ms) {
            self.count(asked_ms, answered_ms, ttl_s);
        }
    }

    fn count(&mut self, asked_ms: u64, answered_ms: u64, ttl_s: Option<u32>) {
        let ttl_s = ttl_s.map(|ttl| ttl.min(TTL_CAP_S));
        self.seen = self.seen.saturating_add(1);
        self.last_ms = asked_ms;
        self.longest_ttl_s = self.longest_ttl_s.max(ttl_s);
        self.cached_ms = ttl_s.map_or(0, run_out_ms);
        self.gone_ms = answered_ms.saturating_add(self.cached_ms);
    }

    /// How long the looks must span, in seconds: more than the longest TTL seen, and no less than `least_s`.
    pub fn spread_s(&self, least_s: u64) -> u64 {
        self.longest_ttl_s.map_or(0, |ttl| u64::from(ttl) + 1).max(least_s)
    }

    /// How long the looks that count span, in milliseconds.
    pub fn span_ms(&self) -> u64 {
        self.last_ms.saturating_sub(self.since_ms)
    }

    /// Whether `samples` looks count, over more than the longest TTL.
    pub fn proved(&self, samples: u32, least_s: u64) -> bool {
        self.seen >= samples && self.span_ms() >= self.spread_s(least_s).saturating_mul(1_000)
    }

    /// From the answers of the last look that counts to the next, which is sure to count; `None` once all is proved.
    pub fn next_in(&self, samples: u32, least_s: u64) -> Option<Duration> {
        if self.proved(samples, least_s) {
            return None;
        }
        let share = match samples.checked_sub(self.seen) {
            Some(1..) => least_s.saturating_mul(1_000) / u64::from(samples.saturating_sub(1).max(1)),
            _ => self.spread_s(least_s).saturating_mul(1_000).saturating_sub(self.span_ms()),
        };
        Some(Duration::from_millis(self.cached_ms.max(share)))
    }
}

/// How long an answer that has so many seconds left may stay in a cache, in milliseconds.
pub fn run_out_ms(ttl_s: u32) -> u64 {
    u64::from(ttl_s.min(TTL_CAP_S)) * 1_000 + ROUNDING_MS
}

/// The longest TTL among the control plane's names, in seconds.
pub fn longest_ttl_s<'a>(names: impl IntoIterator<Item = &'a NameFact>) -> Option<u32> {
    let control_plane = names.into_iter().filter(|n| n.service.is_control_plane());
    control_plane.filter_map(|n| n.answer.max_ttl_s()).max()
}

/// How far the rounds agree, by the clock of their times; `None` without rounds, or when that clock was set back.
pub fn agreement(rounds: &[Round]) -> Option<Agreement> {
    let first = rounds.first()?;
    let since = |round: &Round| u64::try_from(round.at.duration_since(first.at).as_millis()).ok();
    let mut agreement = Agreement::new(0, 0, longest_ttl_s(&first.names));
    let mut last_ms = 0;
    for round in &rounds[1..] {
        let at_ms = since(round).filter(|at| *at >= last_ms)?;
        agreement.add(at_ms, at_ms, longest_ttl_s(&round.names));
        last_ms = at_ms;
    }
    Some(agreement)
}

/// How long to wait, from the answers of the last round, before the next is made; `None` when another would add
/// nothing: all is proved, or the clock was set back, which [`super::permit`] tells.
///
/// Each round is asked for only when what the last one heard has gone from every cache, and together they outlast the
/// longest TTL seen: with TTLs up to [`TTL_CAP_S`], that ends.
pub fn next_round(rounds: &[Round], policy: &Policy) -> Option<Duration> {
    agreement(rounds)?.next_in(samples(policy), policy.confirm.min_spread_s)
}

/// The longest that the rounds may take with waits as [`next_round`] tells them, in seconds, the looks not included.
pub fn longest_s(policy: &Policy) -> u64 {
    let (cap, least) = (u64::from(TTL_CAP_S) + 1, policy.confirm.min_spread_s);
    let between = cap.saturating_mul(u64::from(samples(policy)) - 1);
    between.max(least).max(cap).saturating_add(cap)
}

/// How many rounds it takes: as configured, and never fewer than two.
pub fn samples(policy: &Policy) -> u32 {
    policy.confirm.samples.max(2)
}

/// Whether the rounds prove `set`: enough of them that count, over more than one TTL, all with the same endpoint
/// addresses, every one of which answered for its name in the latest round.
pub(super) fn confirm(
    rounds: &[Round],
    set: &EndpointSet,
    targets: &[Target],
    map: &PathMap<'_>,
    policy: &Policy,
) -> Result<(), Vec<Reason>> {
    let unproved = |text: String, remedy: &str| Reason::new("endpoints-not-confirmed", text, remedy);
    let mut reasons = Vec::new();
    let (wanted, least_s) = (samples(policy), policy.confirm.min_spread_s);
    match agreement(rounds) {
        None if rounds.is_empty() => reasons.push(unproved(format!("0 of {wanted} rounds of look-ups were made"), "")),
        None => reasons.push(unproved("the clock was set back between the look-ups".into(), "run this again")),
        Some(agreement) => {
            if agreement.seen < wanted {
                let made = rounds.len();
                let text = format!(
                    "{} of {wanted} rounds of look-ups count ({made} were made; those within a TTL of the last may be \
                     its answer again)",
                    agreement.seen
                );
                reasons.push(unproved(text, ""));
            }
            let (span, spread) = (agreement.span_ms() / 1_000, agreement.spread_s(least_s));
            if span < spread {
                reasons.push(unproved(format!("the look-ups span {span} s, and {spread} s are wanted"), ""));
            }
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
