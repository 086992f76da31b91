//! Who is still public?

use super::support::{Fleet, id, said};
use hostagent_lab::cloud::{Event, Fault, HostState, Online, SimulatedHost};
use std::time::Duration;

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
fn hosts_of_large_auto_scaling_groups_are_sent_to_by_their_tag() {
    let hosts = 1_001;
    let fleet = Fleet::of(hosts);
    fleet.ok(&["install"]);
    let grouped = |number: usize| {
        let zone = fleet.cloud.host(&id(number)).expect("a host").zone;
        fleet.cloud.change(&id(number), |host| host.group = Some(format!("asg-{zone}")));
    };
    (1..=hosts).for_each(grouped);
    // One that is of the group and not of the cluster, and one that SSM does not know.
    let stranger = SimulatedHost {
        instance: id(5_000),
        cluster: "other".into(),
        group: Some("asg-eu-west-1a".into()),
        ..SimulatedHost::default()
    };
    fleet.cloud.add(vec![stranger]);
    fleet.cloud.change(&id(7), |host| host.online = Online::NotRegistered);
    let before = |action: &str| (action.to_owned(), fleet.cloud.calls(action));
    let actions = ["ListContainerInstances", "DescribeContainerInstances", "DescribeCapacityProviders", "SendCommand"];
    let calls: Vec<_> = actions.into_iter().chain(["ListCommandInvocations"]).map(before).collect();
    let all = fleet.cloud.all_calls();
    let words = ["1001 hosts of cluster prod: 1000 public, 1 no answer", "SSM does not manage this instance"];
    fleet.says(10, &["check", "--cluster", "prod"], &words);
    let made: Vec<usize> = calls.iter().map(|(action, before)| fleet.cloud.calls(action) - before).collect();
    // A hundred in a call to list and to describe; a group in one to send, and fifty in one to read; one more each for
    // the host that did not answer to the tag.
    assert_eq!(made, [11, 11, 1, 3 + 1, 7 + 7 + 7 + 1], "{calls:?}");
    let looks = fleet.cloud.all_calls() - all - made.iter().sum::<usize>();
    assert!(looks <= 40, "{looks} looks");

    // Whoever may not ask for the groups sends by ID.
    let denied = Fault::Error {
        action: "DescribeCapacityProviders".into(),
        kind: "AccessDeniedException".into(),
        message: "no".into(),
        times: 1,
    };
    fleet.cloud.fault(denied);
    let sent = fleet.cloud.calls("SendCommand");
    fleet.says(10, &["check", "--cluster", "prod"], &words);
    assert_eq!(fleet.cloud.calls("SendCommand") - sent, hosts.div_ceil(50));
}

#[test]
fn hosts_that_go_away_meanwhile_cost_the_others_nothing() {
    let fleet = Fleet::of(6);
    fleet.ok(&["install"]);
    // Long enough to go away in the middle of it, and within what the document may take.
    fleet.cloud.change(&id(2), |host| host.check_s = 55.0);
    let checking = fleet.spawn(&["check", "--cluster", "prod"]);
    let reached = |event: &Event| matches!(event, Event::Delivered { instance, .. } if *instance == id(2));
    fleet.cloud.wait_for(Duration::from_secs(60), reached).expect("it is reached");
    fleet.cloud.remove(&id(2));
    let said = said(checking.wait_with_output().expect("its output"));
    let words = ["6 hosts of cluster prod: 5 public, 1 no answer", "it did not end in time", "the host has gone"];
    assert_eq!(said.code, 10, "{}{}", said.out, said.err);
    words.iter().for_each(|word| assert!(said.out.contains(word), "{word}: {}", said.out));
    // Of those that are gone from ECS, nothing is said.
    fleet.says(10, &["check", "--cluster", "prod"], &["5 hosts of cluster prod: 5 public"]);
}

#[test]
fn a_command_that_cannot_be_sent_costs_its_own_hosts_only() {
    let fleet = Fleet::of(100);
    fleet.ok(&["install"]);
    let refused = || Fault::Error {
        action: "SendCommand".into(),
        kind: "InvalidTarget".into(),
        message: "one of them is being terminated".into(),
        times: 1,
    };
    fleet.cloud.fault(refused());
    let words = ["100 hosts of cluster prod: 50 public, 50 no answer", "one of them is being terminated", "not-asked"];
    fleet.says(10, &["check", "--cluster", "prod"], &words);
    // All of them, or a reason that stands in the way of all, is an error.
    fleet.cloud.fault(refused());
    fleet.cloud.fault(refused());
    fleet.says(1, &["check", "--cluster", "prod"], &["ssm:SendCommand", "one of them is being terminated"]);
    let denied = Fault::Error {
        action: "SendCommand".into(),
        kind: "AccessDeniedException".into(),
        message: "no".into(),
        times: 1,
    };
    fleet.cloud.fault(denied);
    fleet.says(1, &["check", "--cluster", "prod"], &["allow ssm:SendCommand"]);
}

#[test]
fn patience_ends_and_says_so() {
    // SSM lists a command two seconds after it was sent: nothing is known of it yet.
    let fleet = Fleet::slow(3);
    fleet.ok(&["install"]);
    fleet.cloud.change(&id(1), |host| host.check_s = 3_600.0);
    let words = ["3 hosts of cluster prod: 3 no answer", "it has not answered yet", "--patience"];
    fleet.says(1, &["check", "--cluster", "prod", "--patience", "1s"], &words);
}

#[test]
fn a_check_that_hangs_is_killed_by_ssm_within_a_minute() {
    let fleet = Fleet::of(3);
    fleet.ok(&["install"]);
    fleet.cloud.change(&id(1), |host| host.check_s = 61.0);
    let words = ["3 hosts of cluster prod: 2 public, 1 no answer", "it did not end in time"];
    fleet.says(10, &["check", "--cluster", "prod"], &words);
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
