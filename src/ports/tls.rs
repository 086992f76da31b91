//! Connections made to see whether they can be made: TCP, TLS with SNI, and one HTTP question.

use super::{
    HttpAsk, Prober,
    http::{HttpError, ask_head},
    words::{Span, chain, io_words},
};
use crate::facts::ReachOutcome;
use async_trait::async_trait;
use hyper::{Method, Response, StatusCode};
use rustls_pki_types::{ServerName, UnixTime};
use std::{
    env, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, sync::OnceCell, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore, client::Resumption, crypto::ring},
};

/// Whether the answer is the service's; what it is otherwise.
type Judge = fn(&Response<()>) -> Result<(), String>;

/// Connects, and says how far it came.
#[derive(Debug, Default)]
pub struct TlsProber {
    /// For the TCP connection, the TLS handshake and the HTTP answer each.
    stage: Duration,
    /// Trust the certificates of this PEM file instead of the host's.
    only: Option<PathBuf>,
    /// The host's trusted certificates, read before the first probe: not every command probes.
    config: OnceCell<Result<Arc<ClientConfig>, String>>,
}

impl TlsProber {
    /// `stage` bounds the TCP connection, the TLS handshake and the HTTP answer, each. The trusted certificates are
    /// the host's, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR` where set, read once.
    pub fn new(stage: Duration) -> Self {
        Self { stage, only: None, config: OnceCell::new() }
    }

    /// As [`TlsProber::new`], trusting only the certificates of a PEM file.
    pub fn trusting(stage: Duration, file: &Path) -> Self {
        Self { stage, only: Some(file.to_owned()), config: OnceCell::new() }
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let load = async || {
            let only = self.only.clone();
            let loading = tokio::task::spawn_blocking(move || load_config(only.as_deref()));
            loading.await.unwrap_or_else(|_| Err("the trusted certificates could not be read".into()))
        };
        self.config.get_or_init(load).await.clone()
    }

    async fn http(&self, stream: TlsStream<TcpStream>, host: &str, ask: HttpAsk) -> ReachOutcome {
        let (method, path, judge): (_, _, Judge) = match ask {
            HttpAsk::None => return ReachOutcome::Reached { http_status: None },
            HttpAsk::Registry => (Method::GET, "/v2/", is_registry),
            HttpAsk::S3 => (Method::HEAD, "/", is_s3),
        };
        let answer = match timeout(self.stage, ask_head(stream, method, host, path)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error @ HttpError::Exchange(_))) => return ReachOutcome::WrongService(error.to_string()),
            Ok(Err(error)) => return ReachOutcome::WrongService(format!("no question could be asked: {error}")),
            Err(_) => return ReachOutcome::WrongService(format!("no HTTP answer within {}", Span(self.stage))),
        };
        match judge(&answer) {
            Ok(()) => ReachOutcome::Reached { http_status: Some(answer.status().as_u16()) },
            Err(why) => ReachOutcome::WrongService(why),
        }
    }
}

#[async_trait]
impl Prober for TlsProber {
    async fn prepare(&self) {
        // What goes wrong here is told by each probe.
        let _ = self.config().await;
    }

    async fn probe(&self, addr: SocketAddr, host: &str, ask: HttpAsk) -> ReachOutcome {
        let tcp = match timeout(self.stage, TcpStream::connect(addr)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return tcp_outcome(&error),
            Err(_) => return ReachOutcome::TcpTimedOut,
        };
        let config = match self.config().await {
            Ok(config) => config,
            Err(why) => return ReachOutcome::TlsFailed(why),
        };
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(_) => return ReachOutcome::TlsFailed(format!("\"{host}\" is not a name a certificate can hold")),
        };
        match timeout(self.stage, TlsConnector::from(config).connect(name, tcp)).await {
            Ok(Ok(stream)) => self.http(stream, host, ask).await,
            Ok(Err(error)) => ReachOutcome::TlsFailed(tls_words(&error)),
            Err(_) => ReachOutcome::TlsTimedOut,
        }
    }
}

fn tcp_outcome(error: &io::Error) -> ReachOutcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ReachOutcome::TcpRefused,
        io::ErrorKind::TimedOut => ReachOutcome::TcpTimedOut,
        _ => ReachOutcome::TcpFailed(io_words(error)),
    }
}

fn load_config(only: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let bundle = only.map(Path::to_owned).or_else(system_bundle);
    let found = match &bundle {
        Some(file) => rustls_native_certs::load_certs_from_paths(Some(file), None),
        None => rustls_native_certs::load_native_certs(),
    };
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let place = only.map_or_else(searched, |file| file.display().to_string());
        let why = match found.errors.first() {
            Some(error) => chain(error),
            None if unusable > 0 => format!("{unusable} unreadable certificates"),
            None => "it is empty".into(),
        };
        return Err(format!(
            "no trusted certificates found in {place} ({why}); install ca-certificates, or set SSL_CERT_FILE"
        ));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A resumed session shows no certificate, so one good address would vouch for the others.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The file with all of the system's trusted certificates, unless the environment names others. The directory beside it
/// holds the same ones again, a file and two links each: reading those too takes longer than all else a probe does.
fn system_bundle() -> Option<PathBuf> {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().any(|name| env::var_os(name).is_some());
    if named { None } else { openssl_probe::probe().cert_file }
}

/// Where the host's trusted certificates are looked for.
fn searched() -> String {
    let variable = |name: &str| env::var(name).ok().map(|value| format!("{name}={value}"));
    let set: Vec<String> = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(variable).collect();
    if set.is_empty() { "the system's certificate store".into() } else { set.join(", ") }
}

fn tls_words(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "the connection was closed during the handshake".into(),
            _ => format!("the handshake broke off: {}", io_words(error)),
        };
    };
    match tls {
        TlsError::InvalidCertificate(certificate) => certificate_words(certificate),
        TlsError::InvalidMessage(_) => format!("what answered does not speak TLS: {tls}"),
        TlsError::AlertReceived(alert) => format!("the server ended the handshake with alert {alert:?}"),
        _ => tls.to_string(),
    }
}

fn certificate_words(error: &CertificateError) -> String {
    use CertificateError::*;
    let seconds = |later: &UnixTime, earlier: &UnixTime| later.as_secs().saturating_sub(earlier.as_secs());
    match error {
        NotValidForName => "the certificate is for another name".into(),
        NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            match certificate_names(presented) {
                names if names.is_empty() => format!("the certificate is not for {expected}: it holds no names"),
                names => format!("the certificate is not for {expected}: it is for {names}"),
            }
        }
        UnknownIssuer => "the certificate's issuer is not trusted by this host".into(),
        BadSignature => "the certificate bears the name of a trusted issuer, but not its signature".into(),
        Expired => "the certificate has expired".into(),
        ExpiredContext { time, not_after } => {
            format!("the certificate expired {} ago, by this host's clock", age(seconds(time, not_after)))
        }
        NotValidYet => "the certificate is not valid yet".into(),
        NotValidYetContext { time, not_before } => {
            format!("the certificate becomes valid in {}, by this host's clock", age(seconds(not_before, time)))
        }
        Revoked => "the certificate was revoked".into(),
        other => format!("the certificate is not accepted: {other}"),
    }
}

/// `DnsName("a.example")` → `a.example`, at most five of them.
fn certificate_names(presented: &[String]) -> String {
    const SHOWN: usize = 5;
    let bare = |name: &String| name.split('"').nth(1).map_or_else(|| name.clone(), str::to_owned);
    let mut names: Vec<String> = presented.iter().take(SHOWN).map(bare).collect();
    if presented.len() > SHOWN {
        names.push(format!("{} more", presented.len() - SHOWN));
    }
    names.join(", ")
}

fn age(seconds: u64) -> String {
    match seconds {
        s if s >= 2 * 86_400 => format!("{} days", s / 86_400),
        s if s >= 2 * 3_600 => format!("{} hours", s / 3_600),
        s => format!("{s} s"),
    }
}

fn is_registry(answer: &Response<()>) -> Result<(), String> {
    match answer.status() {
        StatusCode::OK | StatusCode::UNAUTHORIZED => Ok(()),
        status => Err(format!("GET /v2/ gave {status}; a registry answers 401")),
    }
}

fn is_s3(answer: &Response<()>) -> Result<(), String> {
    let server = answer.headers().get("server").and_then(|value| value.to_str().ok());
    if answer.headers().contains_key("x-amz-request-id") || server == Some("AmazonS3") {
        return Ok(());
    }
    Err(format!("HEAD / gave {} without x-amz-request-id; S3 sends it with every answer", answer.status()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_errors_are_kept_apart() {
        let outcome = |code| tcp_outcome(&io::Error::from_raw_os_error(code));
        assert_eq!(outcome(111), ReachOutcome::TcpRefused);
        assert_eq!(outcome(110), ReachOutcome::TcpTimedOut);
        assert_eq!(outcome(113), ReachOutcome::TcpFailed("no route to host".into()));
        assert_eq!(outcome(101), ReachOutcome::TcpFailed("network is unreachable".into()));
    }

    #[test]
    fn services_are_known_by_their_answers() {
        let answer = |status: u16, header: Option<(&'static str, &'static str)>| {
            let builder = Response::builder().status(status);
            header.into_iter().fold(builder, |builder, (name, value)| builder.header(name, value)).body(()).unwrap()
        };
        assert!(is_registry(&answer(401, None)).is_ok());
        assert!(is_registry(&answer(200, None)).is_ok());
        assert_eq!(is_registry(&answer(404, None)).unwrap_err(), "GET /v2/ gave 404 Not Found; a registry answers 401");
        assert!(is_s3(&answer(403, Some(("x-amz-request-id", "A1")))).is_ok());
        assert!(is_s3(&answer(400, Some(("server", "AmazonS3")))).is_ok());
        assert!(is_s3(&answer(200, Some(("server", "nginx")))).unwrap_err().contains("without x-amz-request-id"));
    }
}
