//! Programs of the operator that may veto a restart.

use crate::text;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    ffi::OsStr,
    fs,
    future::pending,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    process::Command,
    time::{sleep, timeout},
};

/// Each may take this long; then it is killed, which is a veto.
const EACH: Duration = Duration::from_secs(30);
/// Of a hook's output the last so many bytes are kept, and of these so many lines: why it vetoes is said at the end.
const KEPT: usize = 4_096;
const LINES: usize = 40;
/// So many hooks are run; more is a mistake, and a veto.
const MOST: usize = 32;
/// After a kill, for what is in the pipe still and for the end of the process: both are there at once, unless a process
/// that made a session of its own holds the pipe, or the kernel the process.
const REST: Duration = Duration::from_secs(1);
/// What package managers and editors leave beside a file, as the end of its name; with the executable bit of the file.
const LEFTOVERS: [&str; 7] = ["~", ".swp", ".bak", ".orig", ".rpmnew", ".rpmsave", ".rpmorig"];

/// Runs the hooks in the order of their names; `None` is "go", else who vetoed and what it said.
///
/// A directory that is not there holds no hooks. One that cannot be read vetoes, and so does whatever in it cannot be
/// run, before any hook is: what the operator meant is not known. Hidden files and the leftovers of editors and package
/// managers are none of that.
pub async fn ask(dir: &Path) -> Option<(String, String)> {
    let of_dir = |said: String| Some((text::clean(&dir.to_string_lossy()).into_owned(), said));
    let hooks = match list(dir) {
        Ok(hooks) => hooks,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return of_dir(format!("cannot be read: {error}")),
    };
    if hooks.len() > MOST {
        return of_dir(format!("holds {} hooks, and {MOST} are allowed", hooks.len()));
    }
    if let Some((hook, why)) = hooks.iter().find_map(|hook| Some((hook, unfit(hook)?))) {
        return Some((name(hook), why));
    }
    for hook in hooks {
        let name = name(&hook);
        let Ended { lines, veto } = run(&hook, sleep(EACH)).await;
        for line in lines {
            tracing::info!(hook = name, "hook {name}: {line}");
        }
        if let Some(said) = veto {
            return Some((name, said));
        }
    }
    None
}

fn name(hook: &Path) -> String {
    hook.file_name().map(|n| text::clean(&n.to_string_lossy()).into_owned()).unwrap_or_default()
}

/// Everything in the directory that is meant, by name.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut hooks = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !leftover(&entry.file_name()) {
            hooks.push(entry.path());
        }
    }
    hooks.sort();
    Ok(hooks)
}

fn leftover(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let dpkg = name.rsplit_once('.').is_some_and(|(_, end)| end.starts_with("dpkg-") || end.starts_with("ucf-"));
    name.starts_with(['.', '#']) || dpkg || LEFTOVERS.iter().any(|end| name.ends_with(end))
}

/// Why an entry can be no hook, and what to do about it.
fn unfit(hook: &Path) -> Option<String> {
    let found = match fs::metadata(hook) {
        Ok(found) => found,
        Err(error) => {
            let Ok(target) = fs::read_link(hook) else { return Some(format!("cannot be looked at: {error}")) };
            let target = target.to_string_lossy();
            return Some(format!("a link to {}: {error}; mend the link, or remove it", text::clean(&target)));
        }
    };
    if !found.is_file() {
        return Some("is no file: take it out of the directory of the hooks".into());
    }
    let executable = found.permissions().mode() & 0o111 != 0;
    (!executable).then(|| "is not executable: chmod +x it, or take it out of the directory of the hooks".into())
}

/// What a hook came to.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    /// What it printed, fit for a log.
    lines: Vec<String>,
    /// The veto in a few words.
    veto: Option<String>,
}

/// One hook to its end, or until its time is up. Nothing that it started outlives it, unless it made a session of its own.
async fn run(hook: &Path, time_up: impl Future<Output = ()>) -> Ended {
    let veto = |said: String| Ended { lines: Vec::new(), veto: Some(said) };
    // One pipe for both streams keeps the order of what it prints.
    let pipe = io::pipe().and_then(|(reader, writer)| {
        Ok((Receiver::from_owned_fd(reader.into())?, Stdio::from(writer.try_clone()?), Stdio::from(writer)))
    });
    let (mut reader, stdout, stderr) = match pipe {
        Ok(pipe) => pipe,
        Err(error) => return veto(format!("cannot be run: {error}")),
    };
    let mut command = Command::new(hook);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
    // Not theirs to speak in.
    for ours in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(ours);
    }
    let spawned = command.spawn();
    // Our copies of the pipe's other end: with them it would never end.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return veto(format!("cannot be run: {error}")),
    };
    let group = Group::of(&child);
    let mut output = Output::default();
    let status = tokio::select! {
        status = child.wait() => Some(status),
        () = time_up => None,
        // One that closed its output is waited for all the same.
        status = async { output.read(&mut reader).await; pending().await } => status,
    };
    drop(group);
    let _ = timeout(REST, output.read(&mut reader)).await;
    let last = output.last();
    let veto = match status {
        Some(Ok(status)) if status.success() => None,
        Some(Ok(status)) => Some(last.unwrap_or_else(|| status.to_string())),
        Some(Err(error)) => Some(format!("cannot be waited for: {error}")),
        None => {
            let _ = timeout(REST, child.wait()).await;
            let said = last.map(|last| format!("; it said last: {last}")).unwrap_or_default();
            Some(format!("did not end within {} s, and was killed{said}", EACH.as_secs()))
        }
    };
    Ended { lines: output.lines(), veto }
}

/// The processes of a hook. They are killed when this goes: at its end, at its time-out, and when the service is told to
/// stop and does not want to know any more.
struct Group(Option<Pid>);

impl Group {
    /// Of a child that was spawned as the leader of a group.
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel gives the number to nobody while the group has a member; without one there is nothing to kill.
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// The end of what a hook prints, as it comes in.
#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    more: bool,
}

impl Output {
    /// Reads to the end, or as long as it is polled; what was read is kept either way.
    async fn read(&mut self, from: &mut Receiver) {
        let mut buffer = [0; KEPT];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.add(&buffer[..count]);
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let over = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..over);
        self.more |= over > 0;
    }

    /// Without empty lines.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.kept);
        let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let over = all.len().saturating_sub(LINES);
        let note = (self.more || over > 0).then(|| "(only the end of what it printed)".to_owned());
        note.into_iter().chain(all[over..].iter().map(|line| text::clean(line).into_owned())).collect()
    }

    /// Its last words, short enough for a status line.
    fn last(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.kept);
        let last = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(text::cut(&text::clean(last.trim()), 200).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::test_kill_process;
    use std::os::unix::fs::symlink;

    fn hook(dir: &Path, name: &str, script: &str) -> PathBuf {
        let path = dir.join(name);
        // Written by another process: a file that one forked by another test has open for writing cannot be run.
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$2\" && chmod 755 \"$2\"";
        let written = std::process::Command::new("sh").args(["-c", write, "sh", script]).arg(&path).status();
        assert!(written.unwrap().success());
        path
    }

    #[tokio::test]
    async fn in_order_and_the_first_that_fails_vetoes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask(&dir.path().join("nothing-here")).await, None);
        let trace = dir.path().join(".trace");
        hook(dir.path(), "20-second", &format!("echo second >>{}", trace.display()));
        hook(dir.path(), "10-first", &format!("echo first >>{}", trace.display()));
        for left in [".20-second.swp", "20-second~", "#20-second#", "20-second.dpkg-old", "20-second.rpmsave"] {
            hook(dir.path(), left, "exit 1");
        }
        assert_eq!(ask(dir.path()).await, None);
        assert_eq!(fs::read_to_string(&trace).unwrap(), "first\nsecond\n");
        hook(dir.path(), "15-no", "echo a deployment is under way; exit 3");
        assert_eq!(ask(dir.path()).await, Some(("15-no".into(), "a deployment is under way".into())));
        assert_eq!(fs::read_to_string(&trace).unwrap(), "first\nsecond\nfirst\n", "the rest was not asked");
        hook(dir.path(), "15-no", "exit 3");
        assert_eq!(ask(dir.path()).await, Some(("15-no".into(), "exit status: 3".into())));
    }

    #[tokio::test]
    async fn what_cannot_be_run_or_read_vetoes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("10-broken");
        fs::write(&path, "#!/nonexistent/interpreter\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(ask(dir.path()).await.unwrap().1.contains("cannot be run"));
        let (hook, said) = ask(&path).await.unwrap();
        assert!(hook.ends_with("10-broken") && said.contains("cannot be read"), "{hook} {said}");
    }

    /// A hook that its author forgot to make executable must not be taken for no hook.
    #[tokio::test]
    async fn what_is_no_hook_vetoes_before_any_is_run() {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join(".trace");
        hook(dir.path(), "10-first", &format!("touch {}", trace.display()));
        let odd = dir.path().join("20-odd");
        fs::write(&odd, "#!/bin/sh\n").unwrap();
        let veto = async || ask(dir.path()).await.unwrap();
        let (who, said) = veto().await;
        assert!(who == "20-odd" && said.starts_with("is not executable: chmod +x it"), "{who}: {said}");
        fs::remove_file(&odd).unwrap();
        symlink("/nonexistent/hook", &odd).unwrap();
        let (who, said) = veto().await;
        assert!(who == "20-odd" && said.starts_with("a link to /nonexistent/hook: No such file"), "{who}: {said}");
        fs::remove_file(&odd).unwrap();
        fs::create_dir(&odd).unwrap();
        assert!(veto().await.1.starts_with("is no file"));
        assert!(!trace.exists(), "nothing was run");
        fs::remove_dir(&odd).unwrap();
        assert_eq!(ask(dir.path()).await, None);
        assert!(trace.exists());
    }

    /// It and all that it started: a shell's own death would leave what it waits for.
    #[tokio::test]
    async fn at_its_time_out_the_whole_group_is_killed_and_what_it_printed_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join(".pid");
        let leaves = format!("sleep 600 & echo $! >{0}.new; mv {0}.new {0}", pid.display());
        let path = hook(dir.path(), "10-slow", &format!("echo waiting for the lock; {leaves}; wait"));
        let ended = run(&path, until("it runs", || pid.exists())).await;
        assert_eq!(ended.lines, ["waiting for the lock"]);
        let said = "did not end within 30 s, and was killed; it said last: waiting for the lock";
        assert_eq!(ended.veto.as_deref(), Some(said));
        assert_ends(&pid).await;
    }

    /// Neither when it leaves something behind, nor when the service does not want to know any more.
    #[tokio::test]
    async fn nothing_outlives_a_hook() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join(".pid");
        let script = format!("sleep 600 & echo $! >{0}.new; mv {0}.new {0}; echo done", pid.display());
        let path = hook(dir.path(), "10-leaves", &script);
        // The sleep holds the pipe open: what counts is the end of the hook.
        let ended = run(&path, sleep(EACH)).await;
        assert_eq!(ended, Ended { lines: vec!["done".into()], veto: None });
        assert_ends(&pid).await;

        fs::remove_file(&pid).unwrap();
        let path = hook(dir.path(), "10-leaves", &format!("{script}; wait"));
        let asked = tokio::spawn(async move { run(&path, sleep(EACH)).await });
        until("it runs", || pid.exists()).await;
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        assert_ends(&pid).await;
    }

    #[tokio::test]
    async fn of_much_output_the_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = hook(dir.path(), "10-loud", "seq 1 100000; echo >&2; printf 'no \\033[1mway\\n' >&2; exit 1");
        let Ended { lines, veto } = run(&path, sleep(EACH)).await;
        assert_eq!(lines.len(), LINES + 1);
        assert_eq!((lines[0].as_str(), lines[LINES - 1].as_str()), ("(only the end of what it printed)", "100000"));
        assert_eq!(lines[LINES], "no \\u{1b}[1mway");
        assert_eq!(veto, Some("no \\u{1b}[1mway".into()));
        let mut output = Output::default();
        output.add(&[b'x'; 3 * KEPT]);
        assert_eq!((output.kept.len(), output.more), (KEPT, true));
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let waited = timeout(Duration::from_secs(10), async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not within 10 s: {what}"));
    }

    /// The process whose number is in a file is killed. Whether somebody has collected it is not ours to say.
    async fn assert_ends(pid: &Path) {
        let number: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let state = || fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        let gone = || test_kill_process(Pid::from_raw(number).unwrap()).is_err() || state().contains(") Z ");
        until("the process is gone", gone).await;
    }
}
