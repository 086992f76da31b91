//! Where an address is: on an endpoint, private but elsewhere, or public.
//!
//! Membership comes first and "private" last: a VPC may use addresses outside RFC 1918, and the
//! IPv6 address of an endpoint is a global one from its subnet.

use crate::config::NetworkSettings;
use crate::facts::{Answer, Fact, Instance, NameFact};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, net::IpAddr};

/// Where one address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Inside the VPC, or inside a block configured as holding endpoints.
    Endpoint,
    /// A private address outside the VPC and outside every configured block.
    PrivateElsewhere,
    /// The proxy the agent is told to use. Told by the agent's settings, never by the address alone.
    Proxy,
    Public,
    /// The VPC's blocks are not known, so it cannot be told.
    Unknown,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Path::Endpoint => "endpoint",
            Path::PrivateElsewhere => "private elsewhere",
            Path::Proxy => "proxy",
            Path::Public => "public",
            Path::Unknown => "unknown",
        })
    }
}

/// The blocks that tell one path from another.
#[derive(Debug, Clone, Copy)]
pub struct PathMap<'a> {
    /// `None` when the instance metadata could not be read.
    vpc: Option<&'a [IpNet]>,
    network: &'a NetworkSettings,
}

impl<'a> PathMap<'a> {
    pub fn new(instance: &'a Fact<Instance>, network: &'a NetworkSettings) -> Self {
        Self { vpc: instance.known().map(|i| i.vpc_cidrs.as_slice()), network }
    }

    /// Where `ip` is. A v4-mapped IPv6 address is taken as the IPv4 address it stands for.
    pub fn path(&self, ip: IpAddr) -> Path {
        let ip = ip.to_canonical();
        let within = |blocks: &[IpNet]| blocks.iter().any(|b| b.contains(&ip));
        if within(&self.network.endpoint_cidrs) || self.vpc.is_some_and(within) {
            Path::Endpoint
        } else if within(&self.network.public_cidrs) {
            Path::Public
        } else if self.vpc.is_none() {
            Path::Unknown
        } else if special_purpose(ip) {
            Path::PrivateElsewhere
        } else {
            Path::Public
        }
    }

    /// Where a name leads: the paths of all its addresses together.
    pub fn name(&self, fact: &NameFact) -> NamePath {
        let ips: BTreeSet<IpAddr> = match &fact.answer {
            Answer::Addresses(addresses) => addresses.iter().map(|a| a.ip.to_canonical()).collect(),
            Answer::NxDomain => return NamePath::Absent(Absence::NxDomain),
            Answer::Empty => return NamePath::Absent(Absence::Empty),
            Answer::ServerFailure(code) => return NamePath::Failed(format!("the name server answered {code}")),
            Answer::TimedOut => return NamePath::Failed("no answer from the name server in time".into()),
            Answer::Failed(why) => return NamePath::Failed(why.clone()),
        };
        let Some(first) = ips.first().map(|ip| self.path(*ip)) else { return NamePath::Absent(Absence::Empty) };
        if ips.iter().any(|ip| self.path(*ip) == Path::Unknown) {
            return NamePath::Unplaced(ips);
        }
        if ips.iter().all(|ip| self.path(*ip) == first) {
            return match first {
                Path::Endpoint => NamePath::Endpoint(ips),
                Path::PrivateElsewhere => NamePath::PrivateElsewhere(ips),
                _ => NamePath::Public(ips),
            };
        }
        let (endpoint, other) = ips.into_iter().partition(|ip| self.path(*ip) == Path::Endpoint);
        NamePath::Mixed { endpoint, other }
    }
}

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamePath {
    /// Every address is an endpoint's.
    Endpoint(BTreeSet<IpAddr>),
    PrivateElsewhere(BTreeSet<IpAddr>),
    Public(BTreeSet<IpAddr>),
    /// Addresses of more than one kind: half-propagated, or a hosts file that overlaps DNS.
    Mixed {
        endpoint: BTreeSet<IpAddr>,
        other: BTreeSet<IpAddr>,
    },
    /// Addresses that cannot be placed, because the VPC's blocks are not known.
    Unplaced(BTreeSet<IpAddr>),
    /// The name has no address, for certain.
    Absent(Absence),
    /// The question could not be answered.
    Failed(String),
}

/// Why a name has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    NxDomain,
    Empty,
}

impl NamePath {
    /// The addresses, if every one of them is an endpoint's.
    pub fn endpoint(&self) -> Option<&BTreeSet<IpAddr>> {
        match self {
            NamePath::Endpoint(ips) => Some(ips),
            _ => None,
        }
    }
}

impl fmt::Display for NamePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NamePath::Endpoint(_) => "endpoint",
            NamePath::PrivateElsewhere(_) => "private elsewhere",
            NamePath::Public(_) => "public",
            NamePath::Mixed { .. } => "mixed",
            NamePath::Unplaced(_) => "unknown",
            NamePath::Absent(Absence::NxDomain) => "no such name",
            NamePath::Absent(Absence::Empty) => "no address",
            NamePath::Failed(_) => "look-up failed",
        })
    }
}

/// RFC 1918, carrier-grade NAT, link-local, loopback and IPv6 unique-local addresses.
fn special_purpose(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Service;
    use crate::config::Settings;
    use crate::facts::Address;

    fn instance(cidrs: &[&str]) -> Fact<Instance> {
        Fact::Known(Instance {
            instance_id: "i-0f00dfacade00001".into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            partition: "aws".into(),
            dns_suffix: "amazonaws.com".into(),
            availability_zone: "eu-west-1a".into(),
            vpc_cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
        })
    }

    fn name(ips: &[&str]) -> NameFact {
        let addresses = ips.iter().map(|ip| Address { ip: ip.parse().unwrap(), ttl_s: Some(60) }).collect();
        NameFact { service: Service::Ecs, host: "ecs".into(), answer: Answer::Addresses(addresses) }
    }

    #[test]
    fn membership_comes_before_being_private() {
        let known = instance(&["10.50.0.0/17", "198.18.0.0/16", "2600:1f18:aa::/56"]);
        let mut network = Settings::default().network;
        network.endpoint_cidrs = vec!["10.50.200.0/24".parse().unwrap()];
        network.public_cidrs = vec!["127.0.100.0/24".parse().unwrap(), "10.50.9.0/24".parse().unwrap()];
        let map = PathMap::new(&known, &network);
        let unknown = Fact::unknown("IMDS", "no answer", "");
        let blind = PathMap::new(&unknown, &network);
        for (ip, path, without_vpc) in [
            ("10.50.1.10", Path::Endpoint, Path::Unknown),
            ("::ffff:10.50.1.10", Path::Endpoint, Path::Unknown),
            ("198.18.4.4", Path::Endpoint, Path::Unknown),
            ("2600:1f18:aa::5", Path::Endpoint, Path::Unknown),
            ("10.50.200.10", Path::Endpoint, Path::Endpoint),
            ("10.50.9.1", Path::Endpoint, Path::Public),
            ("10.51.0.1", Path::PrivateElsewhere, Path::Unknown),
            ("100.64.0.1", Path::PrivateElsewhere, Path::Unknown),
            ("100.128.0.1", Path::Public, Path::Unknown),
            ("fd00:ec2::254", Path::PrivateElsewhere, Path::Unknown),
            ("fe80::1", Path::PrivateElsewhere, Path::Unknown),
            ("127.0.0.1", Path::PrivateElsewhere, Path::Unknown),
            ("127.0.100.10", Path::Public, Path::Public),
            ("198.51.100.10", Path::Public, Path::Unknown),
            ("2600:1f18:bb::5", Path::Public, Path::Unknown),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(map.path(ip), path, "{ip}");
            assert_eq!(blind.path(ip), without_vpc, "{ip} with the VPC unknown");
        }
    }

    #[test]
    fn a_name_is_an_endpoint_only_if_every_address_is() {
        let known = instance(&["10.50.0.0/17"]);
        let network = Settings::default().network;
        let map = PathMap::new(&known, &network);
        assert!(map.name(&name(&["10.50.1.10", "10.50.2.10"])).endpoint().is_some());
        assert!(matches!(map.name(&name(&["198.51.100.10"])), NamePath::Public(_)));
        assert!(matches!(map.name(&name(&["10.99.0.1"])), NamePath::PrivateElsewhere(_)));
        assert!(matches!(map.name(&name(&["10.50.1.10", "198.51.100.10"])), NamePath::Mixed { .. }));
        assert!(matches!(map.name(&name(&["10.99.0.1", "198.51.100.10"])), NamePath::Mixed { .. }));
        assert_eq!(map.name(&name(&[])), NamePath::Absent(Absence::Empty));
        let unknown = Fact::unknown("IMDS", "no answer", "");
        assert!(matches!(PathMap::new(&unknown, &network).name(&name(&["10.50.1.10"])), NamePath::Unplaced(_)));
    }
}
