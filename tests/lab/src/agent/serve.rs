//! What the agent serves: introspection, and task credentials.

use super::{config::Config, faults::Faults, run::log};
use crate::{clock, http};
use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch, time::timeout};

#[derive(Clone)]
struct Context {
    config: Arc<Config>,
    arn: String,
    credentials: watch::Receiver<bool>,
}

/// Serves introspection, for ever.
pub async fn introspection(config: Arc<Config>, arn: String) {
    let address = config.introspection;
    let context = Context { config, arn, credentials: watch::channel(false).1 };
    let router = Router::new()
        .route("/v1/metadata", any(metadata))
        .route("/v1/tasks", any(tasks))
        .route("/license", any(|| async { "The license of the real agent is Apache-2.0.\n" }))
        .fallback(|| async { written(json!({ "AvailableCommands": ["/v1/metadata", "/v1/tasks", "/license"] })) })
        .with_state(context);
    serve(address, router).await;
}

/// Serves the credential port, for ever.
pub async fn credentials(config: Arc<Config>, arn: String, credentials: watch::Receiver<bool>) {
    let address = config.credentials;
    let context = Context { config, arn, credentials };
    serve(address, Router::new().fallback(task_credentials).with_state(context)).await;
}

/// Like the real agent, tries until the port is to be had.
async fn serve(address: SocketAddr, router: Router) {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => match axum::serve(listener, router.clone()).await {
                Ok(()) => {}
                Err(error) => log("error", &format!("{address}: {error}")),
            },
            Err(error) => log("error", &format!("listen on {address}: {error}")),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn written(body: Value) -> Response {
    raw(body.to_string())
}

fn raw(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A file of the data directory that a test put there to be served as it is.
fn prepared(context: &Context, name: &str) -> Option<String> {
    std::fs::read_to_string(context.config.data_dir.join(name)).ok()
}

async fn mute(context: &Context) {
    if Faults::read(&context.config).is_ok_and(|faults| faults.mute_introspection) {
        std::future::pending::<()>().await;
    }
}

async fn metadata(State(context): State<Context>) -> Response {
    mute(&context).await;
    if let Some(text) = prepared(&context, "metadata.json") {
        return raw(text);
    }
    written(json!({
        "Cluster": context.config.cluster_name(),
        "ContainerInstanceArn": context.arn,
        "Version": context.config.version_text(),
    }))
}

/// The tasks in `tasks.json` of the data directory, read on each request.
async fn tasks(State(context): State<Context>, RawQuery(query): RawQuery) -> Response {
    mute(&context).await;
    let text = prepared(&context, "tasks.json").unwrap_or_else(|| json!({ "Tasks": [] }).to_string());
    let query = http::query(&query.unwrap_or_default());
    let (by_id, by_arn) = (query.get("dockerid"), query.get("taskarn"));
    if by_id.is_none() && by_arn.is_none() {
        return raw(text);
    }
    let all: Value = serde_json::from_str(&text).unwrap_or_default();
    let found = all.get("Tasks").and_then(Value::as_array).into_iter().flatten().find(|task| {
        let arn = task.get("Arn").and_then(Value::as_str);
        let mut ids = task.get("Containers").and_then(Value::as_array).into_iter().flatten();
        let has_id = |id: &String| ids.any(|c| c["DockerId"].as_str().is_some_and(|full| full.starts_with(id)));
        by_arn.is_some_and(|wanted| arn == Some(wanted)) || by_id.is_some_and(has_id)
    });
    match found {
        Some(task) if by_id.is_none() || by_arn.is_none() => written(task.clone()),
        Some(_) => (StatusCode::BAD_REQUEST, "{}").into_response(),
        None => (StatusCode::NOT_FOUND, "{}").into_response(),
    }
}

/// A task asks for its role: an answer only once ACS has brought the credentials.
async fn task_credentials(State(context): State<Context>, uri: axum::http::Uri) -> Response {
    let refuse = |status, code: &str, message: &str| {
        let body = json!({ "code": code, "message": message, "HTTPErrorCode": status });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    };
    let id = uri.path().strip_prefix("/v2/credentials/").unwrap_or_default();
    if id.is_empty() {
        return refuse(400, "NoIdInRequest", "CredentialsV2Request: No ID in the request");
    }
    if !*context.credentials.borrow() {
        return refuse(503, "CredentialsUninitialized", "CredentialsV2Request: Credentials uninitialized for ID");
    }
    written(json!({
        "RoleArn": format!("arn:aws:iam::111122223333:role/{}", context.arn.rsplit('/').next().unwrap_or_default()),
        "AccessKeyId": "ASIALABTASKROLE00001",
        "SecretAccessKey": clock::random_hex(40),
        "Token": clock::random_hex(64),
        "Expiration": clock::iso(clock::unix_ms() / 1_000 + 6 * 3_600),
    }))
}

/// `--healthcheck`: any answer to a HEAD on introspection is health.
pub async fn healthcheck(mut address: SocketAddr) -> u8 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"HEAD /v1/metadata HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut start = [0; 8];
        stream.read_exact(&mut start).await?;
        Ok::<_, std::io::Error>(&start[..5] == b"HTTP/")
    };
    match timeout(Duration::from_secs(25), ask).await {
        Ok(Ok(true)) => 0,
        other => {
            eprintln!("health check [HEAD http://{address}/v1/metadata] failed with error: {other:?}");
            super::EXIT_ERROR
        }
    }
}
