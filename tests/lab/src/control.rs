//! The client of a region's control API.

use crate::region::{
    place::Service,
    switch::{Change, Event, State},
};
use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use std::{path::PathBuf, time::Duration};
use tokio::net::UnixStream;

/// Speaks to the region whose control socket is at `socket`.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Everything the region tells of itself.
    ///
    /// # Errors
    ///
    /// When no region answers at the socket.
    pub async fn state(&self) -> anyhow::Result<State> {
        self.call("GET", "/state", String::new()).await
    }

    /// Throws switches; in force when this returns.
    ///
    /// # Errors
    ///
    /// As [`Self::state`].
    pub async fn set(&self, change: &Change) -> anyhow::Result<State> {
        self.call("POST", "/set", serde_json::to_string(change)?).await
    }

    /// Events after number `seq`; waits up to `wait` for the first.
    ///
    /// # Errors
    ///
    /// As [`Self::state`].
    pub async fn events(&self, seq: u64, wait: Duration) -> anyhow::Result<Vec<Event>> {
        let path = format!("/events?after={seq}&wait_ms={}", wait.as_millis());
        self.call("GET", &path, String::new()).await
    }

    /// Closes the open websockets of a service, or of all.
    ///
    /// # Errors
    ///
    /// As [`Self::state`].
    pub async fn hang_up(&self, service: Option<Service>) -> anyhow::Result<()> {
        let query = service.map(|service| format!("?service={}", service.id())).unwrap_or_default();
        let _: serde_json::Value = self.call("POST", &format!("/hang-up{query}"), String::new()).await?;
        Ok(())
    }

    async fn call<T: serde::de::DeserializeOwned>(&self, method: &str, path: &str, body: String) -> anyhow::Result<T> {
        let socket = self.socket.display();
        let stream = UnixStream::connect(&self.socket)
            .await
            .with_context(|| format!("no region answers at {socket}: is `hostagent-lab region` running?"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "region")
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(body))?;
        let response = sender.send_request(request).await.with_context(|| format!("{method} {path} at {socket}"))?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        driver.abort();
        if !status.is_success() {
            bail!("{method} {path} at {socket}: {status}: {}", String::from_utf8_lossy(&bytes));
        }
        serde_json::from_slice(&bytes).with_context(|| format!("{method} {path} at {socket}: the answer"))
    }
}
