//! HostAgent-Rollout, run by the interpreter over simulated hosts.

use crate::support::{LONG, ROLE, cloud, create, document, ended, once, ssm, start, steps};
use hostagent_lab::cloud::{Cloud, Event, Fault, HostState, Online, RestartBehaviour};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];
const HALT: &str = "/hostagent/prod/halt";

/// A cloud with hostagent's documents and a cluster `prod`.
fn fleet(hosts: usize) -> Cloud {
    fleet_at(25.0, hosts)
}

/// One in which a second of ours is `speed` of its.
fn fleet_at(speed: f64, hosts: usize) -> Cloud {
    let cloud = cloud(speed);
    cloud.cluster("prod");
    cloud.fleet("prod", &ZONES, hosts);
    for name in ["HostAgent-Check", "HostAgent-Restart"] {
        create(&cloud, name, "Command", &document(name)).unwrap();
    }
    create(&cloud, "HostAgent-Rollout", "Automation", &document("HostAgent-Rollout")).unwrap();
    cloud
}

/// The `n`th host of a fleet, from 1.
fn host(n: usize) -> String {
    format!("i-{n:017x}")
}

fn begin(cloud: &Cloud, more: Value) -> String {
    let mut parameters =
        json!({"Cluster": ["prod"], "Pause": ["0"], "ZoneShare": ["50"], "AutomationAssumeRole": [ROLE]});
    for (name, value) in more.as_object().unwrap() {
        parameters[name] = value.clone();
    }
    let kept: Map<_, _> = parameters
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    start(cloud, "HostAgent-Rollout", kept.into())
}

/// How a rollout ended: status, text and figures of its summary.
struct End {
    status: String,
    text: String,
    figures: Value,
    execution: Value,
}

fn end(cloud: &Cloud, id: &str) -> End {
    let execution = ended(cloud, id);
    let of = |name: &str| execution["Outputs"][name][0].as_str().unwrap_or_default().to_owned();
    let figures = serde_json::from_str(&of("Summary.Json")).unwrap_or(Value::Null);
    End {
        status: execution["AutomationExecutionStatus"].as_str().unwrap().into(),
        text: of("Summary.Text"),
        figures,
        execution,
    }
}

fn roll(cloud: &Cloud, more: Value) -> End {
    let id = begin(cloud, more);
    end(cloud, &id)
}

/// Hosts whose agents were restarted, in order.
fn restarted(cloud: &Cloud) -> Vec<String> {
    let began = |event: Event| match event {
        Event::RestartBegan { instance, .. } => Some(instance),
        _ => None,
    };
    cloud.log().into_iter().filter_map(began).collect()
}

/// At no instant were agents away in two zones, nor in more than `share` percent of a zone.
fn keeps_to_the_rules(cloud: &Cloud, hosts: usize, share: usize) {
    let mut away: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in cloud.log() {
        match event {
            Event::RestartBegan { instance, zone, at_s } => {
                away.entry(zone).or_default().insert(instance);
                let zones: Vec<_> = away.iter().filter(|(_, hosts)| !hosts.is_empty()).collect();
                assert_eq!(zones.len(), 1, "two zones at once at {at_s}: {zones:?}");
                let most = (hosts / ZONES.len() * share / 100).max(1);
                assert!(zones[0].1.len() <= most, "{} of {most} at {at_s}", zones[0].1.len());
            }
            Event::RestartEnded { instance, zone, .. } => {
                away.entry(zone).or_default().remove(&instance);
            }
            _ => {}
        }
    }
}

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
