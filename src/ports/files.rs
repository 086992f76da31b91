//! The agent's files on the host: `ecs.config`, ecs-init's cache, the state directory.

use crate::facts::{
    AgentCache, AgentContainer, CacheState, ConfigFile, Missing, Persistence,
    setting::{Env, Setting, checkpoints},
};
use semver::Version;
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

type Result<T> = super::Result<T>;

/// No setting file of the agent is larger than this many bytes.
const LARGEST: u64 = 1 << 20;

/// The pairs that are on the allow list, with user and password taken out of every URL.
pub fn agent_settings<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Env {
    pairs
        .filter_map(|(key, value)| {
            let setting = Setting::named(key)?;
            let value = if setting.holds_url() { without_user(value) } else { value.to_owned() };
            Some((key.to_owned(), value))
        })
        .collect()
}

fn without_user(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        (None, Some(at)) => url[at + 1..].to_owned(),
        _ => url.to_owned(),
    }
}

/// Reads a small text file; `None` when it is not there.
fn read(path: &Path) -> Result<Option<String>> {
    let what = || path.display().to_string();
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    let open = || {
        let masked = || fs::canonicalize(path).is_ok_and(|target| target == Path::new("/dev/null"));
        let is_text = fs::metadata(path)?.is_file() || masked();
        is_text.then(|| fs::File::open(path)).transpose()
    };
    let file = match open() {
        Ok(Some(file)) => file,
        Ok(None) => return Err(Missing::new(what(), "not a regular file", "it must be a text file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Missing::new(what(), error, as_root())),
    };
    let mut text = String::new();
    match file.take(LARGEST + 1).read_to_string(&mut text) {
        Err(error) => Err(Missing::new(what(), error, "it must be a text file")),
        Ok(n) if n as u64 > LARGEST => Err(Missing::new(what(), "larger than 1 MiB", "is this the right file?")),
        Ok(_) => Ok(Some(text)),
    }
}

fn as_root() -> String {
    "run as root".to_owned()
}

/// `ecs.config`: lines of `KEY=value`, as ecs-init reads them for `docker --env-file`.
pub fn config_file(path: &Path) -> Result<ConfigFile> {
    let text = read(path)?;
    let env = agent_settings(
        text.iter()
            .flat_map(|t| t.lines())
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim())),
    );
    Ok(ConfigFile { path: path.display().to_string(), present: text.is_some(), env })
}

/// ecs-init's cache directory.
pub fn cache(dir: &Path) -> Result<AgentCache> {
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(AgentCache {
                state: CacheState::NoCache,
                staged: None,
                tar_present: false,
                desired_image: None,
            });
        }
        Err(error) => return Err(Missing::new(dir.display().to_string(), error, as_root())),
        Ok(_) => {}
    }
    let state = match read(&dir.join("state"))?.as_deref().map(str::trim) {
        None | Some("" | "0") => CacheState::Uncached,
        Some("1") => CacheState::Cached,
        Some("2") => CacheState::ReloadNeeded,
        Some(other) => CacheState::Other(other.chars().take(40).collect()),
    };
    let tar = dir.join("ecs-agent.tar");
    let tar_present = match fs::metadata(&tar) {
        Ok(meta) => meta.len() > 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(Missing::new(tar.display().to_string(), error, as_root())),
    };
    let staged = fs::read_link(&tar)
        .ok()
        .and_then(|target| target.file_name().map(|n| n.to_string_lossy().into_owned()))
        .and_then(|name| Version::parse(name.strip_prefix("ecs-agent-v")?.strip_suffix(".tar")?).ok());
    let desired_image =
        read(&dir.join("desired-image"))?.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    Ok(AgentCache { state, staged, tar_present, desired_image })
}

/// Where systemd looks for units, and upstart for jobs.
const UNIT_DIRS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
const UPSTART: &str = "etc/init/ecs.conf";

/// Traces of ecs-init below `root`: its cache directory, its unit files and its upstart job, as far as they exist.
pub fn ecs_init(root: &Path, cache_dir: &Path, units: &[String]) -> Result<Vec<PathBuf>> {
    let of_unit = |unit: &String| UNIT_DIRS.map(|dir| root.join(dir).join(unit));
    let places = [cache_dir.to_owned(), root.join(UPSTART)].into_iter().chain(units.iter().flat_map(of_unit));
    let mut found = Vec::new();
    for path in places {
        // Not through the link: a unit that is masked, or whose package is half gone, is a trace, too.
        match fs::symlink_metadata(&path) {
            Ok(_) => found.push(path),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Missing::new(path.display().to_string(), error, as_root())),
        }
    }
    Ok(found)
}

/// Whether what the agent saves outlives its container.
pub fn persistence(agent: &AgentContainer) -> Result<Persistence> {
    let configured = Setting::DataDir.of(&agent.env);
    let inside = configured.unwrap_or("/data").trim_end_matches('/');
    let mount = agent.mounts.iter().find(|m| m.destination.trim_end_matches('/') == inside && m.read_write);
    let mut state_file = None;
    if let Some(mount) = mount {
        for name in ["agent.db", "ecs_agent_data.json"] {
            let path = Path::new(&mount.source).join(name);
            match fs::metadata(&path) {
                Ok(meta) => {
                    state_file = Some((path.display().to_string(), meta.len()));
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Missing::new(path.display().to_string(), error, as_root())),
            }
        }
    }
    Ok(Persistence {
        data_dir: configured.or(mount.map(|_| inside)).map(str::to_owned),
        host_dir: mount.map(|m| m.source.clone()),
        checkpoint: checkpoints(&agent.env),
        state_file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_proxy_loses_its_password_and_secrets_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ecs.config");
        fs::write(
            &path,
            "# comment\nECS_CLUSTER=prod\nECS_ENGINE_AUTH_DATA={}\nHTTPS_PROXY=http://me:secret@proxy:3128\n",
        )
        .unwrap();
        let file = config_file(&path).unwrap();
        assert_eq!(file.env["HTTPS_PROXY"], "http://proxy:3128");
        assert_eq!(file.env.keys().collect::<Vec<_>>(), ["ECS_CLUSTER", "HTTPS_PROXY"]);
        assert!(!config_file(&dir.path().join("none")).unwrap().present);
    }

    #[test]
    fn the_cache_tells_what_will_load() {
        let dir = tempfile::tempdir().unwrap();
        let cached = |state: &str| {
            fs::write(dir.path().join("state"), state).unwrap();
            cache(dir.path()).unwrap()
        };
        assert_eq!(cached("").state, CacheState::Uncached);
        assert_eq!(cached("1\n").state, CacheState::Cached);
        assert_eq!(cached("7").state, CacheState::Other("7".into()));
        assert!(!cached("2").tar_present);
        fs::write(dir.path().join("ecs-agent-v1.105.1.tar"), "x").unwrap();
        symlink("ecs-agent-v1.105.1.tar", dir.path().join("ecs-agent.tar")).unwrap();
        let seen = cached("2");
        assert_eq!((seen.state, seen.staged), (CacheState::ReloadNeeded, Some(Version::new(1, 105, 1))));
        assert!(seen.tar_present);
        assert_eq!(cache(&dir.path().join("none")).unwrap().state, CacheState::NoCache);
    }

    #[test]
    fn ecs_init_leaves_traces() {
        let dir = tempfile::tempdir().unwrap();
        let (root, cache) = (dir.path(), dir.path().join("var/cache/ecs"));
        let units = ["ecs.service".to_owned(), "amazon-ecs.service".to_owned()];
        let found = || ecs_init(root, &cache, &units);
        assert_eq!(found().unwrap(), Vec::<PathBuf>::new());
        fs::create_dir_all(&cache).unwrap();
        fs::create_dir_all(root.join("usr/lib/systemd/system")).unwrap();
        let unit = root.join("usr/lib/systemd/system/amazon-ecs.service");
        symlink("/nowhere", &unit).unwrap();
        assert_eq!(found().unwrap(), [cache.clone(), unit]);
        // What cannot be looked at may be there.
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("init", root.join("etc/init")).unwrap();
        let missing = found().unwrap_err();
        assert!(missing.what.ends_with("etc/init/ecs.conf"), "{missing}");
    }

    #[test]
    fn what_would_have_to_be_waited_for_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ecs.config");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let missing = config_file(&path).unwrap_err();
        assert!(missing.what.ends_with("ecs.config") && missing.why.contains("not a regular file"), "{missing}");
        fs::remove_file(&path).unwrap();
        symlink("/dev/null", &path).unwrap();
        assert!(config_file(&path).unwrap().env.is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ecs.config");
        fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        let missing = config_file(&path).unwrap_err();
        assert!(missing.what.ends_with("ecs.config") && missing.why.contains("UTF-8"), "{missing}");
    }
}
