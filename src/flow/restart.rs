//! The run of a restart or repair, from the lock to the proof.

use super::{
    Run, SavedIntent, brakes, confirm, decide_here, history,
    recover::{self, Recovered},
    unreadable,
};
use crate::{
    act::{self, ActError, outage::Sampler},
    catalog::Service,
    decide::{
        self, Ask, Decision, Method, Permit, Policy, Reason, RecordedOutcome, RestartRecord, exit,
        recover::{Identity, Intent, Phase},
    },
    events,
    facts::{ContainerState, Observation, Systemd},
    ports::store::{self, Lock, StoreError},
    progress::{Event, Outage, RunResult},
    verify,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at an agent that is coming back.
const BACK_EVERY: Duration = Duration::from_millis(50);
/// Records kept; at the default budget of two a day the oldest is weeks old.
const KEPT_RECORDS: usize = 100;
/// Starts after the one that was asked for, when the agent does not come back.
const STARTS_AGAIN: u32 = 2;

/// Runs to the end and tells what it came to. Never leaves the agent down without saying so in the alarms.
pub async fn restart(run: &Run<'_>) -> RunResult {
    // Held to the end of the function, released by the kernel if we are killed.
    let _lock = match Lock::take(&run.files().lock()) {
        Ok(Some(lock)) => lock,
        Ok(None) => return run.ended(Decision::Spent { reasons: vec![under_way()] }, None),
        Err(error) => return run.ended(cannot_write(&error), None),
    };
    if run.dry_run {
        // An interrupted run is left to the next that is not dry.
        return move_over(run).await;
    }
    let recovered = match recover::recover(run).await {
        Recovered::Nothing => None,
        Recovered::GoOn(text) => Some(text),
        Recovered::Ended(result) => return *result,
    };
    RunResult { recovered, ..move_over(run).await }
}

/// Looks, decides, confirms, asks for the permit, and acts on it.
async fn move_over(run: &Run<'_>) -> RunResult {
    let (first, assessment) = run.look().await;
    let decision = decide_here(&assessment, &first, run.settings, run.allow_repair);
    run.tell(Event::Observed { verdict: decision.word().to_owned() });
    if run.recover_only {
        return run.ended(decision, Some(first));
    }
    let plan = match &decision {
        Decision::Restart { plan } => plan,
        Decision::Repair { plan } if run.allow_repair => plan,
        _ => return run.ended(decision, Some(first)),
    };
    // Nothing that works is interrupted by a start: there is no endpoint to wait for, and no brake to ask.
    let rounds = if plan.method.moves() { confirm::confirm(run, &first).await } else { Vec::new() };
    confirm::settle(run).await;
    if plan.method.moves()
        && let Err(decision) = brakes::held(run, &first).await
    {
        return run.ended(decision, Some(first));
    }
    let (fresh, _) = run.look().await;
    let permit = match history(run.settings) {
        Err(error) => Err(Decision::Unknown { reasons: vec![unreadable(&error)] }),
        Ok(history) => {
            let policy = Policy::new(run.settings, run.allow_repair);
            decide::permit(&Ask {
                plan,
                rounds: &rounds,
                fresh: &fresh,
                history: &history,
                settings: run.settings,
                policy: &policy,
                now: jiff::Timestamp::now(),
            })
        }
    };
    match permit {
        Err(decision) => run.ended(decision, Some(fresh)),
        Ok(_) if run.dry_run => run.ended(decision, Some(fresh)),
        Ok(permit) => carry_out(run, permit).await,
    }
}

fn under_way() -> Reason {
    Reason {
        rule: decide::RULE_UNDER_WAY.into(),
        text: "another restart of the agent is under way on this host".into(),
        remedy: "wait for it: systemctl list-units 'hostagent-restart-*'".into(),
    }
}

fn cannot_write(error: &StoreError) -> Decision {
    let reason = Reason {
        rule: "state-not-writable".into(),
        text: format!("a restart must be recorded before it is made, and cannot be: {error}"),
        remedy: "mend the directory; nothing was touched".into(),
    };
    Decision::Refuse { reasons: vec![reason] }
}

/// Writes down what is about to be done, then does it.
async fn carry_out(run: &Run<'_>, permit: Permit) -> RunResult {
    let (plan, before) = (permit.plan().clone(), permit.before().clone());
    let mut saved = match begin(run, &permit) {
        Ok(saved) => saved,
        Err(decision) => return run.ended(decision, Some(before)),
    };
    run.tell(Event::IntentWritten);
    let sampler = Sampler::start(run.ports, run.settings, &plan.endpoints, &before);
    run.tell(Event::Acting { method: plan.method.clone() });
    if let Err(error) = saved.enter(run, Phase::Acting) {
        return not_acted(run, &saved, cannot_write(&error));
    }
    tracing::info!(
        event = events::RESTART_BEGUN.name,
        run = %run.run_id,
        repair = saved.record.repair,
        method = ?plan.method,
        endpoints = %plan.endpoints,
        container = %run.settings.agent.container,
        "restarting the ECS agent"
    );
    let trouble = match act::execute(run.ports, permit).await {
        Ok(()) => None,
        Err(error @ ActError::Stale) => {
            let reason = Reason::new("permit-stale", error.to_string(), "run this again");
            return not_acted(run, &saved, Decision::Unknown { reasons: vec![reason] });
        }
        Err(error) => Some(error.to_string()),
    };
    if let Err(error) = saved.enter(run, Phase::Acted) {
        // Recovery can tell from the agent itself; the proof goes on.
        tracing::warn!(%error, "the restart was made and could not be noted");
    }
    finish(run, saved, trouble, Some(sampler)).await
}

/// Strikes what was written down for an act that did not come to pass. What cannot be struck, recovery will.
fn not_acted(run: &Run<'_>, saved: &SavedIntent, decision: Decision) -> RunResult {
    if let Err(error) = complete(run, saved, RecordedOutcome::NotActed) {
        tracing::warn!(%error, "nothing was touched, and the record of it stands");
    }
    run.ended(decision, Some(saved.before.clone()))
}

/// The intent first, then the count: a kill in between leaves an intent that recovery proves was not acted upon.
fn begin(run: &Run<'_>, permit: &Permit) -> Result<SavedIntent, Decision> {
    let (plan, before) = (permit.plan(), permit.before());
    let now = jiff::Timestamp::now();
    let record = RestartRecord {
        run_id: run.run_id.clone(),
        at: now,
        endpoints: plan.endpoints.clone(),
        repair: permit.repair(),
        outcome: RecordedOutcome::Begun,
    };
    let intent = Intent {
        run_id: run.run_id.clone(),
        at: now,
        phase: Phase::Begun,
        method: plan.method.clone(),
        before: Identity::of(before, &plan.method).map_err(|missing| Decision::Unknown {
            reasons: vec![Reason::new("agent-unknown", missing.to_string(), "nothing was touched")],
        })?,
        boot_id: store::boot_id().map_err(|error| cannot_write(&error))?,
    };
    let saved = SavedIntent { intent, plan: plan.clone(), before: before.clone(), record: record.clone() };
    let written = store::write(&run.files().intent(), &saved).and_then(|()| count(run, record, before));
    if let Err(error) = written {
        // Left behind, it would only be found to be of a restart that never was.
        let _ = store::remove(&run.files().intent());
        return Err(cannot_write(&error));
    }
    Ok(saved)
}

fn count(run: &Run<'_>, record: RestartRecord, before: &Observation) -> Result<(), StoreError> {
    let mut history = history(run.settings)?;
    if let Some(instance) = before.instance.known()
        && history.instance_id != instance.instance_id
    {
        // Another instance from the same image: what was done there is not this host's.
        history = decide::History { instance_id: instance.instance_id.clone(), restarts: Vec::new() };
    }
    history.restarts.push(record);
    let old = history.restarts.len().saturating_sub(KEPT_RECORDS);
    history.restarts.drain(..old);
    store::write(&run.files().history(), &history)
}

/// From "the restart was asked for" to the proof: waits for the agent, starts it again if it stays away, verifies,
/// completes the record. Also the second half of a recovery, then without a sampler.
pub(super) async fn finish(
    run: &Run<'_>,
    saved: SavedIntent,
    trouble: Option<String>,
    sampler: Option<Sampler>,
) -> RunResult {
    let plan = &saved.plan;
    let began = Instant::now();
    let mut alarms: Vec<String> = Vec::new();
    let mut back = wait_until_back(run, &saved, trouble.is_some()).await;
    let mut why = trouble.unwrap_or_else(|| format!("it is not back after {} s", plan.deadline_s));
    // Before it is mended, which takes time in which others would act.
    let mut halted = back != Back::Connected && !saved.record.repair;
    if halted {
        brakes::halt(run, &saved.before, &format!("the ECS agent of this host was restarted and {why}")).await;
    }
    for attempt in 1..=STARTS_AGAIN {
        if back != Back::Down {
            break;
        }
        run.tell(Event::StartingAgain { attempt, of: STARTS_AGAIN, why: why.clone() });
        if let Err(error) = act::start_again(run.ports, run.settings, &plan.method).await {
            alarms.push(error.to_string());
        }
        back = wait_until_back(run, &saved, false).await;
        why = format!("it is still not back after {} s", plan.deadline_s);
    }
    match back {
        Back::Connected => run.tell(Event::Back { after_s: began.elapsed().as_secs_f64() }),
        Back::UpOnly => alarms.push(format!(
            "the agent is up and did not open both websockets to endpoint addresses within {} s",
            plan.deadline_s
        )),
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
    let rebooted = store::boot_id().is_ok_and(|id| id != saved.intent.boot_id);
    let compare = if rebooted { verify::verify_over_reboot } else { verify::verify };
    let outcome = compare(&saved.before, &after, &later, run.settings);
    let ok = outcome.verified && back == Back::Connected;
    run.tell(Event::Verified { ok });
    announce(run, &saved, &outcome, &outage, back, ok);
    halted |= ok || saved.record.repair;
    if !halted {
        let failed: Vec<&str> =
            outcome.checks.iter().filter(|c| c.ok != Some(true)).map(|check| check.name.as_str()).collect();
        brakes::halt(
            run,
            &saved.before,
            &format!("the restart of its ECS agent is not verified: {}", failed.join(", ")),
        )
        .await;
    }
    if let Err(error) = complete(run, &saved, if ok { RecordedOutcome::Verified } else { RecordedOutcome::NotVerified })
    {
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

/// Completes the record and forgets the intent, in this order: a kill in between only verifies twice.
pub(super) fn complete(run: &Run<'_>, saved: &SavedIntent, outcome: RecordedOutcome) -> Result<(), StoreError> {
    let mut history = history(run.settings)?;
    // The newest: a run that was interrupted untouched and began again has two records.
    match history.restarts.iter_mut().rfind(|r| r.run_id == saved.record.run_id) {
        Some(record) => record.outcome = outcome,
        // Killed between intent and count.
        None if outcome == RecordedOutcome::NotActed => {}
        None => history.restarts.push(RestartRecord { outcome, ..saved.record.clone() }),
    }
    store::write(&run.files().history(), &history)?;
    store::remove(&run.files().intent())
}

impl SavedIntent {
    fn enter(&mut self, run: &Run<'_>, phase: Phase) -> Result<(), StoreError> {
        self.intent.phase = phase;
        self.intent.at = jiff::Timestamp::now();
        store::write(&run.files().intent(), self)
    }
}

/// How far the agent has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// Supervised, registered, both websockets on endpoint addresses.
    Connected,
    /// Supervised and registered, and no more by the deadline.
    UpOnly,
    Down,
}

/// Waits for the agent, at most the plan's deadline. After a failed attempt there is little to wait for.
async fn wait_until_back(run: &Run<'_>, saved: &SavedIntent, failed: bool) -> Back {
    let plan = &saved.plan;
    let bound = Duration::from_secs(if failed { 5.min(plan.deadline_s) } else { plan.deadline_s });
    let began = Instant::now();
    loop {
        let now = how_far(run, saved).await;
        if now == Back::Connected || began.elapsed() >= bound {
            return now;
        }
        sleep(BACK_EVERY).await;
    }
}

/// The cheapest question first: asked all the time, the others would hold up the restart itself.
async fn how_far(run: &Run<'_>, saved: &SavedIntent) -> Back {
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
    let Ok(sockets) = run.ports.sockets.established(pid).await else { return Back::UpOnly };
    let on = |service: Service| sockets.iter().any(|s| plan.endpoints.0.contains(&(service, s.peer.ip())));
    // A repair is not held up by endpoints that are not there.
    let wanted = [Service::EcsAgent, Service::EcsTelemetry];
    let known = wanted.iter().all(|w| plan.endpoints.0.iter().any(|(s, _)| s == w));
    if !known || wanted.into_iter().all(on) { Back::Connected } else { Back::UpOnly }
}

impl Run<'_> {
    /// A run that ends without touching the agent.
    pub(super) fn ended(&self, decision: Decision, seen: Option<Observation>) -> RunResult {
        RunResult {
            run_id: self.run_id.clone(),
            exit_code: decision.exit_code(),
            decision,
            acted: false,
            recovered: None,
            before: seen,
            after: None,
            outcome: None,
            outage: None,
            alarms: Vec::new(),
        }
    }
}
