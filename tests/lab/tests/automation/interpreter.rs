//! Runbooks run step by step.

use crate::support::{LONG, ROLE, cloud, create, ended, once, python, ssm, start, steps};
use hostagent_lab::cloud::Cloud;
use serde_json::{Value, json};
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A step that runs `body` in a handler.
fn script(name: &str, body: &str, more: &str) -> String {
    let body = body.replace('\n', "\n          ");
    format!(
        "- name: {name}\n  action: aws:executeScript\n  inputs:\n    Runtime: python3.11\n    Handler: handler\n    \
         InputPayload: {{Value: '{{{{ Value }}}}', Kept: '{{{{ variable:Kept }}}}'}}\n    Script: |-\n      def handler(event, context):\n          \
         {body}\n{more}"
    )
}

const OUT: &str = "  outputs:\n  - {Name: Out, Selector: $.Payload.Out, Type: String}\n";

/// Starts a runbook of these steps.
fn run(cloud: &Cloud, steps: &str, value: &str) -> String {
    let text = format!(
        "schemaVersion: '0.3'\nassumeRole: '{ROLE}'\nparameters:\n  Value: {{type: String, default: nothing}}\n  Several: {{type: StringList, default: \
         [a, b, c]}}\nvariables:\n  Kept: {{type: String, default: x}}\nmainSteps:\n{steps}"
    );
    create(cloud, "runbook", "Automation", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    start(cloud, "runbook", json!({ "Value": [value] }))
}

#[test]
fn a_script_runs_in_simulated_time_against_the_cloud_and_nothing_else() {
    let cloud = cloud(30.0);
    let body = "import boto3, os, time\nbegan = time.time()\ntime.sleep(100)\n\
                boto3.client('ssm').put_parameter(Name='/a/b', Value=event['Value'].replace('{{', '<'), Type='String')\n\
                who = boto3.client('sts').get_caller_identity()['Account']\n\
                return {'Out': who, 'Slept': int(time.time() - began), 'Now': time.time(), 'Env': sorted(os.environ)}";
    let id = run(&cloud, &script("Ask", body, OUT), "quotes \" ' and {{ braces }} and \u{fc}");
    let execution = ended(&cloud, &id);
    assert_eq!(execution["AutomationExecutionStatus"], "Success", "{execution:#}");
    assert_eq!(cloud.parameter("/a/b").unwrap(), "quotes \" ' and < braces }} and \u{fc}");
    let step = &steps(&execution, "Ask")[0];
    assert_eq!(step["Outputs"]["Out"], json!(["111122223333"]));
    let payload: Value = serde_json::from_str(step["Outputs"]["Payload"][0].as_str().unwrap()).unwrap();
    assert!(payload["Slept"].as_i64().unwrap() >= 100, "{payload}");
    let (now, last) = (payload["Now"].as_f64().unwrap(), step["ExecutionEndTime"].as_f64().unwrap());
    assert!((last - now).abs() < 300.0, "the script's clock is not the cloud's: {now} and {last}");
    let environment: Vec<&str> = payload["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let foreign: Vec<_> = environment
        .iter()
        .filter(|name| !cloud.environment().iter().any(|(own, _)| own == *name))
        .filter(|name| !["HOME", "LANG", "LC_CTYPE", "PATH", "AWS_SESSION_TOKEN"].contains(name))
        .collect();
    assert!(foreign.is_empty(), "the script saw {foreign:?}");
}

#[test]
fn a_script_has_the_rights_of_a_role_or_none() {
    let cloud = cloud(30.0);
    let ask = script("Ask", "import boto3\nboto3.client('sts').get_caller_identity()\nreturn {}", "");
    for (role, status, why) in [("", "Failed", "NoCredentialsError"), (ROLE, "Success", "")] {
        let text = format!(
            "schemaVersion: '0.3'\nassumeRole: '{{{{ Role }}}}'\nparameters:\n  Value: {{type: String, default: x}}\n  \
             Role: {{type: String, default: ''}}\nvariables:\n  Kept: {{type: String, default: x}}\nmainSteps:\n{ask}"
        );
        create(&cloud, "asks", "Automation", &text).unwrap();
        let given = if role.is_empty() { json!({}) } else { json!({"Role": [role]}) };
        let execution = ended(&cloud, &start(&cloud, "asks", given));
        assert_eq!(execution["AutomationExecutionStatus"], status, "{execution:#}");
        assert!(execution["FailureMessage"].as_str().unwrap_or_default().contains(why), "{execution:#}");
        ssm(&cloud, "DeleteDocument", json!({"Name": "asks"})).unwrap();
    }
}

#[test]
fn what_a_variable_cannot_hold_fails_its_step() {
    let cloud = cloud(1.0);
    let long = script("Long", "return {'Out': 'x' * 513}", OUT);
    let keep =
        "- name: Keep\n  action: aws:updateVariable\n  inputs: {Name: 'variable:Kept', Value: '{{ Long.Out }}'}\n";
    let execution = ended(&cloud, &run(&cloud, &(long + keep), "x"));
    assert_eq!(execution["AutomationExecutionStatus"], "Failed");
    assert!(execution["FailureMessage"].as_str().unwrap().contains("a text of 513 characters"), "{execution:#}");
}

/// A runbook that loops over `inner`, with a step after the loop, and one that nothing but `onFailure` or `onCancel` goes to.
fn looping(inner: &str) -> String {
    let put = |name: &str, more: &str| {
        format!(
            "- name: {name}\n  action: aws:executeAwsApi\n  inputs: {{Service: ssm, Api: PutParameter, Name: '/{name}', Value: x, Type: String}}\n{more}"
        )
    };
    let inner = inner.trim_end().replace('\n', "\n    ");
    let again = "LoopCondition: {Variable: '{{ Value }}', StringEquals: x}";
    let round = format!("- name: Round\n  action: aws:loop\n  inputs:\n    {again}\n    Steps:\n    {inner}\n");
    round + &put("After", "  isEnd: true\n") + &put("Lost", "")
}

#[test]
fn a_step_of_a_loop_that_fails_or_runs_out_of_its_time_leaves_it_for_where_it_says() {
    let cloud = cloud(100.0);
    for (body, more) in
        [("raise RuntimeError('on purpose')", ""), ("import time\ntime.sleep(1e6)", "  timeoutSeconds: 60\n")]
    {
        let inner = script("Turn", body, &format!("  onFailure: step:Lost\n{more}"));
        let execution = ended(&cloud, &run(&cloud, &looping(&inner), "x"));
        let status = |name: &str| steps(&execution, name).first().map(|step| step["StepStatus"].clone());
        assert_eq!(execution["AutomationExecutionStatus"], "Failed", "{execution:#}");
        assert_eq!((status("Round"), status("After")), (Some(json!("Failed")), None), "{execution:#}");
        assert_eq!(status("Lost"), Some(json!("Success")), "{execution:#}");
        ssm(&cloud, "DeleteDocument", json!({"Name": "runbook"})).unwrap();
        ssm(&cloud, "DeleteParameter", json!({"Name": "/Lost"})).unwrap();
    }
}

#[test]
fn a_cancel_goes_where_the_step_says_and_for_two_minutes_at_most() {
    let cloud = cloud(100.0);
    for (slow, status) in [(1, "Success"), (500, "Cancelled")] {
        let more = "  onCancel: step:Clean\n";
        let clean = script("Clean", &format!("import time\ntime.sleep({slow})\nreturn {{}}"), "");
        let inner = script("Turn", SLEEPER, more);
        let id = run(&cloud, &(looping(&inner) + &clean), "x");
        pids(&cloud);
        ssm(&cloud, "StopAutomationExecution", json!({"AutomationExecutionId": id, "Type": "Cancel"})).unwrap();
        let execution = ended(&cloud, &id);
        assert_eq!(execution["AutomationExecutionStatus"], "Cancelled");
        assert_eq!(steps(&execution, "Turn")[0]["StepStatus"], "Cancelled");
        assert_eq!(steps(&execution, "Round")[0]["StepStatus"], "Cancelled");
        assert_eq!(steps(&execution, "Clean")[0]["StepStatus"], status, "{execution:#}");
        assert_eq!(cloud.parameter("/After"), None);
        ssm(&cloud, "DeleteDocument", json!({"Name": "runbook"})).unwrap();
        ssm(&cloud, "DeleteParameter", json!({"Name": "/pids"})).unwrap();
    }
}

/// Whether a process is there and no zombie.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn gone(pid: &str) -> bool {
    let began = Instant::now();
    while runs(pid) && began.elapsed() < LONG {
        thread::sleep(Duration::from_millis(5));
    }
    !runs(pid)
}

/// A script that starts another program, says both process IDs in the parameter /pids, and sleeps.
const SLEEPER: &str = "import boto3, os, subprocess, time\nother = subprocess.Popen(['sleep', '600'])\n\
                       boto3.client('ssm').put_parameter(Name='/pids', Value=f'{os.getpid()} {other.pid}', Type='String')\n\
                       time.sleep(1e6)\nreturn {'Out': ''}";

fn pids(cloud: &Cloud) -> Vec<String> {
    let began = Instant::now();
    loop {
        if let Some(pids) = cloud.parameter("/pids") {
            return pids.split(' ').map(str::to_owned).collect();
        }
        assert!(began.elapsed() < LONG, "the script did not begin");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_script_whose_time_is_up_is_killed_with_all_it_started() {
    let cloud = cloud(50.0);
    let id = run(&cloud, &script("Sleep", SLEEPER, "  timeoutSeconds: 300\n"), "x");
    let pids = pids(&cloud);
    assert!(pids.iter().all(|pid| runs(pid)), "{pids:?}");
    let execution = ended(&cloud, &id);
    assert_eq!(execution["AutomationExecutionStatus"], "TimedOut");
    assert_eq!(steps(&execution, "Sleep")[0]["StepStatus"], "TimedOut");
    assert!(pids.iter().all(|pid| gone(pid)), "{pids:?}");
}

#[test]
fn an_execution_is_cancelled_in_the_middle_of_a_script() {
    let cloud = cloud(1.0);
    let id = run(&cloud, &(script("Sleep", SLEEPER, "") + &script("After", "return {}", "")), "x");
    let pids = pids(&cloud);
    ssm(&cloud, "StopAutomationExecution", json!({"AutomationExecutionId": id, "Type": "Cancel"})).unwrap();
    let execution = ended(&cloud, &id);
    assert_eq!(execution["AutomationExecutionStatus"], "Cancelled");
    assert_eq!(steps(&execution, "Sleep")[0]["StepStatus"], "Cancelled");
    assert!(steps(&execution, "After").is_empty());
    assert!(pids.iter().all(|pid| gone(pid)), "{pids:?}");
    let again = ssm(&cloud, "StopAutomationExecution", json!({ "AutomationExecutionId": id })).unwrap_err();
    assert_eq!(again.kind, "InvalidAutomationStatusUpdateException");
}

#[test]
fn an_execution_completes_after_the_step_under_way() {
    let cloud = cloud(100.0);
    let nap = "import boto3, time\nboto3.client('ssm').put_parameter(Name='/pids', Value='x', Type='String')\ntime.sleep(200)\nreturn {'Out': 'slept'}";
    let id = run(&cloud, &(script("Nap", nap, OUT) + &script("After", "return {}", "")), "x");
    pids(&cloud);
    ssm(&cloud, "StopAutomationExecution", json!({"AutomationExecutionId": id, "Type": "Complete"})).unwrap();
    let execution = ended(&cloud, &id);
    assert_eq!(execution["AutomationExecutionStatus"], "Success");
    assert_eq!(steps(&execution, "Nap")[0]["Outputs"]["Out"], json!(["slept"]));
    assert!(steps(&execution, "After").iter().all(|step| step["StepStatus"] == "Pending"));
}

#[test]
fn a_script_that_raises_or_returns_the_wrong_type_fails_its_step_and_says_why() {
    let cloud = cloud(1.0);
    let raised = run(&cloud, &script("Raise", "raise ValueError('no such ' + event['Value'])", ""), "thing");
    let execution = ended(&cloud, &raised);
    assert_eq!(execution["AutomationExecutionStatus"], "Failed");
    assert!(execution["FailureMessage"].as_str().unwrap().contains("ValueError: no such thing"), "{execution:#}");
    ssm(&cloud, "DeleteDocument", json!({"Name": "runbook"})).unwrap();
    let wrong = run(&cloud, &script("Number", "return {'Out': 3}", OUT), "x");
    let execution = ended(&cloud, &wrong);
    assert!(execution["FailureMessage"].as_str().unwrap().contains("to be of type String"), "{execution:#}");
}

#[test]
fn steps_branch_repeat_and_remember() {
    let cloud = cloud(50.0);
    let add = script(
        "Add",
        "return {'Out': event['Kept'] + 'y', 'More': len(event['Kept']) < 4}",
        "  outputs:\n  - {Name: Out, Selector: $.Payload.Out, Type: String}\n  - {Name: More, Selector: $.Payload.More, Type: Boolean}\n",
    );
    let indented = add.trim_end().replace('\n', "\n    ");
    let text = format!(
        "- name: Choose\n  action: aws:branch\n  inputs:\n    Choices:\n    - {{NextStep: Wrong, Variable: '{{{{ Value }}}}', StringEquals: b}}\n    \
         - {{NextStep: Round, And: [{{Variable: '{{{{ Value }}}}', StartsWith: a}}, {{Not: {{Variable: '{{{{ Value }}}}', Contains: z}}}}]}}\n    \
         Default: Wrong\n\
         - name: Wrong\n  action: aws:sleep\n  isEnd: true\n  inputs: {{Duration: PT1S}}\n\
         - name: Round\n  action: aws:loop\n  inputs:\n    LoopCondition: {{Variable: '{{{{ Add.More }}}}', BooleanEquals: true}}\n    MaxIterations: 10\n    Steps:\n    {indented}\n    \
         - name: Keep\n      action: aws:updateVariable\n      inputs: {{Name: 'variable:Kept', Value: '{{{{ Add.Out }}}}'}}\n\
         - name: Each\n  action: aws:loop\n  inputs:\n    Iterators: '{{{{ Several }}}}'\n    IteratorDataType: String\n    Steps:\n    \
         - name: Put\n      action: aws:executeAwsApi\n      inputs: {{Service: ssm, Api: PutParameter, Name: '/each/{{{{ Each.CurrentIteratorValue }}}}', Value: '{{{{ variable:Kept }}}}', Type: String}}\n      \
         outputs:\n      - {{Name: Version, Selector: $.Version, Type: Integer}}\n"
    );
    let id = run(&cloud, &text, "abc");
    let execution = ended(&cloud, &id);
    assert_eq!(execution["AutomationExecutionStatus"], "Success", "{execution:#}");
    assert_eq!(execution["Variables"]["Kept"], json!(["xyyyy"]));
    let parameters: Vec<_> = ["a", "b", "c"].map(|name| cloud.parameter(&format!("/each/{name}")).unwrap()).into();
    assert_eq!(parameters, ["xyyyy"; 3]);
    let adds = steps(&execution, "Add");
    assert_eq!(adds.len(), 4);
    let round = &steps(&execution, "Round")[0];
    assert_eq!(adds[3]["ParentStepDetails"]["Iteration"], 4);
    assert_eq!(adds[3]["ParentStepDetails"]["StepExecutionId"], round["StepExecutionId"]);
    assert_eq!(steps(&execution, "Put")[1]["ParentStepDetails"]["IteratorValue"], "b");
    assert!(steps(&execution, "Wrong").iter().all(|step| step["StepStatus"] == "Pending"));
}

#[test]
fn a_failure_aborts_goes_on_or_goes_elsewhere() {
    let cloud = cloud(1.0);
    let fail = |more: &str| script("Fail", "raise RuntimeError('on purpose')", more);
    let rest = script("Next", "return {'Out': 'next'}", OUT) + &script("Other", "return {'Out': 'other'}", OUT);
    for (more, status, next, other) in [
        ("", "Failed", 0, 0),
        ("  onFailure: Continue\n", "Failed", 1, 1),
        ("  onFailure: Continue\n  isCritical: false\n", "Success", 1, 1),
        ("  onFailure: step:Other\n  isCritical: false\n", "Success", 0, 1),
    ] {
        let id = run(&cloud, &(fail(more) + &rest), "x");
        let execution = ended(&cloud, &id);
        let ran = |name: &str| steps(&execution, name).iter().filter(|step| step["StepStatus"] == "Success").count();
        assert_eq!(
            (execution["AutomationExecutionStatus"].as_str().unwrap(), ran("Next"), ran("Other")),
            (status, next, other),
            "{more}"
        );
        ssm(&cloud, "DeleteDocument", json!({"Name": "runbook"})).unwrap();
    }
}

#[test]
fn an_approval_waits_for_its_signal() {
    for (signal, status) in [("Approve", "Success"), ("Reject", "Failed")] {
        let cloud = cloud(1.0);
        let ask = "- name: Ask\n  action: aws:approve\n  inputs:\n    Approvers: ['arn:aws:iam::111122223333:user/engineer']\n    Message: go?\n";
        let id = run(&cloud, &(ask.to_owned() + &script("After", "return {}", "")), "x");
        let waiting = once(&cloud, &id, "waiting", |execution| execution["AutomationExecutionStatus"] == "Waiting");
        assert_eq!((&waiting["CurrentStepName"], &waiting["CurrentAction"]), (&json!("Ask"), &json!("aws:approve")));
        let input = json!({"AutomationExecutionId": id, "SignalType": signal, "Payload": {"Comment": ["yes or no"]}});
        ssm(&cloud, "SendAutomationSignal", input.clone()).unwrap();
        assert_eq!(ended(&cloud, &id)["AutomationExecutionStatus"], status);
        assert_eq!(ssm(&cloud, "SendAutomationSignal", input).unwrap_err().kind, "InvalidAutomationSignalException");
    }
}

#[test]
fn executions_are_listed_by_filters_newest_first_and_not_at_once() {
    let cloud = cloud(1.0);
    let first = run(&cloud, &script("One", "return {}", ""), "x");
    let list = |filters: Value| {
        let found = ssm(&cloud, "DescribeAutomationExecutions", json!({"Filters": filters})).unwrap();
        let found = found["AutomationExecutionMetadataList"].as_array().unwrap().clone();
        found.iter().map(|one| one["AutomationExecutionId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(list(json!([])).is_empty(), "a new execution is listed at once");
    let second = start(&cloud, "runbook", json!({}));
    ended(&cloud, &first);
    let began = Instant::now();
    while list(json!([])).len() < 2 {
        assert!(began.elapsed() < LONG);
        thread::sleep(Duration::from_millis(20));
    }
    ended(&cloud, &second);
    assert_eq!(list(json!([])), [second.clone(), first.clone()]);
    assert_eq!(list(json!([{"Key": "ExecutionId", "Values": [first]}])), std::slice::from_ref(&first));
    assert_eq!(
        list(
            json!([{"Key": "DocumentNamePrefix", "Values": ["run"]}, {"Key": "ExecutionStatus", "Values": ["Success"]}])
        )
        .len(),
        2
    );
    assert!(list(json!([{"Key": "ExecutionStatus", "Values": ["InProgress", "Waiting"]}])).is_empty());
    let page = ssm(&cloud, "DescribeAutomationExecutions", json!({"MaxResults": 1})).unwrap();
    let rest =
        ssm(&cloud, "DescribeAutomationExecutions", json!({"MaxResults": 1, "NextToken": page["NextToken"]})).unwrap();
    assert_eq!(rest["AutomationExecutionMetadataList"][0]["AutomationExecutionId"], first);
    for wrong in
        [json!({"MaxResults": 51}), json!({"Filters": [{"Key": "Name", "Values": ["x"]}]}), json!({"NextToken": "x"})]
    {
        assert!(ssm(&cloud, "DescribeAutomationExecutions", wrong.clone()).is_err(), "{wrong}");
    }
}

/// Members and types of an answer against the model that the AWS SDKs are made of.
const JUDGE: &str = "
import json, sys, botocore.session
model = botocore.session.get_session().get_service_model('ssm')
def judge(shape, value, path):
    kind = shape.type_name
    if kind == 'structure':
        for name, inner in value.items():
            assert name in shape.members, f'{path}: {name} is no member of {shape.name}'
            judge(shape.members[name], inner, f'{path}.{name}')
    elif kind == 'list':
        for inner in value: judge(shape.member, inner, path + '[]')
    elif kind == 'map':
        for name, inner in value.items(): judge(shape.value, inner, f'{path}.{name}')
    else:
        wanted = {'string': str, 'boolean': bool, 'integer': int, 'long': int, 'timestamp': float}[kind]
        assert isinstance(value, wanted), f'{path}: {value!r} is no {kind}'
        assert kind != 'string' or not shape.enum or value in shape.enum, f'{path}: {value!r} is none of {shape.enum}'
for action, answer in json.load(sys.stdin):
    judge(model.operation_model(action).output_shape, answer, action)
";

#[test]
fn the_answers_have_the_shapes_of_the_model() {
    let cloud = cloud(50.0);
    let each = "- name: Each\n  action: aws:loop\n  timeoutSeconds: 600\n  inputs:\n    Iterators: '{{ Several }}'\n    Steps:\n    \
                - {name: Nap, action: 'aws:sleep', inputs: {Duration: PT1S}}\n";
    let fail = script("Fail", "raise RuntimeError('on purpose')", "");
    let id = run(&cloud, &(each.to_owned() + &fail), "x");
    ended(&cloud, &id);
    let began = Instant::now();
    let answers: Vec<(&str, Value)> = loop {
        let asked = [
            ("GetAutomationExecution", json!({ "AutomationExecutionId": id })),
            ("DescribeAutomationStepExecutions", json!({ "AutomationExecutionId": id })),
            ("DescribeAutomationExecutions", json!({})),
            ("StartAutomationExecution", json!({"DocumentName": "runbook"})),
        ];
        let answers = asked.map(|(action, input)| (action, ssm(&cloud, action, input).unwrap()));
        if !answers[2].1["AutomationExecutionMetadataList"].as_array().unwrap().is_empty() {
            break answers.into();
        }
        assert!(began.elapsed() < LONG);
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(answers[1].1["StepExecutions"].as_array().unwrap().len(), 5);
    let mut judge =
        Command::new(python()).args(["-c", JUDGE]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    judge.stdin.take().unwrap().write_all(json!(answers).to_string().as_bytes()).unwrap();
    let judged = judge.wait_with_output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
}
