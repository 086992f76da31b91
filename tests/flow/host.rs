//! A host that is moved when it is asked to, or fails in the way a test wants.

use crate::world::{self, Kind};
use async_trait::async_trait;
use hostagent::{
    config::Settings,
    decide::History,
    facts::*,
    flow::{self, Files, Run, SavedIntent},
    ports::{
        Acted, Asked, ComplianceItem, ControlPlane, Engine, Fleet, HttpAsk, Init, Introspect, Metadata, Nat, Ports,
        Prober, Resolver, SocketTable, TransientUnit, Undone, store,
    },
    progress::{Event, Progress, RunResult},
};
use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::symlink,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

type Result<T> = std::result::Result<T, Missing>;

pub const HALT: &str = "/hostagent/prod/halt";

/// What the next request to restart or start the agent comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The agent is moved.
    Taken,
    /// It never gets there.
    NotTaken,
    /// The agent is moved, and the answer is lost.
    Lost,
    /// The agent is stopped, and does not come back by itself.
    LeftDown,
    /// The agent is moved, and systemd tells that the job failed.
    Failed,
}

/// What there is now.
pub struct State {
    pub seen: Observation,
    /// What a restart makes of it.
    pub moved: Observation,
    pub requests: VecDeque<Request>,
    /// Looks for which the agent has no connections yet.
    pub silent: u32,
    /// How long after a request it has none.
    pub connects_after: Duration,
    connects_at: Option<Instant>,
    /// Requests to restart or start the agent that were taken.
    pub touched: u32,
    pub parameters: BTreeMap<String, String>,
    /// Answers of the next calls of each kind; once they are used up, SSM does as it is asked.
    pub reads: VecDeque<AwsTrouble>,
    pub puts: VecDeque<AwsTrouble>,
    pub open: Asked<bool>,
    /// Calls made of SSM.
    pub read: u32,
    pub put: u32,
}

#[derive(Clone)]
pub struct Host {
    pub state: Arc<Mutex<State>>,
    pub settings: Settings,
    /// Whether a repair is asked for.
    pub repair: bool,
    _dir: Arc<tempfile::TempDir>,
    _credentials: Arc<TcpListener>,
}

pub fn refused() -> AwsTrouble {
    AwsTrouble::Refused(Missing::new("ssm", "AccessDeniedException", "allow it"))
}

pub fn throttled() -> AwsTrouble {
    AwsTrouble::NoAnswer(Missing::new("ssm", "ThrottlingException: Rate exceeded", ""))
}

impl State {
    /// The agent is stopped, whoever does that.
    pub fn goes_down(&mut self) {
        let unit = &mut world::units(&mut self.seen)[0];
        (unit.active_state, unit.sub_state) = ("inactive".into(), "dead".into());
        let container = world::agent_container(&mut self.seen);
        (container.state, container.pid) = (ContainerState::Exited { code: 143 }, None);
        self.seen.agent.introspection = world::unknown("introspection");
    }
}

impl Host {
    /// A host whose endpoints are there and whose agent is still on the internet.
    pub fn movable() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let cache = path("cache");
        fs::create_dir_all(&cache).unwrap();
        fs::create_dir_all(path("data")).unwrap();
        fs::write(cache.join("state"), "1").unwrap();
        fs::write(cache.join("ecs-agent-v1.105.1.tar"), "x").unwrap();
        symlink("ecs-agent-v1.105.1.tar", cache.join("ecs-agent.tar")).unwrap();
        fs::write(path("data").join("agent.db"), "x").unwrap();
        fs::write(path("ecs.config"), "ECS_CLUSTER=prod\n").unwrap();
        let credentials = TcpListener::bind("127.0.0.1:0").unwrap();

        let mut settings = Settings::default();
        settings.agent.cache_dir = cache;
        settings.agent.config_file = path("ecs.config");
        settings.agent.credentials_port = credentials.local_addr().unwrap().port();
        (settings.confirm.samples, settings.confirm.min_spread_s) = (2, 0);
        (settings.restart.deadline_s, settings.restart.hold_s, settings.restart.task_wait_s) = (1, 0, 0);
        settings.paths.state_dir = path("state");
        settings.paths.runtime_dir = path("run");
        settings.watch.pause_file = path("pause");

        let mut seen = world::movable(Kind::EcsInit);
        world::agent_container(&mut seen).mounts[0].source = path("data").display().to_string();
        // Answers without a TTL are not waited for.
        for name in &mut seen.names {
            let Answer::Addresses(addresses) = &mut name.answer else { unreachable!() };
            addresses.iter_mut().for_each(|address| address.ttl_s = None);
        }
        let moved = world::moved(&seen, Kind::EcsInit, seen.at);
        let state = State {
            seen,
            moved,
            requests: VecDeque::new(),
            silent: 0,
            connects_after: Duration::ZERO,
            connects_at: None,
            touched: 0,
            parameters: BTreeMap::new(),
            reads: VecDeque::new(),
            puts: VecDeque::new(),
            open: Ok(true),
            read: 0,
            put: 0,
        };
        let state = Arc::new(Mutex::new(state));
        Self { state, settings, repair: false, _dir: Arc::new(dir), _credentials: Arc::new(credentials) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn ports(&self) -> Ports {
        let this = || Arc::new(self.clone());
        Ports {
            engine: this(),
            init: this(),
            resolver: this(),
            prober: this(),
            metadata: this(),
            introspect: this(),
            sockets: this(),
            nat: this(),
            control_plane: this(),
            fleet: this(),
        }
    }

    /// A run, of which every step is told before it is gone on with.
    pub async fn run_told(&self, own: bool, told: &dyn Fn(&Event)) -> RunResult {
        let ports = self.ports();
        let told = |progress: &Progress| told(&progress.event);
        let run = Run {
            ports: &ports,
            settings: &self.settings,
            run_id: "run-1".into(),
            dir: self.settings.paths.runtime_dir.clone(),
            told: Some(&told),
            allow_repair: self.repair,
            recover_only: false,
            own,
            dry_run: false,
        };
        flow::restart(&run).await
    }

    pub async fn run(&self) -> RunResult {
        self.run_told(false, &|_| {}).await
    }

    pub fn history(&self) -> History {
        flow::history(&self.settings).unwrap()
    }

    pub fn intent(&self) -> Option<SavedIntent> {
        store::read(&Files(&self.settings).intent()).unwrap()
    }

    pub fn state_file(&self, name: &str) -> std::path::PathBuf {
        self.settings.paths.state_dir.join(name)
    }

    fn ask(&self, restart: bool) -> Acted<String> {
        let mut state = self.state();
        let missing = || Missing::new("restart of ecs.service", "connection refused", "systemctl status dbus");
        let request = state.requests.pop_front().unwrap_or(Request::Taken);
        if request == Request::NotTaken {
            return Err(Undone::NotTaken(missing()));
        }
        assert!(restart || request == Request::Taken, "a start is taken or not");
        state.touched += 1;
        state.seen = state.moved.clone();
        state.connects_at = Some(Instant::now() + state.connects_after);
        match request {
            Request::Lost => Err(Undone::Unclear(missing())),
            Request::LeftDown => {
                state.goes_down();
                Ok("done".into())
            }
            Request::Failed => Ok("failed".into()),
            _ => Ok("done".into()),
        }
    }
}

fn of<T: Clone>(fact: &Fact<T>) -> Result<T> {
    match fact {
        Fact::Known(value) => Ok(value.clone()),
        Fact::Unknown(missing) => Err(missing.clone()),
    }
}

#[async_trait]
impl Engine for Host {
    async fn agent(&self, _: &str) -> Result<Option<AgentContainer>> {
        Ok(match of(&self.state().seen.agent.presence)? {
            Presence::Container(container) => Some(*container),
            _ => None,
        })
    }

    async fn workloads(&self, _: &str) -> Result<Vec<Workload>> {
        of(&self.state().seen.workloads)
    }

    async fn agent_version(&self, _: &str) -> Result<String> {
        Err(Missing::new("version", "not asked", ""))
    }

    async fn restart(&self, _: &str, _: u32) -> Acted<()> {
        self.ask(true).map(|_| ())
    }

    async fn start(&self, _: &str) -> Acted<()> {
        self.ask(false).map(|_| ())
    }
}

#[async_trait]
impl Init for Host {
    async fn units(&self, _: &[String], _: &[String]) -> Result<Systemd> {
        of(&self.state().seen.systemd)
    }

    async fn restart_unit(&self, _: &str) -> Acted<String> {
        self.ask(true)
    }

    async fn start_unit(&self, _: &str) -> Acted<String> {
        self.ask(false)
    }

    async fn reset_failed(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn start_transient(&self, _: &TransientUnit) -> Acted<()> {
        let missing = || Missing::new("start of the worker", "no answer within 120 s", "");
        match self.state().requests.pop_front() {
            Some(Request::Lost) => Err(Undone::Unclear(missing())),
            Some(Request::NotTaken) => Err(Undone::NotTaken(missing())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Resolver for Host {
    async fn lookup(&self, host: &str) -> Answer {
        let state = self.state();
        let name = state.seen.names.iter().find(|name| name.host == host);
        name.map_or(Answer::NxDomain, |name| name.answer.clone())
    }
}

#[async_trait]
impl Prober for Host {
    async fn probe(&self, _: SocketAddr, _: &str, _: HttpAsk) -> ReachOutcome {
        ReachOutcome::Reached { http_status: None }
    }
}

#[async_trait]
impl Metadata for Host {
    async fn instance(&self) -> Result<Instance> {
        of(&self.state().seen.instance)
    }
}

#[async_trait]
impl Introspect for Host {
    async fn metadata(&self) -> Result<Introspection> {
        of(&self.state().seen.agent.introspection)
    }

    async fn tasks(&self) -> Result<Vec<Task>> {
        of(&self.state().seen.agent.tasks)
    }
}

#[async_trait]
impl SocketTable for Host {
    async fn established(&self, _: u32) -> Result<Vec<Socket>> {
        let mut state = self.state();
        if state.silent > 0 {
            state.silent -= 1;
            return Ok(Vec::new());
        }
        if state.connects_at.is_some_and(|at| Instant::now() < at) {
            return Ok(Vec::new());
        }
        of(&state.seen.sockets)
    }
}

#[async_trait]
impl Nat for Host {
    async fn credential_rules(&self) -> Result<CredentialRules> {
        of(&of(&self.state().seen.credentials)?.rules)
    }
}

#[async_trait]
impl ControlPlane for Host {
    async fn discover_poll_endpoint(&self, _: &str, _: &str, _: &str) -> Result<Discovery> {
        Err(Missing::new("DiscoverPollEndpoint", "not asked", ""))
    }
}

#[async_trait]
impl Fleet for Host {
    async fn parameter(&self, _: &str, name: &str) -> Asked<Option<String>> {
        let mut state = self.state();
        state.read += 1;
        match state.reads.pop_front() {
            Some(trouble) => Err(trouble),
            None => Ok(state.parameters.get(name).cloned()),
        }
    }

    async fn put_parameter_once(&self, _: &str, name: &str, value: &str, _: &str) -> Asked<()> {
        let mut state = self.state();
        state.put += 1;
        if let Some(trouble) = state.puts.pop_front() {
            return Err(trouble);
        }
        state.parameters.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        Ok(())
    }

    async fn is_open(&self, _: &str, _: &[String]) -> Asked<bool> {
        self.state().open.clone()
    }

    async fn start_runbook(&self, _: &str, _: &str, _: &BTreeMap<String, Vec<String>>, _: &str) -> Result<String> {
        Err(Missing::new("runbook", "not asked", ""))
    }

    async fn execution(&self, _: &str, _: &str) -> Result<ExecutionStatus> {
        Err(Missing::new("runbook", "not asked", ""))
    }

    async fn put_compliance(&self, _: &str, _: &ComplianceItem) -> Result<()> {
        Ok(())
    }
}

/// Overwrites an intent as another host, time or boot would have left it.
pub fn rewrite(path: &Path, change: impl FnOnce(&mut SavedIntent)) {
    let mut saved: SavedIntent = store::read(path).unwrap().unwrap();
    change(&mut saved);
    store::write(path, &saved).unwrap();
}
