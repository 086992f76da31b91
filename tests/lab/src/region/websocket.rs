//! ACS on `ecs-a` and TCS on `ecs-t`: the websockets the agent holds.

use super::{
    https::{Call, Reply, built, error},
    place::Service,
    sigv4,
    state::Shared,
    switch::Websocket,
};
use crate::{clock, http::query};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

/// How often ACS sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(3);

pub(super) async fn respond(shared: &Arc<Shared>, call: Call, host: &str, mut request: Request<Incoming>) -> Reply {
    let text = |name: header::HeaderName| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string()
    };
    if request.uri().path() != "/ws" {
        return built(Response::builder().status(404).body(Full::default()));
    }
    let key = text(header::SEC_WEBSOCKET_KEY);
    let upgrade = text(header::UPGRADE).eq_ignore_ascii_case("websocket")
        && text(header::CONNECTION).to_lowercase().contains("upgrade")
        && text(header::SEC_WEBSOCKET_VERSION) == "13"
        && !key.is_empty();
    if !upgrade {
        return error(StatusCode::BAD_REQUEST, "InvalidRequestException", "Expected a websocket upgrade.");
    }
    if let Err(reply) = sigv4::check(shared, request.headers(), &["ecs"]) {
        return *reply;
    }
    let query = query(request.uri().query().unwrap_or_default());
    let arn = query.get("containerInstanceArn").cloned().unwrap_or_default();
    if shared.instance(&arn).is_none_or(|instance| instance.status == "INACTIVE") {
        return error(StatusCode::BAD_REQUEST, "InactiveInstanceException", "Container instance is not active.");
    }
    let service = call.door.service;
    let host = host.to_string();
    let shared = shared.clone();
    let pending = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = pending.await else { return };
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        let websocket = shared.open_websocket(|id| Websocket {
            id,
            service,
            host,
            local: call.local,
            peer: call.peer,
            container_instance_arn: arn,
            opened_ms: clock::unix_ms(),
        });
        let reason = hold(&shared, service, stream, websocket.container_instance_arn.as_str()).await;
        shared.close_websocket(websocket.id, &reason);
    });
    built(
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
            .body(Full::default()),
    )
}

/// Speaks the service's side until one end closes; why it ended.
async fn hold<S>(shared: &Shared, service: Service, mut stream: WebSocketStream<S>, arn: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut hang_up = shared.subscribe_hang_up();
    hang_up.mark_unchanged();
    if service == Service::EcsAgent {
        let credentials = json!({
            "type": "IAMRoleCredentialsMessage",
            "message": {
                "messageId": clock::random_hex(32),
                "taskArn": arn.replace(":container-instance/", ":task/"),
                "roleType": "TaskApplication",
                "roleCredentials": {
                    "credentialsId": clock::random_hex(32),
                    "roleArn": "arn:aws:iam::111122223333:role/task",
                    "accessKeyId": "ASIALABTASKROLE00001",
                    "secretAccessKey": clock::random_hex(40),
                    "sessionToken": clock::random_hex(64),
                    "expiration": clock::iso(clock::unix_ms() / 1_000 + 6 * 3_600),
                },
            },
        });
        if stream.send(Message::text(credentials.to_string())).await.is_err() {
            return "the client went away".into();
        }
    }
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            received = stream.next() => match received {
                None => return "the client closed the connection".into(),
                Some(Err(error)) => return error.to_string(),
                Some(Ok(Message::Close(_))) => return "the client said goodbye".into(),
                Some(Ok(message)) if service == Service::EcsTelemetry && message.is_text() => {
                    let ack = json!({ "type": "AckPublishMetric", "message": { "message": "ok" } });
                    if stream.send(Message::text(ack.to_string())).await.is_err() {
                        return "the client went away".into();
                    }
                }
                Some(Ok(_)) => {}
            },
            _ = beat.tick(), if service == Service::EcsAgent => {
                let message = json!({
                    "type": "HeartbeatMessage",
                    "message": { "messageId": clock::random_hex(32), "healthy": true },
                });
                if stream.send(Message::text(message.to_string())).await.is_err() {
                    return "the client went away".into();
                }
            }
            Ok(()) = hang_up.changed() => {
                let which = hang_up.borrow_and_update().1;
                if which.is_none_or(|which| which == service) {
                    let _ = stream.close(None).await;
                    return "closed by the region".into();
                }
            }
        }
    }
}
