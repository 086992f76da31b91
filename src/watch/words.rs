//! States in words a person can read in `systemctl status`.

use super::{
    Policy, rollout,
    state::{Hold, Phase, State},
};
use crate::{
    config::{self, OnReady},
    decide::{Agreement, Decision, EndpointSet, Method, Reason},
};
use jiff::{SignedDuration, Timestamp};
use std::{net::IpAddr, time::Duration};

/// Every word of [`phase`].
pub const PHASES: [&str; 9] =
    ["observing", "candidate", "ready", "waiting", "acting", "verifying", "settled", "blocked", "broken"];

/// Of a set for which the service has restarted the agent already.
pub(super) const TRIED: &str = "the service restarted the agent for these very endpoints, and it is not on them; the \
                                service does not try that again, hostagent restart does";

/// The phase in a word, stable across versions.
pub fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Observing => "observing",
        Phase::Candidate { .. } => "candidate",
        Phase::Ready { .. } => "ready",
        Phase::Waiting { .. } => "waiting",
        Phase::Acting { .. } => "acting",
        Phase::Verifying { .. } => "verifying",
        Phase::Settled => "settled",
        Phase::Blocked => "blocked",
        Phase::Broken => "broken",
    }
}

/// The first reason, and how many more there are.
pub fn why(decision: &Decision) -> String {
    match decision.reasons() {
        [] => "no reason was given".into(),
        [Reason { text, .. }] => text.clone(),
        [Reason { text, .. }, more @ ..] => format!("{text} (and {} more)", more.len()),
    }
}

/// A verdict in a line.
pub fn verdict(decision: &Decision) -> String {
    match decision {
        Decision::Settled => "settled: every connection of the agent is on an endpoint".into(),
        Decision::Waiting { .. } => format!("waiting for endpoints: {}", why(decision)),
        Decision::Restart { plan } => format!("the endpoints are there: {}", set(&plan.endpoints)),
        Decision::Repair { plan } => {
            let why = plan.why.first().map_or("the agent is down", String::as_str);
            format!("BROKEN: {why}; hostagent restart --repair mends it")
        }
        Decision::Refuse { .. } => format!("the agent cannot be moved safely: {}", why(decision)),
        Decision::Spent { .. } => format!("not now: {}", why(decision)),
        Decision::Broken { .. } => format!("BROKEN: {}", why(decision)),
        Decision::Unknown { .. } => format!("too little can be seen: {}", why(decision)),
    }
}

/// What a look came to, in a line; `gap` when a missing connection is not to be called broken yet.
pub fn looked(decision: &Decision, gap: bool) -> String {
    let why = decision.plan().and_then(|plan| plan.why.first().cloned()).unwrap_or_else(|| why(decision));
    if gap { format!("{why}; brief gaps are normal, looking again") } else { verdict(decision) }
}

/// Whether all that is wrong is that the agent lacks a connection to the control plane.
pub fn only_a_gap(decision: &Decision) -> bool {
    match decision {
        // An agent that is down, or runs unsupervised, is mended by a start.
        Decision::Repair { plan } => matches!(plan.method, Method::RestartUnit { .. } | Method::DockerRestart { .. }),
        Decision::Broken { reasons } => reasons.first().is_some_and(|reason| reason.rule == "not-connected"),
        _ => false,
    }
}

/// The addresses of a set.
pub fn set(endpoints: &EndpointSet) -> String {
    let mut ips: Vec<IpAddr> = endpoints.0.iter().map(|(_, ip)| *ip).collect();
    ips.sort();
    ips.dedup();
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// `9 s`, `12 min`, `3 h 5 min`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    match (seconds / 3_600, seconds % 3_600 / 60, seconds) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) if m < 10 && s % 60 != 0 => format!("{m} min {} s", s % 60),
        (0, m, _) => format!("{m} min"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

pub(super) fn left_to_others(on_ready: OnReady) -> String {
    match on_ready {
        OnReady::Rollout => "ready; on_ready = \"rollout\": the cluster's runbook moves this host".into(),
        _ => "ready; on_ready = \"report\": nothing is touched; hostagent restart moves the agent".into(),
    }
}

/// What holds a host that is ready, and until when as far as that is known.
pub(super) fn held(hold: &Hold, policy: &Policy) -> String {
    match hold {
        Hold::Splay => "ready; waiting for its splay".into(),
        Hold::BackOff => "ready; the last try did not come about, waiting before the next".into(),
        Hold::Paused => format!("ready; paused by the pause file, until {} is removed", policy.pause_file.display()),
        Hold::Window { opens: Some(opens) } => {
            format!("ready; outside the window, until {}", config::opens_words(&policy.window, *opens))
        }
        Hold::Window { opens: None } => "ready; outside the window, which does not open within two weeks".into(),
        Hold::Look => "ready; looking once more".into(),
        Hold::Hooks => "ready; asking the hooks".into(),
        Hold::Veto { hook, said, .. } => format!("ready; vetoed by {hook}: {said}"),
        Hold::Rollout => "ready; starting the cluster's rollout, or joining it".into(),
    }
}

/// The state in a line. `last` is what the last look came to.
pub fn status(state: &State, last: Option<&Decision>, up_ms: u64, now: Timestamp, policy: &Policy) -> String {
    let at = |ms: u64| {
        let left = SignedDuration::from_millis(i64::try_from(ms.saturating_sub(up_ms)).unwrap_or(0));
        now.checked_add(left).map_or_else(|_| String::new(), |at| format!("{at:.0}"))
    };
    match &state.phase {
        Phase::Observing => last.map_or_else(|| "looking at the host".into(), |last| looked(last, only_a_gap(last))),
        Phase::Candidate { looks: Agreement { seen, .. }, .. } => {
            format!("all three endpoints are there; {seen} of {} agreeing looks so far", policy.samples.max(2))
        }
        Phase::Ready { endpoints } => rollout::words_of(state, endpoints, policy),
        Phase::Waiting { splay_until_ms, hold: Hold::Splay, .. } => {
            let deed = match policy.on_ready {
                OnReady::Rollout => "starts the cluster's rollout",
                _ => "restarts the agent",
            };
            format!("ready; {deed} at {} (splay)", at(*splay_until_ms))
        }
        Phase::Waiting { hold: Hold::BackOff, .. } => {
            let why = match state.rollout_trouble.as_str() {
                "" => "the last try did not come about",
                trouble => trouble,
            };
            format!("ready; {why}; the next try is at {}", at(state.not_before_ms))
        }
        Phase::Waiting { hold: hold @ Hold::Veto { again_ms, .. }, .. } => {
            format!("{}; asked again at {}", held(hold, policy), at(*again_ms))
        }
        Phase::Waiting { hold, .. } => held(hold, policy),
        Phase::Acting { recovering: true, .. } => "finishing an interrupted restart of the agent".into(),
        Phase::Acting { run, .. } => {
            format!("restarting the agent{}", run.as_deref().map(|r| format!(" (run {r})")).unwrap_or_default())
        }
        Phase::Verifying { .. } => "the agent is back; verifying that it moved".into(),
        Phase::Settled => verdict(&Decision::Settled),
        Phase::Blocked | Phase::Broken => match last {
            Some(decision) if !matches!(decision, Decision::Settled | Decision::Restart { .. }) => verdict(decision),
            _ if state.phase == Phase::Broken => {
                "BROKEN: the restart could not be verified; see hostagent check".into()
            }
            Some(Decision::Restart { .. }) => TRIED.into(),
            _ => "not moving the agent; see hostagent check".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(hold: Hold, policy: &Policy) -> String {
        let phase = Phase::Waiting {
            endpoints: EndpointSet::default(),
            since_ms: 0,
            splay_until_ms: 90_000,
            agrees: true,
            hold,
        };
        let state = State { phase, not_before_ms: 120_000, ..State::default() };
        status(&state, None, 60_000, Timestamp::UNIX_EPOCH, policy)
    }

    #[test]
    fn the_status_line_says_what_is_waited_for_and_until_when() {
        let window = vec!["Sat 02:00-04:00 Europe/Berlin".parse().unwrap()];
        let policy = Policy { window, pause_file: "/run/hostagent/pause".into(), ..Policy::default() };
        let rollout = Policy { on_ready: OnReady::Rollout, ..policy.clone() };
        let opens = Some("2026-11-28T01:00:00Z".parse().unwrap());
        for (hold, words) in [
            (Hold::Window { opens }, "ready; outside the window, until Sat 02:00 Europe/Berlin (2026-11-28)"),
            (Hold::Paused, "ready; paused by the pause file, until /run/hostagent/pause is removed"),
            (Hold::Splay, "ready; restarts the agent at 1970-01-01T00:00:30Z (splay)"),
            (Hold::BackOff, "ready; the last try did not come about; the next try is at 1970-01-01T00:01:00Z"),
        ] {
            assert_eq!(says(hold, &policy), words);
        }
        let veto = Hold::Veto { hook: "10-deploy".into(), said: "a deployment".into(), again_ms: 80_000 };
        assert_eq!(
            says(veto, &policy),
            "ready; vetoed by 10-deploy: a deployment; asked again at 1970-01-01T00:00:20Z"
        );
        assert_eq!(says(Hold::Splay, &rollout), "ready; starts the cluster's rollout at 1970-01-01T00:00:30Z (splay)");
    }

    #[test]
    fn what_the_service_has_tried_is_told_from_what_cannot_be_done() {
        let state = State { phase: Phase::Blocked, ..State::default() };
        let says = |last: &Decision| status(&state, Some(last), 0, Timestamp::UNIX_EPOCH, &Policy::default());
        let method = Method::RestartUnit { unit: "ecs.service".into() };
        let plan = crate::decide::Plan { method, why: vec![], endpoints: EndpointSet::default(), deadline_s: 120 };
        let said = says(&Decision::Restart { plan });
        assert!(said.starts_with("the service restarted the agent") && said.contains("hostagent restart"), "{said}");
        let reasons = vec![Reason::new("version-too-old", "1.20.0 is too old", "")];
        assert!(says(&Decision::Refuse { reasons }).contains("1.20.0 is too old"));
    }

    #[test]
    fn spans_are_short() {
        let of = |s| span(Duration::from_secs(s));
        assert_eq!((of(0), of(59), of(61)), ("0 s".into(), "59 s".into(), "1 min 1 s".into()));
        assert_eq!((of(1_799), of(3_600), of(11_100)), ("29 min".into(), "1 h".into(), "3 h 5 min".into()));
    }
}
