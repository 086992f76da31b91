//! The two websockets: dialled to the cached host names, held, dialled again.

use super::{api::Api, config::Config, dial::Dialer, run::log};
use crate::{clock, http};
use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

/// How long the answer of DiscoverPollEndpoint is good for: 12 h since 1.59.0, 20 min before.
const CACHE: Duration = Duration::from_secs(12 * 3_600);
const CACHE_BEFORE_1_59: Duration = Duration::from_secs(20 * 60);
/// Since 1.76 a websocket is closed by the agent after 30 to 35 minutes.
const HOLD: Duration = Duration::from_secs(30 * 60);
const HOLD_JITTER_S: u64 = 5 * 60;
/// ACS silent for this long is dead.
const SILENCE: Duration = Duration::from_secs(120);
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(120);
const TELEMETRY: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Acs,
    Tcs,
}

/// What both sessions share.
pub struct Sessions {
    pub config: Arc<Config>,
    pub dialer: Arc<Dialer>,
    pub api: Arc<Api>,
    pub region: String,
    pub arn: String,
    /// ACS and TCS host, and when they were told.
    pub cache: Mutex<Option<((String, String), Instant)>>,
    /// True once ACS has sent credentials.
    pub credentials: watch::Sender<bool>,
}

impl Sessions {
    /// Keeps one websocket up, for ever.
    pub async fn keep(&self, kind: Kind) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            match self.once(kind).await {
                Ok(()) => back_off = BACK_OFF_MIN,
                Err(error) => {
                    log("warn", &format!("{kind:?}: {error:#}; trying again in {back_off:?}"));
                    tokio::time::sleep(back_off).await;
                    back_off = back_off.mul_f64(1.5).min(BACK_OFF_MAX);
                }
            }
        }
    }

    /// The cached host names; asked for again once they are too old, kept if that fails.
    async fn host(&self, kind: Kind) -> anyhow::Result<String> {
        let life = if self.config.version_numbers() >= (1, 59, 0) { CACHE } else { CACHE_BEFORE_1_59 };
        let life = self.config.scaled(life);
        let mut cache = self.cache.lock().await;
        let fresh = cache.as_ref().is_some_and(|(_, told)| told.elapsed() < life);
        if !fresh {
            match self.api.discover(&self.region, &self.arn).await {
                Ok(hosts) => *cache = Some((hosts, Instant::now())),
                Err(error) if cache.is_some() => log("warn", &format!("{error:#}; using the hosts known before")),
                Err(error) => return Err(error),
            }
        }
        let (hosts, _) = cache.as_ref().context("no websocket hosts")?;
        Ok(if kind == Kind::Acs { hosts.0.clone() } else { hosts.1.clone() })
    }

    /// One connection from dialling to its end. An orderly end asks for the next at once.
    async fn once(&self, kind: Kind) -> anyhow::Result<()> {
        let host = self.host(kind).await?;
        let config = &self.config;
        let query = http::encode(&[
            ("agentHash", &config.commit),
            ("agentVersion", &config.version),
            ("clusterArn", config.cluster_name()),
            ("containerInstanceArn", &self.arn),
            ("protocolVersion", "2"),
            ("sendCredentials", "true"),
            ("seqNum", "1"),
        ]);
        let mut request = format!("wss://{host}/ws?{query}").into_client_request()?;
        request.headers_mut().extend(self.api.signature(&self.region).await?);
        let stream = self.dialer.dial(&host).await?;
        let (mut websocket, _) = timeout(Duration::from_secs(10), tokio_tungstenite::client_async(request, stream))
            .await
            .with_context(|| format!("websocket to {host}: timed out"))?
            .with_context(|| format!("websocket to {host}"))?;
        log("info", &format!("{kind:?}: connected to {host}"));

        let hold = HOLD + Duration::from_secs(clock::unix_ms() % HOLD_JITTER_S);
        let until = tokio::time::sleep(config.scaled(hold));
        let mut telemetry = tokio::time::interval(TELEMETRY);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => {
                    log("info", &format!("{kind:?}: closing the connection to {host} to make a new one"));
                    let _ = timeout(Duration::from_secs(1), websocket.close(None)).await;
                    return Ok(());
                }
                _ = telemetry.tick(), if kind == Kind::Tcs => {
                    let metrics = "{\"type\":\"PublishMetricsRequest\",\"message\":{\"metadata\":{\"idle\":true}}}";
                    websocket.send(Message::text(metrics)).await?;
                }
                received = timeout(SILENCE, websocket.next()) => match received.context("silence")? {
                    None => bail!("{host} closed the connection"),
                    Some(Ok(Message::Close(_))) => {
                        log("info", &format!("{kind:?}: {host} closed the connection"));
                        return Ok(());
                    }
                    Some(Ok(Message::Text(text))) => {
                        if text.contains("\"IAMRoleCredentialsMessage\"") {
                            self.credentials.send_replace(true);
                        }
                        if text.contains("\"HeartbeatMessage\"") {
                            let ack = "{\"type\":\"HeartbeatAckRequest\",\"message\":{}}";
                            websocket.send(Message::text(ack)).await?;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                }
            }
        }
    }
}
