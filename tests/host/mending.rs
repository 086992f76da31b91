//! What a Docker restart breaks, and agents that do not come back.

use crate::scene::scene;
use hostagent::events;
use hostagent_lab::host::{CredentialRules, HostOptions};

#[test]
fn what_a_docker_restart_leaves_is_broken_and_is_mended_when_asked() {
    scene(HostOptions::default(), |s| {
        let arn = s.host.state().instances[0].arn.clone();
        s.host.exec(&["docker", "restart", "ecs-agent"]);
        s.until_inactive();
        assert_eq!(s.host.credential_rules(), CredentialRules::GONE);
        s.says(13, &["check"], &["ecs.service", "hostagent restart --repair"]);
        let dead = s.agent();
        s.expect(13, &["restart"]);
        assert_eq!(s.agent(), dead, "not without being asked");
        s.says(0, &["restart", "--repair"], &["REPAIRED"]);
        s.is_whole();
        assert_eq!(s.host.state().instances[0].arn, arn);
        assert_eq!((s.records(&events::REPAIRED).len(), s.records(&events::RESTART_VERIFIED).len()), (1, 0));
    });
}

#[test]
fn an_agent_that_runs_unsupervised_is_broken_though_it_looks_well() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        s.host.exec(&["docker", "restart", "ecs-agent"]);
        s.until_inactive();
        let mark = s.host.mark();
        s.host.exec(&["docker", "restart", "ecs-agent"]).ok();
        s.host.await_agent(mark);
        assert!(s.agent().running);
        s.says(13, &["check"], &["169.254.170.2"]);
        s.says(0, &["restart", "--repair"], &["REPAIRED"]);
        s.is_whole();
        s.is_private();
    });
}

#[test]
fn an_agent_that_does_not_come_back_is_started_again_and_alarmed() {
    let options = HostOptions { hostagent: "[restart]\ndeadline_s = 4\n".into(), ..HostOptions::default() };
    scene(options, |s| {
        s.endpoints_appear();
        s.host.write("/var/lib/ecs/data/faults", "never-return");
        let text = s.says(13, &["restart"], &["NOT VERIFIED", "THE AGENT IS DOWN", "systemctl start ecs.service"]);
        assert!(text.contains("journalctl -u ecs.service"), "{text}");
        assert!(!text.contains("org.freedesktop"), "the starts were made: {text}");
        assert_eq!(s.records(&events::AGENT_DOWN).len(), 1);
        // Once the cause is gone, the supervisor that was left running brings it back by itself.
        let mark = s.host.mark();
        s.host.sh("rm /var/lib/ecs/data/faults").ok();
        s.host.await_agent(mark);
        s.is_whole();
    });
}

#[test]
fn an_agent_that_never_registers_is_not_verified() {
    let options = HostOptions { hostagent: "[restart]\ndeadline_s = 4\n".into(), ..HostOptions::default() };
    scene(options, |s| {
        s.endpoints_appear();
        s.host.write("/var/lib/ecs/data/faults", "never-register");
        s.says(13, &["restart"], &["NOT VERIFIED"]);
        let [record] = &s.records(&events::RESTART_NOT_VERIFIED)[..] else { panic!("one record") };
        let failed = record["HOSTAGENT_FAILED"].as_str().unwrap_or_default();
        assert!(failed.contains("same-container-instance"), "{record}");
        // One restart for one set of endpoints: the next run does not try its luck.
        let before = s.agent();
        s.host.hostagent(&["restart"]);
        assert_eq!(s.agent(), before);
    });
}
