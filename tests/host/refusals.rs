//! Restarts that are wanted and would not be safe.

use crate::scene::scene;
use hostagent::events;
use hostagent_lab::host::HostOptions;

fn version(version: &str) -> HostOptions {
    HostOptions { agent_version: version.into(), ..HostOptions::default() }
}

#[test]
fn versions_below_the_floor_and_known_bad_ones_name_the_upgrade() {
    for (bad, word) in [("1.25.0", "1.25.1"), ("1.44.2", "1.44.")] {
        scene(version(bad), |s| {
            s.endpoints_appear();
            s.holds_still(12, &[bad, word, "upgrade"]);
        });
    }
}

#[test]
fn an_agent_without_persisted_state_would_forget_its_tasks() {
    scene(HostOptions { persisted: false, ..HostOptions::default() }, |s| {
        s.endpoints_appear();
        s.holds_still(12, &["/data"]);
    });
}

#[test]
fn a_cluster_changed_since_the_start_would_end_the_agent() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        s.host.sh("sed -i 's/^ECS_CLUSTER=.*/ECS_CLUSTER=other/' /etc/ecs/ecs.config").ok();
        s.holds_still(12, &["other", "prod", "/etc/ecs/ecs.config"]);
    });
}

#[test]
fn a_staged_update_is_said() {
    scene(HostOptions { staged: vec!["1.106.0".into()], ..HostOptions::default() }, |s| {
        s.endpoints_appear();
        s.host.sh("cd /var/cache/ecs && ln -sf ecs-agent-v1.106.0.tar ecs-agent.tar && echo 2 > state").ok();
        s.says(10, &["check"], &["1.106.0"]);
    });
}

#[test]
fn a_task_between_states_is_waited_for_and_then_refused() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        s.host.write("/var/lib/ecs/data/tasks.json", &task("PENDING"));
        let before = s.agent();
        s.says(12, &["restart", "--wait", "1s"], &["PENDING"]);
        let [record] = &s.records(&events::REFUSED)[..] else { panic!("one record") };
        assert!(record["HOSTAGENT_WHY"].as_str().is_some_and(|why| why.contains("PENDING")), "{record}");
        assert_eq!(s.agent(), before);
        s.host.write("/var/lib/ecs/data/tasks.json", &task("RUNNING"));
        s.says(0, &["restart"], &["MOVED"]);
    });
}

fn task(known: &str) -> String {
    format!(
        r#"{{"Tasks":[{{"Arn":"arn:aws:ecs:eu-west-1:111122223333:task/prod/0123456789abcdef","DesiredStatus":"RUNNING",
        "KnownStatus":"{known}","Family":"web","Version":"7","Containers":[]}}]}}"#
    )
}

#[test]
fn an_agent_behind_a_proxy_is_said() {
    let proxy = ("HTTPS_PROXY".to_owned(), "http://198.51.100.9:3128".to_owned());
    let options = HostOptions { ecs_config: vec![proxy], await_agent: false, ..HostOptions::default() };
    scene(options, |s| {
        s.endpoints_appear();
        let text = s.host.hostagent(&["check"]).stdout;
        assert!(text.contains("198.51.100.9:3128") && text.contains("NO_PROXY"), "{text}");
    });
}
