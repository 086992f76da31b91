//! The command line: one file a command; the only room that uses `anyhow`.

pub mod args;
pub mod config_show;
