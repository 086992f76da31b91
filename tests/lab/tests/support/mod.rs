//! What the lab's own tests share.
#![allow(dead_code)]

use anyhow::{Context as _, bail};
use hostagent_lab::region::{
    Region, RegionConfig, RegionHandle,
    place::Service,
    switch::{Event, What},
};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Longer than anything takes here, for waits that end with an event.
pub const LONG: Duration = Duration::from_secs(30);

/// A region on loopback addresses with its directory.
pub struct Lab {
    pub region: RegionHandle,
    pub dir: TempDir,
}

impl Lab {
    pub async fn start() -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        let region = Region::start(RegionConfig::loopback(dir.path().join("region"))).await?;
        Ok(Self { region, dir })
    }

    /// An agent with a data directory and ports of its own.
    pub fn agent(&self) -> anyhow::Result<AgentSetup> {
        let data = self.dir.path().join("data");
        std::fs::create_dir_all(&data)?;
        let addresses = self.region.addresses();
        let (introspection, credentials) = (free()?, free()?);
        let env = [
            ("ECS_CLUSTER", "prod".to_string()),
            ("ECS_DATADIR", data.display().to_string()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", addresses.imds)),
            ("SSL_CERT_FILE", addresses.ca.display().to_string()),
            ("LAB_DNS", addresses.dns.to_string()),
            ("LAB_HTTPS_PORT", addresses.https_port.to_string()),
            ("LAB_INTROSPECTION_ADDR", introspection.to_string()),
            ("LAB_CREDENTIALS_ADDR", credentials.to_string()),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        Ok(AgentSetup { env, data, introspection, credentials })
    }

    /// The hosts of the next ACS and TCS websockets that open after event number `after`.
    pub async fn websockets_after(&self, after: u64) -> anyhow::Result<(String, String)> {
        let host = async |service| {
            let event = self.region.wait_for(after, LONG, |event| opened(event, service)).await?;
            match event.what {
                What::WsOpen { websocket } => Ok(websocket.host),
                other => bail!("{other:?}"),
            }
        };
        Ok((host(Service::EcsAgent).await?, host(Service::EcsTelemetry).await?))
    }
}

pub fn opened(event: &Event, service: Service) -> bool {
    matches!(&event.what, What::WsOpen { websocket } if websocket.service == service)
}

pub fn api_call(event: &Event, wanted: &str) -> bool {
    matches!(&event.what, What::Api { action, .. } if action == wanted)
}

/// An agent that can be started, several times.
pub struct AgentSetup {
    pub env: Vec<(String, String)>,
    pub data: PathBuf,
    pub introspection: SocketAddr,
    pub credentials: SocketAddr,
}

impl AgentSetup {
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_string(), value.to_string()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    pub fn start(&self) -> anyhow::Result<Child> {
        Command::new(env!("CARGO_BIN_EXE_hostagent-lab"))
            .arg("agent")
            .env_clear()
            .envs(self.env.iter().cloned())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start the agent")
    }
}

/// Sends SIGTERM and gives the exit code.
pub async fn stop(agent: &mut Child) -> anyhow::Result<i32> {
    let pid = agent.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)).context("the agent has ended")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    ended(agent).await
}

pub async fn ended(agent: &mut Child) -> anyhow::Result<i32> {
    let status = tokio::time::timeout(LONG, agent.wait()).await.context("the agent does not end")??;
    status.code().with_context(|| format!("{status}"))
}

pub fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A GET without TLS; status and body.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<(u16, String)> {
    plain("GET", address, path, headers).await
}

pub async fn plain(
    method: &str,
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<(u16, String)> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let answer = http(stream, method, "localhost", path, headers, "").await?;
    Ok((answer.status, answer.body))
}

/// An HTTP answer.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

pub async fn http<S>(
    stream: S,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<Answer>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    use http_body_util::{BodyExt as _, Full};
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(driver);
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<hyper::body::Bytes>::from(body.to_string()))?;
    let response = tokio::time::timeout(LONG, sender.send_request(request)).await??;
    let status = response.status().as_u16();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}
