//! What must hold of the service, always: over generated sequences of looks, events, gates and clock jumps.

#[path = "watch/host.rs"]
mod host;
#[path = "watch/runbook.rs"]
mod runbook;
#[path = "watch/service.rs"]
mod service;

use host::*;
use hostagent::{
    catalog::Service,
    config::OnReady,
    decide::{Agreement, Decision, EndpointSet, Method, Plan},
    watch::{
        Policy, schedule,
        state::{Doing, Input, Kind, Lead, Phase, State},
        step,
    },
};
use proptest::prelude::*;
use std::time::Duration;

fn policy() -> impl Strategy<Value = Policy> {
    let on_ready = prop_oneof![4 => Just(OnReady::Restart), 1 => Just(OnReady::Report), 2 => Just(OnReady::Rollout)];
    (2_u32..5, 1_u64..20, 0_u64..1_800, on_ready).prop_map(|(samples, min_spread_s, splay_s, on_ready)| Policy {
        on_ready,
        samples,
        min_spread_s,
        splay_max: Duration::from_secs(splay_s),
        settled_interval: Duration::from_secs(300),
        ..Policy::default()
    })
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Agreement over time, splay, pause, window, veto, once a set: checked at every restart that is asked for.
    #[test]
    fn it_acts_only_when_everything_agrees(
        policy in policy(),
        happenings in prop::collection::vec((world(), 0_u64..120_000, 0_u32..400), 1..200),
    ) {
        let mut host = Host::new(policy);
        for (world, after_ms, ttl_s) in &happenings {
            host.happens(world, *after_ms, *ttl_s)?;
        }
    }

    /// Ready endpoints that stay move the agent, whatever was before: nothing is waited for for ever.
    #[test]
    fn it_acts_in_the_end(
        policy in policy(),
        happenings in prop::collection::vec((world(), 0_u64..120_000, 0_u32..400), 0..60),
    ) {
        let mut host = Host::new(Policy { on_ready: OnReady::Restart, ..policy });
        for (world, after_ms, ttl_s) in &happenings {
            host.happens(world, *after_ms, *ttl_s)?;
        }
        (host.paused, host.open, host.veto, host.runs) = (false, true, false, 0);
        let before = host.acted.len();
        // Two sets at most were tried before; this one is new.
        let fresh = EndpointSet([(Service::Ecs, [10, 50, 9, 9].into())].into());
        let Decision::Restart { plan } = restart(0) else { unreachable!() };
        let decision = Decision::Restart { plan: Plan { endpoints: fresh.clone(), ..plan } };
        let mut acted = false;
        for _ in 0..200 {
            host.up_ms += 61_000;
            let moment = host.moment();
            let look = host.look(decision.clone(), 60);
            let (state, effects) = step(&host.state, &look, &moment, &host.policy);
            host.state = state;
            if effects.doing == Some(Doing::AskHooks) {
                let (state, effects) = step(&host.state, &Input::Hooks(None), &moment, &host.policy);
                host.state = state;
                acted |= effects.doing == Some(Doing::Restart);
            }
            if acted { break; }
        }
        prop_assert!(acted, "still {:?} after {} earlier", host.state, before);
    }

    /// A name that goes public again begins the count anew.
    #[test]
    fn a_name_that_goes_public_again_resets(policy in policy(), looks in 1_u32..6) {
        let mut host = Host::new(policy);
        for _ in 0..looks {
            host.happens(&World::Ready(0), 61_000, 60)?;
        }
        host.happens(&World::Other(0), 61_000, 60)?;
        prop_assert_eq!(&host.state.phase, &Phase::Observing);
        host.happens(&World::Ready(0), 61_000, 60)?;
        let once = matches!(&host.state.phase, Phase::Candidate { looks: Agreement { seen: 1, .. }, .. });
        prop_assert!(once || host.acted.contains_key(&0), "{:?}", host.state.phase);
    }

    /// Behind a cache that counts its TTL down, whoever fills it and however often the service is made to look: as many
    /// answers as asked for, each fetched anew, and at its own pace it gets there.
    #[test]
    fn a_cached_answer_counts_once(
        policy in policy(),
        ttl_s in 1_u32..400,
        fetched_before_ms in 0_u64..400_000,
        disturbed in prop::collection::vec((any::<bool>(), 0_u64..10_000), 0..40),
    ) {
        let mut host = Host::new(policy);
        let start_ms = host.up_ms;
        let ttl_ms = u64::from(ttl_s) * 1_000;
        let mut fetched_ms = start_ms - fetched_before_ms % ttl_ms;
        let mut heard = std::collections::BTreeSet::new();
        let mut disturbed = disturbed.into_iter();
        loop {
            // What is left is told in whole seconds, rounded down.
            if host.up_ms - fetched_ms >= ttl_ms {
                fetched_ms = host.up_ms;
            }
            let left_s = u32::try_from((ttl_ms - (host.up_ms - fetched_ms)) / 1_000).unwrap();
            heard.insert(fetched_ms);
            let input = host.look(restart(0), left_s);
            host.state = step(&host.state, &input, &host.moment(), &host.policy).0;
            let Phase::Candidate { looks, .. } = &host.state.phase else { break };
            // What lives longer than the cap is not waited for.
            prop_assert!(looks.seen as usize <= heard.len() || ttl_s > 300, "{looks:?} of {heard:?}");
            prop_assert!(host.up_ms - start_ms < 302_000 * 7, "never: {looks:?}");
            let pace = schedule::pace(&host.state, None);
            let due = schedule::interval(pace, Some(left_s), ID, 2, &host.policy).as_millis() as u64;
            host.up_ms += match disturbed.next() {
                Some((true, early_ms)) => early_ms.min(due),
                _ => due,
            };
        }
        if ttl_s <= 300 {
            prop_assert!(heard.len() >= host.policy.samples as usize, "{heard:?}");
        }
        prop_assert!(host.up_ms - start_ms > u64::from(ttl_s.min(300)) * 1_000);
    }

    #[test]
    fn flapping_never_acts(policy in policy(), rounds in 1_usize..300, ttl in 1_u32..300) {
        let mut host = Host::new(policy);
        for n in 0..rounds {
            let world = if n % 2 == 0 { World::Ready(0) } else { World::Other(0) };
            host.happens(&world, u64::from(ttl) * 1_000, ttl)?;
        }
        prop_assert_eq!(host.begun, 0);
    }

    /// Nothing but the window knows the time of day: the same happenings at other times end the same. The clock may
    /// jump as it likes; what is asked here is that no jump of the window's verdict acts early, twice, or never.
    #[test]
    fn a_clock_that_jumps_neither_hurries_nor_holds_up(
        policy in policy(),
        jumps in prop::collection::vec(any::<bool>(), 40..120),
    ) {
        let mut host = Host::new(Policy { on_ready: OnReady::Restart, ..policy });
        for open in &jumps {
            host.happens(&World::Window(*open), 0, 60)?;
            host.happens(&World::Ready(0), 61_000, 60)?;
        }
        host.happens(&World::Window(true), 0, 60)?;
        for _ in 0..64 {
            host.happens(&World::Ready(0), 61_000, 60)?;
        }
        prop_assert_eq!(host.begun, 1, "{:?}", host.state);
    }
}

/// Proved for one agent: somebody else restarts it, it is public again, and is moved once more. A run that was not proved
/// is not repeated, whoever restarts the agent since.
#[test]
fn an_agent_that_somebody_else_restarted_is_moved_again() {
    for (runs, moved_again) in [(0, true), (1, false)] {
        let mut host = Host::new(Policy { splay_max: Duration::ZERO, ..Policy::default() });
        host.runs = runs;
        let ready = |host: &mut Host| {
            for _ in 0..6 {
                host.happens(&World::Ready(0), 62_000, 60).unwrap();
            }
        };
        ready(&mut host);
        assert_eq!(host.begun, 1);
        ready(&mut host);
        assert_eq!((host.begun, &host.state.phase), (1, &Phase::Blocked), "the very agent");
        host.happens(&World::Restarted, 1_000, 60).unwrap();
        ready(&mut host);
        assert_eq!(host.begun, 1 + u32::from(moved_again), "{:?}", host.state);
    }
}

#[test]
fn what_the_service_has_tried_is_left_to_a_person_and_said_once() {
    let mut host = Host::new(Policy::default());
    host.state.tried = vec![set(0)];
    let said = sees(&mut host, restart(0), Lead::Endpoints(set(0)), 60);
    let [(Kind::Blocked, text)] = said.as_slice() else { panic!("{said:?}") };
    assert!(text.starts_with("the service restarted the agent") && text.contains("hostagent restart"), "{text}");
    assert_eq!(kinds(&sees(&mut host, restart(0), Lead::Endpoints(set(0)), 60)), []);
}

#[test]
fn another_instance_from_the_same_image_starts_afresh() {
    let mut host = Host::new(Policy::default());
    host.state.tried = vec![set(0)];
    host.state.failures = 7;
    let instance_id = Some("i-2".into());
    let (asked_ms, agent, lead) = (host.up_ms, None, Lead::Unknown);
    let input = Input::Looked { decision: other(0), asked_ms, ttl_s: Some(60), instance_id, agent, lead };
    let (state, _) = step(&host.state, &input, &host.moment(), &host.policy);
    assert!(state.tried.is_empty() && state.failures == 0, "{state:?}");
    assert_eq!(state.instance_id.as_deref(), Some("i-2"));
}

#[test]
fn another_boot_counts_anew_and_remembers_what_was_tried() {
    let waiting = Phase::Waiting {
        endpoints: set(0),
        since_ms: 5,
        splay_until_ms: 9_000_000,
        agrees: true,
        hold: hostagent::watch::state::Hold::Splay,
    };
    let seen =
        State { led: Some(set(1)), verdict: "settled".into(), rollout_trouble: "denied".into(), ..State::default() };
    let state = State { phase: waiting.clone(), tried: vec![set(1)], not_before_ms: 7, ..seen };
    let other = state.clone().resumed(false);
    assert_eq!((&other.led, other.verdict.as_str(), other.rollout_trouble.as_str()), (&None, "", ""));
    assert_eq!((other.phase, other.not_before_ms), (Phase::Observing, 0));
    assert_eq!(other.tried, [set(1)]);
    let same = state.resumed(true);
    assert!(matches!(same.phase, Phase::Waiting { splay_until_ms: 9_000_000, agrees: false, .. }), "{:?}", same.phase);
}

/// What a look makes of a host: the phase, and the kinds and texts of what it notes.
fn sees(host: &mut Host, decision: Decision, lead: Lead, after_s: u64) -> Vec<(Kind, String)> {
    host.up_ms += after_s * 1_000;
    let (asked_ms, agent) = (host.up_ms, host.agent());
    let input = Input::Looked { decision, asked_ms, ttl_s: Some(60), instance_id: Some(ID.into()), agent, lead };
    let (state, effects) = step(&host.state, &input, &host.moment(), &host.policy);
    host.state = state;
    effects.notes.into_iter().map(|note| (note.kind, note.text)).collect()
}

fn kinds(notes: &[(Kind, String)]) -> Vec<Kind> {
    notes.iter().map(|(kind, _)| *kind).collect()
}

#[test]
fn a_brief_gap_in_the_connections_is_not_called_broken_and_a_long_one_is() {
    let mut host = Host::new(Policy::default());
    let on = || Lead::Endpoints(set(0));
    sees(&mut host, Decision::Settled, on(), 60);
    let said = sees(&mut host, disconnected(0), on(), 60);
    assert!(said[0].0 == Kind::Observing && said[0].1.contains("brief gaps are normal"), "{said:?}");
    assert_eq!(host.state.phase, Phase::Observing);
    assert_eq!(kinds(&sees(&mut host, disconnected(0), on(), 120)), []);
    // A look that saw too little neither ends the gap nor begins it anew.
    sees(&mut host, other(1), Lead::Unknown, 30);
    let said = sees(&mut host, disconnected(0), on(), 30);
    assert!(said[0].0 == Kind::Broken && said[0].1.contains("BROKEN"), "{said:?}");
    assert_eq!(kinds(&sees(&mut host, Decision::Settled, on(), 60)), [Kind::Settled]);
    // The next gap is a new one.
    sees(&mut host, disconnected(0), on(), 600);
    assert_eq!(host.state.phase, Phase::Observing);
    // One that is down is broken at once.
    let Decision::Repair { plan } = disconnected(0) else { unreachable!() };
    let down = Decision::Repair { plan: Plan { method: Method::StartUnit { unit: "ecs.service".into() }, ..plan } };
    assert_eq!(kinds(&sees(&mut host, down, on(), 1)), [Kind::Broken]);
}

#[test]
fn a_gap_does_not_undo_what_was_proved() {
    let mut host = Host::new(Policy { splay_max: Duration::from_secs(1_800), ..Policy::default() });
    for _ in 0..4 {
        sees(&mut host, restart(0), Lead::Endpoints(set(0)), 61);
    }
    assert!(matches!(host.state.phase, Phase::Waiting { agrees: true, .. }), "{:?}", host.state.phase);
    sees(&mut host, disconnected(0), Lead::Endpoints(set(0)), 1);
    assert!(matches!(host.state.phase, Phase::Waiting { agrees: false, .. }), "{:?}", host.state.phase);
}

#[test]
fn endpoints_that_go_away_once_all_is_settled_are_said_once_and_so_are_others() {
    let mut host = Host::new(Policy::default());
    let away = || Lead::Elsewhere { why: "ecs-a resolves to the internet".into() };
    let on = |n| Lead::Endpoints(set(n));
    assert_eq!(kinds(&sees(&mut host, Decision::Settled, on(0), 60)), [Kind::Settled]);
    assert_eq!(kinds(&sees(&mut host, Decision::Settled, on(0), 60)), []);
    let said = sees(&mut host, Decision::Settled, away(), 60);
    assert!(said[0].0 == Kind::EndpointsGone && said[0].1.contains("ecs-a resolves to the internet"), "{said:?}");
    assert_eq!(kinds(&sees(&mut host, Decision::Settled, away(), 60)), []);
    assert_eq!(kinds(&sees(&mut host, Decision::Settled, Lead::Unknown, 60)), []);
    assert_eq!(kinds(&sees(&mut host, Decision::Settled, on(0), 60)), [Kind::EndpointsFound]);
    let said = sees(&mut host, Decision::Settled, on(1), 60);
    assert!(said[0].0 == Kind::EndpointsGone && said[0].1.contains("10.50.1.10"), "{said:?}");
    assert_eq!(host.begun, 0);
}
