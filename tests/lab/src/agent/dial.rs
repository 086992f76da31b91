//! How the agent gets a TLS connection to a host: resolver, proxy, TCP, TLS.

use super::config::{Config, with_port};
use anyhow::{Context as _, bail};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// For one address; the next is tried then.
const CONNECT: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Dials hosts.
pub struct Dialer {
    config: Arc<Config>,
    tls: TlsConnector,
}

impl Dialer {
    pub fn new(config: Arc<Config>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for file in &config.roots {
            // Of the usual places, some are not there.
            let Ok(certificates) = CertificateDer::pem_file_iter(file) else { continue };
            let certificates: Result<Vec<_>, _> = certificates.collect();
            roots.add_parsable_certificates(certificates.with_context(|| format!("read {}", file.display()))?);
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// A TLS connection to `host`, verified for that name.
    pub async fn dial(&self, host: &str) -> anyhow::Result<TlsStream<TcpStream>> {
        let (name, port) = host.split_once(':').unwrap_or((host, ""));
        let port = if port.is_empty() { self.config.https_port } else { port.parse().context("port")? };
        let stream = match self.config.proxy_for(name) {
            Some(proxy) => self.through(proxy, name, port).await?,
            None => self.connect(name, port).await?,
        };
        stream.set_nodelay(true)?;
        let server = ServerName::try_from(name.to_string()).with_context(|| format!("host name {name:?}"))?;
        let handshake = timeout(HANDSHAKE, self.tls.connect(server, stream)).await;
        handshake.with_context(|| format!("TLS to {name}: timed out"))?.with_context(|| format!("TLS to {name}"))
    }

    async fn connect(&self, name: &str, port: u16) -> anyhow::Result<TcpStream> {
        let mut last = None;
        for address in self.resolve(name).await? {
            let address = SocketAddr::new(address, port);
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = Some(format!("{address}: {error}")),
                Err(_) => last = Some(format!("{address}: timed out")),
            }
        }
        bail!("dial {name}: {}", last.unwrap_or_else(|| "no address".into()))
    }

    async fn through(&self, proxy: &str, name: &str, port: u16) -> anyhow::Result<TcpStream> {
        let proxy = with_port(proxy, 3128);
        let (proxy_host, proxy_port) = proxy.rsplit_once(':').unwrap_or((&proxy, "3128"));
        let mut stream = self.connect(proxy_host, proxy_port.parse().context("port of the proxy")?).await?;
        let ask = format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > 8192 {
                bail!("proxy {proxy}: an endless answer");
            }
            head.push(timeout(HANDSHAKE, stream.read_u8()).await.context("proxy: timed out")??);
        }
        let status = String::from_utf8_lossy(&head);
        if status.split(' ').nth(1) != Some("200") {
            bail!("proxy {proxy}: {}", status.lines().next().unwrap_or_default());
        }
        Ok(stream)
    }

    /// As Go's own resolver: the hosts file, then the name server, no cache.
    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<std::net::IpAddr>> {
        if let Ok(ip) = name.parse() {
            return Ok(vec![ip]);
        }
        let resolver = self.resolver()?;
        let found = resolver.lookup_ip(format!("{name}.")).await.with_context(|| format!("look up {name}"))?;
        Ok(found.iter().collect())
    }

    fn resolver(&self) -> anyhow::Result<TokioResolver> {
        // Made anew each time, so that a change of resolv.conf or the hosts file counts at once.
        let mut builder = match self.config.dns {
            Some(server) => {
                let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
                for connection in &mut name_server.connections {
                    connection.port = server.port();
                }
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
                Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            None => Resolver::builder_tokio().context("read /etc/resolv.conf")?,
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.timeout = Duration::from_secs(5);
        options.attempts = 2;
        builder.build().context("resolver")
    }
}
