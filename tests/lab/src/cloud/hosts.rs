//! The hosts: each a managed node of SSM, a container instance of ECS and an instance of EC2 at once.

use crate::region::place::{ACCOUNT, REGION};
use std::collections::BTreeMap;

/// What hostagent would find on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostState {
    /// Every connection of the agent is on an endpoint.
    Settled,
    /// The endpoints are ready and the agent is not on them.
    #[default]
    NeedsRestart,
    /// The agent is down in a way that is known how to mend.
    NeedsRepair,
    /// Not all endpoints are there yet.
    Waiting,
    /// A restart would not be safe.
    Refused,
    /// The agent is down.
    Broken,
    /// hostagent could not tell.
    Unknown,
}

/// How Systems Manager reaches a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Online {
    #[default]
    Yes,
    /// Registered, and its agent does not answer: commands to it time out undelivered.
    ConnectionLost,
    /// Commands to it end at once as undeliverable.
    Undeliverable,
    /// Systems Manager has never heard of it.
    NotRegistered,
    /// The instance does not run.
    Stopped,
}

/// What comes of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartBehaviour {
    #[default]
    Works,
    /// The agent stays away: `restart` ends with 13, and so does every check after it.
    DoesNotComeBack,
    /// `restart` says moved, and a check afterwards finds it broken.
    BreaksLater,
    Refused,
    /// Another restart is under way, or the budget is spent.
    Busy,
    /// The restart works; the SSM agent dies in the middle of it and never answers for it.
    LosesSsmAgent,
    /// The restart works, and the agent never connects to ECS again.
    StaysDisconnected,
    /// The command hangs until its time is over.
    Hangs,
}

/// A host that exists in the cloud alone.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedHost {
    /// `i-` or `mi-` and 17 hexadecimal digits.
    pub instance: String,
    pub zone: String,
    /// Empty: not a container instance.
    pub cluster: String,
    pub tags: Vec<(String, String)>,
    pub state: HostState,
    /// Why it refuses, waits or is broken, as (rule, text); one that fits unless there are any.
    pub reasons: Vec<(String, String)>,
    /// The Auto Scaling group that it is from, which is also the name of its capacity provider in ECS.
    pub group: Option<String>,
    pub online: Online,
    /// Its version; `None` where it is not installed.
    pub hostagent: Option<String>,
    pub agent_version: String,
    pub restart: RestartBehaviour,
    /// Seconds that a check takes.
    pub check_s: f64,
    /// Seconds that a restart takes.
    pub restart_s: f64,
    /// Whether ECS sees the agent connected.
    pub agent_connected: bool,
    /// `ACTIVE`, `DRAINING`, …
    pub ecs_status: String,
    /// Bytes that a command prints before what it has to say, as a noisy profile does.
    pub noise: usize,
    /// Whether commands are accepted from whoever calls.
    pub access: bool,
    /// Whether it sets its cluster's halt when its restart could not be verified.
    pub writes_halt: bool,
    /// The version of hostagent that an installation brings.
    pub installs: String,
}

impl Default for SimulatedHost {
    fn default() -> Self {
        Self {
            instance: "i-00000000000000001".into(),
            zone: "eu-west-1a".into(),
            cluster: "prod".into(),
            tags: Vec::new(),
            state: HostState::default(),
            reasons: Vec::new(),
            group: None,
            online: Online::default(),
            hostagent: Some("0.1.0".into()),
            agent_version: "1.105.1".into(),
            restart: RestartBehaviour::default(),
            check_s: 3.0,
            restart_s: 20.0,
            agent_connected: true,
            ecs_status: "ACTIVE".into(),
            noise: 0,
            access: true,
            writes_halt: false,
            installs: "0.1.0".into(),
        }
    }
}

impl SimulatedHost {
    /// Of the container instance.
    pub fn ecs_arn(&self) -> String {
        let tail = self.instance.rsplit('-').next().unwrap_or_default();
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/{}/{tail:0>32}", self.cluster)
    }

    pub fn tag(&self, key: &str) -> Option<&str> {
        if key == "aws:autoscaling:groupName" {
            return self.group.as_deref();
        }
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether Systems Manager lists it as a managed node.
    pub fn registered(&self) -> bool {
        !matches!(self.online, Online::NotRegistered)
    }
}

/// All hosts, in the order of their IDs.
#[derive(Default)]
pub struct Hosts {
    by_instance: BTreeMap<String, SimulatedHost>,
}

impl Hosts {
    pub fn add(&mut self, host: SimulatedHost) {
        self.by_instance.insert(host.instance.clone(), host);
    }

    pub fn get(&self, instance: &str) -> Option<&SimulatedHost> {
        self.by_instance.get(instance)
    }

    pub fn get_mut(&mut self, instance: &str) -> Option<&mut SimulatedHost> {
        self.by_instance.get_mut(instance)
    }

    pub fn remove(&mut self, instance: &str) {
        self.by_instance.remove(instance);
    }

    pub fn iter(&self) -> impl Iterator<Item = &SimulatedHost> {
        self.by_instance.values()
    }

    pub fn zone(&self, instance: &str) -> String {
        self.get(instance).map(|host| host.zone.clone()).unwrap_or_default()
    }
}
