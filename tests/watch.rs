//! What must hold of the service, always: over generated sequences of looks, events, gates and clock jumps.

#[path = "watch/runbook.rs"]
mod runbook;
#[path = "watch/service.rs"]
mod service;

use hostagent::{
    catalog::Service,
    config::{OnReady, Opening},
    decide::{Agreement, Decision, EndpointSet, Method, Plan, Reason},
    watch::{
        Policy, schedule,
        splay::splay,
        state::{Doing, Effects, Input, Kind, Lead, Moment, Phase, RunEnd, State},
        step,
    },
};
use proptest::prelude::*;
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

const ID: &str = "i-0f00dfacade00001";

fn set(n: u8) -> EndpointSet {
    let ips = |last: u8| -> IpAddr { [10, 50, n, last].into() };
    EndpointSet([(Service::Ecs, ips(10)), (Service::EcsAgent, ips(11)), (Service::EcsTelemetry, ips(12))].into())
}

fn restart(n: u8) -> Decision {
    let method = Method::RestartUnit { unit: "ecs.service".into() };
    Decision::Restart { plan: Plan { method, why: vec!["stale".into()], endpoints: set(n), deadline_s: 120 } }
}

fn reasons(rule: &str) -> Vec<Reason> {
    vec![Reason::new(rule, rule, "")]
}

fn other(n: u8) -> Decision {
    match n % 6 {
        0 => Decision::Waiting { reasons: reasons("not-private") },
        1 => Decision::Unknown { reasons: reasons("dns-failed") },
        2 => Decision::Refuse { reasons: reasons("version-too-old") },
        3 => Decision::Spent { reasons: reasons("budget-spent") },
        4 => Decision::Broken { reasons: reasons("no-credential-rules") },
        _ => Decision::Settled,
    }
}

/// What the world does between two steps.
#[derive(Debug, Clone)]
enum World {
    /// A look that finds the endpoints of set 0 or 1 ready.
    Ready(u8),
    Other(u8),
    /// A look that finds the agent without a connection, which may be brief.
    Gap,
    Unchanged,
    Tick,
    Disturbed,
    Pause(bool),
    Window(bool),
    /// What the hooks say from now on.
    Veto(bool),
    /// How runs end from now on: verified, not verified, nothing touched, lost.
    Runs(u8),
    Interrupted,
    /// The service is killed and started again, in the same boot.
    Killed,
}

fn world() -> impl Strategy<Value = World> {
    prop_oneof![
        8 => (0_u8..2).prop_map(World::Ready),
        6 => Just(World::Ready(0)),
        2 => (0_u8..6).prop_map(World::Other),
        1 => Just(World::Gap),
        2 => Just(World::Unchanged),
        6 => Just(World::Tick),
        1 => Just(World::Disturbed),
        1 => any::<bool>().prop_map(World::Pause),
        1 => any::<bool>().prop_map(World::Window),
        1 => any::<bool>().prop_map(World::Veto),
        1 => (0_u8..4).prop_map(World::Runs),
        1 => Just(World::Interrupted),
        1 => Just(World::Killed),
    ]
}

/// Agreeing looks in a row.
#[derive(Debug, Clone, Copy)]
struct Agreeing {
    set: u8,
    looks: u32,
    since_ms: u64,
    longest_ttl_s: u32,
    /// When the last was asked whose answers were not those of one before, and how long those may be cached.
    fresh_ms: u64,
    cached_ms: u64,
    /// Enough looks with answers of their own, over more than the longest TTL seen until then.
    proved: bool,
}

/// A service, and what an observer of its steps remembers by itself.
struct Host {
    state: State,
    policy: Policy,
    up_ms: u64,
    paused: bool,
    open: bool,
    veto: bool,
    runs: u8,
    agreeing: Option<Agreeing>,
    /// Whether the last look that saw enough called for a restart.
    last: Option<u8>,
    /// When `Waiting` began, and how long the splay was to be.
    acted: BTreeMap<u8, u32>,
    begun: u32,
}

impl Host {
    fn new(policy: Policy) -> Self {
        Self {
            state: State { instance_id: Some(ID.into()), ..State::default() },
            policy,
            up_ms: 1_000_000,
            paused: false,
            open: true,
            veto: false,
            runs: 0,
            agreeing: None,
            last: None,
            acted: BTreeMap::new(),
            begun: 0,
        }
    }

    fn moment(&self) -> Moment {
        let opening = if self.open { Opening::Open { length_s: 7_200 } } else { Opening::Closed { opens: None } };
        Moment { up_ms: self.up_ms, paused: self.paused, opening }
    }

    fn look(&self, decision: Decision, ttl_s: u32) -> Input {
        Input::Looked {
            decision,
            asked_ms: self.up_ms,
            ttl_s: Some(ttl_s),
            instance_id: Some(ID.into()),
            lead: Lead::Unknown,
        }
    }

    /// One thing happens; everything the service asks for in return is done at once.
    fn happens(&mut self, world: &World, after_ms: u64, ttl_s: u32) -> Result<(), TestCaseError> {
        self.up_ms += after_ms;
        let input = match world {
            World::Ready(n) => {
                let ttl = u32::max(ttl_s, 1);
                let since_ms = self.up_ms;
                let anew = Agreeing {
                    set: *n,
                    looks: 0,
                    since_ms,
                    longest_ttl_s: 0,
                    fresh_ms: 0,
                    cached_ms: 0,
                    proved: false,
                };
                let mut agreeing = self.agreeing.filter(|a| a.set == *n).unwrap_or(anew);
                agreeing.longest_ttl_s = agreeing.longest_ttl_s.max(ttl);
                if agreeing.looks == 0 || self.up_ms - agreeing.fresh_ms > agreeing.cached_ms {
                    (agreeing.looks, agreeing.fresh_ms) = (agreeing.looks + 1, self.up_ms);
                    agreeing.cached_ms = u64::from(ttl.min(300)) * 1_000;
                }
                let spread_ms = agreeing.fresh_ms - agreeing.since_ms;
                let enough = agreeing.looks >= self.policy.samples.max(2);
                agreeing.proved |= enough && spread_ms > u64::from(agreeing.longest_ttl_s.min(300)) * 1_000;
                self.agreeing = Some(agreeing);
                self.last = Some(*n);
                self.look(restart(*n), ttl)
            }
            World::Other(n) => {
                let decision = other(*n);
                // One look that saw too little takes the leave to act away, and not the proof once it is made.
                let unknown = matches!(decision, Decision::Unknown { .. });
                self.agreeing = self.agreeing.filter(|a| unknown && a.proved);
                self.last = None;
                self.look(decision, ttl_s)
            }
            World::Gap => {
                self.agreeing = self.agreeing.filter(|a| a.proved);
                self.last = None;
                self.look(disconnected(0), ttl_s)
            }
            World::Unchanged => Input::Unchanged,
            World::Tick => Input::Tick,
            World::Disturbed => {
                self.last = None;
                Input::Disturbed
            }
            World::Interrupted => Input::Interrupted { run: "r".into() },
            World::Pause(on) => return self.set(|h| h.paused = *on),
            World::Window(open) => return self.set(|h| h.open = *open),
            World::Veto(on) => return self.set(|h| h.veto = *on),
            World::Runs(how) => return self.set(|h| h.runs = *how),
            World::Killed => {
                self.last = None;
                return self.set(|h| h.state = h.state.clone().resumed(true));
            }
        };
        self.feed(&input)
    }

    fn set(&mut self, change: impl FnOnce(&mut Self)) -> Result<(), TestCaseError> {
        change(self);
        Ok(())
    }

    fn feed(&mut self, input: &Input) -> Result<(), TestCaseError> {
        let before = self.state.clone();
        let (state, Effects { doing, .. }) = step(&self.state, input, &self.moment(), &self.policy);
        self.state = state;
        match doing {
            None | Some(Doing::Look | Doing::AskAfterRollout) => Ok(()),
            Some(Doing::AskHooks) => {
                let veto = self.veto.then(|| ("10-hook".to_owned(), "no".to_owned()));
                self.feed(&Input::Hooks(veto))
            }
            Some(Doing::Restart) => self.restarts(&before, input),
            Some(Doing::StartRollout) => {
                prop_assert_eq!(self.policy.on_ready, OnReady::Rollout, "somebody else's runbook was started");
                prop_assert_eq!(input, &Input::Hooks(None), "the hooks agreed just before");
                prop_assert!(!self.paused && self.open && !self.veto, "paused, outside the window or vetoed");
                let Phase::Waiting { endpoints, .. } = &self.state.phase else {
                    return Err(TestCaseError::fail(format!("started in {:?}", self.state.phase)));
                };
                let n = (0..2).find(|n| set(*n) == *endpoints).expect("one of ours");
                prop_assert_eq!(self.last, Some(n), "the last look agreed");
                let proof = self.agreeing.filter(|a| a.set == n && a.proved);
                prop_assert!(proof.is_some(), "enough looks over more than one TTL: {:?}", self.agreeing);
                prop_assert!(self.state.joined_for(endpoints).is_none(), "one rollout for a set of endpoints");
                let denied = self.runs % 2 == 1;
                let answer = if denied { Err("AccessDenied".to_owned()) } else { Ok("an-execution".to_owned()) };
                self.feed(&Input::Rollout(answer))
            }
            Some(Doing::TakeUp) => {
                prop_assert!(matches!(input, Input::Interrupted { .. }), "only what was interrupted is taken up");
                self.feed(&Input::RunEnded(RunEnd {
                    acted: false,
                    exit_code: 11,
                    decision: other(0),
                    words: String::new(),
                }))
            }
        }
    }

    /// The restart that the step asked for: every property that must hold of it.
    fn restarts(&mut self, before: &State, input: &Input) -> Result<(), TestCaseError> {
        let policy = &self.policy;
        prop_assert_eq!(policy.on_ready, OnReady::Restart, "only told to");
        prop_assert!(!self.paused && self.open && !self.veto, "paused, outside the window or vetoed");
        prop_assert_eq!(input, &Input::Hooks(None), "the hooks agreed just before");
        let Phase::Waiting { endpoints, since_ms, .. } = &before.phase else {
            return Err(TestCaseError::fail(format!("acts from {:?}", before.phase)));
        };
        let n = (0..2).find(|n| set(*n) == *endpoints).expect("one of ours");
        prop_assert_eq!(self.last, Some(n), "the last look agreed");
        let proof = self.agreeing.filter(|a| a.set == n && a.proved);
        prop_assert!(proof.is_some(), "enough looks over more than one TTL: {:?}", self.agreeing);
        let wait = splay(ID, endpoints, policy.splay_max);
        let waited = Duration::from_millis(self.up_ms - since_ms);
        prop_assert!(waited >= wait, "its splay is {:?}, and it waited {:?}", wait, waited);
        self.begun += 1;
        self.feed(&Input::Began { run: "r".into() })?;
        prop_assert!(self.state.phase.at_work());
        let end = |acted, exit_code, decision| RunEnd { acted, exit_code, decision, words: String::new() };
        match self.runs {
            0 | 1 => {
                // Once a set, and never again: whatever the looks say.
                let times = self.acted.entry(n).or_default();
                *times += 1;
                prop_assert_eq!(*times, 1, "twice for one set");
                self.agreeing = None;
                self.feed(&Input::Back)?;
                let code = if self.runs == 0 { 0 } else { 13 };
                self.feed(&Input::RunEnded(end(true, code, restart(n))))
            }
            2 => self.feed(&Input::RunEnded(end(false, 12, other(2)))),
            _ => self.feed(&Input::RunLost { why: "killed".into() }),
        }
    }
}

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

#[test]
fn another_instance_from_the_same_image_starts_afresh() {
    let mut host = Host::new(Policy::default());
    host.state.tried = vec![set(0)];
    host.state.failures = 7;
    let instance_id = Some("i-2".into());
    let (asked_ms, lead) = (host.up_ms, Lead::Unknown);
    let input = Input::Looked { decision: other(0), asked_ms, ttl_s: Some(60), instance_id, lead };
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
    let asked_ms = host.up_ms;
    let input = Input::Looked { decision, asked_ms, ttl_s: Some(60), instance_id: Some(ID.into()), lead };
    let (state, effects) = step(&host.state, &input, &host.moment(), &host.policy);
    host.state = state;
    effects.notes.into_iter().map(|note| (note.kind, note.text)).collect()
}

fn disconnected(n: u8) -> Decision {
    let Decision::Restart { plan } = restart(n) else { unreachable!() };
    Decision::Repair { plan: Plan { why: vec!["the agent holds no connection to ecs-agent".into()], ..plan } }
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
