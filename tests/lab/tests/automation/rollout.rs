//! HostAgent-Rollout, run by the interpreter over simulated hosts.

use crate::fleet::*;
use crate::support::{cloud, create, document, ended, once, ssm, steps};
use hostagent_lab::cloud::{Fault, HostState, Online, RestartBehaviour};
use serde_json::{Value, json};

#[test]
fn all_hosts_are_moved_a_canary_first() {
    let cloud = fleet(51);
    let end = roll(&cloud, json!({"ZoneShare": ["20"]}));
    assert_eq!(end.status, "Success", "{:#}", end.execution);
    assert_eq!(end.figures["counts"], json!({"moved": 51}), "{}", end.text);
    keeps_to_the_rules(&cloud, 51, 20);
    assert_eq!(restarted(&cloud).len(), 51);
    let order: Vec<_> = restarted(&cloud).iter().map(|instance| cloud.host(instance).unwrap().zone).collect();
    assert!(order.is_sorted(), "zones are not one after the other: {order:?}");
    assert_eq!(cloud.parameter(HALT), None);
    let messages: Vec<Value> =
        steps(&end.execution, "Advance").iter().map(|step| step["Outputs"]["Message"][0].clone()).collect();
    assert!(messages.contains(&json!("wave 1 of eu-west-1a done, 1 moved so far")), "{messages:?}");

    let again = roll(&cloud, json!({}));
    assert_eq!((again.status.as_str(), &again.figures["counts"]), ("Success", &json!({"settled_before": 51})));
    assert_eq!(restarted(&cloud).len(), 51, "somebody was restarted twice");
}

#[test]
fn those_behind_a_restart_that_hangs_are_cancelled_and_listed() {
    let cloud = cloud(40.0);
    cloud.cluster("prod");
    cloud.fleet("prod", &ZONES[..1], 12);
    for (name, kind) in
        [("HostAgent-Check", "Command"), ("HostAgent-Restart", "Command"), ("HostAgent-Rollout", "Automation")]
    {
        create(&cloud, name, kind, &document(name)).unwrap();
    }
    // The canary is the first host; the second wave is sent to the second first.
    cloud.change(&host(2), |host| host.restart = RestartBehaviour::Hangs);
    let end = roll(&cloud, json!({"ZoneShare": ["100"], "Growth": ["10"], "Wait": ["0s"]}));
    // The restart itself came to its end; only its command did not, and the proof is the host's own check.
    assert_eq!(end.figures["counts"], json!({"moved": 3, "not_sent": 9}), "{}", end.text);
    assert!(cloud.calls("CancelCommand") >= 1);
    let left: Vec<String> = (3..=11).map(host).collect();
    assert_eq!(end.figures["samples"]["not_sent"], json!(left), "{}", end.text);
    assert!(
        restarted(&cloud).iter().all(|instance| !left.contains(instance)),
        "begun after all: {:?}",
        restarted(&cloud)
    );
}

#[test]
fn a_thousand_and_one() {
    let cloud = fleet(1_001);
    let end = roll(&cloud, json!({"Growth": ["10"]}));
    assert_eq!(end.figures["counts"], json!({"moved": 1001}), "{}\n{:#}", end.text, end.execution);
    keeps_to_the_rules(&cloud, 1_001, 50);
    let state = steps(&end.execution, "Advance").last().unwrap()["Outputs"]["State"].clone();
    let pieces = state.as_array().unwrap();
    assert!(pieces.len() <= 3, "a state of {} pieces", pieces.len());
    assert!(pieces.iter().all(|piece| piece.as_str().unwrap().len() <= 500), "{pieces:?}");
}

#[test]
fn a_canary_that_fails_is_the_only_host_touched() {
    for behaviour in
        [RestartBehaviour::DoesNotComeBack, RestartBehaviour::BreaksLater, RestartBehaviour::StaysDisconnected]
    {
        let cloud = fleet(30);
        cloud.change(&host(1), |host| host.restart = behaviour);
        let end = roll(&cloud, json!({}));
        assert_eq!(end.status, "Failed", "{behaviour:?}");
        assert_eq!(restarted(&cloud), [host(1)], "{behaviour:?}");
        assert_eq!(end.figures["instance"], host(1), "{behaviour:?}");
        assert_eq!(end.figures["not_looked_at"], 29);
        assert!(end.execution["FailureMessage"].as_str().unwrap().contains(&host(1)), "{:#}", end.execution);
        let halt: Value = serde_json::from_str(&cloud.parameter(HALT).unwrap()).unwrap();
        assert_eq!((&halt["schema"], &halt["instance"]), (&json!("hostagent/halt/1"), &json!(host(1))));
        assert!(halt["by"].as_str().unwrap().starts_with("rollout "), "{halt}");
    }
}

#[test]
fn a_failure_in_wave_three_halts_and_leaves_the_others() {
    let cloud = fleet(150);
    // Of the zone's first hosts: one, then four, then sixteen.
    let (bad, after) = (host(1 + 3 * 6), host(1 + 3 * 25));
    for zone_a in [&bad, &after] {
        assert_eq!(cloud.host(zone_a).unwrap().zone, ZONES[0]);
    }
    cloud.change(&bad, |host| {
        host.restart = RestartBehaviour::DoesNotComeBack;
        host.writes_halt = true;
    });
    let end = roll(&cloud, json!({}));
    assert_eq!((end.status.as_str(), &end.figures["ended"]), ("Failed", &json!("halted")));
    assert_eq!((&end.figures["instance"], &end.figures["waves"]), (&json!(bad), &json!(3)), "{}", end.text);
    // Of its own wave those behind it were not sent to any more.
    let count = |word: &str| end.figures["counts"][word].as_u64().unwrap_or_default() as usize;
    let (moved, kept) = (count("moved"), count("not_sent"));
    assert_eq!((count("failed"), moved + kept), (1, 20), "{}", end.text);
    assert!(kept > 0, "{}", end.text);
    assert_eq!(restarted(&cloud).len(), moved + 1);
    assert!(!restarted(&cloud).contains(&after));
    // The host was first to say why.
    assert!(cloud.parameter(HALT).unwrap().contains(&format!("host {bad}")), "{:?}", cloud.parameter(HALT));

    let refused = roll(&cloud, json!({}));
    assert_eq!((refused.status.as_str(), restarted(&cloud).len()), ("Failed", moved + 1));
    assert!(refused.text.contains("/hostagent/prod/halt is set"), "{}", refused.text);

    cloud.change(&bad, |host| host.state = HostState::Settled);
    ssm(&cloud, "DeleteParameter", json!({"Name": HALT})).unwrap();
    let taken_up = roll(&cloud, json!({}));
    assert_eq!(
        taken_up.figures["counts"],
        json!({"moved": 149 - moved, "settled_before": moved + 1}),
        "{}",
        taken_up.text
    );
}

#[test]
fn hosts_of_every_kind_are_counted_and_those_not_reached_are_named() {
    let cloud = fleet(30);
    let online = [Online::ConnectionLost, Online::Undeliverable, Online::NotRegistered];
    for (n, online) in (1..=3).zip(online) {
        cloud.change(&host(n), |host| host.online = online);
    }
    cloud.change(&host(4), |host| host.hostagent = None);
    cloud.change(&host(5), |host| host.state = HostState::Waiting);
    cloud.change(&host(6), |host| host.state = HostState::Refused);
    cloud.change(&host(7), |host| host.state = HostState::Broken);
    cloud.change(&host(8), |host| host.state = HostState::Unknown);
    cloud.change(&host(9), |host| host.state = HostState::Settled);
    cloud.change(&host(10), |host| host.restart = RestartBehaviour::Busy);
    cloud.change(&host(11), |host| host.restart = RestartBehaviour::Refused);
    let end = roll(&cloud, json!({}));
    assert_eq!(end.status, "Success", "{}", end.text);
    let wanted = json!({
        "unreachable": 3, "not_installed": 1, "waiting": 1, "refused": 2, "broken": 1, "unknown": 1, "settled_before": 1, "busy": 1,
        "moved": 19,
    });
    assert_eq!(end.figures["counts"], wanted, "{}", end.text);
    // Zone by zone, in order.
    assert_eq!(end.figures["samples"]["unreachable"], json!([host(1), host(2), host(3)]));
    assert!(end.text.contains(&format!("not reached: {}, {}, {}", host(1), host(2), host(3))), "{}", end.text);
}

#[test]
fn a_host_whose_ssm_agent_dies_in_the_restart_halts() {
    let cloud = fleet(12);
    cloud.change(&host(4), |host| host.restart = RestartBehaviour::LosesSsmAgent);
    let end = roll(&cloud, json!({"ZoneShare": ["100"]}));
    assert_eq!((end.status.as_str(), &end.figures["instance"]), ("Failed", &json!(host(4))), "{}", end.text);
    assert!(cloud.parameter(HALT).is_some());
}

#[test]
fn output_cut_short_is_no_verdict() {
    let cloud = fleet(6);
    cloud.change(&host(2), |host| host.noise = 3_000);
    let end = roll(&cloud, json!({}));
    assert_eq!(end.figures["counts"], json!({"moved": 5, "unknown": 1}), "{}", end.text);
}

#[test]
fn an_empty_cluster_is_done_and_one_that_is_not_there_fails() {
    let cloud = fleet(0);
    let end = roll(&cloud, json!({}));
    assert_eq!((end.status.as_str(), &end.figures["hosts"]), ("Success", &json!(0)), "{}", end.text);
    let end = roll(&cloud, json!({"Cluster": ["other"]}));
    assert_eq!(end.status, "Failed");
    assert!(
        end.execution["FailureMessage"].as_str().unwrap().contains("ClusterNotFoundException"),
        "{:#}",
        end.execution
    );
}

#[test]
fn tags_and_instances_are_targets_too_and_only_one_kind_at_once() {
    let cloud = fleet(9);
    let tags = json!({"Cluster": null, "TagKey": ["Name"], "TagValue": ["prod-2"]});
    assert_eq!(roll(&cloud, tags).figures["counts"], json!({"moved": 1}));
    let instances = json!({"Cluster": null, "InstanceIds": [host(2), host(3), host(5)]});
    assert_eq!(roll(&cloud, instances).figures["counts"], json!({"moved": 2, "settled_before": 1}));
    let both = roll(&cloud, json!({"InstanceIds": [host(1)]}));
    assert!(both.execution["FailureMessage"].as_str().unwrap().contains("exactly one of"), "{:#}", both.execution);
    assert_eq!(restarted(&cloud).len(), 3);
}

#[test]
fn alarms_halt_and_calendars_hold() {
    let cloud = fleet(6);
    cloud.alarm("errors", "ALARM");
    let end = roll(&cloud, json!({"Alarms": ["errors"]}));
    assert!(end.status == "Failed" && end.text.contains("the alarm errors is ALARM"), "{}", end.text);
    let end = roll(&cloud, json!({"Alarms": ["missing"]}));
    assert!(end.status == "Failed" && end.text.contains("the alarm missing is missing"), "{}", end.text);
    assert!(restarted(&cloud).is_empty());

    cloud.alarm("errors", "OK");
    cloud.calendar("change", false, None);
    let id = begin(&cloud, json!({"Alarms": ["errors"], "Calendars": ["change"]}));
    once(&cloud, &id, "held", |execution| {
        let held = |step: &Value| {
            step["Outputs"]["Message"][0].as_str().is_some_and(|text| text.starts_with("held before wave 1"))
        };
        steps(execution, "Advance").iter().any(held)
    });
    assert!(restarted(&cloud).is_empty());
    cloud.calendar("change", true, None);
    assert_eq!(self::end(&cloud, &id).figures["counts"], json!({"moved": 6}));
}

#[test]
fn nobody_is_touched_before_the_approval() {
    let cloud = fleet(3);
    let engineer = "arn:aws:iam::111122223333:user/engineer";
    for (signal, moved) in [("Reject", 0), ("Approve", 3)] {
        let id = begin(&cloud, json!({"Approvers": [engineer]}));
        let waiting = once(&cloud, &id, "waiting", |execution| execution["AutomationExecutionStatus"] == "Waiting");
        let asked = steps(&waiting, "Approve")[0]["Inputs"]["Message"].as_str().unwrap().to_owned();
        assert!(asked.contains("cluster prod: 3 hosts, 1 in eu-west-1a"), "{asked}");
        assert_eq!(cloud.calls("SendCommand"), 0);
        ssm(&cloud, "SendAutomationSignal", json!({"AutomationExecutionId": id, "SignalType": signal})).unwrap();
        ended(&cloud, &id);
        assert_eq!(restarted(&cloud).len(), moved, "{signal}");
    }
}

#[test]
fn expired_credentials_end_it_and_say_so() {
    let cloud = fleet(9);
    let id = begin(&cloud, json!({}));
    once(&cloud, &id, "in its second turn", |execution| steps(execution, "Advance").len() >= 2);
    for action in [
        "GetParameter",
        "PutParameter",
        "SendCommand",
        "CancelCommand",
        "ListCommands",
        "ListCommandInvocations",
        "ListContainerInstances",
        "DescribeContainerInstances",
        "DescribeInstanceInformation",
    ] {
        cloud.fault(Fault::Error {
            action: action.into(),
            kind: "ExpiredTokenException".into(),
            message: "The security token included in the request is expired".into(),
            times: usize::MAX,
        });
    }
    let end = end(&cloud, &id);
    assert_eq!(end.status, "Failed");
    assert!(end.execution["FailureMessage"].as_str().unwrap().contains("ExpiredToken"), "{:#}", end.execution);
}
