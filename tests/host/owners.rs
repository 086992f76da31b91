//! Who owns the agent decides how it is restarted, and whether.

use crate::scene::scene;
use hostagent_lab::{
    host::{FOREIGN_UNIT, HostOptions, Supervisor},
    region::switch::Path,
};

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

/// Once for a set of endpoints is once for an agent: what somebody else has started since is another one.
#[test]
fn an_agent_that_somebody_else_restarted_is_moved_once_more() {
    let hot = "[restart]\nbudget_per_day = 2\ncool_down_s = 0\n";
    scene(HostOptions { hostagent: hot.into(), ..HostOptions::default() }, |s| {
        for _ in 0..2 {
            s.endpoints_appear();
            s.says(0, &["restart"], &["MOVED"]);
            s.is_private();
            s.is_whole();
            s.path(&[], Path::Public);
            let mark = s.host.mark();
            s.host.exec(&["systemctl", "restart", "ecs"]).ok();
            s.host.await_agent(mark);
        }
        // And no more than the budget allows.
        s.endpoints_appear();
        s.holds_still(75, &["2 restarts in 24 hours"]);
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
