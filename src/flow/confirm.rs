//! The agreeing look-ups before a restart, and the wait for tasks to settle.

use super::Run;
use crate::{
    assess,
    catalog::{CONTROL_PLANE, Service},
    config::Settings,
    decide::{self, Policy, Round},
    facts::{Fact, NameFact, Observation, Task},
    observe,
    progress::Event,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Between two looks at the tasks.
const TASKS_EVERY: Duration = Duration::from_secs(1);

/// The longest a confirmation may take, in seconds.
pub fn longest_confirmation_s(settings: &Settings) -> u64 {
    let look = 4 * (settings.network.dns_timeout_ms + settings.network.probe_timeout_ms) / 1000 + 2;
    let policy = Policy::new(settings, false);
    // One more than asked for: the first answers may have had almost nothing left of their TTL.
    decide::longest_s(&policy) + (u64::from(decide::samples(&policy)) + 1) * look
}

/// Looks the control plane's names up until as many answers as configured agree, each asked for when the one before
/// has gone from every cache, over more than one TTL; connects to every address each time. Ends early at the first that
/// disagrees: the rest could not mend it.
pub(super) async fn confirm(run: &Run<'_>, first: &Observation) -> Vec<Round> {
    let policy = Policy::new(run.settings, run.allow_repair);
    let of = decide::samples(&policy);
    // The rounds end by themselves as long as the clock goes on; should it stand still, this ends them.
    let (began, bound) = (Instant::now(), Duration::from_secs(longest_confirmation_s(run.settings)));
    let hosts = control_plane_hosts(&first.names);
    let mut rounds: Vec<Round> = Vec::new();
    loop {
        let at = jiff::Timestamp::now();
        let names = observe::look_up(run.ports, hosts.clone()).await;
        let answered = Instant::now();
        let reach = observe::probe(run.ports, run.settings, &names).await;
        let agrees = rounds.first().is_none_or(|r| same_addresses(&r.names, &names));
        rounds.push(Round { at, names, reach });
        // Not to be early by what a timer rounds.
        let next = decide::next_round(&rounds, &policy).map(|wait| answered + wait + Duration::from_millis(50));
        let next = next.filter(|next| agrees && next.duration_since(began) <= bound);
        let sample = u32::try_from(rounds.len()).unwrap_or(of).min(of);
        let next_in_s = next.map_or(0.0, |next| next.duration_since(Instant::now()).as_secs_f64());
        run.tell(Event::Confirming { sample, of, next_in_s });
        let Some(next) = next else { return rounds };
        sleep_until(next).await;
    }
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
