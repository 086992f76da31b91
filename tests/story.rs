//! The README's first command, with the real binary; and the same with its worker killed again and again.
//!
//! No systemd and no root in it: the worker runs in a session of its own. What a person sees of a restart under way is
//! looked at here too.

use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    num::NonZeroU16,
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
    // Not on a terminal, each step is one plain line.
    let steps = String::from_utf8(output.stderr)?;
    assert!(!steps.contains(['\r', '\u{1b}']), "{steps:?}");
    for words in STEPS {
        assert_eq!(steps.matches(words).count(), 1, "{words}: {steps}");
    }
    Ok(())
}

/// Of the steps of a restart, in their order.
const STEPS: [&str; 5] = [
    "goes on in a session of its own",
    "confirming: look 1 of",
    "acting: ",
    "watching the new connections",
    "verified",
];

/// A story whose restarts run on a terminal of their own, 100 columns wide; what the first of them wrote there.
fn on_a_terminal(options: &str) -> std::result::Result<String, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (program, screen) = (dir.path().join("hostagent"), dir.path().join("screen"));
    let script = format!(
        "#!/bin/sh\n\
         case \" $* \" in *' restart '*) test -e {screen} || exec >{screen} ;; *) exec {HOSTAGENT} \"$@\" ;; esac\n\
         export NO_COLOR=1 TERM=xterm\n\
         exec script --quiet --return --command \"stty cols 100 rows 24; {HOSTAGENT} $* {options}\" /dev/null\n",
        screen = screen.display(),
    );
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let output = story(&program)?;
    assert!(output.status.success(), "{}", told(&output));
    Ok(fs::read_to_string(screen)?)
}

/// What is to be seen once so much was written.
fn shown(written: &[u8]) -> Vec<String> {
    const SIZE: NonZeroU16 = NonZeroU16::new(100).unwrap();
    let mut terminal = vt100::Parser::new(SIZE, SIZE, 0);
    terminal.process(written);
    terminal.screen().contents().lines().map(str::to_owned).collect()
}

#[test]
fn on_a_terminal_the_step_under_way_is_live_and_the_others_stay() -> Result {
    let written = on_a_terminal("")?;
    let end = shown(written.as_bytes());
    let mut rest = end.iter();
    for words in STEPS {
        let kept = rest.find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {end:#?}"));
        let since = kept.split(" s  ").next().unwrap_or_default();
        assert!(since.trim().parse::<f64>().is_ok(), "since when: {kept:?}");
        assert_eq!(end.iter().filter(|line| line.contains(words)).count(), 1, "{words} stays once: {end:#?}");
    }
    assert!(rest.any(|line| line.contains("MOVED")), "then the result: {end:#?}");
    assert!(!end.iter().any(|line| line.contains("looking at the host")), "of interest while it lasted: {end:#?}");

    // While a step lasts, its line is the last one, and both its times go on.
    let all: Vec<Vec<String>> = written.match_indices('\r').map(|(at, _)| shown(&written.as_bytes()[..at])).collect();
    let live = |words: &str| -> BTreeSet<&str> {
        let last = all.iter().filter_map(|screen| screen.last());
        last.filter(|line| line.contains(words) && line.ends_with(" s")).map(String::as_str).collect()
    };
    assert!(!live("looking at the host").is_empty(), "{written:?}");
    let held = live("watching the new connections");
    let step = |line: &&str| line.rsplit(' ').nth(1).map(str::to_owned);
    assert!(held.len() > 5 && held.iter().filter_map(step).collect::<BTreeSet<_>>().len() > 1, "{held:#?}");

    // Whoever wants no colour gets none.
    let colours = written
        .split("\u{1b}[")
        .skip(1)
        .filter(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'));
    assert_eq!(colours.count(), 0, "{written:?}");
    Ok(())
}

#[test]
fn for_a_program_there_is_only_the_document_on_a_terminal_too() -> Result {
    let screen = on_a_terminal("--format json")?;
    let document: serde_json::Value = serde_json::from_str(&screen).map_err(|error| format!("{error}: {screen:?}"))?;
    assert_eq!(document["schema"], "hostagent/restart/1", "{screen}");
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
