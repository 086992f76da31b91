//! The instance metadata service, version 2 only.

use super::{
    place::{ACCOUNT, MAC, REGION, ROLE, SUFFIX, ZONE},
    state::{Follower, Shared},
    switch::{ImdsMode, What},
};
use crate::clock;
use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
/// The longest life of a token, in seconds.
const TTL_MAX: u64 = 21_600;

/// Tokens handed out, each with the Unix time in milliseconds at which it ends.
type Tokens = Arc<Mutex<BTreeMap<String, u64>>>;

/// Listens, and stops listening while the switches say that the service is down.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, mut switches: Follower) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let mut listener = Some(listener);
    let tokens = Tokens::default();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let round = switches.round();
        let down = shared.switches().imds == ImdsMode::Down;
        if down {
            listener = None;
            // Kept-alive connections would go on answering.
            connections.abort_all();
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.with_context(|| format!("listen on {address} again"))?);
        }
        switches.done(round);
        tokio::select! {
            thrown = switches.thrown() => if thrown.is_err() { return Ok(()) },
            accepted = accept(listener.as_ref()) => {
                if let Ok(stream) = accepted {
                    connections.spawn(connection(shared.clone(), tokens.clone(), stream));
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn connection(shared: Arc<Shared>, tokens: Tokens, stream: TcpStream) {
    let service = service_fn(|request| {
        let (shared, tokens) = (shared.clone(), tokens.clone());
        async move { Ok::<_, Infallible>(respond(&shared, &tokens, request).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(shared: &Shared, tokens: &Tokens, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let mode = shared.switches().imds;
    if mode == ImdsMode::Hang {
        std::future::pending::<()>().await;
    }
    let (status, body, ttl) = match mode {
        ImdsMode::Malformed if request.method() == Method::GET => (200, "<html>not what you asked for".into(), None),
        _ => answer(shared, tokens, &request, mode),
    };
    shared.log(What::Imds { method: request.method().to_string(), path: request.uri().path().to_string(), status });
    let mut response =
        Response::builder().status(status).header("Server", "EC2ws").header("Content-Type", "text/plain");
    if let Some(ttl) = ttl {
        response = response.header("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", ttl);
    }
    super::https::built(response.body(Full::from(body)))
}

/// Status, body and, for a token, its life in seconds.
fn answer(shared: &Shared, tokens: &Tokens, request: &Request<Incoming>, mode: ImdsMode) -> (u16, String, Option<u64>) {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let now = clock::unix_ms();
    let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
    if request.uri().path() == "/latest/api/token" {
        if request.method() != Method::PUT {
            return (405, String::new(), None);
        }
        // A request that came through a proxy is turned away.
        if request.headers().contains_key("x-forwarded-for") {
            return (403, String::new(), None);
        }
        return match header(TTL_HEADER).and_then(|ttl| ttl.parse().ok()).filter(|ttl| (1..=TTL_MAX).contains(ttl)) {
            Some(ttl) => {
                let token = format!("AQAEA{}==", clock::random_hex(49));
                tokens.retain(|_, end| *end > now);
                tokens.insert(token.clone(), now + ttl * 1_000);
                (200, token, Some(ttl))
            }
            None => (400, "Bad Request".into(), None),
        };
    }
    if header(TOKEN_HEADER).and_then(|token| tokens.get(token)).is_none_or(|end| *end <= now) {
        return (401, String::new(), None);
    }
    if request.method() != Method::GET {
        return (405, String::new(), None);
    }
    match get(shared, request.uri().path(), mode) {
        Some(body) => (200, body, None),
        None => (404, NOT_FOUND.into(), None),
    }
}

const NOT_FOUND: &str = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<html><head><title>404 - Not Found</title>\
</head><body><h1>404 - Not Found</h1></body></html>\n";

fn get(shared: &Shared, path: &str, mode: ImdsMode) -> Option<String> {
    if path.trim_end_matches('/') == "/latest/dynamic/instance-identity/document" {
        return Some(identity_document(shared));
    }
    let path = path.strip_prefix("/latest/meta-data/")?;
    let interface = format!("network/interfaces/macs/{MAC}/");
    if let Some(path) = path.strip_prefix(&interface) {
        let blocks: Vec<String> = shared.binding.vpc_cidrs().iter().map(ToString::to_string).collect();
        return match path {
            "vpc-ipv4-cidr-block" => blocks.first().cloned(),
            "vpc-ipv4-cidr-blocks" => Some(blocks.join("\n")),
            "vpc-id" => Some("vpc-0ab000000000000aa".into()),
            "subnet-id" => Some("subnet-0ab000000000000aa".into()),
            "local-ipv4s" => Some("10.50.1.5".into()),
            "mac" => Some(MAC.into()),
            // An IPv4-only VPC: no vpc-ipv6-cidr-blocks.
            _ => None,
        };
    }
    let role = mode != ImdsMode::NoRole;
    match path {
        "instance-id" => Some(shared.instance.clone()),
        "instance-type" => Some("m6i.large".into()),
        "local-ipv4" => Some("10.50.1.5".into()),
        "mac" => Some(MAC.into()),
        "placement/region" => Some(REGION.into()),
        "placement/availability-zone" => Some(ZONE.into()),
        "services/domain" => Some(SUFFIX.into()),
        "services/partition" => Some("aws".into()),
        "network/interfaces/macs" | "network/interfaces/macs/" => Some(format!("{MAC}/")),
        "iam/security-credentials" | "iam/security-credentials/" if role => Some(ROLE.into()),
        "iam/info" if role => Some(format!(
            "{{\"Code\":\"Success\",\"InstanceProfileArn\":\"arn:aws:iam::{ACCOUNT}:instance-profile/{ROLE}\"}}"
        )),
        _ if role && path.strip_prefix("iam/security-credentials/") == Some(ROLE) => Some(credentials(shared)),
        _ => None,
    }
}

fn identity_document(shared: &Shared) -> String {
    let document = serde_json::json!({
        "accountId": ACCOUNT,
        "architecture": "x86_64",
        "availabilityZone": ZONE,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": "ami-0ab000000000000aa",
        "instanceId": shared.instance,
        "instanceType": "m6i.large",
        "kernelId": null,
        "pendingTime": "2026-11-01T08:00:00Z",
        "privateIp": "10.50.1.5",
        "ramdiskId": null,
        "region": REGION,
        "version": "2017-09-30",
    });
    format!("{document:#}")
}

fn credentials(shared: &Shared) -> String {
    let key = format!("ASIA{}", clock::random_hex(16).to_uppercase());
    shared.hand_out_key(&key);
    let now = clock::unix_ms() / 1_000;
    let body = serde_json::json!({
        "Code": "Success",
        "LastUpdated": clock::iso(now),
        "Type": "AWS-HMAC",
        "AccessKeyId": key,
        "SecretAccessKey": clock::random_hex(40),
        "Token": clock::random_hex(128),
        "Expiration": clock::iso(now + 6 * 3_600),
    });
    format!("{body:#}")
}
