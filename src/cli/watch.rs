//! `hostagent watch`: the service.
//!
//! Two programs have a part in it. `hostagent` becomes `hostagent-watch`, which lies beside it and is small because it
//! stays; and that one has `hostagent` do what takes more than waiting.

use super::{args::Common, block_on};
use crate::{
    config::{self, ConfigError},
    decide::exit,
    events,
    logging::{self, Target},
    watch::driver::{self, WatchError},
};
use anyhow::{Context as _, Result};
use clap::Parser;
use std::{
    env,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

/// The program that stays.
const SERVICE: &str = "hostagent-watch";
/// The one that does everything else.
const HOSTAGENT: &str = "hostagent";

/// The service's own command line.
#[derive(Debug, Parser)]
#[command(name = SERVICE, version, about = "What `hostagent watch` becomes; started by it, not by hand", long_about = None)]
struct Cli {
    #[command(flatten)]
    common: Common,
}

/// Becomes the service: comes back only when that cannot be.
pub fn become_the_service(common: &Common) -> Result<u8> {
    let service = beside(SERVICE)?;
    let error = Command::new(&service).args(common.to_args()).exec();
    Err(error).with_context(|| {
        format!("cannot start the service, {}: both programs of the package belong side by side", service.display())
    })
}

/// A program of the package.
fn beside(name: &str) -> Result<PathBuf> {
    let this = env::current_exe().context("cannot tell where hostagent itself is")?;
    Ok(this.with_file_name(name))
}

/// The service's process: runs until it is told to stop.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = serve(&cli.common).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "hostagent: {error:#}");
        exit::UNKNOWN
    });
    ExitCode::from(code)
}

fn serve(common: &Common) -> Result<u8> {
    // What the service does belongs in the journal.
    let verbosity = common.verbose.max(1);
    logging::init(verbosity, Target::Auto)?;
    let source = common.config_source();
    let settings = match config::load(&source) {
        Ok(loaded) => loaded.settings,
        Err(error) => return Ok(refused(&error)),
    };
    let program = beside(HOSTAGENT)?;
    match block_on(driver::watch(source, settings, program, verbosity))? {
        Ok(()) => Ok(exit::SETTLED),
        Err(error @ WatchError::Running) => {
            tracing::error!("{error}");
            Ok(exit::BUSY)
        }
        Err(error) => Err(error.into()),
    }
}

/// The service does not start with a configuration that is wrong: nobody knows what the operator meant. It is not
/// tried again either, because only a person mends it.
fn refused(error: &ConfigError) -> u8 {
    let event = events::CONFIGURATION_REFUSED.name;
    tracing::error!(event, why = %error, "the configuration is refused, and the service does not start: {error}");
    exit::CONFIGURATION
}
