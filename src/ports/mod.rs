//! What hostagent needs of the world, as traits of a few methods, and one adapter a file.
//!
//! A port answers with a fact or with the reason there is none; it holds no policy.
//! Every call is bounded by the deadline its adapter was built with.

use crate::config::Settings;
use crate::facts::{
    AgentContainer, Answer, AwsTrouble, CredentialRules, Discovery, ExecutionStatus, Instance, Introspection, Missing,
    ReachOutcome, Socket, Systemd, Task, Workload,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

pub mod aws;
pub mod docker;
pub mod ecs;
pub mod events;
pub mod files;
mod http;
pub mod imds;
pub mod introspection;
pub mod iptables;
pub mod resolver;
pub mod sockets;
pub mod store;
pub mod systemd;
pub mod tls;
mod words;

type Result<T> = std::result::Result<T, Missing>;
/// What AWS answered a question of which it matters why it is not answered.
pub type Asked<T> = std::result::Result<T, AwsTrouble>;

/// What came of a request to touch the agent.
pub type Acted<T> = std::result::Result<T, Undone>;

/// Why a request to touch the agent was not seen through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// It surely was not taken: nobody was there, or whoever was turned it down. Nothing was done.
    #[error("{0}")]
    NotTaken(Missing),
    /// It was sent, and its answer is lost, late, or tells of a failure half-way.
    #[error("{0}")]
    Unclear(Missing),
}

impl From<Undone> for Missing {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::NotTaken(missing) | Undone::Unclear(missing) => missing,
        }
    }
}

/// The container engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The agent's container by name; `None` when the engine has none.
    async fn agent(&self, name: &str) -> Result<Option<AgentContainer>>;
    /// Every other container, running or not.
    async fn workloads(&self, agent_name: &str) -> Result<Vec<Workload>>;
    /// Standard output of `/agent -version` run in the container.
    async fn agent_version(&self, container_id: &str) -> Result<String>;
    /// Stops and starts one container by its ID, waiting at most `stop_timeout_s` for it to stop by itself.
    /// Only for a container that no unit owns.
    async fn restart(&self, container_id: &str, stop_timeout_s: u32) -> Acted<()>;
    /// Starts a stopped container by its ID; one that runs already is no error.
    async fn start(&self, container_id: &str) -> Acted<()>;
}

/// The init system.
#[async_trait]
pub trait Init: Send + Sync {
    /// The units `names` and every other service unit whose command holds one of `words`.
    async fn units(&self, names: &[String], words: &[String]) -> Result<Systemd>;
    /// Restarts the unit and waits for its job; the job's result (`done`, `failed`, `timeout`, …).
    async fn restart_unit(&self, unit: &str) -> Acted<String>;
    /// Starts the unit and waits for its job; the job's result.
    async fn start_unit(&self, unit: &str) -> Acted<String>;
    /// Clears a unit's failed state, so that its start limit does not stand in the way.
    async fn reset_failed(&self, unit: &str) -> Result<()>;
    /// Runs a command in a transient service of its own.
    async fn start_transient(&self, unit: &TransientUnit) -> Acted<()>;
}

/// A transient service unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransientUnit {
    pub name: String,
    pub description: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Exit codes that are answers and not failures.
    pub success_codes: Vec<i32>,
    /// After this long systemd ends it.
    pub runtime_max_s: u64,
}

/// The host's resolver, hosts file included.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// A and AAAA of one name, without any cache of our own.
    async fn lookup(&self, host: &str) -> Answer;
}

/// What a probe asks for once TLS stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpAsk {
    /// TCP and TLS are proof enough.
    None,
    /// `GET /v2/`: a registry answers 401 (or 200).
    Registry,
    /// `HEAD /`: any HTTP status line with `x-amz-request-id` or `Server: AmazonS3`.
    S3,
}

/// Connections made to see whether they can be made.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Makes ready what every probe needs, such as the trusted certificates. Probing does it where this was not done.
    async fn prepare(&self) {}
    async fn probe(&self, addr: SocketAddr, host: &str, ask: HttpAsk) -> ReachOutcome;
}

/// The instance metadata service.
#[async_trait]
pub trait Metadata: Send + Sync {
    async fn instance(&self) -> Result<Instance>;
}

/// The agent's introspection server.
#[async_trait]
pub trait Introspect: Send + Sync {
    async fn metadata(&self) -> Result<Introspection>;
    async fn tasks(&self) -> Result<Vec<Task>>;
}

/// The kernel's table of connections.
#[async_trait]
pub trait SocketTable: Send + Sync {
    /// Established TCP connections of the process and its descendants.
    async fn established(&self, root_pid: u32) -> Result<Vec<Socket>>;
}

/// The host's NAT table.
#[async_trait]
pub trait Nat: Send + Sync {
    async fn credential_rules(&self) -> Result<CredentialRules>;
}

/// The ECS control plane, asked with the instance role.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    async fn discover_poll_endpoint(
        &self,
        region: &str,
        cluster: &str,
        container_instance_arn: &str,
    ) -> Result<Discovery>;
}

/// The fleet this host is one of, as its role may see it through SSM.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// The value of a parameter; `None` when there is none.
    async fn parameter(&self, region: &str, name: &str) -> Asked<Option<String>>;
    /// Writes a parameter, unless it is there already.
    async fn put_parameter_once(&self, region: &str, name: &str, value: &str, description: &str) -> Asked<()>;
    /// Whether all of these Change Calendars are open now.
    async fn is_open(&self, region: &str, calendars: &[String]) -> Asked<bool>;
    /// Starts a runbook; the execution's ID. The same `token`, a UUID, starts it once, whichever host comes first.
    async fn start_runbook(
        &self,
        region: &str,
        document: &str,
        parameters: &BTreeMap<String, Vec<String>>,
        token: &str,
    ) -> Result<String>;
    /// Where an execution of a runbook stands.
    async fn execution(&self, region: &str, id: &str) -> Result<ExecutionStatus>;
    /// Writes the one compliance item of this instance.
    async fn put_compliance(&self, region: &str, item: &ComplianceItem) -> Result<()>;
}

/// What SSM Compliance shows of this instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComplianceItem {
    pub instance_id: String,
    pub compliant: bool,
    pub title: String,
    pub details: BTreeMap<String, String>,
}

/// Every port, as one look needs them.
#[derive(Clone)]
pub struct Ports {
    pub engine: Arc<dyn Engine>,
    pub init: Arc<dyn Init>,
    pub resolver: Arc<dyn Resolver>,
    pub prober: Arc<dyn Prober>,
    pub metadata: Arc<dyn Metadata>,
    pub introspect: Arc<dyn Introspect>,
    pub sockets: Arc<dyn SocketTable>,
    pub nat: Arc<dyn Nat>,
    pub control_plane: Arc<dyn ControlPlane>,
    pub fleet: Arc<dyn Fleet>,
}

impl Ports {
    /// The adapters of this host. Nothing is asked or connected before the first call.
    pub fn of_this_host(settings: &Settings) -> Self {
        const LOCAL: Duration = Duration::from_secs(3);
        let network = &settings.network;
        // A supervised restart stops the agent (30 s at most, then systemd kills) and starts it.
        let job = Duration::from_secs(settings.restart.job_s());
        Self {
            engine: Arc::new(docker::DockerEngine::new(&settings.docker.host)),
            init: Arc::new(systemd::SystemBus::new(job)),
            resolver: Arc::new(resolver::SystemResolver::new(network)),
            prober: Arc::new(tls::TlsProber::new(Duration::from_millis(network.probe_timeout_ms))),
            metadata: Arc::new(imds::Imds::new(&settings.instance.imds, LOCAL)),
            introspect: Arc::new(introspection::AgentIntrospection::new(&settings.agent.introspection, LOCAL)),
            sockets: Arc::new(sockets::KernelSockets::new(LOCAL)),
            nat: Arc::new(iptables::IptablesNat::new(settings.agent.credentials_port, LOCAL)),
            control_plane: Arc::new(ecs::EcsControlPlane::new(&settings.instance.imds, Duration::from_secs(10))),
            fleet: Arc::new(aws::host::HostFleet::new(&settings.instance.imds, Duration::from_secs(10))),
        }
    }
}
