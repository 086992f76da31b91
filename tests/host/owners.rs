//! Who owns the agent decides how it is restarted, and whether.

use crate::scene::scene;
use hostagent_lab::host::{FOREIGN_UNIT, HostOptions, Supervisor};

#[test]
fn a_bare_container_is_restarted_by_docker_and_keeps_its_id() {
    scene(HostOptions { supervisor: Supervisor::BareDocker, ..HostOptions::default() }, |s| {
        s.endpoints_appear();
        let before = s.agent();
        s.says(0, &["restart"], &["MOVED"]);
        let after = s.agent();
        assert_eq!(after.id, before.id);
        assert_ne!(after.started_at, before.started_at);
        s.is_private();
        s.says(0, &["restart"], &["SETTLED"]);
        assert_eq!(s.agent(), after);
    });
}

#[test]
fn a_foreign_unit_is_left_to_its_owner() {
    scene(HostOptions { supervisor: Supervisor::Foreign, ..HostOptions::default() }, |s| {
        s.endpoints_appear();
        s.holds_still(12, &[FOREIGN_UNIT]);
    });
}

#[test]
fn an_agent_stopped_by_an_operator_is_left_alone() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        s.host.exec(&["systemctl", "stop", "ecs"]).ok();
        let before = s.agent();
        assert!(!before.running);
        for arguments in [&["check"][..], &["restart"], &["restart", "--repair"]] {
            s.says(12, arguments, &["stopped"]);
        }
        assert_eq!(s.agent(), before);
        assert_eq!(s.host.unit("ecs.service").active, "inactive");
    });
}
