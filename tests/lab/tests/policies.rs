//! The policies of the CloudFormation template allow what is called, and nothing else. Both are read from the files.

use regex::Regex;
use std::{collections::BTreeSet, fs, path::Path, process::Command};

type Actions = BTreeSet<String>;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn found(pattern: &str, text: &str) -> Actions {
    let regex = Regex::new(pattern).unwrap();
    regex.captures_iter(text).map(|captures| captures[1].to_owned()).collect()
}

/// Actions that a resource of the template allows.
fn allowed(resource: &str) -> Actions {
    let template = text("packaging/cloudformation/hostagent.yaml");
    let from = template.find(&format!("\n  {resource}:\n    Type: AWS::IAM::")).expect("the resource");
    let body = &template[from + 1..];
    let end = Regex::new(r"\n  [A-Za-z]+:\n").unwrap().find(&body[2..]).map_or(body.len(), |next| next.start() + 2);
    // The lists under Action, in one line or several; not the condition keys, which are quoted. Who may assume the role comes first.
    let permissions = body[..end]
        .split_once("Statement:\n        - Sid")
        .or_else(|| body[..end].split_once("Policies:"))
        .expect("statements")
        .1;
    found(r"(?m)(?:^\s+- |Action: |[\[,] ?)([a-z0-9]+:[A-Z][A-Za-z]+)\b", permissions)
}

/// Actions that Rust code names: every call names its own, for its errors.
fn of_rust(files: &[&str]) -> Actions {
    let called = files.iter().flat_map(|file| {
        let text = text(file);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        found(r#""((?:ssm|ecs|ec2|cloudwatch|sts|sns):[A-Z][A-Za-z]+)""#, code)
    });
    called.collect()
}

/// `describe_instances` is `DescribeInstances`.
fn pascal(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
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

#[track_caller]
fn same(policy: &str, called: &Actions) {
    let allowed = allowed(policy);
    let missing: Vec<_> = called.difference(&allowed).collect();
    let idle: Vec<_> = allowed.difference(called).collect();
    assert!(
        missing.is_empty() && idle.is_empty(),
        "{policy}: called and not allowed {missing:?}; allowed and not called {idle:?}"
    );
}

#[test]
fn hosts_may_do_what_they_do() {
    same("HostPolicy", &with_role(of_rust(&["src/ports/aws/host.rs", "src/ports/ecs.rs"])));
}

#[test]
fn operators_may_do_what_the_fleet_commands_do() {
    let adapters = ["automation", "cluster", "documents", "halt", "run_command"];
    let files = adapters.map(|name| format!("src/ports/aws/{name}.rs"));
    same("OperatorPolicy", &with_role(of_rust(&files.each_ref().map(String::as_str))));
    // No adapter goes unseen.
    let there: BTreeSet<String> = fs::read_dir(root().join("src/ports/aws"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // Of "identity": who asks may always be asked for, and no policy has to allow it.
    let known: BTreeSet<String> =
        adapters.iter().chain(["host", "identity", "mod"].iter()).map(|name| format!("{name}.rs")).collect();
    assert_eq!(there, known);
}

#[test]
fn a_rollout_may_do_what_it_does() {
    let called = of_runbook();
    assert!(called.len() > 10, "the calls are not found: {called:?}");
    same("AutomationRole", &called);
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
