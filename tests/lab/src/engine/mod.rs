//! A stand-in for the Docker Engine 20.10 on a Unix socket. Its containers are child processes of this one.
//!
//! Made for the story on a machine without Docker: the API calls a client makes about containers that are there,
//! with the answers the real engine gives. It has no images to pull and makes no containers on request.

mod api;
mod cli;
mod container;
mod events;
mod exec;
mod init;
mod shape;

use anyhow::Context as _;
use container::Container;
use events::Events;
use exec::Execs;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{net::UnixListener, task::JoinHandle};

pub use cli::main;
pub use container::{Status, View};
pub use init::{die_with_parent, init, pause};

/// A container to run.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Without a slash.
    pub name: String,
    /// `amazon/amazon-ecs-agent:latest`
    pub image: String,
    /// The program as the container sees it; also the only one that can be run with exec.
    pub path: String,
    /// The program on this machine.
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// `source:destination[:ro]`
    pub binds: Vec<String>,
    /// Shown only: there are no namespaces here.
    pub host_network: bool,
    /// Run under an init, as with `docker run --init`.
    pub init: bool,
    /// `on-failure` with this many retries; `None` is `no`.
    pub retries: Option<u32>,
    pub labels: BTreeMap<String, String>,
    /// Where its output goes; thrown away without.
    pub log: Option<PathBuf>,
}

/// A running engine. Dropped, it is gone with its containers.
pub struct EngineHandle {
    shared: Arc<Shared>,
    socket: PathBuf,
    server: JoinHandle<()>,
}

struct Shared {
    containers: Vec<Arc<Container>>,
    execs: Execs,
    events: Events,
}

/// Brings engines up.
pub struct Engine;

impl Engine {
    /// Listens at `socket`, with one container for each of `specs`, none of them started.
    ///
    /// # Errors
    ///
    /// When the socket is not to be had.
    pub fn start(socket: &Path, specs: Vec<Spec>) -> anyhow::Result<EngineHandle> {
        let listener = UnixListener::bind(socket).with_context(|| format!("listen on {}", socket.display()))?;
        let events = Events::default();
        let containers = specs.into_iter().map(|spec| Container::new(spec, events.clone())).collect();
        let shared = Arc::new(Shared { containers, execs: Execs::default(), events });
        let server = tokio::spawn(api::serve(shared.clone(), listener));
        Ok(EngineHandle { shared, socket: socket.to_path_buf(), server })
    }
}

impl EngineHandle {
    /// `unix:///path/of/socket`
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Starts every container that does not run.
    ///
    /// # Errors
    ///
    /// When a program cannot be started.
    pub async fn start_all(&self) -> anyhow::Result<()> {
        for container in &self.shared.containers {
            container.start().await?;
        }
        Ok(())
    }

    /// The containers as they are now, in the order of their specifications.
    pub fn containers(&self) -> Vec<View> {
        self.shared.containers.iter().map(|container| container.view()).collect()
    }

    /// Waits until the container is in a state that `wanted` is true for.
    ///
    /// # Errors
    ///
    /// When there is no such container.
    pub async fn wait_for(&self, name: &str, wanted: impl FnMut(&View) -> bool) -> anyhow::Result<View> {
        let container = self.shared.find(name).with_context(|| format!("no container {name}"))?;
        Ok(container.wait_for(wanted).await)
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        self.server.abort();
        for container in &self.shared.containers {
            container.kill_at_once();
        }
        // Already gone is what is wanted.
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Shared {
    /// By full ID, by name, or by the beginning of an ID that is no other's.
    fn find(&self, key: &str) -> Option<&Arc<Container>> {
        let name = key.trim_start_matches('/');
        let exact = self.containers.iter().find(|c| c.id == key || c.spec.name == name);
        let mut begun = self.containers.iter().filter(|c| !key.is_empty() && c.id.starts_with(key));
        exact.or_else(|| match (begun.next(), begun.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        })
    }
}
