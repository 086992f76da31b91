//! The story must not end well unless hostagent did what it should.

use anyhow::{Context as _, ensure};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Output};
use tempfile::TempDir;
use tokio::process::Command;

/// Runs the story with a script in the place of hostagent; `$1` in it is the command, `$N` counts from 1.
async fn story(script: &str) -> anyhow::Result<(Output, String)> {
    let dir = TempDir::new()?;
    let program: PathBuf = dir.path().join("hostagent");
    let count = dir.path().join("count");
    let text = format!("#!/bin/sh\nCONFIG=$2\nshift 2\necho x >>{0}\nN=$(wc -l <{0})\n{script}\n", count.display());
    fs::write(&program, text)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let output = Command::new(env!("CARGO_BIN_EXE_hostagent-lab"))
        .arg("--hostagent")
        .arg(&program)
        .env("TMPDIR", dir.path())
        .env_remove("CARGO")
        .kill_on_drop(true)
        .output()
        .await?;
    let left: Vec<_> =
        fs::read_dir(dir.path())?.filter_map(|entry| entry.ok()).map(|entry| entry.file_name()).collect();
    ensure!(left.len() == 2, "the story left files behind: {left:?}");
    let text = String::from_utf8(output.stdout.clone())?;
    Ok((output, text))
}

#[tokio::test]
async fn a_hostagent_that_does_nothing_is_found_out() -> anyhow::Result<()> {
    let (output, text) = story("exit 0").await?;
    ensure!(output.status.code() == Some(1), "{text}");
    for wrong in [
        "WRONG hostagent check: exit code 0, expected 11",
        "WRONG hostagent check: exit code 0, expected 10",
        "WRONG after, every connection is on an endpoint address",
    ] {
        ensure!(text.contains(wrong), "{wrong:?} is not in:\n{text}");
    }
    Ok(())
}

#[tokio::test]
async fn right_codes_without_a_restart_are_found_out() -> anyhow::Result<()> {
    let (output, text) = story("case $N in 1) exit 11;; 2) exit 10;; *) exit 0;; esac").await?;
    ensure!(output.status.code() == Some(1), "{text}");
    ensure!(text.contains("ok exit code 10: a restart is needed"), "{text}");
    ensure!(text.contains("WRONG after, every connection is on an endpoint address"), "{text}");
    ensure!(text.contains("ACS websocket  ecs-a-3.eu-west-1.amazonaws.com"), "{text}");
    Ok(())
}

#[tokio::test]
async fn what_it_tells_hostagent_is_all_there() -> anyhow::Result<()> {
    let (_, text) = story("[ $N = 1 ] && cat $CONFIG/*.toml; exit 0").await?;
    let first = text.lines().skip_while(|line| *line != "[agent]").take_while(|line| !line.contains("WRONG"));
    let keys: Vec<&str> = first.clone().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
    for key in
        ["introspection", "credentials_port", "host", "public_cidrs", "resolver", "https_port", "imds", "state_dir"]
    {
        ensure!(keys.contains(&key), "no {key} in {keys:?}");
    }
    let socket = first.clone().find_map(|line| line.strip_prefix("host = \"unix://")).context("host")?;
    ensure!(socket.starts_with('/'), "{socket}");
    Ok(())
}
