//! The steps of a run in words.

use super::event::method_words;
use crate::{
    progress::{ClusterHalt, Event},
    text::clean,
};

/// A step as one line for people.
pub fn step_words(event: &Event) -> String {
    match event {
        Event::Started { run_id, unit: Some(unit) } => {
            format!("run {} goes on in {}, even if this command is killed", clean(run_id), clean(unit))
        }
        Event::Started { run_id, unit: None } => {
            format!("run {} goes on in a session of its own", clean(run_id))
        }
        Event::Recovering { run_id, text } => format!("run {} was interrupted: {}", clean(run_id), clean(text)),
        Event::Observed { verdict } => format!("looked at the host: {}", clean(verdict)),
        Event::Confirming { sample, of, next_in_s } if *next_in_s > 0.0 => {
            format!("confirming: look {sample} of {of}; the next in {next_in_s:.0} s")
        }
        Event::Confirming { sample, of, .. } => format!("confirming: look {sample} of {of}"),
        Event::WaitingForTasks { tasks, left_s } => {
            let shown: Vec<_> = tasks.iter().take(3).map(|task| clean(task)).collect();
            let more = if tasks.len() > 3 { format!(" and {} more", tasks.len() - 3) } else { String::new() };
            format!("waiting {left_s} s at most for tasks between states: {}{more}", shown.join(", "))
        }
        Event::IntentWritten => "intent written: from here on an interruption is recovered from".into(),
        Event::Acting { method } => format!("acting: {}", clean(&method_words(method))),
        Event::Back { after_s } => format!("the agent is back and connected, {after_s:.1} s after it was asked to"),
        Event::StartingAgain { attempt, of, why } => {
            format!("starting the agent again ({attempt} of {of}): {}", clean(why))
        }
        Event::Holding { seconds } => format!("watching the new connections stand for {seconds} s"),
        Event::Verified { ok: true } => "verified".into(),
        Event::Verified { ok: false } => "NOT VERIFIED".into(),
        Event::Halting { parameter } => format!("halting the cluster: writing {}", clean(parameter)),
        Event::Halted { halt } => halt_words(halt).unwrap_or_default(),
    }
}

/// What became of the cluster's halt, in a line; `None` where none was needed.
pub fn halt_words(halt: &ClusterHalt) -> Option<String> {
    match halt {
        ClusterHalt::NotNeeded => None,
        ClusterHalt::Written { parameter } => {
            Some(format!("the cluster is halted: no other host is moved while {} is set", clean(parameter)))
        }
        ClusterHalt::NotWritten { why } => Some(format!("THE CLUSTER IS NOT HALTED: {}", clean(why))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Method;

    #[test]
    fn a_step_is_one_clean_line() {
        let tasks: Vec<String> = ["a\u{1b}[2J PENDING", "b", "c", "d", "e"].map(Into::into).into();
        assert_eq!(
            step_words(&Event::WaitingForTasks { tasks, left_s: 299 }),
            "waiting 299 s at most for tasks between states: a\\u{1b}[2J PENDING, b, c and 2 more"
        );
        let confirming = |next_in_s| step_words(&Event::Confirming { sample: 2, of: 3, next_in_s });
        assert_eq!(confirming(2.4), "confirming: look 2 of 3; the next in 2 s");
        assert_eq!(confirming(0.0), "confirming: look 2 of 3");
        assert_eq!(
            step_words(&Event::Acting { method: Method::RestartUnit { unit: "ecs\n.service".into() } }),
            "acting: systemctl restart ecs\\n.service (over D-Bus)"
        );
    }
}
