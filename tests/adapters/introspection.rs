//! The introspection adapter against what an agent, and what is none, may answer.

use crate::support::{AMPLE, SHORT, answering, closed_port, serve, silent};
use axum::{Router, http::StatusCode, routing::get};
use hostagent::{
    facts::{Introspection, Missing, Task},
    ports::{Introspect, introspection::AgentIntrospection},
};

const ARN: &str = "arn:aws:ecs:eu-west-1:111122223333:container-instance/prod/0123";

async fn agent(metadata: &'static str, tasks: &'static str) -> AgentIntrospection {
    let routes =
        Router::new().route("/v1/metadata", get(async move || metadata)).route("/v1/tasks", get(async move || tasks));
    AgentIntrospection::new(&serve(routes).await, AMPLE)
}

fn text<T: std::fmt::Debug>(result: Result<T, Missing>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn a_registered_agent() {
    let agent = agent(
        r#"{"Cluster":"prod","ContainerInstanceArn":"arn:aws:ecs:eu-west-1:111122223333:container-instance/prod/0123",
            "Version":"Amazon ECS Agent - v1.105.1 (*a8b3e7d3)"}"#,
        r#"{"Tasks":[{"Arn":"arn:t1","DesiredStatus":"RUNNING","KnownStatus":"PENDING","Family":"f","Version":"1",
             "Containers":[{"DockerId":"abc","DockerName":"n","Name":"web","Ports":[]},{"DockerId":"","Name":"x"}]},
            {"Arn":"arn:t2","KnownStatus":"RUNNING","Family":"f","Version":"1","Containers":null}]}"#,
    )
    .await;
    let expected = Introspection {
        cluster: "prod".into(),
        container_instance_arn: Some(ARN.into()),
        version: "Amazon ECS Agent - v1.105.1 (*a8b3e7d3)".into(),
    };
    assert_eq!(agent.metadata().await.unwrap(), expected);
    let task = |arn: &str, desired: Option<&str>, known: &str, containers: &[&str]| Task {
        arn: arn.into(),
        desired_status: desired.map(Into::into),
        known_status: known.into(),
        containers: containers.iter().map(|id| id.to_string()).collect(),
    };
    let expected = [task("arn:t1", Some("RUNNING"), "PENDING", &["abc"]), task("arn:t2", None, "RUNNING", &[])];
    assert_eq!(agent.tasks().await.unwrap(), expected);
}

#[tokio::test]
async fn an_agent_that_has_not_registered_and_has_no_tasks() {
    for metadata in [
        r#"{"Cluster":"prod","ContainerInstanceArn":null,"Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}"#,
        r#"{"Cluster":"prod","ContainerInstanceArn":"","Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}"#,
    ] {
        let agent = agent(metadata, r#"{"Tasks":null}"#).await;
        assert_eq!(agent.metadata().await.unwrap().container_instance_arn, None);
        assert_eq!(agent.tasks().await.unwrap(), []);
    }
}

#[tokio::test]
async fn what_is_no_answer_of_an_agent_is_quoted() {
    for (answer, part) in [
        ("<html>hello</html>", "\"<html>hello</html>\""),
        ("{}", "missing field `Cluster`"),
        (r#"{"Cluster":7,"Version":""}"#, "invalid type"),
        ("", "EOF"),
    ] {
        let why = text(agent(answer, "").await.metadata().await);
        assert!(why.contains("the answer is not the JSON expected") && why.contains(part), "{why}");
    }
    for tasks in ["{}", "[]", r#"{"Tasks":[{"Arn":"a"}]}"#, r#"{"Tasks":[{"KnownStatus":"RUNNING"}]}"#] {
        let why = text(agent("", tasks).await.tasks().await);
        assert!(why.contains("/v1/tasks: the answer is not the JSON expected"), "{tasks}: {why}");
    }
}

#[tokio::test]
async fn statuses_and_silence_are_told_apart() {
    let failing = Router::new().fallback(async || (StatusCode::INTERNAL_SERVER_ERROR, "{\"Cluster\":\"\"}"));
    let base = serve(failing).await;
    let why = text(AgentIntrospection::new(&base, AMPLE).metadata().await);
    assert!(why.starts_with(&format!("agent introspection {base}/v1/metadata: the answer is 500 Internal")), "{why}");

    let endless = Router::new().fallback(async || "x".repeat(9 << 20));
    let why = text(AgentIntrospection::new(&serve(endless).await, AMPLE).tasks().await);
    assert!(why.contains("the answer is longer than 8388608 bytes"), "{why}");

    let at = |addr| AgentIntrospection::new(&format!("http://{addr}/"), SHORT);
    let why = text(at(closed_port()).metadata().await);
    assert!(why.contains("connection refused (the server opens once the agent has registered)"), "{why}");
    let why = text(at(silent().await).metadata().await);
    assert!(why.contains("no answer within 300 ms"), "{why}");
    let why = text(at(answering(b"SSH-2.0-OpenSSH_9.2\r\n").await).metadata().await);
    assert!(why.contains("does not speak HTTP"), "{why}");
    let why = text(at(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{").await).metadata().await);
    assert!(why.contains("no answer within 300 ms"), "{why}");
    let why = text(AgentIntrospection::new("https://127.0.0.1", SHORT).metadata().await);
    assert!(why.contains("correct agent.introspection"), "{why}");
}
