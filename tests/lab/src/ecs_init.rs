//! A stand-in for amazon-ecs-init, with its commands, its exit codes and its habits: it knows the agent's container by
//! name only, and takes an exit code of 0 for a wish to stop.

mod engine;
mod imds;
mod rules;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use engine::Engine;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

const AGENT_NAME: &str = "ecs-agent";
const AGENT_IMAGE: &str = "amazon/amazon-ecs-agent:latest";
const CACHE: &str = "/var/cache/ecs";
const CONFIG: &str = "/etc/ecs/ecs.config";
const INSTANCE_CONFIG: &str = "/var/lib/ecs/ecs.config";
/// Before the engine kills an agent that does not stop, in seconds.
const STOP_TIMEOUT_S: u32 = 10;
/// Waits between two starts of an agent that keeps failing.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Exit codes of the agent that mean something to ecs-init; any other is tried again.
const SUCCESS: i64 = 0;
const CONTAINER_FAILURE: i64 = 2;
const TERMINAL_FAILURE: i64 = 5;
const UPGRADE: i64 = 42;

/// Keeps an ECS agent running, as amazon-ecs-init does.
#[derive(Debug, Parser)]
#[command(name = "amazon-ecs-init")]
struct EcsInitArgs {
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Lay the credential routes and load the agent's image
    PreStart,
    /// Start the agent and stay until it is not to be started again
    Start,
    /// Stop whatever container has the agent's name
    Stop,
    /// The same, as upstart called it
    PreStop,
    /// Take the credential routes away
    PostStop,
}

/// Why ecs-init ends with an error.
enum Failure {
    /// The agent said that it will never start: do not try again.
    Terminal,
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

/// `amazon-ecs-init`. Ends with 0, with 5 when the agent must not be started again, or with 255.
///
/// # Errors
///
/// When there is no runtime to be had; what goes wrong later ends with 255.
pub fn main(args: Vec<OsString>) -> Result<ExitCode> {
    let action = EcsInitArgs::parse_from(args).action;
    let done = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(action));
    Ok(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Terminal) => {
            eprintln!("error: agent exited with terminal exit code: {TERMINAL_FAILURE}");
            ExitCode::from(5)
        }
        Err(Failure::Other(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(255)
        }
    })
}

async fn run(action: Action) -> Result<(), Failure> {
    // Like the original, every command first asks the instance for its region and the engine for its bridge, and
    // ends with an error when there is no engine. It is why a container restarted by Docker is up again by the time
    // the stop command looks for it.
    let region = imds::region().await;
    eprintln!("info: {}", region.unwrap_or_else(|error| format!("no region from instance metadata: {error:#}")));
    let engine = Engine;
    let bridge = engine.bridge_interface().await?;
    let bridge = bridge.as_deref();
    match action {
        Action::PreStart => Ok(pre_start(&engine, bridge).await?),
        Action::Start => start_supervised(&engine).await,
        Action::Stop | Action::PreStop => Ok(stop(&engine).await?),
        Action::PostStop => Ok(post_stop(bridge)?),
    }
}

async fn pre_start(engine: &Engine, bridge: Option<&str>) -> Result<()> {
    rules::route_localnet(true).context("could not enable loopback routing")?;
    rules::disable_router_advertisements()?;
    rules::create(bridge).context("could not create route to the credentials proxy")?;
    let loaded = engine.has_image(AGENT_IMAGE).await?;
    match (CacheStatus::read(Path::new(CACHE)), loaded) {
        (CacheStatus::Uncached, _) => {
            bail!("could not download Amazon Elastic Container Service Agent: the lab has no bucket with agents")
        }
        (CacheStatus::Cached, true) => Ok(()),
        (CacheStatus::Cached, false) | (CacheStatus::ReloadNeeded, _) => {
            eprintln!("info: pre-start: loading the cached agent");
            load(engine, &Path::new(CACHE).join("ecs-agent.tar")).await
        }
    }
}

async fn load(engine: &Engine, archive: &Path) -> Result<()> {
    let loaded = engine.load(archive).await;
    loaded.with_context(|| format!("could not load the agent from {}", archive.display()))?;
    fs::write(Path::new(CACHE).join("state"), "1").context("could not record the cached agent")
}

async fn start_supervised(engine: &Engine) -> Result<(), Failure> {
    let mut wait = BACKOFF.0;
    loop {
        if let Some(id) = engine.find(AGENT_NAME).await? {
            eprintln!("info: Removing existing agent container ID: {id}");
            engine.remove(&id).await.context("could not remove existing Agent container")?;
        }
        eprintln!("info: Starting Amazon Elastic Container Service Agent");
        let code = run_agent(engine).await.context("could not start Agent")?;
        eprintln!("info: Agent exited with code {code}");
        match code {
            SUCCESS => return Ok(()),
            TERMINAL_FAILURE => return Err(Failure::Terminal),
            UPGRADE => match desired_image(Path::new(CACHE)) {
                Ok(archive) => match load(engine, &archive).await {
                    Ok(()) => continue,
                    Err(error) => eprintln!("error: could not upgrade agent: {error:#}"),
                },
                Err(error) => eprintln!("error: could not upgrade agent: {error:#}"),
            },
            CONTAINER_FAILURE => match engine.log_tail(AGENT_NAME, 200).await {
                Ok(tail) => eprintln!("info: the last 200 lines of the agent container logs:\n{tail}"),
                Err(error) => eprintln!("info: no agent container logs: {error:#}"),
            },
            _ => {}
        }
        eprintln!("warn: ECS Agent failed to start, retrying in {wait:?}");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Creates and starts the agent, and gives its exit code when it ends.
async fn run_agent(engine: &Engine) -> Result<i64> {
    let id = engine.create(AGENT_NAME, &container(&environment())).await?;
    engine.start(&id).await?;
    engine.wait(&id).await
}

async fn stop(engine: &Engine) -> Result<()> {
    eprintln!("info: Stopping Amazon Elastic Container Service Agent");
    match engine.find(AGENT_NAME).await? {
        None => {
            eprintln!("info: No running Agent to stop");
            Ok(())
        }
        Some(id) => {
            engine.stop(&id, STOP_TIMEOUT_S).await.context("could not stop Amazon Elastic Container Service Agent")
        }
    }
}

fn post_stop(bridge: Option<&str>) -> Result<()> {
    eprintln!("info: Cleaning up the credentials endpoint setup for Amazon Elastic Container Service Agent");
    let restored = rules::route_localnet(false);
    rules::remove(bridge);
    restored
}

/// What `/var/cache/ecs/state` says about the archive beside it.
#[derive(Debug, PartialEq, Eq)]
enum CacheStatus {
    /// Nothing usable: download.
    Uncached,
    /// Load it unless an agent is loaded.
    Cached,
    /// Load it whatever is loaded: an upgrade.
    ReloadNeeded,
}

impl CacheStatus {
    fn read(cache: &Path) -> Self {
        let filled = |name: &str| fs::metadata(cache.join(name)).is_ok_and(|file| file.len() > 0);
        if !filled("state") || !filled("ecs-agent.tar") {
            return CacheStatus::Uncached;
        }
        match fs::read_to_string(cache.join("state")).unwrap_or_default().trim() {
            "1" => CacheStatus::Cached,
            "2" => CacheStatus::ReloadNeeded,
            _ => CacheStatus::Uncached,
        }
    }
}

/// The archive that the agent's updater asked for before it ended with [`UPGRADE`].
fn desired_image(cache: &Path) -> Result<PathBuf> {
    let locator = cache.join("desired-image");
    let text = fs::read_to_string(&locator).with_context(|| format!("could not read {}", locator.display()))?;
    let line = text.lines().next().unwrap_or_default();
    let name = Path::new(line.trim()).file_name().with_context(|| format!("{} names no file", locator.display()))?;
    Ok(cache.join(name))
}

/// The agent's environment: what ecs-init sets, under what the two files say.
fn environment() -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> = [
        ("ECS_LOGFILE", "/log/ecs-agent.log"),
        ("ECS_DATADIR", "/data"),
        ("ECS_AGENT_CONFIG_FILE_PATH", "/etc/ecs/ecs.config.json"),
        ("ECS_UPDATE_DOWNLOAD_DIR", CACHE),
        ("ECS_UPDATES_ENABLED", "true"),
        ("ECS_AVAILABLE_LOGGING_DRIVERS", r#"["json-file","syslog","awslogs","fluentd","none"]"#),
        ("ECS_ENABLE_TASK_IAM_ROLE", "true"),
        ("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", "true"),
        ("ECS_ENABLE_TASK_ENI", "true"),
        ("ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE", "true"),
        ("ECS_AGENT_LABELS", ""),
        ("SSL_CERT_DIR", "/etc/ssl/certs"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    for file in [INSTANCE_CONFIG, CONFIG] {
        environment.extend(parse_config(&fs::read_to_string(file).unwrap_or_default()));
    }
    environment
}

/// `KEY=value` a line; no quotes, no comments, lines without `=` ignored: that is all ecs-init understands.
fn parse_config(text: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = text.trim().lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// Body of the engine's create call.
fn container(environment: &BTreeMap<String, String>) -> Value {
    let mut binds: Vec<String> = [
        "/var/run:/var/run",
        "/var/log/ecs:/log",
        "/var/lib/ecs/data:/data",
        "/etc/ecs:/etc/ecs",
        "/var/cache/ecs:/var/cache/ecs",
        "/sys/fs/cgroup:/sys/fs/cgroup",
        "/var/lib/ecs:/var/lib/ecs",
        "/var/log/ecs/exec:/log/exec",
        "/etc/ssl/certs:/etc/ssl/certs:ro",
        "/run/docker/plugins:/run/docker/plugins:ro",
        "/etc/docker/plugins:/etc/docker/plugins:ro",
        "/usr/lib/docker/plugins:/usr/lib/docker/plugins:ro",
        "/proc:/host/proc:ro",
        "/usr/lib:/usr/lib:ro",
        "/lib:/lib:ro",
        "/usr/lib64:/usr/lib64:ro",
        "/lib64:/lib64:ro",
        "/sbin:/host/sbin:ro",
        "/etc/alternatives:/etc/alternatives:ro",
        "/usr/sbin:/usr/sbin:ro",
    ]
    .map(str::to_owned)
    .into();
    let tools =
        ["/usr/bin/lsblk", "/usr/bin/nsenter", "/sbin/modinfo"].into_iter().filter(|tool| Path::new(tool).exists());
    binds.extend(tools.map(|tool| format!("{tool}:{tool}")));
    json!({
        "Image": AGENT_IMAGE,
        "Env": environment.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
        "HostConfig": {
            "Binds": binds,
            "NetworkMode": "host",
            "UsernsMode": "host",
            "CapAdd": ["NET_ADMIN", "SYS_ADMIN"],
            "Init": true,
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "16m", "max-file": "4" } },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_read_as_ecs_init_reads_it() {
        let pairs: Vec<_> = parse_config("\nECS_CLUSTER=prod \n  A=b=c\nnot a pair\n#X=1\nQUOTED=\"y\"\n").collect();
        let expected = [("ECS_CLUSTER", "prod"), ("A", "b=c"), ("#X", "1"), ("QUOTED", "\"y\"")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_empty_or_missing_file_means_uncached() {
        let cache = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(cache.path().join(name), text).unwrap();
        assert_eq!(CacheStatus::read(cache.path()), CacheStatus::Uncached);
        put("state", "1");
        assert_eq!(CacheStatus::read(cache.path()), CacheStatus::Uncached);
        put("ecs-agent.tar", "");
        assert_eq!(CacheStatus::read(cache.path()), CacheStatus::Uncached);
        put("ecs-agent.tar", "x");
        assert_eq!(CacheStatus::read(cache.path()), CacheStatus::Cached);
        put("state", "2\n");
        assert_eq!(CacheStatus::read(cache.path()), CacheStatus::ReloadNeeded);
        put("state", "0");
        assert_eq!(CacheStatus::read(cache.path()), CacheStatus::Uncached);
    }

    #[test]
    fn desired_image_stays_in_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        assert!(desired_image(cache.path()).is_err());
        fs::write(cache.path().join("desired-image"), "/elsewhere/ecs-agent-v1.106.0.tar\n").unwrap();
        assert_eq!(desired_image(cache.path()).unwrap(), cache.path().join("ecs-agent-v1.106.0.tar"));
    }
}
