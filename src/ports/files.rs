//! The agent's files on the host: `ecs.config`, ecs-init's cache, the state directory.

use crate::facts::{AgentCache, AgentContainer, CacheState, ConfigFile, Missing, Persistence};
use semver::Version;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

type Result<T> = super::Result<T>;

/// No setting file of the agent is larger than this many bytes.
const LARGEST: u64 = 1 << 20;

/// Settings that say where the agent goes and what it keeps. An allow list, so that no secret is ever read into a report.
const SETTINGS: &[&str] = &[
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "ECS_BACKEND_HOST",
    "ECS_CHECKPOINT",
    "ECS_CLUSTER",
    "ECS_DATADIR",
    "ECS_DISABLE_DOCKER_HEALTH_CHECK",
    "ECS_DISABLE_METRICS",
    "ECS_EXTERNAL",
    "ECS_FIPS_MODE",
    "ECS_INSTANCE_IP_COMPATIBILITY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The pairs that are on the allow list, with the user and password of a proxy's URL taken out.
pub fn agent_settings<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    pairs
        .filter(|(key, _)| SETTINGS.contains(key))
        .map(|(key, value)| {
            let value = if key.to_ascii_lowercase().ends_with("s_proxy") || key.eq_ignore_ascii_case("http_proxy") {
                without_user(value)
            } else {
                value.to_owned()
            };
            (key.to_owned(), value)
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
    let file = match fs::File::open(path) {
        Ok(file) => file,
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

/// Whether what the agent saves outlives its container.
pub fn persistence(agent: &AgentContainer) -> Result<Persistence> {
    let configured = agent.env.get("ECS_DATADIR").filter(|dir| !dir.is_empty());
    let inside = configured.map_or("/data", String::as_str).trim_end_matches('/');
    let mount = agent.mounts.iter().find(|m| m.destination.trim_end_matches('/') == inside && m.read_write);
    let checkpoint = match agent.env.get("ECS_CHECKPOINT").map(|v| v.to_ascii_lowercase()) {
        Some(value) => matches!(value.as_str(), "true" | "t" | "1"),
        None => configured.is_some(),
    };
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
        data_dir: configured.cloned().or_else(|| mount.map(|_| inside.to_owned())),
        host_dir: mount.map(|m| m.source.clone()),
        checkpoint,
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
    fn bytes_that_are_no_text_are_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ecs.config");
        fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        let missing = config_file(&path).unwrap_err();
        assert!(missing.what.ends_with("ecs.config") && missing.why.contains("UTF-8"), "{missing}");
    }
}
