//! The agent's calls: the metadata service, and the ECS API over one connection that it keeps.

use super::{config::Config, dial::Dialer};
use crate::clock;
use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout},
};

const CALL: Duration = Duration::from_secs(15);
/// A connection idle for longer is not used again: by then the far end of the real one has closed it.
const IDLE: Duration = Duration::from_secs(60);
const METADATA: Duration = Duration::from_secs(5);

/// An error answer of the API.
#[derive(Debug)]
pub struct ApiError {
    pub action: String,
    pub status: StatusCode,
    /// The `__type`.
    pub kind: String,
    pub message: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {} ({})", self.action, self.kind, self.message, self.status)
    }
}

impl std::error::Error for ApiError {}

/// What the metadata service told.
#[derive(Debug, Clone)]
pub struct Identity {
    pub document: String,
    pub instance_id: String,
    pub region: String,
}

/// The instance role's temporary credentials.
#[derive(Debug, Clone)]
struct Credentials {
    key: String,
    token: String,
}

/// The kept connection, and when it was used last.
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    used: Instant,
}

pub struct Api {
    config: Arc<Config>,
    dialer: Arc<Dialer>,
    credentials: Mutex<Option<Credentials>>,
    connection: Mutex<Option<Kept>>,
}

impl Api {
    pub fn new(config: Arc<Config>, dialer: Arc<Dialer>) -> Self {
        Self { config, dialer, credentials: Mutex::default(), connection: Mutex::default() }
    }

    pub async fn identity(&self) -> anyhow::Result<Identity> {
        let document = self.metadata("/latest/dynamic/instance-identity/document").await?;
        let parsed: Value = serde_json::from_str(&document).context("instance identity document")?;
        let text = |name: &str| parsed.get(name).and_then(Value::as_str).map(str::to_string);
        Ok(Identity {
            instance_id: text("instanceId").context("instance identity document: no instanceId")?,
            region: text("region").context("instance identity document: no region")?,
            document,
        })
    }

    /// `host` of the API: ECS_BACKEND_HOST, or the region's.
    fn host(&self, region: &str) -> String {
        let own = || format!("ecs.{region}.amazonaws.com");
        self.config.backend_host.clone().unwrap_or_else(own)
    }

    pub async fn register(&self, region: &str, identity: &Identity, arn: Option<&str>) -> anyhow::Result<String> {
        let mut input = json!({
            "cluster": self.config.cluster_name(),
            "instanceIdentityDocument": identity.document,
            "clientToken": clock::random_hex(32),
            "versionInfo": { "agentVersion": self.config.version, "agentHash": self.config.commit },
        });
        if let Some(arn) = arn {
            input["containerInstanceArn"] = json!(arn);
        }
        let answer = self.call(region, "RegisterContainerInstance", &input).await?;
        let given = answer.pointer("/containerInstance/containerInstanceArn").and_then(Value::as_str);
        given.map(str::to_string).context("RegisterContainerInstance: no ARN in the answer")
    }

    /// The websocket hosts of ACS and TCS.
    pub async fn discover(&self, region: &str, arn: &str) -> anyhow::Result<(String, String)> {
        let input = json!({ "cluster": self.config.cluster_name(), "containerInstance": arn });
        let answer = self.call(region, "DiscoverPollEndpoint", &input).await?;
        let host = |name: &str| {
            let url = answer.get(name).and_then(Value::as_str).with_context(|| format!("DiscoverPollEndpoint: {name}"));
            url.map(|url| url.trim_start_matches("https://").trim_end_matches('/').to_string())
        };
        Ok((host("endpoint")?, host("telemetryEndpoint")?))
    }

    async fn call(&self, region: &str, action: &str, input: &Value) -> anyhow::Result<Value> {
        timeout(CALL, self.call_unbounded(region, action, input))
            .await
            .with_context(|| format!("{action}: no answer within {CALL:?}"))?
            .with_context(|| action.to_string())
    }

    async fn call_unbounded(&self, region: &str, action: &str, input: &Value) -> anyhow::Result<Value> {
        let host = self.host(region);
        let mut request = Request::builder()
            .method("POST")
            .uri("/")
            .header(header::HOST, &host)
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("X-Amz-Target", format!("AmazonEC2ContainerServiceV20141113.{action}"))
            .body(Full::<Bytes>::from(input.to_string()))?;
        request.headers_mut().extend(self.signature(region).await?);
        let mut connection = self.connection.lock().await;
        let idle = self.config.scaled(IDLE);
        let kept = match connection.take() {
            Some(kept) if !kept.sender.is_closed() && kept.used.elapsed() < idle => kept,
            _ => {
                let stream = self.dialer.dial(&host).await?;
                let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(driver);
                Kept { sender, used: Instant::now() }
            }
        };
        let kept = connection.insert(kept);
        let response = kept.sender.send_request(request).await?;
        kept.used = Instant::now();
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
        let error = ApiError { action: action.to_string(), status, kind: text("__type"), message: text("message") };
        Err(error.into())
    }

    /// Headers of a request signed with the instance role. The signature proper is made up: the lab checks its form.
    pub async fn signature(&self, region: &str) -> anyhow::Result<header::HeaderMap> {
        let Credentials { key, token } = self.credentials().await?;
        let date = clock::compact(clock::unix_ms() / 1_000);
        let day = date.get(..8).unwrap_or_default();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={key}/{day}/{region}/ecs/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-security-token, Signature={}",
            clock::random_hex(64)
        );
        let mut headers = header::HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse()?);
        headers.insert("x-amz-date", date.parse()?);
        headers.insert("x-amz-security-token", token.parse()?);
        Ok(headers)
    }

    async fn credentials(&self) -> anyhow::Result<Credentials> {
        let mut cached = self.credentials.lock().await;
        if let Some(credentials) = &*cached {
            return Ok(credentials.clone());
        }
        let role = self.metadata("/latest/meta-data/iam/security-credentials/").await?;
        let role = role.lines().next().unwrap_or_default();
        let text = self.metadata(&format!("/latest/meta-data/iam/security-credentials/{role}")).await?;
        let parsed: Value = serde_json::from_str(&text).context("credentials of the instance role")?;
        let field = |name: &str| {
            let value = parsed.get(name).and_then(Value::as_str).map(str::to_string);
            value.with_context(|| format!("credentials of the instance role: no {name}"))
        };
        let credentials = Credentials { key: field("AccessKeyId")?, token: field("Token")? };
        Ok(cached.insert(credentials).clone())
    }

    async fn metadata(&self, path: &str) -> anyhow::Result<String> {
        let ask = async {
            let stream = TcpStream::connect(&self.config.imds).await?;
            let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            let request = |method: &str, path: &str, header: (&str, &str)| {
                Request::builder()
                    .method(method)
                    .uri(path)
                    .header(header::HOST, self.config.imds.as_str())
                    .header(header.0, header.1)
                    .body(Full::<Bytes>::default())
            };
            let ttl = ("X-aws-ec2-metadata-token-ttl-seconds", "21600");
            let token = text(sender.send_request(request("PUT", "/latest/api/token", ttl)?).await?).await?;
            text(sender.send_request(request("GET", path, ("X-aws-ec2-metadata-token", &token))?).await?).await
        };
        let what = || format!("metadata service {}{path}", self.config.imds);
        timeout(METADATA, ask).await.with_context(what)?.with_context(what)
    }
}

async fn text(response: hyper::Response<hyper::body::Incoming>) -> anyhow::Result<String> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("{status}");
    }
    Ok(String::from_utf8(body.to_vec())?)
}
