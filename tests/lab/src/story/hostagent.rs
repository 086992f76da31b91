//! The real `hostagent` binary: found or built, and run.

use super::stage::Stage;
use anyhow::{Context as _, bail};
use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{process::Command, time::timeout};

/// No command of the story takes that long.
const LIMIT: Duration = Duration::from_secs(180);

/// The workspace this was built from.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

pub struct Hostagent {
    program: PathBuf,
}

impl Hostagent {
    /// `given`, or the one built by the cargo that runs this, or the one beside this program.
    ///
    /// # Errors
    ///
    /// When it cannot be built, or there is none.
    pub fn find(given: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(program) = given {
            let program = std::path::absolute(program)?;
            if !program.is_file() {
                bail!("there is no {}", program.display());
            }
            return Ok(Self { program });
        }
        let own = env::current_exe().context("find this program")?;
        let program = own.with_file_name("hostagent");
        let manifest = Path::new(WORKSPACE).join("Cargo.toml");
        match env::var_os("CARGO") {
            Some(cargo) if manifest.is_file() => {
                let mut build = std::process::Command::new(cargo);
                build.args(["build", "--package", "hostagent", "--bin", "hostagent", "--manifest-path"]).arg(manifest);
                if own.parent().and_then(Path::file_name).is_some_and(|profile| profile == "release") {
                    build.arg("--release");
                }
                if !build.status().context("run cargo")?.success() {
                    bail!("hostagent could not be built");
                }
            }
            _ => {}
        }
        if !program.is_file() {
            bail!(
                "there is no {}: build it with `cargo build --bin hostagent`, or name one with --hostagent",
                program.display()
            );
        }
        Ok(Self { program })
    }

    /// The command as a person would type it.
    pub fn shown(&self, stage: &Stage, command: &[&str]) -> String {
        format!("hostagent --config-dir {} {}", stage.config_dir.display(), command.join(" "))
    }

    /// Runs a command with the story's output; its exit code.
    ///
    /// # Errors
    ///
    /// When it cannot be run, is ended by a signal, or does not end.
    pub async fn run(&self, stage: &Stage, command: &[&str]) -> anyhow::Result<i32> {
        let mut child = Command::new(&self.program)
            .arg("--config-dir")
            .arg(&stage.config_dir)
            .args(command)
            .env("SSL_CERT_FILE", &stage.region.addresses().ca)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        let status = timeout(LIMIT, child.wait()).await;
        let status = status.with_context(|| format!("hostagent {} took over {LIMIT:?}", command.join(" ")))??;
        status.code().with_context(|| format!("hostagent {}: {status}", command.join(" ")))
    }
}
