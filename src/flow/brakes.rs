//! The fleet's brakes, read just before acting and set when something went wrong.

use super::Run;
use crate::{
    config::{Brake, FleetSettings},
    decide::{self, Decision, brake::Brakes},
    events,
    facts::{Fact, Missing, Observation},
    fleet::halt::{self, Halt},
    ports::Ports,
};

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

/// Reads the brakes; the decision that holds this host, if one does.
pub(super) async fn held(run: &Run<'_>, seen: &Observation) -> Result<(), Decision> {
    let settings = &run.settings.fleet;
    if settings.brake == Brake::Off {
        return Ok(());
    }
    let brakes = match place(seen) {
        Err(missing) => Brakes { halt: Fact::Unknown(missing), open: None },
        Ok((region, cluster)) => read(run.ports, settings, region, cluster).await,
    };
    for unread in decide::brake::brake(&brakes, settings)? {
        tracing::info!(run = %run.run_id, "a brake of the fleet could not be read, and fleet.brake passes it over: {unread}");
    }
    Ok(())
}

/// The brakes of a cluster as they are now. To be asked for only where they are not off.
pub async fn read(ports: &Ports, settings: &FleetSettings, region: &str, cluster: &str) -> Brakes {
    let name = halt::parameter(cluster);
    let halt = ports.fleet.parameter(region, &name);
    let open = async {
        if settings.calendars.is_empty() {
            return None;
        }
        Some(Fact::from(ports.fleet.is_open(region, &settings.calendars).await))
    };
    let (halt, open) = tokio::join!(halt, open);
    Brakes { halt: Fact::from(halt), open }
}

/// Halts the cluster: this host was moved, and that cannot be verified. Bounded, and never in the way of mending it.
pub(super) async fn halt(run: &Run<'_>, before: &Observation, why: &str) {
    if run.settings.fleet.brake == Brake::Off {
        return;
    }
    let put = async {
        let (region, cluster) = place(before)?;
        let instance = before.instance.known().map(|instance| instance.instance_id.as_str());
        let halt = Halt::new(instance.unwrap_or(halt::NAMELESS_HOST), jiff::Timestamp::now(), why, instance);
        let name = halt::parameter(cluster);
        run.ports.fleet.put_parameter_once(region, &name, &halt.value(), halt::DESCRIPTION).await?;
        Ok::<_, Missing>(name)
    };
    match put.await {
        Ok(parameter) => {
            tracing::warn!(event = events::CLUSTER_HALTED.name, run = %run.run_id, %parameter, "the cluster is halted")
        }
        Err(missing) => tracing::warn!(run = %run.run_id, "the cluster could not be halted: {missing}"),
    }
}
