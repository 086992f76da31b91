//! Carries plans out. No policy here: a [`Permit`] is the only key, and only `decide` makes one.

pub mod handoff;
pub mod outage;

use crate::{
    config::Settings,
    decide::{Method, Permit},
    facts::Missing,
    ports::{Acted, Ports, Undone},
};

/// Why the agent could not be restarted or started.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The request did not get through: nothing was done.
    #[error("{0}")]
    NotTaken(Missing),
    /// The request was made, and what came of it is not known.
    #[error("{0}")]
    Unclear(Missing),
    #[error("the permit is too old: the host was last looked at more than a minute ago, and nothing was touched")]
    Stale,
    #[error("the job of {unit} ended as {result}: journalctl -u {unit}")]
    Job { unit: String, result: String },
}

impl From<Undone> for ActError {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::NotTaken(missing) => ActError::NotTaken(missing),
            Undone::Unclear(missing) => ActError::Unclear(missing),
        }
    }
}

/// Does what was permitted, once.
pub async fn execute(ports: &Ports, permit: Permit) -> Result<(), ActError> {
    if !permit.valid_at(jiff::Timestamp::now()) {
        return Err(ActError::Stale);
    }
    match &permit.plan().method {
        Method::RestartUnit { unit } => job(unit, ports.init.restart_unit(unit).await),
        Method::StartUnit { unit } => {
            // A unit that ended as failed may have used up its start limit.
            let _ = ports.init.reset_failed(unit).await;
            job(unit, ports.init.start_unit(unit).await)
        }
        Method::DockerRestart { container_id, stop_timeout_s } => {
            Ok(ports.engine.restart(container_id, *stop_timeout_s).await?)
        }
    }
}

/// Starts an agent that did not come back from what was done by `method`. Needs no permit: nothing that runs is
/// stopped by it, and an agent is never left down.
pub async fn start_again(ports: &Ports, settings: &Settings, method: &Method) -> Result<(), ActError> {
    match method {
        Method::RestartUnit { unit } | Method::StartUnit { unit } => {
            let _ = ports.init.reset_failed(unit).await;
            job(unit, ports.init.start_unit(unit).await)
        }
        Method::DockerRestart { container_id, .. } => {
            // By the name, should somebody have made it anew meanwhile.
            let id = match ports.engine.agent(&settings.agent.container).await {
                Ok(Some(container)) => container.id,
                _ => container_id.clone(),
            };
            Ok(ports.engine.start(&id).await?)
        }
    }
}

/// What a person types to start the agent.
pub fn what_to_type(method: &Method) -> String {
    match method {
        Method::RestartUnit { unit } | Method::StartUnit { unit } => {
            format!("Look: journalctl -u {unit} -n 50; then: systemctl reset-failed {unit}; systemctl start {unit}")
        }
        Method::DockerRestart { container_id, .. } => {
            let short = container_id.get(..12).unwrap_or(container_id);
            format!("Look: docker logs --tail 50 {short}; then: docker start {short}")
        }
    }
}

fn job(unit: &str, result: Acted<String>) -> Result<(), ActError> {
    match result?.as_str() {
        "done" => Ok(()),
        other => Err(ActError::Job { unit: unit.to_owned(), result: other.to_owned() }),
    }
}
