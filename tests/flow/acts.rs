//! What a run does to the agent, and what is left of it on disk.

use crate::{
    host::{Host, Request, rewrite},
    world,
};
use hostagent::{
    act::handoff::{HandoffError, Job, hand_off},
    decide::{Decision, RecordedOutcome, Step, exit, recover::Phase},
    facts::Fact,
    flow::Files,
    progress::{ClusterHalt, Event},
};
use std::{cell::RefCell, fs, time::Duration};

#[tokio::test]
async fn a_host_is_moved_and_that_is_proved() {
    let host = Host::movable();
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::SETTLED, "{:#?}", (&done.decision, &done.outcome, &done.alarms));
    assert!(done.acted && done.halt == ClusterHalt::NotNeeded && done.alarms.is_empty());
    let history = host.history();
    assert_eq!(history.restarts.len(), 1);
    assert_eq!(history.restarts[0].outcome, RecordedOutcome::Verified);
    assert!(host.intent().is_none());
    let state = host.state();
    assert_eq!((state.touched, state.put), (1, 0));
}

/// The plan that is shown is the one that is gone through.
#[tokio::test]
async fn the_steps_told_are_those_of_the_plan() {
    let host = Host::movable();
    let told = RefCell::new(Vec::new());
    let reads = RefCell::new(Vec::new());
    let done = host
        .run_told(false, &|event| {
            reads.borrow_mut().push(host.state().read);
            let step = match event {
                Event::Confirming { sample: 1, .. } => Step::Confirm,
                Event::IntentWritten => Step::Write,
                Event::Acting { .. } => Step::Act,
                Event::Back { .. } => Step::Back,
                Event::Verified { .. } => Step::Verify,
                _ => return,
            };
            told.borrow_mut().push((step, host.state().read));
        })
        .await;
    let plan = done.decision.plan().expect("a plan").method.steps();
    let tellable = [Step::Confirm, Step::Write, Step::Act, Step::Back, Step::Verify];
    let wanted: Vec<Step> = plan.iter().copied().filter(|step| tellable.contains(step)).collect();
    let told = told.into_inner();
    assert_eq!(told.iter().map(|(step, _)| *step).collect::<Vec<_>>(), wanted);
    // The brakes are read once for each time they stand in the plan before the step.
    for (step, reads) in told {
        let before = plan.iter().take_while(|other| **other != step).filter(|other| **other == Step::Brakes).count();
        assert_eq!(reads as usize, before, "{step:?}");
    }
}

#[tokio::test]
async fn a_request_that_was_not_taken_touched_nothing_and_does_not_count() {
    let host = Host::movable();
    host.state().requests.push_back(Request::NotTaken);
    let done = host.run().await;
    assert_eq!((done.acted, done.exit_code), (false, exit::REFUSED), "{:?}", done.decision);
    let Decision::Refuse { reasons } = &done.decision else { panic!("{:?}", done.decision) };
    assert!(reasons[0].rule == "not-taken" && reasons[0].text.contains("nothing was touched"), "{reasons:?}");
    assert!(reasons[0].text.contains("connection refused"), "{reasons:?}");
    assert_eq!((done.halt, host.state().put), (ClusterHalt::NotNeeded, 0));
    assert_eq!(host.history().restarts[0].outcome, RecordedOutcome::NotActed);
    assert!(host.intent().is_none());
    // The very same set may be tried at once.
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::SETTLED, "{:?}", done.decision);
}

#[tokio::test]
async fn a_request_whose_answer_was_lost_is_verified() {
    let host = Host::movable();
    host.state().requests.push_back(Request::Lost);
    let done = host.run().await;
    assert!(done.acted && done.exit_code == exit::SETTLED, "{:?} {:?}", done.decision, done.outcome);
    assert_eq!(host.history().restarts[0].outcome, RecordedOutcome::Verified);
}

/// It may well have been taken: a few seconds more, and nobody has to be halted.
#[tokio::test]
async fn a_request_whose_answer_was_lost_gets_the_time_of_any_other() {
    let mut host = Host::movable();
    host.settings.restart.deadline_s = 60;
    {
        let mut state = host.state();
        state.requests.push_back(Request::Lost);
        state.connects_after = Duration::from_secs(6);
    }
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::SETTLED, "{:#?}", (&done.alarms, &done.outcome));
    assert_eq!((done.halt, host.state().put), (ClusterHalt::NotNeeded, 0));
    assert!(done.alarms.is_empty(), "{:?}", done.alarms);
}

#[tokio::test]
async fn a_job_that_failed_is_told_with_the_wait_that_was_made_after_it() {
    let mut host = Host::movable();
    host.settings.restart.deadline_s = 3_600;
    {
        let mut state = host.state();
        state.requests.push_back(Request::Failed);
        state.connects_after = Duration::from_secs(3_600);
    }
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::BROKEN);
    let [up, failed] = done.alarms.as_slice() else { panic!("{:?}", done.alarms) };
    assert!(up.contains("did not open its websockets") && up.ends_with("within 5 s"), "{up}");
    assert!(failed.contains("the job of ecs.service ended as failed"), "{failed}");
    let halt = host.state().parameters[crate::host::HALT].clone();
    assert!(halt.contains("not back after 5 s: the job of ecs.service ended as failed"), "{halt}");
}

#[tokio::test]
async fn an_agent_without_telemetry_needs_one_websocket() {
    let host = Host::movable();
    {
        let mut state = host.state();
        let off = |seen: &mut hostagent::facts::Observation| {
            let env = &mut world::agent_container(seen).env;
            env.insert("ECS_DISABLE_METRICS".into(), "true".into());
            env.insert("ECS_DISABLE_DOCKER_HEALTH_CHECK".into(), "true".into());
        };
        let state = &mut *state;
        off(&mut state.seen);
        off(&mut state.moved);
        let Fact::Known(sockets) = &mut state.moved.sockets else { unreachable!() };
        // The telemetry endpoint's.
        sockets.remove(2);
    }
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::SETTLED, "{:#?}", (&done.alarms, &done.outcome));
}

/// A run that was killed once the agent had been moved.
async fn interrupted() -> Host {
    let host = Host::movable();
    let intent = Files(&host.settings).intent();
    let kept = RefCell::new(Vec::new());
    host.run_told(false, &|event| {
        if matches!(event, Event::Back { .. }) {
            *kept.borrow_mut() = fs::read(&intent).expect("the intent");
        }
    })
    .await;
    fs::write(&intent, kept.into_inner()).unwrap();
    assert_eq!(host.intent().expect("the intent").intent.phase, Phase::Acted);
    host
}

#[tokio::test]
async fn an_interrupted_run_is_verified_once() {
    let host = interrupted().await;
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::SETTLED, "{:#?}", (&done.decision, &done.outcome));
    assert!(done.recovered.as_deref().is_some_and(|text| text.contains("verifying")), "{:?}", done.recovered);
    assert!(host.intent().is_none());
    assert_eq!((host.state().touched, host.history().restarts.len()), (1, 1));
}

#[tokio::test]
async fn what_an_old_intent_left_is_finished_without_an_alarm() {
    for rebooted in [false, true] {
        let host = interrupted().await;
        rewrite(&Files(&host.settings).intent(), |saved| {
            if rebooted {
                saved.intent.boot_id = "another".into();
            } else {
                saved.intent.at = world::t0();
            }
        });
        {
            // Days later: other tasks, other containers, and the endpoints have other addresses.
            let mut state = host.state();
            state.seen.agent.tasks = Fact::Known(vec![]);
            state.seen.workloads = Fact::Known(vec![]);
            state.seen.sockets = Fact::Known(world::public_sockets());
            for name in &mut state.seen.names {
                name.answer = world::answer(&["198.51.100.10".parse().unwrap()], 60);
            }
        }
        let done = host.run().await;
        assert_eq!(done.exit_code, exit::SETTLED, "{:#?}", (&done.alarms, &done.outcome));
        assert!(done.alarms.is_empty() && done.halt == ClusterHalt::NotNeeded);
        assert!(host.intent().is_none());
    }
}

/// By then somebody may have stopped it on purpose.
#[tokio::test]
async fn an_agent_found_down_long_after_is_started_only_if_that_is_asked_for() {
    let mut host = interrupted().await;
    rewrite(&Files(&host.settings).intent(), |saved| saved.intent.at = world::t0());
    host.state().goes_down();
    let done = host.run().await;
    assert_eq!((done.acted, done.exit_code), (false, exit::BROKEN));
    let Decision::Broken { reasons } = &done.decision else { panic!("{:?}", done.decision) };
    assert!(reasons[0].text.starts_with("the agent is down"), "{reasons:?}");
    assert!(reasons[0].remedy.contains("hostagent restart --repair"), "{reasons:?}");
    assert!(host.intent().is_some() && host.state().touched == 1);
    host.repair = true;
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::SETTLED, "{:#?}", (&done.alarms, &done.outcome));
    assert!(host.intent().is_none() && host.state().touched == 2);
}

/// Soon after, nobody else can have stopped it.
#[tokio::test]
async fn an_agent_found_down_soon_after_is_started() {
    let host = interrupted().await;
    host.state().goes_down();
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::SETTLED, "{:#?}", (&done.alarms, &done.outcome));
    assert_eq!(host.state().touched, 2);
}

#[tokio::test]
async fn an_agent_that_was_just_booted_gets_its_time_to_connect() {
    let host = interrupted().await;
    rewrite(&Files(&host.settings).intent(), |saved| {
        (saved.intent.boot_id, saved.plan.deadline_s) = ("another".into(), 60);
    });
    host.state().silent = 3;
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::SETTLED, "{:#?}", (&done.alarms, &done.outcome));
    assert_eq!(host.state().silent, 0);
}

#[tokio::test]
async fn what_is_found_soon_is_judged_strictly() {
    let host = interrupted().await;
    host.state().seen.workloads = Fact::Known(vec![]);
    let done = host.run().await;
    assert_eq!(done.exit_code, exit::BROKEN);
    assert!(matches!(done.halt, ClusterHalt::Written { .. }), "{:?}", done.halt);
}

#[tokio::test]
async fn the_intent_of_another_instance_is_dropped() {
    let host = interrupted().await;
    {
        let mut state = host.state();
        let Fact::Known(instance) = &mut state.seen.instance else { unreachable!() };
        instance.instance_id = "i-0f00dfacade00002".into();
    }
    let done = host.run().await;
    let said = done.recovered.as_deref().unwrap_or_default();
    assert!(
        said.contains(world::INSTANCE) && said.contains("i-0f00dfacade00002") && said.contains("dropped"),
        "{said}"
    );
    assert!(host.intent().is_none());
    // This one's agent is on the endpoints, and nothing was done to it.
    assert_eq!((done.decision, host.state().touched), (Decision::Settled, 1));
}

#[tokio::test]
async fn a_worker_whose_start_was_not_answered_is_followed() {
    let host = Host::movable();
    let (ports, program) = (host.ports(), std::path::Path::new("/bin/false"));
    host.state().requests.extend([Request::NotTaken, Request::Lost]);
    let begun = async || hand_off(&ports, &host.settings, program, Job::default(), true).await;
    assert!(matches!(begun().await, Err(HandoffError::Unit(_))), "turned down");
    let handoff = begun().await.unwrap();
    // The manager knows no such unit: it was not begun after all.
    let followed = handoff.follow(&ports, &host.settings, |_| {}).await;
    assert!(matches!(followed, Err(HandoffError::Died { .. })));
}
