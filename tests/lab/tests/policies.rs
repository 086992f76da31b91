//! The policies of the CloudFormation template allow what is called, and nothing else. Both are read from the files.

use regex::Regex;
use std::{collections::BTreeSet, fs, path::Path, process::Command};

type Actions = BTreeSet<String>;

/// Adapters of those who run the fleet commands; `documents` is the installer's.
const OPERATOR: [&str; 4] = ["automation", "cluster", "halt", "run_command"];
/// What IAM knows no resources for.
const OF_NO_RESOURCE: [&str; 9] = [
    // It does, for metric alarms only.
    "cloudwatch:DescribeAlarms",
    "ec2:DescribeInstances",
    "ecs:DiscoverPollEndpoint",
    "ssm:CancelCommand",
    "ssm:DescribeAutomationExecutions",
    "ssm:DescribeInstanceInformation",
    "ssm:ListAssociations",
    "ssm:ListCommandInvocations",
    "ssm:ListCommands",
];

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn template() -> String {
    text("packaging/cloudformation/hostagent.yaml")
}

fn found(pattern: &str, text: &str) -> Actions {
    let regex = Regex::new(pattern).unwrap();
    regex.captures_iter(text).map(|captures| captures[1].to_owned()).collect()
}

/// A resource of the template, from its name to the next.
fn resource(name: &str) -> String {
    let template = template();
    let from = template.find(&format!("\n  {name}:\n    Type: ")).unwrap_or_else(|| panic!("no resource {name}"));
    let body = &template[from + 1..];
    let end = Regex::new(r"\n(?:  [A-Za-z]+:|[A-Z][a-z]+:)").unwrap();
    let end = end.find(&body[2..]).map_or(body.len(), |next| next.start() + 2);
    body[..end].to_owned()
}

/// The statements of a policy, or of the policy of a role. Who may assume a role has no Sid.
fn statements(name: &str) -> Vec<String> {
    resource(name).split("- Sid: ").skip(1).map(str::to_owned).collect()
}

/// Actions that statements allow: the lists under Action, in one line or several; not the condition keys, which are quoted.
fn allowed(statements: &[String]) -> Actions {
    let pattern = r"(?m)(?:^\s+- |Action: |[\[,] ?)([a-z0-9]+:[A-Z][A-Za-z]+)\b";
    statements.iter().flat_map(|statement| found(pattern, statement)).collect()
}

/// `describe_instances` is `DescribeInstances`.
fn pascal(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// A file of Rust without its tests.
fn code(file: &str) -> String {
    text(file).split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// Operations of the SDK that a text calls on a client of the service.
fn operations(service: &str, code: &str) -> Actions {
    let client = r"(?:self\s*\.0|Client::new\(config\)|\.client\(region\)\s*\.await\?)\s*\.([a-z_]+)\(";
    found(client, code).iter().map(|name| format!("{service}:{}", pascal(name))).collect()
}

/// What the adapters call. Each call is named for its errors, too: a name without a call and a call without one are faults.
#[track_caller]
fn of_rust(files: &[&str]) -> Actions {
    let called_by = |file: &&str| {
        let code = code(file);
        let services = found(r"(?m)^use aws_sdk_([a-z]+)::", &code);
        let service = services.first().unwrap_or_else(|| panic!("{file} uses no SDK"));
        let called = operations(service, &code);
        let named = found(r#""((?:ssm|ecs|ec2|cloudwatch|sts|sns):[A-Z][A-Za-z]+)""#, &code);
        if file.ends_with("aws/host.rs") {
            // It goes through other adapters, too, and names what it asks of them.
            assert!(called.is_subset(&named), "{file}: {called:?} {named:?}");
            return named;
        }
        assert_eq!(called, named, "{file}: what it calls (left), and what its errors name (right)");
        called
    };
    files.iter().flat_map(called_by).collect()
}

/// Calls of boto3 in the runbook, and of its actions.
fn of_runbook() -> Actions {
    let text = text("packaging/ssm/HostAgent-Rollout.yaml");
    let call = Regex::new(
        r#"\b(ssm|ecs|ec2|cloudwatch|client\("(?:[a-z0-9]+)"\))\.(?:get_paginator\("([a-z_]+)"\)|([a-z]+_[a-z_]+)\()"#,
    )
    .unwrap();
    let mut called = Actions::new();
    for captures in call.captures_iter(&text) {
        let service = captures[1].trim_start_matches("client(\"").trim_end_matches("\")").to_owned();
        let name = captures.get(2).or(captures.get(3)).unwrap().as_str();
        called.insert(format!("{service}:{}", pascal(name)));
    }
    if text.contains("NotificationArn:") {
        called.insert("sns:Publish".into());
    }
    called
}

/// Who starts an execution with a role passes it on, without a call.
fn with_role(mut called: Actions) -> Actions {
    if called.contains("ssm:StartAutomationExecution") {
        called.insert("iam:PassRole".into());
    }
    called
}

/// What is wrong with a policy for somebody who makes these calls; empty when nothing is.
fn faults(statements: &[String], called: &Actions) -> Vec<String> {
    let allowed = allowed(statements);
    let missing = called.difference(&allowed).map(|action| format!("{action} is called and not allowed"));
    let idle = allowed.difference(called).map(|action| format!("{action} is allowed and not called"));
    let mut faults: Vec<String> = missing.chain(idle).collect();
    for statement in statements {
        let everywhere = statement.contains("Resource: '*'");
        for action in self::allowed(std::slice::from_ref(statement)) {
            if everywhere && !OF_NO_RESOURCE.contains(&action.as_str()) {
                faults.push(format!("{action} is allowed on everything"));
            }
        }
        let handed_on = statement.contains(":role/HostAgent-Rollout\n")
            && statement.contains("'iam:PassedToService': ssm.amazonaws.com");
        if statement.contains("iam:PassRole") && !handed_on {
            faults.push("iam:PassRole is allowed for more than the runbook's role, or to others than SSM".into());
        }
    }
    faults
}

#[track_caller]
fn fits(policy: &str, called: &Actions) {
    let statements = statements(policy);
    let faults = faults(&statements, called);
    assert!(faults.is_empty(), "{policy}: {faults:#?}");
    // It would be seen, were any of it missing or too much.
    for one in called {
        let mut fewer = called.clone();
        fewer.remove(one);
        assert_eq!(self::faults(&statements, &fewer), [format!("{one} is allowed and not called")]);
    }
    let more = called.iter().cloned().chain(["ssm:ResetServiceSetting".to_owned()]).collect();
    assert_eq!(self::faults(&statements, &more), ["ssm:ResetServiceSetting is called and not allowed"]);
}

#[test]
fn hosts_may_do_what_they_do() {
    fits("HostPolicy", &with_role(of_rust(&["src/ports/aws/host.rs", "src/ports/ecs.rs"])));
}

#[test]
fn installers_may_do_what_install_and_uninstall_do() {
    fits("InstallerPolicy", &of_rust(&["src/ports/aws/documents.rs"]));
}

#[test]
fn operators_may_do_what_the_other_fleet_commands_do() {
    let files = OPERATOR.map(|name| format!("src/ports/aws/{name}.rs"));
    fits("OperatorPolicy", &with_role(of_rust(&files.each_ref().map(String::as_str))));
}

#[test]
fn no_adapter_and_no_call_goes_unseen() {
    let there: BTreeSet<String> = fs::read_dir(root().join("src/ports/aws"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // Of "identity": who asks may always be asked for, and no policy has to allow it.
    let known =
        OPERATOR.iter().chain(&["documents", "host", "identity", "mod"]).map(|name| format!("{name}.rs")).collect();
    assert_eq!(there, known);
    // A request that is sent is one that was found. What `fleet install` sends goes through one adapter.
    let sent = |code: &str| code.matches(".send()").count();
    let client = Regex::new(r"self\s*\.0\s*\.[a-z_]+\(").unwrap();
    for name in OPERATOR.iter().chain(&["documents"]) {
        let code = code(&format!("src/ports/aws/{name}.rs"));
        assert_eq!(sent(&code), client.find_iter(&code).count(), "{name}: requests sent, and calls that were found");
    }
    let installs = code("src/cli/fleet/documents.rs");
    let others = found(r"cloud\s*\.(automation|brakes|clusters|run_command)\b", &installs);
    assert!(others.is_empty(), "install needs more than the installer may: {others:?}");
}

#[test]
fn approvers_may_look_and_approve() {
    let automation = code("src/ports/aws/automation.rs");
    // As `fleet follow` looks.
    let looks = ["execution", "executions"].iter().flat_map(|name| {
        let from = automation.find(&format!("pub async fn {name}(")).unwrap_or_else(|| panic!("no {name}"));
        let body = &automation[from..];
        operations("ssm", &body[..body.find("\n    }\n").unwrap()])
    });
    let mut called: Actions = looks.collect();
    if text("packaging/ssm/HostAgent-Rollout.yaml").contains("action: aws:approve") {
        called.insert("ssm:SendAutomationSignal".into());
    }
    fits("ApproverPolicy", &called);
}

#[test]
fn a_rollout_may_do_what_it_does() {
    let called = of_runbook();
    assert!(called.len() > 10, "the calls are not found: {called:?}");
    fits("AutomationRole", &called);
    let role = resource("AutomationRole");
    assert!(role.contains("RoleName: HostAgent-Rollout"), "{role}");
    assert!(role.contains("StringEquals: {'aws:SourceAccount': !Ref AWS::AccountId}"), "{role}");
}

#[test]
fn a_policy_that_is_too_wide_is_found() {
    let wide = |body: &str| faults(&[body.to_owned()], &allowed(&[body.to_owned()]));
    let everywhere = "Send\n  Action: ssm:SendCommand\n  Resource: '*'\n";
    assert_eq!(wide(everywhere), ["ssm:SendCommand is allowed on everything"]);
    let any_role = "Role\n  Action: iam:PassRole\n  Resource: !Sub arn:aws:iam::1:role/*\n";
    assert_eq!(wide(any_role).len(), 1);
}

#[test]
fn the_documents_of_the_stack_are_those_of_packaging() {
    let template = template();
    let mut files: Vec<String> = fs::read_dir(root().join("packaging/ssm"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let included = found(r"AWS::Include, Parameters: \{Location: \.\./ssm/([A-Za-z-]+\.yaml)\}", &template);
    assert_eq!(included.into_iter().collect::<Vec<_>>(), files);
    // What AWS::Include would take for its own.
    let own = Regex::new(r"(?m)^\s*(?:- )?['\x22]?(?:Ref|Fn::[A-Za-z]+|Condition)['\x22]?:|: ![A-Z]").unwrap();
    for file in files {
        let name = file.trim_end_matches(".yaml");
        let document = resource(&format!("{}Document", name.trim_start_matches("HostAgent-")));
        assert!(document.contains(&format!("Name: {name}\n")) && document.contains(&file), "{document}");
        let content = text(&format!("packaging/ssm/{file}"));
        let kind = if content.starts_with("schemaVersion: '0.3'") { "Automation" } else { "Command" };
        assert!(document.contains(&format!("DocumentType: {kind}\n")), "{document}");
        assert!(own.find(&content).is_none(), "{file}: {:?}", own.find(&content));
    }
}

#[test]
fn both_scheduled_checks_are_the_same() {
    let program = code("src/cli/fleet/documents.rs");
    let constant = |name: &str| found(&format!(r#"const {name}: &str = "([^"]+)";"#), &program).pop_first().unwrap();
    let association = resource("ScheduledCheck");
    for line in [
        format!("MaxConcurrency: {}\n", constant("AT_ONCE")),
        format!("MaxErrors: {}\n", constant("ERRORS")),
        "Parameters: {Strict: ['yes']}\n".to_owned(),
    ] {
        assert!(association.contains(&line), "{line}{association}");
    }
    assert!(program.contains(r#"("Strict".to_owned(), vec!["yes".to_owned()])"#));
}

#[test]
fn the_template_has_no_fault_that_cfn_lint_knows() {
    let python = Command::new(root().join("tests/python")).output().expect("run tests/python");
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let lint = Path::new(String::from_utf8_lossy(&python.stdout).trim_end()).with_file_name("cfn-lint");
    let linted =
        Command::new(lint).arg(root().join("packaging/cloudformation/hostagent.yaml")).output().expect("run cfn-lint");
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
}
