//! What all parts of the cloud share, and how time passes in it.

use super::{
    ACCESS_KEY, CloudOptions, SECRET_KEY, SERVICE_KEY, SERVICE_TOKEN,
    associations::Associations,
    automation,
    clock::SimClock,
    command::Commands,
    compliance::Reports,
    dispatch,
    documents::Documents,
    error::ApiError,
    event::Event,
    fault::Faults,
    gates::{Alarm, Calendar},
    hosts::Hosts,
    parameters::Parameters,
    queue::Queue,
    tags::Tags,
};
use crate::region::place::REGION;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::{Deref, DerefMut},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

/// The cloud behind its server.
pub struct Shared {
    pub options: CloudOptions,
    pub clock: SimClock,
    /// What Automation keeps; behind locks of its own.
    pub automation: automation::Store,
    /// Where work that waits is spawned.
    pub runtime: Handle,
    state: Mutex<State>,
    /// Something happened: the log has grown.
    happened: Condvar,
    wake: Notify,
    pub(super) address: SocketAddr,
}

/// Everything but Automation. Locked for the length of a call; nothing in it waits.
pub struct State {
    pub options: CloudOptions,
    pub clock: SimClock,
    pub hosts: Hosts,
    pub parameters: Parameters,
    pub documents: Documents,
    pub tags: Tags,
    pub commands: Commands,
    pub associations: Associations,
    pub compliance: Reports,
    pub inventory: Reports,
    /// Containers of the real hosts, by instance ID.
    pub(super) real: BTreeMap<String, String>,
    /// What runs on real hosts, by command and index: sent to, it ends.
    pub(super) running: BTreeMap<(String, usize), oneshot::Sender<()>>,
    pub alarms: BTreeMap<String, Alarm>,
    pub calendars: BTreeMap<String, Calendar>,
    /// Names of the clusters there are, those without hosts as well.
    pub clusters: BTreeSet<String>,
    /// Hosts whose agent is being restarted.
    pub restarting: BTreeSet<String>,
    pub events: Vec<Event>,
    /// Calls by action.
    pub calls: BTreeMap<String, usize>,
    pub(super) faults: Faults,
    /// Access keys of assumed roles, with the token of each.
    pub(super) sessions: BTreeMap<String, String>,
    queue: Queue,
    now_s: f64,
    random: u64,
    shared: Weak<Shared>,
}

impl Shared {
    pub(super) fn new(options: CloudOptions, address: SocketAddr, runtime: Handle) -> Arc<Self> {
        let clock = SimClock::new(options.speed);
        Arc::new_cyclic(|shared| Self {
            state: Mutex::new(State {
                options: options.clone(),
                clock,
                hosts: Hosts::default(),
                parameters: Parameters::default(),
                documents: Documents::default(),
                tags: Tags::default(),
                commands: Commands::default(),
                associations: Associations::new(),
                compliance: Reports::new(),
                inventory: Reports::new(),
                real: BTreeMap::new(),
                running: BTreeMap::new(),
                alarms: BTreeMap::new(),
                calendars: BTreeMap::new(),
                clusters: BTreeSet::new(),
                restarting: BTreeSet::new(),
                events: Vec::new(),
                calls: BTreeMap::new(),
                faults: Faults::default(),
                sessions: BTreeMap::from([(SERVICE_KEY.to_owned(), SERVICE_TOKEN.to_owned())]),
                queue: Queue::default(),
                now_s: 0.0,
                random: options.seed,
                shared: shared.clone(),
            }),
            automation: automation::Store::default(),
            options,
            clock,
            runtime,
            happened: Condvar::new(),
            wake: Notify::new(),
            address,
        })
    }

    /// One whose time passes, without a server of its own.
    pub fn started(options: CloudOptions, address: SocketAddr, runtime: Handle) -> Arc<Self> {
        let shared = Self::new(options, address, runtime.clone());
        runtime.spawn(keep_time(shared.clone()));
        shared
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = self.endpoint();
        let pairs = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// As [`Self::environment`], for what the cloud runs itself, such as a runbook's scripts: the credentials of a role
    /// of its own, which do not expire with those of whoever began it.
    pub fn service_environment(&self) -> Vec<(String, String)> {
        let mut variables = self.environment();
        for (name, value) in &mut variables {
            if name == "AWS_ACCESS_KEY_ID" {
                *value = SERVICE_KEY.to_owned();
            }
        }
        variables.push(("AWS_SESSION_TOKEN".into(), SERVICE_TOKEN.into()));
        variables
    }

    /// The state as it is now: everything that was due has happened.
    pub fn state(&self) -> StateGuard<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.events.len();
        state.catch_up(self.clock.now_s());
        let next_s = state.queue.next_s();
        if state.events.len() > before {
            self.happened.notify_all();
        }
        let logged = state.events.len();
        StateGuard { state, shared: self, next_s, logged }
    }

    /// The first event, from the beginning on, that `wanted` is true for; `None` when there is none within `limit` of
    /// real time.
    pub fn wait_for(&self, limit: Duration, mut wanted: impl FnMut(&Event) -> bool) -> Option<Event> {
        let until = Instant::now() + limit;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        loop {
            if let Some(found) = state.events[seen..].iter().find(|event| wanted(event)) {
                return Some(found.clone());
            }
            seen = state.events.len();
            let left = until.checked_duration_since(Instant::now())?;
            state = self.happened.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A call of an API from inside, as a runbook's step makes it: JSON in and out, counted and refused as any other.
    ///
    /// # Errors
    ///
    /// As the service.
    pub fn call(self: &Arc<Self>, service: &str, action: &str, input: &Value) -> Result<Value, ApiError> {
        dispatch::call(self, service, action, input).1
    }

    /// Puts an event of now in the log.
    pub fn log(&self, event: impl FnOnce(f64) -> Event) {
        let mut state = self.state();
        let event = event(state.now_s());
        state.events.push(event);
    }
}

/// Runs what is due when it is due.
async fn keep_time(shared: Arc<Shared>) {
    loop {
        let next = shared.state().queue.next_s();
        let woken = shared.wake.notified();
        match next {
            Some(next_s) => {
                // Nothing is lost when the wait is cut short: the queue is looked at again.
                let _ = tokio::time::timeout(shared.clock.until(next_s), woken).await;
            }
            None => woken.await,
        }
    }
}

impl State {
    /// Simulated seconds since the start; inside a job, the time it was due at.
    pub fn now_s(&self) -> f64 {
        self.now_s
    }

    /// Now as a time stamp of an answer: seconds since the Unix epoch, to the millisecond.
    pub fn stamp(&self) -> f64 {
        self.stamp_at(self.now_s)
    }

    pub fn stamp_at(&self, at_s: f64) -> f64 {
        (self.clock.unix_s(at_s) * 1_000.0).round() / 1_000.0
    }

    /// Has `job` done in `seconds` simulated seconds.
    pub fn after(&mut self, seconds: f64, job: impl FnOnce(&mut Self) + Send + 'static) {
        self.queue.push(self.now_s + seconds.max(0.0), Box::new(job));
    }

    /// The cloud, for what has to wait outside; `None` when it is gone.
    pub fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade()
    }

    fn catch_up(&mut self, now_s: f64) {
        while let Some((at_s, job)) = self.queue.pop(now_s) {
            self.now_s = self.now_s.max(at_s);
            job(self);
        }
        self.now_s = self.now_s.max(now_s);
    }

    /// SplitMix64.
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A UUID of version 4.
    pub fn uuid(&mut self) -> String {
        let (high, low) = (self.random(), self.random());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff
        )
    }
}

/// The locked state. What was put in the queue meanwhile is seen to when it is let go.
pub struct StateGuard<'a> {
    state: MutexGuard<'a, State>,
    shared: &'a Shared,
    next_s: Option<f64>,
    logged: usize,
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        if self.state.queue.next_s() != self.next_s {
            self.shared.wake.notify_one();
        }
        if self.state.events.len() > self.logged {
            self.shared.happened.notify_all();
        }
    }
}
