//! Names and what is behind them.

use super::Stopwatch;
use crate::{
    catalog::{Place, Service},
    config::Settings,
    facts::{Instance, NameFact, ReachFact},
    ports::{HttpAsk, Ports},
};
use futures_util::{StreamExt, stream};
use std::net::SocketAddr;
use tokio::sync::Semaphore;

/// Connections under way at once.
const PROBES: usize = 32;

/// The place the names depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Where {
    pub region: String,
    pub account: String,
    pub partition: String,
    pub dns_suffix: String,
}

impl From<&Instance> for Where {
    fn from(instance: &Instance) -> Self {
        Self {
            region: instance.region.clone(),
            account: instance.account.clone(),
            partition: instance.partition.clone(),
            dns_suffix: instance.dns_suffix.clone(),
        }
    }
}

pub(super) async fn look_and_probe(
    ports: &Ports,
    settings: &Settings,
    services: &[Service],
    place: &Where,
    clock: &Stopwatch,
) -> (Vec<NameFact>, Vec<ReachFact>) {
    let place = Place {
        region: &place.region,
        dns_suffix: &place.dns_suffix,
        account: &place.account,
        partition: &place.partition,
    };
    // A name's addresses are connected to as soon as they are known, whatever becomes of the other names.
    let under_way = Semaphore::new(PROBES);
    let endpoints = stream::iter(services).map(|service| {
        let (hosts, under_way) = (vec![(*service, service.host(&place))], &under_way);
        async move {
            let look = async {
                let names = look_up(ports, hosts).await;
                // At the port of endpoints; where the agent dials another, that is known only later.
                let port = settings.network.https_port;
                let reach = probe_at_most(ports, names.iter().map(|name| (name, port)), under_way).await;
                (names, reach)
            };
            clock.time(&format!("endpoint {}", service.id()), look).await
        }
    });
    let (mut names, mut reach) = (Vec::new(), Vec::new());
    for (its_names, its_reach) in endpoints.buffer_unordered(PROBES).collect::<Vec<_>>().await {
        names.extend(its_names);
        reach.extend(its_reach);
    }
    sort(&mut names, &mut reach);
    (names, reach)
}

fn sort(names: &mut [NameFact], reach: &mut [ReachFact]) {
    names.sort_by(|a, b| (a.service, &a.host).cmp(&(b.service, &b.host)));
    reach.sort_by(|a, b| (a.service, &a.host, a.addr).cmp(&(b.service, &b.host, b.addr)));
}

/// Looks up every name, all at once.
pub async fn look_up(ports: &Ports, hosts: Vec<(Service, String)>) -> Vec<NameFact> {
    let mut names: Vec<NameFact> = stream::iter(hosts)
        .map(|(service, host)| async move {
            let answer = ports.resolver.lookup(&host).await;
            NameFact { service, host, answer }
        })
        .buffer_unordered(PROBES)
        .collect()
        .await;
    sort(&mut names, &mut []);
    names
}

/// Connects to every address of every name, each at its port.
pub async fn probe<'a>(ports: &Ports, names: impl IntoIterator<Item = (&'a NameFact, u16)>) -> Vec<ReachFact> {
    probe_at_most(ports, names, &Semaphore::new(PROBES)).await
}

async fn probe_at_most<'a>(
    ports: &Ports,
    names: impl IntoIterator<Item = (&'a NameFact, u16)>,
    under_way: &Semaphore,
) -> Vec<ReachFact> {
    let targets = names.into_iter().flat_map(|(name, port)| {
        name.answer.ips().into_iter().map(move |ip| (name.service, &name.host, SocketAddr::new(ip, port)))
    });
    let targets: Vec<_> = targets.collect();
    let mut reach: Vec<ReachFact> = stream::iter(targets)
        .map(|(service, host, addr)| async move {
            // Never closed, so that there is no error to be had.
            let _turn = under_way.acquire().await;
            let outcome = ports.prober.probe(addr, host, ask(service)).await;
            ReachFact { service, host: host.clone(), addr, outcome }
        })
        .buffer_unordered(PROBES)
        .collect()
        .await;
    sort(&mut [], &mut reach);
    reach
}

/// What proves that the service is behind an address.
fn ask(service: Service) -> HttpAsk {
    match service {
        Service::EcrDkr => HttpAsk::Registry,
        Service::S3 => HttpAsk::S3,
        _ => HttpAsk::None,
    }
}
