//! Hours and days of the service in no time: its states and its timetable, with the clock as an input.

use hostagent::{
    catalog::Service,
    config::Settings,
    decide::{
        Decision, EndpointSet, Method, Plan, Reason,
        brake::{Brakes, brake},
    },
    watch::{
        Policy, schedule,
        splay::splay,
        state::{Doing, Input, Kind, Lead, Moment, Note, RunEnd, State},
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
    /// How often the intent of an interrupted run is still found, and when that was taken up.
    interrupted: u32,
    taken_up: Vec<u64>,
}

impl Simulated {
    fn new(policy: Policy) -> Self {
        let state = State { instance_id: Some(ID.into()), ..State::default() };
        Self {
            state,
            policy,
            up_ms: HOUR_MS,
            looks: vec![],
            ticks: 0,
            notes: vec![],
            begun: vec![],
            interrupted: 0,
            taken_up: vec![],
        }
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
            if self.interrupted > 0 {
                let before = self.taken_up.len();
                self.feed(Input::Interrupted { run: "r".into() });
                if self.taken_up.len() > before {
                    next_look = self.up_ms + 500;
                    continue;
                }
            }
            self.looks.push(self.up_ms);
            let decision = finds(self.up_ms - began);
            let lead = match &decision {
                Decision::Settled | Decision::Restart { .. } => Lead::Endpoints(set()),
                _ => Lead::Elsewhere { why: "to the internet".into() },
            };
            let last = Some(decision.clone());
            let asked_ms = self.up_ms;
            self.feed(Input::Looked {
                decision,
                asked_ms,
                ttl_s: Some(TTL_S),
                instance_id: Some(ID.into()),
                agent: None,
                lead,
            });
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
            Some(Doing::TakeUp) => {
                self.taken_up.push(self.up_ms);
                self.interrupted -= 1;
                // The hold of the connections, and the looks before and after it.
                self.up_ms += 12_000;
                let (decision, words) = (restart(), "the agent was moved, and that is proved".to_owned());
                self.feed(Input::RunEnded(RunEnd { acted: true, exit_code: 0, decision, agent: None, words }));
            }
            Some(Doing::Look | Doing::StartRollout | Doing::AskAfterRollout) | None => {}
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

/// With a full disk nobody can write down that an interrupted run is finished: it is found as often as it is looked for.
#[test]
fn a_run_whose_end_cannot_be_written_down_is_not_finished_over_and_over() {
    let mut service = Simulated::new(Policy::default());
    service.interrupted = u32::MAX;
    service.lives(24, |_| Decision::Settled);
    let times = service.taken_up.len();
    assert!((20..=35).contains(&times), "{times}");
    assert!(service.taken_up[1] - service.taken_up[0] < 60_000, "once more at once: the agent may be down");
    assert!(service.notes.len() <= 4 * times, "{:?}", service.notes);
    let apart = service.taken_up.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(apart.is_some_and(|apart| apart < 2 * HOUR_MS), "nor is it given up: {apart:?}");
}

#[test]
fn a_run_that_was_finished_holds_up_no_other() {
    let moved_at = |interrupted| {
        let mut service = Simulated::new(Policy { splay_max: std::time::Duration::ZERO, ..Policy::default() });
        service.interrupted = interrupted;
        service.lives(1, |_| restart());
        assert_eq!((service.begun.len(), service.taken_up.len()), (1, interrupted as usize));
        service.begun[0]
    };
    let later_ms = moved_at(1) - moved_at(0);
    assert!(later_ms <= 30_000, "{later_ms}");
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
            let brakes = Brakes { halt: Ok(value), open: None, read_before: true };
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
