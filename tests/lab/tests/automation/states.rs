//! The runbook's state machine, tested in its own language, and the shell of the documents.

use crate::support::{python, root};
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

#[test]
fn the_runbooks_python() {
    let run = Command::new(python())
        .args(["-B", "-m", "unittest", "test_rollout", "test_shell"])
        .current_dir(root().join("tests/documents"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn the_documents_shell_is_clean() {
    const SCRIPT: &str = "import sys, yaml; print('\\n'.join(yaml.safe_load(open(sys.argv[1]))['mainSteps'][0]['inputs']['runCommand']))";
    for name in ["HostAgent-Check", "HostAgent-Restart", "HostAgent-Install"] {
        let script = Command::new(python())
            .args(["-c", SCRIPT])
            .arg(root().join(format!("packaging/ssm/{name}.yaml")))
            .output()
            .unwrap();
        let check =
            Command::new("shellcheck").args(["-s", "sh", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        if check.is_err() && std::env::var("HOSTAGENT_TESTS").is_ok_and(|choice| choice == "no-host") {
            let _ =
                writeln!(std::io::stderr(), "left out because HOSTAGENT_TESTS=no-host: the_documents_shell_is_clean");
            return;
        }
        let mut check = check.expect("shellcheck");
        check.stdin.take().unwrap().write_all(&script.stdout).unwrap();
        let found = check.wait_with_output().unwrap();
        assert!(
            found.status.success() && !script.stdout.is_empty(),
            "{name}: {}",
            String::from_utf8_lossy(&found.stdout)
        );
    }
}
