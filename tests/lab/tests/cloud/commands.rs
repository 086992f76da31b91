//! Run Command: what is looked at first, how a command goes through its hosts, and what lists show of it.

use crate::{DOCUMENT, Lab, SOON, ZONES};
use hostagent_lab::cloud::{Cloud, CloudOptions, Event, HostState, Online, RestartBehaviour, instance_id as instance};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn instances(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(instance).collect()
}

#[test]
fn what_is_sent_is_looked_at_first() {
    let lab = Lab::with(60);
    let send = |more: Value| {
        let mut input = json!({"DocumentName": "HostAgent-Check", "InstanceIds": [instance(1)]});
        for (name, value) in more.as_object().into_iter().flatten() {
            input[name] = value.clone();
        }
        lab.refused("SendCommand", input)
    };
    assert_eq!(send(json!({"DocumentName": "Nothing"})), "InvalidDocument");
    assert_eq!(send(json!({"DocumentVersion": "7"})), "InvalidDocumentVersion");
    assert_eq!(send(json!({"InstanceIds": [instance(99)]})), "InvalidInstanceId");
    assert_eq!(send(json!({"InstanceIds": [instance(1), instance(1)]})), "DuplicateInstanceId");
    for wrong in [
        json!({"InstanceIds": instances(1..=51)}),
        json!({"InstanceIds": ["host-1"]}),
        json!({"Comment": "x".repeat(101)}),
        json!({"MaxConcurrency": "0"}),
        json!({"MaxErrors": "101%"}),
        json!({"TimeoutSeconds": 29}),
        json!({"Targets": [{"Key": "tag:Cluster", "Values": ["prod"]}]}),
        json!({"OutputS3BucketName": "bucket"}),
    ] {
        assert_eq!(send(wrong.clone()), "ValidationException", "{wrong}");
    }
    for value in ["$(id)", "5m; id", "5m\n", "\"5m\"", "5é", ""] {
        assert_eq!(send(json!({"Parameters": {"Wait": [value]}})), "InvalidParameters", "{value}");
    }
    assert_eq!(send(json!({"Parameters": {"Other": ["x"]}})), "InvalidParameters");
    assert_eq!(lab.cloud.log().iter().filter(|event| matches!(event, Event::Delivered { .. })).count(), 0);
}

#[test]
fn a_command_begins_with_one_host_and_never_has_more_than_it_may() {
    let lab = Lab::with(30);
    let target = json!([{"Key": "tag:Cluster", "Values": ["prod"]}]);
    let id = lab.send("HostAgent-Check", json!({"Targets": target, "MaxConcurrency": "4"}));
    lab.ended(&id, 30);
    assert!((2..=4).contains(&lab.most_at_once(&id)), "{}", lab.most_at_once(&id));
    let log = lab.cloud.log();
    let of_it = log.iter().filter(
        |event| matches!(event, Event::Delivered { command, .. } | Event::Ended { command, .. } if *command == id),
    );
    let first: Vec<bool> = of_it.take(2).map(|event| matches!(event, Event::Ended { .. })).collect();
    assert_eq!(first, [false, true], "the first is alone");
    assert_eq!(lab.command(&id)["Status"], "Success");
    assert_eq!(lab.command(&id)["TargetCount"], 30);
}

#[test]
fn after_too_many_errors_nothing_more_is_sent_and_what_runs_ends() {
    let lab = Lab::with(30);
    for number in [1, 2] {
        lab.cloud.change(&instance(number), |host| host.state = HostState::Unknown);
    }
    lab.cloud.change(&instance(3), |host| host.online = Online::Undeliverable);
    lab.cloud.change(&instance(4), |host| host.online = Online::ConnectionLost);
    lab.cloud.change(&instance(5), |host| host.access = false);
    let all = json!({"InstanceIds": instances(1..=30), "MaxErrors": "1", "MaxConcurrency": "1", "TimeoutSeconds": 30});
    let id = lab.send("HostAgent-Check", all.clone());
    lab.ended(&id, 2);
    let command = lab.command(&id);
    assert_eq!(
        (&command["Status"], &command["ErrorCount"], &command["CompletedCount"]),
        (&json!("Failed"), &json!(2), &json!(30))
    );
    let details = lab.details(&id);
    assert_eq!(details[..3], ["Failed", "Failed", "Terminated"]);

    // Two errors are let pass: those that never reached their host are none.
    let mut more = all;
    more["MaxErrors"] = "2".into();
    let id = lab.send("HostAgent-Check", more);
    lab.ended(&id, 30);
    let details = lab.details(&id);
    let wanted = ["Failed", "Failed", "Undeliverable", "DeliveryTimedOut", "AccessDenied", "Success"];
    assert_eq!(details[..6], wanted);
    let command = lab.command(&id);
    assert_eq!((&command["StatusDetails"], &command["DeliveryTimedOutCount"]), (&json!("Incomplete"), &json!(1)));
    assert_eq!(lab.invocations(&id)[3]["Status"], "TimedOut");
}

#[test]
fn lists_are_late_and_in_pages() {
    let cloud = Cloud::start(CloudOptions { speed: 200.0, settle_s: 1_000_000.0, ..CloudOptions::default() });
    let cloud = cloud.expect("a cloud");
    cloud.fleet("prod", &ZONES, 51);
    let lab = Lab { client: cloud.client(), cloud };
    lab.ok("CreateDocument", json!({"Name": "HostAgent-Check", "Content": DOCUMENT, "DocumentFormat": "YAML"}));
    let id = lab.send("HostAgent-Check", json!({"InstanceIds": [instance(1)]}));
    lab.ended(&id, 1);
    assert_eq!(lab.invocations(&id), [] as [Value; 0], "not listed yet");
    assert_eq!(lab.ok("ListCommands", json!({"CommandId": id}))["Commands"], json!([]));
    let one = json!({"CommandId": id, "InstanceId": instance(1)});
    assert_eq!(lab.refused("GetCommandInvocation", one), "InvocationDoesNotExist");

    let lab = Lab::with(51);
    let target = json!([{"Key": "tag:Cluster", "Values": ["prod"]}]);
    let id = lab.send("HostAgent-Check", json!({"Targets": target, "MaxConcurrency": "100%"}));
    lab.ended(&id, 51);
    let first = lab.ok("ListCommandInvocations", json!({"CommandId": id}));
    assert_eq!(first["CommandInvocations"].as_array().map(Vec::len), Some(50));
    assert_eq!(first["CommandInvocations"][0]["CommandPlugins"], json!([]), "no details unless asked for");
    let token = first["NextToken"].clone();
    assert_eq!(lab.refused("ListCommandInvocations", json!({"NextToken": token})), "InvalidNextToken");
    assert_eq!(lab.refused("ListCommandInvocations", json!({"MaxResults": 51})), "ValidationException");
    let seen: BTreeSet<String> = lab.invocations(&id).iter().map(|of| of["InstanceId"].to_string()).collect();
    assert_eq!(seen.len(), 51);
    let failed = json!({"CommandId": id, "Filters": [{"key": "Status", "value": "Failed"}]});
    assert_eq!(lab.ok("ListCommandInvocations", failed)["CommandInvocations"], json!([]));
}

#[test]
fn output_is_cut_where_the_services_cut_it() {
    let lab = Lab::with(2);
    lab.cloud.change(&instance(1), |host| host.noise = 3_000);
    lab.cloud.change(&instance(2), |host| host.noise = 30_000);
    let id = lab.send("HostAgent-Check", json!({"InstanceIds": instances(1..=2)}));
    lab.ended(&id, 2);
    for invocation in lab.invocations(&id) {
        let output = invocation["CommandPlugins"][0]["Output"].as_str().expect("output").to_owned();
        assert_eq!(output.len(), 2_500);
        assert!(output.ends_with("---Output truncated---") && !output.contains("schema"), "{output}");
    }
    let get = |number| {
        let whole = lab.ok("GetCommandInvocation", json!({"CommandId": id, "InstanceId": instance(number)}));
        whole["StandardOutputContent"].as_str().expect("output").to_owned()
    };
    assert!(get(1).contains("\"schema\":\"hostagent/check/1\""));
    assert_eq!(get(2).len(), 24_000);
}

#[test]
fn a_restart_ends_as_the_host_is_made() {
    use RestartBehaviour::{BreaksLater, Busy, DoesNotComeBack, LosesSsmAgent, Refused, StaysDisconnected, Works};
    let lab = Lab::with(9);
    let behaviours = [Works, DoesNotComeBack, BreaksLater, Refused, Busy, LosesSsmAgent, StaysDisconnected];
    for (number, behaviour) in (1..).zip(behaviours) {
        lab.cloud.change(&instance(number), |host| {
            host.restart = behaviour;
            host.writes_halt = true;
        });
    }
    lab.cloud.change(&instance(8), |host| host.state = HostState::Settled);
    lab.cloud.change(&instance(9), |host| host.hostagent = None);
    let all = json!({"InstanceIds": instances(1..=9), "MaxErrors": "100%"});
    let id = lab.send("HostAgent-Restart", all.clone());
    lab.ended(&id, 9);
    let codes: Vec<i64> =
        lab.invocations(&id).iter().filter_map(|of| of["CommandPlugins"][0]["ResponseCode"].as_i64()).collect();
    assert_eq!(codes, [0, 13, 0, 12, 75, 137, 0, 0, 127]);
    assert_eq!(lab.details(&id)[5], "ExecutionTimedOut");
    let restarted: BTreeSet<(String, bool)> = lab
        .cloud
        .log()
        .into_iter()
        .filter_map(|event| match event {
            Event::RestartEnded { instance, ok, .. } => Some((instance, ok)),
            _ => None,
        })
        .collect();
    let wanted = [(1, true), (2, false), (3, false), (6, true), (7, false)];
    assert_eq!(restarted, wanted.map(|(number, ok)| (instance(number), ok)).into());
    let halt = lab.cloud.parameter("/hostagent/prod/halt").expect("a halt");
    assert!(halt.contains(&instance(2)) && halt.contains("hostagent/halt/1"), "{halt}");

    let id = lab.send(
        "HostAgent-Check",
        json!({"InstanceIds": instances(1..=5), "Parameters": {"Strict": ["yes"]}, "MaxErrors": "100%"}),
    );
    lab.ended(&id, 5);
    let pages: Vec<String> = lab
        .invocations(&id)
        .iter()
        .map(|of| of["CommandPlugins"][0]["Output"].as_str().unwrap_or_default().to_owned())
        .collect();
    let words: Vec<&str> = pages.iter().filter_map(|page| page.split(':').next()).collect();
    assert_eq!(words, ["SETTLED", "BROKEN", "BROKEN", "RESTART NEEDED", "RESTART NEEDED"]);
    let second: Value = serde_json::from_str(pages[0].lines().nth(1).unwrap_or_default()).expect("JSON");
    assert_eq!(
        (&second["exit_code"], &second["zone"], &second["cluster"]),
        (&json!(0), &json!("eu-west-1a"), &json!("prod"))
    );

    let described = json!({"cluster": "prod", "containerInstances": instances(1..=7).iter().map(|of| format!("{:0>32}", &of[2..])).collect::<Vec<_>>()});
    let described = lab.client.ecs("DescribeContainerInstances", &described).expect("an answer");
    let connected: Vec<bool> = described["containerInstances"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|of| of["agentConnected"].as_bool())
        .collect();
    assert_eq!(connected, [true, false, false, true, true, true, false]);
}

#[test]
fn a_cancelled_command_goes_no_further() {
    let lab = Lab::with(5);
    lab.cloud.change(&instance(1), |host| host.check_s = 590.0);
    let id = lab.send("HostAgent-Check", json!({"InstanceIds": instances(1..=5), "MaxConcurrency": "1"}));
    lab.cloud.wait_for(SOON, |event| matches!(event, Event::Delivered { .. })).expect("a delivery");
    lab.ok("CancelCommand", json!({"CommandId": id}));
    lab.ended(&id, 1);
    let times = |event: &Event| matches!(event, Event::Delivered { .. } | Event::Ended { .. }).then(|| event.at_s());
    let times: Vec<f64> = lab.cloud.log().iter().filter_map(times).collect();
    assert!(times.len() == 2 && times[1] - times[0] < 580.0, "what runs is not waited for: {times:?}");
    assert_eq!(lab.details(&id), ["Cancelled"; 5]);
    assert_eq!(lab.command(&id)["Status"], "Cancelled");
    assert_eq!(lab.refused("CancelCommand", json!({"CommandId": "0".repeat(36)})), "InvalidCommandId");
}

#[test]
fn a_host_that_comes_back_takes_what_waits_for_it() {
    let lab = Lab::with(1);
    lab.cloud.change(&instance(1), |host| host.online = Online::ConnectionLost);
    let id = lab.send("HostAgent-Check", json!({"InstanceIds": [instance(1)], "TimeoutSeconds": 2_592_000}));
    lab.cloud.change(&instance(1), |_| {});
    while lab.details(&id) != ["Delayed"] {
        std::thread::yield_now();
    }
    lab.cloud.change(&instance(1), |host| host.online = Online::Yes);
    lab.ended(&id, 1);
    assert_eq!(lab.details(&id), ["Success"]);
}

#[test]
fn an_agent_that_dies_in_the_middle_says_nothing_until_its_time_is_over() {
    let lab = Lab::with(1);
    lab.cloud.change(&instance(1), |host| host.check_s = 590.0);
    let id = lab.send("HostAgent-Check", json!({"InstanceIds": [instance(1)]}));
    lab.cloud.wait_for(SOON, |event| matches!(event, Event::Delivered { .. })).expect("a delivery");
    lab.cloud.change(&instance(1), |host| host.online = Online::ConnectionLost);
    lab.ended(&id, 1);
    assert_eq!(lab.details(&id), ["ExecutionTimedOut"]);
    let at =
        |wanted: &str| lab.cloud.log().iter().find(|event| format!("{event:?}").starts_with(wanted)).map(Event::at_s);
    let (delivered, ended) = (at("Delivered").expect("a time"), at("Ended").expect("a time"));
    assert!((ended - delivered - 600.0).abs() < 0.01, "{delivered} {ended}");
}

#[test]
fn ten_thousand_hosts_answer_one_command() {
    let lab = Lab::with(10_000);
    let target = json!([{"Key": "tag:Cluster", "Values": ["prod"]}]);
    let id = lab.send("HostAgent-Check", json!({"Targets": target, "MaxConcurrency": "10%"}));
    lab.ended(&id, 10_000);
    // Some of those it has are on their way.
    assert!((800..=1_000).contains(&lab.most_at_once(&id)), "{}", lab.most_at_once(&id));
    let before = lab.cloud.all_calls();
    assert_eq!(lab.invocations(&id).len(), 10_000);
    assert_eq!(lab.cloud.all_calls() - before, 200);
    assert_eq!(lab.cloud.calls("ListCommandInvocations"), 200);
}
