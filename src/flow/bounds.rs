//! Every bound and beat of a run, in one place.

use crate::{
    config::Settings,
    decide::{self, Policy},
    ports::docker,
};
use std::time::Duration;

/// For the lock of a restart: whoever only asks whether it is held has it for an instant.
pub const LOCK: Duration = Duration::from_secs(1);
/// Between two looks at the tasks.
pub const TASKS_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at an agent that is coming back.
pub const BACK_EVERY: Duration = Duration::from_millis(50);
/// The same where it is found late, by looks at the whole host.
pub const LATE_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at a job under way.
pub const JOB_EVERY: Duration = Duration::from_millis(250);
/// After a job that systemd says has failed there is little to wait for, in seconds.
pub const BACK_AFTER_FAILURE_S: u64 = 5;
/// Starts after the one that was asked for, when the agent does not come back.
pub const STARTS_AGAIN: u32 = 2;
/// Between two tries to halt the cluster: at first, and at most.
pub const HALT_EVERY: Duration = Duration::from_secs(1);
pub const HALT_EVERY_MOST: Duration = Duration::from_secs(20);
/// Tries to halt the cluster go on for so long once all else is done.
pub const HALT_AFTER: Duration = Duration::from_secs(120);
/// For all that has no bound of its own in the settings: looks, files, questions to SSM. In seconds.
const REST_S: u64 = 180;

/// The longest a confirmation may take, in seconds.
pub fn longest_confirmation_s(settings: &Settings) -> u64 {
    let look = 4 * (settings.network.dns_timeout_ms + settings.network.probe_timeout_ms) / 1000 + 2;
    let policy = Policy::new(settings, false);
    // One more than asked for: the first answers may have had almost nothing left of their TTL.
    decide::longest_s(&policy) + (u64::from(decide::samples(&policy)) + 1) * look
}

/// The longest a run may take, in seconds: the sum of its bounded waits.
pub fn longest_run_s(settings: &Settings) -> u64 {
    let restart = &settings.restart;
    let again = u64::from(STARTS_AGAIN);
    // An interrupted run may be waited for first.
    let taking_up = restart.deadline_s;
    // The Docker Engine stops a container for as long as it is told to, and answers that much later.
    let first = restart.job_s().max(docker::longest_restart_s(restart.docker_stop_timeout_s));
    let acting = first + again * restart.job_s() + (1 + again) * restart.deadline_s;
    taking_up
        + longest_confirmation_s(settings)
        + restart.task_wait_s
        + acting
        + restart.hold_s
        + HALT_AFTER.as_secs()
        + REST_S
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that systemd ends in the middle of it would leave the agent as it is.
    #[test]
    fn a_run_may_last_as_long_as_the_engine_may_stop_the_agent() {
        let longest = |stop_s| {
            let mut settings = Settings::default();
            settings.restart.docker_stop_timeout_s = stop_s;
            longest_run_s(&settings)
        };
        assert_eq!(longest(1), longest(90), "a job of systemd may take as long");
        assert_eq!(longest(600) - longest(90), 510);
    }
}
