//! A host whose service is stepped through generated histories, and an observer that remembers by itself what must hold.

use hostagent::{
    catalog::Service,
    config::{OnReady, Opening},
    decide::{AgentRun, Decision, EndpointSet, Method, Plan, Reason},
    watch::{
        Policy,
        splay::splay,
        state::{Doing, Effects, Input, Lead, Moment, Phase, RunEnd, State},
        step,
    },
};
use proptest::prelude::*;
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

pub const ID: &str = "i-0f00dfacade00001";

pub fn set(n: u8) -> EndpointSet {
    let ips = |last: u8| -> IpAddr { [10, 50, n, last].into() };
    EndpointSet([(Service::Ecs, ips(10)), (Service::EcsAgent, ips(11)), (Service::EcsTelemetry, ips(12))].into())
}

pub fn restart(n: u8) -> Decision {
    let method = Method::RestartUnit { unit: "ecs.service".into() };
    Decision::Restart { plan: Plan { method, why: vec!["stale".into()], endpoints: set(n), deadline_s: 120 } }
}

pub fn reasons(rule: &str) -> Vec<Reason> {
    vec![Reason::new(rule, rule, "")]
}

pub fn other(n: u8) -> Decision {
    match n % 6 {
        0 => Decision::Waiting { reasons: reasons("not-private") },
        1 => Decision::Unknown { reasons: reasons("dns-failed") },
        2 => Decision::Refuse { reasons: reasons("version-too-old") },
        3 => Decision::Spent { reasons: reasons("budget-spent") },
        4 => Decision::Broken { reasons: reasons("no-credential-rules") },
        _ => Decision::Settled,
    }
}

pub fn disconnected(n: u8) -> Decision {
    let Decision::Restart { plan } = restart(n) else { unreachable!() };
    Decision::Repair { plan: Plan { why: vec!["the agent holds no connection to ecs-agent".into()], ..plan } }
}

/// What the world does between two steps.
#[derive(Debug, Clone)]
pub enum World {
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
    /// Somebody else restarts the agent.
    Restarted,
    /// The service is killed and started again, in the same boot.
    Killed,
}

pub fn world() -> impl Strategy<Value = World> {
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
        1 => Just(World::Restarted),
        1 => Just(World::Killed),
    ]
}

/// Agreeing looks in a row.
#[derive(Debug, Clone, Copy)]
pub struct Agreeing {
    pub set: u8,
    pub looks: u32,
    pub since_ms: u64,
    pub longest_ttl_s: u32,
    /// When the last was asked whose answers were not those of one before, and how long those may be cached.
    pub fresh_ms: u64,
    pub cached_ms: u64,
    /// Enough looks with answers of their own, over more than the longest TTL seen until then.
    pub proved: bool,
}

/// A service, and what an observer of its steps remembers by itself.
pub struct Host {
    pub state: State,
    pub policy: Policy,
    pub up_ms: u64,
    pub paused: bool,
    pub open: bool,
    pub veto: bool,
    pub runs: u8,
    pub agreeing: Option<Agreeing>,
    /// Whether the last look that saw enough called for a restart.
    pub last: Option<u8>,
    /// The sets that were moved to, each with the agent that was proved, if it was.
    pub acted: BTreeMap<u8, Option<u32>>,
    /// Starts of the agent, whoever made them.
    pub starts: u32,
    pub begun: u32,
}

impl Host {
    pub fn new(policy: Policy) -> Self {
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
            starts: 0,
            begun: 0,
        }
    }

    pub fn moment(&self) -> Moment {
        let opening = if self.open { Opening::Open { length_s: 7_200 } } else { Opening::Closed { opens: None } };
        Moment { up_ms: self.up_ms, paused: self.paused, opening }
    }

    pub fn agent(&self) -> Option<AgentRun> {
        Some(AgentRun { container_id: "c".into(), started_at: format!("start {}", self.starts) })
    }

    pub fn look(&self, decision: Decision, ttl_s: u32) -> Input {
        Input::Looked {
            decision,
            asked_ms: self.up_ms,
            ttl_s: Some(ttl_s),
            instance_id: Some(ID.into()),
            agent: self.agent(),
            lead: Lead::Unknown,
        }
    }

    /// One thing happens; everything the service asks for in return is done at once.
    pub fn happens(&mut self, world: &World, after_ms: u64, ttl_s: u32) -> Result<(), TestCaseError> {
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
            World::Restarted => {
                (self.starts, self.last) = (self.starts + 1, None);
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

    pub fn set(&mut self, change: impl FnOnce(&mut Self)) -> Result<(), TestCaseError> {
        change(self);
        Ok(())
    }

    pub fn feed(&mut self, input: &Input) -> Result<(), TestCaseError> {
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
                    agent: None,
                    words: String::new(),
                }))
            }
        }
    }

    /// The restart that the step asked for: every property that must hold of it.
    pub fn restarts(&mut self, before: &State, input: &Input) -> Result<(), TestCaseError> {
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
        let end =
            |acted, exit_code, decision, agent| RunEnd { acted, exit_code, decision, agent, words: String::new() };
        match self.runs {
            0 | 1 => {
                // Once a set, whatever the looks say: again only when it was proved, and somebody else has restarted the
                // agent since.
                let may = self.acted.get(&n).is_none_or(|proved| proved.is_some_and(|agent| agent != self.starts));
                prop_assert!(may, "twice for one set: {:?} of {}", self.acted, self.starts);
                self.starts += 1;
                self.acted.insert(n, (self.runs == 0).then_some(self.starts));
                self.agreeing = None;
                self.feed(&Input::Back)?;
                let code = if self.runs == 0 { 0 } else { 13 };
                let proved = self.agent().filter(|_| self.runs == 0);
                self.feed(&Input::RunEnded(end(true, code, restart(n), proved)))
            }
            2 => self.feed(&Input::RunEnded(end(false, 12, other(2), None))),
            _ => self.feed(&Input::RunLost { why: "killed".into() }),
        }
    }
}
