//! Which drop-in files apply, and their text.

use super::{ConfigError, Place};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

/// Searched in this order; a file replaces one of the same name in an earlier directory.
pub const SYSTEM_DIRS: [&str; 3] =
    ["/usr/lib/hostagent/config.d", "/run/hostagent/config.d", "/etc/hostagent/config.d"];

/// Far above any real file; bounds what a mistaken link makes us read.
const LIMIT: u64 = 256 * 1024;

/// One drop-in that applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DropIn {
    pub path: PathBuf,
    /// Empty for a file that only masks another.
    pub text: String,
}

/// The drop-ins of `dirs` sorted by file name, each name once: the last directory that has it wins.
///
/// A directory that does not exist is skipped, unless `required`.
pub(super) fn drop_ins(dirs: &[PathBuf], required: bool) -> Result<Vec<DropIn>, ConfigError> {
    let mut chosen: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for dir in dirs {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => continue,
            Err(error) => return Err(directory_error(dir, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| directory_error(dir, error))?;
            if is_drop_in(&entry.file_name()) {
                chosen.insert(entry.file_name(), entry.path());
            }
        }
    }
    chosen.into_values().map(read).collect()
}

/// Whether a name is a drop-in's: `*.toml`, and not hidden, as with systemd's own. So what editors and package managers
/// leave beside one is none: `.50-x.toml.swp`, `.#50-x.toml`, `50-x.toml~`, `50-x.toml.dpkg-new`.
fn is_drop_in(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "toml")
        && !name.as_encoded_bytes().starts_with(b".")
}

fn read(path: PathBuf) -> Result<DropIn, ConfigError> {
    let unreadable = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "run as root, or make it readable",
            io::ErrorKind::NotFound => "the link points nowhere: mend it, or link to /dev/null to mask the file",
            _ => "make it readable, or remove it",
        };
        ConfigError::Unreadable { file: path.clone(), error, hint }
    };
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    let kind = fs::metadata(&path).map_err(unreadable)?.file_type();
    if kind.is_char_device() && fs::canonicalize(&path).is_ok_and(|target| target == Path::new("/dev/null")) {
        return Ok(DropIn { path, text: String::new() });
    }
    if !kind.is_file() {
        let found = match () {
            () if kind.is_dir() => "a directory",
            () if kind.is_fifo() => "a FIFO",
            () if kind.is_socket() => "a socket",
            () => "a device",
        };
        return Err(ConfigError::NotAFile { file: path, found });
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(&path).map_err(unreadable)?;
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LIMIT {
        return Err(ConfigError::TooLarge { file: path, limit: LIMIT });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(DropIn { path, text }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.as_bytes();
            let byte = bytes.get(at).copied().unwrap_or_default();
            let line = 1 + bytes.iter().take(at).filter(|&&b| b == b'\n').count();
            Err(ConfigError::NotUtf8 { place: Place { file: path, line }, byte })
        }
    }
}

fn directory_error(dir: &Path, error: io::Error) -> ConfigError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root, or make it readable",
        io::ErrorKind::NotFound => "create it, or name another with --config-dir",
        _ => "name a directory with --config-dir",
    };
    ConfigError::Directory { dir: dir.to_owned(), error, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(dropins: &[DropIn]) -> Vec<String> {
        dropins.iter().map(|d| d.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn sorted_by_name_across_directories_and_later_directories_replace() {
        let (lib, etc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(lib.path().join("50-b.toml"), "lib b").unwrap();
        fs::write(lib.path().join("10-a.toml"), "lib a").unwrap();
        fs::write(etc.path().join("10-a.toml"), "etc a").unwrap();
        fs::write(etc.path().join("20-c.toml"), "etc c").unwrap();
        fs::write(etc.path().join("README"), "not read").unwrap();
        for left in [".20-c.toml", ".20-c.toml.swp", "20-c.toml~", "20-c.toml.bak", "20-c.toml.dpkg-new", ".toml"] {
            fs::write(etc.path().join(left), "not read").unwrap();
        }
        // The lock of Emacs points nowhere.
        symlink("root@host.1234:1", etc.path().join(".#20-c.toml")).unwrap();
        let missing = lib.path().join("nothing-here");
        let found = drop_ins(&[lib.path().into(), missing, etc.path().into()], false).unwrap();
        assert_eq!(names(&found), ["10-a.toml", "20-c.toml", "50-b.toml"]);
        assert_eq!(found.iter().map(|d| d.text.as_str()).collect::<Vec<_>>(), ["etc a", "etc c", "lib b"]);
    }

    #[test]
    fn dev_null_and_an_empty_file_mask() {
        let (lib, etc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["10-a.toml", "20-b.toml"] {
            fs::write(lib.path().join(name), "x = 1").unwrap();
        }
        symlink("/dev/null", etc.path().join("10-a.toml")).unwrap();
        fs::write(etc.path().join("20-b.toml"), "").unwrap();
        let found = drop_ins(&[lib.path().into(), etc.path().into()], false).unwrap();
        assert!(found.len() == 2 && found.iter().all(|d| d.text.is_empty()), "{found:?}");
    }

    #[test]
    fn what_is_no_readable_text_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("10-a.toml");
        let error = || drop_ins(&[dir.path().into()], false).unwrap_err().to_string();
        fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
        assert_eq!(
            error(),
            format!("{}:2: byte 0xff is not UTF-8; a configuration file is UTF-8 text", path.display())
        );
        fs::write(&path, vec![b'#'; LIMIT as usize + 1]).unwrap();
        assert!(error().contains("larger than 262144 bytes"), "{}", error());
        fs::write(&path, vec![b'#'; LIMIT as usize]).unwrap();
        drop_ins(&[dir.path().into()], false).unwrap();
        fs::remove_file(&path).unwrap();
        symlink("/nonexistent/target", &path).unwrap();
        assert!(error().contains("the link points nowhere"), "{}", error());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(error().contains("is a directory"), "{}", error());
        fs::remove_dir(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(error().contains("is a device"), "{}", error());
    }

    #[test]
    fn a_directory_named_by_the_user_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        assert!(drop_ins(std::slice::from_ref(&gone), false).unwrap().is_empty());
        let error = drop_ins(std::slice::from_ref(&gone), true).unwrap_err();
        // A chain of causes must not say it twice.
        assert!(std::error::Error::source(&error).is_none());
        let error = error.to_string();
        assert!(error.contains("gone: cannot list") && error.contains("create it"), "{error}");
    }
}
