//! `hostagent watch`: the service.

use super::Context;
use crate::{
    config::{ConfigError, Source},
    decide::exit,
    events,
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

/// The service does not start with a configuration that is wrong: nobody knows what the operator meant. It is not
/// tried again either, because only a person mends it.
pub fn refused(error: &ConfigError) -> u8 {
    let event = events::CONFIGURATION_REFUSED.name;
    tracing::error!(event, why = %error, "the configuration is refused, and the service does not start: {error}");
    exit::CONFIGURATION
}
