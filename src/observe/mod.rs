//! One look at the host: every probe side by side, each bounded by its adapter, none judging what it sees.
//!
//! The slowest chain is metadata → name → addresses. To keep a look about as long as its slowest probe, the names
//! are looked up for the place the agent itself tells (its container-instance ARN) while the metadata service is
//! still being asked; if the metadata disagrees, they are looked up again for the right place.

mod agent;
mod names;

pub use names::{look_up, probe};

use crate::{
    catalog::{self, Service},
    config::Settings,
    facts::{
        AgentContainer, Credentials, Discovery, Fact, Instance, Introspection, Observation, Presence, Socket, Took,
    },
    ports::Ports,
};
use futures_util::FutureExt as _;
use std::{future::Future, sync::Mutex, time::Duration};
use tokio::{net::TcpStream, time::Instant};

/// What to look at besides what every look holds.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Services whose names to look up and whose addresses to probe.
    pub services: Vec<Service>,
    /// Ask the control plane which names it hands out.
    pub discover: bool,
}

/// Looks at everything once. Bounded by the deadlines of the adapters; never fails as a whole.
pub async fn look(ports: &Ports, settings: &Settings, ask: &Ask) -> Observation {
    let at = jiff::Timestamp::now();
    let clock = Stopwatch::default();
    // What waits for nothing.
    let aside = async {
        tokio::join!(
            clock.time("instance", ports.metadata.instance()),
            clock.time("workloads", ports.engine.workloads(&settings.agent.container)),
            clock.time("tasks", ports.introspect.tasks()),
            clock.time("credentials", credentials(ports, settings)),
            prepare(ports, ask),
        )
    };
    // What others wait for, each of which begins as soon as all that it needs is there.
    let words = agent::words(settings);
    let units = clock.time("units", ports.init.units(&settings.agent.units, &words)).shared();
    let container = clock.time("container", ports.engine.agent(&settings.agent.container)).shared();
    let introspection = clock.time("introspection", ports.introspect.metadata()).shared();
    let found = async {
        let (container, units) = tokio::join!(container.clone(), units);
        let systemd: Fact<_> = units.into();
        let presence = agent::presence(container, &systemd);
        let files = agent::files(settings, &presence).await;
        (systemd, presence, files)
    };
    let version = async {
        let (container, introspection) = tokio::join!(container.clone(), introspection.clone());
        clock.time("version", agent::version(ports, &container, &introspection)).await
    };
    let sockets = async { clock.time("sockets", sockets(ports, &container.clone().await)).await };
    let discovery = async { clock.time("discovery", discovery(ports, ask, &introspection.clone().await)).await };
    let speculative = async {
        let place = introspection.clone().await.as_ref().ok().and_then(place_of)?;
        let names = names::look_and_probe(ports, settings, &ask.services, &place, &clock).await;
        Some((place, names))
    };
    let (aside, found, version, mut sockets, discovery, speculative) =
        tokio::join!(aside, found, version, sockets, discovery, speculative);
    let (instance, workloads, tasks, credentials, ()) = aside;
    let (systemd, presence, (cache, persistence, config_file, ecs_init)) = found;
    let instance: Fact<Instance> = instance.into();

    let (names, reach) = match (instance.known().map(names::Where::from), speculative) {
        // Without the metadata the place the agent told is still worth showing.
        (None, Some((_, seen))) => seen,
        (None, None) => (Vec::new(), Vec::new()),
        (Some(place), Some((guess, seen))) if guess == place => seen,
        (Some(place), _) => names::look_and_probe(ports, settings, &ask.services, &place, &clock).await,
    };
    if let Fact::Known(Presence::HostProcess { pid, .. }) = &presence {
        sockets = ports.sockets.established(*pid).await.into();
    }
    Observation {
        at,
        agent: crate::facts::AgentFacts {
            presence,
            introspection: introspection.await.into(),
            tasks: tasks.into(),
            version,
            cache,
            persistence,
            config_file,
            ecs_init,
        },
        systemd,
        instance,
        names,
        reach,
        sockets,
        credentials: Fact::Known(credentials),
        discovery,
        workloads: workloads.into(),
        took_ms: clock.read(),
    }
}

/// What probing needs is made ready while the names are still being looked up. Should a disk hang, probing tells.
async fn prepare(ports: &Ports, ask: &Ask) {
    const DEADLINE: Duration = Duration::from_secs(5);
    if !ask.services.is_empty() {
        let _ = tokio::time::timeout(DEADLINE, ports.prober.prepare()).await;
    }
}

/// The connections of a running container's process tree.
async fn sockets(ports: &Ports, container: &Seen<Option<AgentContainer>>) -> Fact<Vec<Socket>> {
    match container {
        Ok(Some(AgentContainer { pid: Some(pid), .. })) => ports.sockets.established(*pid).await.into(),
        // A container that does not run has no connections: that is known.
        Ok(Some(_)) => Fact::Known(Vec::new()),
        Ok(None) => Fact::Known(Vec::new()),
        Err(missing) => Fact::unknown("connections of the agent", format!("its process is not known: {missing}"), ""),
    }
}

async fn credentials(ports: &Ports, settings: &Settings) -> Credentials {
    let port = settings.agent.credentials_port;
    let (rules, port_answers) = tokio::join!(ports.nat.credential_rules(), listens(port));
    Credentials { rules: rules.into(), port_answers }
}

/// Whether something accepts connections on a port of this host.
async fn listens(port: u16) -> Fact<bool> {
    const DEADLINE: Duration = Duration::from_secs(2);
    let what = || format!("credential endpoint 127.0.0.1:{port}");
    match tokio::time::timeout(DEADLINE, TcpStream::connect(("127.0.0.1", port))).await {
        Ok(Ok(_)) => Fact::Known(true),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Fact::Known(false),
        Ok(Err(error)) => Fact::unknown(what(), error, ""),
        Err(_) => Fact::unknown(what(), format!("no answer within {} s", DEADLINE.as_secs()), ""),
    }
}

async fn discovery(ports: &Ports, ask: &Ask, introspection: &Seen<Introspection>) -> Option<Fact<Discovery>> {
    if !ask.discover {
        return None;
    }
    let answer = match introspection {
        Ok(Introspection { cluster, container_instance_arn: Some(arn), .. }) => {
            match arn.split(':').nth(3).filter(|region| !region.is_empty()) {
                Some(region) => ports.control_plane.discover_poll_endpoint(region, cluster, arn).await.into(),
                None => Fact::unknown("DiscoverPollEndpoint", format!("no region in the ARN {arn}"), ""),
            }
        }
        _ => Fact::unknown("DiscoverPollEndpoint", "the agent does not tell its ARN", "see the introspection server"),
    };
    Some(answer)
}

/// The place in the agent's own ARN: `arn:aws:ecs:eu-west-1:111122223333:container-instance/…`.
fn place_of(introspection: &Introspection) -> Option<names::Where> {
    let mut parts = introspection.container_instance_arn.as_deref()?.split(':');
    let (Some("arn"), Some(partition), Some("ecs"), Some(region), Some(account)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let dns_suffix = catalog::dns_suffix(partition)?;
    Some(names::Where {
        region: region.to_owned(),
        account: account.to_owned(),
        partition: partition.to_owned(),
        dns_suffix: dns_suffix.to_owned(),
    })
}

type Seen<T> = Result<T, crate::facts::Missing>;

/// How long each probe took.
#[derive(Default)]
struct Stopwatch(Mutex<Vec<Took>>);

impl Stopwatch {
    async fn time<T>(&self, probe: &str, run: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let result = run.await;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        if let Ok(mut took) = self.0.lock() {
            took.push(Took { probe: probe.to_owned(), ms });
        }
        result
    }

    fn read(&self) -> Vec<Took> {
        self.0.lock().map(|mut took| std::mem::take(&mut *took)).unwrap_or_default()
    }
}
