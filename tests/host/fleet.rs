//! A host as one of a fleet: the brakes, the runbook it starts, SSM Compliance.

use crate::{
    scene::{Scene, scene},
    served::served,
};
use hostagent::events;
use hostagent_lab::{
    host::HostOptions,
    region::switch::{ApiFault, Change, What},
};
use serde_json::Value;
use std::time::Duration;

/// The role that runbooks of the service are started with.
const ROLE: &str = "rollout_role = \"arn:aws:iam::111122223333:role/hostagent-rollout\"";

/// Refuses an action of Systems Manager as a role without the permission is refused, or allows it again.
fn deny(s: &Scene<'_>, action: &str, denied: bool) {
    let fault = ApiFault {
        status: 400,
        kind: "AccessDeniedException".into(),
        message: format!("not authorized to perform: ssm:{action}"),
    };
    s.host.set(&Change { api: [(action.to_owned(), denied.then_some(fault))].into(), ..Change::default() });
}

fn calls(s: &Scene<'_>, wanted: &str) -> usize {
    let events = s.host.events(0, Duration::ZERO).into_iter();
    events.filter(|event| matches!(&event.what, What::Api { action, .. } if action == wanted)).count()
}

#[test]
fn a_halted_cluster_holds_the_host_until_it_is_resumed() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        s.says(0, &["fleet", "stop", "--cluster", "prod", "--why", "INC-7"], &["HALTED: cluster prod is halted"]);
        let before = s.agent();
        s.says(12, &["restart", "--dry-run"], &["REFUSED", "INC-7"]);
        s.says(12, &["restart"], &["REFUSED", "this cluster is halted by", "INC-7", "hostagent fleet resume"]);
        assert_eq!(s.agent(), before, "the agent was touched");
        s.says(0, &["fleet", "resume", "--cluster", "prod"], &["may move again; it was halted by"]);
        s.says(0, &["restart"], &["MOVED"]);
        s.is_private();
        s.is_whole();
    });
}

#[test]
fn a_brake_that_cannot_be_read_holds_only_where_it_is_required() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        deny(s, "GetParameter", true);
        s.host.configure("50-brake", "[fleet]\nbrake = \"required\"\n");
        let before = s.agent();
        s.says(12, &["restart"], &["ssm:GetParameter", "AccessDeniedException", "fleet.brake"]);
        assert_eq!(s.agent(), before, "the agent was touched");
        s.host.configure("50-brake", "[fleet]\nbrake = \"off\"\n");
        let asked = calls(s, "GetParameter");
        s.expect(10, &["restart", "--dry-run"]);
        assert_eq!(calls(s, "GetParameter"), asked, "off is off");
        s.host.configure("50-brake", "");
        s.says(0, &["restart"], &["MOVED"]);
        s.is_whole();
    });
}

#[test]
fn a_host_that_cannot_be_verified_halts_its_cluster_once() {
    let options = HostOptions { hostagent: "[restart]\ndeadline_s = 3\n".into(), ..HostOptions::default() };
    scene(options, |s| {
        s.endpoints_appear();
        s.host.write("/var/lib/ecs/data/faults", "never-return");
        s.expect(13, &["restart"]);
        let halted = s.records(&events::CLUSTER_HALTED);
        assert_eq!(halted.len(), 1, "{halted:?}");
        let said = s.says(
            12,
            &["fleet", "status", "--cluster", "prod"],
            &["HALTED: cluster prod is halted by i-0f00dfacade00001"],
        );
        assert!(said.contains("not back after 3 s"), "{said}");
        assert_eq!(calls(s, "PutParameter"), 1);
    });
}

#[test]
fn the_service_starts_the_cluster_s_runbook_once_for_the_same_endpoints() {
    served(&format!("on_ready = \"rollout\"\n[fleet]\ncompliance = true\n{ROLE}"), |s| {
        s.until_said("waiting for endpoints");
        s.host.until("SSM Compliance is told", |_| (calls(s, "PutComplianceItems") == 1).then_some(()));
        s.expect(0, &["fleet", "install"]);
        let before = s.agent();
        s.endpoints_appear();
        s.until_said("the cluster's rollout moves this host: execution");
        assert_eq!(s.agent(), before, "the host does not move by itself");
        s.host.until("SSM Compliance is told of the verdict", |_| (calls(s, "PutComplianceItems") >= 2).then_some(()));
        // A service that is started again knows, and another host would join.
        s.host.exec(&["systemctl", "restart", "hostagent"]).ok();
        s.after_looks(3);
        assert_eq!(calls(s, "StartAutomationExecution"), 1);
        let shown = s.host.hostagent(&["--format", "json", "fleet", "status", "--cluster", "prod"]);
        let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
        assert_eq!(shown["rollouts"].as_array().map(Vec::len), Some(1), "{shown:#}");
    });
}

#[test]
fn a_runbook_that_may_not_be_started_is_said_and_tried_again() {
    served(&format!("on_ready = \"rollout\"\n[fleet]\n{ROLE}"), |s| {
        deny(s, "StartAutomationExecution", true);
        s.endpoints_appear();
        s.until_said("the cluster's rollout could not be started: ssm:StartAutomationExecution");
        assert_eq!(s.times_said("AccessDeniedException"), 1, "{}", s.said());
    });
}
