//! The few calls of the Docker API that ecs-init makes, over the engine's Unix socket.

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::Path;
use tokio::net::UnixStream;

const SOCKET: &str = "/var/run/docker.sock";

/// A connection is opened for each call: an engine that was restarted is found again.
pub struct Engine;

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("the engine answered with something that is no JSON")
    }
}

impl Engine {
    async fn call(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Answer> {
        let stream = UnixStream::connect(SOCKET).await.with_context(|| format!("no engine answers on {SOCKET}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("Host", "docker")
            .header("Content-Type", kind)
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await.with_context(|| format!("{method} {path}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.with_context(|| format!("{method} {path}"))?.to_bytes();
        driver.abort();
        if status.is_client_error() || status.is_server_error() {
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body).trim());
        }
        Ok(Answer { status, body })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, "application/json", Bytes::new()).await?.json()
    }

    async fn post(&self, path: &str, body: Option<&Value>) -> Result<Answer> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        self.call(Method::POST, path, "application/json", body).await
    }

    /// The full ID of the container of this name, running or not.
    pub async fn find(&self, name: &str) -> Result<Option<String>> {
        let containers = self.get("/containers/json?all=1").await?;
        let wanted = format!("/{name}");
        let named = |container: &&Value| {
            container["Names"].as_array().is_some_and(|names| names.iter().any(|name| *name == *wanted))
        };
        let found = containers.as_array().and_then(|all| all.iter().find(named));
        Ok(found.and_then(|container| container["Id"].as_str()).map(str::to_owned))
    }

    pub async fn has_image(&self, tag: &str) -> Result<bool> {
        let images = self.get("/images/json?all=1").await?;
        let tagged = |image: &Value| image["RepoTags"].as_array().is_some_and(|tags| tags.iter().any(|t| *t == *tag));
        Ok(images.as_array().is_some_and(|images| images.iter().any(tagged)))
    }

    pub async fn load(&self, archive: &Path) -> Result<()> {
        let archive = tokio::fs::read(archive).await?;
        let answer = self.call(Method::POST, "/images/load?quiet=1", "application/x-tar", archive.into()).await?;
        // The engine reports a bad archive within an answer of 200.
        let said = String::from_utf8_lossy(&answer.body);
        if said.contains("\"error\"") {
            bail!("{}", said.trim());
        }
        Ok(())
    }

    pub async fn create(&self, name: &str, container: &Value) -> Result<String> {
        let made = self.post(&format!("/containers/create?name={name}"), Some(container)).await?.json()?;
        made["Id"].as_str().map(str::to_owned).context("the engine made a container without an ID")
    }

    pub async fn start(&self, id: &str) -> Result<()> {
        self.post(&format!("/containers/{id}/start"), None).await.map(drop)
    }

    /// Waits for the end of the container, however long; its exit code.
    pub async fn wait(&self, id: &str) -> Result<i64> {
        let ended = self.post(&format!("/containers/{id}/wait"), None).await?.json()?;
        ended["StatusCode"].as_i64().context("the engine told of an end without an exit code")
    }

    pub async fn stop(&self, id: &str, timeout_s: u32) -> Result<()> {
        let answer = self.post(&format!("/containers/{id}/stop?t={timeout_s}"), None).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            eprintln!("info: Agent is already stopped");
        }
        Ok(())
    }

    pub async fn remove(&self, id: &str) -> Result<()> {
        self.call(Method::DELETE, &format!("/containers/{id}?force=1"), "application/json", Bytes::new())
            .await
            .map(drop)
    }

    /// The last lines of the container's output, as the engine frames them.
    pub async fn log_tail(&self, id: &str, lines: u32) -> Result<String> {
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&tail={lines}");
        let answer = self.call(Method::GET, &path, "application/json", Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// The device of the engine's default bridge network.
    pub async fn bridge_interface(&self) -> Result<Option<String>> {
        let networks = self.get("/networks").await?;
        let default = |network: &&Value| network["Options"]["com.docker.network.bridge.default_bridge"] == "true";
        let found = networks.as_array().and_then(|networks| networks.iter().find(default));
        Ok(found.and_then(|n| n["Options"]["com.docker.network.bridge.name"].as_str()).map(str::to_owned))
    }
}
