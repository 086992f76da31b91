//! The host's resolver: hosts file first, then the name servers of `resolv.conf`, as glibc and the agent's Go do.
//!
//! The files are read anew for each look-up and nothing is cached, because seeing a change is the point. Names are
//! absolute: no search list. `nsswitch.conf` is not read: the agent has none in its image, and every host it is
//! found on says "files, then dns".
//!
//! A and AAAA are asked side by side and judged together. A family that could not be seen is never taken for an
//! empty one: when A answers and AAAA fails or times out, the whole answer is a failure that names the family. A
//! public IPv6 address among private IPv4 ones would otherwise stay hidden exactly when it matters.

mod answered;
mod conf;

pub use answered::Answered;

use super::{
    Resolver,
    words::{Span, io_words},
};
use crate::{
    config::NetworkSettings,
    facts::{Address, Answer},
};
use async_trait::async_trait;
use conf::{ResolvConf, hosts_lookup, parse_resolv_conf};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RecordType},
    },
};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout_at},
};

const DNS_PORT: u16 = 53;
/// No sane hosts file is longer.
const MAX_FILE: u64 = 4 << 20;

/// Looks names up with the host's configuration.
#[derive(Debug, Clone)]
pub struct SystemResolver {
    only: Option<SocketAddr>,
    resolv_conf: PathBuf,
    hosts_file: PathBuf,
    port: u16,
    deadline: Duration,
}

impl SystemResolver {
    /// One look-up takes at most `settings.dns_timeout_ms`, whatever `resolv.conf` allows itself.
    pub fn new(settings: &NetworkSettings) -> Self {
        Self {
            only: settings.resolver,
            resolv_conf: settings.resolv_conf.clone(),
            hosts_file: settings.hosts_file.clone(),
            port: DNS_PORT,
            deadline: Duration::from_millis(settings.dns_timeout_ms),
        }
    }

    /// Asks the servers of `resolv.conf`, which cannot name a port, on this one.
    pub fn with_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    async fn hosts(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        match read_text(&self.hosts_file).await {
            Ok(text) => Ok(hosts_lookup(&text, host)),
            // A host without the file resolves by DNS alone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(format!("{}: {}", self.hosts_file.display(), io_words(&error))),
        }
    }

    /// The servers to ask, and how.
    async fn conf(&self) -> Result<(Vec<SocketAddr>, ResolvConf), String> {
        if let Some(server) = self.only {
            let conf = ResolvConf { timeout: self.deadline, edns0: true, ..ResolvConf::default() };
            return Ok((vec![server], conf));
        }
        let path = self.resolv_conf.display();
        let text = read_text(&self.resolv_conf).await.map_err(|error| format!("{path}: {}", io_words(&error)))?;
        let conf = parse_resolv_conf(&text).map_err(|error| format!("{path}: {error}"))?;
        let servers = conf.servers.iter().map(|ip| SocketAddr::new(*ip, self.port)).collect();
        Ok((servers, conf))
    }

    async fn by_dns(&self, host: &str, deadline: Instant) -> Answer {
        let name = match Name::from_ascii(format!("{}.", host.strip_suffix('.').unwrap_or(host))) {
            Ok(name) if !name.is_root() => name,
            Ok(_) => return Answer::Failed("an empty name cannot be looked up".into()),
            Err(error) => return Answer::Failed(format!("\"{host}\" is not a host name: {error}")),
        };
        let (addresses, conf) = match self.conf().await {
            Ok(found) => found,
            Err(why) => return Answer::Failed(why),
        };
        // Every server gets its turn within our deadline, which may be shorter than resolv.conf's.
        let share = self.deadline / addresses.len().max(1) as u32;
        let servers: Result<Vec<Server>, String> =
            addresses.iter().map(|addr| Server::new(*addr, &conf, conf.timeout.min(share))).collect();
        let servers = match servers {
            Ok(servers) => servers,
            Err(why) => return Answer::Failed(why),
        };
        let family = |record_type| ask(&servers, &name, record_type, conf.attempts, deadline);
        let (v4, v6) = tokio::join!(family(RecordType::A), family(RecordType::AAAA));
        combine(v4, v6, self.deadline)
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn lookup(&self, host: &str) -> Answer {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Answer::Addresses(vec![Address { ip: ip.to_canonical(), ttl_s: None }]);
        }
        let deadline = Instant::now() + self.deadline;
        let look = async {
            match self.hosts(host).await {
                Err(why) => Answer::Failed(why),
                Ok(ips) if !ips.is_empty() => {
                    Answer::Addresses(ips.into_iter().map(|ip| Address { ip, ttl_s: None }).collect())
                }
                Ok(_) => self.by_dns(host, deadline).await,
            }
        };
        // Each question has this deadline too; a little later here, so that its better words come first.
        let slack = Duration::from_millis(50);
        timeout_at(deadline + slack, look).await.unwrap_or(Answer::TimedOut)
    }
}

async fn read_text(path: &Path) -> io::Result<String> {
    // A pipe in its place would hold a thread for ever.
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await?.take(MAX_FILE).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One name server. Servers are kept apart because glibc's order (next server on SERVFAIL, REFUSED and silence) is
/// not the one of the library's pool.
struct Server {
    addr: SocketAddr,
    resolver: TokioResolver,
}

impl Server {
    fn new(addr: SocketAddr, conf: &ResolvConf, timeout: Duration) -> Result<Self, String> {
        let on_port = |mut connection: ConnectionConfig| {
            connection.port = addr.port();
            connection
        };
        let mut connections = vec![on_port(ConnectionConfig::tcp())];
        if !conf.tcp_only {
            connections.insert(0, on_port(ConnectionConfig::udp()));
        }
        let server = NameServerConfig::new(addr.ip(), true, connections);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        options.attempts = 0;
        options.cache_size = 0;
        options.edns0 = conf.edns0;
        options.use_hosts_file = ResolveHosts::Never;
        options.num_concurrent_reqs = 1;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        // The CNAMEs are needed for their TTLs.
        options.preserve_intermediates = true;
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| format!("name server {addr}: {error}"))?;
        Ok(Self { addr, resolver })
    }

    async fn ask(&self, name: &Name, record_type: RecordType) -> Family {
        match self.resolver.lookup(name.clone(), record_type).await {
            Ok(lookup) => {
                let chain_ttl = lookup.answers().iter().map(|record| record.ttl).min();
                let mut found: BTreeMap<IpAddr, u32> = BTreeMap::new();
                for record in lookup.answers().iter().filter(|record| record.record_type() == record_type) {
                    if let Some(ip) = record.data.ip_addr() {
                        found.insert(ip.to_canonical(), chain_ttl.unwrap_or(record.ttl));
                    }
                }
                if found.is_empty() { Family::Empty } else { Family::Found(found) }
            }
            Err(error) => self.classify(error),
        }
    }

    fn classify(&self, error: NetError) -> Family {
        let rcode = |code: ResponseCode| Family::ServerFailure(format!("{} from {}", mnemonic(code), self.addr));
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NoError => Family::Empty,
                ResponseCode::NXDomain => Family::NxDomain,
                code => rcode(code),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => rcode(code),
            NetError::Timeout => Family::TimedOut,
            NetError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Family::TimedOut,
            NetError::Io(error) => Family::Failed(format!("{}: {}", self.addr, io_words(&error))),
            NetError::Proto(error) => Family::Failed(format!("malformed answer from {}: {error}", self.addr)),
            error => Family::Failed(format!("{}: {error}", self.addr)),
        }
    }
}

fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        code => format!("{code} (code {})", u16::from(code)),
    }
}

/// What was learnt of one record type.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Family {
    /// Addresses, each with the lowest TTL of the records that led to it.
    Found(BTreeMap<IpAddr, u32>),
    Empty,
    NxDomain,
    ServerFailure(String),
    TimedOut,
    Failed(String),
}

impl Family {
    /// Whether the name server's word is final, so that no other one is asked.
    fn settled(&self) -> bool {
        matches!(self, Family::Found(_) | Family::Empty | Family::NxDomain)
    }

    /// How much a failure tells; of several, the one that tells most is kept.
    fn weight(&self) -> u8 {
        match self {
            Family::TimedOut => 0,
            Family::Failed(_) => 1,
            _ => 2,
        }
    }
}

/// Asks the servers in order, round after round, until one gives a settled answer or the time is up.
async fn ask(servers: &[Server], name: &Name, record_type: RecordType, attempts: usize, deadline: Instant) -> Family {
    let mut last = Family::TimedOut;
    for server in std::iter::repeat_n(servers, attempts.max(1)).flatten() {
        let answer = match timeout_at(deadline, server.ask(name, record_type)).await {
            Ok(answer) => answer,
            Err(_) => break,
        };
        if answer.settled() {
            return answer;
        }
        if answer.weight() >= last.weight() {
            last = answer;
        }
    }
    last
}

/// One answer of two families. See the head of this file for why a failed family fails the whole.
fn combine(v4: Family, v6: Family, deadline: Duration) -> Answer {
    use Family::*;
    match (v4, v6) {
        (TimedOut, TimedOut) => Answer::TimedOut,
        (ServerFailure(why), ServerFailure(_)) => Answer::ServerFailure(why),
        (Failed(why), Failed(_)) => Answer::Failed(why),
        (ServerFailure(why), other) => Answer::ServerFailure(one_family("A", &why, "AAAA", &other)),
        (other, ServerFailure(why)) => Answer::ServerFailure(one_family("AAAA", &why, "A", &other)),
        (Failed(why), other) => Answer::Failed(one_family("A", &why, "AAAA", &other)),
        (other, Failed(why)) => Answer::Failed(one_family("AAAA", &why, "A", &other)),
        (TimedOut, other) => Answer::Failed(one_family("A", &no_answer(deadline), "AAAA", &other)),
        (other, TimedOut) => Answer::Failed(one_family("AAAA", &no_answer(deadline), "A", &other)),
        (NxDomain | Empty, NxDomain) | (NxDomain, Empty) => Answer::NxDomain,
        (Empty, Empty) => Answer::Empty,
        (v4, v6) => {
            let found = [v4, v6].into_iter().filter_map(|family| match family {
                Found(found) => Some(found),
                _ => None,
            });
            let all: BTreeMap<IpAddr, u32> = found.flatten().collect();
            Answer::Addresses(all.into_iter().map(|(ip, ttl)| Address { ip, ttl_s: Some(ttl) }).collect())
        }
    }
}

fn no_answer(deadline: Duration) -> String {
    format!("no answer within {}", Span(deadline))
}

/// `AAAA: no answer within 3 s, while A gave 10.50.1.10; …`
fn one_family(failed: &str, why: &str, other: &str, seen: &Family) -> String {
    let seen = match seen {
        Family::Found(found) => {
            format!("gave {}", found.keys().map(IpAddr::to_string).collect::<Vec<_>>().join(", "))
        }
        Family::Empty => "is empty".into(),
        Family::NxDomain => "does not exist".into(),
        Family::ServerFailure(why) | Family::Failed(why) => format!("failed ({why})"),
        Family::TimedOut => "timed out".into(),
    };
    format!("{failed}: {why}, while {other} {seen}; half an answer is not used")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ip: &str, ttl: u32) -> Family {
        Family::Found(BTreeMap::from([(ip.parse().unwrap(), ttl)]))
    }

    #[test]
    fn two_families_make_one_answer() {
        use Family::*;
        let address = |ip: &str, ttl| Address { ip: ip.parse().unwrap(), ttl_s: Some(ttl) };
        let v4 = || found("10.0.0.1", 60);
        let servfail = || ServerFailure("SERVFAIL from 10.0.0.2:53".into());
        let answer = |a, b| combine(a, b, Duration::from_secs(3));
        assert_eq!(answer(v4(), Empty), Answer::Addresses(vec![address("10.0.0.1", 60)]));
        assert_eq!(answer(v4(), NxDomain), Answer::Addresses(vec![address("10.0.0.1", 60)]));
        assert_eq!(
            answer(v4(), found("2001:db8::1", 30)),
            Answer::Addresses(vec![address("10.0.0.1", 60), address("2001:db8::1", 30)])
        );
        assert_eq!(answer(Empty, Empty), Answer::Empty);
        assert_eq!(answer(NxDomain, NxDomain), Answer::NxDomain);
        assert_eq!(answer(Empty, NxDomain), Answer::NxDomain);
        assert_eq!(answer(TimedOut, TimedOut), Answer::TimedOut);
        assert_eq!(answer(servfail(), servfail()), Answer::ServerFailure("SERVFAIL from 10.0.0.2:53".into()));
        let text = "AAAA: no answer within 3 s, while A gave 10.0.0.1; half an answer is not used";
        assert_eq!(answer(v4(), TimedOut), Answer::Failed(text.into()));
        let text = "AAAA: SERVFAIL from 10.0.0.2:53, while A gave 10.0.0.1; half an answer is not used";
        assert_eq!(answer(v4(), servfail()), Answer::ServerFailure(text.into()));
        assert!(
            matches!(answer(Failed("malformed".into()), Empty), Answer::Failed(why) if why.contains("A: malformed"))
        );
    }
}
