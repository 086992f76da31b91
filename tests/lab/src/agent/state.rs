//! What the agent keeps between its lives: `agent.db` since 1.44.0, `ecs_agent_data.json` before.
//!
//! The real `agent.db` is a BoltDB; this one holds strict JSON.

use super::config::Config;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::{fs, io::ErrorKind, path::PathBuf};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Saved {
    pub cluster: String,
    pub container_instance_arn: String,
    #[serde(rename = "EC2InstanceID")]
    pub ec2_instance_id: String,
    pub agent_version: String,
}

fn database(config: &Config) -> PathBuf {
    config.data_dir.join("agent.db")
}

fn json_file(config: &Config) -> PathBuf {
    config.data_dir.join("ecs_agent_data.json")
}

fn keeps_database(config: &Config) -> bool {
    config.version_numbers() >= (1, 44, 0)
}

/// The saved state; `None` without any, and when checkpointing is off.
///
/// # Errors
///
/// When there is one and it cannot be read. The real agent ends with exit code 5 then.
pub fn load(config: &Config) -> anyhow::Result<Option<Saved>> {
    if !config.checkpoint {
        return Ok(None);
    }
    // Newer agents take over what older ones have left.
    let newer = keeps_database(config).then(|| database(config));
    for path in newer.into_iter().chain([json_file(config)]) {
        match fs::read(&path) {
            Ok(bytes) => {
                let saved = serde_json::from_slice(&bytes).with_context(|| format!("state in {}", path.display()))?;
                return Ok(Some(saved));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("state in {}", path.display())),
        }
    }
    Ok(None)
}

/// Keeps the state, if checkpointing is on.
pub fn save(config: &Config, saved: &Saved) -> anyhow::Result<()> {
    if !config.checkpoint {
        return Ok(());
    }
    let path = if keeps_database(config) { database(config) } else { json_file(config) };
    let aside = path.with_extension("tmp");
    let write = || -> anyhow::Result<()> {
        fs::write(&aside, serde_json::to_vec(saved)?)?;
        Ok(fs::rename(&aside, &path)?)
    };
    write().with_context(|| format!("save state in {}", path.display()))
}
