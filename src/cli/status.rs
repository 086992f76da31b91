//! `hostagent status`: the service's words, whether it runs or not.

use super::Context;
use crate::{
    config::Settings,
    decide::{self, Decision, History, Reason, exit},
    flow,
    ports::store::Lock,
    report::{self, BudgetView, ServiceState, StatusReport, TimeLineView, Verdict, Word},
    watch::{
        saved::{self, Saved},
        words,
    },
};
use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};

pub fn status(cli: &Context) -> Result<u8> {
    let settings = &cli.settings;
    let saved = saved::read(settings).context("the service's last words cannot be read")?;
    let report = report(settings, saved.as_ref(), running(settings), flow::history(settings).ok(), Timestamp::now());
    cli.print(&report);
    Ok(report.verdict.exit_code)
}

/// The service holds its lock as long as it runs; `None` when that cannot be told.
fn running(settings: &Settings) -> Option<bool> {
    let path = saved::lock(settings);
    if !path.exists() {
        return Some(false);
    }
    Lock::take(&path).ok().map(|lock| lock.is_none())
}

fn report(
    settings: &Settings,
    saved: Option<&Saved>,
    running: Option<bool>,
    history: Option<History>,
    now: Timestamp,
) -> StatusReport {
    let instance = saved.and_then(|s| s.state.instance_id.as_deref());
    let allowed = settings.restart.budget_per_day;
    let budget = history.map(|history| {
        let used = u32::try_from(decide::spent_today(&history, instance, now)).unwrap_or(u32::MAX);
        BudgetView { allowed, used, left: allowed.saturating_sub(used) }
    });
    StatusReport {
        verdict: verdict(saved, running, now),
        service: match running {
            Some(true) => ServiceState::Running,
            Some(false) => ServiceState::Stopped,
            None => ServiceState::Unknown,
        },
        state: saved.map(|s| words::phase(&s.state.phase).to_owned()),
        words: saved.map(|s| s.words.clone()),
        since: saved.and_then(|s| s.since),
        looked_at: saved.and_then(|s| s.looked_at),
        // A service that is down does not look.
        next_look: saved.and_then(|s| s.next_look).filter(|_| running != Some(false)),
        last_words_at: saved.and_then(|s| s.at),
        instance: instance.map(str::to_owned),
        paused: settings.watch.pause_file.exists(),
        budget,
        time_line: saved
            .iter()
            .flat_map(|s| &s.time_line)
            .map(|e| TimeLineView { at: e.at, kind: e.kind.id().to_owned(), text: e.text.clone() })
            .collect(),
    }
}

/// A service that has not written its words for so long after its next look was due cannot write them, or hangs.
const OVERDUE: SignedDuration = SignedDuration::from_secs(300);

fn verdict(saved: Option<&Saved>, running: Option<bool>, now: Timestamp) -> Verdict {
    // While a run is under way it does not look.
    let looks = |s: &&Saved| running == Some(true) && !s.state.phase.at_work();
    let due = saved.filter(looks).and_then(|s| s.next_look).filter(|due| now.duration_since(*due) > OVERDUE);
    let old = due.map(|due| {
        let text = format!("these words are old: the service runs, and a look was due at {due:.0}");
        Reason::new("words-old", text, "journalctl -u hostagent -n 20; df -h /run /var/lib/hostagent")
    });
    let down = (running == Some(false)).then(|| {
        Reason::new("service-down", "the service is not running; these are its last words", "systemctl start hostagent")
    });
    let Some((saved, decision)) = saved.and_then(|s| Some((s, s.decision.as_ref()?))) else {
        let why = if running == Some(true) { "the service has not looked yet" } else { "the service never ran here" };
        return Verdict {
            verdict: Word::Unknown,
            exit_code: exit::UNKNOWN,
            headline: why.into(),
            reasons: down.into_iter().chain(old).collect(),
        };
    };
    let busy =
        matches!(decision, Decision::Spent { reasons } if reasons.iter().any(|r| r.rule == decide::RULE_UNDER_WAY));
    Verdict {
        verdict: if busy { Word::Busy } else { Word::from(decision) },
        exit_code: decision.exit_code(),
        headline: match decision {
            Decision::Restart { .. } | Decision::Repair { .. } => saved.words.clone(),
            other => report::headline(other, &[]),
        },
        reasons: decision.reasons().iter().cloned().chain(down).chain(old).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{Look, Render},
        watch::state::{Kind, Note, Phase, State},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn saved() -> Saved {
        let reason = Reason::new("version-too-old", "agent 1.20.0 is too old", "upgrade the agent");
        let state = State { phase: Phase::Blocked, instance_id: Some("i-1".into()), ..State::default() };
        let decision = Decision::Refuse { reasons: vec![reason] };
        let mut saved = Saved { state, words: words::verdict(&decision), decision: Some(decision), ..Saved::default() };
        (saved.since, saved.at, saved.next_look) = (Some(at(0)), Some(at(60)), Some(at(120)));
        saved.add(at(0), &Note { kind: Kind::Blocked, text: "the agent cannot be moved safely".into() });
        saved
    }

    #[test]
    fn the_last_look_gives_the_exit_code_and_the_reasons_are_named() {
        let report = report(&Settings::default(), Some(&saved()), Some(true), Some(History::default()), at(90));
        assert_eq!((report.verdict.exit_code, report.service), (exit::REFUSED, ServiceState::Running));
        let page = report.human(Look::PLAIN);
        for word in ["REFUSED", "agent 1.20.0 is too old", "blocked", "2 of 2", "Next look", "cannot be moved safely"] {
            assert!(page.contains(word), "{word}: {page}");
        }
    }

    #[test]
    fn words_that_are_old_say_so() {
        let page = |second| {
            let history = Some(History::default());
            report(&Settings::default(), Some(&saved()), Some(true), history, at(second)).human(Look::PLAIN)
        };
        assert!(!page(400).contains("words are old"), "{}", page(400));
        assert!(page(430).contains("words are old") && page(430).contains("journalctl"), "{}", page(430));
    }

    #[test]
    fn a_service_that_is_down_says_so_and_still_tells() {
        let down = report(&Settings::default(), Some(&saved()), Some(false), None, at(90));
        let page = down.human(Look::PLAIN);
        assert!(page.contains("not running") && page.contains("agent 1.20.0") && !page.contains("Next look"), "{page}");
        let never = report(&Settings::default(), None, Some(false), None, at(90));
        assert_eq!(never.verdict.exit_code, exit::UNKNOWN);
        assert!(never.human(Look::PLAIN).contains("never ran"));
    }
}
