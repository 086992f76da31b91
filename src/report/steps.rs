//! A plan in words.

use super::{Step, event::method_words};
use crate::{
    config::Settings,
    decide::{Method, Plan},
};

/// What carrying out the plan does, in order, with the settings in effect.
pub fn plan_steps(plan: &Plan, settings: &Settings) -> Vec<Step> {
    let step =
        |what: String, why: &str, on_failure: &str| Step { what, why: why.into(), on_failure: on_failure.into() };
    let mut steps = Vec::new();
    // A start mends what is down or unsupervised; it does not wait for endpoints.
    if !matches!(plan.method, Method::StartUnit { .. } | Method::DockerStart { .. }) {
        let confirm = &settings.confirm;
        steps.push(step(
            format!(
                "Look up ecs, ecs-agent and ecs-telemetry {} times, over at least {} s and more than one TTL, \
                 and complete TLS with every address",
                confirm.samples, confirm.min_spread_s
            ),
            "Answers rotate and hosts change over at different times: one look proves nothing.",
            "nothing is touched, exit code 11",
        ));
        let wait = match settings.restart.task_wait_s {
            0 => "Make sure that no task is between two states".to_owned(),
            limit => format!("Wait until no task is between two states, {limit} s at most"),
        };
        steps.push(step(
            wait,
            "Settled tasks keep running across a restart; one that is starting or stopping may be lost.",
            "nothing is touched, exit code 12",
        ));
    }
    steps.push(step(
        format!("Take the lock and write the intent to {}", settings.paths.state_dir.display()),
        "One restart at a time, counted before acting; killed at any instant, the next run finds the \
         intent and finishes.",
        "nothing is touched, exit code 75 if another restart is under way",
    ));
    let (why, on_failure) = match &plan.method {
        Method::RestartUnit { .. } => (
            "The unit owns the agent and makes a new container: a new ID, the same container instance. Through \
             Docker it would end dead.",
            "the unit is started again, a bounded number of times",
        ),
        Method::StartUnit { .. } => (
            "Nothing supervised runs: the unit makes a new container in place of what is left.",
            "the unit is started again, a bounded number of times",
        ),
        Method::DockerRestart { .. } | Method::DockerStart { .. } => (
            "No unit owns the container: Docker keeps its ID.",
            "the container is started again, a bounded number of times",
        ),
    };
    steps.push(step(format!("Act: {}", method_words(&plan.method)), why, on_failure));
    steps.push(step(
        format!("Wait until the agent answers and has registered, {} s at most", plan.deadline_s),
        "Its introspection server opens only after it has registered.",
        "it is started again; if that does not help, exit code 13",
    ));
    steps.push(step(
        format!("Verify, and watch the new connections stand for {} s", settings.restart.hold_s),
        "Same container instance, cluster, version and tasks; no other container touched; credential rules in place; \
         all connections on endpoints.",
        "exit code 13, naming what could not be proved",
    ));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::EndpointSet;

    #[test]
    fn steps_name_the_method_and_the_settings_in_effect() {
        let plan = Plan {
            method: Method::RestartUnit { unit: "ecs.service".into() },
            why: vec![],
            endpoints: EndpointSet::default(),
            deadline_s: 77,
        };
        let mut settings = Settings::default();
        settings.restart.task_wait_s = 0;
        let words = |plan: &Plan| plan_steps(plan, &settings).into_iter().map(|step| step.what).collect::<Vec<_>>();
        let all = words(&plan);
        assert!(all.len() == 6 && all[0].contains(" 3 times, over at least 5 s"), "{all:?}");
        assert_eq!(all[1], "Make sure that no task is between two states");
        assert_eq!(all[3], "Act: systemctl restart ecs.service (over D-Bus)");
        assert!(all[4].contains("77 s at most"), "{all:?}");
        let start = Plan { method: Method::StartUnit { unit: "ecs.service".into() }, ..plan.clone() };
        assert!(
            words(&start).len() == 4 && words(&start)[1].starts_with("Act: systemctl start"),
            "{:?}",
            words(&start)
        );
    }
}
