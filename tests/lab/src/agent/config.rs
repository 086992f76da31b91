//! What the agent reads from its environment.

use anyhow::Context as _;
use std::{env, fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

/// The commit in the version string of the released 1.105.1.
const COMMIT: &str = "a8b3e7d3";

/// The agent's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `ECS_CLUSTER`; empty means `default`.
    pub cluster: String,
    /// `ECS_DATADIR`, by default `/data`.
    pub data_dir: PathBuf,
    /// `ECS_CHECKPOINT`; by default true if `ECS_DATADIR` is set and false if it is not.
    pub checkpoint: bool,
    /// `AWS_DEFAULT_REGION`; the metadata service is asked if it is not set.
    pub region: Option<String>,
    /// `ECS_BACKEND_HOST`: the API's host instead of `ecs.<region>.amazonaws.com`, without a scheme.
    pub backend_host: Option<String>,
    /// `HTTPS_PROXY`, else `HTTP_PROXY`, as `host:port`.
    pub proxy: Option<String>,
    /// `NO_PROXY`: hosts and domains.
    pub no_proxy: Vec<String>,
    /// `SSL_CERT_FILE`, or the usual places.
    pub roots: Vec<PathBuf>,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`, as `host:port`.
    pub imds: String,
    /// `LAB_DNS`: instead of `/etc/resolv.conf`.
    pub dns: Option<SocketAddr>,
    /// `LAB_HTTPS_PORT`
    pub https_port: u16,
    /// `LAB_INTROSPECTION_ADDR`
    pub introspection: SocketAddr,
    /// `LAB_CREDENTIALS_ADDR`
    pub credentials: SocketAddr,
    /// `LAB_AGENT_VERSION`
    pub version: String,
    pub commit: String,
    /// `LAB_TIME_SCALE`: how many times faster the agent's long waits pass.
    pub time_scale: f64,
    /// `LAB_FAULTS`: see [`super::faults`].
    pub faults: String,
}

impl Config {
    pub fn from_env() -> anyhow::Result<Self> {
        let data_dir = var("ECS_DATADIR");
        let checkpoint = match var("ECS_CHECKPOINT").as_deref() {
            Some(text) => matches!(text.to_lowercase().as_str(), "true" | "1" | "t"),
            None => data_dir.is_some(),
        };
        let proxy = var("HTTPS_PROXY").or(var("https_proxy")).or(var("HTTP_PROXY")).or(var("http_proxy"));
        let no_proxy = var("NO_PROXY").or(var("no_proxy")).unwrap_or_default();
        let roots = match var("SSL_CERT_FILE") {
            Some(file) => vec![file.into()],
            None => {
                ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"].map(PathBuf::from).into()
            }
        };
        let imds = var("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| "http://169.254.169.254".into());
        Ok(Self {
            cluster: var("ECS_CLUSTER").unwrap_or_default(),
            data_dir: data_dir.unwrap_or_else(|| "/data".into()).into(),
            checkpoint,
            region: var("AWS_DEFAULT_REGION"),
            backend_host: var("ECS_BACKEND_HOST").map(|host| bare(&host)),
            proxy: proxy.map(|proxy| bare(&proxy)),
            no_proxy: no_proxy.split(',').map(|host| host.trim().to_string()).filter(|host| !host.is_empty()).collect(),
            roots,
            imds: with_port(&bare(&imds), 80),
            dns: var("LAB_DNS").map(|_| parsed("LAB_DNS", SocketAddr::from(([0; 4], 0)))).transpose()?,
            https_port: parsed("LAB_HTTPS_PORT", 443)?,
            introspection: parsed("LAB_INTROSPECTION_ADDR", SocketAddr::from(([0; 4], 51678)))?,
            credentials: parsed("LAB_CREDENTIALS_ADDR", SocketAddr::from(([127, 0, 0, 1], 51679)))?,
            version: var("LAB_AGENT_VERSION").unwrap_or_else(|| "1.105.1".into()),
            commit: COMMIT.into(),
            time_scale: Some(parsed("LAB_TIME_SCALE", 1.0)?).filter(|scale| *scale > 0.0).unwrap_or(1.0),
            faults: var("LAB_FAULTS").unwrap_or_default(),
        })
    }

    /// The configured cluster's name.
    pub fn cluster_name(&self) -> &str {
        if self.cluster.is_empty() { "default" } else { &self.cluster }
    }

    /// `Amazon ECS Agent - v1.105.1 (*a8b3e7d3)`, the form of `/v1/metadata`.
    pub fn version_text(&self) -> String {
        format!("Amazon ECS Agent - v{} (*{})", self.version, self.commit)
    }

    /// Major, minor, patch.
    pub fn version_numbers(&self) -> (u64, u64, u64) {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        (next(), next(), next())
    }

    /// A wait of the real agent, as long as it takes here.
    pub fn scaled(&self, real: Duration) -> Duration {
        real.div_f64(self.time_scale)
    }

    /// Whether a connection to `host` goes through the proxy.
    pub fn proxy_for(&self, host: &str) -> Option<&str> {
        let direct = self.no_proxy.iter().any(|entry| {
            let domain = entry.trim_start_matches('.');
            entry == "*" || host == domain || host.ends_with(&format!(".{domain}"))
        });
        self.proxy.as_deref().filter(|_| !direct)
    }
}

fn var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn parsed<T: FromStr>(name: &str, default: T) -> anyhow::Result<T>
where
    T::Err: Display + std::error::Error + Send + Sync + 'static,
{
    match var(name) {
        Some(text) => text.parse().with_context(|| format!("{name}={text}")),
        None => Ok(default),
    }
}

/// Without scheme, path and trailing slash.
fn bare(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_string()
}

/// `host:port`, with `port` where there is none.
pub fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { host.to_string() } else { format!("{host}:{port}") }
}
