//! HostAgent-Rollout stopped, cancelled, broken off, or in the way of another.

use crate::fleet::*;
use crate::support::{LONG, create, document, once, ssm, steps};
use hostagent_lab::cloud::{Cloud, Event, Fault, HostState, RestartBehaviour};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn a_halt_in_the_middle_lets_the_wave_be_verified_and_the_next_run_takes_up_what_is_left() {
    let cloud = fleet(60);
    let id = begin(&cloud, json!({}));
    once(&cloud, &id, "in its third turn", |execution| steps(execution, "Advance").len() >= 3);
    ssm(&cloud, "PutParameter", json!({"Name": HALT, "Value": "stop", "Type": "String"})).unwrap();
    let first = end(&cloud, &id);
    assert_eq!((first.status.as_str(), &first.figures["ended"]), ("Failed", &json!("halted")));
    let moved = restarted(&cloud).len();
    assert!((1..60).contains(&moved));
    assert_eq!(first.figures["counts"]["moved"], moved, "{}", first.text);
    assert_eq!(cloud.parameter(HALT).unwrap(), "stop");
    let left: Vec<String> = serde_json::from_value(first.figures["left"].clone()).unwrap();
    assert!(!left.is_empty() && left.iter().all(|host| !restarted(&cloud).contains(host)), "{left:?}");
    ssm(&cloud, "DeleteParameter", json!({"Name": HALT})).unwrap();
    let second = roll(&cloud, json!({}));
    assert_eq!(second.figures["counts"], json!({"moved": 60 - moved, "settled_before": moved}), "{}", second.text);
    assert_eq!(restarted(&cloud).len(), 60);
}

/// The restarts that were sent: command and hosts.
fn sent(cloud: &Cloud) -> Vec<(Value, Vec<String>)> {
    let filters = json!([{"key": "DocumentName", "value": "HostAgent-Restart"}]);
    let found = ssm(cloud, "ListCommands", json!({ "Filters": filters })).unwrap();
    let hosts = |command: &Value| serde_json::from_value(command["InstanceIds"].clone()).unwrap();
    found["Commands"].as_array().unwrap().iter().map(|command| (command.clone(), hosts(command))).collect()
}

/// The halt says which rollout left which hosts, and these are in the summary.
#[track_caller]
fn halted_in_a_wave(cloud: &Cloud, id: &str, end: &End) {
    let halt: Value = serde_json::from_str(&cloud.parameter(HALT).expect("the cluster is halted")).unwrap();
    assert_eq!((&halt["schema"], &halt["by"]), (&json!("hostagent/halt/1"), &json!(format!("rollout {id}"))));
    let unverified = end.figures["unverified"].as_array().unwrap();
    assert!(!unverified.is_empty(), "{}", end.text);
    assert_eq!(halt["instance"], unverified[0], "{halt}");
    for host in unverified {
        assert!(end.text.contains(host.as_str().unwrap()), "{}", end.text);
    }
}

#[test]
fn a_rollout_cancelled_in_a_wave_calls_it_back_and_halts_and_the_next_takes_up_what_is_left() {
    // The two minutes after a cancel are to be enough for two scripts on a busy machine.
    let cloud = fleet_at(8.0, 12);
    for n in 1..=12 {
        cloud.change(&host(n), |host| host.restart_s = 60.0);
    }
    let id = begin(&cloud, json!({"ZoneShare": ["100"]}));
    cloud
        .wait_for(LONG, |event| matches!(event, Event::RestartBegan { instance, .. } if *instance != host(1)))
        .expect("a second wave");
    ssm(&cloud, "StopAutomationExecution", json!({"AutomationExecutionId": id, "Type": "Cancel"})).unwrap();
    let first = end(&cloud, &id);
    assert_eq!(first.status, "Cancelled");
    halted_in_a_wave(&cloud, &id, &first);
    assert!(cloud.calls("CancelCommand") >= 1);
    let sent = cloud.calls("SendCommand");
    let refused = roll(&cloud, json!({}));
    assert!(refused.text.contains("the rollout was cancelled in the middle of a wave"), "{}", refused.text);
    assert_eq!(cloud.calls("SendCommand"), sent);

    ssm(&cloud, "DeleteParameter", json!({"Name": HALT})).unwrap();
    let second = roll(&cloud, json!({"ZoneShare": ["100"]}));
    assert_eq!((second.status.as_str(), &second.figures["not_looked_at"]), ("Success", &json!(0)), "{}", second.text);
    let all: BTreeSet<_> = restarted(&cloud).into_iter().collect();
    assert_eq!((all.len(), restarted(&cloud).len()), (12, 12), "somebody was restarted twice or never");
}

#[test]
fn a_rollout_cancelled_while_it_is_held_halts_nothing() {
    let cloud = fleet_at(8.0, 6);
    cloud.calendar("change", false, None);
    let id = begin(&cloud, json!({"Calendars": ["change"]}));
    once(&cloud, &id, "held", |execution| !steps(execution, "Remember").is_empty());
    ssm(&cloud, "StopAutomationExecution", json!({"AutomationExecutionId": id, "Type": "Cancel"})).unwrap();
    let end = end(&cloud, &id);
    assert_eq!((end.status.as_str(), cloud.parameter(HALT)), ("Cancelled", None));
    assert!(end.text.contains("between two waves"), "{}", end.text);
}

#[test]
fn a_turn_that_fails_or_runs_out_of_its_time_in_a_wave_is_called_back_and_halts() {
    let line = "              state.update(checks=checks, asked=";
    for problem in ["raise SystemExit(state['wave'])", "time.sleep(1e6 if state['wave'] == 2 else 1)"] {
        let cloud = fleet(60);
        let text = document("HostAgent-Rollout");
        assert_eq!(text.matches(line).count(), 1);
        let broken = text.replace(line, &format!("              {problem}\n{line}"));
        ssm(&cloud, "DeleteDocument", json!({"Name": "HostAgent-Rollout"})).unwrap();
        create(&cloud, "HostAgent-Rollout", "Automation", &broken).unwrap();
        let id = begin(&cloud, json!({"ZoneShare": ["100"]}));
        let end = end(&cloud, &id);
        assert_eq!(end.status, "Failed", "{:#}", end.execution);
        halted_in_a_wave(&cloud, &id, &end);
        assert!(end.text.contains("a step of the rollout failed or ran out of its time"), "{}", end.text);
        assert!(restarted(&cloud).len() <= 5, "{:?}", restarted(&cloud));
    }
}

#[test]
fn a_restart_left_over_from_before_is_waited_for_and_one_that_does_not_end_refuses() {
    let cloud = fleet(3);
    cloud.change(&host(2), |host| host.restart_s = 100.0);
    let by_hand = |n: usize| {
        let input = json!({"DocumentName": "HostAgent-Restart", "InstanceIds": [host(n)]});
        let sent = ssm(&cloud, "SendCommand", input).unwrap();
        cloud
            .wait_for(LONG, |event| matches!(event, Event::RestartBegan { instance, .. } if *instance == host(n)))
            .unwrap();
        sent["Command"]["CommandId"].as_str().unwrap().to_owned()
    };
    by_hand(2);
    let end = roll(&cloud, json!({"ZoneShare": ["100"]}));
    assert_eq!(end.figures["counts"], json!({"moved": 2, "settled_before": 1}), "{}\n{:#}", end.text, end.execution);

    cloud.change(&host(3), |host| (host.state, host.restart) = (HostState::NeedsRestart, RestartBehaviour::Hangs));
    let command = by_hand(3);
    let refused = roll(&cloud, json!({"Cluster": null, "InstanceIds": [host(3)]}));
    let why = refused.execution["FailureMessage"].as_str().unwrap();
    assert!(why.contains(&format!("still under way on {}: wait for the command {command}", host(3))), "{why}");
    assert_eq!(roll(&cloud, json!({"Cluster": null, "InstanceIds": [host(1)]})).status, "Success");
}

#[test]
fn the_same_hosts_by_another_name_are_a_rival() {
    let cloud = fleet(12);
    cloud.calendar("change", false, None);
    let first = begin(&cloud, json!({"Calendars": ["change"]}));
    let tag = json!({"Cluster": null, "TagKey": ["Name"], "TagValue": ["prod-2"]});
    for other in [json!({"Cluster": null, "InstanceIds": [host(5)]}), tag] {
        let refused = roll(&cloud, other);
        let why = refused.execution["FailureMessage"].as_str().unwrap();
        assert!(why.contains(&format!("another rollout for the same hosts is under way: {first}")), "{why}");
    }
    cloud.calendar("change", true, None);
    assert_eq!(end(&cloud, &first).figures["counts"], json!({"moved": 12}));
}

#[test]
fn hosts_that_drain_are_passed_over_and_those_terminated_in_a_wave_are_gone() {
    let cloud = fleet(9);
    cloud.change(&host(4), |host| host.ecs_status = "DRAINING".into());
    cloud.change(&host(2), |host| host.restart_s = 3_000.0);
    let id = begin(&cloud, json!({"ZoneShare": ["100"]}));
    let began = |event: &Event| matches!(event, Event::RestartBegan { instance, .. } if *instance == host(2));
    cloud.wait_for(LONG, began).unwrap();
    cloud.remove(&host(2));
    let end = end(&cloud, &id);
    // Two waited behind the one that is gone.
    let counts = json!({"moved": 5, "draining": 1, "gone": 1, "not_sent": 2});
    assert_eq!(end.figures["counts"], counts, "{}\n{:#}", end.text, end.execution);
    assert_eq!(
        (&end.figures["samples"]["draining"], &end.figures["samples"]["gone"]),
        (&json!([host(4)]), &json!([host(2)]))
    );
    assert!(!restarted(&cloud).contains(&host(4)));
}

#[test]
fn the_second_of_two_notices_the_first_and_names_it() {
    let cloud = fleet(12);
    let first = begin(&cloud, json!({}));
    let second = begin(&cloud, json!({}));
    let (first_end, second_end) = (end(&cloud, &first), end(&cloud, &second));
    assert_eq!((first_end.status.as_str(), second_end.status.as_str()), ("Success", "Failed"));
    let why = second_end.execution["FailureMessage"].as_str().unwrap();
    assert!(why.contains(&format!("another rollout for the same hosts is under way: {first}")), "{why}");
    assert_eq!(restarted(&cloud).len(), 12);
}

#[test]
fn throttling_and_lost_answers_delay_and_do_no_harm() {
    let cloud = fleet(12);
    for action in [
        "SendCommand",
        "ListCommandInvocations",
        "DescribeInstanceInformation",
        "DescribeContainerInstances",
        "GetParameter",
    ] {
        cloud.fault(Fault::Throttle { action: action.into(), times: 3 });
        cloud.fault(Fault::LostAnswer { action: action.into(), times: 4 });
    }
    let end = roll(&cloud, json!({"ZoneShare": ["100"]}));
    assert_eq!(end.figures["counts"], json!({"moved": 12}), "{}\n{:#}", end.text, end.execution);
    assert_eq!(restarted(&cloud).len(), 12);
    // One that was sent all the same is found by its comment, and not sent again.
    let hosts: Vec<String> = sent(&cloud).into_iter().flat_map(|(_, hosts)| hosts).collect();
    assert_eq!(hosts.len(), 12, "{hosts:?}");
    let refused = cloud
        .log()
        .iter()
        .filter(|event| matches!(event, Event::Api { error: Some(_), action, .. } if action != "GetParameter"))
        .count();
    assert!(refused >= 12, "only {refused} calls were throttled");
}

#[test]
fn a_restart_whose_answer_is_lost_is_never_sent_again() {
    let lost = Fault::LostAnswer { action: "SendCommand".into(), times: 1 };
    let kind = "InternalServerError".to_owned();
    let failed = Fault::Error { action: "SendCommand".into(), kind, message: "no".into(), times: 1 };
    // Sent all the same, and not sent: the answer does not tell which.
    for (fault, counts, commands) in
        [(lost, json!({"moved": 3}), [1, 1, 1]), (failed, json!({"moved": 2, "not_sent": 1}), [0, 1, 1])]
    {
        let cloud = fleet_at(8.0, 3);
        let id = begin(&cloud, json!({"ZoneShare": ["100"]}));
        // The first is a check; the next a restart.
        let check = |event: &Event| matches!(event, Event::Api { action, .. } if action == "SendCommand");
        cloud.wait_for(LONG, check).unwrap();
        cloud.fault(fault);
        let end = end(&cloud, &id);
        assert_eq!(end.figures["counts"], counts, "{}\n{:#}", end.text, end.execution);
        let hosts: Vec<String> = sent(&cloud).into_iter().flat_map(|(_, hosts)| hosts).collect();
        let of = |n: usize| hosts.iter().filter(|instance| **instance == host(n)).count();
        assert_eq!([of(1), of(2), of(3)], commands, "{hosts:?}");
    }
}
