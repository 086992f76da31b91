//! The edges of the permit: what has to be proved once more just before acting.

use crate::spoil::full_set;
use crate::world::*;
use hostagent::catalog::Service;
use hostagent::decide::{Decision, FRESH_S, Policy, RecordedOutcome, RestartRecord, samples, spread_s};
use hostagent::facts::{Answer, Fact};

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
    case.rounds = rounds(count, 0, after(t0(), 85), ttl_s);
    case.rounds.first_mut().unwrap().at = after(t0(), 85 - span_s);
    case
}

#[test]
fn the_rounds_span_more_than_the_longest_ttl() {
    assert!(confirmed_by(3, 61, 60).permit().is_ok());
    let decision = refused(&confirmed_by(3, 60, 60), 11, "endpoints-not-confirmed");
    assert!(decision.reasons()[0].text.contains("span 60 s, and 61 s are wanted"), "{decision:?}");
    // One long answer in one round is enough to wait longer.
    let mut one = confirmed_by(3, 61, 60);
    *name_mut(&mut one.rounds[1].names, Service::Ecs) = answer(&endpoint_ips(10), 90);
    refused(&one, 11, "endpoints-not-confirmed");
    // The cap, and the least.
    assert!(confirmed_by(3, 301, 86_400).permit().is_ok());
    refused(&confirmed_by(3, 300, 86_400), 11, "endpoints-not-confirmed");
    assert!(confirmed_by(3, 5, 1).permit().is_ok());
    refused(&confirmed_by(3, 4, 1), 11, "endpoints-not-confirmed");
}

#[test]
fn a_hosts_file_has_no_ttl_to_wait_for() {
    let case = Case::movable(Kind::EcsInit);
    let mut names = names(60);
    for name in &mut names {
        if let Answer::Addresses(addresses) = &mut name.answer {
            addresses.iter_mut().for_each(|a| a.ttl_s = None);
        }
    }
    assert_eq!(spread_s(&names, &case.policy), case.policy.confirm.min_spread_s);
}

#[test]
fn it_takes_as_many_rounds_as_configured_and_never_fewer_than_two() {
    assert!(confirmed_by(3, 70, 60).permit().is_ok());
    refused(&confirmed_by(2, 70, 60), 11, "endpoints-not-confirmed");
    let mut case = confirmed_by(1, 70, 60);
    case.policy.confirm.samples = 0;
    assert_eq!(samples(&case.policy), 2);
    refused(&case, 11, "endpoints-not-confirmed");
    case.rounds.clear();
    refused(&case, 11, "endpoints-not-confirmed");
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
        outage_s: None,
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
