//! Who is still public?

use super::support::{Fleet, id};
use hostagent_lab::cloud::{Fault, HostState, Online};

#[test]
fn every_host_is_in_the_table_with_where_it_stands() {
    let fleet = Fleet::of(12);
    fleet.ok(&["install"]);
    for (number, state) in
        [(1, HostState::Settled), (2, HostState::Waiting), (3, HostState::Refused), (4, HostState::Broken)]
    {
        fleet.cloud.change(&id(number), |host| host.state = state);
    }
    fleet.cloud.change(&id(5), |host| host.hostagent = None);
    fleet.cloud.change(&id(6), |host| host.online = Online::ConnectionLost);
    fleet.cloud.change(&id(7), |host| host.online = Online::NotRegistered);
    fleet.cloud.change(&id(8), |host| host.agent_connected = false);
    fleet.cloud.change(&id(9), |host| host.hostagent = Some("0.3.0".into()));
    let words = [
        "BROKEN: 12 hosts of cluster prod: 1 broken, 5 public, 1 refused, 1 waiting, 1 not installed, 2 no answer, 1 settled",
        "HostAgent-Install",
        "agent not connected",
        "0.3.0",
        "SSM does not manage this instance",
    ];
    fleet.says(13, &["check", "--cluster", "prod"], &words);

    let answer = fleet.json(&["check", "--cluster", "prod"]);
    assert_eq!(answer["schema"], "hostagent/fleet-check/1");
    assert_eq!(answer["hosts"].as_array().map(Vec::len), Some(12), "{answer:#}");
    let host =
        |number: usize| answer["hosts"].as_array().unwrap().iter().find(|h| h["instance"] == id(number)).unwrap();
    assert_eq!(host(4)["standing"], "broken");
    assert_eq!(host(6)["standing"], "no_answer");
    assert_eq!(host(7)["rule"], "not-managed");
    assert_eq!(host(8)["agent_connected"], false);
    assert_eq!(host(9)["hostagent_version"], "0.3.0");
}

#[test]
fn a_tag_and_instances_find_the_same_hosts() {
    let fleet = Fleet::of(6);
    fleet.ok(&["install"]);
    fleet.says(10, &["check", "--tag", "Cluster=prod"], &["6 hosts of tag Cluster=prod: 6 public", "eu-west-1b"]);
    let two = format!("{},{}", id(1), id(2));
    fleet.says(10, &["check", "--instance", &two], &["2 hosts of 2 instances: 2 public"]);
    fleet.says(1, &["check", "--tag", "Cluster=none"], &["no host of tag Cluster=none was found"]);
    let unknown = "i-0123456789abcdef0";
    fleet.says(1, &["check", "--instance", unknown], &["1 no answer", "SSM does not manage this instance"]);
}

#[test]
fn a_settled_fleet_is_settled() {
    let fleet = Fleet::of(3);
    fleet.ok(&["install"]);
    (1..=3).for_each(|number| fleet.cloud.change(&id(number), |host| host.state = HostState::Settled));
    let out = fleet.says(0, &["check", "--cluster", "prod"], &["SETTLED: 3 hosts of cluster prod: 3 settled"]);
    assert!(!out.contains("Next"), "{out}");
}

#[test]
fn empty_and_large_clusters_are_asked_whole() {
    let fleet = Fleet::of(0);
    fleet.ok(&["install"]);
    fleet.says(1, &["check", "--cluster", "prod"], &["no host of cluster prod was found"]);
    fleet.says(1, &["check", "--cluster", "nope"], &["ClusterNotFoundException"]);
    for hosts in [51, 1_001] {
        let fleet = Fleet::of(hosts);
        fleet.ok(&["install"]);
        let (sent, read) = (fleet.cloud.calls("SendCommand"), fleet.cloud.calls("ListCommandInvocations"));
        fleet.says(10, &["check", "--cluster", "prod"], &[&format!("{hosts} hosts of cluster prod: {hosts} public")]);
        let batches = hosts.div_ceil(50);
        assert_eq!(fleet.cloud.calls("SendCommand") - sent, batches);
        assert_eq!(fleet.cloud.calls("ListCommandInvocations") - read, batches);
    }
}

#[test]
fn throttled_calls_are_made_again_and_expired_credentials_are_named() {
    let fleet = Fleet::of(60);
    fleet.says(1, &["check", "--cluster", "prod"], &["InvalidDocument", "hostagent fleet install"]);
    fleet.ok(&["install"]);
    for action in ["SendCommand", "ListCommandInvocations", "DescribeContainerInstances"] {
        fleet.cloud.fault(Fault::Throttle { action: action.into(), times: 3 });
    }
    fleet.says(10, &["check", "--cluster", "prod"], &["60 hosts of cluster prod: 60 public"]);
    fleet.cloud.fault(Fault::ExpiredCredentials);
    fleet.says(1, &["check", "--cluster", "prod"], &["ExpiredToken", "log in again"]);
}

#[test]
fn what_status_may_not_see_hides_no_halt() {
    let fleet = Fleet::of(2);
    let denied = |action: &str| Fault::Error {
        action: action.into(),
        kind: "AccessDeniedException".into(),
        message: "no".into(),
        times: 1,
    };
    let seen = ["not halted", "ssm:DescribeAutomationExecutions", "there may be one under way"];
    fleet.cloud.fault(denied("DescribeAutomationExecutions"));
    fleet.says(1, &["status", "--cluster", "prod"], &seen);
    fleet.ok(&["stop", "--cluster", "prod", "--why", "INC-7"]);
    fleet.cloud.fault(denied("DescribeAutomationExecutions"));
    fleet.cloud.fault(denied("GetCalendarState"));
    let seen = ["INC-7", "ssm:DescribeAutomationExecutions", "ssm:GetCalendarState", "it may be closed"];
    fleet.says(12, &["status", "--cluster", "prod", "--calendar", "freeze"], &seen);
}

#[test]
fn an_answer_that_was_cut_is_read_by_its_first_line() {
    let fleet = Fleet::of(2);
    fleet.ok(&["install"]);
    // A login profile that writes before everything else.
    fleet.cloud.change(&id(1), |host| host.noise = 2_600);
    let words = ["2 hosts of cluster prod: 1 public, 1 could not tell", "it printed something else than a verdict"];
    fleet.says(10, &["check", "--cluster", "prod"], &words);
}
