//! The command line: one file a command; the only room that uses `anyhow`.

pub mod args;
mod check;
pub mod config_show;
mod errand;
pub mod fleet;
mod restart;
mod status;
mod steps;
mod views;
pub mod watch;
mod worker;

use crate::{
    config::{self, Loaded, Settings},
    decide::exit,
    logging::{self, Target},
    report::{self, Format, Look, Render},
};
use anyhow::Result;
use args::{Cli, Command, ConfigCommand, Global};
use clap::Parser;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::OnceLock,
};
use steps::Steps;
use tokio::runtime;

/// What every command needs.
pub struct Context {
    pub settings: Settings,
    loaded: Loaded,
    format: Format,
    command: &'static str,
    verbosity: u8,
    steps: Steps,
    /// A standard output that was closed is told once.
    closed: OnceLock<()>,
}

/// Parses, runs the command, and turns what it came to into the exit code.
pub fn main() -> ExitCode {
    // Usage errors, help and version end here, with clap's own codes.
    let cli = Cli::parse();
    let code = match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // The chain in one line: what, and each cause behind it. Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "hostagent: {error:#}");
            exit::UNKNOWN
        }
    };
    ExitCode::from(code)
}

fn run(Cli { global, command }: Cli) -> Result<u8> {
    match &command {
        Command::Check(args) => {
            let context = Context::new(&global, "check")?;
            Ok(block_on(check::check(&context, args))?)
        }
        Command::Plan(args) => {
            let context = Context::new(&global, "plan")?;
            Ok(block_on(check::plan(&context, args))?)
        }
        Command::Restart(args) => {
            let context = Context::new(&global, "restart")?;
            block_on(restart::restart(&context, args))?
        }
        Command::Watch => watch::become_the_service(&global.common),
        Command::Status => status::status(&Context::new(&global, "status")?),
        Command::Fleet(args) => {
            let context = Context::new(&global, "fleet")?;
            block_on(fleet::fleet(&context, args))?
        }
        Command::Config(ConfigCommand::Show) => {
            let context = Context::new(&global, "config")?;
            context.write(&config_show::config_show(&context.loaded, context.format));
            Ok(exit::SETTLED)
        }
        // These two have their settings from whoever started them, and what they do belongs in the journal.
        Command::Worker(args) => {
            logging::init(global.common.verbose.max(1), Target::Auto)?;
            block_on(worker::worker(args))?
        }
        Command::Errand => {
            logging::init(global.common.verbose.max(1), Target::Auto)?;
            block_on(errand::errand())?
        }
    }
}

/// Does what takes waiting. Whatever hangs on a disk by then has been waited for as long as it may be: its thread is left
/// to the end of the process, and not waited for any more.
fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

impl Context {
    /// Starts logging for a person, who asks with -v for what is done, and reads the configuration.
    fn new(global: &Global, command: &'static str) -> Result<Self> {
        logging::init(global.common.verbose, Target::Auto)?;
        let loaded = config::load(&global.common.config_source())?;
        Ok(Self {
            settings: loaded.settings.clone(),
            loaded,
            format: global.format,
            command,
            verbosity: global.common.verbose,
            steps: match global.format {
                Format::Human => Steps::for_people(global.common.verbose > 0),
                _ => Steps::untold(),
            },
            closed: OnceLock::new(),
        })
    }

    /// How far a long command is.
    fn bar(&self) -> fleet::Bar {
        fleet::Bar::new(self.format, self.verbosity > 0)
    }

    /// Prints a result in the format that was asked for.
    fn print<R: Render>(&self, report: &R) {
        self.write(&report::render(report, self.format, Look::of_stdout(), &self.report_file()));
    }

    /// Where the whole of a result goes that SSM would cut.
    fn report_file(&self) -> PathBuf {
        self.settings.paths.runtime_dir.join(format!("last-{}.json", self.command))
    }

    /// Whoever reads us may go away; that does not change what was found.
    fn write(&self, text: &str) {
        self.steps.end();
        let mut out = io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            self.closed
                .get_or_init(|| tracing::warn!("standard output was closed; the result is only in the exit code"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    #[test]
    fn what_hangs_on_a_disk_does_not_hold_up_the_end() {
        let (release, hangs) = mpsc::channel::<()>();
        let done = block_on(async {
            let (began, begun) = tokio::sync::oneshot::channel();
            drop(tokio::task::spawn_blocking(move || {
                let _ = began.send(());
                let _ = hangs.recv_timeout(Duration::from_secs(60));
            }));
            begun.await.is_ok()
        });
        assert!(done.unwrap());
        release.send(()).expect("it hangs still");
    }
}
