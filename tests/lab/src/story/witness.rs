//! What others than hostagent saw: the region's own count of connections, and a probe of the agent's port.

use crate::region::{
    RegionHandle,
    place::Service,
    switch::{Addresses, What},
};
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle};

/// The connections of the agent as the region counts them.
pub struct Witness {
    /// Service, host, address, path.
    seen: Vec<(Service, String, SocketAddr, &'static str)>,
    /// ARN of the container instance whose websockets these are.
    pub arn: String,
}

impl Witness {
    pub fn look(region: &RegionHandle) -> Self {
        let state = region.state();
        // A plain connection to another service is a probe that the region has not seen the end of yet.
        let plain = state.connections.iter().filter(|c| c.service == Service::Ecs);
        let plain = plain.map(|c| (c.service, c.service.host(), c.local));
        let websockets = state.websockets.iter().map(|w| (w.service, w.host.clone(), w.local));
        let mut seen: Vec<_> = plain
            .chain(websockets)
            .filter(|(service, ..)| Service::CONTROL_PLANE.contains(service))
            .map(|(service, host, local)| (service, host, local, path(region.addresses(), local.ip())))
            .collect();
        seen.sort();
        let arn = state.websockets.first().map(|w| w.container_instance_arn.clone()).unwrap_or_default();
        Self { seen, arn }
    }

    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |(service, host, local, path): &(Service, String, SocketAddr, &str)| {
            let what = match service {
                Service::EcsAgent => "ACS websocket",
                Service::EcsTelemetry => "TCS websocket",
                _ => "API",
            };
            vec![what.to_string(), host.clone(), local.to_string(), (*path).to_string()]
        };
        self.seen.iter().map(row).collect()
    }

    pub fn websockets_public(&self) -> bool {
        let mut websockets = self.seen.iter().filter(|(service, ..)| *service != Service::Ecs);
        self.has_both_websockets() && websockets.all(|(.., path)| *path == PUBLIC)
    }

    pub fn all_on_endpoints(&self) -> bool {
        self.has_both_websockets() && self.seen.iter().all(|(.., path)| *path == ENDPOINT)
    }

    fn has_both_websockets(&self) -> bool {
        [Service::EcsAgent, Service::EcsTelemetry].iter().all(|wanted| self.seen.iter().any(|(s, ..)| s == wanted))
    }
}

const PUBLIC: &str = "public";
const ENDPOINT: &str = "endpoint";

fn path(addresses: &Addresses, ip: IpAddr) -> &'static str {
    if addresses.services.values().any(|service| service.endpoint.contains(&ip)) { ENDPOINT } else { PUBLIC }
}

/// How long each websocket was away after event number `after`: from its last end to the next beginning, in seconds.
pub fn gaps(region: &RegionHandle, after: u64) -> Vec<(&'static str, f64)> {
    let events = region.events_after(after);
    let gap = |service: Service| {
        let closed = events.iter().find_map(|event| match &event.what {
            What::WsClose { websocket, .. } if websocket.service == service => Some(event.at_ms),
            _ => None,
        })?;
        let opened = events.iter().rev().find_map(|event| match &event.what {
            What::WsOpen { websocket } if websocket.service == service => Some(event.at_ms),
            _ => None,
        })?;
        Some(opened.saturating_sub(closed) as f64 / 1_000.0)
    };
    let both = [("The ACS websocket", Service::EcsAgent), ("The TCS websocket", Service::EcsTelemetry)];
    both.into_iter().filter_map(|(what, service)| Some((what, gap(service)?))).collect()
}

/// A watch over the agent's introspection port.
pub struct Outage {
    stop: oneshot::Sender<()>,
    watch: JoinHandle<Duration>,
}

impl Outage {
    /// Tries the port every few milliseconds.
    pub fn watch(address: SocketAddr) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let watch = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            let (mut longest, mut since) = (Duration::ZERO, None);
            loop {
                tokio::select! {
                    _ = &mut stopped => return longest,
                    _ = ticks.tick() => {}
                }
                if TcpStream::connect(address).await.is_ok() {
                    let away = since.take().map_or(Duration::ZERO, |since: Instant| since.elapsed());
                    longest = longest.max(away);
                } else {
                    since.get_or_insert_with(Instant::now);
                }
            }
        });
        Self { stop, watch }
    }

    /// The longest time the port did not answer.
    pub async fn end(self) -> Duration {
        let _ = self.stop.send(());
        self.watch.await.unwrap_or_default()
    }
}
