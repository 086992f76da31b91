//! The README's way to try the package on a lab host, typed as it stands; and what that prints, too.

use crate::scene::commands;
use hostagent_lab::host::{Slot, left_out};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The program that keeps the host; told to end as Ctrl-C does.
struct Lab(Child);

impl Lab {
    fn end(&mut self) {
        // Not once it was waited for: the number may be another's by then.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
            let _ = self.0.wait();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.end();
    }
}

fn shell(line: &str) -> Output {
    Command::new("timeout").args(["60", "sh", "-c", line]).stdin(Stdio::null()).output().expect("sh")
}

/// Types a line until it ends with a code, for two minutes.
#[track_caller]
fn until(code: i32, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let output = shell(line);
        if output.status.code() == Some(code) {
            return;
        }
        assert!(Instant::now() < deadline, "`{line}` does not end with {code}: {output:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn the_package_is_tried_as_the_readme_says() {
    if left_out() {
        return;
    }
    // Its host is one of those that run at a time.
    let _turn = Slot::take();
    let section = commands("Install");
    assert!(section.iter().any(|line| line.starts_with("packaging/build --quick")), "which tests/run has done");
    let line = section.iter().find_map(|line| line.strip_prefix("cargo run -p hostagent-lab -- ")).expect("the lab");
    let program = Path::new(env!("CARGO_BIN_EXE_hostagent")).with_file_name("hostagent-lab");
    // Passes the signal on; and is the bound of all that is read from it.
    let mut command = Command::new("timeout");
    // Not to its whole group a second time: that would reach what removes the host.
    command.args(["--foreground", "--signal=INT", "--kill-after=60", "600"]).arg(program);
    command.args(line.split_whitespace().take_while(|word| !word.starts_with('#')));
    let mut lab = Lab(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("hostagent-lab"));
    let mut typed = Vec::new();
    for line in BufReader::new(lab.0.stdout.take().expect("its output")).lines().map_while(Result::ok) {
        typed.extend(line.find("docker exec ").map(|at| line[at..].to_owned()));
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let [terminal, status, appear, journal] = &typed[..] else { panic!("four lines: {typed:?}") };
    assert!(terminal.ends_with("bash"), "{terminal}");
    until(11, status);
    assert!(shell(appear).status.success(), "{appear}");
    until(0, status);
    // It follows for ever; what there is by now is enough.
    let said = shell(&journal.replace(" --follow", " --no-pager"));
    assert!(String::from_utf8_lossy(&said.stdout).contains("the agent was moved, and that is proved"), "{said:?}");
    lab.end();
    let gone = shell(status);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("No such container"), "the host is removed: {gone:?}");
}
