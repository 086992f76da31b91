//! `hostagent watch`: the service.

use super::Context;
use crate::{
    config::Source,
    decide::exit,
    watch::driver::{self, WatchError},
};
use anyhow::Result;

/// Runs until it is told to stop.
pub async fn watch(cli: &Context, source: Source) -> Result<u8> {
    match driver::watch(source, cli.settings.clone(), cli.verbosity).await {
        Ok(()) => Ok(exit::SETTLED),
        Err(error @ WatchError::Running) => {
            tracing::error!("{error}");
            Ok(exit::BUSY)
        }
        Err(error) => Err(error.into()),
    }
}
