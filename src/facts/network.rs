//! Facts about the ways out: names, addresses, connections, credential rules.

use super::Fact;
use crate::catalog::Service;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// One endpoint name and what the host's resolver said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameFact {
    pub service: Service,
    /// Host name without a trailing dot.
    pub host: String,
    pub answer: Answer,
}

/// A resolver's answer, A and AAAA together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// At least one address.
    Addresses(Vec<Address>),
    /// The name does not exist.
    NxDomain,
    /// The name exists and has neither A nor AAAA records.
    Empty,
    /// The server answered with a failure: `SERVFAIL`, `REFUSED`, …
    ServerFailure(String),
    /// No answer within the deadline.
    TimedOut,
    /// An answer that could not be used, or no way to ask (no name server configured, …).
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    pub ip: IpAddr,
    /// Seconds left; `None` when it comes from the hosts file.
    pub ttl_s: Option<u32>,
}

impl Answer {
    /// The addresses, sorted and without repeats; empty for every other answer.
    pub fn ips(&self) -> Vec<IpAddr> {
        let Answer::Addresses(addresses) = self else { return Vec::new() };
        let mut ips: Vec<IpAddr> = addresses.iter().map(|a| a.ip).collect();
        ips.sort();
        ips.dedup();
        ips
    }

    /// The addresses as they came; empty for every other answer.
    pub fn addresses(&self) -> &[Address] {
        match self {
            Answer::Addresses(addresses) => addresses,
            _ => &[],
        }
    }

    /// The longest TTL among the addresses, in seconds.
    pub fn max_ttl_s(&self) -> Option<u32> {
        let Answer::Addresses(addresses) = self else { return None };
        addresses.iter().filter_map(|a| a.ttl_s).max()
    }
}

/// What a connection to one address of one name came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachFact {
    pub service: Service,
    pub host: String,
    pub addr: SocketAddr,
    pub outcome: ReachOutcome,
}

/// The furthest a probe came: TCP, then TLS with SNI and certificate, then HTTP where asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReachOutcome {
    /// Everything asked for worked; the HTTP status where one was asked for.
    Reached {
        http_status: Option<u16>,
    },
    TcpTimedOut,
    TcpRefused,
    /// Any other connect error, in the system's words.
    TcpFailed(String),
    TlsTimedOut,
    /// Handshake or certificate, in the TLS library's words.
    TlsFailed(String),
    /// TLS worked, but what answered is not the service.
    WrongService(String),
}

impl ReachOutcome {
    pub fn reached(&self) -> bool {
        matches!(self, ReachOutcome::Reached { .. })
    }
}

/// An established connection of the agent. Addresses are canonical: a v4-mapped IPv6 address is written as IPv4.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Socket {
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub pid: u32,
    pub inode: u64,
}

/// The way task containers get their role's credentials: 169.254.170.2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The two NAT rules; reading them needs root.
    pub rules: Fact<CredentialRules>,
    /// Whether something listens on the credential port (51679) of the host.
    pub port_answers: Fact<bool>,
}

/// How often each rule stands in the NAT table; once is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRules {
    /// `PREROUTING … DNAT 169.254.170.2:80 → 127.0.0.1:51679`
    pub prerouting: u32,
    /// `OUTPUT … REDIRECT 169.254.170.2:80 → 51679`
    pub output: u32,
}

/// The answer of DiscoverPollEndpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// Host of the ACS websocket, e.g. `ecs-a.eu-west-1.amazonaws.com` or `ecs-a-3.…`.
    pub agent_host: String,
    /// Host of the TCS websocket.
    pub telemetry_host: String,
}
