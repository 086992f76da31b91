//! A stand-in for the Amazon ECS agent: it connects, caches, saves and stops as the real one does.
//!
//! Settings come from the environment, as the real agent's do; those the real one does not have begin with `LAB_`.
//! See [`config::Config`].

mod api;
mod config;
mod dial;
mod faults;
mod run;
mod serve;
mod session;
mod state;

use config::Config;
use std::{ffi::OsString, process::ExitCode};

/// Exit codes of the real agent.
const EXIT_ERROR: u8 = 1;
const EXIT_TERMINAL: u8 = 5;

const USAGE: &str = "\
hostagent-lab agent: a stand-in for the Amazon ECS agent

  agent                  run; settings come from the environment
  agent -version         print the version
  agent --healthcheck    ask the introspection server of a running agent

ECS_CLUSTER ECS_DATADIR ECS_CHECKPOINT ECS_BACKEND_HOST AWS_DEFAULT_REGION HTTPS_PROXY HTTP_PROXY NO_PROXY
SSL_CERT_FILE AWS_EC2_METADATA_SERVICE_ENDPOINT
LAB_DNS=IP:PORT LAB_HTTPS_PORT LAB_INTROSPECTION_ADDR LAB_CREDENTIALS_ADDR LAB_AGENT_VERSION LAB_TIME_SCALE LAB_FAULTS
";

/// Runs the agent, or answers `-version` or `--healthcheck`.
///
/// # Errors
///
/// Never for the agent itself: how it ends is in its exit code.
pub fn main(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    crate::engine::die_with_parent();
    let flags: Vec<String> = args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    // Go's flag package takes one dash or two.
    let flag = flags.first().map(|flag| flag.trim_start_matches('-')).unwrap_or_default();
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("level=critical msg=\"{error:#}\"");
            return Ok(ExitCode::from(EXIT_TERMINAL));
        }
    };
    match flag {
        "version" => {
            let config::Config { version, commit, .. } = config;
            print!("Amazon ECS Agent:\n\tVersion: {version}\n\tCommit: {commit}\n\tDirty: true\n");
            return Ok(ExitCode::SUCCESS);
        }
        "h" | "help" => {
            print!("{USAGE}");
            return Ok(ExitCode::SUCCESS);
        }
        "healthcheck" | "" => {}
        _ => {
            eprint!("flag provided but not defined: -{flag}\n{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = if flag.is_empty() {
        runtime.block_on(run::run(config))
    } else {
        runtime.block_on(serve::healthcheck(config.introspection))
    };
    Ok(ExitCode::from(code))
}
