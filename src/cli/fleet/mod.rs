//! `hostagent fleet`: many hosts, through SSM.

mod args;
mod bar;
mod check;
mod documents;
mod halt;
mod report;
mod rollout;

pub use args::FleetArgs;
pub(super) use bar::Bar;

use super::Context as Cli;
use crate::fleet::Cloud;
use anyhow::Result;
use args::FleetCommand;

/// Runs one of them; its exit code.
pub async fn fleet(cli: &Cli, args: &FleetArgs) -> Result<u8> {
    let cloud = Cloud::of_operator(&args.aws.operator()).await?;
    match &args.command {
        FleetCommand::Check(args) => check::check(cli, &cloud, args).await,
        FleetCommand::Rollout(args) => rollout::rollout(cli, &cloud, args).await,
        FleetCommand::Follow(args) => rollout::follow(cli, &cloud, args).await,
        FleetCommand::Stop(args) => halt::stop(cli, &cloud, args).await,
        FleetCommand::Resume(args) => halt::resume(cli, &cloud, args).await,
        FleetCommand::Status(args) => halt::status(cli, &cloud, args).await,
        FleetCommand::Report(args) => report::report(cli, &cloud, args).await,
        FleetCommand::Install(args) => documents::install(cli, &cloud, args).await,
        FleetCommand::Uninstall(args) => documents::uninstall(cli, &cloud, args).await,
    }
}
