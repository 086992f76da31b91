//! What hostagent keeps on disk: JSON files replaced atomically, and the lock.

use crate::facts::Missing;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// A file of ours that could not be read, written or locked. Names the path.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {verb} {}: {source}{}", path.display(), hint(source))]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is not what hostagent wrote: {source}; move it away to start afresh", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (run as root)",
        io::ErrorKind::StorageFull => " (free some disk space)",
        io::ErrorKind::ReadOnlyFilesystem => {
            " (it must be writable; for the service also by ReadWritePaths= of its unit)"
        }
        _ => "",
    }
}

impl From<StoreError> for Missing {
    fn from(error: StoreError) -> Self {
        Missing::new("hostagent's own files", error, "")
    }
}

fn io_error<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { verb, path: path.to_owned(), source }
}

/// The system's own error, without the random name of a temporary file: the same trouble reads the same each time.
fn plain(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((what, _)) => io::Error::new(error.kind(), what),
        None => error,
    }
}

/// Reads a JSON file; `None` when it is not there.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| StoreError::Damaged { path: path.to_owned(), source })
}

/// Replaces a JSON file: after this returns, the new content survives a power cut; before, the old one does.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    let dir = parent(path);
    fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    let text =
        serde_json::to_vec_pretty(value).map_err(|source| StoreError::Damaged { path: path.to_owned(), source })?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(plain).map_err(io_error("write in", dir))?;
    file.write_all(&text).map_err(io_error("write", path))?;
    file.as_file().sync_all().map_err(io_error("sync", path))?;
    file.persist(path).map_err(|error| io_error("replace", path)(error.error))?;
    sync_dir(dir)
}

/// Replaces a text file that others read (mode 0644), at once and never half. Not made to survive a power cut: it is
/// written again. Its directory is somebody else's and must be there.
pub fn publish(path: &Path, text: &str) -> Result<(), StoreError> {
    let dir = parent(path);
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(plain).map_err(io_error("write in", dir))?;
    file.write_all(text.as_bytes()).map_err(io_error("write", path))?;
    // Not at creation, where the umask would have its say.
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(io_error("set the mode of", path))?;
    file.persist(path).map_err(|error| io_error("replace", path)(error.error))?;
    Ok(())
}

/// Removes a file for good; one that is not there is no error.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove", path)(error)),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A rename or removal is durable once its directory is.
fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io_error("sync", dir))
}

/// The right to restart the agent on this host; released when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, never read")] File);

impl Lock {
    /// Takes the lock at once; `None` when another process holds it.
    pub fn take(path: &Path) -> Result<Option<Lock>, StoreError> {
        let dir = parent(path);
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(io_error("open the lock", path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(io_error("lock", path)(error)),
        }
    }

    /// Takes the lock, waiting `bound` at most for whoever has it; `None` when it is still held then.
    pub async fn take_within(path: &Path, bound: Duration) -> Result<Option<Lock>, StoreError> {
        const EVERY: Duration = Duration::from_millis(50);
        let began = Instant::now();
        loop {
            match Lock::take(path)? {
                None if began.elapsed() < bound => sleep(EVERY).await,
                taken => return Ok(taken),
            }
        }
    }
}

/// The kernel's ID of this boot.
pub fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|id| id.trim().to_owned()).map_err(io_error("read", path))
}

/// A new random ID, from the kernel.
pub fn new_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    fs::read_to_string(path).map(|id| id.trim().to_owned()).map_err(io_error("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/history.json");
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), None);
        write(&path, &vec![1, 2]).unwrap();
        write(&path, &vec![3]).unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), Some(vec![3]));
        fs::write(&path, "[3").unwrap();
        let error = read::<Vec<u32>>(&path).unwrap_err().to_string();
        assert!(error.contains("history.json") && error.contains("move it away"), "{error}");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "no temporary file is left");
    }

    #[test]
    fn the_same_trouble_reads_the_same() {
        // No file can be made under /proc, whoever asks.
        let error = || write(Path::new("/proc/self/history.json"), &1).unwrap_err().to_string();
        assert_eq!(error(), error());
        assert!(error().contains("/proc/self") && !error().contains(".tmp"), "{}", error());
        let error = || publish(Path::new("/proc/self/hostagent.prom"), "").unwrap_err().to_string();
        assert_eq!(error(), error());
    }

    #[test]
    fn what_is_published_can_be_read_by_all_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hostagent.prom");
        publish(&path, "a 1\n").unwrap();
        publish(&path, "a 2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a 2\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = publish(&dir.path().join("gone/x.prom"), "").unwrap_err().to_string();
        assert!(error.contains("gone"), "{error}");
        assert!(!dir.path().join("gone").exists(), "a directory of another's is not made");
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restart.lock");
        let first = Lock::take(&path).unwrap();
        assert!(first.is_some());
        assert!(Lock::take(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&path).unwrap().is_some());
    }

    #[tokio::test]
    async fn a_lock_that_is_held_for_an_instant_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restart.lock");
        let held = Lock::take(&path).unwrap();
        assert!(Lock::take_within(&path, Duration::from_millis(60)).await.unwrap().is_none(), "held all the time");
        let (taken, ()) = tokio::join!(Lock::take_within(&path, Duration::from_secs(60)), async {
            // The other has found it held by now.
            tokio::task::yield_now().await;
            drop(held);
        });
        assert!(taken.unwrap().is_some());
    }
}
