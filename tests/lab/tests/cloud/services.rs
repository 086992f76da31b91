//! Signatures, documents, State Manager, the finding of hosts, gates and faults.

use crate::{DOCUMENT, Lab, SOON};
use hostagent_lab::cloud::{
    ACCESS_KEY, Cloud, CloudOptions, Event, Fault, Online, SimulatedHost, client::Answer, instance_id as instance,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[test]
fn a_request_must_be_signed_for_its_service_with_a_key_that_is_known() {
    let lab = Lab::with(1);
    let target = [("x-amz-target", "AmazonSSM.ListDocuments")];
    let kind = |answer: Answer| {
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        body["__type"].as_str().unwrap_or_default().to_owned()
    };
    let unsigned = lab.client.send("/", &target, b"{}").expect("an answer");
    assert_eq!((unsigned.status, kind(unsigned).as_str()), (400, "MissingAuthenticationTokenException"));
    let other = lab.client.post("/", "ecs", &target, b"{}").expect("an answer");
    assert_eq!((other.status, kind(other).as_str()), (403, "InvalidSignatureException"));
    let mut stranger = lab.client.clone();
    stranger.key = "AKIASTRANGER".into();
    assert_eq!(stranger.ssm("ListDocuments", &json!({})).unwrap_err().kind, "UnrecognizedClientException");
    assert_eq!(lab.client.key, ACCESS_KEY);
    lab.cloud.fault(Fault::ExpiredCredentials);
    assert_eq!(lab.refused("ListDocuments", json!({})), "ExpiredTokenException");
    let (status, body) = lab.client.query("ec2", "Action=DescribeInstances&Version=2016-11-15").expect("an answer");
    assert!(status == 400 && body.contains("<Code>RequestExpired</Code>"), "{body}");
    let service: BTreeMap<_, _> = lab.cloud.shared().service_environment().into_iter().collect();
    let mut role = lab.client.clone();
    role.key = service["AWS_ACCESS_KEY_ID"].clone();
    assert_eq!(
        role.ssm("ListDocuments", &json!({})).unwrap_err().kind,
        "UnrecognizedClientException",
        "it needs its token"
    );
    role.token = service.get("AWS_SESSION_TOKEN").cloned();
    role.ssm("ListDocuments", &json!({})).expect("the cloud's own role does not expire");
    lab.cloud.clear_faults();
    lab.ok("ListDocuments", json!({}));
    assert_eq!(lab.refused("DescribeMaintenanceWindows", json!({})), "UnknownOperationException");
}

#[test]
fn a_document_has_versions_and_refuses_what_it_has_already() {
    let lab = Lab::with(0);
    let update = |text: &str| {
        let content = format!("{DOCUMENT}{text}");
        json!({"Name": "HostAgent-Check", "Content": content, "DocumentFormat": "YAML", "DocumentVersion": "$LATEST"})
    };
    assert_eq!(lab.refused("UpdateDocument", update("")), "DuplicateDocumentContent");
    let updated = lab.ok("UpdateDocument", update("# more\n"));
    assert_eq!(updated["DocumentDescription"]["LatestVersion"], "2");
    assert_eq!(updated["DocumentDescription"]["DefaultVersion"], "1", "an update leaves the default where it is");
    let of_first = json!({"Name": "HostAgent-Check", "Content": "x", "DocumentFormat": "YAML", "DocumentVersion": "1"});
    assert_eq!(lab.refused("UpdateDocument", of_first), "InvalidDocumentVersion");
    lab.ok("UpdateDocumentDefaultVersion", json!({"Name": "HostAgent-Check", "DocumentVersion": "2"}));
    let described = lab.ok("DescribeDocument", json!({"Name": "HostAgent-Check"}));
    assert_eq!(described["Document"]["DocumentVersion"], "2");
    let got = lab.ok("GetDocument", json!({"Name": "HostAgent-Check", "DocumentFormat": "YAML"}));
    assert_eq!(got["Content"], format!("{DOCUMENT}# more\n"));
    let create = |name: &str, content: &str| json!({"Name": name, "Content": content, "DocumentFormat": "YAML"});
    assert_eq!(lab.refused("CreateDocument", create("HostAgent-Check", DOCUMENT)), "DocumentAlreadyExists");
    assert_eq!(lab.refused("CreateDocument", create("AmazonThing", DOCUMENT)), "ValidationException");
    assert_eq!(lab.refused("CreateDocument", create("no", DOCUMENT)), "ValidationException");
    assert_eq!(lab.refused("CreateDocument", create("Other", "schemaVersion: '2.2'")), "InvalidDocumentContent");
    let long = format!("{DOCUMENT}# {}", "x".repeat(65_536));
    assert_eq!(lab.refused("CreateDocument", create("Other", &long)), "MaxDocumentSizeExceeded");
    lab.ok("DeleteDocument", json!({"Name": "HostAgent-Check"}));
    assert_eq!(lab.refused("DescribeDocument", json!({"Name": "HostAgent-Check"})), "InvalidDocument");
}

#[test]
fn too_many_calls_are_refused_and_an_answer_may_be_lost() {
    let lab = Lab::with(1);
    lab.cloud.fault(Fault::Throttle { action: "SendCommand".into(), times: 2 });
    let send = json!({"DocumentName": "HostAgent-Check", "InstanceIds": [instance(1)]});
    assert_eq!(lab.refused("SendCommand", send.clone()), "ThrottlingException");
    lab.ok("ListCommands", json!({}));
    assert_eq!(lab.refused("SendCommand", send.clone()), "ThrottlingException");
    lab.ok("SendCommand", send.clone());
    assert_eq!(lab.cloud.calls("SendCommand"), 3, "refused calls are calls");
    lab.cloud.fault(Fault::LostAnswer { action: "SendCommand".into(), times: 1 });
    assert_eq!(lab.client.ssm("SendCommand", &send).unwrap_err().status, 500);
    lab.cloud
        .wait_for(SOON, |event| matches!(event, Event::Api { action, error: None, .. } if action == "SendCommand"))
        .expect("a call");
    let ended = |event: &Event| matches!(event, Event::Ended { .. });
    let mut count = 0;
    lab.cloud
        .wait_for(SOON, |event| {
            count += usize::from(ended(event));
            count == 2
        })
        .expect("both are carried out");

    let cloud = Cloud::start(CloudOptions::default()).expect("a cloud");
    let put = |number: usize| {
        cloud.client().ssm("PutParameter", &json!({"Name": format!("/a/{number}"), "Value": "v", "Type": "String"}))
    };
    assert!((0..30).filter_map(|number| put(number).err()).any(|error| error.kind == "ThrottlingException"));
}

#[test]
fn an_association_runs_its_document_and_a_host_that_joins_runs_it_too() {
    let lab = Lab::with(3);
    lab.cloud.calendar("Window", true, None);
    let input = json!({
        "Name": "HostAgent-Check", "Targets": [{"Key": "tag:Cluster", "Values": ["prod"]}],
        "ScheduleExpression": "rate(1 day)", "CalendarNames": ["Window"], "MaxConcurrency": "1",
    });
    let made = lab.ok("CreateAssociation", input.clone());
    let id = made["AssociationDescription"]["AssociationId"].as_str().expect("an ID").to_owned();
    assert_eq!(lab.refused("CreateAssociation", input), "AssociationAlreadyExists");
    let delivered = |wanted: usize| {
        let mut count = 0;
        let found = lab.cloud.wait_for(SOON, |event| {
            count += usize::from(matches!(event, Event::Ended { .. }));
            count == wanted
        });
        found.expect("a run");
    };
    delivered(3);
    let runs =
        || lab.ok("DescribeAssociationExecutions", json!({"AssociationId": id}))["AssociationExecutions"].clone();
    assert_eq!(runs()[0]["ResourceCountByStatus"], "{Success=3}");
    lab.cloud.calendar("Window", false, None);
    let calls = lab.cloud.now_s();
    lab.ok("StartAssociationsOnce", json!({"AssociationIds": [id]}));
    while runs().as_array().map(Vec::len) != Some(2) {
        std::thread::yield_now();
    }
    assert_eq!(runs()[0]["DetailedStatus"], "a calendar is closed");
    assert!(lab.cloud.now_s() > calls);
    lab.cloud.calendar("Window", true, None);
    let tags = vec![("Cluster".to_owned(), "prod".to_owned())];
    lab.cloud.add(vec![SimulatedHost { instance: instance(4), tags, ..SimulatedHost::default() }]);
    delivered(4);
    assert_eq!(lab.ok("ListCommands", json!({}))["Commands"], json!([]), "these are no commands of Run Command");
    lab.ok("DeleteAssociation", json!({"AssociationId": id}));
    assert_eq!(lab.refused("DescribeAssociation", json!({"AssociationId": id})), "AssociationDoesNotExist");
}

#[test]
fn hosts_are_found_by_cluster_and_by_tag() {
    let lab = Lab::with(301);
    let list = |more: Value| {
        let mut input = json!({"cluster": "prod"});
        for (name, value) in more.as_object().into_iter().flatten() {
            input[name] = value.clone();
        }
        lab.client.ecs("ListContainerInstances", &input)
    };
    let zone = "attribute:ecs.availability-zone == eu-west-1b";
    let first = list(json!({"filter": zone})).expect("an answer");
    assert_eq!(first["containerInstanceArns"].as_array().map(Vec::len), Some(100), "100 of them, and no more left");
    assert_eq!(first["nextToken"], Value::Null);
    let all = list(json!({})).expect("an answer");
    let next = list(json!({"nextToken": all["nextToken"]})).expect("an answer");
    assert_ne!(all["containerInstanceArns"], next["containerInstanceArns"]);
    assert_eq!(
        list(json!({"filter": zone, "nextToken": all["nextToken"]})).unwrap_err().kind,
        "InvalidParameterException"
    );
    assert_eq!(list(json!({"cluster": "none"})).unwrap_err().kind, "ClusterNotFoundException");
    assert_eq!(list(json!({"filter": "zone = b"})).unwrap_err().kind, "InvalidParameterException");
    assert_eq!(list(json!({"maxResults": 101})).unwrap_err().kind, "InvalidParameterException");
    lab.cloud.change(&instance(7), |host| host.agent_connected = false);
    let lost = list(json!({"filter": "agentConnected == false"})).expect("an answer");
    assert_eq!(lost["containerInstanceArns"].as_array().map(Vec::len), Some(1));
    let arns: Vec<Value> = (0..101).map(|_| lost["containerInstanceArns"][0].clone()).collect();
    let many = json!({"cluster": "prod", "containerInstances": arns});
    assert_eq!(lab.client.ecs("DescribeContainerInstances", &many).unwrap_err().kind, "InvalidParameterException");
    lab.cloud.cluster("empty");
    assert_eq!(list(json!({"cluster": "empty"})).expect("an answer")["containerInstanceArns"], json!([]));

    lab.cloud.change(&instance(1), |host| host.online = Online::Stopped);
    let form = "Action=DescribeInstances&Version=2016-11-15&MaxResults=5&Filter.1.Name=tag%3ACluster&Filter.1.Value.1=prod\
                &Filter.2.Name=instance-state-name&Filter.2.Value.1=running&Filter.3.Name=availability-zone&Filter.3.Value.1=eu-west-1a";
    let (status, body) = lab.client.query("ec2", form).expect("an answer");
    assert_eq!((status, body.matches("<instanceId>").count()), (200, 5), "{body}");
    assert!(!body.contains(&instance(1)) && body.contains("<nextToken>"), "{body}");
    let (status, body) = lab
        .client
        .query("ec2", "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0")
        .expect("an answer");
    assert!(status == 400 && body.contains("<Code>InvalidInstanceID.NotFound</Code>"), "{body}");
    let (status, body) = lab.client.query("sts", "Action=GetCallerIdentity&Version=2011-06-15").expect("an answer");
    assert!(status == 200 && body.contains("<Account>111122223333</Account>"), "{body}");
}

#[test]
fn gates_are_open_or_not() {
    let lab = Lab::with(1);
    lab.cloud.calendar("Window", true, Some(600.0));
    lab.cloud.calendar("Freeze", false, None);
    let state = |names: Value| lab.ok("GetCalendarState", json!({"CalendarNames": names}))["State"].clone();
    assert_eq!((state(json!(["Window"])), state(json!(["Window", "Freeze"]))), (json!("OPEN"), json!("CLOSED")));
    assert_eq!(lab.refused("GetCalendarState", json!({"CalendarNames": ["None"]})), "InvalidDocument");
    assert_eq!(lab.refused("GetCalendarState", json!({"CalendarNames": ["HostAgent-Check"]})), "InvalidDocumentType");
    lab.cloud.alarm("errors", "ALARM");
    lab.cloud.composite_alarm("all", "OK");
    let target = [("x-amz-target", "GraniteServiceVersion20100801.DescribeAlarms")];
    let alarms = |input: Value| {
        let answer = lab.client.post("/", "monitoring", &target, input.to_string().as_bytes()).expect("an answer");
        serde_json::from_slice::<Value>(&answer.body).expect("JSON")
    };
    let metric = alarms(json!({}));
    assert_eq!((&metric["MetricAlarms"][0]["StateValue"], &metric["CompositeAlarms"]), (&json!("ALARM"), &json!([])));
    assert_eq!(alarms(json!({"AlarmTypes": ["CompositeAlarm"]}))["CompositeAlarms"][0]["AlarmName"], "all");
    assert_eq!(alarms(json!({"StateValue": "OK"}))["MetricAlarms"], json!([]));
    let path = "/service/GraniteServiceVersion20100801/operation/DescribeAlarms";
    let cbor = lab.client.post(path, "monitoring", &[("smithy-protocol", "rpc-v2-cbor")], &[0xa0]).expect("an answer");
    assert!(cbor.headers.contains(&("smithy-protocol".into(), "rpc-v2-cbor".into())), "{cbor:?}");
    let has = |text: &[u8]| cbor.body.windows(text.len()).any(|part| part == text);
    assert!(has(b"\x6aStateValue\x65ALARM") && has(b"\x75StateUpdatedTimestamp\xc1"), "{cbor:?}");
}
