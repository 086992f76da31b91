//! The stand-in host behaves as real hosts do: these are the facts that everything run on it stands on.

use hostagent_lab::{
    host::{Container, CredentialRules, FOREIGN_UNIT, Host, HostOptions, Supervisor, on_host},
    region::{
        place::Service,
        switch::{Change, Path},
    },
};

#[track_caller]
fn agent(host: &Host) -> Container {
    host.agent().expect("a container named ecs-agent")
}

/// The host names of the agent's open websockets.
#[track_caller]
fn websockets(host: &Host) -> Vec<String> {
    let mut hosts: Vec<String> = host.state().websockets.into_iter().map(|websocket| websocket.host).collect();
    hosts.sort();
    hosts
}

#[track_caller]
fn instance_arn(host: &Host) -> String {
    let instances = host.state().instances;
    assert_eq!(instances.len(), 1, "one container instance: {instances:?}");
    instances[0].arn.clone()
}

#[track_caller]
fn until_inactive(host: &Host) {
    host.until("ecs.service inactive", |host| (host.unit("ecs.service").active == "inactive").then_some(()));
}

#[test]
fn a_host_is_what_it_says() {
    on_host(HostOptions::default(), |host| {
        assert_eq!(host.unit("ecs.service").sub, "running");
        assert_eq!(host.credential_rules(), CredentialRules::ONCE);
        assert_eq!(websockets(host), ["ecs-a-3.eu-west-1.amazonaws.com", "ecs-t-3.eu-west-1.amazonaws.com"]);
        let workloads = host.workloads();
        assert_eq!(
            workloads.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(),
            ["workload-1", "workload-2", "workload-3"]
        );
        assert_eq!(host.exec(&["readlink", "/var/cache/ecs/ecs-agent.tar"]).ok(), "ecs-agent-v1.105.1.tar");
        assert!(host.exec(&["docker", "exec", "ecs-agent", "/agent", "-version"]).ok().contains("1.105.1"));
        let metadata = host.exec(&["curl", "-sf", "http://127.0.0.1:51678/v1/metadata"]);
        assert!(metadata.ok().contains("Amazon ECS Agent - v1.105.1 (*"), "{metadata:?}");
        // Tasks reach the agent's credential endpoint by way of the rules.
        host.until("credentials for a task", |host| {
            host.exec(&["docker", "logs", "workload-1"]).stdout.contains("HTTP/1.0 200 OK").then_some(())
        });
        // The host trusts the region, by name and through its own resolver.
        host.set(&Change::path(&[Service::Ecs], Path::Endpoint));
        let answer = host.exec(&[
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{remote_ip}",
            "https://ecs.eu-west-1.amazonaws.com/",
        ]);
        assert!(["10.50.1.10", "10.50.2.10"].contains(&answer.ok()), "{answer:?}");
        host.filter_443("10.50.0.0/17", true);
        let answer = host.exec(&["curl", "-s", "-m", "1", "https://ecs.eu-west-1.amazonaws.com/"]);
        assert_eq!(answer.code, 28, "filtered, so it times out: {answer:?}");
    });
}

#[test]
fn restarting_the_unit_moves_the_agent_and_nothing_else() {
    on_host(HostOptions::default(), |host| {
        let (before, arn, workloads) = (agent(host), instance_arn(host), host.workloads());
        host.set(&Change::path(&Service::CONTROL_PLANE, Path::Endpoint));
        let mark = host.mark();
        host.exec(&["systemctl", "restart", "ecs"]).ok();
        host.await_agent(mark);
        let after = agent(host);
        assert_ne!(before.id, after.id, "a new container");
        assert_eq!(instance_arn(host), arn);
        assert_eq!(websockets(host), ["ecs-a.eu-west-1.amazonaws.com", "ecs-t.eu-west-1.amazonaws.com"]);
        assert_eq!(host.credential_rules(), CredentialRules::ONCE);
        assert_eq!(host.unit("ecs.service").sub, "running");
        assert_eq!(host.workloads(), workloads);

        // A kill is repaired by ecs-init itself, which leaves the rules alone.
        let mark = host.mark();
        host.exec(&["docker", "kill", "--signal=KILL", "ecs-agent"]).ok();
        host.until("a new agent", |host| host.agent().filter(|new| new.running && new.id != after.id));
        host.await_agent(mark);
        assert_eq!(host.credential_rules(), CredentialRules::ONCE);
        assert!(host.journal().contains("Agent exited with code 137"));
        assert_eq!(host.unit("ecs.service").restarts, 0);
    });
}

#[test]
fn restarting_through_docker_leaves_the_agent_dead() {
    on_host(HostOptions::default(), |host| {
        let workloads = host.workloads();
        for round in 1..=5 {
            host.exec(&["docker", "restart", "ecs-agent"]).ok();
            until_inactive(host);
            let dead = agent(host);
            assert!(!dead.running, "round {round}: {dead:?}");
            // By the SIGTERM of ecs-init, 143. It may come in the first instant of the new container, when Docker's init
            // has no handler yet: the kernel then drops it, as for any first process, and Docker kills, 137.
            assert!([143, 137].contains(&dead.exit_code), "round {round}: {dead:?}");
            assert_eq!(host.unit("ecs.service").result, "success", "round {round}");
            assert_eq!(host.credential_rules(), CredentialRules::GONE, "round {round}");

            // Once more, and it runs with nobody to look after it.
            let mark = host.mark();
            host.exec(&["docker", "restart", "ecs-agent"]).ok();
            host.await_agent(mark);
            assert_eq!(agent(host).id, dead.id, "round {round}");
            assert_eq!(host.unit("ecs.service").active, "inactive", "round {round}");
            assert_eq!(host.credential_rules(), CredentialRules::GONE, "round {round}");

            let mark = host.mark();
            // Often within seconds, which systemd's start limit is there to forbid.
            host.exec(&["systemctl", "reset-failed", "ecs"]).ok();
            host.exec(&["systemctl", "start", "ecs"]).ok();
            host.await_agent(mark);
            assert_eq!(host.credential_rules(), CredentialRules::ONCE, "round {round}");
        }
        // Stop and start: whether the start comes before or after the stop of ecs-init decides between an agent that is
        // dead and one that nobody looks after.
        for round in 1..=3 {
            host.sh("docker stop ecs-agent && docker start ecs-agent").ok();
            until_inactive(host);
            assert_eq!(host.credential_rules(), CredentialRules::GONE, "round {round}");

            // One that nobody looks after may still be connecting, and would be taken for the next one.
            host.exec(&["docker", "stop", "ecs-agent"]).ok();
            let mark = host.mark();
            // Often within seconds, which systemd's start limit is there to forbid.
            host.exec(&["systemctl", "reset-failed", "ecs"]).ok();
            host.exec(&["systemctl", "start", "ecs"]).ok();
            host.await_agent(mark);
        }
        assert_eq!(host.workloads(), workloads);
    });
}

#[test]
fn exit_codes_mean_what_they_mean_to_ecs_init() {
    let region = vec![Change::path(&Service::CONTROL_PLANE, Path::Endpoint)];
    let options = HostOptions { region, staged: vec!["1.106.0".into(), "1.107.0".into()], ..HostOptions::default() };
    on_host(options, |host| {
        // The switches were thrown before the first agent started.
        assert_eq!(websockets(host), ["ecs-a.eu-west-1.amazonaws.com", "ecs-t.eu-west-1.amazonaws.com"]);

        // 42: load what the updater left, and start again at once.
        host.write("/var/cache/ecs/desired-image", "ecs-agent-v1.106.0.tar\n");
        host.write("/var/lib/ecs/data/faults", "exit=42");
        let mark = host.mark();
        host.exec(&["systemctl", "restart", "ecs"]).ok();
        host.until("an upgrade", |host| host.journal().contains("Agent exited with code 42").then_some(()));
        host.exec(&["rm", "/var/lib/ecs/data/faults"]).ok();
        host.await_agent(mark);
        assert!(host.exec(&["docker", "exec", "ecs-agent", "/agent", "-version"]).ok().contains("1.106.0"));

        // A cache state of 2: the next start loads the archive, whatever is loaded.
        host.sh("cd /var/cache/ecs && ln -sf ecs-agent-v1.107.0.tar ecs-agent.tar && echo 2 >state").ok();
        let mark = host.mark();
        host.exec(&["systemctl", "restart", "ecs"]).ok();
        host.await_agent(mark);
        assert!(host.exec(&["docker", "exec", "ecs-agent", "/agent", "-version"]).ok().contains("1.107.0"));
        assert_eq!(host.exec(&["cat", "/var/cache/ecs/state"]).ok(), "1");

        // 5: the agent does not want to be started again, here because the cluster is another.
        host.write("/etc/ecs/ecs.config", "ECS_CLUSTER=other\n");
        host.exec(&["systemctl", "restart", "ecs"]).ok();
        host.until("a failed unit", |host| (host.unit("ecs.service").active == "failed").then_some(()));
        let unit = host.unit("ecs.service");
        assert_eq!((unit.result.as_str(), unit.exec_main_status, unit.restarts), ("exit-code", 5, 0));
        assert_eq!(host.credential_rules(), CredentialRules::GONE);
    });
}

#[test]
fn without_ecs_init_the_engine_restarts_the_agent() {
    on_host(HostOptions { supervisor: Supervisor::BareDocker, ..HostOptions::default() }, |host| {
        let (before, arn) = (agent(host), instance_arn(host));
        let mark = host.mark();
        host.exec(&["docker", "restart", "ecs-agent"]).ok();
        host.await_agent(mark);
        let after = agent(host);
        assert_eq!((before.id, true), (after.id, after.running));
        assert_ne!(before.started_at, after.started_at);
        assert_eq!(instance_arn(host), arn);
        assert_eq!(host.unit("ecs.service").active, "inactive");
    });
}

#[test]
fn a_foreign_unit_keeps_the_agent() {
    on_host(HostOptions { supervisor: Supervisor::Foreign, ..HostOptions::default() }, |host| {
        assert_eq!(host.unit(FOREIGN_UNIT).sub, "running");
        assert_eq!(host.unit("ecs.service").active, "inactive");
        let before = agent(host);
        let mark = host.mark();
        host.exec(&["systemctl", "restart", FOREIGN_UNIT]).ok();
        host.await_agent(mark);
        assert_ne!(agent(host).id, before.id);
    });
}

#[test]
fn the_link_delays_packets() {
    on_host(HostOptions { supervisor: Supervisor::None, workloads: false, ..HostOptions::default() }, |host| {
        host.delay(25);
        let connect = ["curl", "-s", "-o", "/dev/null", "-w", "%{time_connect}", "http://169.254.169.254/"];
        let seconds: f64 = host.exec(&connect).ok().parse().expect("a number of seconds");
        // A floor only: load can make it longer, never shorter.
        assert!(seconds >= 0.05, "one round trip took {seconds} s");
    });
}
