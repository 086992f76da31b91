//! The README's Fleet section, typed as it stands.

use super::support::{PYTHON, said};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

const README: &str = include_str!("../../README.md");

/// The lines of the section that are to be typed.
fn typed() -> Vec<&'static str> {
    let section = README.split("\n## ").find(|text| text.starts_with("Fleet\n")).expect("a section Fleet");
    section.lines().filter_map(|line| line.strip_prefix("    ")).collect()
}

#[test]
fn the_section_can_be_followed_line_by_line() {
    let mut lines = typed().into_iter();
    // The lab's own program, as cargo would run it.
    let cloud = lines.next().and_then(|line| line.strip_prefix("cargo run -p hostagent-lab -- ")).expect("the cloud");
    let programs = Path::new(env!("CARGO_BIN_EXE_hostagent")).parent().expect("a directory");
    let lab = format!("exec hostagent-lab {}", cloud.replace("$(tests/python)", PYTHON.to_str().expect("a path")));
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.env_clear().env("PATH", &path).args(["-c", script]).stdin(Stdio::null());
        command
    };
    let mut lab = shell(&lab).stdout(Stdio::piped()).spawn().expect("the lab");
    let printed = BufReader::new(lab.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let mut pasted = String::new();
    for line in printed {
        pasted += &format!("{line}\n");
        if line.starts_with("unset ") {
            break;
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut followed = Vec::new();
    for line in lines {
        let output = shell(&format!("{pasted}{line}")).current_dir(dir.path()).output().expect("sh");
        let said = said(output);
        let words: Vec<&str> = line.split_whitespace().collect();
        let wanted = match words[2] {
            "check" => 10,
            "status" => 12,
            _ => 0,
        };
        assert_eq!(said.code, wanted, "{line}\n{}{}", said.out, said.err);
        followed.push(words[2]);
    }
    lab.kill().and_then(|()| lab.wait()).expect("the lab ends");
    let all = "install check rollout follow report stop status resume rollout uninstall";
    assert_eq!(followed.join(" "), all);
    let page = std::fs::read_to_string(dir.path().join("rollout.html")).expect("the report");
    assert!(page.contains("60 moved"), "{page}");
}
