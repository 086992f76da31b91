//! `hostagent-lab engine`

use super::{Engine, Spec};
use anyhow::Context as _;
use clap::Parser;
use std::{ffi::OsString, path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// Brings up an engine with an agent and three other containers, and keeps it until SIGTERM or Ctrl-C.
///
/// The agent's settings (ECS_…, LAB_…, SSL_CERT_FILE, …) are taken from the environment.
#[derive(Debug, Parser)]
#[command(name = "hostagent-lab engine")]
struct Args {
    /// Unix socket to listen on
    #[arg(long, default_value = "hostagent-lab-engine.sock")]
    socket: PathBuf,
    /// Directory of the host behind the agent's /data
    #[arg(long)]
    data: PathBuf,
    /// File for the agent's log
    #[arg(long)]
    log: Option<PathBuf>,
}

/// Variables of the agent's container that are taken over from here.
const PASSED: [&str; 4] = ["ECS_", "LAB_", "AWS_", "SSL_CERT_FILE"];

/// `hostagent-lab engine`.
///
/// # Errors
///
/// When the socket is not to be had, or a container cannot be started.
pub fn main(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let args = Args::parse_from(args);
    let data = std::path::absolute(&args.data)?;
    std::fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
    let links = tempfile::tempdir()?;
    let env = std::env::vars().filter(|(name, _)| PASSED.iter().any(|passed| name.starts_with(passed)));
    let mut specs = vec![Spec::agent(links.path(), &data, env.collect(), args.log)?];
    specs.extend(Spec::workloads()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::start(&args.socket, specs)?;
        engine.start_all().await?;
        println!("{}", serde_json::json!({ "host": engine.host() }));
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

impl Spec {
    /// The agent's container as people run it without ecs-init. `links` gets a link through which this program is
    /// the agent; `data` is the directory behind `/data`.
    ///
    /// # Errors
    ///
    /// When the link cannot be made.
    pub fn agent(
        links: &std::path::Path,
        data: &std::path::Path,
        mut env: std::collections::BTreeMap<String, String>,
        log: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let program = links.join("agent");
        std::os::unix::fs::symlink(std::env::current_exe()?, &program).context("link the agent")?;
        env.insert("ECS_DATADIR".into(), data.display().to_string());
        Ok(Self {
            name: "ecs-agent".into(),
            image: "amazon/amazon-ecs-agent:latest".into(),
            path: "/agent".into(),
            program,
            env,
            // One name space of files: inside and outside are the same path.
            binds: vec![format!("{0}:{0}", data.display())],
            host_network: true,
            init: true,
            retries: Some(10),
            log,
            ..Self::default()
        })
    }

    /// Three containers that do nothing, to see that nobody touches them.
    ///
    /// # Errors
    ///
    /// When this program cannot be found.
    pub fn workloads() -> anyhow::Result<Vec<Self>> {
        let program = std::env::current_exe()?;
        let workload = |name: &str| Self {
            name: format!("ecs-{name}-1-{name}"),
            image: format!("{}.dkr.ecr.eu-west-1.amazonaws.com/{name}:1", crate::region::place::ACCOUNT),
            path: "/pause".into(),
            program: program.clone(),
            args: vec!["pause".into()],
            ..Self::default()
        };
        Ok(["web", "worker", "cache"].map(workload).into())
    }
}
