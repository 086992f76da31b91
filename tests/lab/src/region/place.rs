//! What there is in the region: services, their names and their addresses.
//!
//! Written apart from hostagent's own catalog on purpose: the lab is a second witness of the names.

use anyhow::bail;
use clap::ValueEnum;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

pub const REGION: &str = "eu-west-1";
pub const ZONE: &str = "eu-west-1a";
pub const SUFFIX: &str = "amazonaws.com";
pub const ACCOUNT: &str = "111122223333";
pub const INSTANCE: &str = "i-0f00dfacade00001";
pub const CLUSTER: &str = "prod";
pub const MAC: &str = "06:50:0a:32:01:0a";
pub const ROLE: &str = "ecsInstanceRole";

/// A service of the region. The order gives the addresses: 10, 11, 12, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    Ecs,
    EcsAgent,
    EcsTelemetry,
    EcrApi,
    EcrDkr,
    S3,
    Logs,
    Ssm,
    Ssmmessages,
    Ec2messages,
    Secretsmanager,
    Kms,
}

/// Which way into a service an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Public,
    /// An interface endpoint in this VPC; the number is that of the subnet, 1 or 2.
    Endpoint(u8),
    /// An interface endpoint in a central VPC.
    Elsewhere,
    /// One of the numbered websocket hosts, which are always public.
    Numbered,
}

/// An address, what it leads to and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Door {
    pub service: Service,
    pub way: Way,
    pub ip: Ipv4Addr,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Base(Service),
    Numbered(Service),
    /// `dkr.ecr.<region>`: a zone of its own that has only names below it.
    Bare,
}

impl Service {
    pub const ALL: [Service; 12] = [
        Service::Ecs,
        Service::EcsAgent,
        Service::EcsTelemetry,
        Service::EcrApi,
        Service::EcrDkr,
        Service::S3,
        Service::Logs,
        Service::Ssm,
        Service::Ssmmessages,
        Service::Ec2messages,
        Service::Secretsmanager,
        Service::Kms,
    ];
    /// The three that gate a restart of the agent.
    pub const CONTROL_PLANE: [Service; 3] = [Service::Ecs, Service::EcsAgent, Service::EcsTelemetry];

    /// The last part of the endpoint service's name; what `set` takes.
    pub fn id(self) -> &'static str {
        match self {
            Service::Ecs => "ecs",
            Service::EcsAgent => "ecs-agent",
            Service::EcsTelemetry => "ecs-telemetry",
            Service::EcrApi => "ecr.api",
            Service::EcrDkr => "ecr.dkr",
            Service::S3 => "s3",
            Service::Logs => "logs",
            Service::Ssm => "ssm",
            Service::Ssmmessages => "ssmmessages",
            Service::Ec2messages => "ec2messages",
            Service::Secretsmanager => "secretsmanager",
            Service::Kms => "kms",
        }
    }

    /// Takes `ecr.api` and `ecr-api` alike.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let wanted = text.replace('-', ".");
        match Service::ALL.into_iter().find(|service| service.id().replace('-', ".") == wanted) {
            Some(service) => Ok(service),
            None => bail!("no service {text:?}; there are {}", Service::ALL.map(Service::id).join(", ")),
        }
    }

    /// The name clients dial.
    pub fn host(self) -> String {
        let label = match self {
            Service::EcsAgent => "ecs-a".to_string(),
            Service::EcsTelemetry => "ecs-t".to_string(),
            Service::EcrApi => "api.ecr".to_string(),
            Service::EcrDkr => format!("{ACCOUNT}.dkr.ecr"),
            Service::S3 => return format!("prod-{REGION}-starport-layer-bucket.s3.{REGION}.{SUFFIX}"),
            other => other.id().to_string(),
        };
        format!("{label}.{REGION}.{SUFFIX}")
    }

    /// The numbered host that discovery over the public way hands out.
    pub fn numbered_host(self) -> Option<String> {
        match self {
            Service::EcsAgent => Some(format!("ecs-a-3.{REGION}.{SUFFIX}")),
            Service::EcsTelemetry => Some(format!("ecs-t-3.{REGION}.{SUFFIX}")),
            _ => None,
        }
    }

    /// Subject alternative names of the service's certificate.
    pub fn certificate_names(self) -> Vec<String> {
        let zone = format!("{REGION}.{SUFFIX}");
        match self {
            Service::EcrDkr => vec![format!("*.dkr.ecr.{zone}")],
            Service::S3 => vec![format!("s3.{zone}"), format!("*.s3.{zone}")],
            Service::Ecs => vec![self.host(), format!("ecs.{REGION}.api.aws")],
            other => std::iter::once(other.host()).chain(other.numbered_host()).collect(),
        }
    }

    /// What `host` (lower case, no trailing dot) leads to, if the region knows it.
    pub fn of_host(host: &str) -> Option<Known> {
        if host == format!("ecs.{REGION}.api.aws") {
            return Some(Known::Base(Service::Ecs));
        }
        let label = host.strip_suffix(&format!(".{REGION}.{SUFFIX}"))?;
        if let Some(service) = Service::ALL.into_iter().find(|s| s.numbered_host().as_deref() == Some(host)) {
            return Some(Known::Numbered(service));
        }
        if label == "dkr.ecr" {
            return Some(Known::Bare);
        }
        if let Some(account) = label.strip_suffix(".dkr.ecr") {
            let digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
            return digits.then_some(Known::Base(Service::EcrDkr));
        }
        if label == "s3" || label.strip_suffix(".s3").is_some_and(|bucket| !bucket.is_empty()) {
            return Some(Known::Base(Service::S3));
        }
        Service::ALL.into_iter().find(|s| s.host() == host).map(Known::Base)
    }
}

/// Where the region's addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// The addresses a host would see, on ports 53, 80 and 443: needs a network namespace that has them.
    Real,
    /// The same scheme on 127/8, on free ports: needs nothing.
    Loopback,
}

impl Binding {
    /// The VPC's blocks as the metadata service tells them.
    pub fn vpc_cidrs(self) -> Vec<Ipv4Net> {
        let net = |a, b, c, d, len| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len);
        match self {
            Binding::Real => vec![net(10, 50, 0, 0, 17)],
            Binding::Loopback => vec![net(127, 0, 51, 0, 24), net(127, 0, 52, 0, 24)],
        }
    }

    /// The block of the public addresses.
    pub fn public_cidr(self) -> Ipv4Net {
        match self {
            Binding::Real => Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24),
            Binding::Loopback => Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 100, 0), 24),
        }
    }

    /// The block of the central endpoint VPC.
    pub fn elsewhere_cidr(self) -> Ipv4Net {
        match self {
            Binding::Real => Ipv4Net::new_assert(Ipv4Addr::new(10, 50, 200, 0), 24),
            Binding::Loopback => Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 200, 0), 24),
        }
    }

    fn address(self, way: Way, last: u8) -> Ipv4Addr {
        match (self, way) {
            (Binding::Real, Way::Public | Way::Numbered) => Ipv4Addr::new(198, 51, 100, last),
            (Binding::Real, Way::Endpoint(subnet)) => Ipv4Addr::new(10, 50, subnet, last),
            (Binding::Real, Way::Elsewhere) => Ipv4Addr::new(10, 50, 200, last),
            (Binding::Loopback, Way::Public | Way::Numbered) => Ipv4Addr::new(127, 0, 100, last),
            (Binding::Loopback, Way::Endpoint(subnet)) => Ipv4Addr::new(127, 0, 50 + subnet, last),
            (Binding::Loopback, Way::Elsewhere) => Ipv4Addr::new(127, 0, 200, last),
        }
    }

    /// The address of one way into a service; `None` where there is no such way.
    pub fn door(self, service: Service, way: Way) -> Option<Door> {
        let last = match (way, service) {
            (Way::Numbered, Service::EcsAgent) => 31,
            (Way::Numbered, Service::EcsTelemetry) => 32,
            (Way::Numbered, _) => return None,
            _ => 10 + service as u8,
        };
        Some(Door { service, way, ip: self.address(way, last) })
    }

    /// Every address of the region.
    pub fn doors(self) -> Vec<Door> {
        let ways = [Way::Public, Way::Endpoint(1), Way::Endpoint(2), Way::Elsewhere, Way::Numbered];
        Service::ALL.into_iter().flat_map(|s| ways.into_iter().filter_map(move |way| self.door(s, way))).collect()
    }

    /// Where the forward proxy listens: a public address that is no service's.
    pub fn proxy_ip(self) -> Ipv4Addr {
        self.address(Way::Public, 80)
    }
}

impl Door {
    /// Whether requests that come in here came through an interface endpoint.
    pub fn is_endpoint(&self) -> bool {
        matches!(self.way, Way::Endpoint(_) | Way::Elsewhere)
    }

    /// The names that lead here.
    pub fn answers_to(&self, host: &str) -> bool {
        match Service::of_host(host) {
            Some(Known::Base(service)) => service == self.service && self.way != Way::Numbered,
            Some(Known::Numbered(service)) => service == self.service && self.way == Way::Numbered,
            Some(Known::Bare) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_the_agreed_one() {
        let at = |s, w| Binding::Real.door(s, w).map(|d| d.ip.to_string()).unwrap_or_default();
        assert_eq!(at(Service::Ecs, Way::Public), "198.51.100.10");
        assert_eq!(at(Service::Logs, Way::Endpoint(2)), "10.50.2.16");
        assert_eq!(at(Service::EcsTelemetry, Way::Elsewhere), "10.50.200.12");
        assert_eq!(at(Service::EcsAgent, Way::Numbered), "198.51.100.31");
        assert_eq!(at(Service::EcsTelemetry, Way::Numbered), "198.51.100.32");
        let all = Binding::Loopback.doors();
        let distinct: std::collections::BTreeSet<_> = all.iter().map(|d| d.ip).collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn names_lead_where_they_should() {
        let of = |name: &str| Service::of_host(&format!("{name}.eu-west-1.amazonaws.com"));
        assert_eq!(of("ecs-a-3"), Some(Known::Numbered(Service::EcsAgent)));
        assert_eq!(of("ecs-a"), Some(Known::Base(Service::EcsAgent)));
        assert_eq!(of("444455556666.dkr.ecr"), Some(Known::Base(Service::EcrDkr)));
        assert_eq!(of("notanaccount.dkr.ecr"), None);
        assert_eq!(of("dkr.ecr"), Some(Known::Bare));
        assert_eq!(of("any-bucket.s3"), Some(Known::Base(Service::S3)));
        assert_eq!(of("sqs"), None);
        assert_eq!(Service::of_host("ecs.us-east-1.amazonaws.com"), None);
    }

    #[test]
    fn services_are_read_with_dots_and_dashes() {
        assert_eq!(Service::parse("ecr-api").ok(), Some(Service::EcrApi));
        assert_eq!(Service::parse("ecs-agent").ok(), Some(Service::EcsAgent));
        assert!(Service::parse("sqs").is_err());
    }
}
