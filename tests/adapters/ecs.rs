//! The control plane's adapter, in a process of its own: the SDK reads its environment.

use crate::support::{AMPLE, SHORT, again, closed_port, report, reported, serve, silent};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use hostagent::ports::{ControlPlane, ecs::EcsControlPlane};
use std::{
    env,
    sync::{Arc, Mutex},
    time::Duration,
};

const PLACE: [&str; 3] = ["eu-west-1", "prod", "arn:aws:ecs:eu-west-1:111122223333:container-instance/prod/0123"];

#[derive(Clone)]
struct Fake {
    status: u16,
    body: String,
    asked: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

async fn answer(State(fake): State<Fake>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let text = match path.as_str() {
        "/latest/api/token" if fake.status == 0 => return StatusCode::FORBIDDEN.into_response(),
        "/latest/api/token" => {
            return ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "token").into_response();
        }
        path if path.ends_with("/security-credentials/") => "role".into(),
        path if path.ends_with("/security-credentials/role") => {
            r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAROLE","SecretAccessKey":"s","Token":"t",
                "LastUpdated":"2026-01-01T00:00:00Z","Expiration":"2199-01-01T00:00:00Z"}"#
                .into()
        }
        "/" => {
            fake.asked.lock().unwrap().push((parts.headers, String::from_utf8_lossy(&body).into_owned()));
            return (StatusCode::from_u16(fake.status).unwrap(), fake.body).into_response();
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let text: String = text;
    text.into_response()
}

/// Asks an endpoint that answers so; credentials come from the metadata service at `imds`, or are there already.
async fn discover(status: u16, body: &str, imds: Option<&str>) -> (String, Vec<(HeaderMap, String)>) {
    let fake = Fake { status, body: body.to_owned(), asked: Arc::default() };
    let base = serve(Router::new().fallback(answer).with_state(fake.clone())).await;
    let said = discover_at(&base, imds.map(|imds| if imds.is_empty() { &base } else { imds }), AMPLE).await;
    let asked = fake.asked.lock().unwrap().clone();
    (said, asked)
}

async fn discover_at(endpoint: &str, imds: Option<&str>, deadline: Duration) -> String {
    let mut child = again("ecs::ask_in_another_environment");
    child.env_clear().env("HOME", "/nonexistent").env("AWS_ENDPOINT_URL", endpoint);
    child.env("DEADLINE", deadline.as_millis().to_string());
    match imds {
        Some(imds) => child.env("IMDS", imds),
        None => child.env("AWS_ACCESS_KEY_ID", "AKIATEST").env("AWS_SECRET_ACCESS_KEY", "secret"),
    };
    tokio::task::spawn_blocking(move || reported(child)).await.unwrap()
}

#[tokio::test]
#[ignore = "run by the tests below"]
async fn ask_in_another_environment() {
    let deadline = Duration::from_millis(env::var("DEADLINE").unwrap().parse().unwrap());
    let imds = env::var("IMDS").unwrap_or_else(|_| "http://127.0.0.1:1".into());
    let [region, cluster, arn] = PLACE;
    let answer = EcsControlPlane::new(&imds, deadline).discover_poll_endpoint(region, cluster, arn).await;
    match answer {
        Ok(found) => report(format!("{} {}", found.agent_host, found.telemetry_host)),
        Err(missing) => report(missing),
    }
}

const NUMBERED: &str = r#"{"endpoint":"https://ecs-a-3.eu-west-1.amazonaws.com/",
    "telemetryEndpoint":"https://ecs-t-3.eu-west-1.amazonaws.com/","serviceConnectEndpoint":"https://ecs-sc.x/"}"#;

#[tokio::test]
async fn names_are_handed_out_to_the_instance_s_role() {
    let (said, asked) = discover(200, NUMBERED, Some("")).await;
    assert_eq!(said, "ecs-a-3.eu-west-1.amazonaws.com ecs-t-3.eu-west-1.amazonaws.com");
    let (headers, body) = &asked[0];
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("x-amz-target"), "AmazonEC2ContainerServiceV20141113.DiscoverPollEndpoint");
    assert!(header("authorization").contains("Credential=ASIAROLE/"), "{headers:?}");
    assert!(header("authorization").contains("/eu-west-1/ecs/aws4_request"), "{headers:?}");
    assert!(body.contains(PLACE[1]) && body.contains(PLACE[2]), "{body}");
}

#[tokio::test]
async fn refusals_say_what_to_allow() {
    let denied = r#"{"__type":"AccessDeniedException","message":"User: x is not authorized"}"#;
    let (said, _) = discover(400, denied, None).await;
    assert_eq!(
        said,
        "ecs:DiscoverPollEndpoint in eu-west-1: AccessDeniedException: User: x is not authorized (allow \
         ecs:DiscoverPollEndpoint in the instance role, and in the policy of the ecs endpoint)"
    );
    let (said, _) = discover(400, r#"{"__type":"ExpiredTokenException","message":"expired"}"#, None).await;
    assert!(said.contains("ExpiredTokenException: expired (see the instance role's credentials and"), "{said}");
}

#[tokio::test]
async fn answers_that_make_no_sense_are_said() {
    for (status, body, part) in [
        (200, "<html>portal</html>", "the answer is not one of ECS"),
        (200, "{}", "endpoint in the answer is not a URL: \"\""),
        (
            200,
            r#"{"endpoint":"https://a.b/","telemetryEndpoint":"ftp://x"}"#,
            "telemetryEndpoint in the answer is not a URL",
        ),
        (418, "teapot", "the answer is not one of ECS"),
    ] {
        let (said, _) = discover(status, body, None).await;
        assert!(said.contains(part), "{body}: {said}");
    }
}

#[tokio::test]
async fn no_way_to_ask_is_said() {
    let closed = format!("http://{}", closed_port());
    let said = discover_at(&closed, None, AMPLE).await;
    assert!(said.contains("no connection: connection refused"), "{said}");
    let silent = format!("http://{}", silent().await);
    let said = discover_at(&silent, None, SHORT).await;
    assert!(said.contains("no answer"), "{said}");
    let (said, _) = discover(0, "", Some("")).await;
    assert!(said.contains("there are no AWS credentials to ask with: request forbidden: IMDS is disabled"), "{said}");
    let said = discover_at(&closed, Some(&closed), AMPLE).await;
    assert!(
        said.contains("there are no AWS credentials to ask with: no credentials found in chain. (give the"),
        "{said}"
    );
}
