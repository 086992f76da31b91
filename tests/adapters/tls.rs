//! The probe against servers with good, wrong, untrusted and old certificates, and with none.

use crate::support::{AMPLE, SHORT, again, answering, closed_port, report, reported, silent};
use hostagent::{
    facts::ReachOutcome,
    ports::{HttpAsk, Prober, tls::TlsProber},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::net::{AddressFamily, SocketType};
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

const HOST: &str = "ecs.eu-west-1.amazonaws.com";
const UNAUTHORIZED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// A certificate authority of the test's own, and its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        Self::called("Authority of the test")
    }

    fn called(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn server(&self, params: CertificateParams) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        Arc::new(config)
    }
}

fn named(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap()
}

struct Server {
    addr: SocketAddr,
    /// Name asked for by SNI and the request, of each connection.
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

/// Answers every request over TLS with these bytes, and keeps the connection; without any it just stays silent.
async fn serve(config: Arc<ServerConfig>, answer: &'static [u8]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
            let mut buffer = [0; 2048];
            let size = stream.read(&mut buffer).await.unwrap_or(0);
            log.lock().unwrap().push((name, String::from_utf8_lossy(&buffer[..size]).into_owned()));
            let _ = stream.write_all(answer).await;
            let _ = stream.flush().await;
            held.push(stream);
        }
    });
    Server { addr, seen }
}

async fn probe(authority: &Authority, server: &Server, ask: HttpAsk) -> ReachOutcome {
    TlsProber::trusting(AMPLE, &authority.file()).probe(server.addr, HOST, ask).await
}

fn failed(outcome: ReachOutcome) -> String {
    match outcome {
        ReachOutcome::TlsFailed(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_good_endpoint_is_reached_by_its_name() {
    let authority = Authority::new();
    let server = serve(authority.server(named(&[HOST])), UNAUTHORIZED).await;
    assert_eq!(probe(&authority, &server, HttpAsk::None).await, ReachOutcome::Reached { http_status: None });
    let outcome = probe(&authority, &server, HttpAsk::Registry).await;
    assert_eq!(outcome, ReachOutcome::Reached { http_status: Some(401) });
    let seen = server.seen.lock().unwrap().clone();
    let (name, request) = seen.last().unwrap();
    assert_eq!(name, HOST, "SNI");
    let request = request.to_ascii_lowercase();
    assert!(
        request.starts_with("get /v2/ http/1.1\r\n") && request.contains(&format!("host: {HOST}\r\n")),
        "{request}"
    );
}

#[tokio::test]
async fn what_is_not_the_service_is_said() {
    let authority = Authority::new();
    let config = authority.server(named(&[HOST]));
    let forbidden = b"HTTP/1.1 403 Forbidden\r\nx-amz-request-id: A1\r\nContent-Length: 9\r\n\r\n";
    let outcome = probe(&authority, &serve(config.clone(), forbidden).await, HttpAsk::S3).await;
    assert_eq!(outcome, ReachOutcome::Reached { http_status: Some(403) });
    for (answer, ask, text) in [
        (&b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..], HttpAsk::Registry, "GET /v2/ gave 404"),
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n", HttpAsk::S3, "HEAD / gave 200 OK without x-amz-request-id"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", HttpAsk::Registry, "what answered does not speak HTTP"),
    ] {
        let outcome = probe(&authority, &serve(config.clone(), answer).await, ask).await;
        assert!(matches!(&outcome, ReachOutcome::WrongService(why) if why.starts_with(text)), "{outcome:?}");
    }
    let silent = serve(config, b"").await;
    let outcome = TlsProber::trusting(SHORT, &authority.file()).probe(silent.addr, HOST, HttpAsk::Registry).await;
    assert_eq!(outcome, ReachOutcome::WrongService("no HTTP answer within 300 ms".into()));
}

#[tokio::test]
async fn certificates_are_judged_in_plain_words() {
    let authority = Authority::new();
    let refused =
        async |params| failed(probe(&authority, &serve(authority.server(params), b"").await, HttpAsk::None).await);
    assert_eq!(
        refused(named(&["www.example.com", "*.example.com"])).await,
        format!("the certificate is not for {HOST}: it is for www.example.com, *.example.com")
    );
    let mut old = named(&[HOST]);
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let why = refused(old).await;
    assert!(why.starts_with("the certificate expired ") && why.ends_with(" days ago, by this host's clock"), "{why}");
    let mut early = named(&[HOST]);
    (early.not_before, early.not_after) = (rcgen::date_time_ymd(2990, 1, 1), rcgen::date_time_ymd(2991, 1, 1));
    assert!(refused(early).await.starts_with("the certificate becomes valid in "));
    for (issuer, text) in [
        ("Stranger", "the certificate's issuer is not trusted by this host"),
        ("Authority of the test", "the certificate bears the name of a trusted issuer, but not its signature"),
    ] {
        let server = serve(Authority::called(issuer).server(named(&[HOST])), b"").await;
        assert_eq!(failed(probe(&authority, &server, HttpAsk::None).await), text);
    }
}

#[tokio::test]
async fn one_good_address_does_not_vouch_for_another() {
    let authority = Authority::new();
    let good = authority.server(named(&[HOST]));
    // It would even take the other's session up again.
    let mut bad = Arc::unwrap_or_clone(authority.server(named(&["other.example"])));
    bad.session_storage = good.session_storage.clone();
    let (good, bad) = (serve(good, UNAUTHORIZED).await, serve(Arc::new(bad), UNAUTHORIZED).await);
    let prober = TlsProber::trusting(AMPLE, &authority.file());
    assert!(prober.probe(good.addr, HOST, HttpAsk::Registry).await.reached());
    assert!(failed(prober.probe(bad.addr, HOST, HttpAsk::Registry).await).contains("other.example"));
}

#[tokio::test]
async fn stages_are_kept_apart() {
    let authority = Authority::new();
    let prober = TlsProber::trusting(SHORT, &authority.file());
    let probe = async |addr| prober.probe(addr, HOST, HttpAsk::None).await;
    assert_eq!(probe(closed_port()).await, ReachOutcome::TcpRefused);
    assert_eq!(probe(silent().await).await, ReachOutcome::TlsTimedOut);
    let why = failed(probe(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await);
    assert!(why.starts_with("what answered does not speak TLS"), "{why}");
    let hangs_up = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = hangs_up.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = hangs_up.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    assert_eq!(failed(probe(addr).await), "the connection was closed during the handshake");
    let why = failed(prober.probe(addr, "not a name", HttpAsk::None).await);
    assert_eq!(why, "\"not a name\" is not a name a certificate can hold");
}

#[tokio::test]
async fn a_filtered_port_is_a_time_out() {
    // A listener whose queue is full drops connections, as a firewall does.
    let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let addr: SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
    let _fills_it = std::net::TcpStream::connect(addr).unwrap();
    let authority = Authority::new();
    let outcome = TlsProber::trusting(SHORT, &authority.file()).probe(addr, HOST, HttpAsk::None).await;
    assert_eq!(outcome, ReachOutcome::TcpTimedOut);
}

#[tokio::test]
async fn without_trusted_certificates_it_says_where_it_looked() {
    let server = answering(b"").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("none.pem");
    let why = failed(TlsProber::trusting(AMPLE, &file).probe(server, HOST, HttpAsk::None).await);
    assert!(why.starts_with(&format!("no trusted certificates found in {}", file.display())), "{why}");
    fs::write(&file, "nothing here").unwrap();
    let why = failed(TlsProber::trusting(AMPLE, &file).probe(server, HOST, HttpAsk::None).await);
    assert!(why.contains("it is empty"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_names_the_trusted_certificates() {
    let authority = Authority::new();
    let server = serve(authority.server(named(&[HOST])), UNAUTHORIZED).await;
    let run = |file: PathBuf| {
        let mut child = again("tls::probe_in_another_environment");
        child.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", file).env("PROBE", server.addr.to_string());
        tokio::task::spawn_blocking(move || reported(child))
    };
    assert_eq!(run(authority.file()).await.unwrap(), "Reached { http_status: None }");
    let report = run("/does/not/exist".into()).await.unwrap();
    assert!(report.contains("no trusted certificates found in SSL_CERT_FILE=/does/not/exist"), "{report}");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn probe_in_another_environment() {
    let addr = env::var("PROBE").unwrap().parse().unwrap();
    report(format!("{:?}", TlsProber::new(AMPLE).probe(addr, HOST, HttpAsk::None).await));
}
