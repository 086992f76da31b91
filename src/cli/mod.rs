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
mod watch;
mod worker;

use crate::{
    config::{self, Loaded, Settings},
    decide::exit,
    logging::{self, Target},
    report::{self, Format, Look, Render},
};
use anyhow::Result;
use args::{Cli, Command, ConfigCommand};
use clap::Parser;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::OnceLock,
};
use steps::Steps;

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

fn run(cli: Cli) -> Result<u8> {
    // What the service and a worker do belongs in the journal; a person asks for it with -v.
    let serves = matches!(cli.command, Command::Worker(_) | Command::Errand | Command::Watch);
    let verbosity = if serves { cli.global.verbose.max(1) } else { cli.global.verbose };
    logging::init(verbosity, Target::Auto)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // These two have their settings from whoever started them.
    match &cli.command {
        Command::Worker(args) => return runtime.block_on(worker::worker(args)),
        Command::Errand => return runtime.block_on(errand::errand()),
        _ => {}
    }
    let loaded = match config::load(&cli.global.config_source()) {
        Err(error) if matches!(cli.command, Command::Watch) => return Ok(watch::refused(&error)),
        loaded => loaded?,
    };
    let context = Context {
        settings: loaded.settings.clone(),
        loaded,
        format: cli.global.format,
        verbosity,
        command: match &cli.command {
            Command::Check(_) => "check",
            Command::Plan(_) => "plan",
            Command::Restart(_) => "restart",
            Command::Watch => "watch",
            Command::Status => "status",
            Command::Fleet(_) => "fleet",
            Command::Config(_) => "config",
            Command::Worker(_) => "worker",
            Command::Errand => "errand",
        },
        steps: match cli.global.format {
            Format::Human => Steps::for_people(verbosity > 0),
            _ => Steps::untold(),
        },
        closed: OnceLock::new(),
    };
    match &cli.command {
        Command::Check(args) => Ok(runtime.block_on(check::check(&context, args))),
        Command::Plan(args) => Ok(runtime.block_on(check::plan(&context, args))),
        Command::Restart(args) => runtime.block_on(restart::restart(&context, args)),
        Command::Watch => runtime.block_on(watch::watch(&context, cli.global.config_source())),
        Command::Status => status::status(&context),
        Command::Fleet(args) => runtime.block_on(fleet::fleet(&context, args)),
        Command::Config(ConfigCommand::Show) => {
            context.write(&config_show::config_show(&context.loaded, context.format));
            Ok(exit::SETTLED)
        }
        Command::Worker(args) => runtime.block_on(worker::worker(args)),
        Command::Errand => runtime.block_on(errand::errand()),
    }
}

impl Context {
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
