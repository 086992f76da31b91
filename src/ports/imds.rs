//! The instance metadata service, version 2 only: where the host is.
//!
//! It ends the connection after each answer, so that every question needs one of its own. They are opened while the
//! token is being fetched; all in all a look takes four round trips, however many questions it asks.

use super::{
    Metadata,
    http::{Answer, HttpError, request, send},
    introspection::parse_base,
    words::{Span, excerpt, io_words},
};
use crate::facts::{Instance, Missing};
use async_trait::async_trait;
use aws_config::{imds::Client, provider_config::ProviderConfig};
use aws_smithy_http_client::Builder as HttpBuilder;
use futures_util::future::try_join_all;
use hyper::{Method, header::HeaderValue};
use ipnet::IpNet;
use serde_json::Value;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

type Result<T> = std::result::Result<T, Missing>;

const META: &str = "/latest/meta-data";
const MACS: &str = "/latest/meta-data/network/interfaces/macs/";
const IDENTITY: &str = "/latest/dynamic/instance-identity/document";
const TOKEN: &str = "/latest/api/token";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// A look takes a second or two.
const TTL_S: &str = "60";
/// The questions of a look on a host with one network interface.
const QUESTIONS: usize = 9;
/// The longest answer, the identity document, has some hundred bytes.
const MAX_BODY: usize = 64 << 10;
/// How often a question is asked that fails otherwise than by an answer.
const TRIES: usize = 2;
/// Of an answer that makes no sense, so much is shown.
const SHOWN: usize = 60;

/// Asks one metadata service.
#[derive(Debug, Clone)]
pub struct Imds {
    base: String,
    deadline: Duration,
}

impl Imds {
    /// `base` is the URL of the service, without a path. `deadline` bounds all questions together.
    pub fn new(base: &str, deadline: Duration) -> Self {
        Self { base: base.to_owned(), deadline }
    }
}

/// The SDK's client of the metadata service at `base`, for the SDK's own needs. Its HTTP client is named here because the SDK brings none along
/// without its default features; it is plain HTTP and asks no proxy.
pub(super) fn client(base: &str, deadline: Duration) -> std::result::Result<Client, String> {
    if !base.starts_with("http://") {
        return Err(format!("\"{base}\" is not an http:// URL"));
    }
    let hop = hop(deadline);
    let config = ProviderConfig::without_region().with_http_client(HttpBuilder::new().build_http());
    Ok(Client::builder()
        .configure(&config)
        .endpoint(base)
        .map_err(|error| format!("\"{base}\" is not a URL: {error}"))?
        .connect_timeout(hop)
        .read_timeout(hop)
        .operation_attempt_timeout(hop)
        .operation_timeout(deadline)
        .max_attempts(2)
        .build())
}

fn hop(deadline: Duration) -> Duration {
    deadline.min(Duration::from_secs(1))
}

#[async_trait]
impl Metadata for Imds {
    async fn instance(&self) -> Result<Instance> {
        let missing = |why: String, hint| Missing::new(format!("instance metadata ({})", self.base), why, hint);
        let Some((host, port)) = parse_base(&self.base) else {
            return Err(missing(format!("\"{}\" is not an http:// URL", self.base), "correct instance.imds"));
        };
        let line = Arc::new(Line { host, port, open: Mutex::default(), hop: hop(self.deadline) });
        let look = async { Service::open(&self.base, line).await?.instance().await };
        timeout(self.deadline, look)
            .await
            .unwrap_or_else(|_| Err(missing(format!("no answer within {}", Span(self.deadline)), REACH_HINT)))
    }
}

const REACH_HINT: &str = "see that 169.254.169.254 is reachable from here and that IMDSv2 is on; in a container the \
                          hop limit must be 2";

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{}", io_words(.0))]
    Connect(io::Error),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("no answer within {}", Span(*.0))]
    Late(Duration),
}

/// Where the service listens, and connections to it that wait for a question.
struct Line {
    /// An IPv6 address in brackets.
    host: String,
    port: u16,
    open: Mutex<Vec<TcpStream>>,
    /// What one connection and one answer are allowed.
    hop: Duration,
}

impl Line {
    async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect((self.host.trim_matches(['[', ']']), self.port)).await
    }

    /// Opens connections for so many questions until dropped; one that finds none opens its own.
    fn open(self: &Arc<Self>, questions: usize) -> JoinSet<()> {
        let mut opening = JoinSet::new();
        for _ in 0..questions {
            let line = self.clone();
            opening.spawn(async move {
                if let Ok(connection) = line.connect().await {
                    line.open.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                }
            });
        }
        opening
    }

    /// Asks once more where there was no answer, or none of the service's own.
    async fn ask(&self, method: Method, path: &str, header: Header<'_>) -> std::result::Result<Answer, AskError> {
        let mut result = Err(AskError::Late(self.hop));
        for _ in 0..TRIES {
            let once = self.ask_once(method.clone(), path, header);
            result = timeout(self.hop, once).await.unwrap_or(Err(AskError::Late(self.hop)));
            if result.as_ref().is_ok_and(|answer| !answer.status().is_server_error()) {
                break;
            }
        }
        result
    }

    async fn ask_once(&self, method: Method, path: &str, header: Header<'_>) -> std::result::Result<Answer, AskError> {
        let waiting = self.open.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match waiting {
            Some(connection) => connection,
            None => self.connect().await.map_err(AskError::Connect)?,
        };
        let mut request = request(method, &format!("{}:{}", self.host, self.port), path)?;
        request.headers_mut().insert(header.0, header.1.clone());
        Ok(send(connection, request, MAX_BODY).await?)
    }
}

type Header<'a> = (&'static str, &'a HeaderValue);

struct Service<'a> {
    base: &'a str,
    line: Arc<Line>,
    token: HeaderValue,
}

impl<'a> Service<'a> {
    /// Fetches a token, and opens connections meanwhile.
    async fn open(base: &'a str, line: Arc<Line>) -> Result<Self> {
        let ttl = HeaderValue::from_static(TTL_S);
        // Asked first, so that it does not take one of the connections that are for the others.
        let (answer, _opening) =
            tokio::join!(line.ask(Method::PUT, TOKEN, (TTL_HEADER, &ttl)), async { line.open(QUESTIONS) });
        let answer = answer.map_err(|error| error.to_string());
        let token = answer.and_then(|answer| match answer.status().as_u16() {
            200 => HeaderValue::from_bytes(answer.body()).ok().filter(|token| !token.is_empty()).ok_or_else(|| {
                format!("the answer is none: {}", excerpt(&String::from_utf8_lossy(answer.body()), SHOWN))
            }),
            403 => Err("request forbidden (403): it is switched off".into()),
            code => Err(format!("the service says {code}")),
        });
        match token {
            Ok(token) => Ok(Self { base, line, token }),
            Err(why) => Err(missing(base, TOKEN, format!("no session token: {why}"), REACH_HINT)),
        }
    }

    async fn instance(&self) -> Result<Instance> {
        let (instance_id, region, availability_zone, dns_suffix, partition, account, vpc_cidrs) = tokio::try_join!(
            self.word(format!("{META}/instance-id")),
            self.word(format!("{META}/placement/region")),
            self.word(format!("{META}/placement/availability-zone")),
            self.word(format!("{META}/services/domain")),
            self.word(format!("{META}/services/partition")),
            self.account(),
            self.vpc_cidrs(),
        )?;
        Ok(Instance { instance_id, account, region, partition, dns_suffix, availability_zone, vpc_cidrs })
    }

    /// An answer that is one identifier: an ID, a region, a domain.
    async fn word(&self, path: String) -> Result<String> {
        let text = self.get(&path).await?;
        if !is_word(text.trim()) {
            return Err(self.malformed(&path, "is not an identifier", &text));
        }
        Ok(text.trim().to_owned())
    }

    async fn account(&self) -> Result<String> {
        let text = self.get(IDENTITY).await?;
        parse_account(&text).map_err(|why| self.malformed(IDENTITY, why, &text))
    }

    async fn vpc_cidrs(&self) -> Result<Vec<IpNet>> {
        let text = self.get(MACS).await?;
        let macs = parse_macs(&text).map_err(|why| self.malformed(MACS, why, &text))?;
        let blocks = macs.iter().flat_map(|mac| {
            [
                self.blocks(format!("{MACS}{mac}/vpc-ipv4-cidr-blocks"), false),
                self.blocks(format!("{MACS}{mac}/vpc-ipv6-cidr-blocks"), true),
            ]
        });
        let mut all: Vec<IpNet> = try_join_all(blocks).await?.into_iter().flatten().collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    async fn blocks(&self, path: String, may_be_absent: bool) -> Result<Vec<IpNet>> {
        let Some(text) = self.find(&path).await? else {
            if may_be_absent {
                return Ok(Vec::new());
            }
            return Err(self.missing(&path, "the service has no such path (404)", ""));
        };
        parse_cidrs(&text).map_err(|why| self.malformed(&path, why, &text))
    }

    async fn get(&self, path: &str) -> Result<String> {
        let text = self.find(path).await?;
        text.ok_or_else(|| self.missing(path, "the service has no such path (404)", "is this an EC2 instance?"))
    }

    /// `None` when the service says 404.
    async fn find(&self, path: &str) -> Result<Option<String>> {
        let answer = self.line.ask(Method::GET, path, (TOKEN_HEADER, &self.token)).await;
        let answer = answer.map_err(|error| self.missing(path, error, REACH_HINT))?;
        match answer.status().as_u16() {
            200 => Ok(Some(String::from_utf8_lossy(answer.body()).into_owned())),
            404 => Ok(None),
            403 => Err(self.missing(path, "the service says 403: it is switched off", REACH_HINT)),
            code => Err(self.missing(path, format!("the service says {code}"), "")),
        }
    }

    fn missing(&self, path: &str, why: impl std::fmt::Display, hint: &str) -> Missing {
        missing(self.base, path, why, hint)
    }

    fn malformed(&self, path: &str, why: &str, text: &str) -> Missing {
        let why = format!("the answer {why}: {}", excerpt(text, SHOWN));
        self.missing(path, why, "see what answers at that address")
    }
}

fn missing(base: &str, path: &str, why: impl std::fmt::Display, hint: &str) -> Missing {
    Missing::new(format!("instance metadata {path} ({base})"), why, hint)
}

fn is_word(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    !text.is_empty() && text.len() <= 128 && text.chars().all(allowed)
}

fn parse_account(document: &str) -> std::result::Result<String, &'static str> {
    let document: Value = serde_json::from_str(document).map_err(|_| "is not JSON")?;
    let account = document.get("accountId").and_then(Value::as_str).ok_or("has no accountId")?;
    let valid = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    if valid { Ok(account.to_owned()) } else { Err("has an accountId that is not 12 digits") }
}

/// One MAC address a line, each with a slash at its end.
fn parse_macs(text: &str) -> std::result::Result<Vec<String>, &'static str> {
    let mut macs = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mac = line.strip_suffix('/').unwrap_or(line);
        let byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        if mac.split(':').count() != 6 || !mac.split(':').all(byte) {
            return Err("is not a list of MAC addresses");
        }
        macs.push(mac.to_owned());
    }
    if macs.is_empty() { Err("names no network interface") } else { Ok(macs) }
}

fn parse_cidrs(text: &str) -> std::result::Result<Vec<IpNet>, &'static str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let blocks: std::result::Result<Vec<IpNet>, _> = lines.map(str::parse::<IpNet>).collect();
    match blocks {
        Ok(blocks) if blocks.is_empty() => Err("names no CIDR block"),
        Ok(blocks) => Ok(blocks.into_iter().map(|block| block.trunc()).collect()),
        Err(_) => Err("is not a list of CIDR blocks"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_read_strictly() {
        assert!(is_word("i-0f00dfacade00001") && is_word("amazonaws.com.cn") && is_word("eu-west-1a"));
        assert!(!is_word("") && !is_word("<html>") && !is_word("a b") && !is_word("a/b"));
        assert_eq!(parse_account(r#"{"accountId":"111122223333"}"#).unwrap(), "111122223333");
        assert!(parse_account(r#"{"accountId":111122223333}"#).is_err());
        assert!(parse_account("<html>").is_err());
        assert!(parse_account(r#"{"accountId":"11112222333x"}"#).is_err());
        assert_eq!(parse_macs("0e:49:61:0f:c3:11/\n0e:49:61:0f:c3:12/\n").unwrap().len(), 2);
        assert!(parse_macs("0e:49:61:0f:c3:11/../../x").is_err());
        assert!(parse_macs("<html>").is_err() && parse_macs("").is_err());
        assert_eq!(parse_cidrs("10.50.0.0/17\n").unwrap(), ["10.50.0.0/17".parse::<IpNet>().unwrap()]);
        assert!(parse_cidrs("10.50.0.0").is_err() && parse_cidrs("10.50.0.0/33").is_err() && parse_cidrs("").is_err());
    }

    proptest! {
        #[test]
        fn never_panics_on_garbage(text in "\\PC{0,120}", near in "[0-9a-f:./\n{}\"]{0,60}") {
            for text in [&text, &near] {
                let _ = (is_word(text), parse_account(text), parse_macs(text), parse_cidrs(text));
            }
        }
    }
}
