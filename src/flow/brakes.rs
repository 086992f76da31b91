//! What holds a host back, looked at right before acting; and the cluster's halt, set when something went wrong.

use super::{
    Run,
    bounds::{HALT_AFTER, HALT_EVERY, HALT_EVERY_MOST},
};
use crate::{
    config::{self, Brake, Settings},
    decide::{self, Decision, brake::Brakes},
    events,
    facts::{AwsTrouble, Fact, Missing, Observation},
    fleet::halt::{self, Halt},
    ports::{Fleet, Ports, store},
    progress::{ClusterHalt, Event},
};
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

/// `ssm.json`: what this host has been able to ask of SSM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SsmMemory {
    /// The memory of another instance (a host from the same image) is not this one's.
    instance_id: String,
    /// When the cluster's halt was first read.
    halt_read_at: jiff::Timestamp,
}

/// Region and cluster, as far as the host knows them.
fn place(seen: &Observation) -> Result<(&str, &str), Missing> {
    let known = |what: &str, missing: &Missing| Missing::new(what, missing.why.clone(), missing.hint.clone());
    let region = match &seen.instance {
        Fact::Known(instance) => instance.region.as_str(),
        Fact::Unknown(missing) => return Err(known("the region, for the cluster's halt", missing)),
    };
    let cluster = match &seen.agent.introspection {
        Fact::Known(agent) => agent.cluster.rsplit('/').next().unwrap_or_default(),
        Fact::Unknown(missing) => return Err(known("the cluster, for its halt", missing)),
    };
    Ok((region, cluster))
}

/// Looks at everything that may hold this host now; the decision that does, if one does.
pub(super) async fn held(run: &Run<'_>, seen: &Observation) -> Result<(), Decision> {
    if run.own {
        let file = &run.settings.watch.pause_file;
        let paused = file.try_exists().map_err(|error| Missing::new(file.display().to_string(), error, ""));
        decide::brake::own(&paused.into(), config::opening(&run.settings.watch.window, jiff::Timestamp::now()))?;
    }
    let settings = &run.settings.fleet;
    if settings.brake == Brake::Off {
        return Ok(());
    }
    let brakes = match place(seen) {
        Err(missing) => {
            let unknown = AwsTrouble::NoAnswer(missing);
            let open = (!settings.calendars.is_empty()).then(|| Err(unknown.clone()));
            Brakes { halt: Err(unknown), open, read_before: false }
        }
        Ok(place) => {
            let instance = seen.instance.known().map(|instance| instance.instance_id.as_str());
            read(run.ports, run.settings, place, instance, !run.dry_run).await
        }
    };
    for unread in decide::brake::brake(&brakes, settings)? {
        tracing::info!(run = %run.run_id, "a brake of the fleet could not be read, and fleet.brake passes it over: {unread}");
    }
    Ok(())
}

/// The brakes of a cluster as they are now, to be asked for only where they are not off. With `keep`, that this instance
/// could read the halt is remembered from now on.
pub async fn read(ports: &Ports, settings: &Settings, of: (&str, &str), instance: Option<&str>, keep: bool) -> Brakes {
    let (region, cluster) = of;
    let calendars = &settings.fleet.calendars;
    let name = halt::parameter(cluster);
    let halt = ports.fleet.parameter(region, &name);
    let open = async {
        if calendars.is_empty() {
            return None;
        }
        Some(ports.fleet.is_open(region, calendars).await)
    };
    let (halt, open) = tokio::join!(halt, open);
    let read_before = instance.is_some_and(|instance| remember(settings, instance, keep && halt.is_ok()));
    Brakes { halt, open, read_before }
}

/// Whether this host could read the halt before, which is kept from the first time on.
fn remember(settings: &Settings, instance: &str, read: bool) -> bool {
    let path = super::Files(settings).ssm();
    let kept = match store::read::<SsmMemory>(&path) {
        Ok(kept) => kept.is_some_and(|kept| kept.instance_id == instance),
        // It was written once the halt had been read.
        Err(error) => {
            tracing::warn!(%error, "taken for a sign that the halt could be read before");
            return true;
        }
    };
    if read && !kept {
        let memory = SsmMemory { instance_id: instance.to_owned(), halt_read_at: jiff::Timestamp::now() };
        if let Err(error) = store::write(&path, &memory) {
            tracing::warn!(%error, "that the halt can be read here could not be kept");
        }
    }
    kept
}

/// The halt being written, while the host is mended and judged: others act meanwhile.
pub(super) struct Halting {
    name: String,
    /// Ends once it stands, or AWS refuses it.
    task: JoinHandle<Result<(), AwsTrouble>>,
    last: Arc<Mutex<Option<AwsTrouble>>>,
}

/// What is to be known at the end of a run about its halt.
pub(super) enum Halts {
    NotNeeded,
    Under(Halting),
    Not { why: String },
}

impl Halts {
    /// Begins to write the cluster's halt: this host was moved, and that cannot be verified.
    pub(super) fn begin(run: &Run<'_>, before: &Observation, why: &str) -> Self {
        if run.settings.fleet.brake == Brake::Off {
            return Halts::Not { why: "fleet.brake is \"off\"".into() };
        }
        let (region, cluster) = match place(before) {
            Ok(place) => place,
            Err(missing) => return Halts::Not { why: missing.to_string() },
        };
        let instance = before.instance.known().map(|instance| instance.instance_id.as_str());
        let halt = Halt::new(instance.unwrap_or(halt::NAMELESS_HOST), jiff::Timestamp::now(), why, instance);
        let name = halt::parameter(cluster);
        run.tell(Event::Halting { parameter: name.clone() });
        let last = Arc::new(Mutex::new(None));
        let write = write(run.ports.fleet.clone(), region.to_owned(), name.clone(), halt.value(), last.clone());
        Halts::Under(Halting { name, task: tokio::spawn(write), last })
    }

    pub(super) fn needed(&self) -> bool {
        !matches!(self, Halts::NotNeeded)
    }

    /// What became of it, [`HALT_AFTER`] from now at the latest.
    pub(super) async fn end(self, run: &Run<'_>) -> ClusterHalt {
        let halt = match self {
            Halts::NotNeeded => return ClusterHalt::NotNeeded,
            Halts::Not { why } => ClusterHalt::NotWritten { why },
            Halts::Under(halting) => halting.end().await,
        };
        match &halt {
            ClusterHalt::Written { parameter } => {
                tracing::warn!(event = events::CLUSTER_HALTED.name, run = %run.run_id, %parameter, "the cluster is halted")
            }
            ClusterHalt::NotWritten { why } => {
                tracing::error!(run = %run.run_id, "THE CLUSTER COULD NOT BE HALTED: {why}")
            }
            ClusterHalt::NotNeeded => {}
        }
        run.tell(Event::Halted { halt: halt.clone() });
        halt
    }
}

impl Halting {
    async fn end(mut self) -> ClusterHalt {
        let trouble = match timeout(HALT_AFTER, &mut self.task).await {
            Ok(Ok(Ok(()))) => return ClusterHalt::Written { parameter: std::mem::take(&mut self.name) },
            Ok(Ok(Err(refused))) => refused.to_string(),
            Ok(Err(lost)) => lost.to_string(),
            Err(_) => {
                let last = self.last.lock().ok().and_then(|mut last| last.take());
                let last = last.map_or_else(|| "no answer yet".to_owned(), |trouble| trouble.to_string());
                format!("{last}; given up {} s after the run was over", HALT_AFTER.as_secs())
            }
        };
        ClusterHalt::NotWritten { why: trouble }
    }
}

impl Drop for Halting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Writes it until it stands. A network that was just moved, a throttled Parameter Store, credentials that are being
/// renewed: all of these pass.
async fn write(
    fleet: Arc<dyn Fleet>,
    region: String,
    name: String,
    value: String,
    last: Arc<Mutex<Option<AwsTrouble>>>,
) -> Result<(), AwsTrouble> {
    let mut wait = HALT_EVERY;
    loop {
        match fleet.put_parameter_once(&region, &name, &value, halt::DESCRIPTION).await {
            Ok(()) => return Ok(()),
            Err(refused @ AwsTrouble::Refused(_)) => return Err(refused),
            Err(trouble) => {
                tracing::warn!("the cluster is not halted yet, and that is tried again in {wait:?}: {trouble}");
                if let Ok(mut last) = last.lock() {
                    *last = Some(trouble);
                }
            }
        }
        sleep(wait).await;
        wait = (wait * 2).min(HALT_EVERY_MOST);
    }
}

impl super::Files<'_> {
    /// What this host has been able to ask of SSM.
    fn ssm(&self) -> PathBuf {
        self.0.paths.state_dir.join("ssm.json")
    }
}
