//! The component for EC2 Image Builder, held against the documented schema, and the script in it.
//!
//! Schema and limits: the user guide's "Use the AWSTOE component document framework for custom components", "Action
//! modules supported by AWSTOE component manager" and "Use variables in your custom component document", and the API
//! reference of CreateComponent.

use serde_json::{Value, from_slice, json};
use std::{
    collections::BTreeSet,
    env,
    io::Write,
    process::{Command, Stdio},
    thread,
};

const COMPONENT: &str = include_str!("../packaging/image-builder/hostagent.yml");
const SCRIPT: &str = include_str!("../packaging/packer/hostagent.sh");

/// Gives `input` to a program from Debian, and what it printed; `None` where it was asked for no host tests and it is
/// not there.
fn given(program: &[&str], package: &str, input: &str) -> Option<Vec<u8>> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let found = command.spawn().map(|mut child| {
        // One that ends before it has read all says why by its exit code.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    });
    match found {
        Ok(output) if output.status.code() != Some(NOT_THERE) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            Some(output.stdout)
        }
        _ if env::var("HOSTAGENT_TESTS").is_ok_and(|choice| choice == "no-host") => {
            let name = thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(std::io::stderr(), "left out because HOSTAGENT_TESTS=no-host: {name}");
            None
        }
        _ => panic!("no {}: apt-get install {package} (tests/run does, as root)", program[0]),
    }
}

/// The exit code of [`YAML`] where Python has no PyYAML.
const NOT_THERE: i32 = 69;
const YAML: &str = "\
import json, sys
try:
    import yaml
except ImportError:
    sys.exit(69)
print(json.dumps(yaml.safe_load(sys.stdin)))
";

fn component() -> Option<Value> {
    given(&["/usr/bin/python3", "-c", YAML], "python3-yaml", COMPONENT).map(|json| from_slice(&json).unwrap())
}

#[track_caller]
fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[track_caller]
fn keys(value: &Value, allowed: &[&str]) {
    for key in value.as_object().unwrap_or_else(|| panic!("no mapping: {value}")).keys() {
        assert!(allowed.contains(&key.as_str()), "the key {key} of {value}");
    }
}

/// Names that are there, each once.
#[track_caller]
fn names(items: &[Value]) -> BTreeSet<&str> {
    let names: BTreeSet<&str> = items.iter().map(|item| text(&item["name"])).collect();
    assert_eq!(names.len(), items.len(), "a name twice");
    names
}

/// The parameters' names.
fn parameters(component: &Value) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for parameter in list(&component["parameters"]) {
        let [(name, is)] = parameter.as_object().unwrap().iter().collect::<Vec<_>>()[..] else { panic!("{parameter}") };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!((3..=128).contains(&name.len()) && name.chars().all(fits), "{name}");
        // Without a default a recipe has to give it.
        keys(is, &["type", "description"]);
        assert_eq!(is["type"], "string");
        assert!(names.insert(name.as_str()), "{name} twice");
    }
    names
}

fn check_step(step: &Value) {
    keys(step, &["name", "action", "timeoutSeconds", "onFailure", "maxAttempts", "inputs"]);
    assert!(step["timeoutSeconds"].is_null() || step["timeoutSeconds"].as_u64() > Some(0), "{step}");
    let inputs = &step["inputs"];
    match text(&step["action"]) {
        "ExecuteBash" => {
            keys(inputs, &["commands"]);
            assert!(list(&inputs["commands"]).iter().all(|command| !text(command).is_empty()));
        }
        "CreateFile" => {
            for file in list(inputs) {
                keys(file, &["path", "content", "encoding", "owner", "group", "permissions", "overwrite"]);
                assert!(text(&file["path"]).starts_with('/'));
            }
        }
        "DeleteFile" => {
            for file in list(inputs) {
                keys(file, &["path"]);
                assert!(text(&file["path"]).starts_with('/'));
            }
        }
        other => panic!("the action {other}"),
    }
}

#[test]
fn the_component_is_of_the_documented_schema() {
    // `data` of CreateComponent; beyond it a component has to be uploaded to S3 first.
    assert!(COMPONENT.len() <= 16_000, "{} bytes", COMPONENT.len());
    let Some(component) = component() else { return };
    keys(&component, &["name", "description", "schemaVersion", "parameters", "constants", "phases"]);
    assert_eq!(component["schemaVersion"], json!(1.0));
    let phases = list(&component["phases"]);
    assert_eq!(names(phases), BTreeSet::from(["build", "test", "validate"]));
    for phase in phases {
        keys(phase, &["name", "steps"]);
        names(list(&phase["steps"]));
        list(&phase["steps"]).iter().for_each(check_step);
    }
    // Whatever stands in double braces is replaced.
    let used: BTreeSet<&str> =
        COMPONENT.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().trim()).collect();
    assert_eq!(used, parameters(&component));
    assert_eq!(used, BTreeSet::from(["PackageSha256", "PackageUrl"]));
}

#[test]
fn the_components_script_is_packers() {
    let Some(component) = component() else { return };
    let script = text(&component["phases"][0]["steps"][0]["inputs"][0]["content"]);
    assert_eq!(
        script, SCRIPT,
        "put packaging/packer/hostagent.sh into the component, indented as what is there now: \
         sed 's/^./              &/' packaging/packer/hostagent.sh"
    );
}

#[test]
fn shellcheck_finds_nothing() {
    given(&["shellcheck", "--shell=sh", "-"], "shellcheck", SCRIPT);
}
