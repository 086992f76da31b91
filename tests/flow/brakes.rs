//! What holds a host, up to the last moment.

use crate::host::{HALT, Host, refused, throttled};
use hostagent::{
    config::Brake,
    decide::{Decision, exit},
    progress::{Event, RunResult},
};
use std::fs;

fn rule(done: &RunResult) -> &str {
    assert!(!done.acted);
    &done.decision.reasons()[0].rule
}

/// Runs, and pulls a brake once the endpoints are being confirmed.
async fn pulled_meanwhile(host: &Host, own: bool, pull: impl Fn(&Host)) -> RunResult {
    let done = host
        .run_told(own, &|event| {
            if matches!(event, Event::Confirming { sample: 2, .. }) {
                pull(host);
            }
        })
        .await;
    assert_eq!(host.intent(), None);
    done
}

#[tokio::test]
async fn a_brake_pulled_while_it_gets_ready_holds() {
    let host = Host::movable();
    let done = pulled_meanwhile(&host, false, |host| {
        host.state().parameters.insert(HALT.into(), "by hand".into());
    })
    .await;
    assert_eq!((rule(&done), done.exit_code), ("cluster-halted", exit::REFUSED));

    let mut host = Host::movable();
    host.settings.fleet.calendars = vec!["freeze".into()];
    let done = pulled_meanwhile(&host, false, |host| host.state().open = Ok(false)).await;
    assert_eq!((rule(&done), done.exit_code), ("calendar-closed", exit::REFUSED));
    assert_eq!(host.state().touched, 0);
    assert!(host.history().restarts.is_empty());
}

#[tokio::test]
async fn the_service_s_own_run_is_held_by_pause_and_window_and_a_person_s_is_not() {
    let mut host = Host::movable();
    let pause = host.settings.watch.pause_file.clone();
    let done = pulled_meanwhile(&host, true, |_| fs::write(&pause, "").unwrap()).await;
    assert_eq!((rule(&done), done.exit_code), ("paused", exit::BUSY));
    fs::remove_file(&pause).unwrap();
    // A minute a week, and not this one.
    let day = |at: jiff::Timestamp| at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a").to_string();
    let in_two_days = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    host.settings.watch.window = vec![format!("{} 12:00-12:01 UTC", day(in_two_days)).parse().unwrap()];
    let done = host.run_told(true, &|_| {}).await;
    assert_eq!((rule(&done), done.exit_code), ("outside-window", exit::BUSY));
    assert_eq!(host.state().touched, 0);
    fs::write(&pause, "").unwrap();
    let done = host.run_told(false, &|_| {}).await;
    assert_eq!(done.exit_code, exit::SETTLED, "{:?}", done.decision);
}

#[tokio::test]
async fn a_halt_that_may_not_be_read_is_passed_over_and_one_that_could_be_read_is_waited_for() {
    // No permission: passed over.
    let host = Host::movable();
    host.state().reads.extend([refused(), refused()]);
    assert_eq!(host.run().await.exit_code, exit::SETTLED);
    assert!(!host.state_file("ssm.json").exists());
    // Never read before, and nobody answers: passed over.
    let host = Host::movable();
    host.state().reads.extend([throttled(), throttled()]);
    assert_eq!(host.run().await.exit_code, exit::SETTLED);
    // Read a moment ago, and nobody answers now: held.
    let host = Host::movable();
    let done = pulled_meanwhile(&host, false, |host| host.state().reads.push_back(throttled())).await;
    assert_eq!((rule(&done), done.exit_code), ("halt-unknown", exit::BUSY));
    assert!(host.state_file("ssm.json").exists());
    // So it is by the next run.
    host.state().reads.push_back(throttled());
    let done = host.run().await;
    assert_eq!((rule(&done), done.exit_code), ("halt-unknown", exit::BUSY));
    assert_eq!(host.run().await.exit_code, exit::SETTLED);
}

#[tokio::test]
async fn a_calendar_that_cannot_be_read_always_holds() {
    for (trouble, code) in [(refused(), exit::REFUSED), (throttled(), exit::BUSY)] {
        let mut host = Host::movable();
        host.settings.fleet.calendars = vec!["freeze".into()];
        host.state().open = Err(trouble);
        let done = host.run().await;
        assert_eq!((rule(&done), done.exit_code), ("calendar-unknown", code));
        host.settings.fleet.brake = Brake::Off;
        assert!(!matches!(host.run().await.decision, Decision::Refuse { .. } | Decision::Spent { .. }));
    }
}

/// What another instance could read says nothing of this one.
#[tokio::test]
async fn the_memory_of_an_image_is_not_taken_over() {
    let host = Host::movable();
    fs::create_dir_all(&host.settings.paths.state_dir).unwrap();
    let memory = r#"{"instance_id":"i-another","halt_read_at":"2026-01-01T00:00:00Z"}"#;
    fs::write(host.state_file("ssm.json"), memory).unwrap();
    host.state().reads.extend([throttled(), throttled()]);
    assert_eq!(host.run().await.exit_code, exit::SETTLED);
}
