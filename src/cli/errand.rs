//! The hidden `errand`: the process that looks, or restarts and follows, for the service.

use crate::{decide::exit, watch::errand};
use anyhow::{Context as _, Result};
use std::io::{self, Write};

/// Reads the errand from standard input, and writes a line for each message to standard output.
pub async fn errand() -> Result<u8> {
    let errand = serde_json::from_reader(io::stdin().lock()).context("the errand cannot be read")?;
    let mut untold = None;
    let tell = |message: errand::Told| {
        let mut out = io::stdout().lock();
        let told = serde_json::to_writer(&mut out, &message).map_err(io::Error::from);
        if let Err(error) = told.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
            untold.get_or_insert(error);
        }
    };
    errand::here(errand, tell).await;
    untold.map_or(Ok(exit::SETTLED), |error| Err(error).context("nobody listens"))
}
