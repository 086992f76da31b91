//! The NAT rules read through stand-ins of the program.

use crate::support::{AMPLE, SHORT};
use hostagent::{
    facts::CredentialRules,
    ports::{Nat, iptables::IptablesNat},
};
use std::{fs, io::Read, net::TcpListener, os::unix::fs::PermissionsExt, time::Duration};
use tempfile::TempDir;

/// A directory with an `iptables` that is this script.
fn program(script: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("iptables");
    fs::write(&file, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

async fn rules(dir: &TempDir, deadline: Duration) -> Result<CredentialRules, String> {
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    IptablesNat::with_path(51679, deadline, &path).credential_rules().await.map_err(|missing| missing.to_string())
}

#[tokio::test]
async fn rules_are_listed_and_counted() {
    // It prints the rules only when it is asked as it should be, in the environment it should have.
    let dir = program(
        r#"[ "$*" = "-w 2 -t nat -S" ] && [ "$LC_ALL" = C ] && [ -z "$HOME" ] || { echo "asked $*" >&2; exit 2; }
echo "-P PREROUTING ACCEPT"
echo "-A PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679"
echo "-A OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679""#,
    );
    assert_eq!(rules(&dir, AMPLE).await, Ok(CredentialRules { prerouting: 1, output: 1 }));
}

#[tokio::test]
async fn failures_are_said_in_the_program_s_words() {
    let dir =
        program("echo 'iptables v1.8.9: Could not fetch rules: Permission denied (you must be root)' >&2; exit 4");
    let text = "NAT rules (iptables -t nat -S): iptables v1.8.9: Could not fetch rules: Permission denied (you must be \
                root) (exit status: 4) (run as root)";
    assert_eq!(rules(&dir, AMPLE).await, Err(text.into()));
    let dir = program("echo; echo 'Another app is holding the xtables lock' >&2; exit 4");
    assert!(rules(&dir, AMPLE).await.unwrap_err().contains("Another app is holding the xtables lock"));
    let dir = program("echo '<html>'");
    assert!(rules(&dir, AMPLE).await.unwrap_err().contains("a line that is no rule: \"<html>\""));
    let dir = program("head -c 100000 /dev/urandom");
    assert!(rules(&dir, AMPLE).await.is_err());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let missing = IptablesNat::with_path(51679, AMPLE, &path).credential_rules().await.unwrap_err();
    assert_eq!(missing.why, format!("there is no iptables in {path}"));
    let dir = program("");
    fs::set_permissions(dir.path().join("iptables"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(rules(&dir, AMPLE).await.unwrap_err().contains("may not be run (run as root)"));
}

#[tokio::test]
async fn a_program_that_hangs_is_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = program(&format!("exec 3<>/dev/tcp/127.0.0.1/{port}; exec sleep 1000"));
    assert!(rules(&dir, SHORT).await.unwrap_err().contains("no answer within 300 ms"));
    let (mut connection, _) = listener.accept().unwrap();
    connection.set_read_timeout(Some(AMPLE)).unwrap();
    // Ending it is the runtime's work, so it must not be held up here.
    let ended = tokio::task::spawn_blocking(move || connection.read(&mut [0; 1]));
    assert_eq!(ended.await.unwrap().ok(), Some(0), "its connection is closed when it ends");
}
