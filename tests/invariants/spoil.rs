//! Ways to spoil a good case, a few at a time: what happens on real hosts, not uniform noise.

use crate::world::*;
use hostagent::catalog::Service;
use hostagent::decide::{EndpointSet, RecordedOutcome, RestartRecord};
use hostagent::facts::*;
use proptest::prelude::*;
use std::net::IpAddr;

/// Which of the looks at the host a change is seen in.
#[derive(Debug, Clone, Copy)]
pub enum Where {
    All,
    First,
    Fresh,
    Round(usize),
    Rounds,
}

#[derive(Debug, Clone)]
pub enum Spoil {
    Name(Where, Service, Answer),
    NoName(Where, Service),
    Reach(Where, Service, usize, ReachOutcome),
    NoReach(Where, Service, usize),
    Blank(Where, Blank),
    Version(Where, &'static str),
    State(Where, State),
    Container(Where, ContainerChange),
    Unit(Where, UnitChange),
    Task(Where, Option<&'static str>, &'static str),
    Config(Where, &'static str, &'static str),
    Cache(Where, CacheState, bool, Option<&'static str>),
    Rules(Where, u32, u32),
    Sockets(Where, SocketChange),
    NotRegistered(Where),
    Record { age_s: i64, outcome: RecordedOutcome, same_set: bool, repair: bool },
    OtherInstance,
    RoundCount(i64, i64, u32),
    NoRepair,
    Budget(u32),
    Late(i64),
}

/// A fact that could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blank {
    Presence,
    Introspection,
    Tasks,
    Version,
    Cache,
    Persistence,
    ConfigFile,
    Systemd,
    Instance,
    Sockets,
    Credentials,
    Rules,
    Workloads,
}

pub const BLANKS: [Blank; 13] = [
    Blank::Presence,
    Blank::Introspection,
    Blank::Tasks,
    Blank::Version,
    Blank::Cache,
    Blank::Persistence,
    Blank::ConfigFile,
    Blank::Systemd,
    Blank::Instance,
    Blank::Sockets,
    Blank::Credentials,
    Blank::Rules,
    Blank::Workloads,
];

impl Blank {
    pub fn apply(self, seen: &mut Observation) {
        match self {
            Blank::Presence => seen.agent.presence = unknown("container ecs-agent"),
            Blank::Introspection => seen.agent.introspection = unknown("introspection"),
            Blank::Tasks => seen.agent.tasks = unknown("tasks"),
            Blank::Version => seen.agent.version = unknown("version"),
            Blank::Cache => seen.agent.cache = unknown("cache"),
            Blank::Persistence => seen.agent.persistence = unknown("data directory"),
            Blank::ConfigFile => seen.agent.config_file = unknown("ecs.config"),
            Blank::Systemd => seen.systemd = unknown("systemd"),
            Blank::Instance => seen.instance = unknown("IMDS"),
            Blank::Sockets => seen.sockets = unknown("sockets"),
            Blank::Credentials => seen.credentials = unknown("credentials"),
            Blank::Rules => {
                if let Fact::Known(credentials) = &mut seen.credentials {
                    credentials.rules = unknown("iptables");
                }
            }
            Blank::Workloads => seen.workloads = unknown("containers"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum State {
    NoDataDir,
    NoHostDir,
    NoCheckpoint,
    NoFile,
    EmptyFile,
}

#[derive(Debug, Clone, Copy)]
pub enum ContainerChange {
    Absent,
    State(ContainerState),
    Policy(RestartPolicy),
    NewId,
    Cluster(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub enum UnitChange {
    NotBooted,
    Gone,
    Foreign(bool),
    Masked,
    Job,
    Active(&'static str, &'static str),
    Status(i32),
    NeverRan,
    Twice,
}

#[derive(Debug, Clone, Copy)]
pub enum SocketChange {
    Endpoint,
    None,
    OneLeft,
    Elsewhere,
}

/// A case and what was done to it.
pub fn cases() -> impl Strategy<Value = (Case, Vec<Spoil>)> {
    let base = prop_oneof![
        6 => Just(Case::movable(Kind::EcsInit)),
        3 => Just(Case::movable(Kind::Bare)),
        2 => Just(Case::of(broken(false))),
        2 => Just(Case::of(broken(true))),
    ];
    (base, prop::collection::vec(spoil(), 0..=4)).prop_map(|(mut case, spoils)| {
        for spoil in &spoils {
            apply(&mut case, spoil);
        }
        (case, spoils)
    })
}

fn place() -> impl Strategy<Value = Where> {
    prop_oneof![
        3 => Just(Where::All),
        1 => Just(Where::First),
        2 => Just(Where::Fresh),
        1 => (0_usize..4).prop_map(Where::Round),
        1 => Just(Where::Rounds),
    ]
}

fn service() -> impl Strategy<Value = Service> {
    prop::sample::select(NAMES.map(|n| n.0).to_vec())
}

fn an_answer() -> impl Strategy<Value = Answer> {
    let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
    prop::sample::select(vec![
        answer(&ips(&["198.51.100.10"]), 60),
        answer(&ips(&["10.50.1.77", "198.51.100.10"]), 60),
        answer(&ips(&["10.99.1.10"]), 60),
        answer(&ips(&["10.50.1.77"]), 60),
        answer(&ips(&["10.50.1.77", "10.50.2.77"]), 400),
        answer(&ips(&["::ffff:10.50.1.77"]), 1),
        answer(&ips(&["2600:1f18::7"]), 60),
        answer(&[], 60),
        Answer::NxDomain,
        Answer::Empty,
        Answer::ServerFailure("SERVFAIL".into()),
        Answer::TimedOut,
        Answer::Failed("malformed".into()),
    ])
}

fn outcome() -> impl Strategy<Value = ReachOutcome> {
    prop::sample::select(vec![
        ReachOutcome::Reached { http_status: None },
        ReachOutcome::TcpTimedOut,
        ReachOutcome::TcpRefused,
        ReachOutcome::TcpFailed("no route".into()),
        ReachOutcome::TlsTimedOut,
        ReachOutcome::TlsFailed("wrong name".into()),
        ReachOutcome::WrongService("html".into()),
    ])
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let states = [State::NoDataDir, State::NoHostDir, State::NoCheckpoint, State::NoFile, State::EmptyFile];
    let versions = ["1.25.0", "1.25.1", "1.44.0", "1.44.2", "1.44.4", "1.50.1", "1.59.0", "0.9.0"];
    let containers = [
        ContainerChange::Absent,
        ContainerChange::State(ContainerState::Exited { code: 0 }),
        ContainerChange::State(ContainerState::Exited { code: 143 }),
        ContainerChange::State(ContainerState::Paused),
        ContainerChange::State(ContainerState::Running),
        ContainerChange::Policy(RestartPolicy::Always),
        ContainerChange::NewId,
        ContainerChange::Cluster("other"),
    ];
    let units = [
        UnitChange::NotBooted,
        UnitChange::Gone,
        UnitChange::Foreign(true),
        UnitChange::Foreign(false),
        UnitChange::Masked,
        UnitChange::Job,
        UnitChange::Active("inactive", "dead"),
        UnitChange::Active("active", "running"),
        UnitChange::Active("failed", "failed"),
        UnitChange::Active("activating", "auto-restart"),
        UnitChange::Status(15),
        UnitChange::NeverRan,
        UnitChange::Twice,
    ];
    let settings = [
        ("ECS_CLUSTER", "other"),
        ("ECS_CLUSTER", ""),
        ("HTTPS_PROXY", "http://proxy.corp:3128"),
        ("ECS_CHECKPOINT", "false"),
        ("ECS_DATADIR", "/elsewhere"),
        ("ECS_BACKEND_HOST", "https://ecs.test"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("NO_PROXY", "*"),
    ];
    let caches = [
        (CacheState::Uncached, true, None),
        (CacheState::Cached, false, None),
        (CacheState::NoCache, false, None),
        (CacheState::Other("7".into()), true, None),
        (CacheState::ReloadNeeded, true, Some("1.106.0")),
        (CacheState::ReloadNeeded, true, Some("1.44.1")),
        (CacheState::Cached, true, Some("1.106.0")),
    ];
    let sockets = [SocketChange::Endpoint, SocketChange::None, SocketChange::OneLeft, SocketChange::Elsewhere];
    let outcomes =
        [RecordedOutcome::Begun, RecordedOutcome::NotActed, RecordedOutcome::Verified, RecordedOutcome::NotVerified];
    let tasks =
        [(Some("STOPPED"), "RUNNING"), (None, "PENDING"), (Some("RUNNING"), "PENDING"), (Some("RUNNING"), "RUNNING")];
    let record = (-4_000_i64..200_000, prop::sample::select(outcomes.to_vec()), any::<bool>(), any::<bool>());
    prop_oneof![
        4 => (place(), service(), an_answer()).prop_map(|(w, s, a)| Spoil::Name(w, s, a)),
        1 => (place(), service()).prop_map(|(w, s)| Spoil::NoName(w, s)),
        4 => (place(), service(), 0_usize..2, outcome()).prop_map(|(w, s, n, o)| Spoil::Reach(w, s, n, o)),
        1 => (place(), service(), 0_usize..2).prop_map(|(w, s, n)| Spoil::NoReach(w, s, n)),
        3 => (place(), prop::sample::select(BLANKS.to_vec())).prop_map(|(w, b)| Spoil::Blank(w, b)),
        2 => (place(), prop::sample::select(versions.to_vec())).prop_map(|(w, v)| Spoil::Version(w, v)),
        2 => (place(), prop::sample::select(states.to_vec())).prop_map(|(w, s)| Spoil::State(w, s)),
        2 => (place(), prop::sample::select(containers.to_vec())).prop_map(|(w, c)| Spoil::Container(w, c)),
        4 => (place(), prop::sample::select(units.to_vec())).prop_map(|(w, u)| Spoil::Unit(w, u)),
        2 => (place(), prop::sample::select(tasks.to_vec())).prop_map(|(w, (d, k))| Spoil::Task(w, d, k)),
        2 => (place(), prop::sample::select(settings.to_vec())).prop_map(|(w, (k, v))| Spoil::Config(w, k, v)),
        2 => (place(), prop::sample::select(caches.to_vec())).prop_map(|(w, (c, t, s))| Spoil::Cache(w, c, t, s)),
        1 => (place(), 0_u32..3, 0_u32..3).prop_map(|(w, p, o)| Spoil::Rules(w, p, o)),
        2 => (place(), prop::sample::select(sockets.to_vec())).prop_map(|(w, s)| Spoil::Sockets(w, s)),
        1 => place().prop_map(Spoil::NotRegistered),
        4 => record.prop_map(|(age_s, outcome, same_set, repair)| Spoil::Record { age_s, outcome, same_set, repair }),
        1 => Just(Spoil::OtherInstance),
        2 => (0_i64..5, 0_i64..140, prop::sample::select(vec![0_u32, 5, 60, 300, 7_200]))
            .prop_map(|(n, step, ttl)| Spoil::RoundCount(n, step, ttl)),
        1 => Just(Spoil::NoRepair),
        1 => (0_u32..4).prop_map(Spoil::Budget),
        1 => (-5_i64..120).prop_map(Spoil::Late),
    ]
}

/// Applies a change; one that does not fit what is there (no unit to change) does nothing.
pub fn apply(case: &mut Case, spoil: &Spoil) {
    match spoil {
        Spoil::Name(w, service, answer) => each_names(case, *w, |names, _| {
            names.iter_mut().filter(|n| n.service == *service).for_each(|n| n.answer = answer.clone());
        }),
        Spoil::NoName(w, service) => each_names(case, *w, |names, _| names.retain(|n| n.service != *service)),
        Spoil::Reach(w, service, n, outcome) => each_names(case, *w, |_, reach| {
            if let Some(r) = reach.iter_mut().filter(|r| r.service == *service).nth(*n) {
                r.outcome = outcome.clone();
            }
        }),
        Spoil::NoReach(w, service, n) => each_names(case, *w, |_, reach| {
            let at = reach.iter().enumerate().filter(|(_, r)| r.service == *service).map(|(at, _)| at).nth(*n);
            if let Some(at) = at {
                reach.remove(at);
            }
        }),
        Spoil::Record { age_s, outcome, same_set, repair } => {
            let endpoints = if *same_set { full_set() } else { EndpointSet::default() };
            case.history.restarts.push(RestartRecord {
                run_id: format!("r{}", case.history.restarts.len()),
                at: after(case.now, -age_s),
                endpoints,
                repair: *repair,
                outcome: *outcome,
            });
        }
        Spoil::OtherInstance => case.history.instance_id = "i-0another".into(),
        Spoil::RoundCount(count, step, ttl) => case.rounds = rounds(*count, *step, after(t0(), 85), *ttl),
        Spoil::NoRepair => case.policy.allow_repair = false,
        Spoil::Budget(budget) => case.policy.restart.budget_per_day = *budget,
        Spoil::Late(seconds) => case.now = after(case.fresh.at, *seconds),
        Spoil::Blank(w, blank) => each_look(case, *w, |seen| blank.apply(seen)),
        Spoil::Version(w, version) => each_look(case, *w, |seen| {
            if let Fact::Known(v) = &mut seen.agent.version {
                v.version = version.parse().unwrap();
            }
        }),
        Spoil::State(w, state) => each_look(case, *w, |seen| spoil_state(seen, *state)),
        Spoil::Container(w, change) => each_look(case, *w, |seen| spoil_container(seen, *change)),
        Spoil::Unit(w, change) => each_look(case, *w, |seen| spoil_unit(seen, *change)),
        Spoil::Task(w, desired, known) => each_look(case, *w, |seen| {
            if let Fact::Known(tasks) = &mut seen.agent.tasks {
                tasks.push(task("z", *desired, known, &["9"]));
            }
        }),
        Spoil::Config(w, key, value) => each_look(case, *w, |seen| {
            if let Fact::Known(file) = &mut seen.agent.config_file {
                file.env.insert((*key).into(), (*value).into());
            }
        }),
        Spoil::Cache(w, state, tar_present, staged) => each_look(case, *w, |seen| {
            let staged = staged.map(|v| v.parse().unwrap());
            let tar_present = *tar_present;
            seen.agent.cache =
                Fact::Known(AgentCache { state: state.clone(), staged, tar_present, desired_image: None });
        }),
        Spoil::Rules(w, prerouting, output) => each_look(case, *w, |seen| {
            if let Fact::Known(c) = &mut seen.credentials {
                c.rules = Fact::Known(CredentialRules { prerouting: *prerouting, output: *output });
            }
        }),
        Spoil::Sockets(w, change) => each_look(case, *w, |seen| {
            seen.sockets = Fact::Known(match change {
                SocketChange::Endpoint => endpoint_sockets(),
                SocketChange::None => vec![],
                SocketChange::OneLeft => vec![socket(50_001, "10.50.1.10:443"), socket(40_002, "198.51.100.31:443")],
                SocketChange::Elsewhere => vec![socket(40_004, "10.99.1.11:443")],
            });
        }),
        Spoil::NotRegistered(w) => each_look(case, *w, |seen| {
            if let Fact::Known(i) = &mut seen.agent.introspection {
                i.container_instance_arn = None;
            }
        }),
    }
}

/// The endpoint set of the good world.
pub fn full_set() -> EndpointSet {
    let of = |(service, _, last): (Service, &str, u8)| endpoint_ips(last).into_iter().map(move |ip| (service, ip));
    EndpointSet(NAMES.into_iter().flat_map(of).collect())
}

fn each_look(case: &mut Case, w: Where, change: impl Fn(&mut Observation)) {
    if matches!(w, Where::All | Where::First) {
        change(&mut case.first);
    }
    if !matches!(w, Where::First) {
        change(&mut case.fresh);
    }
}

fn each_names(case: &mut Case, w: Where, change: impl Fn(&mut Vec<NameFact>, &mut Vec<ReachFact>)) {
    if matches!(w, Where::All | Where::First) {
        change(&mut case.first.names, &mut case.first.reach);
    }
    if matches!(w, Where::All | Where::Fresh) {
        change(&mut case.fresh.names, &mut case.fresh.reach);
    }
    for (n, round) in case.rounds.iter_mut().enumerate() {
        let hit = match w {
            Where::All | Where::Rounds => true,
            Where::Round(m) => m == n,
            Where::First | Where::Fresh => false,
        };
        if hit {
            change(&mut round.names, &mut round.reach);
        }
    }
}

fn spoil_state(seen: &mut Observation, state: State) {
    let Fact::Known(persistence) = &mut seen.agent.persistence else { return };
    match state {
        State::NoDataDir => persistence.data_dir = None,
        State::NoHostDir => persistence.host_dir = None,
        State::NoCheckpoint => persistence.checkpoint = false,
        State::NoFile => persistence.state_file = None,
        State::EmptyFile => persistence.state_file = Some(("agent.db".into(), 0)),
    }
}

fn spoil_container(seen: &mut Observation, change: ContainerChange) {
    if matches!(change, ContainerChange::Absent) {
        seen.agent.presence = Fact::Known(Presence::Absent);
        return;
    }
    let Fact::Known(Presence::Container(c)) = &mut seen.agent.presence else { return };
    match change {
        ContainerChange::Absent => {}
        ContainerChange::State(state) => c.state = state,
        ContainerChange::Policy(policy) => c.restart_policy = policy,
        ContainerChange::NewId => c.id = "f00d".into(),
        ContainerChange::Cluster(cluster) => {
            c.env.insert("ECS_CLUSTER".into(), cluster.into());
        }
    }
}

fn spoil_unit(seen: &mut Observation, change: UnitChange) {
    if matches!(change, UnitChange::NotBooted) {
        seen.systemd = Fact::Known(Systemd::NotBooted);
        return;
    }
    let Fact::Known(Systemd::Booted { units }) = &mut seen.systemd else { return };
    match change {
        UnitChange::Foreign(active) => units.push(foreign("my-agent.service", active)),
        UnitChange::Gone => units.clear(),
        UnitChange::Twice => units.push(Unit { name: "amazon-ecs.service".into(), ..unit() }),
        _ => {}
    }
    let Some(unit) = units.first_mut() else { return };
    match change {
        UnitChange::Masked => unit.load_state = "masked".into(),
        UnitChange::Job => unit.job = Some("/org/freedesktop/systemd1/job/7 restart".into()),
        UnitChange::Active(active, sub) => {
            (unit.active_state, unit.sub_state) = (active.into(), sub.into());
        }
        UnitChange::Status(status) => unit.exec_main_status = status,
        UnitChange::NeverRan => (unit.invocation_id, unit.inactive_exit_us) = (String::new(), 0),
        UnitChange::NotBooted | UnitChange::Foreign(_) | UnitChange::Gone | UnitChange::Twice => {}
    }
}
