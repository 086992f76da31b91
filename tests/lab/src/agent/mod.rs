//! x
pub fn main(_: Vec<std::ffi::OsString>) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("no") }
