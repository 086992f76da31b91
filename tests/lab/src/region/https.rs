//! The listeners on the public and endpoint addresses: TCP, TLS, and HTTP by service.

use super::{
    certs::Certificates,
    ecs_api,
    place::{Door, Service},
    state::{Follower, Shared},
    switch::{Connection, TlsFault, What},
    systems_manager, websocket,
};
use crate::clock;
use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{LazyConfigAcceptor, rustls::server::Acceptor};

/// Where the JSON protocol repeats the type of an error.
pub(super) const ERROR_TYPE: &str = "x-amzn-errortype";

pub(super) type Reply = Response<Full<Bytes>>;

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// One connection: where it came in and from whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub door: Door,
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// Listens at one address, and stops listening while the switches say that it is dead.
pub(super) async fn serve(
    shared: Arc<Shared>,
    certificates: Arc<Certificates>,
    door: Door,
    listener: TcpListener,
    mut switches: Follower,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let round = switches.round();
        let dead = is_dead(&shared, door);
        if dead && listener.is_some() {
            listener = None;
        } else if !dead && listener.is_none() {
            listener = Some(TcpListener::bind(address).await.with_context(|| format!("listen on {address} again"))?);
        }
        switches.done(round);
        tokio::select! {
            thrown = switches.thrown() => if thrown.is_err() { return Ok(()) },
            accepted = accept(listener.as_ref()) => {
                if let Ok((stream, peer)) = accepted {
                    let local = stream.local_addr().unwrap_or(address);
                    shared.log(What::Connect { service: door.service, local, peer });
                    let call = Call { door, local, peer };
                    connections.spawn(connection(shared.clone(), certificates.clone(), call, stream));
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

fn is_dead(shared: &Shared, door: Door) -> bool {
    use super::place::Way;
    let dead = shared.service(door.service).dead;
    match door.way {
        Way::Endpoint(subnet) => subnet <= dead,
        Way::Elsewhere => dead > 0,
        Way::Public | Way::Numbered => false,
    }
}

async fn connection(shared: Arc<Shared>, certificates: Arc<Certificates>, call: Call, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Call { door, local, peer } = call;
    let fault = if door.is_endpoint() { shared.service(door.service).tls } else { TlsFault::None };
    let logged = |sni: Option<String>, error: Option<String>| {
        shared.log(What::Tls { service: door.service, local, peer, sni, error });
    };
    let Some(config) = certificates.config(door.service, fault) else {
        // Held open, unanswered, until the client has had enough.
        logged(None, Some("left hanging".into()));
        let _ = tokio::time::timeout(Duration::from_secs(600), hold(stream)).await;
        return;
    };
    let mut sni = None;
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        sni = start.client_hello().server_name().map(str::to_lowercase);
        start.into_stream(config).await
    };
    let stream = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return logged(sni, Some(error.to_string())),
        Err(_) => return logged(sni, Some("the client did not finish its handshake".into())),
    };
    logged(sni, None);
    let _counted =
        shared.open_connection(Connection { service: door.service, local, peer, opened_ms: clock::unix_ms() });
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(respond(&shared, call, request).await) }
    });
    // A client that closes in the middle of a request is its own business.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn hold(stream: TcpStream) {
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut [0; 4096]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn respond(shared: &Arc<Shared>, call: Call, request: Request<Incoming>) -> Reply {
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map_or_else(|| "/".to_string(), ToString::to_string);
    let mut reply = route(shared, call, request).await;
    let id = request_id();
    if !reply.headers().contains_key("x-amz-request-id")
        && let Ok(value) = header::HeaderValue::from_str(&id)
    {
        reply.headers_mut().insert("x-amzn-requestid", value);
    }
    shared.log(What::Http {
        service: call.door.service,
        local: call.local,
        peer: call.peer,
        method,
        path,
        status: reply.status().as_u16(),
    });
    reply
}

async fn route(shared: &Arc<Shared>, call: Call, request: Request<Incoming>) -> Reply {
    let host = host_of(&request);
    if !call.door.answers_to(&host) {
        // The real ones fail on the signature, which covers the Host header, or know no such bucket.
        return error(StatusCode::BAD_REQUEST, "UnknownHostException", &format!("{host:?} is not served here"));
    }
    match call.door.service {
        Service::Ecs => ecs_api::respond(shared, call, request).await,
        Service::EcsAgent | Service::EcsTelemetry => websocket::respond(shared, call, &host, request).await,
        Service::EcrDkr => registry(&host, request.uri().path()),
        Service::S3 => s3(shared, &host, request.method(), request.uri().path()).await,
        Service::Ssm => systems_manager::respond(shared, call, request).await,
        _ => json_service(&request),
    }
}

/// The host the request is for, lower case, without its port.
fn host_of(request: &Request<Incoming>) -> String {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    host.split(':').next().unwrap_or_default().to_lowercase()
}

fn registry(host: &str, path: &str) -> Reply {
    let builder = Response::builder().header("Docker-Distribution-Api-Version", "registry/2.0");
    if !path.starts_with("/v2/") {
        return built(builder.status(404).body(Full::from("404 page not found\n")));
    }
    let realm = format!("Basic realm=\"https://{host}/\",service=\"ecr.amazonaws.com\"");
    built(
        builder
            .status(401)
            .header(header::WWW_AUTHENTICATE, realm)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Full::from("Not Authorized\n")),
    )
}

/// A bucket's object where the region's directory holds one, else the refusal that everyone gets who may not know.
async fn s3(shared: &Shared, host: &str, method: &Method, path: &str) -> Reply {
    let bucket = host.split(".s3.").next().unwrap_or_default();
    let key = path.trim_start_matches('/');
    let plain = |text: &str| !text.split('/').any(|part| matches!(part, "" | "." | ".."));
    let object = shared.objects.join(bucket).join(key);
    if *method == Method::GET
        && plain(bucket)
        && plain(key)
        && let Ok(object) = tokio::fs::read(object).await
    {
        return built(Response::builder().header(header::SERVER, "AmazonS3").body(Full::from(object)));
    }
    let id = clock::random_hex(16).to_uppercase();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message>\
         <Resource>{path}</Resource><RequestId>{id}</RequestId></Error>"
    );
    let body = if method == Method::HEAD { String::new() } else { body };
    built(
        Response::builder()
            .status(403)
            .header("x-amz-request-id", id)
            .header("x-amz-id-2", clock::random_hex(56))
            .header("x-amz-bucket-region", super::place::REGION)
            .header(header::CONTENT_TYPE, "application/xml")
            .header(header::SERVER, "AmazonS3")
            .body(Full::from(body)),
    )
}

fn json_service(request: &Request<Incoming>) -> Reply {
    if request.method() != Method::POST || !request.headers().contains_key("x-amz-target") {
        return built(Response::builder().status(404).body(Full::from("<UnknownOperationException/>\n")));
    }
    error(StatusCode::BAD_REQUEST, "MissingAuthenticationTokenException", "Missing Authentication Token")
}

/// An error in the shape of the AWS JSON 1.1 protocol.
pub(super) fn error(status: StatusCode, kind: &str, message: &str) -> Reply {
    let body = serde_json::json!({ "__type": kind, "message": message });
    let mut reply = json(status, &body);
    // Switches can hold any text; one that is no header value is still told in the body.
    if let Ok(kind) = header::HeaderValue::from_str(kind) {
        reply.headers_mut().insert(ERROR_TYPE, kind);
    }
    reply
}

/// An answer in the AWS JSON 1.1 protocol.
pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Reply {
    built(
        Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .body(Full::from(body.to_string())),
    )
}

/// Takes a response whose parts are all the lab's own words.
pub(super) fn built(response: hyper::http::Result<Reply>) -> Reply {
    response.unwrap_or_else(|error| {
        let mut reply = Response::new(Full::from(format!("the lab made a bad answer: {error}\n")));
        *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        reply
    })
}

fn request_id() -> String {
    let hex = clock::random_hex(32);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
