//! One report a service: its name, where it leads, whether it answers, and the one thing to do about it.

use super::path::{Absence, NamePath, Path, PathMap};
use super::targets::{Targets, place};
use crate::catalog::{Place, Service};
use crate::config::Settings;
use crate::facts::{Instance, NameFact, Observation, ReachFact, ReachOutcome};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

/// What is known of one service's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    pub service: Service,
    pub host: String,
    pub port: u16,
    /// The endpoint service to name when creating the endpoint; empty while the region is not known.
    pub endpoint_service: String,
    pub path: NamePath,
    pub addresses: Vec<AddressReport>,
    pub readiness: Readiness,
    /// What to do next, in a line; empty when there is nothing to do.
    pub remedy: String,
}

/// One address of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressReport {
    pub ip: IpAddr,
    pub path: Path,
    /// `None` when it was not probed.
    pub reach: Option<ReachOutcome>,
}

/// Whether a service can be had without the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Only endpoint addresses, each of which completed TCP and TLS for the name.
    Ready,
    NotReady,
    /// A look-up or a probe is missing, or (S3) a gateway endpoint cannot be told from the internet.
    CannotTell,
}

/// The reports: the control plane by the names the agent will dial, everything else as it was looked up.
pub fn services(
    observation: &Observation,
    targets: &Targets,
    map: &PathMap<'_>,
    settings: &Settings,
) -> Vec<ServiceReport> {
    let instance = observation.instance.known();
    let judged = targets.judged();
    let mut reports: Vec<ServiceReport> = Vec::new();
    for target in judged {
        let found = observation.names.iter().find(|n| n.service == target.service && same_host(&n.host, &target.host));
        let missing = NameFact {
            service: target.service,
            host: target.host.clone(),
            answer: crate::facts::Answer::Failed("the name was not looked up".into()),
        };
        reports.push(report(
            found.unwrap_or(&missing),
            target.port,
            target.proxy.is_some(),
            observation,
            map,
            instance,
        ));
    }
    for name in &observation.names {
        if !(name.service.is_control_plane() && judged.iter().any(|t| t.service == name.service)) {
            reports.push(report(name, settings.network.https_port, false, observation, map, instance));
        }
    }
    reports.sort_by_key(|r| r.service);
    reports
}

/// Host names are the same whatever their case and final dot.
pub fn same_host(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

/// The outcome of the probes of one address for one name; a failure wins over a success.
pub fn reach<'a>(facts: &'a [ReachFact], service: Service, host: &str, addr: SocketAddr) -> Option<&'a ReachOutcome> {
    let mut outcomes = facts
        .iter()
        .filter(|r| r.service == service && same_host(&r.host, host))
        .filter(|r| r.addr.port() == addr.port() && r.addr.ip().to_canonical() == addr.ip())
        .map(|r| &r.outcome);
    let first = outcomes.next()?;
    Some(outcomes.find(|o| !o.reached()).filter(|_| first.reached()).unwrap_or(first))
}

fn report(
    name: &NameFact,
    port: u16,
    proxied: bool,
    observation: &Observation,
    map: &PathMap<'_>,
    instance: Option<&Instance>,
) -> ServiceReport {
    let ips: BTreeSet<IpAddr> = name.answer.ips().iter().map(IpAddr::to_canonical).collect();
    let addresses: Vec<AddressReport> = ips
        .into_iter()
        .map(|ip| {
            let addr = SocketAddr::new(ip, port);
            let reach = reach(&observation.reach, name.service, &name.host, addr).cloned();
            AddressReport { ip, path: map.path(ip), reach }
        })
        .collect();
    let path = map.name(name);
    let place = instance.map(place);
    let mut report = ServiceReport {
        service: name.service,
        host: name.host.clone(),
        port,
        endpoint_service: place.as_ref().map(|p| name.service.endpoint_service(p)).unwrap_or_default(),
        readiness: readiness(name.service, &path, &addresses),
        path,
        addresses,
        remedy: String::new(),
    };
    report.remedy = remedy(&report, place.as_ref(), proxied);
    report
}

fn readiness(service: Service, path: &NamePath, addresses: &[AddressReport]) -> Readiness {
    let failed = addresses.iter().any(|a| a.reach.as_ref().is_some_and(|r| !r.reached()));
    let all_reached = addresses.iter().all(|a| a.reach.as_ref().is_some_and(ReachOutcome::reached));
    match path {
        NamePath::Endpoint(_) if all_reached => Readiness::Ready,
        NamePath::Endpoint(_) if !failed => Readiness::CannotTell,
        NamePath::Failed(_) | NamePath::Unplaced(_) => Readiness::CannotTell,
        // A gateway endpoint is a route: the addresses stay public.
        NamePath::Public(_) if service == Service::S3 && !failed => Readiness::CannotTell,
        _ => Readiness::NotReady,
    }
}

/// The first address that did not answer as it should.
pub fn first_failure(report: &ServiceReport) -> Option<(&AddressReport, &ReachOutcome)> {
    report.addresses.iter().find_map(|a| a.reach.as_ref().filter(|r| !r.reached()).map(|r| (a, r)))
}

fn remedy(report: &ServiceReport, place: Option<&Place<'_>>, proxied: bool) -> String {
    let ServiceReport { service, host, port, endpoint_service, .. } = report;
    if proxied {
        return format!("add {host} to NO_PROXY in ecs.config, so that the agent dials it without the proxy");
    }
    let failure = first_failure(report).map(|(a, outcome)| reach_remedy(host, *port, a.ip, outcome, report));
    match &report.path {
        NamePath::Endpoint(_) => failure.unwrap_or_default(),
        NamePath::Public(_) if *service == Service::S3 => failure.unwrap_or_else(|| s3_remedy(place)),
        NamePath::Public(_) if !plain(report, place) => format!(
            "{host} is not a name that private DNS of {endpoint_service} covers; take the setting that asks for it out \
             of ecs.config, or point a private hosted zone at the endpoint"
        ),
        NamePath::Public(_) | NamePath::Absent(_) => create_or_switch_on(endpoint_service),
        NamePath::Mixed { .. } => format!(
            "wait for DNS to settle; if it stays so, look for a second answer: getent ahosts {host} (an entry in \
             /etc/hosts, a private hosted zone, two resolvers that disagree)"
        ),
        NamePath::PrivateElsewhere(ips) => format!(
            "if {} are endpoints in another VPC (peering, transit gateway), set its block: network.endpoint_cidrs = [{}]",
            list(ips),
            blocks(ips)
        ),
        NamePath::Unplaced(_) => "make the instance metadata readable, or set network.endpoint_cidrs".into(),
        NamePath::Failed(why) => format!("ask by hand: getent ahosts {host} ({why}); look at /etc/resolv.conf"),
    }
}

/// Whether the host is the catalog's name, which the endpoint's private DNS covers.
fn plain(report: &ServiceReport, place: Option<&Place<'_>>) -> bool {
    place.is_none_or(|p| {
        let dual_stack = format!("ecs.{}.{}", p.region, p.dual_stack_suffix());
        same_host(&report.host, &report.service.host(p)) || same_host(&report.host, &dual_stack)
    })
}

fn create_or_switch_on(endpoint_service: &str) -> String {
    format!(
        "create interface endpoint {endpoint_service} in this VPC; if there is one: turn on its private DNS, and \
         enableDnsSupport and enableDnsHostnames of the VPC"
    )
}

fn s3_remedy(place: Option<&Place<'_>>) -> String {
    let region = place.map_or("<region>", |p| p.region);
    format!(
        "from a host a gateway endpoint cannot be told from the internet: look for prefix list \
         com.amazonaws.{region}.s3 in the route table of this subnet"
    )
}

fn reach_remedy(host: &str, port: u16, ip: IpAddr, outcome: &ReachOutcome, report: &ServiceReport) -> String {
    let endpoint = &report.endpoint_service;
    match outcome {
        ReachOutcome::Reached { .. } => String::new(),
        ReachOutcome::TcpTimedOut => format!(
            "let TCP {port} from this instance in: inbound rule of the security group of endpoint {endpoint} ({ip}); \
             then the outbound rules of this instance and the subnet's network ACLs"
        ),
        ReachOutcome::TcpRefused => format!(
            "nothing listens on {ip}:{port}: is {ip} really a network interface of {endpoint}? (an old address, or an \
             entry in /etc/hosts or a private hosted zone)"
        ),
        ReachOutcome::TcpFailed(_) if ip.is_ipv6() => format!(
            "no way to {ip} from this host: give it an IPv6 route, or set the DNS record type of {endpoint} to ipv4"
        ),
        ReachOutcome::TcpFailed(_) => format!("no way to {ip} from this host: look at ip route get {ip}"),
        ReachOutcome::TlsTimedOut => format!(
            "{ip}:{port} takes connections and does not answer: look for a firewall or an inspecting proxy before \
             {endpoint}"
        ),
        ReachOutcome::TlsFailed(_) => format!(
            "the certificate at {ip} must be for {host} and from Amazon: openssl s_client -connect {ip}:{port} \
             -servername {host} (a proxy that inspects TLS, or the address of another endpoint)"
        ),
        ReachOutcome::WrongService(_) => format!(
            "what answers at {ip}:{port} is not {}: look where {host} is pointed at (private hosted zone, /etc/hosts)",
            report.service
        ),
    }
}

/// What a failed probe came to, in a phrase.
pub fn outcome_text(outcome: &ReachOutcome) -> String {
    match outcome {
        ReachOutcome::Reached { .. } => "answers".into(),
        ReachOutcome::TcpTimedOut => "TCP timed out".into(),
        ReachOutcome::TcpRefused => "TCP was refused".into(),
        ReachOutcome::TcpFailed(why) => format!("TCP failed: {why}"),
        ReachOutcome::TlsTimedOut => "TLS timed out".into(),
        ReachOutcome::TlsFailed(why) => format!("TLS failed: {why}"),
        ReachOutcome::WrongService(why) => format!("not the service: {why}"),
    }
}

/// Where a name leads, in a phrase with its addresses.
pub fn path_text(path: &NamePath) -> String {
    match path {
        NamePath::Endpoint(ips) => format!("resolves to endpoint addresses ({})", list(ips)),
        NamePath::PrivateElsewhere(ips) => {
            format!("resolves to private addresses outside this VPC ({}) that no configured block holds", list(ips))
        }
        NamePath::Public(ips) => format!("resolves to the internet ({})", list(ips)),
        NamePath::Mixed { endpoint, other } if endpoint.is_empty() => {
            format!("resolves to both private and public addresses ({})", list(other))
        }
        NamePath::Mixed { endpoint, other } => {
            format!("is half-way: endpoint addresses ({}) and others ({}) in one answer", list(endpoint), list(other))
        }
        NamePath::Unplaced(ips) => format!("resolves to {}, which cannot be placed", list(ips)),
        NamePath::Absent(Absence::NxDomain) => "does not exist (NXDOMAIN)".into(),
        NamePath::Absent(Absence::Empty) => "exists and has no address".into(),
        NamePath::Failed(why) => format!("could not be resolved: {why}"),
    }
}

/// Addresses, comma-separated.
pub fn list(ips: &BTreeSet<IpAddr>) -> String {
    ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// Blocks an operator can start from; those of the other VPC may well be wider.
fn blocks(ips: &BTreeSet<IpAddr>) -> String {
    let around = |ip: &IpAddr| IpNet::new(*ip, if ip.is_ipv4() { 24 } else { 64 }).map(|n| n.trunc().to_string());
    let nets: BTreeSet<String> = ips.iter().filter_map(|ip| around(ip).ok()).collect();
    nets.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")
}
