//! The engine's HTTP API.

use super::{
    Shared,
    exec::{self, Refusal},
    shape,
};
use crate::http;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::net::UnixListener;

const BODY_LIMIT: usize = 1 << 20;

pub(super) async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    let router = Router::new().fallback(respond).with_state(shared);
    let _ = axum::serve(listener, router).await;
}

/// What a call comes to.
enum Answer {
    Json(Value),
    Status(StatusCode),
    Whole(Response),
}

async fn respond(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (version, path) = split_version(request.uri().path());
    let mut response = match version {
        Some(version) if number(version) > number(shape::API) => {
            let api = shape::API;
            failure(400, &format!("client version {version} is too new. Maximum supported API version is {api}"))
        }
        Some(version) if number(version) < number(shape::API_MIN) => {
            let least = shape::API_MIN;
            let words = format!(
                "client version {version} is too old. Minimum supported API version is {least}, \
                 please upgrade your client to a newer version\n"
            );
            (StatusCode::BAD_REQUEST, words).into_response()
        }
        _ => {
            let path = path.to_string();
            match route(&shared, &path, request).await {
                Ok(Answer::Json(body)) => written(StatusCode::OK, &body),
                Ok(Answer::Status(status)) => status.into_response(),
                Ok(Answer::Whole(response)) => response,
                Err((status, message)) => failure(status, &message),
            }
        }
    };
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set("Api-Version", shape::API);
    set("Docker-Experimental", "false");
    set("Ostype", "linux");
    set("Server", "Docker/20.10.24+lab (linux)");
    response
}

/// `/v1.41/containers/json` is version 1.41 and the rest.
fn split_version(path: &str) -> (Option<&str>, &str) {
    let versioned = path.strip_prefix("/v").and_then(|rest| rest.split_once('/'));
    match versioned {
        Some((version, _)) if version.chars().all(|c| c.is_ascii_digit() || c == '.') && !version.is_empty() => {
            (Some(version), &path[2 + version.len()..])
        }
        _ => (None, path),
    }
}

fn number(version: &str) -> (u32, u32) {
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

fn written(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn failure(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    written(status, &json!({ "message": message }))
}

async fn route(shared: &Arc<Shared>, path: &str, request: Request) -> Result<Answer, Refusal> {
    let query = http::query(request.uri().query().unwrap_or_default());
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let method = request.method().clone();
    let found = |key: &str| shared.find(key).cloned().ok_or_else(|| (404, format!("No such container: {key}")));
    match (&method, &segments[..]) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => Ok(Answer::Whole(ping())),
        (&Method::GET, ["version"]) => Ok(Answer::Json(shape::version())),
        (&Method::GET, ["containers", "json"]) => list(shared, &query).map(Answer::Json),
        (&Method::GET, ["containers", key, "json"]) => Ok(Answer::Json(shape::inspect(found(key)?.as_ref()))),
        (&Method::POST, ["containers", key, "start"]) => {
            let container = found(key)?;
            started(container.start().await)
        }
        (&Method::POST, ["containers", key, "stop"]) => {
            let container = found(key)?;
            let stopped = container.stop(patience(&query)?).await;
            Ok(Answer::Status(if stopped { StatusCode::NO_CONTENT } else { StatusCode::NOT_MODIFIED }))
        }
        (&Method::POST, ["containers", key, "restart"]) => {
            let container = found(key)?;
            let patience = patience(&query)?;
            // The real engine carries it through even if the client goes away.
            let done = tokio::spawn(async move { container.restart(patience).await }).await;
            match done {
                Ok(done) => started(done.map(|()| true)),
                Err(error) => Err((500, error.to_string())),
            }
        }
        (&Method::POST, ["containers", key, "kill"]) => {
            let container = found(key)?;
            let signal = signal(query.get("signal").map_or("KILL", String::as_str))?;
            if container.kill(signal).await {
                return Ok(Answer::Status(StatusCode::NO_CONTENT));
            }
            let id = &container.id;
            Err((409, format!("Cannot kill container: {key}: Container {id} is not running")))
        }
        (&Method::POST, ["containers", key, "wait"]) => {
            let container = found(key)?;
            let view = container.wait_for(|view| view.pid == 0).await;
            Ok(Answer::Json(json!({ "Error": null, "StatusCode": view.exit_code })))
        }
        (&Method::POST, ["containers", key, "exec"]) => {
            let container = found(key)?;
            let created = shared.execs.create(&container, body(request).await?)?;
            Ok(Answer::Whole(written(StatusCode::CREATED, &created)))
        }
        (&Method::POST, ["exec", id, "start"]) => start_exec(shared, id, request).await,
        (&Method::GET, ["exec", id, "json"]) => shared.execs.inspect(id).map(Answer::Json),
        (&Method::GET, ["events"]) => Ok(Answer::Whole(events(shared))),
        _ => Err((404, "page not found".into())),
    }
}

fn started(done: anyhow::Result<bool>) -> Result<Answer, Refusal> {
    match done {
        Ok(true) => Ok(Answer::Status(StatusCode::NO_CONTENT)),
        Ok(false) => Ok(Answer::Status(StatusCode::NOT_MODIFIED)),
        Err(error) => Err((500, format!("{error:#}"))),
    }
}

fn ping() -> Response {
    let cache = [(header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"), (header::PRAGMA, "no-cache")];
    (cache, "OK").into_response()
}

fn list(shared: &Shared, query: &BTreeMap<String, String>) -> Result<Value, Refusal> {
    let truthy = |text: &String| matches!(text.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T");
    let all = query.get("all").is_some_and(truthy);
    let filters: BTreeMap<String, Value> = match query.get("filters") {
        Some(text) => serde_json::from_str(text).map_err(|error| (400, error.to_string()))?,
        None => BTreeMap::new(),
    };
    if let Some(unknown) = filters.keys().find(|name| !matches!(name.as_str(), "name" | "id" | "status" | "label")) {
        return Err((400, format!("Invalid filter '{unknown}'")));
    }
    // Both of the API's forms: {"name": ["x"]} and {"name": {"x": true}}.
    let values = |name: &str| -> Vec<String> {
        match filters.get(name) {
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_string).collect(),
            Some(Value::Object(values)) => values.keys().cloned().collect(),
            _ => Vec::new(),
        }
    };
    let (names, ids, states, labels) = (values("name"), values("id"), values("status"), values("label"));
    let one_of = |wanted: &[String], is: &dyn Fn(&str) -> bool| wanted.is_empty() || wanted.iter().any(|w| is(w));
    let chosen = shared.containers.iter().filter(|container| {
        let view = container.view();
        let shown = all || !states.is_empty() || view.pid != 0;
        shown
            && one_of(&names, &|name| format!("/{}", view.name).contains(name.trim_matches(['^', '$'])))
            && one_of(&ids, &|id| view.id.starts_with(id))
            && one_of(&states, &|state| view.status.word() == state)
            && labels.iter().all(|label| {
                let (name, value) = label.split_once('=').map_or((label.as_str(), None), |(n, v)| (n, Some(v)));
                container.spec.labels.get(name).is_some_and(|is| value.is_none_or(|value| is == value))
            })
    });
    Ok(chosen.map(|container| shape::summary(container)).collect())
}

/// `t`: seconds before SIGKILL, by default 10; a negative number waits for ever.
fn patience(query: &BTreeMap<String, String>) -> Result<Option<Duration>, Refusal> {
    let Some(text) = query.get("t") else { return Ok(Some(Duration::from_secs(10))) };
    match text.parse::<i64>() {
        Ok(seconds) => Ok(u64::try_from(seconds).ok().map(Duration::from_secs)),
        Err(_) => Err((500, format!("strconv.Atoi: parsing {text:?}: invalid syntax"))),
    }
}

fn signal(text: &str) -> Result<Signal, Refusal> {
    let known = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("KILL", Signal::KILL),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("TERM", Signal::TERM),
    ];
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let signal = known.into_iter().find(|(known, signal)| *known == name || signal.as_raw().to_string() == name);
    signal.map(|(_, signal)| signal).ok_or_else(|| (400, format!("Invalid signal: {text}")))
}

async fn body<T: serde::de::DeserializeOwned + Default>(request: Request) -> Result<T, Refusal> {
    let bytes = to_bytes(request.into_body(), BODY_LIMIT).await.map_err(|error| (400, error.to_string()))?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| (400, error.to_string()))
}

/// With an upgrade the frames come on the bare connection, without one in the body.
async fn start_exec(shared: &Arc<Shared>, id: &str, mut request: Request) -> Result<Answer, Refusal> {
    let exec = shared.execs.take(id)?;
    let upgrade = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let start: exec::Start = body(request).await?;
    let shared = shared.clone();
    if start.detach == Some(true) {
        tokio::spawn(exec::run(shared, exec, tokio::io::sink()));
        return Ok(Answer::Status(StatusCode::OK));
    }
    let stream = [(header::CONTENT_TYPE, "application/vnd.docker.raw-stream")];
    let Some(upgrade) = upgrade else {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(exec::run(shared, exec, near));
        return Ok(Answer::Whole((stream, Body::from_stream(frames(far))).into_response()));
    };
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            exec::run(shared, exec, TokioIo::new(upgraded)).await;
        }
    });
    let switched = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")];
    Ok(Answer::Whole((StatusCode::SWITCHING_PROTOCOLS, stream, switched).into_response()))
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"tcp"))
}

fn frames(
    reader: impl tokio::io::AsyncRead + Unpin + Send + 'static,
) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> + Send {
    use tokio::io::AsyncReadExt as _;
    futures_util::stream::try_unfold(reader, |mut reader| async move {
        let mut buffer = vec![0; 8192];
        let length = reader.read(&mut buffer).await?;
        buffer.truncate(length);
        Ok((length > 0).then_some((buffer, reader)))
    })
}

fn events(shared: &Shared) -> Response {
    use tokio::sync::broadcast::error::RecvError;
    let stream = futures_util::stream::unfold(shared.events.listen(), |mut events| async move {
        loop {
            match events.recv().await {
                Ok(event) => return Some((Ok::<_, std::io::Error>(format!("{event}\n")), events)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response()
}
