//! The README's first command, with the real binary; and the same with its worker killed again and again.
//!
//! No systemd and no root in it: the worker runs in a session of its own.

use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const HOSTAGENT: &str = env!("CARGO_BIN_EXE_hostagent");

type Result = std::result::Result<(), Box<dyn Error>>;

/// The lab's program, beside hostagent's.
fn lab() -> PathBuf {
    let lab = Path::new(HOSTAGENT).with_file_name("hostagent-lab");
    assert!(lab.exists(), "no {}: run `cargo build --workspace --bins` first (tests/run does)", lab.display());
    lab
}

fn story(hostagent: &Path) -> std::io::Result<Output> {
    Command::new(lab()).args(["story", "--hostagent"]).arg(hostagent).output()
}

fn told(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_story_ends_well() -> Result {
    let output = story(Path::new(HOSTAGENT))?;
    let text = told(&output);
    assert!(output.status.success(), "{text}");
    for words in ["WAITING FOR ENDPOINTS", "RESTART NEEDED", "MOVED", "SETTLED", "same IDs, PIDs and start times"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    Ok(())
}

/// Before anything is touched, while the agent is away, and during the proof: the caller starts it again each time,
/// and the intent on disk sees to it that the agent is restarted once.
#[test]
fn a_worker_that_is_killed_four_times_still_moves_the_agent_once() -> Result {
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("hostagent");
    let script = format!(
        "#!/bin/sh\n\
         case \" $* \" in *' restart '*) ;; *) exec {HOSTAGENT} \"$@\" ;; esac\n\
         {HOSTAGENT} \"$@\" & caller=$!\n\
         for pause in 0.2 1.9 0.5 0.4; do sleep $pause; pkill -KILL -P $caller && echo killed >>{dir}/kills; done\n\
         wait $caller\n",
        dir = dir.path().display()
    );
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let output = story(&program)?;
    let text = told(&output);
    assert!(output.status.success(), "{text}");
    // The second `restart` of the story has nothing to do and no worker to kill.
    let kills = fs::read_to_string(dir.path().join("kills"))?.lines().count();
    assert!(kills >= 2, "{kills} workers were killed: {text}");
    Ok(())
}
