//! What surrounds a host: its region's switches and events, the wire to it, and waiting for what happens there.

use super::Host;
use crate::{
    control::Client,
    region::{
        place::Service,
        switch::{Change, Event, State, What},
    },
};
use anyhow::{Result, bail};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

/// How long an agent may take until it holds both of its websockets.
const AGENT: Duration = Duration::from_secs(60);
/// How long, and how often, [`Host::until`] looks: a try of the service that saw too little for once on a busy machine
/// is made again after a minute.
const UNTIL: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

impl Host {
    /// Throws switches of the region; in force when this returns.
    #[track_caller]
    pub fn set(&self, change: &Change) -> State {
        self.region(self.client().set(change))
    }

    /// What the region knows: switches, open websockets, registered instances.
    #[track_caller]
    pub fn state(&self) -> State {
        self.region(self.client().state())
    }

    /// The region's events after number `seq`; waits up to `wait` for the first.
    #[track_caller]
    pub fn events(&self, seq: u64, wait: Duration) -> Vec<Event> {
        self.region(self.client().events(seq, wait))
    }

    /// Closes the open websockets of a service, or of all.
    #[track_caller]
    pub fn hang_up(&self, service: Option<Service>) {
        self.region(self.client().hang_up(service));
    }

    fn client(&self) -> Client {
        Client::new(self.share.path().join("region/control.sock"))
    }

    #[track_caller]
    fn region<T>(&self, call: impl Future<Output = Result<T>>) -> T {
        match self.runtime.block_on(call) {
            Ok(answer) => answer,
            Err(error) => panic!("the region of the host: {error:#}"),
        }
    }

    /// Number of the region's latest event, to wait later for what comes after it.
    #[track_caller]
    pub fn mark(&self) -> u64 {
        self.state().last_event
    }

    /// Waits until an agent holds both of its websockets, each opened after event number `mark`; panics after a minute.
    /// The sockets of an earlier agent do not count, though the region may not have seen their end yet.
    #[track_caller]
    pub fn await_agent(&self, mark: u64) {
        if let Err(error) = self.try_await_agent(mark) {
            panic!("{error:#}");
        }
    }

    pub(super) fn try_await_agent(&self, mark: u64) -> Result<()> {
        let deadline = Instant::now() + AGENT;
        let (mut seen, mut open) = (mark, BTreeMap::new());
        while !(open.values().any(|s| *s == Service::EcsAgent) && open.values().any(|s| *s == Service::EcsTelemetry)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no agent opened its two websockets within {AGENT:?}");
            }
            for event in self.runtime.block_on(self.client().events(seen, left))? {
                seen = event.seq;
                match event.what {
                    What::WsOpen { websocket } => drop(open.insert(websocket.id, websocket.service)),
                    What::WsClose { websocket, .. } => drop(open.remove(&websocket.id)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Looks again and again until `look` finds something; panics with `what` after two minutes. For what no event tells.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + UNTIL;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if Instant::now() >= deadline {
                panic!("waited {UNTIL:?} in vain: {what}");
            }
            thread::sleep(PAUSE);
        }
    }

    /// Sets the one-way delay between the host and its region; half of the round trip.
    #[track_caller]
    pub fn delay(&self, one_way_ms: u64) {
        self.exec(&["hostagent-lab", "link", "delay", &one_way_ms.to_string()]).ok();
    }

    /// Drops what the host sends to TCP port 443 of an address or block, as a security group does, or no longer.
    #[track_caller]
    pub fn filter_443(&self, destination: &str, on: bool) {
        let action = if on { "-I" } else { "-D" };
        let rule = ["OUTPUT", "-d", destination, "-p", "tcp", "--dport", "443", "-j", "DROP"];
        self.exec(&[&["iptables", action], &rule[..]].concat()).ok();
    }
}
