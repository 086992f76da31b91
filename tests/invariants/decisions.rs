//! One row a scenario: what is seen, and what is decided.

use crate::spoil::{Blank, full_set};
use crate::world::*;
use hostagent::assess::{assess, targets};
use hostagent::catalog::Service;
use hostagent::config::Settings;
use hostagent::decide::{Decision, Method};
use hostagent::facts::*;

/// The decision on a host, its exit code and its reasons' rules.
fn judge(seen: &Observation) -> (Decision, u8, Vec<String>) {
    judge_with(seen, &Settings::default())
}

fn judge_with(seen: &Observation, settings: &Settings) -> (Decision, u8, Vec<String>) {
    let mut case = Case::of(seen.clone());
    case.settings = settings.clone();
    let decision = case.decide();
    let rules = decision.reasons().iter().map(|r| r.rule.clone()).collect();
    (decision.clone(), decision.exit_code(), rules)
}

#[track_caller]
fn expect(seen: &Observation, code: u8, rules: &[&str]) -> Decision {
    let (decision, exit, found) = judge(seen);
    assert_eq!((exit, found.iter().map(String::as_str).collect::<Vec<_>>()), (code, rules.to_vec()), "{decision:#?}");
    for reason in decision.reasons() {
        assert!(!reason.text.is_empty(), "{reason:?}");
    }
    decision
}

fn with(change: impl FnOnce(&mut Observation)) -> Observation {
    let mut seen = movable(Kind::EcsInit);
    change(&mut seen);
    seen
}

/// Points names elsewhere, and lets every address answer.
fn named(services: &[Service], ips: &[&str]) -> Observation {
    with(|seen| {
        for service in services {
            let ips: Vec<_> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            *name_mut(&mut seen.names, *service) = answer(&ips, 60);
        }
        seen.reach = reach(&seen.names);
    })
}

fn reached(service: Service, nth: usize, outcome: ReachOutcome) -> Observation {
    with(|seen| {
        seen.reach.iter_mut().filter(|r| r.service == service).nth(nth).unwrap().outcome = outcome;
    })
}

fn config(key: &str, value: &str) -> Observation {
    with(|seen| {
        let Fact::Known(file) = &mut seen.agent.config_file else { unreachable!() };
        file.env.insert(key.into(), value.into());
    })
}

const ALL: [Service; 3] = [Service::Ecs, Service::EcsAgent, Service::EcsTelemetry];

#[test]
fn ready_is_a_restart_that_names_each_stale_connection() {
    let decision = expect(&movable(Kind::EcsInit), 10, &[]);
    let Decision::Restart { plan } = decision else { panic!("{decision:?}") };
    assert_eq!(plan.method, Method::RestartUnit { unit: "ecs.service".into() });
    assert_eq!(plan.endpoints, full_set());
    assert_eq!(plan.why.len(), 3);
    assert!(plan.why[1].contains("10.50.7.4:40002 -> 198.51.100.31:443 (public"), "{:?}", plan.why);
}

#[test]
fn a_bare_container_is_restarted_by_its_id() {
    let Decision::Restart { plan } = expect(&movable(Kind::Bare), 10, &[]) else { panic!() };
    let id = agent_container(&mut movable(Kind::Bare)).id.clone();
    assert_eq!(plan.method, Method::DockerRestart { container_id: id, stop_timeout_s: 30 });
    let mut no_systemd = movable(Kind::Bare);
    no_systemd.systemd = Fact::Known(Systemd::NotBooted);
    expect(&no_systemd, 10, &[]);
}

/// Seeing nobody else is not enough to take Docker for the owner.
#[test]
fn a_container_is_dockers_only_where_docker_starts_it_and_ecs_init_has_not_been() {
    let bare = |change: &dyn Fn(&mut Observation)| {
        let mut seen = movable(Kind::Bare);
        change(&mut seen);
        seen
    };
    let no_policy = bare(&|seen| agent_container(seen).restart_policy = RestartPolicy::No);
    let decision = expect(&no_policy, 12, &["ownership-unclear"]);
    assert!(decision.reasons()[0].text.contains("restart policy is no"), "{decision:?}");
    let trace = "/etc/init/ecs.conf";
    let traced = bare(&|seen| seen.agent.ecs_init = Fact::Known(vec![trace.into()]));
    let decision = expect(&traced, 12, &["ownership-unclear"]);
    assert!(decision.reasons()[0].text.contains(trace), "{decision:?}");
    // Whatever its init system: upstart is none that could be asked.
    let mut upstart = traced.clone();
    upstart.systemd = Fact::Known(Systemd::NotBooted);
    expect(&upstart, 12, &["ownership-unclear"]);
    expect(&bare(&|seen| seen.agent.ecs_init = unknown("traces of ecs-init")), 1, &["agent-unknown"]);
    for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped, RestartPolicy::OnFailure { max: 0 }] {
        expect(&bare(&|seen| agent_container(seen).restart_policy = policy), 10, &[]);
    }
}

/// Bottlerocket: one refusal that says what it is, whatever else is so, and nothing about containers that are not there.
#[test]
fn an_agent_that_is_a_process_of_the_host_is_refused_once() {
    let on = |change: &dyn Fn(&mut Observation)| {
        let mut seen = movable(Kind::EcsInit);
        let unit = &mut units(&mut seen)[0];
        (unit.role, unit.exec_start) = (UnitRole::AgentProcess, vec!["/usr/bin/amazon-ecs-agent".into()]);
        seen.agent.presence = Fact::Known(Presence::HostProcess { pid: 900, exe: "/usr/bin/amazon-ecs-agent".into() });
        // As observe gives them where there is no container.
        seen.agent.persistence = unknown("state directory of the agent");
        seen.agent.version = unknown("version of the agent");
        seen.agent.cache = unknown("cache");
        seen.workloads = unknown("containers");
        seen.agent.ecs_init = unknown("traces of ecs-init");
        change(&mut seen);
        seen
    };
    let public = |seen: &mut Observation| {
        for service in ALL {
            *name_mut(&mut seen.names, service) = answer(&["198.51.100.10".parse().unwrap()], 60);
        }
    };
    let changes: [&dyn Fn(&mut Observation); 6] = [
        &|_| {},
        &|seen| public(seen),
        &|seen| seen.agent.tasks = Fact::Known(vec![task("z", None, "PENDING", &[])]),
        &|seen| seen.sockets = unknown("sockets"),
        &|seen| {
            units(seen)[0].active_state = "inactive".into();
            seen.agent.presence = Fact::Known(Presence::Absent);
        },
        &|seen| units(seen)[0].job = Some("7 restart".into()),
    ];
    for change in changes {
        let seen = on(change);
        let decision = expect(&seen, 12, &["host-process"]);
        assert!(decision.reasons()[0].remedy.contains("apiclient reboot"), "{decision:?}");
        let said = assess(&seen, &Settings::default());
        let refusals = said.findings.iter().filter(|f| f.severity == hostagent::assess::Severity::Refuse).count();
        assert_eq!(refusals, 1, "{said:#?}");
        assert!(Case::of(seen).permit().is_err());
    }
    expect(&on(&|seen| seen.sockets = Fact::Known(endpoint_sockets())), 0, &[]);
    expect(&on(&|seen| units(seen)[0].active_state = "failed".into()), 13, &["agent-down"]);
}

/// Another port than that of endpoints: what was found on 443 says nothing of it.
#[test]
fn endpoints_are_judged_at_the_port_that_the_agent_dials() {
    let mut seen = config("ECS_BACKEND_HOST", "https://ecs.eu-west-1.amazonaws.com:8443");
    expect(&seen, 1, &["not-probed"]);
    assert_eq!(targets(&seen, &Settings::default()).port_of(Service::Ecs, "ecs.eu-west-1.amazonaws.com"), Some(8443));
    for reach in seen.reach.iter_mut().filter(|r| r.service == Service::Ecs) {
        reach.addr.set_port(8443);
    }
    expect(&seen, 10, &[]);
}

#[test]
fn checkpointing_that_is_switched_off_is_refused_however_it_is_written() {
    for off in ["false", "False", "FALSE", "f", "F", "0", " 0 "] {
        expect(&config("ECS_CHECKPOINT", off), 12, &["state-not-kept"]);
    }
    // The agent takes these for its default, which is to save where it has a data directory.
    for other in ["no", "off", "fAlse", "", "true", "1"] {
        expect(&config("ECS_CHECKPOINT", other), 10, &[]);
    }
}

#[test]
fn settled_means_both_websockets_on_endpoints() {
    let settled = moved(&movable(Kind::EcsInit), Kind::EcsInit, t0());
    expect(&settled, 0, &[]);
    // A connection to something else does not make it less so, nor does one that came in.
    let mut more = settled.clone();
    let Fact::Known(sockets) = &mut more.sockets else { unreachable!() };
    sockets.push(socket(40_009, "198.51.100.77:443"));
    sockets.push(socket(51_679, "198.51.100.9:443"));
    sockets.push(socket(40_010, "169.254.169.254:80"));
    expect(&more, 0, &[]);
    assert!(assess(&more, &Settings::default()).connections.iter().all(|c| c.socket.local.port() != 51_679));
    // Without one of the websockets the same connection may well be the missing one.
    let Fact::Known(sockets) = &mut more.sockets else { unreachable!() };
    sockets.retain(|s| s.peer.ip() != "10.50.1.12".parse::<std::net::IpAddr>().unwrap());
    expect(&more, 10, &[]);
}

#[test]
fn a_name_that_flipped_back_does_not_unsettle_what_stands() {
    let mut seen = moved(&named(&ALL, &["198.51.100.10"]), Kind::EcsInit, t0());
    expect(&seen, 0, &[]);
    let said = assess(&seen, &Settings::default());
    assert!(said.findings.iter().any(|f| f.rule == "name-not-endpoint"), "{said:#?}");
    // One websocket less, and it is a gap.
    seen.sockets = Fact::Known(vec![socket(50_002, "10.50.2.11:443")]);
    expect(&seen, 11, &["name-not-endpoint"; 3]);
}

#[test]
fn names_that_are_not_endpoints_are_waited_for() {
    let public = named(&ALL, &["198.51.100.10"]);
    expect(&public, 11, &["name-not-endpoint"; 3]);
    // By itself it moves only where there is something to move to.
    assert_eq!(assess(&public, &Settings::default()).converges_by, None);
    assert!(assess(&movable(Kind::EcsInit), &Settings::default()).converges_by.is_some());
    let decision =
        expect(&named(&[Service::EcsAgent, Service::EcsTelemetry], &["198.51.100.11"]), 11, &["name-not-endpoint"; 2]);
    let reason = &decision.reasons()[0];
    assert!(
        reason.text.contains("ecs-a.eu-west-1.amazonaws.com resolves to the internet (198.51.100.11)"),
        "{reason:?}"
    );
    assert!(reason.remedy.contains("com.amazonaws.eu-west-1.ecs-agent"), "{reason:?}");
    expect(&named(&[Service::EcsTelemetry], &["198.51.100.12"]), 11, &["name-not-endpoint"]);
    expect(&named(&[Service::Ecs], &["10.50.1.10", "198.51.100.10"]), 11, &["name-not-endpoint"]);
    let gone = with(|seen| *name_mut(&mut seen.names, Service::Ecs) = Answer::NxDomain);
    expect(&gone, 11, &["name-not-endpoint"]);
    for failure in [Answer::TimedOut, Answer::ServerFailure("SERVFAIL".into()), Answer::Failed("malformed".into())] {
        expect(&with(|seen| *name_mut(&mut seen.names, Service::Ecs) = failure), 1, &["name-unknown"]);
    }
}

#[test]
fn endpoints_elsewhere_have_to_be_configured() {
    let seen = named(&ALL, &["10.50.200.10"]);
    let decision = expect(&seen, 11, &["name-not-endpoint"; 3]);
    assert!(decision.reasons()[0].remedy.contains(r#"network.endpoint_cidrs = ["10.50.200.0/24"]"#), "{decision:?}");
    let mut settings = Settings::default();
    settings.network.endpoint_cidrs = vec!["10.50.200.0/24".parse().unwrap()];
    assert_eq!(judge_with(&seen, &settings).1, 10);
}

#[test]
fn endpoints_that_do_not_answer_are_waited_for_with_their_remedy() {
    for (outcome, remedy) in [
        (ReachOutcome::TcpTimedOut, "security group"),
        (ReachOutcome::TcpRefused, "nothing listens on 10.50.2.11:443"),
        (ReachOutcome::TcpFailed("no route to host".into()), "ip route get 10.50.2.11"),
        (ReachOutcome::TlsTimedOut, "firewall"),
        (ReachOutcome::TlsFailed("certificate not valid for name".into()), "openssl s_client -connect 10.50.2.11:443"),
        (ReachOutcome::WrongService("no answer".into()), "private hosted zone"),
    ] {
        let decision = expect(&reached(Service::EcsAgent, 1, outcome), 11, &["not-reached"]);
        assert!(decision.reasons()[0].remedy.contains(remedy), "{decision:?}");
        assert!(decision.reasons()[0].text.contains("ecs-a.eu-west-1.amazonaws.com at 10.50.2.11:443"), "{decision:?}");
    }
}

#[test]
fn an_agent_already_on_a_path_that_does_not_carry_is_broken() {
    let mut seen = reached(Service::EcsAgent, 0, ReachOutcome::TcpTimedOut);
    seen.sockets = Fact::Known(vec![socket(50_001, "10.50.1.10:443"), socket(50_003, "10.50.1.12:443")]);
    expect(&seen, 13, &["not-connected", "not-reached"]);
    // With the path mended, the gap is something a restart mends, if asked to.
    seen.reach = reach(&seen.names);
    let decision = expect(&seen, 13, &[]);
    assert!(
        matches!(&decision, Decision::Repair { plan } if plan.method == Method::RestartUnit { unit: "ecs.service".into() })
    );
}

#[test]
fn what_a_docker_restart_leaves_is_repaired_through_the_unit() {
    for running in [false, true] {
        let decision = expect(&broken(running), 13, &[]);
        let Decision::Repair { plan } = &decision else { panic!("{decision:?}") };
        assert_eq!(plan.method, Method::StartUnit { unit: "ecs.service".into() });
        let mut case = Case::of(broken(running));
        assert!(case.permit().is_ok_and(|p| p.repair()));
        case.policy.allow_repair = false;
        assert!(matches!(case.permit(), Err(Decision::Repair { .. })), "only with --repair");
    }
}

#[test]
fn a_dead_agent_is_started_whatever_the_endpoints_do_and_a_live_one_is_not() {
    for (running, code) in [(false, true), (true, false)] {
        let mut seen = broken(running);
        seen.reach.iter_mut().for_each(|r| r.outcome = ReachOutcome::TcpTimedOut);
        let (decision, exit, _) = judge(&seen);
        assert_eq!((exit, matches!(decision, Decision::Repair { .. })), (13, code), "{decision:?}");
    }
    let mut nameless = broken(true);
    *name_mut(&mut nameless.names, Service::EcsAgent) = Answer::NxDomain;
    let (decision, _, rules) = judge(&nameless);
    assert_eq!((decision.plan(), rules.last().map(String::as_str)), (None, Some("path-unproved")), "{decision:?}");
    // Public and answering is a path too.
    let mut public = broken(true);
    for service in ALL {
        *name_mut(&mut public.names, service) = answer(&["198.51.100.10".parse().unwrap()], 60);
    }
    public.reach = reach(&public.names);
    assert!(matches!(judge(&public).0, Decision::Repair { .. }));
}

#[test]
fn a_repair_stops_at_what_would_make_it_worse() {
    let spoilt = |change: fn(&mut Observation)| {
        let mut seen = broken(false);
        change(&mut seen);
        let (decision, exit, rules) = judge(&seen);
        assert!(matches!(decision, Decision::Broken { .. }) && exit == 13, "{decision:?}");
        rules
    };
    let lost = spoilt(|seen| {
        let Fact::Known(p) = &mut seen.agent.persistence else { unreachable!() };
        p.host_dir = None;
    });
    assert_eq!(lost, ["broken-by-docker-restart", "state-not-kept"]);
    let moved = spoilt(|seen| {
        let Fact::Known(file) = &mut seen.agent.config_file else { unreachable!() };
        file.env.insert("ECS_CLUSTER".into(), "other".into());
    });
    assert_eq!(moved, ["broken-by-docker-restart", "cluster-changed"]);
    assert_eq!(spoilt(|seen| Blank::Instance.apply(seen)), ["broken-by-docker-restart", "instance-unknown"]);
}

#[test]
fn stopped_by_an_operator_is_left_alone() {
    let stopped = |status: i32, code: i64| {
        let mut seen = broken(false);
        units(&mut seen)[0].exec_main_status = status;
        agent_container(&mut seen).state = ContainerState::Exited { code };
        seen
    };
    // Killed by systemd's stop; or either of the two; or the container removed by hand; or never started.
    expect(&stopped(15, 0), 12, &["agent-stopped"]);
    expect(&stopped(15, 143), 12, &["agent-stopped"]);
    let either = expect(&stopped(0, 0), 12, &["agent-stopped"]);
    assert!(either.reasons()[0].text.contains("either somebody ran systemctl stop"), "{either:?}");
    assert!(either.reasons()[0].remedy.contains("systemctl start ecs.service"), "{either:?}");
    expect(&stopped(0, 137), 12, &["agent-stopped"]);
    let mut gone = broken(false);
    gone.agent.presence = Fact::Known(Presence::Absent);
    expect(&gone, 12, &["agent-stopped"]);
    let mut never = broken(false);
    (units(&mut never)[0].invocation_id, units(&mut never)[0].inactive_exit_us) = (String::new(), 0);
    expect(&never, 12, &["agent-stopped"]);
    let mut bare = movable(Kind::Bare);
    agent_container(&mut bare).state = ContainerState::Exited { code: 0 };
    expect(&bare, 12, &["agent-stopped"]);
    // The one that is certain.
    assert!(matches!(judge(&stopped(0, 143)).0, Decision::Repair { .. }));
}

#[test]
fn down_in_other_ways_is_broken_and_not_touched() {
    let unit = |active: &str, sub: &str, result: &str, status: i32, container: ContainerState| {
        let mut seen = broken(false);
        let u = &mut units(&mut seen)[0];
        (u.active_state, u.sub_state) = (active.into(), sub.into());
        (u.result, u.exec_main_status) = (result.into(), status);
        agent_container(&mut seen).state = container;
        seen
    };
    let exited = |code| ContainerState::Exited { code };
    let five = expect(&unit("failed", "failed", "exit-code", 5, exited(5)), 13, &["agent-down"]);
    assert!(five.reasons()[0].text.contains("refused to start"), "{five:?}");
    expect(&unit("activating", "auto-restart", "exit-code", 1, exited(1)), 13, &["agent-down"]);
    expect(&unit("active", "running", "success", 0, exited(1)), 13, &["agent-down"]);
    expect(&unit("active", "running", "success", 0, ContainerState::Paused), 13, &["agent-down"]);
    expect(&unit("failed", "failed", "exit-code", 5, ContainerState::Running), 13, &["agent-down"]);
    // On the way: come back later.
    expect(&unit("deactivating", "stop", "success", 0, ContainerState::Running), 75, &["agent-changing"]);
    let mut job = movable(Kind::EcsInit);
    units(&mut job)[0].job = Some("restart".into());
    expect(&job, 75, &["agent-changing"]);
}

#[test]
fn unclear_and_foreign_owners_are_refused() {
    let owned = |units_now: Vec<Unit>, kind: Kind| {
        let mut seen = movable(kind);
        *units(&mut seen) = units_now;
        seen
    };
    expect(&owned(vec![foreign("my-agent.service", true)], Kind::Bare), 12, &["ownership-foreign"]);
    expect(&owned(vec![foreign("my-agent.service", false)], Kind::Bare), 12, &["ownership-foreign"]);
    expect(&owned(vec![unit(), foreign("my-agent.service", true)], Kind::EcsInit), 12, &["ownership-unclear"]);
    expect(
        &owned(vec![unit(), Unit { name: "amazon-ecs.service".into(), ..unit() }], Kind::EcsInit),
        12,
        &["ownership-unclear"],
    );
    expect(&owned(vec![Unit { load_state: "masked".into(), ..unit() }], Kind::EcsInit), 12, &["ownership-unclear"]);
    // A unit of ecs-init's is there, but the container restarts by itself: not its work.
    expect(&owned(vec![unit()], Kind::Bare), 12, &["ownership-unclear"]);
    let idle = Unit { active_state: "inactive".into(), invocation_id: String::new(), inactive_exit_us: 0, ..unit() };
    expect(&owned(vec![idle], Kind::EcsInit), 12, &["ownership-unclear"]);
    // One that is only a helper and does not run is no rival.
    expect(&owned(vec![unit(), foreign("ecs-log.service", false)], Kind::EcsInit), 10, &[]);
    let mut none = movable(Kind::Bare);
    none.agent.presence = Fact::Known(Presence::Absent);
    expect(&none, 12, &["no-agent"]);
}

#[test]
fn versions_state_and_the_next_start_are_refused_with_their_remedy() {
    let version = |v: &str| {
        with(|seen| {
            let Fact::Known(now) = &mut seen.agent.version else { unreachable!() };
            now.version = v.parse().unwrap();
        })
    };
    let old = expect(&version("1.25.0"), 12, &["version-too-old"]);
    assert!(old.reasons()[0].remedy.contains("1.25.1 or newer"), "{old:?}");
    let bad = expect(&version("1.44.2"), 12, &["version-known-bad"]);
    assert!(bad.reasons()[0].remedy.contains("1.44.4 or newer"), "{bad:?}");
    expect(&version("1.50.1"), 12, &["version-known-bad"]);
    for good in ["1.25.1", "1.43.0", "1.44.4", "1.50.2"] {
        expect(&version(good), 10, &[]);
    }
    let no_data = with(|seen| {
        let Fact::Known(p) = &mut seen.agent.persistence else { unreachable!() };
        p.host_dir = None;
    });
    expect(&no_data, 12, &["state-not-kept"]);
    expect(&config("ECS_CHECKPOINT", "false"), 12, &["state-not-kept"]);
    expect(&config("ECS_DATADIR", "/data/"), 10, &[]);
    let cluster = expect(&config("ECS_CLUSTER", "other"), 12, &["cluster-changed"]);
    assert!(cluster.reasons()[0].remedy.contains("ECS_CLUSTER=prod in /etc/ecs/ecs.config"), "{cluster:?}");
    expect(&config("ECS_CLUSTER", ""), 12, &["cluster-changed"]);
    let cache = |state: CacheState, tar_present: bool, staged: Option<&str>| {
        with(|seen| {
            let staged = staged.map(|v| v.parse().unwrap());
            seen.agent.cache = Fact::Known(AgentCache { state, staged, tar_present, desired_image: None });
        })
    };
    expect(&cache(CacheState::Uncached, true, None), 12, &["cache-empty"]);
    expect(&cache(CacheState::Cached, false, None), 12, &["cache-empty"]);
    expect(&cache(CacheState::ReloadNeeded, true, Some("1.44.1")), 12, &["version-known-bad"]);
    // Said, not refused.
    let staged = cache(CacheState::ReloadNeeded, true, Some("1.106.0"));
    expect(&staged, 10, &[]);
    let said = assess(&staged, &Settings::default());
    assert!(said.findings.iter().any(|f| f.rule == "staged-update" && f.text.contains("1.106.0")), "{said:#?}");
}

#[test]
fn a_task_between_states_holds_the_permit_and_not_the_decision() {
    for (desired, known) in [(None, "PENDING"), (Some("STOPPED"), "RUNNING"), (Some("RUNNING"), "PENDING")] {
        let mut case = Case::movable(Kind::EcsInit);
        let Fact::Known(tasks) = &mut case.fresh.agent.tasks else { unreachable!() };
        tasks.push(task("z", desired, known, &["9"]));
        let refused = case.permit().unwrap_err();
        assert_eq!((refused.exit_code(), refused.reasons()[0].rule.as_str()), (12, "tasks-between-states"));
        assert!(refused.reasons()[0].text.contains("task z is"), "{refused:?}");
        case.first = case.fresh.clone();
        assert_eq!(case.decide().exit_code(), 10);
    }
}

#[test]
fn a_proxy_is_said_and_refused_unless_no_proxy_takes_the_hosts_past_it() {
    let mut seen = config("HTTPS_PROXY", "http://user:secret@proxy.corp:3128");
    let decision = expect(&seen, 12, &["proxied"]);
    let reason = &decision.reasons()[0];
    assert!(reason.text.contains("proxy.corp:3128") && !reason.text.contains("secret"), "{reason:?}");
    assert!(
        reason.remedy.contains("ecs-a.eu-west-1.amazonaws.com") && reason.remedy.contains("NO_PROXY"),
        "{reason:?}"
    );
    // The running agent still goes through it, the next start will not: worth a restart.
    agent_container(&mut seen).env.insert("HTTPS_PROXY".into(), "http://10.99.0.9:3128".into());
    seen.sockets = Fact::Known(vec![socket(40_001, "10.99.0.9:3128")]);
    let Fact::Known(file) = &mut seen.agent.config_file else { unreachable!() };
    file.env.insert("NO_PROXY".into(), ".amazonaws.com".into());
    let Decision::Restart { plan } = expect(&seen, 10, &[]) else { panic!() };
    assert!(plan.why[0].contains("10.99.0.9:3128 (proxy"), "{plan:?}");
}

#[test]
fn it_judges_by_what_the_agent_will_dial() {
    // A host of its own that was not looked up is not taken for granted.
    expect(&config("ECS_BACKEND_HOST", "https://vpce-1.ecs.test"), 1, &["name-unknown"]);
    let mut seen = config("ECS_BACKEND_HOST", "https://vpce-1.ecs.test");
    let own = NameFact { host: "vpce-1.ecs.test".into(), ..seen.names[0].clone() };
    seen.names.push(own);
    seen.reach = reach(&seen.names);
    expect(&seen, 10, &[]);
    let handed = with(|seen| {
        seen.discovery = Some(Fact::Known(Discovery {
            agent_host: "ecs-a-3.eu-west-1.amazonaws.com".into(),
            telemetry_host: "ecs-t.eu-west-1.amazonaws.com".into(),
        }));
    });
    expect(&handed, 11, &["public-hosts-handed-out"]);
}

#[test]
fn missing_credential_rules_are_broken_whatever_else_is_waited_for() {
    let gone = CredentialRules { prerouting: 0, output: 1 };
    let without = |mut seen: Observation| {
        let Fact::Known(c) = &mut seen.credentials else { unreachable!() };
        c.rules = Fact::Known(gone);
        seen
    };
    expect(&without(moved(&movable(Kind::EcsInit), Kind::EcsInit, t0())), 13, &["credential-rules-absent"]);
    let waiting = without(named(&[Service::Ecs], &["198.51.100.10"]));
    expect(&waiting, 13, &["credential-rules-absent", "name-not-endpoint"]);
    // A restart that is due puts them back.
    expect(&without(movable(Kind::EcsInit)), 10, &[]);
    expect(&without(moved(&movable(Kind::Bare), Kind::Bare, t0())), 0, &[]);
}

#[test]
fn what_could_not_be_seen_is_named() {
    let missing = [Blank::Presence, Blank::Systemd, Blank::Instance, Blank::Introspection, Blank::Sockets];
    for blank in missing {
        let (decision, code, _) = judge(&with(|seen| blank.apply(seen)));
        assert_eq!(code, 1, "{blank:?}: {decision:?}");
        assert!(decision.reasons().iter().any(|r| r.text.contains("not seen")), "{blank:?}: {decision:?}");
    }
}
