//! The agreeing look-ups before a restart, and the wait for tasks to settle.

use super::{Run, bounds::TASKS_EVERY};
use crate::{
    assess,
    catalog::{CONTROL_PLANE, Service},
    decide::{self, Policy, Round},
    facts::{Fact, NameFact, Observation, Task},
    observe,
    progress::Event,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Looks the control plane's names up as often as configured, spread over more than one TTL, and connects to every
/// address each time. Ends early at the first sample that disagrees: the rest could not mend it.
pub(super) async fn confirm(run: &Run<'_>, first: &Observation) -> Vec<Round> {
    let policy = Policy::new(run.settings, run.allow_repair);
    let of = run.settings.confirm.samples.max(2);
    let hosts = control_plane_hosts(&first.names);
    let mut rounds: Vec<Round> = Vec::new();
    for n in 1..=of {
        let at = jiff::Timestamp::now();
        let names = observe::look_up(run.ports, hosts.clone()).await;
        let reach = observe::probe(run.ports, run.settings, &names).await;
        let agrees = rounds.first().is_none_or(|r| same_addresses(&r.names, &names));
        rounds.push(Round { at, names, reach });
        // By the longest TTL seen so far, and a little over: whole seconds are what the proof counts.
        let spread = decide::spread_s(rounds.iter().flat_map(|r| &r.names), &policy);
        let pause = (Duration::from_secs(spread) + Duration::from_millis(50)).div_f64(f64::from(of - 1));
        let last = n == of || !agrees;
        let next_in_s = if last { 0.0 } else { pause.as_secs_f64() };
        run.tell(Event::Confirming { sample: n, of, next_in_s });
        if last {
            break;
        }
        sleep(pause).await;
    }
    rounds
}

fn control_plane_hosts(names: &[NameFact]) -> Vec<(Service, String)> {
    names.iter().filter(|n| CONTROL_PLANE.contains(&n.service)).map(|n| (n.service, n.host.clone())).collect()
}

fn same_addresses(a: &[NameFact], b: &[NameFact]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.host == b.host && a.answer.ips() == b.answer.ips())
}

/// Waits until no task is between states, for as long as configured. What is seen then is for the permit to judge.
pub(super) async fn settle(run: &Run<'_>) {
    let bound = Duration::from_secs(run.settings.restart.task_wait_s);
    let began = Instant::now();
    let mut told: Vec<String> = Vec::new();
    loop {
        let tasks: Fact<_> = run.ports.introspect.tasks().await.into();
        let moving = match tasks.known() {
            Some(tasks) => tasks.iter().filter(|task| !assess::settled(task)).map(short).collect::<Vec<_>>(),
            // Silence is not "settled"; the last look before the permit tells why it is silent.
            None => return,
        };
        let elapsed = began.elapsed();
        if moving.is_empty() || elapsed >= bound {
            return;
        }
        if moving != told {
            run.tell(Event::WaitingForTasks { tasks: moving.clone(), left_s: (bound - elapsed).as_secs() });
            told = moving;
        }
        sleep(TASKS_EVERY.min(bound - elapsed)).await;
    }
}

/// A task in a few words.
fn short(task: &Task) -> String {
    let id = task.arn.rsplit('/').next().unwrap_or(&task.arn);
    match task.desired_status.as_deref().filter(|desired| !desired.is_empty()) {
        Some(desired) => format!("{id} {} -> {desired}", task.known_status),
        None => format!("{id} {}", task.known_status),
    }
}
