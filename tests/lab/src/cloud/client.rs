//! A client of the cloud for tests: plain HTTP, signed in form only.

use super::{ACCESS_KEY, error::ApiError};
use crate::{
    clock::{compact, unix_ms},
    region::place::REGION,
};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// The longest that an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Makes calls, each on a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    /// The access key it signs with.
    pub key: String,
    /// The session token it sends along.
    pub token: Option<String>,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, key: ACCESS_KEY.into(), token: None }
    }

    /// A call of Systems Manager, as JSON in and out.
    ///
    /// # Errors
    ///
    /// As the service.
    ///
    /// # Panics
    ///
    /// When the cloud does not answer.
    #[track_caller]
    pub fn ssm(&self, action: &str, input: &Value) -> Result<Value, ApiError> {
        self.json("ssm", "AmazonSSM", action, input)
    }

    /// A call of ECS, as [`Self::ssm`].
    ///
    /// # Errors
    ///
    /// As the service.
    #[track_caller]
    pub fn ecs(&self, action: &str, input: &Value) -> Result<Value, ApiError> {
        self.json("ecs", "AmazonEC2ContainerServiceV20141113", action, input)
    }

    #[track_caller]
    fn json(&self, service: &str, prefix: &str, action: &str, input: &Value) -> Result<Value, ApiError> {
        let target = format!("{prefix}.{action}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let answer = match self.post("/", service, &headers, input.to_string().as_bytes()) {
            Ok(answer) => answer,
            Err(error) => panic!("the cloud did not answer {action}: {error:#}"),
        };
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status == 200 {
            return Ok(body);
        }
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Err(ApiError { kind: text("__type"), message: text("message"), status: answer.status })
    }

    /// A form of the query protocol; status and document.
    ///
    /// # Errors
    ///
    /// When the cloud does not answer.
    pub fn query(&self, service: &str, form: &str) -> anyhow::Result<(u16, String)> {
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let answer = self.post("/", service, &headers, form.as_bytes())?;
        Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// A signed request.
    ///
    /// # Errors
    ///
    /// When the cloud does not answer.
    pub fn post(&self, path: &str, service: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<Answer> {
        let date = compact(unix_ms() / 1_000);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}/{REGION}/{service}/aws4_request, SignedHeaders=host;x-amz-date, Signature={}",
            self.key,
            &date[..8],
            "0".repeat(64)
        );
        let signed = [("authorization", authorization.as_str()), ("x-amz-date", date.as_str())];
        let token = self.token.as_deref().map(|token| ("x-amz-security-token", token));
        self.send(path, &[&signed, token.as_slice(), headers].concat(), body)
    }

    /// A request with these headers and no others of AWS's.
    ///
    /// # Errors
    ///
    /// When the cloud does not answer.
    pub fn send(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut request = format!("POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(request.as_bytes())?;
        stream.write_all(body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        understand(&bytes)
    }
}

fn understand(bytes: &[u8]) -> anyhow::Result<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("the answer has no head")?;
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("the answer has no status")?.parse()?;
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<(String, String)> = lines.filter_map(header).collect();
    if headers.iter().any(|(name, _)| name == "transfer-encoding") {
        bail!("the answer comes in chunks, which is not expected of this cloud");
    }
    Ok(Answer { status, headers, body: bytes[end + 4..].to_vec() })
}
