//! What an interrupted run left behind: proved untouched, or finished.

use super::{Run, SavedIntent, bounds::JOB_EVERY, finish};
use crate::{
    act,
    decide::{
        Decision, Reason, RecordedOutcome,
        recover::{self as judge, Late, Recovery, Seen},
    },
    facts::{Fact, Missing},
    observe::{self, Ask},
    ports::store,
    progress::{Event, RunResult},
};
use tokio::time::{Instant, sleep};

const RULE: &str = "interrupted-restart";

pub(super) enum Recovered {
    /// There was no interrupted run.
    Nothing,
    /// The interrupted run never touched the agent; go on as if it had not been.
    GoOn(String),
    /// The interrupted run was finished, or too little can be seen to finish it.
    Ended(Box<RunResult>),
}

pub(super) async fn recover(run: &Run<'_>) -> Recovered {
    let path = run.files().intent();
    let saved: SavedIntent = match store::read(&path) {
        Ok(None) => return Recovered::Nothing,
        Ok(Some(saved)) => saved,
        Err(error) => return stuck(run, format!("the intent of an interrupted restart cannot be read: {error}")),
    };
    let boot_id: Fact<String> = store::boot_id().map_err(Missing::from).into();
    let late = judge::late(&saved.intent, &boot_id, jiff::Timestamp::now());
    let interrupted = saved.intent.run_id.clone();
    let began = Instant::now();
    let found = loop {
        // No names: they say nothing of what was done to the agent.
        let seen = observe::look(run.ports, run.settings, &Ask::default()).await;
        if let Some((theirs, ours)) = saved.of_another(&seen) {
            return drop_it(run, &saved, theirs, ours);
        }
        let seen = Seen::of(&seen, &saved.intent.method, boot_id.clone());
        let found = judge::recover(&saved.intent, &seen, jiff::Timestamp::now());
        let waited = began.elapsed().as_secs();
        if found != Recovery::InProgress || waited >= saved.plan.deadline_s {
            break found;
        }
        sleep(JOB_EVERY).await;
    };
    let say = |text: &str| {
        run.tell(Event::Recovering { run_id: interrupted.clone(), text: text.to_owned() });
        format!("run {interrupted} was interrupted: {text}")
    };
    match found {
        Recovery::NotActed => {
            let text = say("it had not touched the agent");
            match finish::complete(run, &saved, RecordedOutcome::NotActed, None, None) {
                Ok(()) => Recovered::GoOn(text),
                Err(error) => stuck(run, format!("the record of an interrupted restart cannot be completed: {error}")),
            }
        }
        Recovery::ActedUp => {
            let since = late.map(|late| format!(" ({})", late.words())).unwrap_or_default();
            let text = say(&format!("the agent was restarted and is up{since}; verifying"));
            let result = finish::finish(run, saved, None, None, late).await;
            Recovered::Ended(Box::new(RunResult { recovered: Some(text), ..result }))
        }
        // Somebody may have stopped it on purpose since. Whoever wants it started says so.
        Recovery::ActedDown if late == Some(Late::LongAgo) && !run.allow_repair => {
            let text = say("the agent is down, and not started unasked so long after that");
            let ended = run.ended(Decision::Broken { reasons: vec![down(&saved)] }, None);
            Recovered::Ended(Box::new(RunResult { recovered: Some(text), ..ended }))
        }
        Recovery::ActedDown | Recovery::InProgress => {
            let text = say("the agent is down; starting it");
            let trouble = act::start_again(run.ports, run.settings, &saved.plan.method).await.err();
            let result = finish::finish(run, saved, trouble, None, late).await;
            Recovered::Ended(Box::new(RunResult { recovered: Some(text), ..result }))
        }
        Recovery::Unclear { why } => stuck(
            run,
            format!("a restart begun at {} was interrupted, and how far it came is not clear: {why}", saved.intent.at),
        ),
    }
}

/// Forgets what another instance was doing when an image was made of it: its agent is not this one.
fn drop_it(run: &Run<'_>, saved: &SavedIntent, theirs: &str, ours: &str) -> Recovered {
    let text = format!("it was of another instance, {theirs}, and came with the image of {ours}; dropped");
    run.tell(Event::Recovering { run_id: saved.intent.run_id.clone(), text: text.clone() });
    match store::remove(&run.files().intent()) {
        Ok(()) => Recovered::GoOn(format!("run {} was interrupted: {text}", saved.intent.run_id)),
        Err(error) => stuck(run, format!("the intent of another instance, {theirs}, cannot be removed: {error}")),
    }
}

/// Of an agent that is found down long after a restart of it was interrupted.
fn down(saved: &SavedIntent) -> Reason {
    let text = format!(
        "the agent is down; a restart of it was interrupted at {:.0}, so long ago that somebody may have stopped it since",
        saved.intent.at
    );
    let by_hand = act::what_to_type(&saved.plan.method);
    let remedy = format!("hostagent restart --repair starts it and finishes that restart. By hand: {by_hand}");
    Reason::new(RULE, text, remedy)
}

fn stuck(run: &Run<'_>, text: String) -> Recovered {
    let remedy = format!("once the agent is up, remove {} and try again", run.files().intent().display());
    let reason = Reason::new(RULE, text, remedy);
    Recovered::Ended(Box::new(run.ended(Decision::Unknown { reasons: vec![reason] }, None)))
}
