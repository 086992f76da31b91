//! The edges of the permit: what has to be proved once more just before acting.

use crate::spoil::full_set;
use crate::world::*;
use hostagent::catalog::Service;
use hostagent::decide::{
    Decision, FRESH_S, Policy, RecordedOutcome, RestartRecord, Round, longest_s, next_round, samples,
};
use hostagent::facts::{Answer, Fact};
use jiff::SignedDuration;
use proptest::prelude::*;
use std::time::Duration;

#[track_caller]
fn refused(case: &Case, code: u8, rule: &str) -> Decision {
    let decision = case.permit().unwrap_err();
    let rules: Vec<&str> = decision.reasons().iter().map(|r| r.rule.as_str()).collect();
    assert_eq!((decision.exit_code(), rules.first().copied()), (code, Some(rule)), "{decision:#?}");
    decision
}

/// A case whose rounds are `count`, over `span_s` seconds, with answers of this TTL.
fn confirmed_by(count: i64, span_s: i64, ttl_s: u32) -> Case {
    let mut case = Case::movable(Kind::EcsInit);
    case.rounds = rounds(count, span_s / (count - 1).max(1), after(t0(), 85), ttl_s);
    case
}

/// The same where a cache counts TTLs down: what each answer has left, and how long after the first it was asked for.
fn confirmed_at(rounds_of: &[(u32, i64)]) -> Case {
    let mut case = Case::movable(Kind::EcsInit);
    let last = rounds_of.last().unwrap().1;
    let round = |(left_s, at_s): &(u32, i64)| rounds(1, 0, after(t0(), 85 - last + at_s), *left_s).remove(0);
    case.rounds = rounds_of.iter().map(round).collect();
    case
}

#[test]
fn a_round_within_the_ttl_of_the_last_does_not_count() {
    assert!(confirmed_by(3, 122, 60).permit().is_ok());
    let decision = refused(&confirmed_by(3, 120, 60), 11, "endpoints-not-confirmed");
    let text = &decision.reasons()[0].text;
    assert!(text.starts_with("2 of 3 rounds of look-ups count (3 were made"), "{text}");
    // One cached answer, asked for again and again.
    let decision = refused(&confirmed_at(&[(60, 0), (40, 20), (20, 40), (0, 60)]), 11, "endpoints-not-confirmed");
    assert!(decision.reasons()[0].text.starts_with("1 of 3"), "{decision:?}");
    // What is left of a TTL is waited for, and no more.
    assert!(confirmed_at(&[(3, 0), (60, 4), (60, 65)]).permit().is_ok());
    refused(&confirmed_at(&[(3, 0), (60, 3), (60, 64)]), 11, "endpoints-not-confirmed");
    // The cap.
    assert!(confirmed_by(3, 602, 86_400).permit().is_ok());
    refused(&confirmed_by(3, 600, 86_400), 11, "endpoints-not-confirmed");
}

#[test]
fn the_rounds_span_more_than_the_longest_ttl() {
    // Each the end of an answer's life: three answers, in a fraction of their TTL.
    let short = [(3, 0), (2, 4), (58, 7)];
    let decision = refused(&confirmed_at(&short), 11, "endpoints-not-confirmed");
    assert!(decision.reasons()[0].text.contains("span 7 s, and 59 s are wanted"), "{decision:?}");
    let mut case = confirmed_at(&short);
    assert_eq!(next_round(&case.rounds, &case.policy), Some(Duration::from_secs(59)));
    case = confirmed_at(&[short[0], short[1], short[2], (1, 66)]);
    assert_eq!(next_round(&case.rounds, &case.policy), None);
    assert!(case.permit().is_ok());
    // One long answer in one round is enough to wait longer.
    let mut one = confirmed_at(&[(60, 0), (3, 61), (3, 65)]);
    assert!(one.permit().is_ok());
    *name_mut(&mut one.rounds[2].names, Service::Ecs) = answer(&endpoint_ips(10), 90);
    refused(&one, 11, "endpoints-not-confirmed");
    // The least.
    assert!(confirmed_by(3, 6, 1).permit().is_ok());
    refused(&confirmed_by(3, 4, 1), 11, "endpoints-not-confirmed");
}

#[test]
fn a_hosts_file_has_no_ttl_to_wait_for() {
    let mut case = confirmed_by(3, 6, 60);
    for name in case.rounds.iter_mut().flat_map(|r| &mut r.names) {
        if let Answer::Addresses(addresses) = &mut name.answer {
            addresses.iter_mut().for_each(|a| a.ttl_s = None);
        }
    }
    assert!(case.permit().is_ok());
    assert_eq!(next_round(&case.rounds[..1], &case.policy), Some(Duration::from_millis(2_500)));
}

#[test]
fn it_takes_as_many_rounds_as_configured_and_never_fewer_than_two() {
    refused(&confirmed_by(2, 70, 60), 11, "endpoints-not-confirmed");
    let mut case = confirmed_by(1, 70, 60);
    case.policy.confirm.samples = 0;
    assert_eq!(samples(&case.policy), 2);
    refused(&case, 11, "endpoints-not-confirmed");
    case.rounds.clear();
    refused(&case, 11, "endpoints-not-confirmed");
}

proptest! {
    #![proptest_config(crate::config())]

    /// The rounds of a run behind a cache that counts its TTL down and is filled at any time, by anybody: each hears an
    /// answer that was fetched after the last, they are as many as asked for, over more than the TTL, and they end.
    #[test]
    fn rounds_behind_a_cache_hear_another_answer_each_time(
        ttl_s in 0_u32..400,
        samples in 0_u32..6,
        least_s in 1_u64..100,
        fetches in prop::collection::vec(0_u64..400_000, 1..8),
        late_ms in prop::collection::vec(0_u64..3_000, 1..8),
    ) {
        let mut policy = Case::movable(Kind::EcsInit).policy;
        (policy.confirm.samples, policy.confirm.min_spread_s) = (samples, least_s);
        let ttl_ms = u64::from(ttl_s) * 1_000;
        let (mut now, mut fetched) = (1_000_000, 1_000_000 - fetches[0].min(ttl_ms));
        let (mut made, mut heard, mut longest) = (vec![], vec![], 0);
        loop {
            if now - fetched >= ttl_ms {
                // Somebody else may have asked since, and the cache lives on from then.
                let before = fetches[made.len() % fetches.len()].min(ttl_ms.saturating_sub(1)).min(now - fetched);
                fetched = now - before;
            }
            let left_s = u32::try_from(ttl_ms.saturating_sub(now - fetched) / 1_000).unwrap();
            longest = longest.max(left_s.min(300));
            heard.push(fetched);
            let at = t0().checked_add(SignedDuration::from_millis(now as i64)).unwrap();
            made.push(Round { at, names: names(left_s), reach: vec![] });
            prop_assert!(made.len() < 400, "it ends");
            let Some(wait) = next_round(&made, &policy) else { break };
            prop_assert!(wait <= Duration::from_secs(301));
            now += wait.as_millis() as u64 + late_ms[made.len() % late_ms.len()];
        }
        if ttl_s <= 300 {
            prop_assert!(heard.windows(2).all(|w| w[0] < w[1]), "{heard:?}");
        }
        prop_assert!(made.len() >= samples.max(2) as usize);
        let span = made.last().unwrap().at.duration_since(made[0].at).as_millis();
        prop_assert!(span > i128::from(longest) * 1_000 && span >= i128::from(least_s) * 1_000);
        prop_assert!(span <= i128::from(longest_s(&policy)) * 1_000 + 3_000 * made.len() as i128);
    }
}

/// A clock that is set back, or stands still, does not keep a run looking.
#[test]
fn rounds_without_a_clock_end() {
    let case = confirmed_by(3, 122, 60);
    let mut back = case.rounds.clone();
    back[2].at = after(back[1].at, -1);
    assert_eq!(next_round(&back, &case.policy), None);
    assert_eq!(next_round(&[], &case.policy), None);
}

#[test]
fn flapping_names_never_confirm() {
    let mut case = Case::movable(Kind::EcsInit);
    *name_mut(&mut case.rounds[1].names, Service::EcsTelemetry) = answer(&["198.51.100.12".parse().unwrap()], 60);
    let decision = refused(&case, 11, "endpoints-not-stable");
    assert!(
        decision.reasons()[0].text.contains("ecs-t.eu-west-1.amazonaws.com resolves to the internet"),
        "{decision:?}"
    );
    // Other endpoint addresses are no agreement either, though each answer is an endpoint's.
    *name_mut(&mut case.rounds[1].names, Service::EcsTelemetry) = answer(&["10.50.1.12".parse().unwrap()], 60);
    refused(&case, 11, "endpoints-not-stable");
    // Rotation of the same addresses is.
    let turned: Vec<_> = endpoint_ips(12).into_iter().rev().collect();
    *name_mut(&mut case.rounds[1].names, Service::EcsTelemetry) = answer(&turned, 60);
    assert!(case.permit().is_ok());
}

#[test]
fn what_is_old_or_from_the_future_does_not_count() {
    let mut case = Case::movable(Kind::EcsInit);
    case.now = after(case.fresh.at, FRESH_S);
    let permit = case.permit().unwrap();
    assert!(permit.valid_at(case.now) && !permit.valid_at(after(case.now, 1)));
    case.now = after(case.fresh.at, FRESH_S + 1);
    refused(&case, 1, "observation-not-fresh");
    case.now = after(case.fresh.at, -1);
    refused(&case, 1, "observation-not-fresh");

    let mut old = Case::movable(Kind::EcsInit);
    old.fresh.at = after(t0(), 85 + 601);
    old.now = old.fresh.at;
    refused(&old, 11, "endpoints-not-confirmed");
    let mut back = Case::movable(Kind::EcsInit);
    back.rounds[1].at = after(back.rounds[0].at, -1);
    refused(&back, 11, "endpoints-not-confirmed");
    let mut ahead = Case::movable(Kind::EcsInit);
    ahead.rounds.last_mut().unwrap().at = after(ahead.now, 1);
    refused(&ahead, 11, "endpoints-not-confirmed");
}

#[test]
fn a_host_that_changed_meanwhile_is_begun_anew() {
    // Somebody made another container.
    let mut case = Case::movable(Kind::Bare);
    agent_container(&mut case.fresh).id = "another".into();
    refused(&case, 75, "host-changed");
    // Somebody, or the agent itself, moved it.
    let mut case = Case::movable(Kind::EcsInit);
    case.fresh.sockets = Fact::Known(endpoint_sockets());
    assert_eq!(case.permit().unwrap_err(), Decision::Settled);
    // The endpoints were replaced, and every round says so: another set, and not the one decided on.
    let mut case = Case::movable(Kind::EcsInit);
    let other = answer(&["10.50.3.10".parse().unwrap()], 60);
    *name_mut(&mut case.fresh.names, Service::Ecs) = other.clone();
    case.fresh.reach = reach(&case.fresh.names);
    for round in &mut case.rounds {
        *name_mut(&mut round.names, Service::Ecs) = other.clone();
        round.reach = reach(&round.names);
    }
    refused(&case, 11, "endpoints-not-stable");
}

#[test]
fn the_permit_holds_what_was_seen() {
    let case = Case::movable(Kind::EcsInit);
    let permit = case.permit().unwrap();
    assert_eq!((permit.before(), permit.issued_at(), permit.repair()), (&case.fresh, case.now, false));
    assert_eq!(Some(permit.plan()), case.decide().plan());
    assert_eq!(Policy::new(&case.settings, true), case.policy);
}

#[test]
fn budget_cool_down_and_once_a_set_are_said_apart() {
    let record = |age_s: i64, same_set: bool, outcome| RestartRecord {
        run_id: "r".into(),
        at: after(t0(), -age_s),
        endpoints: if same_set { full_set() } else { Default::default() },
        repair: false,
        outcome,
    };
    let spent = |records: Vec<RestartRecord>| {
        let mut case = Case::movable(Kind::EcsInit);
        case.history.restarts = records;
        let decision = case.decide();
        (decision.exit_code(), decision.reasons().iter().map(|r| r.rule.clone()).collect::<Vec<_>>().join(","))
    };
    use RecordedOutcome::{Begun, NotActed, NotVerified, Verified};
    assert_eq!(spent(vec![record(4_000, false, Verified)]), (10, String::new()));
    assert_eq!(spent(vec![record(3_599, false, Begun)]), (75, "cool-down".into()));
    assert_eq!(spent(vec![record(-50, false, Verified)]), (75, "cool-down".into()));
    assert_eq!(spent(vec![record(5_000, false, Verified), record(9_000, false, Begun)]), (75, "budget-spent".into()));
    assert_eq!(spent(vec![record(500_000, true, NotVerified)]), (75, "set-already-tried".into()));
    assert_eq!(spent(vec![record(10, true, NotActed), record(20, true, NotActed)]), (10, String::new()));
    let mut other = Case::movable(Kind::EcsInit);
    other.history.instance_id = "i-0another".into();
    other.history.restarts = vec![record(10, true, Verified)];
    assert_eq!(other.decide().exit_code(), 10);
}
