//! What an interrupted run left behind: proved untouched, or finished.

use super::{Run, SavedIntent, restart};
use crate::{
    act,
    decide::{
        Decision, Reason, RecordedOutcome,
        recover::{self as judge, Recovery, Seen},
    },
    facts::{Fact, Missing},
    observe::{self, Ask},
    ports::store,
    progress::{Event, RunResult},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at a job under way.
const JOB_EVERY: Duration = Duration::from_millis(250);

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
    let interrupted = saved.intent.run_id.clone();
    let began = Instant::now();
    let found = loop {
        // No names: they say nothing of what was done to the agent.
        let seen = observe::look(run.ports, run.settings, &Ask::default()).await;
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
            match restart::complete(run, &saved, RecordedOutcome::NotActed, None) {
                Ok(()) => Recovered::GoOn(text),
                Err(error) => stuck(run, format!("the record of an interrupted restart cannot be completed: {error}")),
            }
        }
        Recovery::ActedUp => {
            let text = say("the agent was restarted and is up; verifying");
            let result = restart::finish(run, saved, None, None).await;
            Recovered::Ended(Box::new(RunResult { recovered: Some(text), ..result }))
        }
        Recovery::ActedDown | Recovery::InProgress => {
            let text = say("the agent is down; starting it");
            let trouble = act::start_again(run.ports, run.settings, &saved.plan.method).await.err();
            let result = restart::finish(run, saved, trouble.map(|e| e.to_string()), None).await;
            Recovered::Ended(Box::new(RunResult { recovered: Some(text), ..result }))
        }
        Recovery::Unclear { why } => stuck(
            run,
            format!("a restart begun at {} was interrupted, and how far it came is not clear: {why}", saved.intent.at),
        ),
    }
}

fn stuck(run: &Run<'_>, text: String) -> Recovered {
    let remedy = format!("once the agent is up, remove {} and try again", run.files().intent().display());
    let reason = Reason { rule: "interrupted-restart".into(), text, remedy };
    Recovered::Ended(Box::new(run.ended(Decision::Unknown { reasons: vec![reason] }, None)))
}
