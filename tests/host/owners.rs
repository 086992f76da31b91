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

/// Without a unit it may be Docker's own, or what somebody left of ecs-init: then nobody is taken for its owner.
#[test]
fn a_container_without_a_unit_is_not_dockers_where_ecs_init_has_been() {
    scene(HostOptions { supervisor: Supervisor::BareDocker, ..HostOptions::default() }, |s| {
        s.endpoints_appear();
        s.host.exec(&["mkdir", "/var/cache/ecs"]).ok();
        s.holds_still(12, &["/var/cache/ecs"]);
        s.host.exec(&["rmdir", "/var/cache/ecs"]).ok();
        s.expect(10, &["check"]);
        s.host.exec(&["docker", "update", "--restart=no", "ecs-agent"]).ok();
        s.holds_still(12, &["restart policy is no"]);
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
