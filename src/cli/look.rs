//! The hidden `look`: the process in which the service looks at the host.

use crate::{decide::exit, watch::look};
use anyhow::{Context as _, Result};
use std::io;

/// Reads what is asked from standard input, and writes what was seen to standard output.
pub async fn look() -> Result<u8> {
    let ask = serde_json::from_reader(io::stdin().lock()).context("what is to be looked at cannot be read")?;
    serde_json::to_writer(io::stdout().lock(), &look::here(ask).await).context("nobody takes what was seen")?;
    Ok(exit::SETTLED)
}
