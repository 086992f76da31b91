//! A real host in the cloud.

use crate::{Lab, SOON};
use hostagent_lab::{
    cloud::{Cloud, CloudOptions, Event},
    host::{HostOptions, on_host},
};
use serde_json::json;

#[test]
fn a_real_host_runs_documents_as_the_ssm_agent_does() {
    let id = "i-0f00dfacade000001";
    let options = HostOptions { instance_id: id.into(), ..HostOptions::default() };
    on_host(options, |host| {
        let cloud = Cloud::start(CloudOptions::default()).expect("a cloud");
        cloud.attach(host, "eu-west-1a", "prod").expect("it is attached");
        let lab = Lab { client: cloud.client(), cloud };
        lab.cloud
            .wait_for(SOON, |event| matches!(event, Event::RestartEnded { ok: true, .. }))
            .expect("it is connected");
        let connected = || lab.cloud.host(id).expect("the host").agent_connected;
        assert!(connected());

        let steps = json!([
            {"action": "aws:runShellScript", "name": "first", "inputs": {"runCommand": [
                "echo \"$AWS_SSM_INSTANCE_ID $AWS_SSM_REGION_NAME\"; hostagent --format ssm check; echo \"$? {{ Word }}\"",
            ]}},
            {"action": "aws:runShellScript", "name": "second", "inputs": {"timeoutSeconds": "1", "runCommand": [
                "setsid sh -c 'while [ ! -e /tmp/go ]; do sleep 0.1; done; touch /tmp/lived' >/dev/null 2>&1 &", "echo begun; sleep 60",
            ]}},
        ]);
        let parameters = json!({"Word": {"type": "String", "default": "none", "interpolationType": "ENV_VAR"}});
        let content = json!({"schemaVersion": "2.2", "parameters": parameters, "mainSteps": steps}).to_string();
        lab.ok("CreateDocument", json!({"Name": "Both", "Content": content}));
        let word = "$(touch /tmp/injected) 'é'\n`id`";
        let sent = lab.send("Both", json!({"InstanceIds": [id], "Parameters": {"Word": [word]}}));
        lab.ended(&sent, 1);
        let get = |plugin: &str| {
            let input = json!({"CommandId": sent, "InstanceId": id, "PluginName": plugin});
            while lab.client.ssm("GetCommandInvocation", &input).is_err() {
                std::thread::yield_now();
            }
            lab.ok("GetCommandInvocation", input)
        };
        let first = get("first");
        let output = first["StandardOutputContent"].as_str().expect("output");
        assert!(output.starts_with(&format!("{id} eu-west-1\n")), "{output}");
        assert!(
            output.contains("\"schema\":\"hostagent/check/1\"") && output.ends_with(&format!("{word}\n")),
            "{output}"
        );
        let second = get("second");
        assert_eq!(
            (&second["StatusDetails"], &second["StandardOutputContent"]),
            (&json!("ExecutionTimedOut"), &json!("begun\n"))
        );
        assert_eq!(lab.details(&sent), ["ExecutionTimedOut"], "of the whole");
        host.sh("touch /tmp/go").ok();
        host.sh("timeout 10 sh -c 'while [ ! -e /tmp/lived ]; do sleep 0.1; done'").ok();
        assert!(!host.sh("test -e /tmp/injected").success(), "the value is text");

        let steps = json!([{"action": "aws:runShellScript", "name": "slow", "inputs": {"runCommand": ["sleep 611"]}}]);
        let content = json!({"schemaVersion": "2.2", "mainSteps": steps}).to_string();
        lab.ok("CreateDocument", json!({"Name": "Slow", "Content": content}));
        let slow = lab.send("Slow", json!({"InstanceIds": [id]}));
        host.sh("timeout 20 sh -c 'until pgrep -fx \"sleep 611\"; do sleep 0.1; done'").ok();
        lab.ok("CancelCommand", json!({"CommandId": slow}));
        lab.ended(&slow, 1);
        host.sh("timeout 20 sh -c 'while pgrep -fx \"sleep 611\"; do sleep 0.1; done'").ok();

        host.exec(&["systemctl", "stop", "ecs"]).ok();
        lab.cloud.wait_for(SOON, |event| matches!(event, Event::RestartBegan { .. })).expect("it is gone");
        assert!(!connected());
    });
}
