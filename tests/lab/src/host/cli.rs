//! `hostagent-lab host`: a host to look around on.

use super::{Host, HostOptions, Supervisor, image};
use anyhow::Result;
use clap::Parser;
use std::{ffi::OsString, process::ExitCode};
use tokio::signal;

/// Starts a host, says how to get onto it, and removes it on Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "hostagent-lab host")]
struct HostArgs {
    /// Who keeps the agent
    #[arg(long, value_enum, default_value_t = Supervisor::EcsInit)]
    supervisor: Supervisor,
    /// The version the agent says it is of
    #[arg(long, default_value = super::AGENT_VERSION)]
    agent_version: String,
    /// Only build the image, if its recipe changed, and print its tag
    #[arg(long)]
    image_only: bool,
}

/// `hostagent-lab host`.
///
/// # Errors
///
/// When there is no host to be had.
pub fn main(args: Vec<OsString>) -> Result<ExitCode> {
    let HostArgs { supervisor, agent_version, image_only } = HostArgs::parse_from(args);
    if image_only {
        println!("{}", image::ensure()?);
        return Ok(ExitCode::SUCCESS);
    }
    let host = Host::try_start(&HostOptions { supervisor, agent_version, ..HostOptions::default() })?;
    let id = host.id();
    println!(
        "A shell on the host:  docker exec -it {id:.12} bash\n\
         Endpoints appear:     docker exec {id:.12} hostagent-lab set --socket /opt/region/control.sock --path endpoint\n\
         Ctrl-C removes the host."
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(signal::ctrl_c())?;
    Ok(ExitCode::SUCCESS)
}
