//! The loop: feeds what happens into [`step`], and does what comes out.
//!
//! Everything that takes time (a look, the hooks, following a run) is a task that sends a message when it is done, so
//! that signals and the watchdog are served at once, whatever goes on.

use super::{
    Policy,
    errand::{self, Errand, Told},
    hooks, notify,
    record::Outlet,
    saved::{self, LastRun, Saved},
    schedule,
    state::{Doing, Input, Kind, Lead, Moment, Phase},
    step, words, work,
};
use crate::{
    act::handoff::Job,
    assess::{Assessment, Need},
    config::{self, Settings, Source},
    decide::Decision,
    facts::{NameFact, Observation},
    flow::{self, Check, Files, SavedIntent},
    ports::{
        events,
        store::{self, Lock, StoreError},
    },
    progress::RunResult,
    report::{
        inventory::InventoryView,
        metrics::{self, MetricsView, OneOf},
        step_words,
    },
};
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::{io, path::PathBuf, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::{AbortHandle, LocalSet, spawn_local},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

/// From something that happened to the agent to the look at it: it has to come back and register first.
const AFTER_EVENT: Duration = Duration::from_secs(3);
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
    Hooks(Option<(String, String)>),
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
    look_at: Instant,
    look_began: Instant,
    looking: Option<AbortHandle>,
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
    /// The verdict that SSM Compliance was last told.
    complied: Option<String>,
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
        look_at: Instant::now(),
        look_began: Instant::now(),
        looking: None,
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
        complied: None,
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
            self.send_out(Errand::Rejoin { settings: self.settings.clone(), run });
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
                () = sleep_until(self.look_at), if may_look => self.look(),
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
                Errand::Run { .. } | Errand::Rejoin { .. } => Message::Told(Told::Lost(error.to_string())),
                Errand::Rollout { .. } => Message::Told(Told::Rollout(Err(error.to_string()))),
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
            Some(Doing::AskHooks) => {
                let (dir, messages) = (self.settings.watch.hooks_dir.clone(), self.messages.clone());
                self.spawn(async move {
                    let _ = messages.send(Message::Hooks(hooks::ask(&dir).await));
                });
            }
            Some(Doing::Restart) => self.hand_off(false),
            Some(Doing::TakeUp) => self.hand_off(true),
            Some(Doing::StartRollout) => {
                if let Some(endpoints) = self.saved.state.phase.endpoints().cloned() {
                    self.send_out(Errand::Rollout { settings: self.settings.clone(), endpoints });
                }
            }
        }
    }

    fn hand_off(&mut self, recover_only: bool) {
        if let Some(look) = self.looking.take() {
            look.abort();
        }
        let job = Job { allow_repair: false, recover_only, own: true };
        self.send_out(Errand::Run { settings: self.settings.clone(), program: self.program.clone(), job });
    }

    fn look_in(&mut self, wait: Duration) {
        self.look_at = self.look_at.min(Instant::now() + wait);
    }

    /// Begins a look, or takes up an interrupted run where there is one.
    fn look(&mut self) {
        let intent = Files(&self.settings).intent();
        // Whoever is at it holds the lock.
        let interrupted = intent.exists()
            && self.saved.state.may_take_up(up_ms())
            && matches!(Lock::take(&Files(&self.settings).lock()), Ok(Some(_)));
        if interrupted {
            let run = match store::read::<SavedIntent>(&intent) {
                Ok(Some(saved)) => saved.intent.run_id,
                _ => "(its intent cannot be read)".to_owned(),
            };
            return self.step(&Input::Interrupted { run });
        }
        // As long as the names lead elsewhere, nothing else needs to be looked at; now and then all is.
        let fresh = up_ms().saturating_sub(self.full_look_ms) < self.policy.settled_interval.as_millis() as u64;
        let only =
            (self.names_decide && fresh && self.saved.state.phase == Phase::Observing).then(|| self.names.clone());
        self.looking = Some(self.send_out(Errand::Look { settings: self.settings.clone(), only }));
        self.look_began = Instant::now();
        self.look_at = self.look_began + Duration::from_secs(3_600);
    }

    /// The time of the next look, by what the last one found.
    fn plan_next_look(&mut self) {
        let state = &self.saved.state;
        let pace = schedule::pace(state, self.saved.decision.as_ref());
        // A name server that is away is asked again as its last answers said.
        self.ttl_s = self.names.iter().filter_map(|n| n.answer.max_ttl_s()).max().or(self.ttl_s);
        self.looks += 1;
        let instance = state.instance_id.as_deref().unwrap_or_default();
        let interval = schedule::interval(pace, self.ttl_s, instance, self.looks, &self.policy);
        let wait = schedule::left(interval, self.look_began.elapsed());
        self.look_at = Instant::now() + wait;
        let now = Timestamp::now();
        self.saved.looked_at = Some(now);
        self.saved.next_look = now.checked_add(SignedDuration::try_from(wait).unwrap_or_default()).ok();
    }

    fn on(&mut self, message: Message) {
        match message {
            Message::Told(Told::Looked(check)) => self.looked(*check),
            Message::Told(Told::Unchanged(names)) => {
                self.looking = None;
                self.names = names;
                self.plan_next_look();
                self.step(&Input::Unchanged);
                self.publish();
            }
            Message::LookLost(why) => {
                self.looking = None;
                tracing::warn!("nothing came of a look at the host: {why}");
                self.plan_next_look();
            }
            Message::Hooks(answer) => self.step(&Input::Hooks(answer)),
            Message::Told(Told::Began { run }) => self.step(&Input::Began { run }),
            Message::Told(Told::Progress(progress)) => {
                tracing::info!("restart: {}", step_words(&progress.event));
                if matches!(progress.event, crate::progress::Event::Back { .. }) {
                    self.step(&Input::Back);
                }
            }
            Message::Told(Told::Ended(result)) => self.ended(*result),
            Message::Told(Told::Lost(why)) => self.step(&Input::RunLost { why }),
            Message::Told(Told::Rollout(answer)) => self.step(&Input::Rollout(answer)),
            Message::Told(Told::Complied(Ok(()))) => {}
            // Told anew when the verdict changes; the role may well not allow it.
            Message::Told(Told::Complied(Err(why))) => tracing::info!("SSM Compliance was not told: {why}"),
        }
    }

    fn looked(&mut self, check: Check) {
        self.looking = None;
        if self.saved.state.phase.at_work() {
            return;
        }
        let Check { observation, assessment, decision, .. } = check;
        self.full_look_ms = up_ms();
        self.measure(&observation, &assessment, &decision);
        self.names_decide = assessment.endpoint_set.0.is_empty() && matches!(decision, Decision::Waiting { .. });
        self.names = observation.names;
        self.names.retain(|name| name.service.is_control_plane());
        let ttl_s = self.names.iter().filter_map(|n| n.answer.max_ttl_s()).max();
        let was = self.saved.state.instance_id.as_ref();
        if was.is_some() && assessment.instance_id.is_some() && was != assessment.instance_id.as_ref() {
            // A new host from the image of another: what was seen and done there is not this one's.
            self.saved = Saved { boot_id: self.saved.boot_id.clone(), ..Saved::default() };
            self.note(Kind::Started, "this is another instance: starting with a clean memory");
        }
        self.saved.decision = Some(decision.clone());
        self.comply(&decision);
        let lead = Lead::from(&assessment);
        self.step(&Input::Looked { decision, ttl_s, instance_id: assessment.instance_id, lead });
        // A step may have asked for another look sooner.
        let asked = self.look_at;
        self.plan_next_look();
        self.look_at = self.look_at.min(asked);
        self.publish();
    }

    /// Tells SSM Compliance, when the verdict is another one.
    fn comply(&mut self, decision: &Decision) {
        let verdict = decision.word().to_owned();
        if !self.settings.fleet.compliance || self.complied.as_ref() == Some(&verdict) {
            return;
        }
        let (settings, says) = (self.settings.clone(), words::why(decision));
        let compliant = *decision == Decision::Settled;
        self.send_out(Errand::Comply { settings, compliant, verdict: verdict.clone(), says });
        self.complied = Some(verdict);
    }

    /// What others are told of a look, and the time on the public path up to it.
    fn measure(&mut self, observation: &Observation, assessment: &Assessment, decision: &Decision) {
        let now = up_ms();
        if let Some(since) = self.public_at_ms.take() {
            self.saved.public_path_s += now.saturating_sub(since) as f64 / 1e3;
        }
        self.public_at_ms = matches!(assessment.need, Need::Stale { .. }).then_some(now);
        let service = metrics::Service {
            state: OneOf::new(words::phase(&self.saved.state.phase), &words::PHASES),
            public_path_s: Some(self.saved.public_path_s),
            last_outage: self.saved.last_run.as_ref().and_then(|run| run.outage.clone()),
            budget_per_day: self.settings.restart.budget_per_day,
            now: Timestamp::now(),
        };
        let history = flow::history(&self.settings).ok();
        let metrics = MetricsView::of(assessment, observation, decision, history.as_ref(), &service);
        let measured = self.saved.last_run.as_ref().and_then(|run| Some((run.run_id.as_str(), run.outage.as_ref()?)));
        self.told = Some(InventoryView::of(assessment, observation, history.as_ref(), measured, metrics));
    }

    fn ended(&mut self, result: RunResult) {
        let last = LastRun {
            run_id: result.run_id.clone(),
            at: Timestamp::now(),
            acted: result.acted,
            exit_code: result.exit_code,
            outage: result.outage.clone(),
        };
        self.saved.last_run = Some(last);
        for alarm in &result.alarms {
            tracing::error!(run = %result.run_id, "{alarm}");
        }
        // What was decided before the restart is not how things stand now.
        if !result.acted {
            self.saved.decision = Some(result.decision.clone());
        } else if result.exit_code == crate::decide::exit::SETTLED {
            self.saved.decision = Some(Decision::Settled);
        }
        self.step(&Input::RunEnded(work::end(&result)));
    }

    fn on_event(&mut self, action: &str) {
        // What our own run does to the agent is told by the run.
        if self.saved.state.phase.at_work() {
            return;
        }
        let text = match action {
            "engine" => "the Docker Engine answers again".to_owned(),
            action => format!("the agent's container: {action}"),
        };
        self.note(Kind::AgentEvent, text);
        let asked = self.look_at;
        self.step(&Input::Disturbed);
        // The agent has to come back first.
        self.look_at = asked.min(Instant::now() + AFTER_EVENT);
        self.names_decide = false;
    }

    /// SIGHUP: the new configuration if it is right, else the old one, and why.
    fn reload(&mut self) {
        notify::reloading();
        match config::load(&self.source) {
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
                self.config_trouble = Some(error.to_string());
                self.note(Kind::ReloadRefused, text);
                self.tell();
            }
        }
        self.keep();
        notify::ready();
    }
}
