//! The second half of a run: the agent is brought back, and that it moved is proved.

use super::{
    Run, SavedIntent,
    bounds::{BACK_AFTER_FAILURE_S, BACK_EVERY, LATE_EVERY, STARTS_AGAIN},
    brakes::Halts,
    history,
};
use crate::{
    act::{self, ActError, outage::Sampler},
    assess::{self, Assessment, Need},
    catalog::Service,
    decide::{AgentRun, Decision, Method, RecordedOutcome, RestartRecord, exit, recover::Late},
    events,
    facts::{ContainerState, Systemd},
    ports::store::{self, StoreError},
    progress::{Event, Outage, RunResult},
    verify,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From "the restart was asked for" to the proof: waits for the agent, starts it again if it stays away, verifies,
/// completes the record. Also the second half of a recovery, then without a sampler, and `late` where it is. `trouble` is
/// what the request itself came to, where that was no success.
pub(super) async fn finish(
    run: &Run<'_>,
    saved: SavedIntent,
    trouble: Option<ActError>,
    sampler: Option<Sampler>,
    late: Option<Late>,
) -> RunResult {
    let plan = &saved.plan;
    // What was long ago is no reason to halt the others now, nor is mending what was broken before.
    let halts = late.is_none() && !saved.record.repair;
    let began = Instant::now();
    let mut alarms: Vec<String> = Vec::new();
    if let Some(error) = &trouble {
        tracing::warn!(run = %run.run_id, %error, "the request to touch the agent did not succeed, or that is not known");
    }
    let mut wait_s = first_wait_s(trouble.as_ref(), plan.deadline_s);
    let mut back = wait_until_back(run, &saved, wait_s, late).await;
    let mut why = format!("it is not back after {wait_s} s");
    if let Some(error) = &trouble {
        why = format!("{why}: {error}");
    }
    // Before it is mended, which takes time in which others would act.
    let mut halt = Halts::NotNeeded;
    if back != Back::Connected && halts {
        halt = Halts::begin(run, &saved.before, &format!("the ECS agent of this host was restarted and {why}"));
    }
    for attempt in 1..=STARTS_AGAIN {
        if back != Back::Down {
            break;
        }
        run.tell(Event::StartingAgain { attempt, of: STARTS_AGAIN, why: why.clone() });
        if let Err(error) = act::start_again(run.ports, run.settings, &plan.method).await {
            alarms.push(error.to_string());
        }
        wait_s = plan.deadline_s;
        back = wait_until_back(run, &saved, wait_s, late).await;
        why = format!("it is still not back after {wait_s} s");
    }
    if let Some(error) = trouble.filter(|_| back != Back::Connected) {
        alarms.insert(0, error.to_string());
    }
    match back {
        Back::Connected => run.tell(Event::Back { after_s: began.elapsed().as_secs_f64() }),
        Back::UpOnly => alarms.insert(
            0,
            format!("the agent is up and did not open its websockets to endpoint addresses within {wait_s} s"),
        ),
        Back::Down => alarms.insert(
            0,
            format!(
                "THE AGENT IS DOWN: started {} times, {why}. {}",
                STARTS_AGAIN + 1,
                act::what_to_type(&plan.method)
            ),
        ),
    }
    let outage = match sampler {
        Some(sampler) => sampler.finish().await,
        None => Outage::default(),
    };
    let (after, _) = run.look().await;
    let hold = run.settings.restart.hold_s;
    let later = if back == Back::Connected {
        run.tell(Event::Holding { seconds: hold });
        sleep(Duration::from_secs(hold)).await;
        run.look().await.0
    } else {
        after.clone()
    };
    let outcome = match late {
        None => verify::verify(&saved.before, &after, &later, run.settings),
        Some(late) => verify::verify_late(&saved.before, &after, &later, run.settings, late),
    };
    let ok = outcome.verified && back == Back::Connected;
    run.tell(Event::Verified { ok });
    announce(run, &saved, &outcome, &outage, back, ok);
    if !ok && !halt.needed() && halts {
        let failed: Vec<&str> = outcome.failed().map(|check| check.name.as_str()).collect();
        let why = format!("the restart of its ECS agent is not verified: {}", failed.join(", "));
        halt = Halts::begin(run, &saved.before, &why);
    }
    // While the intent is there: killed in between, the next run halts the cluster.
    let halt = halt.end(run).await;
    let (end, proved) = match ok {
        true => (RecordedOutcome::Verified, AgentRun::of(&later)),
        false => (RecordedOutcome::NotVerified, None),
    };
    if let Err(error) = complete(run, &saved, end, proved, outage.agent_s) {
        alarms.push(format!("the restart was made and its record could not be completed: {error}"));
    }
    let plan = saved.plan;
    RunResult {
        run_id: run.run_id.clone(),
        decision: if saved.record.repair { Decision::Repair { plan } } else { Decision::Restart { plan } },
        acted: true,
        recovered: None,
        before: Some(saved.before),
        after: Some(later),
        outcome: Some(outcome),
        outage: Some(outage),
        halt,
        alarms,
        exit_code: if ok { exit::SETTLED } else { exit::BROKEN },
    }
}

/// Tells the journal how the restart ended.
fn announce(run: &Run<'_>, saved: &SavedIntent, outcome: &verify::Outcome, outage: &Outage, back: Back, ok: bool) {
    let seconds = |s: Option<f64>| s.map_or_else(|| "unknown".to_owned(), |s| format!("{s:.2}"));
    let (agent, websockets) = (seconds(outage.agent_s), seconds(outage.websockets_s));
    let container = &run.settings.agent.container;
    let (run, endpoints) = (&run.run_id, &saved.plan.endpoints);
    if back == Back::Down {
        tracing::error!(event = events::AGENT_DOWN.name, %run, "THE ECS AGENT IS DOWN after it was restarted");
    }
    let known = match (ok, saved.record.repair) {
        (true, true) => events::REPAIRED,
        (true, false) => events::RESTART_VERIFIED,
        (false, _) => {
            let failed = outcome.checks.iter().filter(|c| c.ok != Some(true));
            let mut failed: Vec<String> = failed.map(|c| format!("{}: {}", c.name, c.text)).collect();
            if failed.is_empty() {
                failed.push("it was not back in time".into());
            }
            let failed = failed.join("; ");
            let event = events::RESTART_NOT_VERIFIED.name;
            tracing::error!(event, %run, %endpoints, %failed, "the restart of the ECS agent could not be verified");
            return;
        }
    };
    tracing::info!(
        event = known.name,
        %run,
        %endpoints,
        %container,
        outage = agent,
        agent_outage_s = agent,
        websockets_outage_s = websockets,
        "{}",
        known.subject
    );
}

/// Completes the record and forgets the intent, in this order: a kill in between only verifies twice. `agent` is the
/// one that was proved.
pub(super) fn complete(
    run: &Run<'_>,
    saved: &SavedIntent,
    outcome: RecordedOutcome,
    agent: Option<AgentRun>,
    outage_s: Option<f64>,
) -> Result<(), StoreError> {
    let mut history = history(run.settings)?;
    // The newest: a run that was interrupted untouched and began again has two records.
    match history.restarts.iter_mut().rfind(|r| r.run_id == saved.record.run_id) {
        Some(record) => (record.outcome, record.agent, record.outage_s) = (outcome, agent, outage_s),
        // Killed between intent and count.
        None if outcome == RecordedOutcome::NotActed => {}
        None => history.restarts.push(RestartRecord { outcome, agent, outage_s, ..saved.record.clone() }),
    }
    store::write(&run.files().history(), &history)?;
    store::remove(&run.files().intent())
}

/// How far the agent has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// Supervised, registered, its websockets on endpoint addresses.
    Connected,
    /// Supervised and registered, and no more by the deadline.
    UpOnly,
    Down,
}

/// How long the agent is waited for at first, in seconds. Once systemd says that the job failed, there is little to wait
/// for. A request whose answer is lost may well have been taken: it gets the time of any other, or the cluster would be
/// halted for a move that succeeds.
fn first_wait_s(trouble: Option<&ActError>, deadline_s: u64) -> u64 {
    match trouble {
        Some(ActError::Job { .. }) => BACK_AFTER_FAILURE_S.min(deadline_s),
        _ => deadline_s,
    }
}

/// Waits for the agent, so many seconds at most.
async fn wait_until_back(run: &Run<'_>, saved: &SavedIntent, wait_s: u64, late: Option<Late>) -> Back {
    let bound = Duration::from_secs(wait_s);
    let began = Instant::now();
    loop {
        let now = how_far(run, saved, late).await;
        if now == Back::Connected || began.elapsed() >= bound {
            return now;
        }
        sleep(if late.is_some() { LATE_EVERY } else { BACK_EVERY }).await;
    }
}

/// The cheapest question first: asked all the time, the others would hold up the restart itself.
async fn how_far(run: &Run<'_>, saved: &SavedIntent, late: Option<Late>) -> Back {
    let plan = &saved.plan;
    match run.ports.introspect.metadata().await {
        Ok(metadata) if metadata.container_instance_arn.is_some() => {}
        _ => return Back::Down,
    }
    let Ok(Some(container)) = run.ports.engine.agent(&run.settings.agent.container).await else { return Back::Down };
    let (ContainerState::Running, Some(pid)) = (container.state, container.pid) else { return Back::Down };
    if let Method::RestartUnit { unit } | Method::StartUnit { unit } = &plan.method {
        match run.ports.init.units(std::slice::from_ref(unit), &[]).await {
            Ok(Systemd::Booted { units }) if units.iter().any(|u| u.active_state == "active") => {}
            _ => return Back::Down,
        }
    }
    // A unit is active as soon as ecs-init runs; the agent it is about to replace may still answer, and well.
    let before = saved.intent.before.container.as_ref();
    if before.is_some_and(|b| b.id == container.id && b.started_at == container.started_at) {
        return Back::UpOnly;
    }
    if late.is_some() {
        // The endpoints of then say little now: by all that can be seen.
        return match run.look().await.1 {
            Assessment { need: Need::Nothing, .. } => Back::Connected,
            Assessment { need: Need::Stale { .. }, ready: false, .. } => Back::Connected,
            _ => Back::UpOnly,
        };
    }
    let Ok(sockets) = run.ports.sockets.established(pid).await else { return Back::UpOnly };
    let on = |service: Service| sockets.iter().any(|s| plan.endpoints.0.contains(&(service, s.peer.ip())));
    let wanted = assess::websockets_of(Some(&container));
    // A repair is not held up by endpoints that are not there.
    let known = wanted.iter().all(|w| plan.endpoints.0.iter().any(|(s, _)| s == w));
    if !known || wanted.iter().copied().all(on) { Back::Connected } else { Back::UpOnly }
}
