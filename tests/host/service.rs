//! The service on a whole host, as a unit of systemd: notices, waits, moves once, and tells.

use crate::{
    scene::{CONTROL_PLANE, commands},
    served::served,
};
use hostagent::events;
use hostagent_lab::region::{place::Service, switch::Path};

#[test]
fn endpoints_appear_and_the_agent_is_moved_once_and_all_is_told() {
    served("", |s| {
        s.until_said("waiting for endpoints");
        let shown = s.host.exec(&["systemctl", "status", "hostagent"]).stdout;
        assert!(shown.contains("Status: \"waiting for endpoints"), "{shown}");
        s.says(
            11,
            &["status"],
            &["WAITING FOR ENDPOINTS", "running", "observing", "2 of 2 restarts left", "Next look"],
        );
        let before = s.registrations();
        // One by one, as a stack makes them.
        for service in CONTROL_PLANE {
            s.path(&[service], Path::Endpoint);
            s.after_looks(1);
        }
        s.until_said("the agent was moved, and that is proved");
        s.is_private();
        s.is_whole();
        s.until_state("settled");
        let said = s.said();
        for words in ["all three endpoints are there: 10.50.", "ready: ", "restarting the agent for", "restart: "] {
            assert!(said.contains(words), "{words}: {said}");
        }
        s.says(0, &["status"], &["SETTLED", "1 of 2 restarts left", "moved"]);
        for event in [events::ENDPOINTS_READY, events::RESTART_BEGUN, events::RESTART_VERIFIED] {
            assert_eq!(s.records(&event).len(), 1, "{}", event.name);
        }
        s.after_looks(2);
        let metrics = s.metrics();
        for line in [
            r#"hostagent_state{state="settled"} 1"#,
            r#"hostagent_restarts{kind="restart",outcome="verified"} 1"#,
            r#"hostagent_agent_connections{path="public"} 0"#,
            "hostagent_restart_budget_left 1",
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
        }
        assert!(metrics.contains("hostagent_public_path_seconds_total "), "{metrics}");
        let inventory = s.inventory();
        for (attribute, value) in [
            ("State", "settled"),
            ("Verdict", "settled"),
            ("PublicConnections", "0"),
            ("LastRestartKind", "restart"),
            ("LastRestartOutcome", "verified"),
            ("RestartsLeft", "1"),
        ] {
            assert_eq!(inventory[attribute], value, "{attribute}: {inventory}");
        }
        let away: Option<f64> = inventory["LastRestartAwaySeconds"].as_str().and_then(|s| s.parse().ok());
        assert!(away.is_some_and(|s| s > 0.0), "{inventory}");
        assert_eq!(s.registrations(), before + 1, "moved once");
        for command in commands("Observe") {
            assert!(!s.host.sh(&command).ok().is_empty(), "{command}");
        }
        // Down, it still has its last words.
        s.host.exec(&["systemctl", "stop", "hostagent"]).ok();
        s.says(0, &["status"], &["SETTLED", "not running", "moved"]);
        s.says(0, &["--format", "ssm", "status"], &["SETTLED", "time_line"]);
        s.host.exec(&["systemctl", "start", "hostagent"]).ok();
        s.until_state("settled");
        assert_eq!(s.registrations(), before + 1);
    });
}

#[test]
fn it_waits_for_its_splay_and_says_until_when() {
    served("", |s| {
        let agent = s.agent();
        s.host.configure("50-splay", "[watch]\nsplay_max_s = 86400\n");
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.endpoints_appear();
        s.until_said("ready: the agent is restarted after a splay of");
        s.says(10, &["status"], &["waiting", "ready; restarts the agent at 20"]);
        s.after_looks(3);
        assert_eq!(s.agent(), agent, "it waits");
        // A shorter splay holds from the next "ready" on; the waiting itself is taken up again by a new service.
        s.host.exec(&["systemctl", "restart", "hostagent"]).ok();
        s.until_state("waiting");
        s.path(&[], Path::Public);
        s.until_said("the endpoints went away");
        assert_eq!(s.records(&events::ENDPOINTS_GONE).len(), 1);
        s.host.configure("50-splay", "[watch]\nsplay_max_s = 4\n");
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.endpoints_appear();
        s.until_said("the agent was moved, and that is proved");
    });
}

#[test]
fn with_report_nothing_is_touched_and_it_says_so() {
    served("on_ready = \"report\"\n", |s| {
        let agent = s.agent();
        s.endpoints_appear();
        s.until_said("on_ready = \"report\": nothing is touched");
        s.says(10, &["status"], &["RESTART NEEDED", "ready", "report"]);
        s.after_looks(2);
        assert_eq!(s.agent(), agent);
        let metrics = s.metrics();
        for line in [r#"hostagent_state{state="ready"} 1"#, r#"hostagent_decision{decision="restart"} 1"#] {
            assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
        }
        let inventory = s.inventory();
        for (attribute, value) in [
            ("State", "ready"),
            ("Verdict", "restart"),
            ("EcsPath", "endpoint"),
            ("EcsAgentPath", "endpoint"),
            ("EcsTelemetryPath", "endpoint"),
            ("Cluster", "prod"),
            ("AgentVersion", "1.105.1"),
            ("ContainerInstanceArn", &s.host.state().instances[0].arn),
            ("LastRestartAt", ""),
            ("RestartsLeft", "2"),
        ] {
            assert_eq!(inventory[attribute], value, "{attribute}: {inventory}");
        }
        assert_ne!(inventory["PublicConnections"], "0", "{inventory}");
        for (attribute, words) in [("Says", "nothing is touched"), ("EndpointAddresses", "ecs-agent 10.50.1.11")] {
            assert!(inventory[attribute].as_str().is_some_and(|text| text.contains(words)), "{attribute}: {inventory}");
        }
        // Told to act from now on, it does.
        s.host.configure("50-act", "[watch]\non_ready = \"restart\"\n");
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.until_said("the agent was moved, and that is proved");
        s.is_private();
    });
}

#[test]
fn flapping_and_vanishing_endpoints_move_nothing() {
    served("", |s| {
        let agent = s.agent();
        s.until_said("waiting for endpoints");
        s.path(&[Service::Ecs, Service::EcsTelemetry], Path::Endpoint);
        s.path(&[Service::EcsAgent], Path::Flapping);
        s.after_looks(8);
        assert_eq!(s.agent(), agent, "{}", s.said());
        assert_eq!(s.times_said("restarting the agent"), 0, "{}", s.said());
        s.path(&[], Path::Public);
        s.until_state("observing");
        s.host.write("/run/hostagent/pause", "");
        s.endpoints_appear();
        s.until_said("paused by the pause file");
        s.path(&[Service::EcsAgent], Path::Public);
        s.until_said("the endpoints went away");
        s.host.exec(&["rm", "/run/hostagent/pause"]).ok();
        s.after_looks(3);
        assert_eq!(s.agent(), agent, "said, and not touched");
    });
}

#[test]
fn paused_and_vetoed_it_waits_and_says_why() {
    served("", |s| {
        let agent = s.agent();
        let hook = "#!/bin/sh\ntest -e /run/deploying || exit 0\necho a deployment is under way\nexit 1\n";
        s.host.write("/etc/hostagent/hooks.d/10-deploy", hook);
        s.host.exec(&["chmod", "+x", "/etc/hostagent/hooks.d/10-deploy"]).ok();
        s.host.write("/run/deploying", "");
        s.host.write("/run/hostagent/pause", "");
        s.endpoints_appear();
        s.until_said("paused by the pause file");
        s.says(10, &["status"], &["the pause file is there"]);
        s.host.exec(&["rm", "/run/hostagent/pause"]).ok();
        s.until_said("vetoed by 10-deploy: a deployment is under way");
        assert!(s.said().contains("hook 10-deploy: a deployment is under way"), "its output is in the journal");
        s.says(10, &["status"], &["vetoed by 10-deploy"]);
        assert_eq!(s.agent(), agent);
        s.host.exec(&["rm", "/run/deploying"]).ok();
        // Asked again within a minute by itself; a reload asks at once.
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.until_said("the agent was moved, and that is proved");
        s.is_private();
        assert_ne!(s.agent(), agent);
    });
}

#[test]
fn killed_it_comes_back_and_restarts_nothing_twice() {
    served("", |s| {
        let before = s.registrations();
        s.endpoints_appear();
        for step in ["started", "confirming", "acting", "holding"] {
            s.until_told(step);
            let pid = s.host.unit("hostagent.service").main_pid;
            s.host.kill("KILL", pid);
            s.host.until("it is started again", |host| {
                let unit = host.unit("hostagent.service");
                (unit.active == "active" && unit.main_pid != pid).then_some(())
            });
        }
        s.until_state("settled");
        s.after_looks(3);
        s.is_private();
        s.is_whole();
        assert_eq!(s.registrations(), before + 1, "{}", s.said());
    });
}

#[test]
fn stopped_in_the_middle_of_a_restart_the_restart_goes_on() {
    served("", |s| {
        let before = s.registrations();
        s.endpoints_appear();
        s.until_told("confirming");
        s.host.exec(&["systemctl", "stop", "hostagent"]).ok();
        assert_eq!(s.host.unit("hostagent.service").result, "success");
        assert!(s.said().contains("stopped; the restart under way goes on"), "{}", s.said());
        s.host.until("the run has its result", |host| {
            host.sh("ls /run/hostagent/runs/*/result.json").success().then_some(())
        });
        s.is_private();
        s.is_whole();
        s.host.exec(&["systemctl", "start", "hostagent"]).ok();
        s.until_said("the agent was moved, and that is proved");
        s.until_state("settled");
        assert_eq!(s.registrations(), before + 1);
    });
}

#[test]
fn a_bad_configuration_is_refused_and_the_old_one_kept() {
    served("on_ready = \"report\"\n", |s| {
        s.host.configure("60-bad", "[watch]\nwindow = [\"Mon-Fry 22:00-04:00 UTC\"]\n");
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.until_said("the new configuration is refused");
        let [record] = &s.records(&events::CONFIGURATION_REFUSED)[..] else { panic!("one record") };
        assert!(record["HOSTAGENT_WHY"].as_str().is_some_and(|why| why.contains("60-bad.toml")), "{record}");
        let said = s.said();
        assert!(said.contains("60-bad.toml:2: watch.window") && said.contains("Fry"), "{said}");
        let shown = s.host.exec(&["systemctl", "status", "hostagent"]).stdout;
        assert!(shown.contains("configuration refused"), "{shown}");
        let agent = s.agent();
        s.endpoints_appear();
        s.until_said("on_ready = \"report\": nothing is touched");
        assert_eq!(s.agent(), agent, "the old configuration stands");
        s.host.exec(&["rm", "/etc/hostagent/config.d/60-bad.toml"]).ok();
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.until_said("the configuration was read again");
        let shown = s.host.exec(&["systemctl", "status", "hostagent"]).stdout;
        assert!(!shown.contains("configuration refused"), "{shown}");
    });
}

#[test]
fn what_others_do_to_the_agent_opens_the_question_again() {
    served("", |s| {
        s.endpoints_appear();
        s.until_state("settled");
        // Settled: looked at every few seconds here; an event is told at once.
        let mark = s.host.mark();
        s.host.exec(&["systemctl", "restart", "ecs"]).ok();
        s.until_said("the agent's container: start");
        s.host.await_agent(mark);
        s.until_state("settled");
        assert_eq!(s.times_said("restarting the agent for"), 1, "{}", s.said());
    });
}

#[test]
fn what_cannot_be_recorded_is_not_done_and_said_once() {
    served("", |s| {
        s.until_state("observing");
        let agent = s.agent();
        // For the run, which is in the host's namespace, and for the service, whose unit gives it one of its own.
        let read_only = || {
            let pid = s.host.unit("hostagent.service").main_pid.to_string();
            let mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/var/lib/hostagent"];
            s.host.exec(&mount).ok();
            s.host.exec(&[&["nsenter", "-t", &pid, "-m"], &mount[..]].concat()).ok();
        };
        read_only();
        s.endpoints_appear();
        let mut failed = 0;
        s.host.until("the run that cannot record itself", |host| {
            // Read once: what is said between two readings would be taken for another run.
            let said = s.said();
            if said.contains("nothing was touched: the agent cannot be moved safely: a restart must be recorded") {
                return Some(());
            }
            // A run that saw too little for once: a new service does not wait before the next.
            if said.matches("nothing was touched: ").count() > failed {
                failed += 1;
                host.exec(&["umount", "/var/lib/hostagent"]).ok();
                host.exec(&["systemctl", "restart", "hostagent"]).ok();
                read_only();
            }
            None
        });
        assert_eq!(s.times_said("what the service sees cannot be recorded"), 1 + failed, "{}", s.said());
        assert_eq!(s.agent(), agent);
        s.host.exec(&["umount", "/var/lib/hostagent"]).ok();
        // The service tries again in a minute; a person need not wait, and the service sees it done.
        s.says(0, &["restart"], &["MOVED"]);
        s.until_state("settled");
        s.is_private();
    });
}
