//! A plan in words.

use super::{Step, event::method_words};
use crate::{
    config::{Brake, Settings},
    decide::{self, Method, Plan},
};

/// What carrying out the plan does, in order, with the settings in effect.
pub fn plan_steps(plan: &Plan, settings: &Settings) -> Vec<Step> {
    let mut brakes_seen = false;
    let words = |step| {
        let again = step == decide::Step::Brakes && std::mem::replace(&mut brakes_seen, true);
        in_words(step, plan, settings, again)
    };
    plan.method.steps().into_iter().map(words).collect()
}

fn in_words(step: decide::Step, plan: &Plan, settings: &Settings, again: bool) -> Step {
    let step_of =
        |what: String, why: &str, on_failure: &str| Step { what, why: why.into(), on_failure: on_failure.into() };
    match step {
        decide::Step::Lock => step_of(
            "Take the lock, and finish a restart that was interrupted".into(),
            "One restart at a time.",
            "nothing is touched, exit code 75 if another restart is under way",
        ),
        decide::Step::Brakes => step_of(
            format!(
                "{}: {}",
                if again { "Once more, right before acting" } else { "Look at the brakes" },
                brakes(settings)
            ),
            if again { "Confirming and waiting for tasks may have taken minutes." } else { "" },
            "nothing is touched, exit code 12, or 75 where it passes by itself",
        ),
        decide::Step::Confirm => {
            let confirm = &settings.confirm;
            step_of(
                format!(
                    "Look up ecs, ecs-agent and ecs-telemetry {} times, over at least {} s and more than one TTL, \
                     and complete TLS with every address",
                    confirm.samples, confirm.min_spread_s
                ),
                "Answers rotate and hosts change over at different times: one look proves nothing.",
                "nothing is touched, exit code 11",
            )
        }
        decide::Step::Settle => step_of(
            match settings.restart.task_wait_s {
                0 => "Make sure that no task is between two states".to_owned(),
                limit => format!("Wait until no task is between two states, {limit} s at most"),
            },
            "Settled tasks keep running across a restart; one that is starting or stopping may be lost.",
            "nothing is touched, exit code 12",
        ),
        decide::Step::Permit => step_of(
            "Look at the whole host again, and decide anew".into(),
            "Only what is so right now counts.",
            "nothing is touched; the exit code says why",
        ),
        decide::Step::Write => step_of(
            format!("Write the intent to {}, and count the restart", settings.paths.state_dir.display()),
            "Counted before acting; killed at any instant, the next run finds the intent and finishes.",
            "nothing is touched, exit code 12",
        ),
        decide::Step::Act => {
            let (why, on_failure) = act(&plan.method);
            step_of(format!("Act: {}", method_words(&plan.method)), why, on_failure)
        }
        decide::Step::Back => step_of(
            format!("Wait until the agent answers and has registered, {} s at most", plan.deadline_s),
            "Its introspection server opens only after it has registered.",
            "it is started again; if that does not help, exit code 13",
        ),
        decide::Step::Verify => step_of(
            format!("Verify, and watch the new connections stand for {} s", settings.restart.hold_s),
            "Same container instance, cluster, version and tasks; no other container touched; credential rules in \
             place; all connections on endpoints.",
            match (plan.method.moves(), settings.fleet.brake) {
                (true, Brake::Required | Brake::IfAvailable) => {
                    "the cluster is halted; exit code 13, naming what could not be proved"
                }
                _ => "exit code 13, naming what could not be proved",
            },
        ),
    }
}

fn brakes(settings: &Settings) -> String {
    let fleet = &settings.fleet;
    let own = "for the service's own runs its pause file and its window";
    match (fleet.brake, fleet.calendars.as_slice()) {
        (Brake::Off, _) => format!("{own}; fleet.brake is \"off\""),
        (_, []) => format!("the cluster's halt; {own}"),
        (_, calendars) => format!("the cluster's halt; the calendars {}; {own}", calendars.join(", ")),
    }
}

/// Why it is done this way, and what follows when it fails.
fn act(method: &Method) -> (&'static str, &'static str) {
    match method {
        Method::RestartUnit { .. } => (
            "The unit owns the agent and makes a new container: a new ID, the same container instance. Through \
             Docker it would end dead.",
            "the unit is started again, a bounded number of times; a request that was not taken touches nothing",
        ),
        Method::StartUnit { .. } => (
            "Nothing supervised runs: the unit makes a new container in place of what is left.",
            "the unit is started again, a bounded number of times",
        ),
        Method::DockerRestart { .. } => (
            "No unit owns the container: Docker keeps its ID.",
            "the container is started again, a bounded number of times; a request that was not taken touches nothing",
        ),
    }
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
        settings.fleet.calendars = vec!["freeze".into()];
        let words = |plan: &Plan| plan_steps(plan, &settings).into_iter().map(|step| step.what).collect::<Vec<_>>();
        let all = words(&plan);
        assert!(all.len() == 10 && all[2].contains(" 3 times, over at least 5 s"), "{all:?}");
        assert!(all[1].starts_with("Look at the brakes") && all[1].contains("freeze"), "{all:?}");
        assert!(all[5].starts_with("Once more, right before acting"), "{all:?}");
        assert_eq!(all[3], "Make sure that no task is between two states");
        assert_eq!(all[7], "Act: systemctl restart ecs.service (over D-Bus)");
        assert!(all[8].contains("77 s at most"), "{all:?}");
        let start = Plan { method: Method::StartUnit { unit: "ecs.service".into() }, ..plan.clone() };
        assert!(
            words(&start).len() == 7 && words(&start)[4].starts_with("Act: systemctl start"),
            "{:?}",
            words(&start)
        );
    }
}
