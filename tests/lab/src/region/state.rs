//! The region's memory: switches, events, websockets, registered instances.

use super::{
    OBJECTS,
    place::{Binding, Service},
    switch::*,
    systems_manager::Manager,
};
use crate::clock;
use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// Events kept; older ones are forgotten.
const EVENTS_KEPT: usize = 200_000;

#[derive(Debug)]
pub(super) struct Shared {
    pub binding: Binding,
    /// ID of the one instance there is.
    pub instance: String,
    pub manager: Manager,
    /// Directory of what S3 serves, as `<bucket>/<key>`.
    pub objects: PathBuf,
    memory: Mutex<Memory>,
    /// Where registered instances are kept: a control plane outlives the hosts that it knows.
    instances_file: PathBuf,
    /// Number of the latest event.
    events: watch::Sender<u64>,
    /// The switches and how often they were thrown, for those who must act when one is.
    switched: watch::Sender<(u64, Switches)>,
    /// How far each follower of the switches has come.
    followed: watch::Sender<BTreeMap<u64, u64>>,
    /// Websockets to close: told to every one of them, which compare it with their own.
    hang_up: watch::Sender<(u64, Option<Service>)>,
}

/// What is taken in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    Rotation,
    Flap,
}

/// What the cache holds of a name.
#[derive(Debug, Clone)]
struct Kept {
    ips: Vec<Ipv4Addr>,
    gone_ms: u64,
}

#[derive(Debug, Default)]
struct Memory {
    events: std::collections::VecDeque<Event>,
    next_id: u64,
    turns: BTreeMap<(Service, Turn), usize>,
    kept: BTreeMap<Service, Kept>,
    websockets: BTreeMap<u64, Websocket>,
    connections: BTreeMap<u64, Connection>,
    instances: BTreeMap<String, Instance>,
    /// Access keys the metadata service has handed out.
    access_keys: Vec<String>,
}

/// See [`Shared::open_connection`].
pub(super) struct Counted {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.memory().connections.remove(&self.id);
    }
}

/// See [`Shared::follow`].
pub(super) struct Follower {
    shared: Arc<Shared>,
    id: u64,
    switches: watch::Receiver<(u64, Switches)>,
}

impl Follower {
    /// Ends when a switch has been thrown; an error when the region is gone.
    pub async fn thrown(&mut self) -> Result<(), watch::error::RecvError> {
        self.switches.changed().await
    }

    /// The round of switches to act on now. To be asked for before the switches are looked at: what is thrown
    /// later is another round.
    pub fn round(&mut self) -> u64 {
        self.switches.borrow_and_update().0
    }

    /// To be said when the switches of that round are in force.
    pub fn done(&self, round: u64) {
        self.shared.followed.send_if_modified(|followed| followed.insert(self.id, round) != Some(round));
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.followed.send_modify(|followed| {
            followed.remove(&self.id);
        });
    }
}

impl Shared {
    /// `dir` holds what an earlier region with the same directory remembered.
    pub fn new(binding: Binding, ttl: u32, instance: String, dir: &std::path::Path) -> Self {
        let instances_file = dir.join("instances.json");
        let kept = fs::read(&instances_file).unwrap_or_default();
        let mut instances: BTreeMap<String, Instance> = serde_json::from_slice(&kept).unwrap_or_default();
        instances.values_mut().for_each(|instance| instance.agent_connected = false);
        let switch = ServiceSwitch { path: Path::Public, ttl, tls: TlsFault::None, dead: 0, cached: false };
        let switches = Switches {
            services: Service::ALL.into_iter().map(|service| (service, switch)).collect(),
            imds: ImdsMode::Up,
            arn: ArnMode::Stable,
            api: BTreeMap::new(),
        };
        Self {
            binding,
            instance,
            manager: Manager::new(),
            objects: dir.join(OBJECTS),
            memory: Mutex::new(Memory { instances, ..Memory::default() }),
            instances_file,
            events: watch::Sender::new(0),
            switched: watch::Sender::new((0, switches)),
            followed: watch::Sender::default(),
            hang_up: watch::Sender::new((0, None)),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Each change is whole in itself, so that what a panicking holder leaves is still sound.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn log(&self, what: What) -> u64 {
        let mut memory = self.memory();
        let seq = memory.events.back().map_or(0, |event| event.seq) + 1;
        memory.events.push_back(Event { seq, at_ms: clock::unix_ms(), what });
        if memory.events.len() > EVENTS_KEPT {
            memory.events.pop_front();
        }
        // Sent under the lock: the numbers must arrive in order.
        self.events.send_replace(seq);
        seq
    }

    pub fn events_after(&self, seq: u64) -> Vec<Event> {
        let memory = self.memory();
        let first = memory.events.front().map_or(0, |event| event.seq);
        let skip = (seq + 1).saturating_sub(first) as usize;
        memory.events.iter().skip(skip).cloned().collect()
    }

    pub fn latest(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    pub fn switches(&self) -> Switches {
        self.switched.borrow().1.clone()
    }

    pub fn service(&self, service: Service) -> ServiceSwitch {
        let switches = &self.switched.borrow().1;
        // Every service has an entry from the start and none is ever taken away.
        switches.services.get(&service).copied().unwrap_or(ServiceSwitch {
            path: Path::Public,
            ttl: 60,
            tls: TlsFault::None,
            dead: 0,
            cached: false,
        })
    }

    /// Someone who acts when a switch is thrown, and says so when it is done.
    pub fn follow(self: &Arc<Self>) -> Follower {
        let switches = self.switched.subscribe();
        let mut id = 0;
        self.followed.send_modify(|followed| {
            id = followed.last_key_value().map_or(0, |(last, _)| last + 1);
            followed.insert(id, switches.borrow().0);
        });
        Follower { shared: self.clone(), id, switches }
    }

    /// Throws switches, and waits until every follower has acted.
    pub async fn change(&self, change: &Change) {
        let mut round = 0;
        self.switched.send_modify(|(thrown, switches)| {
            change.apply(switches);
            *thrown += 1;
            round = *thrown;
        });
        self.log(What::Set { change: change.clone() });
        let mut followed = self.followed.subscribe();
        let everyone = followed.wait_for(|followed| followed.values().all(|done| *done >= round));
        // A follower that cannot act (its address is taken) ends the region with its own error.
        let _ = tokio::time::timeout(Duration::from_secs(5), everyone).await;
    }

    pub fn api_fault(&self, action: &str) -> Option<ApiFault> {
        let switches = &self.switched.borrow().1;
        switches.api.get(action).or_else(|| switches.api.get("*")).cloned()
    }

    /// Counts 1, 2, 3, … for each service and use by itself.
    pub fn turn(&self, service: Service, of: Turn) -> usize {
        let mut memory = self.memory();
        let turn = memory.turns.entry((service, of)).or_default();
        *turn += 1;
        *turn
    }

    /// What the cache has of a name, and the whole seconds that are left of it.
    pub fn kept(&self, service: Service) -> Option<(Vec<Ipv4Addr>, u32)> {
        let Kept { ips, gone_ms } = self.memory().kept.get(&service).cloned()?;
        let left_ms = gone_ms.checked_sub(clock::unix_ms()).filter(|left| *left > 0)?;
        Some((ips, u32::try_from(left_ms / 1_000).unwrap_or(u32::MAX)))
    }

    /// Puts an answer into the cache.
    pub fn keep(&self, service: Service, ips: Vec<Ipv4Addr>, ttl: u32) {
        let gone_ms = clock::unix_ms() + u64::from(ttl) * 1_000;
        self.memory().kept.insert(service, Kept { ips, gone_ms });
    }

    pub fn open_websocket(&self, make: impl FnOnce(u64) -> Websocket) -> Websocket {
        let websocket = {
            let mut memory = self.memory();
            memory.next_id += 1;
            let websocket = make(memory.next_id);
            memory.websockets.insert(websocket.id, websocket.clone());
            if websocket.service == Service::EcsAgent
                && let Some(instance) = memory.instances.get_mut(&websocket.container_instance_arn)
            {
                instance.agent_connected = true;
            }
            websocket
        };
        self.log(What::WsOpen { websocket: websocket.clone() });
        websocket
    }

    pub fn close_websocket(&self, id: u64, reason: &str) {
        let closed = {
            let mut memory = self.memory();
            let closed = memory.websockets.remove(&id);
            if let Some(websocket) = &closed {
                let arn = &websocket.container_instance_arn;
                let left = memory
                    .websockets
                    .values()
                    .any(|w| w.service == Service::EcsAgent && &w.container_instance_arn == arn);
                if let Some(instance) = memory.instances.get_mut(arn) {
                    instance.agent_connected = left;
                }
            }
            closed
        };
        if let Some(websocket) = closed {
            self.log(What::WsClose { websocket, reason: reason.to_string() });
        }
    }

    /// Counts a connection among the open ones until what this returns is dropped.
    pub fn open_connection(self: &Arc<Self>, connection: Connection) -> Counted {
        let mut memory = self.memory();
        memory.next_id += 1;
        let id = memory.next_id;
        memory.connections.insert(id, connection);
        Counted { shared: self.clone(), id }
    }

    pub fn connections(&self) -> Vec<Connection> {
        self.memory().connections.values().cloned().collect()
    }

    pub fn websockets(&self) -> Vec<Websocket> {
        self.memory().websockets.values().cloned().collect()
    }

    /// Closes the open websockets of a service, or all of them.
    pub fn hang_up(&self, service: Option<Service>) {
        self.hang_up.send_modify(|(round, which)| {
            *round += 1;
            *which = service;
        });
    }

    pub fn subscribe_hang_up(&self) -> watch::Receiver<(u64, Option<Service>)> {
        self.hang_up.subscribe()
    }

    pub fn instances(&self) -> Vec<Instance> {
        self.memory().instances.values().cloned().collect()
    }

    pub fn instance(&self, arn: &str) -> Option<Instance> {
        self.memory().instances.get(arn).cloned()
    }

    pub fn put_instance(&self, instance: Instance) {
        let mut memory = self.memory();
        memory.instances.insert(instance.arn.clone(), instance);
        // One that cannot be kept is only missed by the next region.
        let _ = serde_json::to_vec(&memory.instances).map(|text| fs::write(&self.instances_file, text));
    }

    pub fn hand_out_key(&self, key: &str) {
        self.memory().access_keys.push(key.to_string());
    }

    pub fn knows_key(&self, key: &str) -> bool {
        self.memory().access_keys.iter().any(|known| known == key)
    }
}
