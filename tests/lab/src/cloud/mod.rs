//! The part of AWS that a fleet is moved through: Systems Manager, and what it takes to find hosts and to judge them.
//!
//! One HTTP server answers for every service. Hosts are simulated, driven by one timer queue so that ten thousand
//! are cheap, or real ones, in which documents are run as the SSM agent runs them. Time runs as fast as wanted.

pub mod agent;
mod associations;
mod auth;
pub mod automation;
mod cbor;
mod cli;
pub mod client;
pub mod clock;
pub mod command;
mod compliance;
mod dispatch;
pub mod documents;
mod ec2;
mod ecs;
mod error;
mod event;
mod fault;
mod front;
mod gates;
mod hosts;
mod input;
mod nodes;
mod page;
mod parameters;
mod query;
mod queue;
mod real;
mod state;
mod sts;
mod tags;
mod yaml;

pub use cli::main;
pub use error::ApiError;
pub use event::Event;
pub use fault::Fault;
pub use hosts::{HostState, Online, RestartBehaviour, SimulatedHost};
pub use input::{Input, matches};
pub use page::page;
pub use state::{Shared, State, StateGuard};

use anyhow::Context as _;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, runtime::Runtime};

/// Access key that the cloud knows.
pub const ACCESS_KEY: &str = "AKIALABLABLABLABLAB0";
/// Its secret.
pub const SECRET_KEY: &str = "a-lab-has-no-secrets";
/// Access key and session token of the role that the cloud's own work is done in.
pub const SERVICE_KEY: &str = "ASIALABLABLABLABLAB1";
const SERVICE_TOKEN: &str = "lab-session-of-the-service";

/// What the cloud is to be like.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// Simulated seconds per real second.
    pub speed: f64,
    /// The Python that runs the scripts of a runbook; needs boto3.
    pub python: Option<PathBuf>,
    /// Of everything drawn at random, such as IDs.
    pub seed: u64,
    /// Port on 127.0.0.1; 0 takes any that is free.
    pub port: u16,
    /// Simulated seconds until what was written is seen in lists.
    pub settle_s: f64,
    /// Calls a simulated second that an action takes before it throttles.
    pub rates: Vec<(String, f64)>,
    /// Whether a document's parameters are taken from the environment where it says so, or pasted as old agents do.
    pub new_agents: bool,
}

impl Default for CloudOptions {
    fn default() -> Self {
        Self {
            speed: 1.0,
            python: None,
            seed: 1,
            port: 0,
            settle_s: 2.0,
            rates: vec![("PutParameter".into(), 3.0)],
            new_agents: true,
        }
    }
}

/// A running cloud. Dropped, it is gone.
pub struct Cloud {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Cloud {
    /// Listens when this returns.
    ///
    /// # Errors
    ///
    /// When the port is not to be had.
    pub fn start(options: CloudOptions) -> anyhow::Result<Self> {
        let wanted = SocketAddr::from(([127, 0, 0, 1], options.port));
        let listener = std::net::TcpListener::bind(wanted).with_context(|| format!("listen on {wanted}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        // A script of a runbook calls back while its step is being followed: never on one thread alone.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let shared = Shared::started(options, address, runtime.handle().clone());
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        runtime.spawn(front::serve(shared.clone(), listener));
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// `http://127.0.0.1:41234`, for every service.
    pub fn endpoint(&self) -> String {
        self.shared.endpoint()
    }

    /// What an AWS client needs in its environment to speak to this cloud and to no other.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.shared.environment()
    }

    /// Hosts known to all services: managed node, container instance, EC2 instance. One of a known ID is replaced.
    pub fn add(&self, hosts: Vec<SimulatedHost>) {
        let mut state = self.shared.state();
        for host in hosts {
            let instance = host.instance.clone();
            if !host.cluster.is_empty() {
                state.clusters.insert(host.cluster.clone());
            }
            state.hosts.add(host);
            associations::joined(&mut state, &instance);
        }
    }

    /// The host is gone from all services; what runs on it comes to no end that is told.
    pub fn remove(&self, instance: &str) {
        self.shared.state().hosts.remove(instance);
    }

    /// A cluster without hosts.
    pub fn cluster(&self, name: &str) {
        self.shared.state().clusters.insert(name.to_owned());
    }

    /// A metric alarm, made or set: `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub fn alarm(&self, name: &str, value: &str) {
        self.set_alarm(name, value, false);
    }

    /// As [`Self::alarm`], of alarms.
    pub fn composite_alarm(&self, name: &str, value: &str) {
        self.set_alarm(name, value, true);
    }

    fn set_alarm(&self, name: &str, value: &str, composite: bool) {
        let mut state = self.shared.state();
        let alarm = gates::Alarm { state: value.to_owned(), composite, since_s: state.now_s() };
        state.alarms.insert(name.to_owned(), alarm);
    }

    /// A Change Calendar, made or set; `changes_s` tells when it will change, which it does not do by itself.
    pub fn calendar(&self, name: &str, open: bool, changes_s: Option<f64>) {
        self.shared.state().calendars.insert(name.to_owned(), gates::Calendar { open, changes_s });
    }

    /// The compliance items that a host has.
    pub fn compliance(&self, instance: &str) -> Vec<serde_json::Value> {
        let state = self.shared.state();
        state.compliance.iter().filter(|((of, _), _)| of == instance).flat_map(|(_, items)| items.clone()).collect()
    }

    /// `hosts` default hosts in turn over `zones`, tagged `Cluster=<cluster>`, with IDs in order.
    pub fn fleet(&self, cluster: &str, zones: &[&str], hosts: usize) {
        let zone = |number: usize| zones.get(number % zones.len().max(1)).copied().unwrap_or("eu-west-1a").to_owned();
        let host = |number: usize| SimulatedHost {
            instance: instance_id(number + 1),
            zone: zone(number),
            cluster: cluster.to_owned(),
            tags: vec![("Cluster".into(), cluster.into()), ("Name".into(), format!("{cluster}-{}", number + 1))],
            ..SimulatedHost::default()
        };
        self.add((0..hosts).map(host).collect());
    }

    /// Changes one host, at once.
    ///
    /// # Panics
    ///
    /// When there is no such host.
    #[track_caller]
    pub fn change(&self, instance: &str, change: impl FnOnce(&mut SimulatedHost)) {
        let mut state = self.shared.state();
        match state.hosts.get_mut(instance) {
            Some(host) => change(host),
            None => panic!("the cloud has no host {instance}"),
        }
        if state.hosts.get(instance).is_some_and(|host| host.online == Online::Yes) {
            command::came_online(&mut state, instance);
        }
    }

    /// A host as it is now.
    pub fn host(&self, instance: &str) -> Option<SimulatedHost> {
        self.shared.state().hosts.get(instance).cloned()
    }

    /// In force when this returns.
    pub fn fault(&self, fault: Fault) {
        self.shared.state().faults.add(fault);
    }

    /// All faults are over.
    pub fn clear_faults(&self) {
        self.shared.state().faults = fault::Faults::default();
    }

    /// All that happened so far, in the order of simulated time.
    pub fn log(&self) -> Vec<Event> {
        self.shared.state().events.clone()
    }

    /// The first event, from the beginning on, that `wanted` is true for. Waits for it.
    ///
    /// # Errors
    ///
    /// When there is none within `limit` of real time; the message tells what came last instead.
    pub fn wait_for(&self, limit: Duration, wanted: impl FnMut(&Event) -> bool) -> anyhow::Result<Event> {
        let found = self.shared.wait_for(limit, wanted);
        found.with_context(|| {
            let log = self.log();
            let last: Vec<String> = log.iter().rev().take(20).rev().map(|event| format!("{event:?}")).collect();
            format!("no such event within {limit:?}; the last ones: {last:#?}")
        })
    }

    /// How often an action was called, refused calls counted.
    pub fn calls(&self, action: &str) -> usize {
        self.shared.state().calls.get(action).copied().unwrap_or_default()
    }

    pub fn all_calls(&self) -> usize {
        self.shared.state().calls.values().sum()
    }

    /// Value of a parameter of the Parameter Store.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.shared.state().parameters.value(name).map(str::to_owned)
    }

    /// Simulated seconds since the start.
    pub fn now_s(&self) -> f64 {
        self.shared.clock.now_s()
    }

    /// A client for tests that need no SDK.
    pub fn client(&self) -> client::Client {
        client::Client::new(self.shared.address)
    }

    /// What all parts of the cloud share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// ID of the host of this number, counted from 1, of [`Cloud::fleet`].
pub fn instance_id(number: usize) -> String {
    format!("i-{number:017x}")
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A document that still runs on a real host ends with that host.
            runtime.shutdown_background();
        }
    }
}
