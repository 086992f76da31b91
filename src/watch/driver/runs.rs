//! Runs: handed off, followed to their end, and what they came to.

use super::{Driver, Message};
use crate::{
    act::handoff::Job,
    decide::Decision,
    progress::{Event, Progress, RunResult},
    report::step_words,
    watch::{
        errand::Errand,
        saved::LastRun,
        state::{Input, Phase},
        work,
    },
};
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::sleep;

/// So often a run is followed anew when its follower is lost; then it is left to the next look.
const REJOINS: u32 = 5;
/// Before the first time; twice as long before each further one.
const REJOIN: Duration = Duration::from_millis(200);

impl Driver {
    /// Hands a run off, to be followed by an errand.
    pub(super) fn hand_off(&mut self, recover_only: bool) {
        if let Some(look) = self.looking.take() {
            look.abort();
        }
        let job = Job { allow_repair: false, recover_only };
        self.send_out(Errand::Run { settings: self.settings.clone(), program: self.program.clone(), job });
    }

    pub(super) fn ended(&mut self, result: RunResult) {
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

    pub(super) fn progressed(&mut self, progress: &Progress) {
        tracing::info!("restart: {}", step_words(&progress.event));
        if matches!(progress.event, Event::Back { .. }) {
            self.step(&Input::Back);
        }
    }

    /// Whoever followed the run is gone. The run goes on in a unit of its own: it is followed anew.
    pub(super) fn follower_lost(&mut self, why: String) {
        let run = match &self.saved.state.phase {
            Phase::Acting { run: Some(run), .. } | Phase::Verifying { run: Some(run), .. } => run.clone(),
            // Nobody knows whether it was begun; an intent that it left is found by the next look.
            _ => return self.step(&Input::RunLost { why }),
        };
        if self.rejoined >= REJOINS {
            self.rejoined = 0;
            let why =
                format!("run {run} was followed anew {REJOINS} times, and its follower was lost each time: {why}");
            return self.step(&Input::RunLost { why });
        }
        tracing::warn!(%run, "the follower of the restart was lost, following it anew: {why}");
        let wait = REJOIN * (1 << self.rejoined.min(8));
        self.rejoined += 1;
        let messages = self.messages.clone();
        self.spawn(async move {
            sleep(wait).await;
            let _ = messages.send(Message::Rejoin(run));
        });
    }

    /// Follows a run that another process handed off, as long as it is the one that is waited for.
    pub(super) fn rejoin(&mut self, run: String) {
        match &self.saved.state.phase {
            Phase::Acting { run: Some(now), .. } | Phase::Verifying { run: Some(now), .. } if *now == run => {
                self.send_out(Errand::Rejoin { settings: self.settings.clone(), run });
            }
            _ => {}
        }
    }
}
