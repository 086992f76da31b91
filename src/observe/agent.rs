//! The agent: where it is, its version, its files.

use super::Seen;
use crate::{
    config::Settings,
    facts::{
        AgentCache, AgentContainer, AgentVersion, ConfigFile, Fact, Introspection, Missing, Persistence, Presence,
        Systemd, UnitRole, VersionSource,
    },
    ports::{Ports, files, introspection::parse_version},
};
use std::{path::Path, time::Duration};

/// What a unit's command holds when it runs the agent's container.
pub(super) fn words(settings: &Settings) -> Vec<String> {
    vec![settings.agent.container.clone(), "amazon-ecs-agent".to_owned()]
}

/// A container, or a host process under the agent's unit (Bottlerocket), or neither.
pub(super) fn presence(container: Seen<Option<AgentContainer>>, systemd: &Fact<Systemd>) -> Fact<Presence> {
    if let Ok(Some(container)) = container {
        return Fact::Known(Presence::Container(Box::new(container)));
    }
    if let Fact::Known(Systemd::Booted { units }) = systemd
        && let Some(unit) = units.iter().find(|u| u.role == UnitRole::AgentProcess && u.main_pid != 0)
    {
        let exe = unit.exec_start.first().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
        return Fact::Known(Presence::HostProcess { pid: unit.main_pid, exe });
    }
    match container {
        Ok(_) => Fact::Known(Presence::Absent),
        Err(missing) => Fact::Unknown(missing),
    }
}

/// The version in the words of introspection, else of the binary in the container.
pub(super) async fn version(
    ports: &Ports,
    container: &Seen<Option<AgentContainer>>,
    introspection: &Seen<Introspection>,
) -> Fact<AgentVersion> {
    let why = match introspection {
        Ok(metadata) => match parse_version(&metadata.version) {
            Ok(version) => return Fact::Known(AgentVersion { version, source: VersionSource::Introspection }),
            Err(error) => error.to_string(),
        },
        Err(missing) => missing.to_string(),
    };
    let Ok(Some(AgentContainer { id, pid: Some(_), .. })) = container else {
        return Fact::unknown("version of the agent", why, "its container does not run, so it cannot be asked there");
    };
    match ports.engine.agent_version(id).await {
        Err(missing) => Fact::Unknown(missing),
        Ok(text) => match parse_version(&text) {
            Ok(version) => Fact::Known(AgentVersion { version, source: VersionSource::Exec }),
            Err(error) => Fact::unknown("/agent -version in the agent's container", error, why),
        },
    }
}

/// The files that decide what the next start does. Reading them is bounded, should a disk hang.
pub(super) async fn files(
    settings: &Settings,
    presence: &Fact<Presence>,
) -> (Fact<AgentCache>, Fact<Persistence>, Fact<ConfigFile>, Fact<Vec<String>>) {
    let (cache_dir, config_file) = (settings.agent.cache_dir.clone(), settings.agent.config_file.clone());
    let (traces_dir, units) = (cache_dir.clone(), settings.agent.units.clone());
    let container = match presence {
        Fact::Known(Presence::Container(container)) => Ok(container.clone()),
        Fact::Known(_) => Err(Missing::new("state directory of the agent", "there is no agent container", "")),
        Fact::Unknown(missing) => Err(missing.clone()),
    };
    let (cache, persistence, config, traces) = tokio::join!(
        bounded("agent cache", move || files::cache(&cache_dir)),
        bounded("state directory of the agent", move || files::persistence(&*container?)),
        bounded("agent configuration", move || files::config_file(&config_file)),
        bounded("traces of ecs-init", move || files::ecs_init(Path::new("/"), &traces_dir, &units)),
    );
    let traces = traces.map(|paths| paths.iter().map(|path| path.display().to_string()).collect());
    (cache, persistence, config, traces)
}

async fn bounded<T: Send + 'static>(what: &str, read: impl FnOnce() -> Seen<T> + Send + 'static) -> Fact<T> {
    const DEADLINE: Duration = Duration::from_secs(5);
    match tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(read)).await {
        Ok(Ok(seen)) => seen.into(),
        Ok(Err(error)) => Fact::unknown(what, error, ""),
        Err(_) => Fact::unknown(what, format!("no answer within {} s", DEADLINE.as_secs()), "does the disk hang?"),
    }
}
