//! Where cargo put the programs, and where we may keep what was costly to make.

use anyhow::{Context, Result, bail};
use std::{env, fs, path::PathBuf};

/// The directory of the built programs, which hosts need: `hostagent` with its service, and `hostagent-lab`.
pub fn programs() -> Result<PathBuf> {
    let this = env::current_exe().context("could not tell which program this is")?;
    let mut directory = this.parent().context("this program lies in no directory")?;
    // Test programs lie one below.
    if directory.ends_with("deps") {
        directory = directory.parent().context("this program lies in no directory")?;
    }
    for program in ["hostagent", "hostagent-watch", "hostagent-lab"] {
        if !directory.join(program).exists() {
            bail!(
                "no {} there: run `cargo build --workspace --bins` first (tests/run does)",
                directory.join(program).display()
            );
        }
    }
    Ok(directory.to_path_buf())
}

/// A directory under cargo's target directory; gone with `cargo clean`.
pub fn cache() -> Result<PathBuf> {
    below_target("lab")
}

/// Where `packaging/build` puts packages.
pub fn packages() -> Result<PathBuf> {
    below_target("packages")
}

fn below_target(name: &str) -> Result<PathBuf> {
    let this = env::current_exe().context("could not tell which program this is")?;
    let target = this.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    let found = target.with_context(|| format!("{} lies in no cargo target directory", this.display()))?.join(name);
    fs::create_dir_all(&found).with_context(|| format!("could not make {}", found.display()))?;
    Ok(found)
}
