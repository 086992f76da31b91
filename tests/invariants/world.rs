//! Hosts to judge: observations that are good, and the parts to spoil them with.

use hostagent::catalog::Service;
use hostagent::config::Settings;
use hostagent::decide::{Ask, Decision, History, Permit, Plan, Policy, Round, decide, permit};
use hostagent::{assess::assess, facts::*};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

pub const INSTANCE: &str = "i-0f00dfacade00001";
pub const NAMES: [(Service, &str, u8); 3] = [
    (Service::Ecs, "ecs.eu-west-1.amazonaws.com", 10),
    (Service::EcsAgent, "ecs-a.eu-west-1.amazonaws.com", 11),
    (Service::EcsTelemetry, "ecs-t.eu-west-1.amazonaws.com", 12),
];

/// How the agent of a host is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    EcsInit,
    Bare,
}

pub fn t0() -> Timestamp {
    "2026-09-01T12:00:00Z".parse().unwrap()
}

pub fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

pub fn unknown<T>(what: &str) -> Fact<T> {
    Fact::unknown(what, "not seen", "look again")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn endpoint_ips(last: u8) -> Vec<IpAddr> {
    vec![ip(&format!("10.50.1.{last}")), ip(&format!("10.50.2.{last}"))]
}

pub fn answer(ips: &[IpAddr], ttl_s: u32) -> Answer {
    Answer::Addresses(ips.iter().map(|ip| Address { ip: *ip, ttl_s: Some(ttl_s) }).collect())
}

pub fn names(ttl_s: u32) -> Vec<NameFact> {
    let name = |(service, host, last): (Service, &str, u8)| NameFact {
        service,
        host: host.into(),
        answer: answer(&endpoint_ips(last), ttl_s),
    };
    NAMES.map(name).to_vec()
}

/// Every address of every name answers.
pub fn reach(names: &[NameFact]) -> Vec<ReachFact> {
    let probe = |n: &NameFact, ip: IpAddr| ReachFact {
        service: n.service,
        host: n.host.clone(),
        addr: SocketAddr::new(ip, 443),
        outcome: ReachOutcome::Reached { http_status: None },
    };
    names.iter().flat_map(|n| n.answer.ips().into_iter().map(|ip| probe(n, ip))).collect()
}

pub fn socket(local_port: u16, peer: &str) -> Socket {
    Socket {
        local: SocketAddr::new(ip("10.50.7.4"), local_port),
        peer: peer.parse().unwrap(),
        pid: 4242,
        inode: 90_000 + u64::from(local_port),
    }
}

/// API, ACS and TCS on the internet, as long after their names flipped.
pub fn public_sockets() -> Vec<Socket> {
    vec![socket(40_001, "198.51.100.10:443"), socket(40_002, "198.51.100.31:443"), socket(40_003, "198.51.100.32:443")]
}

/// The same on endpoint addresses.
pub fn endpoint_sockets() -> Vec<Socket> {
    vec![socket(50_001, "10.50.1.10:443"), socket(50_002, "10.50.2.11:443"), socket(50_003, "10.50.1.12:443")]
}

pub fn unit() -> Unit {
    Unit {
        name: "ecs.service".into(),
        load_state: "loaded".into(),
        active_state: "active".into(),
        sub_state: "running".into(),
        result: "success".into(),
        main_pid: 900,
        exec_main_status: 0,
        exec_start: vec!["/usr/libexec/amazon-ecs-init start".into()],
        fragment_path: "/usr/lib/systemd/system/ecs.service".into(),
        inactive_exit_us: 9_000_000,
        invocation_id: "aaaa0001".into(),
        job: None,
        role: UnitRole::EcsInit,
    }
}

pub fn foreign(name: &str, active: bool) -> Unit {
    Unit {
        name: name.into(),
        active_state: if active { "active" } else { "inactive" }.into(),
        exec_start: vec!["/usr/bin/docker start -a ecs-agent".into()],
        role: UnitRole::Foreign,
        ..unit()
    }
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn container(kind: Kind) -> AgentContainer {
    AgentContainer {
        id: "c0ffee0000010000000000000000000000000000000000000000000000000000".into(),
        name: "ecs-agent".into(),
        image: "amazon/amazon-ecs-agent:latest".into(),
        image_id: "sha256:01".into(),
        state: ContainerState::Running,
        pid: Some(1234),
        started_at: "2026-09-01T08:00:00.123456789Z".into(),
        host_network: true,
        restart_policy: match kind {
            Kind::EcsInit => RestartPolicy::No,
            Kind::Bare => RestartPolicy::OnFailure { max: 10 },
        },
        mounts: vec![Mount { source: "/var/lib/ecs/data".into(), destination: "/data".into(), read_write: true }],
        env: env(&[("ECS_CLUSTER", "prod"), ("ECS_DATADIR", "/data")]),
        health: Some("healthy".into()),
    }
}

pub fn task(id: &str, desired: Option<&str>, known: &str, containers: &[&str]) -> Task {
    Task {
        arn: format!("arn:aws:ecs:eu-west-1:111122223333:task/prod/{id}"),
        desired_status: desired.map(Into::into),
        known_status: known.into(),
        containers: containers.iter().map(|c| (*c).to_owned()).collect(),
    }
}

fn workload(n: u32) -> Workload {
    Workload {
        id: format!("{n:064x}"),
        name: format!("web-{n}"),
        pid: 5000 + n,
        started_at: format!("2026-09-01T09:00:0{n}Z"),
        running: true,
        exit_code: None,
        restart_count: Some(2),
    }
}

/// A host that is ready to be moved: endpoints up, agent still on the internet, everything known.
pub fn movable(kind: Kind) -> Observation {
    let names = names(60);
    let version = AgentVersion { version: "1.105.1".parse().unwrap(), source: VersionSource::Introspection };
    let arn = "arn:aws:ecs:eu-west-1:111122223333:container-instance/prod/0123456789abcdef";
    Observation {
        at: t0(),
        agent: AgentFacts {
            presence: Fact::Known(Presence::Container(Box::new(container(kind)))),
            introspection: Fact::Known(Introspection {
                cluster: "prod".into(),
                container_instance_arn: Some(arn.into()),
                version: "Amazon ECS Agent - v1.105.1 (*a8b3e7d3)".into(),
            }),
            tasks: Fact::Known(vec![
                task("a", None, "RUNNING", &["1"]),
                task("b", Some("RUNNING"), "RUNNING", &["2"]),
                task("c", Some("STOPPED"), "STOPPED", &["3"]),
            ]),
            version: Fact::Known(version.clone()),
            cache: Fact::Known(match kind {
                Kind::EcsInit => AgentCache {
                    state: CacheState::Cached,
                    staged: Some(version.version),
                    tar_present: true,
                    desired_image: None,
                },
                Kind::Bare => {
                    AgentCache { state: CacheState::NoCache, staged: None, tar_present: false, desired_image: None }
                }
            }),
            persistence: Fact::Known(Persistence {
                data_dir: Some("/data".into()),
                host_dir: Some("/var/lib/ecs/data".into()),
                checkpoint: true,
                state_file: Some(("agent.db".into(), 65_536)),
            }),
            config_file: Fact::Known(ConfigFile {
                path: "/etc/ecs/ecs.config".into(),
                present: kind == Kind::EcsInit,
                env: if kind == Kind::EcsInit { env(&[("ECS_CLUSTER", "prod")]) } else { env(&[]) },
            }),
            ecs_init: Fact::Known(match kind {
                Kind::EcsInit => vec!["/var/cache/ecs".into(), "/usr/lib/systemd/system/ecs.service".into()],
                Kind::Bare => vec![],
            }),
        },
        systemd: Fact::Known(match kind {
            Kind::EcsInit => Systemd::Booted { units: vec![unit()] },
            Kind::Bare => Systemd::Booted { units: vec![] },
        }),
        instance: Fact::Known(Instance {
            instance_id: INSTANCE.into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            partition: "aws".into(),
            dns_suffix: "amazonaws.com".into(),
            availability_zone: "eu-west-1a".into(),
            vpc_cidrs: vec!["10.50.0.0/17".parse().unwrap()],
        }),
        reach: reach(&names),
        names,
        sockets: Fact::Known(public_sockets()),
        credentials: Fact::Known(Credentials {
            rules: Fact::Known(CredentialRules { prerouting: 1, output: 1 }),
            port_answers: Fact::Known(true),
        }),
        discovery: None,
        workloads: Fact::Known((1..=3).map(workload).collect()),
        took_ms: vec![],
    }
}

/// What a restart makes of it: the agent on endpoints, a new container where ecs-init makes one.
pub fn moved(before: &Observation, kind: Kind, at: Timestamp) -> Observation {
    let mut seen = before.clone();
    seen.at = at;
    seen.sockets = Fact::Known(endpoint_sockets());
    let c = agent_container(&mut seen);
    c.started_at = "2026-09-01T12:02:00Z".into();
    if kind == Kind::EcsInit {
        c.id = "c0ffee0000020000000000000000000000000000000000000000000000000000".into();
        units(&mut seen)[0].invocation_id = "aaaa0002".into();
    }
    seen
}

/// What a Docker restart leaves of an agent that ecs-init owns; `running` after a second one.
pub fn broken(running: bool) -> Observation {
    let mut seen = movable(Kind::EcsInit);
    let unit = &mut units(&mut seen)[0];
    (unit.active_state, unit.sub_state, unit.main_pid) = ("inactive".into(), "dead".into(), 0);
    seen.credentials = Fact::Known(Credentials {
        rules: Fact::Known(CredentialRules { prerouting: 0, output: 0 }),
        port_answers: Fact::Known(running),
    });
    if !running {
        agent_container(&mut seen).state = ContainerState::Exited { code: 143 };
        agent_container(&mut seen).pid = None;
        seen.agent.introspection = unknown("introspection");
        seen.agent.tasks = unknown("tasks");
        seen.agent.version = unknown("version");
        seen.sockets = unknown("sockets");
    }
    seen
}

pub fn agent_container(seen: &mut Observation) -> &mut AgentContainer {
    match &mut seen.agent.presence {
        Fact::Known(Presence::Container(c)) => c,
        other => panic!("no container: {other:?}"),
    }
}

pub fn units(seen: &mut Observation) -> &mut Vec<Unit> {
    match &mut seen.systemd {
        Fact::Known(Systemd::Booted { units }) => units,
        other => panic!("systemd is not there: {other:?}"),
    }
}

pub fn name_mut(names: &mut [NameFact], service: Service) -> &mut Answer {
    &mut names.iter_mut().find(|n| n.service == service).unwrap().answer
}

/// Rounds of look-ups `step_s` apart, the last of them at `last`.
pub fn rounds(count: i64, step_s: i64, last: Timestamp, ttl_s: u32) -> Vec<Round> {
    let round = |n: i64| {
        let names = names(ttl_s);
        Round { at: after(last, -n * step_s), reach: reach(&names), names }
    };
    (0..count).rev().map(round).collect()
}

/// Everything a permit is asked with.
#[derive(Debug, Clone)]
pub struct Case {
    pub first: Observation,
    pub rounds: Vec<Round>,
    pub fresh: Observation,
    pub history: History,
    pub settings: Settings,
    pub policy: Policy,
    pub now: Timestamp,
}

impl Case {
    pub fn of(first: Observation) -> Self {
        let settings = Settings::default();
        let policy = Policy::new(&settings, true);
        let mut fresh = first.clone();
        fresh.at = after(t0(), 90);
        Self {
            first,
            rounds: rounds(3, 61, after(t0(), 85), 60),
            fresh,
            history: History { instance_id: INSTANCE.into(), restarts: vec![] },
            settings,
            policy,
            now: after(t0(), 92),
        }
    }

    pub fn movable(kind: Kind) -> Self {
        Self::of(movable(kind))
    }

    pub fn decide(&self) -> Decision {
        decide(&assess(&self.first, &self.settings), &self.first, &self.history, &self.policy, self.first.at)
    }

    /// The plan of the first look, if it comes to one, and then a permit for it.
    pub fn permit(&self) -> Result<Permit, Decision> {
        let decision = self.decide();
        match decision.plan() {
            Some(plan) => self.permit_for(plan),
            None => Err(decision),
        }
    }

    pub fn permit_for(&self, plan: &Plan) -> Result<Permit, Decision> {
        permit(&Ask {
            plan,
            rounds: &self.rounds,
            fresh: &self.fresh,
            history: &self.history,
            settings: &self.settings,
            policy: &self.policy,
            now: self.now,
        })
    }
}
