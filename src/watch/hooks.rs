//! Programs of the operator that may veto a restart.

use crate::text;
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

/// Each may take this long; then it is killed, which is a veto.
const EACH: Duration = Duration::from_secs(30);
/// Of a hook's output so many bytes are kept.
const KEPT: u64 = 4_096;
/// So many hooks are run; more is a mistake, and a veto.
const MOST: usize = 32;

/// Runs the hooks in the order of their names; `None` is "go", else who vetoed and what it said.
///
/// A directory that is not there holds no hooks. One that cannot be read vetoes: what the operator meant is not known.
pub async fn ask(dir: &Path) -> Option<(String, String)> {
    let hooks = match list(dir) {
        Ok(hooks) => hooks,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some((dir.display().to_string(), format!("cannot be read: {error}"))),
    };
    if hooks.len() > MOST {
        return Some((dir.display().to_string(), format!("holds {} hooks, and {MOST} are allowed", hooks.len())));
    }
    for hook in hooks {
        let name = hook.file_name().map(|n| text::clean(&n.to_string_lossy()).into_owned()).unwrap_or_default();
        if let Err(said) = run(&hook, &name).await {
            return Some((name, said));
        }
    }
    None
}

/// Executable files, by name. What cannot be executed is no hook.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut hooks = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let executable = fs::metadata(&path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if executable && !hidden {
            hooks.push(path);
        }
    }
    hooks.sort();
    Ok(hooks)
}

/// One hook to its end; `Err` is a veto in a few words.
async fn run(hook: &Path, name: &str) -> Result<(), String> {
    let mut command = Command::new(hook);
    // Stopped with the service: what it would have said is not wanted any more.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Not theirs to speak in.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
    let mut child = command.spawn().map_err(|error| format!("cannot be run: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let done = timeout(EACH, async {
        let (out, err, status) = tokio::join!(read(stdout), read(stderr), child.wait());
        (format!("{out}{err}"), status)
    });
    let (output, status) = done.await.map_err(|_| format!("did not end within {} s", EACH.as_secs()))?;
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        tracing::info!(hook = name, "hook {name}: {}", text::clean(line));
    }
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let last = output.lines().rfind(|line| !line.trim().is_empty()).map(str::trim);
            let said = last.map(|line| text::cut(&text::clean(line), 200).into_owned());
            Err(said.unwrap_or_else(|| status.to_string()))
        }
        Err(error) => Err(format!("cannot be waited for: {error}")),
    }
}

/// The beginning of a stream. The rest is read and dropped, so that the hook is not stopped by a full pipe.
async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    if (&mut stream).take(KEPT).read_to_end(&mut kept).await.is_ok() {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(dir: &Path, name: &str, script: &str) {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn in_order_and_the_first_that_fails_vetoes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask(&dir.path().join("nothing-here")).await, None);
        let trace = dir.path().join(".trace");
        hook(dir.path(), "20-second", &format!("echo second >>{}", trace.display()));
        hook(dir.path(), "10-first", &format!("echo first >>{}", trace.display()));
        fs::write(dir.path().join("README"), "no hook").unwrap();
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
}
