//! What the service tells: the journal, systemd, and its words on disk.

use super::{
    driver::{Driver, up_ms},
    notify,
    saved::{self, Saved},
    state::{Hold, Kind, Note, Phase},
    words,
};
use crate::{
    config::Inventory,
    decide::Decision,
    events,
    ports::store,
    report::{
        inventory,
        metrics::{self, OneOf},
    },
};
use jiff::Timestamp;
use std::path::{Path, PathBuf};

/// A file that others read. What is wrong with it is said once.
pub(super) struct Outlet {
    what: &'static str,
    trouble: Option<String>,
    /// What stands there, as far as we know.
    written: Option<(PathBuf, String)>,
}

impl Outlet {
    pub fn new(what: &'static str) -> Self {
        Self { what, trouble: None, written: None }
    }

    fn write(&mut self, path: &Path, text: String) {
        // Somebody may have taken it away.
        if self.written.as_ref().is_some_and(|(at, old)| at == path && *old == text) && path.exists() {
            return;
        }
        let trouble = store::publish(path, &text).err().map(|error| error.to_string());
        self.written = trouble.is_none().then(|| (path.to_owned(), text));
        if trouble != self.trouble {
            if let Some(error) = &trouble {
                tracing::warn!("{} cannot be written: {error}", self.what);
            }
            self.trouble = trouble;
        }
    }
}

/// The name under which the journal's catalog knows it, if it matters. Restarts have theirs in the run's own unit.
fn event(kind: Kind, decision: Option<&Decision>) -> Option<events::Known> {
    Some(match kind {
        Kind::Ready => events::ENDPOINTS_READY,
        Kind::EndpointsGone => events::ENDPOINTS_GONE,
        Kind::ReloadRefused => events::CONFIGURATION_REFUSED,
        Kind::Broken => events::AGENT_BROKEN,
        Kind::Unknown => events::BLOCKED,
        Kind::Blocked if matches!(decision, Some(Decision::Refuse { .. })) => events::REFUSED,
        _ => return None,
    })
}

/// An entry of the time line as a record of the journal: its text, and the fields that go with its kind.
fn to_journal(note: &Note, saved: &Saved, container: &str) {
    let Note { kind, text } = note;
    let state = &saved.state;
    let event = event(*kind, saved.decision.as_ref()).map(|known| known.name);
    let why = event.map(|_| text.as_str());
    // What the service says of itself is not about the host.
    let of_itself = matches!(kind, Kind::Started | Kind::Stopped | Kind::Record | Kind::Reloaded | Kind::ReloadRefused);
    let decision = saved.decision.as_ref().filter(|_| !of_itself).map(Decision::word);
    let set = state.phase.endpoints().or(match kind {
        // What they were made for is behind them.
        Kind::Moved | Kind::NotVerified => state.tried.last(),
        Kind::EndpointsFound | Kind::EndpointsGone => state.led.as_ref(),
        _ => None,
    });
    let set = set.filter(|set| !of_itself && !set.0.is_empty());
    let (endpoints, address) = (set.map(ToString::to_string), set.map(words::set));
    let ended = matches!(kind, Kind::Moved | Kind::NotVerified);
    let touched = ended || matches!(kind, Kind::AgentEvent | Kind::Broken | Kind::Acting);
    let container = touched.then_some(container);
    let last = saved.last_run.as_ref().filter(|_| ended);
    let run = last.map(|run| run.run_id.as_str());
    let outage = last.and_then(|run| run.outage.as_ref()?.agent_s).map(|s| format!("{s:.2}"));
    let hook = match &state.phase {
        Phase::Waiting { hold: Hold::Veto { hook, .. }, .. } if *kind == Kind::Vetoed => Some(hook.as_str()),
        _ => None,
    };
    let execution = state.joined.as_ref().filter(|_| *kind == Kind::Rollout).map(|joined| joined.execution.as_str());
    let (kind_id, state) = (kind.id(), words::phase(&state.phase));
    let (endpoints, address, outage) = (endpoints.as_deref(), address.as_deref(), outage.as_deref());
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                kind = kind_id,
                state,
                event,
                why,
                decision,
                endpoints,
                address,
                container,
                outage,
                run,
                hook,
                execution,
                "{text}"
            )
        };
    }
    match kind {
        Kind::Broken | Kind::NotVerified => tell!(error),
        kind if kind.warns() => tell!(warn),
        _ => tell!(info),
    }
}

impl Driver {
    /// Into the time line and the journal.
    pub(super) fn note(&mut self, kind: Kind, text: impl Into<String>) {
        let note = Note { kind, text: text.into() };
        to_journal(&note, &self.saved, &self.settings.agent.container);
        self.saved.add(Timestamp::now(), &note);
    }

    /// Writes the words where they last. The service goes on without: what needs a record refuses by itself.
    pub(super) fn keep(&mut self) {
        self.saved.at = Some(Timestamp::now());
        self.saved.words = self.words();
        let written = store::write(&saved::path(&self.settings), &self.saved);
        let trouble = written.err().map(|error| error.to_string());
        if trouble != self.record_trouble {
            self.record_trouble = trouble.clone();
            match trouble {
                Some(error) => self.note(Kind::Record, format!("what the service sees cannot be recorded: {error}")),
                None => self.note(Kind::Record, "what the service sees can be recorded again"),
            }
        }
        self.publish();
    }

    /// For whoever asks: `hostagent status` reads this file; what else tells of the state (metrics, inventory) is
    /// written from here, too.
    pub(super) fn publish(&mut self) {
        self.saved.at = Some(Timestamp::now());
        self.saved.words = self.words();
        if let Err(error) = store::write(&saved::live_path(&self.settings), &self.saved) {
            tracing::debug!(%error, "the live words could not be written");
        }
        self.expose();
    }

    /// The last look for programs of others, with the state as it is now.
    fn expose(&mut self) {
        let inventory = self.inventory_file();
        let Some(view) = &mut self.told else { return };
        view.metrics.looks_lost = Some(self.saved.looks_lost);
        view.metrics.state = OneOf::new(words::phase(&self.saved.state.phase), &words::PHASES);
        if let Some(decision) = &self.saved.decision {
            view.metrics.decision.now = decision.word().into();
            view.reasons = decision.reasons().to_vec();
        }
        (view.since, view.says) = (self.saved.since, self.saved.words.clone());
        if let Some(path) = &self.settings.watch.metrics_file {
            self.metrics.write(path, metrics::render(&view.metrics));
        }
        if let Some(path) = inventory {
            self.inventory.write(&path, inventory::render(view));
        }
    }

    fn inventory_file(&self) -> Option<PathBuf> {
        match &self.settings.watch.inventory {
            Inventory::Off => None,
            Inventory::File(path) => Some(path.clone()),
            Inventory::Auto => {
                let instance = self.saved.state.instance_id.as_deref()?;
                let file = inventory::file(Path::new(inventory::SSM_DATA), instance)?;
                file.parent().is_some_and(Path::is_dir).then_some(file)
            }
        }
    }

    pub(super) fn words(&self) -> String {
        let now = Timestamp::now();
        let words = words::status(&self.saved.state, self.saved.decision.as_ref(), up_ms(), now, &self.policy);
        match &self.config_trouble {
            Some(error) => format!("{words}; configuration refused: {error}"),
            None => words,
        }
    }

    /// One line for `systemctl status`, when it is another one.
    pub(super) fn tell(&mut self) {
        let words = self.words();
        if words != self.said {
            notify::status(&words);
            self.said = words;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::Service,
        decide::{EndpointSet, Reason},
        progress::Outage,
        watch::{
            rollout::{Fate, Joined},
            saved::LastRun,
            state::State,
        },
    };
    use std::{
        collections::BTreeMap,
        fmt,
        sync::{Arc, Mutex},
    };
    use tracing::{Event, Subscriber, field};
    use tracing_subscriber::{
        Layer, Registry,
        layer::{Context, SubscriberExt},
    };

    /// The fields of the last event.
    #[derive(Clone, Default)]
    struct Last(Arc<Mutex<BTreeMap<String, String>>>);

    impl<S: Subscriber> Layer<S> for Last {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            *self.0.lock().unwrap() = fields.0;
        }
    }

    #[derive(Default)]
    struct Fields(BTreeMap<String, String>);

    impl field::Visit for Fields {
        fn record_str(&mut self, field: &field::Field, value: &str) {
            self.0.insert(field.name().into(), value.into());
        }

        fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
            self.0.insert(field.name().into(), format!("{value:?}"));
        }
    }

    fn told(kind: Kind, saved: &Saved) -> BTreeMap<String, String> {
        let last = Last::default();
        tracing::subscriber::with_default(Registry::default().with(last.clone()), || {
            to_journal(&Note { kind, text: "it is so".into() }, saved, "ecs-agent");
        });
        last.0.lock().unwrap().clone()
    }

    fn set() -> EndpointSet {
        EndpointSet([(Service::Ecs, [10, 50, 1, 10].into()), (Service::EcsAgent, [10, 50, 1, 11].into())].into())
    }

    fn saved(phase: Phase) -> Saved {
        let reason = Reason::new("not-connected", "the agent holds no connection to ecs-agent", "");
        let decision = Some(Decision::Broken { reasons: vec![reason] });
        Saved { state: State { phase, ..State::default() }, decision, ..Saved::default() }
    }

    #[track_caller]
    fn has(fields: &BTreeMap<String, String>, wanted: &[(&str, &str)]) {
        for (name, value) in wanted {
            assert_eq!(fields.get(*name).map(String::as_str), Some(*value), "{name}: {fields:?}");
        }
    }

    #[track_caller]
    fn lacks(fields: &BTreeMap<String, String>, names: &[&str]) {
        let there: Vec<_> = names.iter().filter(|name| fields.contains_key(**name)).collect();
        assert!(there.is_empty(), "{there:?} in {fields:?}");
    }

    #[test]
    fn an_agent_that_is_broken_is_an_event_of_the_catalog() {
        let fields = told(Kind::Broken, &saved(Phase::Broken));
        let wanted = [("event", "agent-broken"), ("why", "it is so"), ("decision", "broken")];
        has(&fields, &wanted);
        has(&fields, &[("container", "ecs-agent"), ("state", "broken"), ("kind", "broken")]);
        lacks(&fields, &["endpoints", "address", "outage", "run", "hook"]);
    }

    #[test]
    fn endpoints_are_told_as_fields_with_their_addresses() {
        let fields = told(Kind::Ready, &saved(Phase::Ready { endpoints: set() }));
        let wanted = [("event", "endpoints-ready"), ("address", "10.50.1.10, 10.50.1.11")];
        has(&fields, &wanted);
        has(&fields, &[("endpoints", &set().to_string())]);
        lacks(&fields, &["container", "outage"]);
        // They lead elsewhere now.
        let mut saved = saved(Phase::Settled);
        saved.state.led = Some(EndpointSet::default());
        lacks(&told(Kind::EndpointsGone, &saved), &["endpoints", "address"]);
        saved.state.led = Some(set());
        has(&told(Kind::EndpointsGone, &saved), &[("address", "10.50.1.10, 10.50.1.11"), ("event", "endpoints-gone")]);
    }

    #[test]
    fn a_move_tells_its_run_and_its_outage_and_a_veto_its_hook() {
        let mut moved = saved(Phase::Settled);
        moved.state.tried = vec![set()];
        let outage = Outage { agent_s: Some(0.812), ..Outage::default() };
        let run = LastRun { run_id: "r1".into(), at: Timestamp::UNIX_EPOCH, acted: true, exit_code: 0, outage: None };
        moved.last_run = Some(LastRun { outage: Some(outage), ..run });
        let fields = told(Kind::Moved, &moved);
        has(
            &fields,
            &[("outage", "0.81"), ("run", "r1"), ("container", "ecs-agent"), ("endpoints", &set().to_string())],
        );
        lacks(&told(Kind::Settled, &moved), &["outage", "run", "container"]);
        let hold = Hold::Veto { hook: "10-deploy".into(), said: "no".into(), again_ms: 0 };
        let phase = Phase::Waiting { endpoints: set(), since_ms: 0, splay_until_ms: 0, agrees: true, hold };
        has(&told(Kind::Vetoed, &saved(phase)), &[("hook", "10-deploy")]);
    }

    #[test]
    fn a_rollout_is_told_with_its_execution_and_the_service_itself_with_nothing_of_the_host() {
        let mut saved = saved(Phase::Ready { endpoints: set() });
        let joined = Joined { endpoints: set(), execution: "e1".into(), earlier: 0, ask_ms: 0, fate: Fate::UnderWay };
        saved.state.joined = Some(joined);
        has(&told(Kind::Rollout, &saved), &[("execution", "e1"), ("address", "10.50.1.10, 10.50.1.11")]);
        lacks(&told(Kind::Started, &saved), &["decision", "endpoints", "address", "container", "execution"]);
    }
}
