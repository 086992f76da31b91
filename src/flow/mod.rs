//! The one place that runs the flow: observe → assess → decide → act → verify.
//!
//! [`check`] stops after decide; [`restart`] goes through, in the worker that the command handed off to.

mod brakes;
mod confirm;
mod recover;
mod restart;

pub use brakes::read as read_brakes;
pub use confirm::longest_confirmation_s;
pub use restart::restart;

use crate::{
    assess::{self, Assessment},
    catalog::{CONTROL_PLANE, Requirement, Service, services},
    config::Settings,
    decide::{self, Decision, History, Plan, Policy, Reason, recover::Intent},
    facts::Observation,
    observe::{self, Ask},
    ports::{Ports, store},
    progress::{Event, Progress},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

/// What a look came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    pub observation: Observation,
    pub assessment: Assessment,
    pub decision: Decision,
    /// A restart that was begun and has not ended, in words.
    pub unfinished: Option<String>,
}

/// An intent on disk, with all that is needed to finish what it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedIntent {
    pub intent: Intent,
    pub plan: Plan,
    /// The host before it was touched, for the proof.
    pub before: Observation,
    pub record: decide::RestartRecord,
}

/// The files of the state and run-time directories.
pub struct Files<'a>(pub &'a Settings);

impl Files<'_> {
    pub fn history(&self) -> PathBuf {
        self.0.paths.state_dir.join("history.json")
    }

    pub fn intent(&self) -> PathBuf {
        self.0.paths.state_dir.join("intent.json")
    }

    pub fn lock(&self) -> PathBuf {
        self.0.paths.runtime_dir.join("restart.lock")
    }
}

/// Looks, assesses and decides; changes nothing.
///
/// `needs` add services to the three of the control plane, which are always looked at.
pub async fn check(ports: &Ports, settings: &Settings, needs: &[Requirement], allow_repair: bool) -> Check {
    let mut wanted: Vec<Service> = services(needs);
    wanted.extend(CONTROL_PLANE);
    wanted.sort();
    wanted.dedup();
    let (observation, assessment) = look(ports, settings, wanted).await;
    let decision = decide_here(&assessment, &observation, settings, allow_repair);
    Check { observation, assessment, decision, unfinished: unfinished(settings) }
}

/// What an intent on disk says: a restart is under way, or was interrupted.
fn unfinished(settings: &Settings) -> Option<String> {
    match store::read::<SavedIntent>(&Files(settings).intent()) {
        Ok(saved) => saved.map(|saved| {
            let SavedIntent { intent, .. } = saved;
            format!(
                "a restart begun at {:.0} (run {}) has not ended: it is under way, or was interrupted",
                intent.at, intent.run_id
            )
        }),
        Err(error) => Some(error.to_string()),
    }
}

/// One look and what it means. An agent that dials other names than the catalog's (another region, FIPS, dual stack,
/// `ECS_BACKEND_HOST`) is judged by its own, which are known only once it was looked at.
async fn look(ports: &Ports, settings: &Settings, services: Vec<Service>) -> (Observation, Assessment) {
    let ask = Ask { services, discover: settings.network.discover };
    let mut observation = observe::look(ports, settings, &ask).await;
    let mut more = assess::dialled_hosts(&observation, settings);
    more.retain(|(service, host)| {
        !observation.names.iter().any(|name| name.service == *service && assess::same_host(&name.host, host))
    });
    if !more.is_empty() {
        let names = observe::look_up(ports, more).await;
        observation.reach.extend(observe::probe(ports, settings, &names).await);
        observation.names.extend(names);
    }
    let assessment = assess::assess(&observation, settings);
    (observation, assessment)
}

/// Decides with the history on disk. A history that cannot be read is a missing fact: nothing is done without it.
fn decide_here(
    assessment: &Assessment,
    observation: &Observation,
    settings: &Settings,
    allow_repair: bool,
) -> Decision {
    let policy = Policy::new(settings, allow_repair);
    match history(settings) {
        Ok(history) => decide::decide(assessment, observation, &history, &policy, jiff::Timestamp::now()),
        Err(error) => {
            match decide::decide(assessment, observation, &History::default(), &policy, jiff::Timestamp::now()) {
                Decision::Restart { .. } | Decision::Repair { .. } => {
                    Decision::Unknown { reasons: vec![unreadable(&error)] }
                }
                other => other,
            }
        }
    }
}

/// What was done before on this host; empty where nothing was.
pub fn history(settings: &Settings) -> Result<History, store::StoreError> {
    Ok(store::read(&Files(settings).history())?.unwrap_or_default())
}

fn unreadable(error: &store::StoreError) -> Reason {
    Reason {
        rule: "history-unreadable".into(),
        text: format!("what was done before on this host is not known: {error}"),
        remedy: "mend or move the file, then try again".into(),
    }
}

/// A run under way in the worker.
pub struct Run<'a> {
    pub ports: &'a Ports,
    pub settings: &'a Settings,
    pub run_id: String,
    /// Where progress and result go.
    pub dir: PathBuf,
    /// Is told each step too: whoever makes the run in its own process.
    pub told: Option<&'a dyn Fn(&Progress)>,
    pub allow_repair: bool,
    /// Finish an interrupted run, and begin no other.
    pub recover_only: bool,
    /// Stop where the agent would be touched.
    pub dry_run: bool,
}

impl Run<'_> {
    fn files(&self) -> Files<'_> {
        Files(self.settings)
    }

    /// Tells a step to whoever follows and to the journal. Telling never fails a run.
    pub fn tell(&self, event: Event) {
        tracing::info!(run = %self.run_id, step = ?event, "step");
        let progress = Progress { at: jiff::Timestamp::now(), event };
        if let Some(told) = self.told {
            told(&progress);
        }
        if let Err(error) = append(&self.dir.join("progress.jsonl"), &progress) {
            tracing::warn!(%error, dir = %self.dir.display(), "progress could not be written");
        }
    }

    async fn look(&self) -> (Observation, Assessment) {
        look(self.ports, self.settings, CONTROL_PLANE.to_vec()).await
    }
}

fn append(path: &Path, progress: &Progress) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(progress)?;
    line.push(b'\n');
    // One write, so that a follower never sees half a line of a living worker.
    File::options().create(true).append(true).open(path)?.write_all(&line)
}
