//! The run of a restart or repair, from the lock to the proof.

use super::{
    Run, SavedIntent, bounds, brakes, confirm, decide_here,
    finish::{complete, finish},
    history,
    recover::{self, Recovered},
    unreadable,
};
use crate::{
    act::{self, ActError, outage::Sampler},
    decide::{
        self, Ask, Decision, Permit, Plan, Policy, Reason, RecordedOutcome, RestartRecord, Round, Step,
        recover::{Identity, Intent, Phase},
    },
    events,
    facts::Observation,
    ports::store::{self, Lock, StoreError},
    progress::{ClusterHalt, Event, RunResult},
};

/// Records kept; at the default budget of two a day the oldest is weeks old.
const KEPT_RECORDS: usize = 100;

/// Runs to the end and tells what it came to. Never leaves the agent down without saying so in the alarms.
pub async fn restart(run: &Run<'_>) -> RunResult {
    // Held to the end of the function, released by the kernel if we are killed.
    let _lock = match Lock::take_within(&run.files().lock(), bounds::LOCK).await {
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
    let (mut rounds, mut seen, mut permitted) = (Vec::new(), first, None);
    for step in plan.method.steps() {
        match step {
            // Held since before the host was looked at.
            Step::Lock => {}
            Step::Brakes => {
                if let Err(decision) = brakes::held(run, &seen).await {
                    return run.ended(decision, Some(seen));
                }
            }
            Step::Confirm => rounds = confirm::confirm(run, &seen).await,
            Step::Settle => confirm::settle(run).await,
            Step::Permit => {
                (seen, _) = run.look().await;
                match permit(run, plan, &rounds, &seen) {
                    Ok(permit) => permitted = Some(permit),
                    Err(decision) => return run.ended(decision, Some(seen)),
                }
            }
            Step::Write | Step::Act | Step::Back | Step::Verify => break,
        }
    }
    match permitted {
        Some(permit) if !run.dry_run => carry_out(run, permit).await,
        _ => run.ended(decision, Some(seen)),
    }
}

fn permit(run: &Run<'_>, plan: &Plan, rounds: &[Round], fresh: &Observation) -> Result<Permit, Decision> {
    let history = history(run.settings).map_err(|error| Decision::Unknown { reasons: vec![unreadable(&error)] })?;
    let policy = Policy::new(run.settings, run.allow_repair);
    decide::permit(&Ask {
        plan,
        rounds,
        fresh,
        history: &history,
        settings: run.settings,
        policy: &policy,
        now: jiff::Timestamp::now(),
    })
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

/// The steps from [`Step::Write`] on: writes down what is about to be done, does it, proves it.
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
        Err(ActError::NotTaken(missing)) => {
            let text = format!("the request was not taken, and nothing was touched: {missing}");
            let reason = Reason::new("not-taken", text, "see to that, then run this again; it does not count");
            return not_acted(run, &saved, Decision::Refuse { reasons: vec![reason] });
        }
        Err(error) => Some(error),
    };
    if let Err(error) = saved.enter(run, Phase::Acted) {
        // Recovery can tell from the agent itself; the proof goes on.
        tracing::warn!(%error, "the restart was made and could not be noted");
    }
    finish(run, saved, trouble, Some(sampler), None).await
}

/// Strikes what was written down for an act that did not come to pass. What cannot be struck, recovery will.
fn not_acted(run: &Run<'_>, saved: &SavedIntent, decision: Decision) -> RunResult {
    if let Err(error) = complete(run, saved, RecordedOutcome::NotActed, None, None) {
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
        agent: None,
        outage_s: None,
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

impl SavedIntent {
    fn enter(&mut self, run: &Run<'_>, phase: Phase) -> Result<(), StoreError> {
        self.intent.phase = phase;
        self.intent.at = jiff::Timestamp::now();
        store::write(&run.files().intent(), self)
    }
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
            halt: ClusterHalt::NotNeeded,
            alarms: Vec::new(),
        }
    }
}
