//! The one thing ecs-init asks of instance metadata.

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

const ADDRESS: &str = "169.254.169.254:80";
const TIMEOUT: Duration = Duration::from_secs(1);

/// The instance's region, by a session token and then the placement's path.
pub async fn region() -> Result<String> {
    let token = call(Method::PUT, "/latest/api/token", ("X-aws-ec2-metadata-token-ttl-seconds", "60")).await?;
    call(Method::GET, "/latest/meta-data/placement/region", ("X-aws-ec2-metadata-token", &token)).await
}

async fn call(method: Method, path: &str, header: (&str, &str)) -> Result<String> {
    let request = Request::builder().method(method).uri(path).header("Host", "169.254.169.254");
    let request = request.header(header.0, header.1).body(Empty::<Bytes>::new())?;
    let answer = async {
        let stream = TcpStream::connect(ADDRESS).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        driver.abort();
        if !status.is_success() {
            bail!("{path}: {status}");
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    timeout(TIMEOUT, answer).await.with_context(|| format!("{path}: no answer within {TIMEOUT:?}"))?
}
