//! How many hosts may run at a time, and what became of those whose test program died.

use super::command::run;
use anyhow::{Context, Result};
use std::{
    env, fs, process,
    sync::{Condvar, Mutex, Once, PoisonError},
};

/// Hosts at a time in one test program, unless `HOSTAGENT_LAB_HOSTS` says otherwise.
const AT_A_TIME: usize = 2;
/// Names the process that a host's container belongs to.
pub const LABEL: &str = "hostagent-lab.owner";

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

/// The right to run one host; given back when dropped.
pub struct Slot {
    _private: (),
}

impl Slot {
    /// Waits for its turn.
    pub fn take() -> Self {
        let most = env::var("HOSTAGENT_LAB_HOSTS").ok().and_then(|text| text.parse().ok()).unwrap_or(AT_A_TIME).max(1);
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = GIVEN_BACK.wait_while(taken, |taken| *taken >= most).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Slot { _private: () }
    }

    /// Waits until no host runs and takes as many turns at once, more than are given otherwise if need be: hosts that
    /// are there together cannot wait for one another.
    pub fn take_together(count: usize) -> Vec<Self> {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = GIVEN_BACK.wait_while(taken, |taken| *taken > 0).unwrap_or_else(PoisonError::into_inner);
        *taken += count;
        (0..count).map(|_| Slot { _private: () }).collect()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        GIVEN_BACK.notify_all();
    }
}

/// Who this process is: its ID and when it started, so that a later process of the same ID is another.
pub fn owner() -> Result<String> {
    let pid = process::id();
    let started = started(pid).context("could not tell when this process started")?;
    Ok(format!("{pid}:{started}"))
}

fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; field 22 is the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

/// Removes, once a process, the hosts of test programs that are gone, and the images made from them.
pub fn remove_orphans() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = try_remove_orphans() {
            eprintln!("could not remove hosts left by earlier tests: {error:#}");
        }
    });
}

fn try_remove_orphans() -> Result<()> {
    let ours = format!("label={LABEL}");
    let format = format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
    let listed = run("docker", &["ps", "--all", "--filter", &ours, "--format", &format])?;
    for (id, owner) in listed.lines().filter_map(|line| line.split_once(' ')) {
        if !is_alive(owner) {
            run("docker", &["rm", "--force", "--volumes", id])?;
        }
    }
    // `docker image ls` tells no labels.
    let format = format!("{{{{index .Config.Labels \"{LABEL}\"}}}}");
    for id in run("docker", &["image", "ls", "--quiet", "--no-trunc", "--filter", &ours])?.lines() {
        if !is_alive(run("docker", &["image", "inspect", "--format", &format, id])?.trim()) {
            run("docker", &["rmi", "--force", id])?;
        }
    }
    Ok(())
}

fn is_alive(owner: &str) -> bool {
    let alive = |(pid, start): (&str, &str)| pid.parse().ok().and_then(started).is_some_and(|now| now == start);
    owner.split_once(':').is_some_and(alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_is_another_owner() {
        let owner = owner().unwrap();
        let (pid, start) = owner.split_once(':').unwrap();
        assert_eq!(started(pid.parse().unwrap()).unwrap(), start);
        assert_ne!(started(1).unwrap_or_default(), start);
    }
}
