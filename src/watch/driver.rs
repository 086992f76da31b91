//! The loop: feeds what happens into [`step`], and does what comes out.
//!
//! Everything that takes time (a look, the hooks, following a run) is a task that sends a message when it is done, so
//! that signals and the watchdog are served at once, whatever goes on. What comes of looks and of runs is taken up in the
//! two rooms below.

mod looks;
mod runs;

use super::{
    Policy,
    burst::Burst,
    compliance::Compliance,
    errand::{self, Errand, Told},
    hooks, notify,
    record::Outlet,
    saved::{self, Saved},
    state::{Doing, Input, Kind, Moment, Phase},
    step,
};
use crate::{
    config::{self, Loaded, Settings, Source},
    facts::NameFact,
    ports::{
        events,
        store::{self, Lock, StoreError},
    },
    report::inventory::InventoryView,
};
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use std::{io, path::PathBuf, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::{AbortHandle, LocalSet, spawn_local},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

/// From a step that asks for a look to the look.
const SOON: Duration = Duration::from_millis(500);
/// A service that is started while another one stops waits this long for it.
const OTHER: Duration = Duration::from_secs(3);

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("another hostagent watch is running on this host")]
    Running,
    #[error("cannot use hostagent at {}: {error}", program.display())]
    Program { program: PathBuf, error: io::Error },
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of the work that takes time.
enum Message {
    Told(Told),
    /// Why nothing came of a look.
    LookLost(String),
    /// Why a run is not followed any more. The run itself may well go on.
    FollowerLost(String),
    /// This run is to be followed anew.
    Rejoin(String),
    /// The answer to the asking of this number.
    Hooks(u64, Option<(String, String)>),
}

pub(super) struct Driver {
    source: Source,
    pub(super) settings: Settings,
    pub(super) policy: Policy,
    program: PathBuf,
    sender: errand::Sender,
    pub(super) saved: Saved,
    /// The control plane's names at the last look.
    names: Vec<NameFact>,
    /// The longest TTL of the last answers that had one, in seconds.
    ttl_s: Option<u32>,
    /// Whether the last look found them not all to be endpoints, so that it takes a change of theirs to be ready.
    names_decide: bool,
    full_look_ms: u64,
    looks: u64,
    /// Looks in a row of which nothing came.
    lost: u32,
    look_at: Instant,
    look_began: Instant,
    looking: Option<AbortHandle>,
    /// What others did to the agent since it was looked at.
    burst: Burst,
    /// The hooks that are being asked, and how often they were.
    asking: Option<AbortHandle>,
    asked: u64,
    /// How often the run under way had to be followed anew.
    rejoined: u32,
    messages: UnboundedSender<Message>,
    events: Option<AbortHandle>,
    event_sender: mpsc::Sender<String>,
    /// When the last full look found connections that are not on endpoints, in milliseconds since boot.
    public_at_ms: Option<u64>,
    /// What others are told of the last full look.
    pub(super) told: Option<InventoryView>,
    pub(super) metrics: Outlet,
    pub(super) inventory: Outlet,
    /// What was last said of the files and the configuration, so that it is said once.
    pub(super) record_trouble: Option<String>,
    pub(super) config_trouble: Option<String>,
    pub(super) said: String,
    compliance: Compliance,
}

/// Runs until SIGTERM or SIGINT. `program` is hostagent, which does what takes more than waiting.
pub async fn watch(source: Source, settings: Settings, program: PathBuf, verbosity: u8) -> Result<(), WatchError> {
    let sender = errand::Sender::new(&program, verbosity)
        .map_err(|error| WatchError::Program { program: program.clone(), error })?;
    let _lock = only_one(&settings).await?;
    let (messages, inbox) = mpsc::unbounded_channel();
    let (event_sender, event_inbox) = mpsc::channel(64);
    let mut driver = Driver {
        policy: Policy::new(&settings),
        source,
        settings,
        program,
        sender,
        saved: Saved::default(),
        names: Vec::new(),
        ttl_s: None,
        names_decide: false,
        full_look_ms: 0,
        looks: 0,
        lost: 0,
        look_at: Instant::now(),
        look_began: Instant::now(),
        looking: None,
        burst: Burst::default(),
        asking: None,
        asked: 0,
        rejoined: 0,
        messages,
        events: None,
        event_sender,
        public_at_ms: None,
        told: None,
        metrics: Outlet::new("metrics"),
        inventory: Outlet::new("inventory"),
        record_trouble: None,
        config_trouble: None,
        said: String::new(),
        compliance: Compliance::default(),
    };
    driver.remember()?;
    // What is under way when the service stops is dropped with the set.
    let tasks = LocalSet::new();
    tasks.run_until(driver.serve(inbox, event_inbox)).await
}

/// The lock that a running service holds.
async fn only_one(settings: &Settings) -> Result<Lock, WatchError> {
    let began = Instant::now();
    loop {
        // `hostagent status` holds it for an instant.
        if let Some(lock) = Lock::take(&saved::lock(settings))? {
            return Ok(lock);
        }
        if began.elapsed() > OTHER {
            return Err(WatchError::Running);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Milliseconds since boot, sleep included; no setting of the clock touches it.
pub(super) fn up_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let millis = now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000);
    u64::try_from(millis).unwrap_or(0)
}

impl Driver {
    /// Takes up what an earlier service left. Words that cannot be read are told and done without.
    fn remember(&mut self) -> Result<(), WatchError> {
        let boot_id = store::boot_id()?;
        match store::read::<Saved>(&saved::path(&self.settings)) {
            Ok(Some(saved)) => {
                let same_boot = saved.boot_id == boot_id;
                self.saved = Saved { state: saved.state.clone().resumed(same_boot), ..saved };
                if !same_boot {
                    // Of the agent that ran before the boot.
                    (self.saved.decision, self.saved.looked_at, self.saved.next_look) = (None, None, None);
                    self.saved.since = Some(Timestamp::now());
                }
            }
            Ok(None) => {}
            Err(error) => self.note(Kind::Record, format!("starting without a memory: {error}")),
        }
        self.saved.boot_id = boot_id;
        self.note(Kind::Started, format!("hostagent {} watches", env!("CARGO_PKG_VERSION")));
        Ok(())
    }

    async fn serve(
        &mut self,
        mut inbox: UnboundedReceiver<Message>,
        mut events: mpsc::Receiver<String>,
    ) -> Result<(), WatchError> {
        let of = |kind| signal(kind).map_err(WatchError::Signals);
        let (mut term, mut int) = (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
        let mut hangup = of(SignalKind::hangup())?;
        let beat = notify::watchdog_every();
        let mut watchdog = interval(beat.unwrap_or(Duration::from_secs(3_600)));
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.listen();
        notify::ready();
        if let Phase::Acting { run: Some(run), .. } | Phase::Verifying { run: Some(run), .. } = &self.saved.state.phase
        {
            let run = run.clone();
            self.rejoin(run);
        }
        self.keep();
        self.tell();
        loop {
            let tick = self.saved.state.tick_in(up_ms());
            let may_look = self.looking.is_none() && !self.saved.state.phase.at_work();
            tokio::select! {
                biased;
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hangup.recv() => self.reload(),
                _ = watchdog.tick(), if beat.is_some() => notify::watchdog(),
                Some(message) = inbox.recv() => self.on(message),
                Some(action) = events.recv() => self.on_event(&action),
                () = sleep_until(self.due()), if may_look => self.look(),
                () = sleep(tick.unwrap_or_default()), if tick.is_some() => self.step(&Input::Tick),
            }
        }
        notify::stopping();
        let at_work = self.saved.state.phase.at_work();
        self.note(Kind::Stopped, if at_work { "stopped; the restart under way goes on" } else { "stopped" });
        self.keep();
        Ok(())
    }

    fn spawn(&self, work: impl Future<Output = ()> + 'static) -> AbortHandle {
        spawn_local(work).abort_handle()
    }

    /// Has something done that takes time.
    fn send_out(&self, errand: Errand) -> AbortHandle {
        let (messages, sender) = (self.messages.clone(), self.sender.clone());
        self.spawn(async move {
            // The service is stopping when nobody listens.
            let tell = |told| drop(messages.send(Message::Told(told)));
            let Err(error) = errand::elsewhere(&errand, &sender, tell).await else { return };
            let _ = messages.send(match errand {
                Errand::Look { .. } => Message::LookLost(error.to_string()),
                Errand::Run { .. } | Errand::Rejoin { .. } => Message::FollowerLost(error.to_string()),
                Errand::Rollout { .. } => Message::Told(Told::Rollout(Err(error.to_string()))),
                Errand::AskAfter { .. } => Message::Told(Told::AskedAfter(Err(error.to_string()))),
                Errand::Comply { .. } => Message::Told(Told::Complied(Err(error.to_string()))),
            });
        })
    }

    /// Follows what the engine tells of the agent.
    fn listen(&mut self) {
        if let Some(old) = self.events.take() {
            old.abort();
        }
        let (host, container) = (self.settings.docker.host.clone(), self.settings.agent.container.clone());
        self.events = Some(self.spawn(events::follow(host, container, self.event_sender.clone())));
    }

    fn moment(&self) -> Moment {
        Moment {
            up_ms: up_ms(),
            // A file whose being there cannot be told may be there.
            paused: self.settings.watch.pause_file.try_exists().unwrap_or(true),
            opening: config::opening(&self.settings.watch.window, Timestamp::now()),
        }
    }

    fn step(&mut self, input: &Input) {
        let moment = self.moment();
        let (state, effects) = step(&self.saved.state, input, &moment, &self.policy);
        let moved = std::mem::discriminant(&state.phase) != std::mem::discriminant(&self.saved.state.phase);
        let run_known = matches!(input, Input::Began { .. });
        if moved {
            self.saved.since = Some(Timestamp::now());
        }
        self.saved.state = state;
        for note in &effects.notes {
            self.note(note.kind, note.text.clone());
        }
        // What is about to be done is on disk before it is done.
        if moved || run_known || !effects.notes.is_empty() {
            self.keep();
        }
        self.tell();
        match effects.doing {
            None => {}
            Some(Doing::Look) => self.look_in(SOON),
            Some(Doing::AskHooks) => self.ask_hooks(),
            Some(Doing::Restart) => self.hand_off(false),
            Some(Doing::TakeUp) => self.hand_off(true),
            Some(Doing::StartRollout) => {
                if let Some(endpoints) = self.saved.state.phase.endpoints().cloned() {
                    let after = self.saved.state.joined_for(&endpoints).map(|joined| joined.execution.clone());
                    self.send_out(Errand::Rollout { settings: self.settings.clone(), endpoints, after });
                }
            }
            Some(Doing::AskAfterRollout) => {
                if let Some(execution) = self.saved.state.joined.as_ref().map(|joined| joined.execution.clone()) {
                    self.send_out(Errand::AskAfter { settings: self.settings.clone(), execution });
                }
            }
        }
    }

    /// Asks the hooks. Whoever is still being asked is not waited for: an answer to an earlier question is no leave.
    fn ask_hooks(&mut self) {
        if let Some(old) = self.asking.take() {
            old.abort();
        }
        self.asked += 1;
        let (number, dir, messages) = (self.asked, self.settings.watch.hooks_dir.clone(), self.messages.clone());
        self.asking = Some(self.spawn(async move {
            let _ = messages.send(Message::Hooks(number, hooks::ask(&dir).await));
        }));
    }

    fn on(&mut self, message: Message) {
        match message {
            Message::Told(Told::Looked(check)) => self.looked(*check),
            Message::Told(Told::Unchanged(names)) => self.unchanged(names),
            Message::LookLost(why) => self.look_lost(&why),
            Message::Hooks(number, answer) if number == self.asked => {
                self.step(&Input::Hooks(answer));
            }
            Message::Hooks(..) => {}
            Message::Told(Told::Began { run }) => {
                self.rejoined = 0;
                self.step(&Input::Began { run });
            }
            Message::Told(Told::Progress(progress)) => self.progressed(&progress),
            Message::Told(Told::Ended(result)) => self.ended(*result),
            Message::Told(Told::Lost(why)) => self.step(&Input::RunLost { why }),
            Message::FollowerLost(why) => self.follower_lost(why),
            Message::Rejoin(run) => self.rejoin(run),
            Message::Told(Told::Rollout(answer)) => self.step(&Input::Rollout(answer)),
            Message::Told(Told::AskedAfter(answer)) => self.step(&Input::AskedAfter(answer)),
            Message::Told(Told::Complied(answer)) => self.complied(answer),
        }
    }

    /// SIGHUP: the new configuration if it is right, else the old one, and why.
    fn reload(&mut self) {
        notify::reloading();
        let loaded = config::load(&self.source).map_err(|error| error.to_string());
        match loaded.and_then(|loaded| self.reloadable(loaded)) {
            Ok(loaded) => {
                self.settings = loaded.settings;
                self.policy = Policy::new(&self.settings);
                self.config_trouble = None;
                self.names_decide = false;
                self.listen();
                self.note(Kind::Reloaded, "the configuration was read again");
                self.step(&Input::Disturbed);
            }
            Err(error) => {
                let text = format!("the new configuration is refused, the old one stays: {error}");
                self.config_trouble = Some(error);
                self.note(Kind::ReloadRefused, text);
                self.tell();
            }
        }
        self.keep();
        notify::ready();
    }
    /// Where the history, the intent and the locks lie cannot change under a service: one in the new place and a restart
    /// under way in the old one would not know of each other.
    fn reloadable(&self, loaded: Loaded) -> Result<Loaded, String> {
        let (old, new) = (&self.settings.paths, &loaded.settings.paths);
        let changed = match () {
            () if old.state_dir != new.state_dir => ("paths.state_dir", &old.state_dir, &new.state_dir),
            () if old.runtime_dir != new.runtime_dir => ("paths.runtime_dir", &old.runtime_dir, &new.runtime_dir),
            () => return Ok(loaded),
        };
        let (key, old, new) = changed;
        let (place, old, new) = (loaded.origin(key), old.display(), new.display());
        Err(format!(
            "{place}: {key}: a reload cannot change it from {old} to {new}; systemctl restart hostagent, or take it back"
        ))
    }
}
