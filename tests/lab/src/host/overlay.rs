//! What a host is to be, written down as files that are laid over the image before its systemd starts.

use super::{HostOptions, Supervisor, archive};
use anyhow::{Context, Result};
use std::{fmt::Write as _, fs, os::unix::fs::symlink, path::Path};

/// Units that start at boot, as links of this directory.
const WANTED: &str = "etc/systemd/system/multi-user.target.wants";
/// hostagent's settings on every host: the lab's public addresses are special-purpose ones, and tests are impatient.
const HOSTAGENT: &str = r#"[network]
public_cidrs = ["198.51.100.0/24"]
"#;
/// The agent's archives, where there is no ecs-init.
pub const AGENT_IMAGES: &str = "opt/agent";
/// A unit of the user's own making around the agent, as people wrote them before ecs-init.
pub const FOREIGN_UNIT: &str = "our-ecs-agent.service";

/// Writes the tree that is to be copied over the host's root.
pub fn write(root: &Path, options: &HostOptions) -> Result<()> {
    // Not in the image: there a package that replaces the link and is removed would uncover it.
    fs::create_dir_all(root.join("usr/bin"))?;
    symlink("/opt/lab/hostagent", root.join("usr/bin/hostagent"))?;
    put(root, "etc/hostagent/config.d/10-lab.toml", HOSTAGENT)?;
    if !options.hostagent.is_empty() {
        put(root, "etc/hostagent/config.d/20-test.toml", &options.hostagent)?;
    }
    put(root, "etc/ecs/ecs.config", &ecs_config(options))?;
    put(root, "etc/lab-instance", &format!("LAB_INSTANCE={}\n", options.instance_id))?;
    // Where there is no ecs-init, there is no cache of its own either.
    let cache = match options.supervisor {
        Supervisor::EcsInit => root.join("var/cache/ecs"),
        _ => root.join(AGENT_IMAGES),
    };
    fs::create_dir_all(&cache)?;
    let versions = options.staged.iter().chain([&options.agent_version]);
    for version in versions {
        let archive = archive::agent(version)?;
        fs::copy(archive, cache.join(format!("ecs-agent-v{version}.tar")))?;
    }
    symlink(format!("ecs-agent-v{}.tar", options.agent_version), cache.join("ecs-agent.tar"))?;
    fs::write(cache.join("state"), "1")?;
    if options.workloads {
        fs::create_dir_all(root.join("opt/images"))?;
        fs::copy(archive::workload()?, root.join("opt/images/workload.tar"))?;
        enable(root, "lab-workloads.service")?;
    }
    match options.supervisor {
        // On no other host: where ecs-init is installed beside somebody else's agent, ownership is not clear.
        Supervisor::EcsInit => {
            put(root, "usr/lib/systemd/system/ecs.service", include_str!("../../host/ecs.service"))?;
            enable(root, "ecs.service")?;
        }
        Supervisor::Foreign => {
            put(root, &format!("usr/lib/systemd/system/{FOREIGN_UNIT}"), &foreign_unit(options))?;
            enable(root, FOREIGN_UNIT)?;
        }
        // Started, if at all, by the harness: no unit may have a part in it.
        Supervisor::BareDocker | Supervisor::None => {}
    }
    for (number, change) in options.region.iter().enumerate() {
        put(root, &format!("etc/lab-switches/{number:02}.json"), &serde_json::to_string(change)?)?;
    }
    for (path, text) in &options.files {
        put(root, path.trim_start_matches('/'), text)?;
    }
    Ok(())
}

fn put(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))
}

fn enable(root: &Path, unit: &str) -> Result<()> {
    fs::create_dir_all(root.join(WANTED))?;
    Ok(symlink(format!("/usr/lib/systemd/system/{unit}"), root.join(WANTED).join(unit))?)
}

fn ecs_config(options: &HostOptions) -> String {
    let mut text = "ECS_CLUSTER=prod\nSSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n".to_owned();
    if !options.persisted {
        text.push_str("ECS_CHECKPOINT=false\n");
    }
    for (key, value) in &options.ecs_config {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

/// Arguments after `docker` that run the agent without ecs-init, as the documentation once said.
pub fn docker_run(options: &HostOptions, how: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> = ["run", "--name=ecs-agent"].map(str::to_owned).into();
    arguments.extend(how.iter().map(|&flag| flag.to_owned()));
    let flags = [
        "--init",
        "--net=host",
        "--volume=/var/run:/var/run",
        "--volume=/var/log/ecs:/log",
        "--volume=/etc/ecs:/etc/ecs",
        "--volume=/etc/ssl/certs:/etc/ssl/certs:ro",
        "--env-file=/etc/ecs/ecs.config",
    ];
    arguments.extend(flags.map(str::to_owned));
    if options.persisted {
        arguments.extend(["--volume=/var/lib/ecs/data:/data", "--env=ECS_DATADIR=/data"].map(str::to_owned));
    }
    arguments.push("amazon/amazon-ecs-agent:latest".to_owned());
    arguments
}

fn foreign_unit(options: &HostOptions) -> String {
    let run = docker_run(options, &["--rm"]).join(" ");
    format!(
        "[Unit]\nDescription=The ECS agent, our own way\nRequires=docker.service\nAfter=docker.service\n\n\
         [Service]\nRestart=always\nRestartSec=1s\n\
         ExecStartPre=-/usr/bin/docker rm --force ecs-agent\n\
         ExecStartPre=/usr/bin/docker load --quiet --input /opt/agent/ecs-agent.tar\n\
         ExecStart=/usr/bin/docker {run}\nExecStop=/usr/bin/docker stop ecs-agent\n"
    )
}
