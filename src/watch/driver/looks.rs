//! Looks: when they are due, what they found, and who else is told of it.

use super::{Driver, up_ms};
use crate::{
    assess::{Assessment, Need},
    decide::{AgentRun, Decision, Reason},
    facts::{NameFact, Observation},
    flow::{self, Check, Files, SavedIntent},
    ports::store::{self, Lock},
    report::{
        inventory::InventoryView,
        metrics::{self, MetricsView, OneOf},
    },
    watch::{
        errand::Errand,
        saved::Saved,
        schedule,
        state::{Input, Kind, Lead},
        words,
    },
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// The rule of a look of which nothing came.
const LOOK_LOST: &str = "look-lost";
const LOOK_LOST_REMEDY: &str = "it is looked again by itself; by hand: hostagent check; then free -m; dmesg | tail";

impl Driver {
    pub(super) fn look_in(&mut self, wait: Duration) {
        self.look_at = self.look_at.min(Instant::now() + wait);
    }

    /// When to look: as planned, or sooner because something happened.
    pub(super) fn due(&self) -> Instant {
        let wait = |due: u64| Instant::now() + Duration::from_millis(due.saturating_sub(up_ms()));
        self.burst.due_ms().map_or(self.look_at, |due| self.look_at.min(wait(due)))
    }

    /// Begins a look, or takes up an interrupted run where there is one.
    pub(super) fn look(&mut self) {
        let answers = self.burst.looked(up_ms());
        if let Some(untold @ 1..) = answers {
            self.note(Kind::AgentEvent, format!("the agent's container: {untold} more events of the same kinds"));
        }
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
        let since_full = Duration::from_millis(up_ms().saturating_sub(self.full_look_ms));
        let alone = schedule::names_alone(&self.saved.state, since_full, answers.is_some(), &self.policy);
        let only = (self.names_decide && alone).then(|| self.names.clone());
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
        self.saved.looked_at = Some(Timestamp::now());
        self.look_again_in(wait);
    }

    fn look_again_in(&mut self, wait: Duration) {
        self.look_at = Instant::now() + wait;
        self.saved.next_look = Timestamp::now().checked_add(SignedDuration::try_from(wait).unwrap_or_default()).ok();
    }

    pub(super) fn unchanged(&mut self, names: Vec<NameFact>) {
        (self.looking, self.lost) = (None, 0);
        self.names = names;
        self.plan_next_look();
        self.step(&Input::Unchanged);
        self.publish();
    }

    /// A look that came to nothing is a look that saw nothing: never a reason to act, and one to look again soon.
    pub(super) fn look_lost(&mut self, why: &str) {
        self.looking = None;
        if self.saved.state.phase.at_work() {
            return;
        }
        self.lost = self.lost.saturating_add(1);
        self.saved.looks_lost = self.saved.looks_lost.saturating_add(1);
        tracing::debug!(in_a_row = self.lost, "nothing came of a look at the host: {why}");
        // What the names said before is no ground for half a look now.
        self.names_decide = false;
        let text = format!("nothing came of a look at the host: {why}");
        let decision = Decision::Unknown { reasons: vec![Reason::new(LOOK_LOST, text, LOOK_LOST_REMEDY)] };
        self.saved.decision = Some(decision.clone());
        self.told.get_or_insert_with(InventoryView::of_nothing);
        self.comply(&decision);
        let (asked_ms, lead) = (up_ms(), Lead::Unknown);
        self.step(&Input::Looked { decision, asked_ms, ttl_s: None, instance_id: None, agent: None, lead });
        self.look_again_in(schedule::after_lost(self.lost, &self.policy));
        self.publish();
    }

    pub(super) fn looked(&mut self, check: Check) {
        (self.looking, self.lost) = (None, 0);
        if self.saved.state.phase.at_work() {
            return;
        }
        let Check { observation, assessment, decision, .. } = check;
        self.full_look_ms = up_ms();
        self.measure(&observation, &assessment, &decision);
        self.names_decide = assessment.endpoint_set.0.is_empty() && matches!(decision, Decision::Waiting { .. });
        let agent = AgentRun::of(&observation);
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
        let took = u64::try_from(self.look_began.elapsed().as_millis()).unwrap_or(0);
        let asked_ms = up_ms().saturating_sub(took);
        let instance_id = assessment.instance_id;
        self.step(&Input::Looked { decision, asked_ms, ttl_s, instance_id, agent, lead });
        // A step may have asked for another look sooner.
        let asked = self.look_at;
        self.plan_next_look();
        self.look_at = self.look_at.min(asked);
        self.publish();
    }

    fn comply(&mut self, decision: &Decision) {
        if !self.settings.fleet.compliance || !self.compliance.is_due(decision) {
            return;
        }
        let (settings, verdict, says) = (self.settings.clone(), decision.word().to_owned(), words::why(decision));
        let compliant = *decision == Decision::Settled;
        self.send_out(Errand::Comply { settings, compliant, verdict, says });
    }

    pub(super) fn complied(&mut self, answer: Result<(), String>) {
        if let Some(words) = answer.err().and_then(|why| self.compliance.failed(&why)) {
            tracing::info!("{words}");
        }
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

    /// Somebody else did something to the agent: it is looked at once that has calmed down.
    pub(super) fn on_event(&mut self, action: &str) {
        // What our own run does to the agent is told by the run.
        if self.saved.state.phase.at_work() {
            return;
        }
        if self.burst.happened(action, up_ms()) {
            let text = match action {
                "engine" => "the Docker Engine answers again".to_owned(),
                action => format!("the agent's container: {action}"),
            };
            self.note(Kind::AgentEvent, text);
        }
        let planned = self.look_at;
        self.step(&Input::Disturbed);
        // The agent has to come back first: the burst says when.
        self.look_at = planned;
        self.names_decide = false;
    }
}
