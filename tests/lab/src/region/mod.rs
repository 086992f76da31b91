//! A region in a box: name server, services on public and endpoint addresses, metadata service, forward proxy.
//!
//! [`Region::start`] brings it up inside the calling process; dropping the handle takes it down.

mod certs;
pub mod cli;
mod control;
mod dns;
mod ecs_api;
mod https;
mod imds;
pub mod place;
mod proxy;
mod sigv4;
mod state;
pub mod switch;
mod systems_manager;
mod websocket;

use anyhow::{Context as _, bail};
use certs::Certificates;
use place::{Binding, Door, INSTANCE, REGION, Service, Way};
use state::Shared;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use switch::{Addresses, Change, Event, Instance, ServiceAddresses, State, Switches, Websocket};
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinSet,
};

/// Where the region's directory holds what its S3 serves, as `<bucket>/<key>`.
pub const OBJECTS: &str = "objects";

/// How to bring up a region.
#[derive(Debug, Clone)]
pub struct RegionConfig {
    pub binding: Binding,
    /// Directory for `ca.pem`, `control.sock` and the objects of S3; made if it is not there.
    pub dir: PathBuf,
    /// Seconds; the TTL of every service's name to begin with.
    pub ttl: u32,
    /// ID of the instance that the metadata service is of.
    pub instance: String,
}

impl RegionConfig {
    /// On loopback addresses, with a TTL of two seconds.
    pub fn loopback(dir: impl Into<PathBuf>) -> Self {
        Self { binding: Binding::Loopback, dir: dir.into(), ttl: 2, instance: INSTANCE.into() }
    }
}

/// Brings regions up.
pub struct Region;

/// A running region. Dropped, it is gone.
pub struct RegionHandle {
    shared: Arc<Shared>,
    addresses: Arc<Addresses>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Region {
    /// Everything listens when this returns.
    ///
    /// # Errors
    ///
    /// When an address or a port is not to be had (the real binding needs its addresses on an interface),
    /// or the directory cannot be written.
    pub async fn start(config: RegionConfig) -> anyhow::Result<RegionHandle> {
        let RegionConfig { binding, dir, ttl, instance } = config;
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let certificates = Arc::new(Certificates::new()?);
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, &certificates.ca_pem).with_context(|| format!("write {}", ca.display()))?;

        let real = binding == Binding::Real;
        let (dns_ip, imds_ip) = match binding {
            Binding::Real => (Ipv4Addr::new(10, 50, 0, 2), Ipv4Addr::new(169, 254, 169, 254)),
            Binding::Loopback => (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST),
        };
        let (udp, tcp) = dns::bind(SocketAddr::new(dns_ip.into(), if real { 53 } else { 0 })).await?;
        let imds = listen(imds_ip, if real { 80 } else { 0 }, "metadata service").await?;
        let proxy = listen(binding.proxy_ip(), if real { 3128 } else { 0 }, "forward proxy").await?;
        let (https_port, doors) = listen_https(binding).await?;
        let control_path = dir.join("control.sock");
        let control = unix_listener(&control_path)?;

        let addresses = Arc::new(Addresses {
            region: REGION.into(),
            dns: udp.local_addr()?,
            imds: imds.local_addr()?,
            proxy: proxy.local_addr()?,
            https_port,
            ca,
            control: control_path,
            vpc_cidrs: binding.vpc_cidrs().iter().map(ToString::to_string).collect(),
            public_cidr: binding.public_cidr().to_string(),
            elsewhere_cidr: binding.elsewhere_cidr().to_string(),
            services: Service::ALL.into_iter().filter_map(|s| Some((s, service_addresses(binding, s)?))).collect(),
        });
        let shared = Arc::new(Shared::new(binding, ttl, instance, &dir));
        let mut tasks = JoinSet::new();
        tasks.spawn(dns::serve_udp(shared.clone(), udp));
        tasks.spawn(dns::serve_tcp(shared.clone(), tcp));
        tasks.spawn(proxy::serve(shared.clone(), proxy));
        tasks.spawn(imds::serve(shared.clone(), imds, shared.follow()));
        for (door, listener) in doors {
            tasks.spawn(https::serve(shared.clone(), certificates.clone(), door, listener, shared.follow()));
        }
        tasks.spawn(control::serve(shared.clone(), addresses.clone(), control));
        Ok(RegionHandle { shared, addresses, tasks })
    }
}

impl RegionHandle {
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Throws switches; in force when this returns.
    pub async fn set(&self, change: &Change) {
        self.shared.change(change).await;
    }

    pub fn switches(&self) -> Switches {
        self.shared.switches()
    }

    pub fn state(&self) -> State {
        control::snapshot(&self.shared, &self.addresses)
    }

    /// The websockets open now.
    pub fn websockets(&self) -> Vec<Websocket> {
        self.shared.websockets()
    }

    pub fn instances(&self) -> Vec<Instance> {
        self.shared.instances()
    }

    /// Closes the open websockets of one service, or of all.
    pub fn hang_up(&self, service: Option<Service>) {
        self.shared.hang_up(service);
    }

    /// Number of the latest event; give it to [`Self::wait_for`] to look only at what comes later.
    pub fn last_event(&self) -> u64 {
        *self.shared.latest().borrow()
    }

    pub fn events_after(&self, seq: u64) -> Vec<Event> {
        self.shared.events_after(seq)
    }

    /// The first event after number `seq` that `wanted` is true for.
    ///
    /// # Errors
    ///
    /// When there is none within `limit`; the message lists what happened instead.
    pub async fn wait_for(
        &self,
        seq: u64,
        limit: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> anyhow::Result<Event> {
        let mut latest = self.shared.latest();
        let mut seen = seq;
        let search = async {
            loop {
                for event in self.shared.events_after(seen) {
                    seen = event.seq;
                    if wanted(&event) {
                        return Ok(event);
                    }
                }
                if latest.wait_for(|latest| *latest > seen).await.is_err() {
                    bail!("the region is gone");
                }
            }
        };
        match tokio::time::timeout(limit, search).await {
            Ok(found) => found,
            Err(_) => {
                let instead: Vec<String> =
                    self.shared.events_after(seq).iter().map(|event| format!("{:?}", event.what)).collect();
                bail!("no such event within {limit:?}; these came: {instead:#?}")
            }
        }
    }

    /// Runs until a part of the region fails.
    ///
    /// # Errors
    ///
    /// The failure.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("a part of the region ended"),
            Some(Err(error)) => error.into(),
        }
    }
}

impl Drop for RegionHandle {
    fn drop(&mut self) {
        // Upgraded connections are not among the tasks.
        self.shared.hang_up(None);
        // A socket file that is already gone is what is wanted.
        let _ = std::fs::remove_file(&self.addresses.control);
    }
}

async fn listen(ip: Ipv4Addr, port: u16, what: &str) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(ip.into(), port);
    TcpListener::bind(address).await.with_context(|| format!("{what} on {address}"))
}

/// One port that is free on every address.
async fn listen_https(binding: Binding) -> anyhow::Result<(u16, Vec<(Door, TcpListener)>)> {
    let mut tries = if binding == Binding::Real { 1 } else { 20 };
    loop {
        tries -= 1;
        match listen_https_once(binding).await {
            Err(_) if tries > 0 => {}
            done => return done,
        }
    }
}

async fn listen_https_once(binding: Binding) -> anyhow::Result<(u16, Vec<(Door, TcpListener)>)> {
    let mut port = if binding == Binding::Real { 443 } else { 0 };
    let mut listeners = Vec::new();
    for door in binding.doors() {
        let listener = listen(door.ip, port, door.service.id()).await?;
        port = listener.local_addr()?.port();
        listeners.push((door, listener));
    }
    Ok((port, listeners))
}

/// A listener at `path`, in the place of one left by a process that is gone.
fn unix_listener(path: &std::path::Path) -> anyhow::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("a region is running already with {}", path.display());
    }
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))
}

fn service_addresses(binding: Binding, service: Service) -> Option<ServiceAddresses> {
    let ip = |way| binding.door(service, way).map(|door| IpAddr::from(door.ip));
    Some(ServiceAddresses {
        host: service.host(),
        public: ip(Way::Public)?,
        endpoint: [ip(Way::Endpoint(1))?, ip(Way::Endpoint(2))?],
        elsewhere: ip(Way::Elsewhere)?,
        numbered: service.numbered_host().zip(ip(Way::Numbered)),
    })
}
