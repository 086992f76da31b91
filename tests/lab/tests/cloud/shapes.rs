//! The answers are those of botocore's models.

use hostagent_lab::cloud::{Cloud, CloudOptions, instance_id};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Real seconds for all calls together.
const LIMIT: &str = "120";

#[test]
fn answers_have_the_shape_that_boto3_knows() {
    let python = Command::new(format!("{ROOT}/tests/python")).output().expect("tests/python runs");
    assert!(python.status.success(), "no Python with boto3: {}", String::from_utf8_lossy(&python.stderr));
    let python = String::from_utf8(python.stdout).expect("a path");
    let cloud = Cloud::start(CloudOptions { speed: 100.0, ..CloudOptions::default() }).expect("a cloud");
    cloud.fleet("prod", &["eu-west-1a", "eu-west-1b"], 51);
    cloud.change(&instance_id(1), |host| host.group = Some("hosts-a".into()));
    cloud.alarm("errors", "ALARM");
    cloud.calendar("Window", false, None);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud/shapes.py");
    let done = Command::new("timeout")
        .args([LIMIT, python.trim(), script])
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .envs(cloud.environment())
        .output()
        .expect("timeout runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
