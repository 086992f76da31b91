//! Writes what the packages hold besides the program and files of this repository: manual pages, completions and
//! the licences of the crates inside. `packaging/build` runs it; none of it is in the program itself.
//!
//!     cargo run --example papers -- DIRECTORY TARGET DATE

mod licences;
mod man;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use hostagent::cli::args::Cli;
use std::{env, fs, path::Path};

const NAME: &str = "hostagent";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [directory, target, date] = &arguments[..] else {
        anyhow::bail!("usage: papers DIRECTORY TARGET DATE (DATE as in 2026-01-31)");
    };
    let directory = Path::new(directory);
    let made = |name: &str| -> Result<_> {
        let path = directory.join(name);
        fs::create_dir_all(&path).with_context(|| format!("could not make {}", path.display()))?;
        Ok(path)
    };
    man::write(shown(), date, &made("man")?)?;
    let completions = made("completions")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut shown(), NAME, &completions).with_context(|| format!("no completions for {shell}"))?;
    }
    let third_party = directory.join("THIRD-PARTY");
    fs::write(&third_party, licences::collect(target)?)
        .with_context(|| format!("could not write {}", third_party.display()))
}

/// The command line without what is not for people to type.
fn shown() -> Command {
    let whole = Cli::command();
    let mut shown = Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    if let (Some(about), Some(long)) = (whole.get_about(), whole.get_long_about()) {
        shown = shown.about(about.clone()).long_about(long.clone());
    }
    if let Some(after) = whole.get_after_long_help() {
        shown = shown.after_long_help(after.clone());
    }
    shown
}
