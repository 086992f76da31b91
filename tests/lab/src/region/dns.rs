//! The VPC's name server: UDP and TCP, authoritative for the region's names, and able to misbehave.

use super::{
    place::{Known, REGION, SUFFIX, Service, Way},
    state::{Shared, Turn},
    switch::{Path, What},
};
use anyhow::Context as _;
use hickory_server::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SOA},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// Addresses of names that do not change: the numbered hosts.
const FIXED_TTL: u32 = 60;

/// Binds UDP and TCP to one port; with port 0, to one that is free for both.
pub(super) async fn bind(address: SocketAddr) -> anyhow::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..20 {
        let tcp = TcpListener::bind(address).await.with_context(|| format!("DNS over TCP on {address}"))?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
        if address.port() != 0 {
            break;
        }
    }
    let why = last.map_or_else(String::new, |error| error.to_string());
    anyhow::bail!("DNS over UDP on {address}: {why}")
}

pub(super) async fn serve_udp(shared: Arc<Shared>, socket: UdpSocket) -> anyhow::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        if let Some(bytes) = answer(&shared, &buffer[..length], from) {
            // A client that has gone away is no concern of the server's.
            let _ = socket.send_to(&bytes, from).await;
        }
    }
}

pub(super) async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, from)) = listener.accept().await {
            connections.spawn(tcp_connection(shared.clone(), stream, from));
        }
    }
}

async fn tcp_connection(shared: Arc<Shared>, mut stream: TcpStream, from: SocketAddr) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        if let Some(bytes) = answer(&shared, &query, from) {
            let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
            framed.extend(bytes);
            if stream.write_all(&framed).await.is_err() {
                return;
            }
        }
    }
}

/// What a name comes to, before it is put into a message.
enum Outcome {
    Addresses(Vec<Ipv4Addr>, u32),
    NxDomain,
    ServFail,
    Refused,
    Empty,
    Silence,
    Garbage,
}

/// The bytes to answer with; `None` says nothing at all.
fn answer(shared: &Shared, query: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let request = Message::from_vec(query).ok()?;
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    let (Some(question), OpCode::Query) = (request.queries.first(), request.metadata.op_code) else {
        reply.metadata.response_code = ResponseCode::FormErr;
        return reply.to_vec().ok();
    };
    reply.add_query(question.clone());
    let name = question.name().to_lowercase().to_utf8();
    let name = name.trim_end_matches('.');
    let outcome = look_up(shared, name, question.query_type());
    let said = match &outcome {
        Outcome::Addresses(ips, ttl) => {
            for ip in ips {
                reply.add_answer(Record::from_rdata(question.name().clone(), *ttl, RData::A((*ip).into())));
            }
            ips.iter().map(Ipv4Addr::to_string).collect()
        }
        Outcome::NxDomain => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            vec!["NXDOMAIN".to_string()]
        }
        Outcome::ServFail => {
            reply.metadata.response_code = ResponseCode::ServFail;
            vec!["SERVFAIL".to_string()]
        }
        Outcome::Refused => {
            reply.metadata.response_code = ResponseCode::Refused;
            vec!["REFUSED".to_string()]
        }
        Outcome::Empty => Vec::new(),
        Outcome::Silence => vec!["(silence)".to_string()],
        Outcome::Garbage => vec!["(garbage)".to_string()],
    };
    if matches!(outcome, Outcome::NxDomain | Outcome::Empty) {
        reply.add_authority(authority()?);
    }
    reply.metadata.authoritative = matches!(outcome, Outcome::Addresses(..) | Outcome::NxDomain | Outcome::Empty);
    shared.log(What::Dns { from, name: name.to_string(), qtype: question.query_type().to_string(), answer: said });
    match outcome {
        Outcome::Silence => None,
        // The identifier is right, so that the client takes it for the answer; then a header that promises
        // one answer, and a name that points to itself.
        Outcome::Garbage => {
            let mut bytes = request.metadata.id.to_be_bytes().to_vec();
            bytes.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 0x0c, 0xff, 0xff, 0x00]);
            Some(bytes)
        }
        _ => reply.to_vec().ok(),
    }
}

fn authority() -> Option<Record> {
    let zone = Name::from_ascii(format!("{REGION}.{SUFFIX}.")).ok()?;
    let server = Name::from_ascii(format!("ns-0.{REGION}.{SUFFIX}.")).ok()?;
    let mail = Name::from_ascii("awsdns-hostmaster.amazon.com.").ok()?;
    // The last number is how long a "no" may be remembered: short, because the lab flips names.
    let soa = SOA::new(server, mail, 1, 7200, 900, 1_209_600, 1);
    Some(Record::from_rdata(zone, 1, RData::SOA(soa)))
}

fn look_up(shared: &Shared, name: &str, qtype: RecordType) -> Outcome {
    let binding = shared.binding;
    let mut outcome = match Service::of_host(name) {
        Some(Known::Base(service)) => base(shared, service, qtype),
        Some(Known::Numbered(service)) => {
            let ips = binding.door(service, Way::Numbered).into_iter().map(|door| door.ip).collect();
            Outcome::Addresses(ips, FIXED_TTL)
        }
        // A zone of its own behind private DNS; publicly there is nothing at this name.
        Some(Known::Bare) => match shared.service(Service::EcrDkr).path {
            Path::Endpoint | Path::Elsewhere => base(shared, Service::EcrDkr, qtype),
            _ => Outcome::NxDomain,
        },
        None if name == SUFFIX || name == format!("{REGION}.{SUFFIX}") => Outcome::Empty,
        None if name.ends_with(&format!(".{SUFFIX}")) => Outcome::NxDomain,
        None if qtype == RecordType::PTR => Outcome::NxDomain,
        // Not an open resolver: what the region does not have, does not exist.
        None if name.contains('.') => Outcome::NxDomain,
        None => Outcome::Refused,
    };
    // IPv4 only: a question for anything else finds the name, and nothing there.
    if qtype != RecordType::A && matches!(outcome, Outcome::Addresses(..)) {
        outcome = Outcome::Empty;
    }
    outcome
}

/// The answer of the VPC's server, or of the cache before it.
fn base(shared: &Shared, service: Service, qtype: RecordType) -> Outcome {
    // There is nothing but A to be cached.
    if !shared.service(service).cached || qtype != RecordType::A {
        return authoritative(shared, service, qtype);
    }
    if let Some((ips, left)) = shared.kept(service) {
        return Outcome::Addresses(ips, left);
    }
    let outcome = authoritative(shared, service, qtype);
    if let Outcome::Addresses(ips, ttl) = &outcome {
        shared.keep(service, ips.clone(), *ttl);
    }
    outcome
}

fn authoritative(shared: &Shared, service: Service, qtype: RecordType) -> Outcome {
    let switch = shared.service(service);
    let at = |ways: &[Way]| {
        let doors = ways.iter().filter_map(|way| shared.binding.door(service, *way));
        let mut ips: Vec<Ipv4Addr> = doors.map(|door| door.ip).collect();
        if qtype == RecordType::A && ips.len() > 1 {
            let turn = shared.turn(service, Turn::Rotation) % ips.len();
            ips.rotate_left(turn);
        }
        Outcome::Addresses(ips, switch.ttl)
    };
    let endpoint = [Way::Endpoint(1), Way::Endpoint(2)];
    match switch.path {
        Path::Public => at(&[Way::Public]),
        Path::Endpoint => at(&endpoint),
        Path::Elsewhere => at(&[Way::Elsewhere]),
        Path::Mixed => at(&[Way::Public, Way::Endpoint(1)]),
        // Only A questions take a turn: a client's AAAA beside each A would always see the same half.
        Path::Flapping if qtype != RecordType::A => at(&[Way::Public]),
        Path::Flapping if shared.turn(service, Turn::Flap) % 2 == 1 => at(&[Way::Public]),
        Path::Flapping => at(&endpoint),
        Path::Nxdomain => Outcome::NxDomain,
        Path::Servfail => Outcome::ServFail,
        Path::Empty => Outcome::Empty,
        Path::Timeout => Outcome::Silence,
        Path::Malformed => Outcome::Garbage,
    }
}
