//! Runs: handed off and followed, and what they came to.

use super::{errand::Told, rollout::Fate, state::RunEnd, words};
use crate::{
    act::handoff::{self, Job},
    config::{Brake, Settings},
    decide::{AgentRun, EndpointSet, brake, exit},
    facts::{ExecutionStatus, Missing},
    fleet::{documents::ROLLOUT, rollout},
    flow,
    ports::{ComplianceItem, Ports, systemd},
    progress::{Progress, RunResult},
    report::halt_words,
    text::cut,
};
use std::{collections::BTreeMap, path::Path};

/// Hands a run off and follows it.
pub(super) async fn run(settings: &Settings, program: &Path, job: Job, mut tell: impl FnMut(Told)) {
    let ports = Ports::of_this_host(settings);
    let booted = match systemd::booted() {
        Ok(booted) => booted,
        Err(missing) => return tell(Told::Lost(format!("it could not be begun: {missing}"))),
    };
    match handoff::hand_off(&ports, settings, program, job, handoff::as_unit(booted)).await {
        Err(error) => tell(Told::Lost(format!("it could not be begun: {error}"))),
        Ok(handoff) => {
            tell(Told::Began { run: handoff.run_id.clone() });
            follow(handoff, &ports, settings, tell).await;
        }
    }
}

/// Follows a run that an earlier service handed off.
pub(super) async fn rejoin(settings: &Settings, run: &str, mut tell: impl FnMut(Told)) {
    match handoff::rejoin(settings, run) {
        Err(error) => tell(Told::Lost(error.to_string())),
        Ok(None) => tell(Told::Lost(format!("nothing is left of run {run}"))),
        Ok(Some(handoff)) => follow(handoff, &Ports::of_this_host(settings), settings, tell).await,
    }
}

async fn follow(handoff: handoff::Handoff, ports: &Ports, settings: &Settings, mut tell: impl FnMut(Told)) {
    let followed = handoff.follow(ports, settings, |progress: Progress| tell(Told::Progress(Box::new(progress)))).await;
    tell(match followed {
        Ok(result) => Told::Ended(Box::new(result)),
        Err(error) => Told::Lost(error.to_string()),
    });
}

/// Starts the cluster's runbook, or joins the execution that another host started for the same endpoints; its ID.
///
/// The brakes come first, as before a restart: what holds this host holds it back from moving others, too.
pub(super) async fn roll_out(
    settings: &Settings,
    endpoints: &EndpointSet,
    after: Option<&str>,
) -> Result<String, String> {
    let ports = Ports::of_this_host(settings);
    let known = tokio::try_join!(ports.metadata.instance(), ports.introspect.metadata());
    let (instance, agent) = known.map_err(|missing| missing.to_string())?;
    let cluster = agent.cluster.rsplit('/').next().unwrap_or_default();
    if settings.fleet.brake != Brake::Off {
        let brakes =
            flow::read_brakes(&ports, settings, (&instance.region, cluster), Some(&instance.instance_id), true).await;
        let unread = brake::brake(&brakes, &settings.fleet).map_err(|held| words::why(&held))?;
        for unread in unread {
            tracing::info!("a brake of the fleet could not be read, and fleet.brake passes it over: {unread}");
        }
    }
    let parameters = parameters(settings, cluster)?;
    let token = rollout::token(cluster, endpoints, after);
    let started = ports.fleet.start_runbook(&instance.region, ROLLOUT, &parameters, &token).await;
    started.map_err(|missing| missing.to_string())
}

/// What a host asks the runbook for: its cluster, with the configured role, under the configured calendars.
fn parameters(settings: &Settings, cluster: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let fleet = &settings.fleet;
    let role = fleet.rollout_role.clone().ok_or("fleet.rollout_role is not set")?;
    let mut parameters = BTreeMap::from([
        ("Cluster".to_owned(), vec![cluster.to_owned()]),
        ("AutomationAssumeRole".to_owned(), vec![role]),
    ]);
    if !fleet.calendars.is_empty() {
        parameters.insert("Calendars".to_owned(), fleet.calendars.clone());
    }
    Ok(parameters)
}

/// What became of an execution of the runbook.
pub(super) async fn ask_after(settings: &Settings, execution: &str) -> Result<Fate, Missing> {
    let ports = Ports::of_this_host(settings);
    let instance = ports.metadata.instance().await?;
    Ok(match ports.fleet.execution(&instance.region, execution).await? {
        ExecutionStatus::UnderWay | ExecutionStatus::WaitsForApproval => Fate::UnderWay,
        ExecutionStatus::Success | ExecutionStatus::Failed => Fate::Ended,
        ExecutionStatus::Stopped => Fate::Cancelled,
    })
}

/// Tells SSM Compliance.
pub(super) async fn comply(settings: &Settings, compliant: bool, verdict: String, says: String) -> Result<(), Missing> {
    let ports = Ports::of_this_host(settings);
    let instance = ports.metadata.instance().await?;
    let details = BTreeMap::from([
        ("Verdict".to_owned(), verdict),
        ("Says".to_owned(), cut(&says, 1_000).into_owned()),
        ("HostagentVersion".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    let title = "The ECS agent reaches AWS through VPC endpoints".to_owned();
    let item = ComplianceItem { instance_id: instance.instance_id, compliant, title, details };
    ports.fleet.put_compliance(&instance.region, &item).await
}

/// A run's result as the states know it.
pub(super) fn end(result: &RunResult) -> RunEnd {
    let words = if !result.acted {
        words::verdict(&result.decision)
    } else if result.exit_code == exit::SETTLED {
        let away = result.outage.as_ref().and_then(|outage| outage.agent_s);
        let away = away.map(|s| format!("; it was away for {s:.2} s")).unwrap_or_default();
        format!("the agent was moved, and that is proved{away}")
    } else {
        let failed = result.outcome.iter().flat_map(|o| &o.checks).filter(|c| c.ok != Some(true));
        let failed: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
        match (result.alarms.first(), failed.as_slice()) {
            (Some(alarm), _) => format!("the agent was restarted, and is not proved to have moved: {alarm}"),
            (None, failed) => {
                format!("the agent was restarted, and is not proved to have moved: {}", failed.join(", "))
            }
        }
    };
    let words = match halt_words(&result.halt) {
        Some(halt) => format!("{words}; {halt}"),
        None => words,
    };
    let RunResult { acted, exit_code, decision, .. } = result;
    let agent = result.after.as_ref().filter(|_| *exit_code == exit::SETTLED).and_then(AgentRun::of);
    RunEnd { acted: *acted, exit_code: *exit_code, decision: decision.clone(), agent, words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runbook_is_asked_for_with_the_role_and_the_calendars_of_the_configuration() {
        let mut settings = Settings::default();
        assert!(parameters(&settings, "prod").unwrap_err().contains("fleet.rollout_role"));
        settings.fleet.rollout_role = Some("arn:aws:iam::111122223333:role/rollout".into());
        let names = |settings: &Settings| parameters(settings, "prod").unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(names(&settings), ["AutomationAssumeRole", "Cluster"]);
        settings.fleet.calendars = vec!["freeze".into(), "holidays".into()];
        assert_eq!(parameters(&settings, "prod").unwrap()["Calendars"], ["freeze", "holidays"]);
    }
}
