//! The first process of a container: an init that passes signals on, and one that only waits.

use super::container::exit_code;
use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use std::{env, ffi::OsString, process::ExitCode};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

/// Set in the environment of the engine's children: they end with the one who started them, however that ends.
pub const WITH_PARENT: &str = "LAB_DIE_WITH_PARENT";

/// Ends this process when its parent ends, if it was started that way.
pub fn die_with_parent() {
    if env::var_os(WITH_PARENT).is_some() {
        // Without it the process would only live longer than it should.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

/// `hostagent-lab init PROGRAM ARGUMENT…`: runs a program as its child, passes signals on and ends with its exit code.
///
/// # Errors
///
/// When the program cannot be started.
pub fn init(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    die_with_parent();
    let [_, program, arguments @ ..] = &args[..] else { bail!("no program given") };
    current_thread()?.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (mut hup, mut quit) = (signal(SignalKind::hangup())?, signal(SignalKind::quit())?);
        let mut child = Command::new(program).args(arguments).spawn().context(format!("start {program:?}"))?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid as i32)).context("the child has no PID")?;
        loop {
            let signal = tokio::select! {
                status = child.wait() => return Ok(ExitCode::from(exit_code(status?) as u8)),
                _ = term.recv() => Signal::TERM,
                _ = int.recv() => Signal::INT,
                _ = hup.recv() => Signal::HUP,
                _ = quit.recv() => Signal::QUIT,
            };
            // The child has ended in this very moment: the next turn sees it.
            let _ = kill_process(pid, signal);
        }
    })
}

/// `hostagent-lab pause`: does nothing until it is told to stop.
///
/// # Errors
///
/// When signals cannot be had.
pub fn pause() -> anyhow::Result<ExitCode> {
    die_with_parent();
    current_thread()?.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn current_thread() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}
