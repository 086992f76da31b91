//! The test cloud answers as the services do, and is as slow, as late and as strict as they are.

mod commands;
mod real;
mod services;
mod shapes;

use hostagent_lab::cloud::{Cloud, CloudOptions, Event, client::Client};
use serde_json::{Value, json};
use std::time::Duration;

/// Real time for what has to happen within simulated minutes.
const SOON: Duration = Duration::from_secs(60);
const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];

const DOCUMENT: &str = "
schemaVersion: '2.2'
description: looks
parameters:
  Strict:
    type: String
    default: 'no'
    allowedValues: ['no', 'yes']
    interpolationType: ENV_VAR
  Wait:
    type: String
    default: 5m
    allowedPattern: '^[0-9]{1,4}[smh]$'
mainSteps:
  - action: aws:runShellScript
    name: look
    inputs:
      timeoutSeconds: '600'
      runCommand: ['echo {{ Wait }}']
";

struct Lab {
    cloud: Cloud,
    client: Client,
}

impl Lab {
    fn with(hosts: usize) -> Self {
        let cloud = Cloud::start(CloudOptions { speed: 200.0, rates: Vec::new(), ..CloudOptions::default() });
        let cloud = cloud.expect("a cloud");
        cloud.fleet("prod", &ZONES, hosts);
        let lab = Self { client: cloud.client(), cloud };
        for name in ["HostAgent-Check", "HostAgent-Restart"] {
            lab.ok("CreateDocument", json!({"Name": name, "Content": DOCUMENT, "DocumentFormat": "YAML"}));
        }
        lab
    }

    #[track_caller]
    fn ok(&self, action: &str, input: Value) -> Value {
        match self.client.ssm(action, &input) {
            Ok(output) => output,
            Err(error) => panic!("{action} {input}: {error}"),
        }
    }

    #[track_caller]
    fn refused(&self, action: &str, input: Value) -> String {
        match self.client.ssm(action, &input) {
            Ok(output) => panic!("{action} {input} was answered: {output}"),
            Err(error) => error.kind,
        }
    }

    /// Sends a command; its ID.
    #[track_caller]
    fn send(&self, document: &str, more: Value) -> String {
        let mut input = json!({"DocumentName": document});
        for (name, value) in more.as_object().into_iter().flatten() {
            input[name] = value.clone();
        }
        let id = self.ok("SendCommand", input)["Command"]["CommandId"].as_str().expect("an ID").to_owned();
        assert_eq!(id.len(), 36);
        id
    }

    /// Waits until the command has ended on `hosts` hosts.
    #[track_caller]
    fn ended(&self, id: &str, hosts: usize) {
        let mut count = 0;
        let done = self.cloud.wait_for(SOON, |event| {
            count += usize::from(matches!(event, Event::Ended { command, .. } if command == id));
            count == hosts
        });
        done.expect("an end");
    }

    /// All invocations of a command, page by page.
    fn invocations(&self, id: &str) -> Vec<Value> {
        let (mut all, mut token) = (Vec::new(), Value::Null);
        loop {
            let page = self.ok("ListCommandInvocations", json!({"CommandId": id, "Details": true, "NextToken": token}));
            all.extend(page["CommandInvocations"].as_array().cloned().unwrap_or_default());
            token = page["NextToken"].clone();
            if token.is_null() {
                return all;
            }
        }
    }

    fn details(&self, id: &str) -> Vec<String> {
        let text = |of: &Value| of["StatusDetails"].as_str().unwrap_or_default().to_owned();
        self.invocations(id).iter().map(text).collect()
    }

    fn command(&self, id: &str) -> Value {
        self.ok("ListCommands", json!({"CommandId": id}))["Commands"][0].clone()
    }

    /// Most hosts that had the command at one time.
    fn most_at_once(&self, id: &str) -> usize {
        let (mut now, mut most) = (0_usize, 0);
        for event in self.cloud.log() {
            match event {
                Event::Delivered { command, .. } if command == id => now += 1,
                Event::Ended { command, .. } if command == id => now -= 1,
                _ => continue,
            }
            most = most.max(now);
        }
        most
    }
}
