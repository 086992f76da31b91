//! The resolver against DNS servers that answer, fail, keep silent and talk nonsense.

use crate::support::{AMPLE, SHORT};
use futures_util::future::join_all;
use hickory_resolver::proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::CNAME},
};
use hostagent::{
    config::{NetworkSettings, Settings},
    facts::{Address, Answer},
    ports::{Resolver, resolver::SystemResolver},
};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

const HOST: &str = "ecs.eu-west-1.amazonaws.com";

enum Reply {
    Message(Message),
    /// These bytes after the query's ID.
    Garbage(Vec<u8>),
    Silence,
}

type Script = dyn Fn(Message, bool) -> Reply + Send + Sync;

/// A DNS server on loopback, UDP and TCP; it remembers what it was asked.
struct Dns {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

impl Dns {
    /// `script` is given the query and whether it came by TCP.
    async fn start(ip: &str, port: u16, script: impl Fn(Message, bool) -> Reply + Send + Sync + 'static) -> Self {
        let (udp, tcp) = bind_both(ip, port).await;
        let addr = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let (log, answer) = (asked.clone(), script.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((size, from)) = udp.recv_from(&mut buffer).await {
                if let Some(bytes) = reply(&buffer[..size], false, &log, &*answer) {
                    let _ = udp.send_to(&bytes, from).await;
                }
            }
        });
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let (log, script) = (log.clone(), script.clone());
                tokio::spawn(async move {
                    while let Ok(size) = stream.read_u16().await {
                        let mut query = vec![0; size.into()];
                        stream.read_exact(&mut query).await.unwrap();
                        let Some(bytes) = reply(&query, true, &log, &*script) else { continue };
                        stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
                        stream.write_all(&bytes).await.unwrap();
                    }
                });
            }
        });
        Self { addr, asked }
    }

    async fn on_loopback(script: impl Fn(Message, bool) -> Reply + Send + Sync + 'static) -> Self {
        Self::start("127.0.0.1", 0, script).await
    }

    fn asked(&self) -> Vec<(String, RecordType)> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort();
        asked
    }
}

async fn bind_both(ip: &str, port: u16) -> (UdpSocket, TcpListener) {
    for _ in 0..50 {
        let udp = UdpSocket::bind((ip, port)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port free for both UDP and TCP");
}

fn reply(query: &[u8], tcp: bool, asked: &Mutex<Vec<(String, RecordType)>>, script: &Script) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).unwrap();
    let question = &query.queries[0];
    asked.lock().unwrap().push((question.name().to_string(), question.query_type()));
    let id = query.id;
    match script(query, tcp) {
        Reply::Message(message) => Some(message.to_vec().unwrap()),
        Reply::Garbage(bytes) => Some([&id.to_be_bytes()[..], &bytes].concat()),
        Reply::Silence => None,
    }
}

fn empty(query: Message) -> Message {
    let mut message = Message::new(query.id, MessageType::Response, query.op_code);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_queries(query.queries);
    message
}

fn code(query: Message, code: ResponseCode) -> Message {
    let mut message = empty(query);
    message.metadata.response_code = code;
    message
}

fn is_v4(query: &Message) -> bool {
    query.queries[0].query_type() == RecordType::A
}

/// Answers A with these addresses and AAAA with nothing.
fn v4(query: Message, addresses: &[&str], ttl: u32) -> Message {
    let (name, v4) = (query.queries[0].name().clone(), is_v4(&query));
    let mut message = empty(query);
    for ip in addresses.iter().filter(|_| v4) {
        message.add_answer(Record::from_rdata(name.clone(), ttl, RData::from(ip.parse::<IpAddr>().unwrap())));
    }
    message
}

struct Host {
    dir: TempDir,
    settings: NetworkSettings,
    port: u16,
}

impl Host {
    /// With files of its own, and one server that is asked whatever they say.
    fn with(server: &Dns, timeout: Duration) -> Self {
        let mut host = Self::by_files("", server.addr.port(), timeout);
        host.settings.resolver = Some(server.addr);
        host
    }

    fn by_files(resolv_conf: &str, port: u16, timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = NetworkSettings {
            resolv_conf: dir.path().join("resolv.conf"),
            hosts_file: dir.path().join("hosts"),
            dns_timeout_ms: timeout.as_millis() as u64,
            ..Settings::default().network
        };
        fs::write(&settings.resolv_conf, resolv_conf).unwrap();
        Self { dir, settings, port }
    }

    fn hosts(&self, text: &str) -> PathBuf {
        let path = self.dir.path().join("hosts");
        fs::write(&path, text).unwrap();
        path
    }

    async fn lookup(&self, name: &str) -> Answer {
        SystemResolver::new(&self.settings).with_port(self.port).lookup(name).await
    }
}

fn addresses(list: &[(&str, Option<u32>)]) -> Answer {
    Answer::Addresses(list.iter().map(|(ip, ttl_s)| Address { ip: ip.parse().unwrap(), ttl_s: *ttl_s }).collect())
}

#[tokio::test]
async fn both_families_with_the_lowest_ttl_of_the_chain() {
    let dns = Dns::on_loopback(|query, _| {
        let v4 = is_v4(&query);
        let (name, alias) = (query.queries[0].name().clone(), Name::from_ascii("alias.example.").unwrap());
        let mut message = empty(query);
        let (ip, ttl) = if v4 { ("10.50.1.10", 60) } else { ("2001:db8::10", 20) };
        message.add_answer(Record::from_rdata(name, 30, RData::CNAME(CNAME(alias.clone()))));
        message.add_answer(Record::from_rdata(alias, ttl, RData::from(ip.parse::<IpAddr>().unwrap())));
        Reply::Message(message)
    })
    .await;
    let conf = "search eu-west-1.compute.internal\noptions ndots:9\nnameserver 127.0.0.1\n";
    let host = Host::by_files(conf, dns.addr.port(), AMPLE);
    assert_eq!(host.lookup(HOST).await, addresses(&[("10.50.1.10", Some(30)), ("2001:db8::10", Some(20))]));
    let name = format!("{HOST}.");
    assert_eq!(dns.asked(), [(name.clone(), RecordType::A), (name, RecordType::AAAA)], "no suffix is ever tried");
}

#[tokio::test]
async fn refusals_are_kept_apart() {
    for (rcode, expected) in [
        (ResponseCode::NXDomain, Answer::NxDomain),
        (ResponseCode::NoError, Answer::Empty),
        (ResponseCode::ServFail, Answer::ServerFailure("SERVFAIL from 127.0.0.1".into())),
        (ResponseCode::Refused, Answer::ServerFailure("REFUSED from 127.0.0.1".into())),
        (ResponseCode::FormErr, Answer::ServerFailure("FORMERR from 127.0.0.1".into())),
        (ResponseCode::NotAuth, Answer::ServerFailure("Not authorized (code 9) from 127.0.0.1".into())),
        (ResponseCode::Unknown(12), Answer::ServerFailure("".into())),
    ] {
        let dns = Dns::on_loopback(move |query, _| Reply::Message(code(query, rcode))).await;
        let answer = Host::with(&dns, AMPLE).lookup(HOST).await;
        match (&answer, &expected) {
            (Answer::ServerFailure(seen), Answer::ServerFailure(text)) => assert!(seen.starts_with(text), "{seen}"),
            _ => assert_eq!(answer, expected, "{rcode:?}"),
        }
    }
}

#[tokio::test]
async fn silence_is_a_time_out() {
    let dns = Dns::on_loopback(|_, _| Reply::Silence).await;
    assert_eq!(Host::with(&dns, SHORT).lookup(HOST).await, Answer::TimedOut);
    assert!(dns.asked().len() >= 2, "both families were asked: {:?}", dns.asked());
}

#[tokio::test]
async fn a_malformed_answer_is_said_to_be_one() {
    // A header that promises an answer, and then a name that points outside the message.
    let bytes = [&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0][..], &[0xff; 20]].concat();
    let dns = Dns::on_loopback(move |_, _| Reply::Garbage(bytes.clone())).await;
    let answer = Host::with(&dns, AMPLE).lookup(HOST).await;
    let Answer::Failed(why) = answer else { panic!("{answer:?}") };
    assert!(why.starts_with(&format!("malformed answer from {}", dns.addr)), "{why}");
}

#[tokio::test]
async fn no_garbage_makes_an_address() {
    let looks = (0u32..64).map(async |seed| {
        let dns = Dns::on_loopback(move |_, _| {
            // A small generator is enough to fill a message with different nonsense each time.
            let mut state = seed.wrapping_mul(2_654_435_761) | 1;
            let mut byte = || {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as u8
            };
            let head = [0x81, 0x80, 0, 1, 0, byte() & 3, 0, byte() & 1, 0, byte() & 1];
            Reply::Garbage(head.into_iter().chain((0..(seed as usize * 3)).map(|_| byte())).collect())
        })
        .await;
        Host::with(&dns, SHORT).lookup(HOST).await
    });
    for answer in join_all(looks).await {
        assert!(matches!(answer, Answer::Failed(_) | Answer::TimedOut), "{answer:?}");
    }
}

#[tokio::test]
async fn half_an_answer_is_not_one() {
    let dns =
        Dns::on_loopback(
            |query, _| {
                if is_v4(&query) { Reply::Message(v4(query, &["10.50.1.10"], 60)) } else { Reply::Silence }
            },
        )
        .await;
    let text = "AAAA: no answer within 2 s, while A gave 10.50.1.10; half an answer is not used";
    assert_eq!(Host::with(&dns, Duration::from_secs(2)).lookup(HOST).await, Answer::Failed(text.into()));

    let dns = Dns::on_loopback(|query, _| {
        Reply::Message(if is_v4(&query) { code(query, ResponseCode::ServFail) } else { empty(query) })
    })
    .await;
    let answer = Host::with(&dns, AMPLE).lookup(HOST).await;
    let text = format!("A: SERVFAIL from {}, while AAAA is empty; half an answer is not used", dns.addr);
    assert_eq!(answer, Answer::ServerFailure(text));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_again_by_tcp() {
    let dns = Dns::on_loopback(|query, tcp| {
        let mut message = if tcp { v4(query, &["10.50.1.10", "10.50.2.10"], 60) } else { empty(query) };
        message.metadata.truncation = !tcp;
        Reply::Message(message)
    })
    .await;
    let answer = Host::with(&dns, AMPLE).lookup(HOST).await;
    assert_eq!(answer, addresses(&[("10.50.1.10", Some(60)), ("10.50.2.10", Some(60))]));
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_is_read_anew() {
    let dns = Dns::on_loopback(|query, _| Reply::Message(v4(query, &["198.51.100.10"], 60))).await;
    let host = Host::with(&dns, AMPLE);
    host.hosts(&format!("10.50.1.10 {HOST} # pinned\n2001:db8::1 {HOST}\n"));
    assert_eq!(host.lookup(HOST).await, addresses(&[("10.50.1.10", None), ("2001:db8::1", None)]));
    assert!(dns.asked().is_empty(), "a name in the hosts file is not asked for");
    host.hosts("127.0.0.1 localhost\n");
    assert_eq!(host.lookup(HOST).await, addresses(&[("198.51.100.10", Some(60))]));
}

#[tokio::test]
async fn nothing_is_cached() {
    let count = Arc::new(Mutex::new(0));
    let dns = Dns::on_loopback(move |query, _| {
        let mut count = count.lock().unwrap();
        *count += u8::from(is_v4(&query));
        Reply::Message(v4(query, &[&format!("10.50.1.{count}")], 3600))
    })
    .await;
    let resolver = SystemResolver::new(&Host::with(&dns, AMPLE).settings);
    assert_eq!(resolver.lookup(HOST).await, addresses(&[("10.50.1.1", Some(3600))]));
    assert_eq!(resolver.lookup(HOST).await, addresses(&[("10.50.1.2", Some(3600))]));
}

#[tokio::test]
async fn servers_are_asked_in_order_until_one_answers() {
    let first = Dns::on_loopback(|query, _| Reply::Message(code(query, ResponseCode::ServFail))).await;
    let port = first.addr.port();
    let second = Dns::start("127.0.0.2", port, |query, _| Reply::Message(v4(query, &["10.50.1.10"], 60))).await;
    let third = Dns::start("127.0.0.3", port, |query, _| Reply::Message(empty(query))).await;
    let conf = "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n";
    let host = Host::by_files(conf, port, AMPLE);
    assert_eq!(host.lookup(HOST).await, addresses(&[("10.50.1.10", Some(60))]));
    assert_eq!((first.asked().len(), second.asked().len(), third.asked().len()), (2, 2, 0));
}

#[tokio::test]
async fn a_silent_server_leaves_time_for_the_next() {
    let first = Dns::on_loopback(|_, _| Reply::Silence).await;
    let port = first.addr.port();
    let _second = Dns::start("127.0.0.2", port, |query, _| Reply::Message(v4(query, &["10.50.1.10"], 60))).await;
    // The default time-out of resolv.conf, 5 s, is longer than the look-up may take.
    let host = Host::by_files("nameserver 127.0.0.1\nnameserver 127.0.0.2\n", port, Duration::from_secs(4));
    assert_eq!(host.lookup(HOST).await, addresses(&[("10.50.1.10", Some(60))]));
}

#[tokio::test]
async fn a_broken_configuration_is_named() {
    let host = Host::by_files("search lan\nnameserver dns.lan\n", 53, AMPLE);
    let path = host.settings.resolv_conf.display().to_string();
    let text = format!("{path}: line 2: \"dns.lan\" is not the address of a name server");
    assert_eq!(host.lookup(HOST).await, Answer::Failed(text));
    fs::remove_file(&host.settings.resolv_conf).unwrap();
    assert_eq!(host.lookup(HOST).await, Answer::Failed(format!("{path}: no such file or directory")));
    let hosts = host.dir.path().join("hosts");
    fs::create_dir(&hosts).unwrap();
    assert_eq!(host.lookup(HOST).await, Answer::Failed(format!("{}: not a regular file", hosts.display())));
}

#[tokio::test]
async fn odd_names() {
    let host = Host::by_files("nameserver 127.0.0.1\n", 1, SHORT);
    assert_eq!(host.lookup("10.50.1.10").await, addresses(&[("10.50.1.10", None)]));
    assert_eq!(host.lookup("::ffff:10.50.1.10").await, addresses(&[("10.50.1.10", None)]));
    for name in ["", ".", "a..b", &"x".repeat(70), &"x.".repeat(200)] {
        let answer = host.lookup(name).await;
        assert!(matches!(&answer, Answer::Failed(_)), "{name}: {answer:?}");
    }
}
