//! Telling systemd, or whoever set `NOTIFY_SOCKET`, that this process is ready.

use anyhow::{Context, Result};
use std::{env, os::unix::net::UnixDatagram};

/// Says so, if anybody asked.
///
/// # Errors
///
/// When the one who asked does not listen.
pub fn ready() -> Result<()> {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(b"READY=1", &socket).context("could not tell systemd that this is ready")?;
    Ok(())
}
