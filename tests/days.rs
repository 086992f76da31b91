//! Hours and days of the service in no time: its states and its timetable, with the clock as an input.

use hostagent::{
    catalog::Service,
    config::Settings,
    decide::{
        Decision, EndpointSet, Method, Plan, Reason,
        brake::{Brakes, brake},
    },
    facts::Fact,
    watch::{
        Policy, schedule,
        splay::splay,
        state::{Doing, Input, Kind, Lead, Moment, Note, State},
        step,
    },
};
use std::net::IpAddr;

const ID: &str = "i-0f00dfacade00001";
const HOUR_MS: u64 = 3_600_000;
const TTL_S: u32 = 60;

fn set() -> EndpointSet {
    let ip = |last: u8| -> IpAddr { [10, 50, 1, last].into() };
    EndpointSet([(Service::Ecs, ip(10)), (Service::EcsAgent, ip(11)), (Service::EcsTelemetry, ip(12))].into())
}

fn restart() -> Decision {
    let method = Method::RestartUnit { unit: "ecs.service".into() };
    Decision::Restart { plan: Plan { method, why: vec!["stale".into()], endpoints: set(), deadline_s: 120 } }
}

fn waiting() -> Decision {
    Decision::Waiting { reasons: vec![Reason::new("name-not-endpoint", "ecs-a resolves to the internet", "")] }
}

/// A service whose looks find what it is told they find.
struct Simulated {
    state: State,
    policy: Policy,
    up_ms: u64,
    /// When it looked, and when it woke without looking.
    looks: Vec<u64>,
    ticks: u64,
    notes: Vec<Note>,
    /// When it asked for a restart.
    begun: Vec<u64>,
}

impl Simulated {
    fn new(policy: Policy) -> Self {
        let state = State { instance_id: Some(ID.into()), ..State::default() };
        Self { state, policy, up_ms: HOUR_MS, looks: vec![], ticks: 0, notes: vec![], begun: vec![] }
    }

    /// Lives through so many hours; `finds` tells what a look finds, by how long it has lived, in milliseconds.
    fn lives(&mut self, hours: u64, mut finds: impl FnMut(u64) -> Decision) {
        let (began, end) = (self.up_ms, self.up_ms + hours * HOUR_MS);
        let mut next_look = self.up_ms;
        loop {
            // As the driver does: whatever comes first.
            let tick = self.state.tick_in(self.up_ms).map(|wait| self.up_ms + wait.as_millis() as u64);
            let now = tick.map_or(next_look, |tick| tick.min(next_look));
            if now > end {
                self.up_ms = end;
                return;
            }
            // Time goes on, however short the wait.
            self.up_ms = now.max(self.up_ms + 1);
            if now < next_look {
                self.ticks += 1;
                self.feed(Input::Tick);
                continue;
            }
            self.looks.push(self.up_ms);
            let decision = finds(self.up_ms - began);
            let lead = match &decision {
                Decision::Settled | Decision::Restart { .. } => Lead::Endpoints(set()),
                _ => Lead::Elsewhere { why: "to the internet".into() },
            };
            let last = Some(decision.clone());
            let asked_ms = self.up_ms;
            self.feed(Input::Looked { decision, asked_ms, ttl_s: Some(TTL_S), instance_id: Some(ID.into()), lead });
            let pace = schedule::pace(&self.state, last.as_ref());
            let wait = schedule::interval(pace, Some(TTL_S), ID, self.looks.len() as u64, &self.policy);
            next_look = self.up_ms + wait.as_millis() as u64;
        }
    }

    fn feed(&mut self, input: Input) {
        let opening = hostagent::config::Opening::Always;
        let moment = Moment { up_ms: self.up_ms, paused: false, opening };
        let (state, effects) = step(&self.state, &input, &moment, &self.policy);
        self.state = state;
        self.notes.extend(effects.notes);
        match effects.doing {
            Some(Doing::AskHooks) => self.feed(Input::Hooks(None)),
            Some(Doing::Restart) => self.begun.push(self.up_ms),
            Some(Doing::Look | Doing::TakeUp | Doing::StartRollout | Doing::AskAfterRollout) | None => {}
        }
    }

    /// The shortest and the longest time between two looks, in seconds.
    fn between(&self) -> (u64, u64) {
        let apart: Vec<u64> = self.looks.windows(2).map(|w| (w[1] - w[0]) / 1_000).collect();
        (*apart.iter().min().expect("looks"), *apart.iter().max().expect("looks"))
    }
}

#[test]
fn a_settled_day_is_a_look_every_six_minutes_and_nothing_else() {
    let mut service = Simulated::new(Policy::default());
    service.lives(24, |_| Decision::Settled);
    // 240 at six minutes; the jitter only puts off (an eighth at most), and the first few come sooner.
    assert!((213..=244).contains(&service.looks.len()), "{}", service.looks.len());
    assert_eq!(service.ticks, 0, "no other timer wakes it");
    assert_eq!(service.notes.len(), 1, "{:?}", service.notes);
    let (shortest, longest) = service.between();
    assert!(shortest >= 60 && longest <= 405, "{shortest} {longest}");
}

#[test]
fn a_day_of_waiting_asks_each_name_once_a_ttl_at_most() {
    let mut service = Simulated::new(Policy::default());
    service.lives(24, |_| waiting());
    let (shortest, longest) = service.between();
    assert!(shortest >= u64::from(TTL_S) && longest <= 68, "{shortest} {longest}");
    assert!((1_270..=1_441).contains(&service.looks.len()), "{}", service.looks.len());
    assert_eq!((service.ticks, service.notes.len()), (0, 1), "{:?}", service.notes);
}

#[test]
fn an_hour_of_flapping_moves_nothing() {
    // Names that change sides at each look, after two, or in the middle of the time that agreement has to last.
    for period_s in [61, 90, 120] {
        let mut service = Simulated::new(Policy { splay_max: std::time::Duration::ZERO, ..Policy::default() });
        service.lives(1, |at_ms| if at_ms / 1_000 / period_s % 2 == 0 { restart() } else { waiting() });
        let found = service.notes.iter().filter(|n| n.kind == Kind::EndpointsFound).count();
        assert!(found >= 10, "it saw them come and go: {found}");
        assert!(service.begun.is_empty(), "flapping every {period_s} s: {:?}", service.notes);
    }
    // The control: what stays is acted upon.
    let mut service = Simulated::new(Policy { splay_max: std::time::Duration::ZERO, ..Policy::default() });
    service.lives(1, |_| restart());
    assert_eq!(service.begun.len(), 1);
}

#[test]
fn flapping_within_the_splay_begins_the_count_anew() {
    // Five minutes there, one not: each time long enough to be ready, never for as long as the splay.
    let policy = Policy { splay_max: std::time::Duration::from_secs(86_400), ..Policy::default() };
    let mut service = Simulated::new(policy);
    service.lives(6, |at_ms| if at_ms / 60_000 % 6 == 5 { waiting() } else { restart() });
    assert!(service.notes.iter().filter(|n| n.kind == Kind::Ready).count() > 10, "{:?}", service.notes);
    assert!(service.begun.is_empty(), "{:?}", service.notes);
}

/// A thousand hosts see the same endpoints at once and draw their splays; the endpoints break the agent of whoever moves
/// to them. A host knows that its agent is not back by its deadline, and sets the halt that every other reads before it
/// acts.
#[test]
fn endpoints_that_break_agents_stop_after_the_first_few_of_a_thousand() {
    let settings = Settings::default();
    let policy = Policy::new(&settings);
    let deadline_s = settings.restart.deadline_s as f64;
    let broken = |hosts: usize| {
        let mut splays: Vec<f64> =
            (0..hosts).map(|n| splay(&format!("i-{n:017x}"), &set(), policy.splay_max).as_secs_f64()).collect();
        splays.sort_by(f64::total_cmp);
        let mut halt = None;
        let mut moved = 0;
        for at in splays {
            let value = halt.filter(|since| *since <= at).map(|_| "{}".to_owned());
            let brakes = Brakes { halt: Fact::Known(value), open: None };
            if brake(&brakes, &settings.fleet).is_ok() {
                moved += 1;
                halt.get_or_insert(at + deadline_s);
            }
        }
        moved
    };
    let (thousand, ten_thousand) = (broken(1_000), broken(10_000));
    println!("broken before the halt: {thousand} of 1,000, {ten_thousand} of 10,000");
    assert!(thousand <= 10, "{thousand} of 1,000");
    assert!(ten_thousand <= 30, "{ten_thousand} of 10,000");
}
