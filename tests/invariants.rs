//! What must hold, always: the invariants of the design by their numbers, over generated hosts and histories.

#[path = "invariants/decisions.rs"]
mod decisions;
#[path = "invariants/moves.rs"]
mod moves;
#[path = "invariants/oracle.rs"]
mod oracle;
#[path = "invariants/permits.rs"]
mod permits;
#[path = "invariants/spoil.rs"]
mod spoil;
#[path = "invariants/world.rs"]
mod world;

use hostagent::decide::{AgentRun, Decision, Method, RecordedOutcome, RestartRecord};
use hostagent::facts::{ContainerState, Fact, Presence};
use proptest::prelude::*;
use spoil::{BLANKS, Blank, Spoil, apply, cases};
use world::*;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1_500, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() }
}

/// For the tests that go through many steps a case.
fn fewer() -> ProptestConfig {
    ProptestConfig { cases: 200, ..config() }
}

fn moves_a_working_agent(method: &Method) -> bool {
    matches!(method, Method::RestartUnit { .. } | Method::DockerRestart { .. })
}

fn runs(case: &Case) -> bool {
    matches!(&case.fresh.agent.presence, Fact::Known(Presence::Container(c)) if c.state == ContainerState::Running)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn inv1_no_restart_unless_all_three_names_are_private_stable_and_reachable((case, spoils) in cases()) {
        if let Ok(permit) = case.permit() && moves_a_working_agent(&permit.plan().method) {
            prop_assert!(oracle::endpoints_proved(&case), "{spoils:?}");
        }
    }

    #[test]
    fn inv2_no_restart_unless_the_version_is_fit_and_the_state_survives((case, spoils) in cases()) {
        if let Ok(permit) = case.permit() {
            let fit = !moves_a_working_agent(&permit.plan().method) || oracle::version_fit(&case.fresh);
            prop_assert!(fit, "{spoils:?}");
            prop_assert!(oracle::state_survives(&case.fresh, permit.plan().method.unit().is_some()), "{spoils:?}");
        }
    }

    #[test]
    fn inv3_never_past_the_owner_and_never_when_it_is_unclear((case, spoils) in cases()) {
        if let Ok(permit) = case.permit() {
            prop_assert!(oracle::right_owner(&case.fresh, &permit.plan().method), "{:?} {spoils:?}", permit.plan());
        }
    }

    #[test]
    fn inv4_once_a_set_within_budget_and_outside_the_cool_down((case, spoils) in cases()) {
        if let Ok(permit) = case.permit() {
            prop_assert!(oracle::within_budget(&case, &permit), "{spoils:?} {:?}", case.history);
        }
    }

    #[test]
    fn inv5_never_while_a_task_is_between_states((case, spoils) in cases()) {
        if case.permit().is_ok() && runs(&case) {
            prop_assert!(oracle::tasks_at_rest(&case.fresh), "{spoils:?}");
        }
    }

    /// Taking a fact away never turns a no into a yes.
    #[test]
    fn inv6_a_missing_fact_never_counts_as_permission((case, spoils) in cases(), blank in prop::sample::select(BLANKS.to_vec())) {
        let mut less = case.clone();
        blank.apply(&mut less.first);
        blank.apply(&mut less.fresh);
        if less.permit().is_ok() {
            prop_assert!(case.permit().is_ok(), "without {blank:?}: {spoils:?} {:?}", case.permit());
        }
    }
}

proptest! {
    #![proptest_config(fewer())]

    /// The same over a life: every permit is counted before acting, whatever comes of it.
    #[test]
    fn inv4_holds_over_a_life(
        steps in prop::collection::vec((1_i64..40_000, 0_u8..4, 0_u8..4, 0_usize..4, any::<bool>()), 1..30),
    ) {
        let mut done: Vec<(RestartRecord, bool, AgentRun)> = vec![];
        let (mut clock, mut runs) = (0, 0);
        for (wait, set, how, outcome, somebody) in steps {
            clock += wait;
            // Somebody else restarts the agent now and then.
            runs += u32::from(somebody);
            let mut case = match how {
                0 => Case::of(broken(false)),
                1 => Case::of(broken(true)),
                _ => Case::movable(Kind::EcsInit),
            };
            for seen in [&mut case.first, &mut case.fresh] {
                agent_container(seen).started_at = format!("start {runs}");
            }
            other_set(&mut case, set);
            later(&mut case, clock);
            case.history.restarts = done.iter().map(|(record, ..)| record.clone()).collect();
            if let Ok(permit) = case.permit() {
                let outcome = [RecordedOutcome::Begun, RecordedOutcome::Verified, RecordedOutcome::NotVerified,
                    RecordedOutcome::NotActed][outcome];
                let endpoints = permit.plan().endpoints.clone();
                let (at, repair) = (case.now, permit.repair());
                let was = AgentRun::of(&case.fresh).unwrap();
                runs += u32::from(outcome != RecordedOutcome::NotActed);
                let now = AgentRun { started_at: format!("start {runs}"), ..was.clone() };
                let agent = (outcome == RecordedOutcome::Verified).then_some(now);
                let (run_id, outage_s) = (String::new(), None);
                done.push((RestartRecord { run_id, at, endpoints, repair, outcome, agent, outage_s }, how == 0, was));
            }
        }
        done.retain(|(r, ..)| r.outcome != RecordedOutcome::NotActed);
        let apart = |one: &RestartRecord, two: &RestartRecord| two.at.duration_since(one.at).as_secs();
        for (n, (record, ..)) in done.iter().enumerate() {
            let day = done[n..].iter().filter(|(r, ..)| apart(record, r) < 86_400).count();
            prop_assert!(day <= 2, "{day} in a day: {done:?}");
            for (next, dead, was) in &done[n + 1..] {
                prop_assert!(*dead || apart(record, next) >= 3_600, "{done:?}");
                let for_nothing = record.endpoints == next.endpoints && record.agent.as_ref().is_none_or(|a| a == was);
                prop_assert!(*dead || !for_nothing, "{done:?}");
            }
        }
    }
}

/// Every fact a restart rests on, taken away one by one, leaves no permit, and nothing said with certainty.
#[test]
fn inv6_every_fact_is_needed() {
    let not_needed = |kind: Kind, blank: Blank| {
        match kind {
            Kind::Bare => matches!(blank, Blank::Cache | Blank::ConfigFile | Blank::Rules | Blank::Credentials),
            // Its unit tells.
            Kind::EcsInit => blank == Blank::EcsInit,
        }
    };
    for kind in [Kind::EcsInit, Kind::Bare] {
        for blank in BLANKS {
            let mut case = Case::movable(kind);
            assert!(matches!(case.decide(), Decision::Restart { .. }) && case.permit().is_ok(), "{kind:?}");
            blank.apply(&mut case.fresh);
            assert_eq!(case.permit().is_ok(), not_needed(kind, blank), "{kind:?} without {blank:?} just before acting");
            blank.apply(&mut case.first);
            let decision = case.decide();
            if not_needed(kind, blank) {
                assert!(matches!(decision, Decision::Restart { .. }), "{kind:?} without {blank:?}: {decision:?}");
            } else {
                assert!(matches!(decision, Decision::Unknown { .. }), "{kind:?} without {blank:?}: {decision:?}");
                assert_eq!(decision.exit_code(), 1);
                assert!(decision.reasons().iter().any(|r| r.text.contains("not seen") || r.rule == "targets-unknown"));
            }
        }
    }
}

/// The generator is worth nothing if it never comes near the interesting side.
#[test]
fn the_generated_cases_reach_both_sides() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut restarts, mut starts, mut docker, mut refusals) = (0, 0, 0, std::collections::BTreeSet::new());
    for _ in 0..1_000 {
        let (case, _) = cases().new_tree(&mut runner).unwrap().current();
        match case.permit() {
            Ok(permit) => match &permit.plan().method {
                Method::StartUnit { .. } => starts += 1,
                Method::DockerRestart { .. } => docker += 1,
                _ => restarts += 1,
            },
            Err(decision) => refusals.extend(decision.reasons().iter().map(|r| r.rule.clone())),
        }
    }
    assert!(restarts > 30 && starts > 30 && docker > 30, "{restarts} restarts, {starts} starts, {docker} by Docker");
    assert!(refusals.len() > 30, "{refusals:?}");
}

/// Moves every look of a case `seconds` on.
fn later(case: &mut Case, seconds: i64) {
    case.first.at = after(case.first.at, seconds);
    case.fresh.at = after(case.fresh.at, seconds);
    case.now = after(case.now, seconds);
    case.rounds.iter_mut().for_each(|r| r.at = after(r.at, seconds));
}

/// Gives the ecs endpoint other addresses, everywhere.
fn other_set(case: &mut Case, set: u8) {
    let ips = endpoint_ips(10 + 20 * set);
    let (service, _, _) = NAMES[0];
    apply(case, &Spoil::Name(spoil::Where::All, service, answer(&ips, 60)));
    for (names, probes) in case
        .rounds
        .iter_mut()
        .map(|r| (&r.names, &mut r.reach))
        .chain([(&case.first.names, &mut case.first.reach), (&case.fresh.names, &mut case.fresh.reach)])
    {
        *probes = reach(names);
    }
}
