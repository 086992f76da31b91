//! The server: which service and operation a request is for, and the answer in that service's protocol.

use super::{auth, cbor, dispatch, error::ApiError, query, state::Shared};
use crate::http;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Bytes of a request that are read.
const BODY_LIMIT: usize = 4 << 20;

/// Prefixes of `X-Amz-Target` and of the paths of RPC v2, with the name the service signs with.
const TARGETS: [(&str, &str); 3] = [
    ("AmazonSSM", "ssm"),
    ("AmazonEC2ContainerServiceV20141113", "ecs"),
    ("GraniteServiceVersion20100801", "monitoring"),
];
/// Versions of query APIs.
const VERSIONS: [(&str, &str); 3] = [("2016-11-15", "ec2"), ("2011-06-15", "sts"), ("2010-08-01", "monitoring")];

/// How a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// JSON 1.0 and 1.1.
    Json,
    Cbor,
    Query,
}

struct Call {
    protocol: Protocol,
    service: &'static str,
    action: String,
    input: Value,
}

pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let router = Router::new().fallback(respond).with_state(shared);
    let _ = axum::serve(listener, router).await;
}

async fn respond(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        return failed(Protocol::Json, "", &ApiError::new("RequestEntityTooLarge", "the request is too long"));
    };
    let call = match understand(parts.uri.path(), &parts.headers, &body) {
        Ok(call) => call,
        Err(error) => return failed(Protocol::Json, "", &error),
    };
    if let Err(error) = authenticate(&shared, &parts.headers, call.service) {
        shared.state().note(call.service, &call.action, Some(&error));
        return failed(call.protocol, call.service, &error);
    }
    let (met, done) = dispatch::call(&shared, call.service, &call.action, &call.input);
    if !met.delay.is_zero() {
        tokio::time::sleep(met.delay).await;
    }
    match done {
        Ok(_) if met.lost => {
            let error = ApiError { status: 500, ..ApiError::new("InternalServerError", "the answer was lost") };
            failed(call.protocol, call.service, &error)
        }
        Ok(output) => answered(&call, &output),
        Err(error) => failed(call.protocol, call.service, &error),
    }
}

fn authenticate(shared: &Shared, headers: &HeaderMap, service: &str) -> Result<(), ApiError> {
    let signed = auth::check(headers, service)?;
    let state = shared.state();
    state.faults.credentials(&signed.key)?;
    state.knows(&signed.key, signed.token.as_deref())
}

fn understand(path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Call, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let service_of = |prefix: &str| TARGETS.iter().find(|(known, _)| *known == prefix).map(|(_, service)| *service);
    let unknown = || ApiError::new("UnknownOperationException", "");
    if let Some((prefix, action)) = text("x-amz-target").split_once('.') {
        let body = if body.is_empty() { b"{}" } else { body };
        let malformed = |error| ApiError::new("SerializationException", error);
        return Ok(Call {
            protocol: Protocol::Json,
            service: service_of(prefix).ok_or_else(unknown)?,
            action: action.to_owned(),
            input: serde_json::from_slice(body).map_err(malformed)?,
        });
    }
    if let Some((prefix, action)) = path.strip_prefix("/service/").and_then(|rest| rest.split_once("/operation/")) {
        let malformed = || ApiError::new("SerializationException", "the body is no CBOR");
        let input = if body.is_empty() { json!({}) } else { cbor::decode(body).ok_or_else(malformed)? };
        let service = service_of(prefix).ok_or_else(unknown)?;
        return Ok(Call { protocol: Protocol::Cbor, service, action: action.to_owned(), input });
    }
    let form = http::query(&String::from_utf8_lossy(body));
    let version = form.get("Version").map(String::as_str).unwrap_or_default();
    let service = VERSIONS.iter().find(|(known, _)| *known == version).map(|(_, service)| *service);
    let (Some(service), Some(action)) = (service, form.get("Action")) else { return Err(unknown()) };
    Ok(Call { protocol: Protocol::Query, service, action: action.clone(), input: query::input(&form) })
}

fn answered(call: &Call, output: &Value) -> Response {
    match call.protocol {
        Protocol::Json => response(200, "application/x-amz-json-1.1", &[], output.to_string().into()),
        Protocol::Cbor => {
            response(200, "application/cbor", &[("smithy-protocol", "rpc-v2-cbor")], cbor::encode(output))
        }
        Protocol::Query => {
            let xml = query::output(call.service, &call.action, output);
            response(200, "text/xml;charset=UTF-8", &[], xml.into())
        }
    }
}

fn failed(protocol: Protocol, service: &str, error: &ApiError) -> Response {
    let ApiError { kind, message, status } = error;
    match protocol {
        Protocol::Json => {
            let body = json!({ "__type": kind, "message": message }).to_string();
            response(*status, "application/x-amz-json-1.1", &[("x-amzn-errortype", kind)], body.into())
        }
        Protocol::Cbor => {
            let body = cbor::encode(&json!({ "__type": kind, "message": message }));
            let query = format!("{kind};Sender");
            let headers = [("smithy-protocol", "rpc-v2-cbor"), ("x-amzn-query-error", query.as_str())];
            response(*status, "application/cbor", &headers, body)
        }
        Protocol::Query => response(*status, "text/xml;charset=UTF-8", &[], query::error(service, error).into()),
    }
}

fn response(status: u16, kind: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut builder = Response::builder().status(status).header(header::CONTENT_TYPE, kind);
    builder = builder.header("x-amzn-requestid", crate::clock::random_hex(32));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(body)).unwrap_or_default()
}
