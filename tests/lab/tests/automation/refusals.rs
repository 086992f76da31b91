//! What is refused when a runbook is made or started.

use crate::support::{cloud, create, document, ssm, start};
use serde_json::json;

const GOOD: &str = "
schemaVersion: '0.3'
parameters:
  Name: {type: String, default: a, allowedPattern: '^[a-z]{1,9}$'}
  Role: {type: 'AWS::IAM::Role::Arn', default: 'arn:aws:iam::111122223333:role/HostAgent-Rollout'}
variables:
  Kept: {type: String, default: ''}
outputs:
- First.Out
mainSteps:
- name: First
  action: aws:executeScript
  inputs:
    Runtime: python3.11
    Handler: handler
    InputPayload: {Name: '{{ Name }}', Kept: '{{ variable:Kept }}', Id: '{{ automation:EXECUTION_ID }}'}
    Script: |-
      def handler(event, context):
          return {'Out': event['Name']}
  outputs:
  - {Name: Out, Selector: $.Payload.Out, Type: String}
- name: Second
  action: aws:sleep
  inputs: {Duration: PT1S}
";

#[test]
fn a_runbook_with_anything_that_is_not_known_is_refused() {
    let cloud = cloud(1.0);
    create(&cloud, "good", "Automation", GOOD).unwrap();
    for (part, instead, why) in [
        ("aws:sleep", "aws:nap", "action aws:nap is not known"),
        ("Duration: PT1S", "Duration: PT1S, Timestamp: x", "Duration or Timestamp"),
        ("Duration: PT1S", "Length: PT1S", "Length is not known"),
        ("'{{ Name }}'", "'{{ Nome }}'", "not defined"),
        ("{{ variable:Kept }}", "{{ variable:Lost }}", "not defined"),
        ("{{ automation:EXECUTION_ID }}", "{{ automation:ID }}", "refers to nothing"),
        ("- First.Out", "- First.Other", "not defined"),
        ("- First.Out", "- Third.Out", "not defined"),
        ("python3.11", "python2.7", "Runtime"),
        ("$.Payload.Out", "$.Payload-Out", "not understood"),
        ("Type: String}\n- name", "Type: Text}\n- name", "type"),
        ("name: Second", "name: First", "twice"),
        ("name: Second", "name: Second\n  nextStep: Third", "no step Third"),
        ("name: Second", "name: Second\n  onFailure: step:Third", "no step Third"),
        ("name: Second", "name: Second\n  onFailure: Retry", "onFailure cannot be"),
        ("name: Second", "name: Second\n  retries: 3", "retries is not known"),
        ("name: First", "name: First\n  onCancel: step:Second", "onCancel is not supported"),
        ("name: First", "name: First\n  timeoutSeconds: 601", "600 seconds"),
        ("    Handler: handler\n", "", "Handler is missing"),
        ("default: ''}", "default: 1}", "not of type"),
        ("default: a,", "default: A,", "does not match"),
        ("variables:", "variable:", "variable is not known"),
        ("return {'Out': event['Name']}", "return f'{{x y}}'", "refers to nothing"),
    ] {
        assert!(GOOD.contains(part), "{part}");
        let error = create(&cloud, "wrong", "Automation", &GOOD.replacen(part, instead, 1)).unwrap_err();
        assert_eq!(error.kind, "InvalidDocumentContent", "{instead}");
        assert!(error.message.contains(why), "{instead}: {}", error.message);
    }
}

#[test]
fn a_loop_takes_one_kind_of_condition_and_a_hundred_iterations_at_most() {
    let cloud = cloud(1.0);
    let with = |inputs: &str| {
        let steps = "Steps: [{name: Inner, action: 'aws:sleep', inputs: {Duration: PT1S}}]";
        let text = format!(
            "schemaVersion: '0.3'\nparameters:\n  Hosts: {{type: StringList, default: []}}\nmainSteps:\n- name: Round\n  \
             action: aws:loop\n  inputs: {{{steps}, {inputs}}}\n"
        );
        create(&cloud, &format!("loop-{}", inputs.len()), "Automation", &text)
    };
    with("Iterators: '{{ Hosts }}', IteratorDataType: String").unwrap();
    with("LoopCondition: {Variable: '{{ automation:EXECUTION_ID }}', StringEquals: x}, MaxIterations: 100").unwrap();
    for wrong in [
        "MaxIterations: 3",
        "Iterators: '{{ Hosts }}', LoopCondition: {Variable: x, StringEquals: x}",
        "LoopCondition: {Variable: x, StringEquals: x}, MaxIterations: 101",
        "LoopCondition: {Variable: x, Equals: x}",
        "LoopCondition: {Variable: x}",
        "LoopCondition: {Variable: '{{ Inner.Out }}', StringEquals: x}",
    ] {
        assert_eq!(with(wrong).unwrap_err().kind, "InvalidDocumentContent", "{wrong}");
    }
}

#[test]
fn hostagents_documents_are_taken() {
    let cloud = cloud(1.0);
    for name in ["HostAgent-Check", "HostAgent-Restart", "HostAgent-Install"] {
        create(&cloud, name, "Command", &document(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    create(&cloud, "HostAgent-Rollout", "Automation", &document("HostAgent-Rollout")).unwrap();
}

#[test]
fn a_start_is_refused_for_parameters_that_may_not_be() {
    let cloud = cloud(1.0);
    create(&cloud, "good", "Automation", GOOD).unwrap();
    for (parameters, kind) in [
        (json!({"Other": ["a"]}), "InvalidAutomationExecutionParametersException"),
        (json!({"Name": ["A"]}), "InvalidAutomationExecutionParametersException"),
        (json!({"Name": ["a", "b"]}), "InvalidAutomationExecutionParametersException"),
        (json!({"Name": [""]}), "ValidationException"),
        (json!({"Name": ["a".repeat(513)]}), "ValidationException"),
        (json!({"Role": ["engineer"]}), "InvalidAutomationExecutionParametersException"),
    ] {
        let input = json!({"DocumentName": "good", "Parameters": parameters});
        assert_eq!(ssm(&cloud, "StartAutomationExecution", input).unwrap_err().kind, kind, "{parameters}");
    }
    let unknown = ssm(&cloud, "StartAutomationExecution", json!({"DocumentName": "no-such"})).unwrap_err();
    assert_eq!(unknown.kind, "AutomationDefinitionNotFoundException");
    let version = json!({"DocumentName": "good", "DocumentVersion": "7"});
    let unknown = ssm(&cloud, "StartAutomationExecution", version).unwrap_err();
    assert_eq!(unknown.kind, "AutomationDefinitionVersionNotFoundException");
}

#[test]
fn a_client_token_starts_one_execution_and_is_for_the_same_parameters() {
    let cloud = cloud(1.0);
    create(&cloud, "good", "Automation", GOOD).unwrap();
    let token = "0d9b4a8e-3a52-4c7e-9c58-2f1f4b6f7a01";
    let with = |name: &str| {
        let input = json!({"DocumentName": "good", "Parameters": {"Name": [name]}, "ClientToken": token});
        ssm(&cloud, "StartAutomationExecution", input)
    };
    assert_eq!(with("a").unwrap(), with("a").unwrap());
    assert_eq!(with("b").unwrap_err().kind, "IdempotentParameterMismatch");
    assert_ne!(with("a").unwrap()["AutomationExecutionId"], start(&cloud, "good", json!({})));
    let short = json!({"DocumentName": "good", "ClientToken": "short"});
    assert_eq!(ssm(&cloud, "StartAutomationExecution", short).unwrap_err().kind, "ValidationException");
}
