//! What the story plays on: the region, the engine with the agent and the tasks, and hostagent's configuration.

use super::{Kind, docker::DockerStage};
use crate::{
    engine::{Engine, EngineHandle, Spec, Status},
    region::{
        Region, RegionConfig, RegionHandle,
        place::{ACCOUNT, CLUSTER, INSTANCE, REGION, Service},
        switch::What,
    },
};
use anyhow::Context as _;
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

// Fields are dropped in this order: containers first, then what they talk to, then their files.
pub struct Stage {
    players: Players,
    pub region: RegionHandle,
    pub config_dir: PathBuf,
    pub introspection: SocketAddr,
    log: PathBuf,
    _dir: TempDir,
}

enum Players {
    Embedded(EngineHandle),
    Docker(DockerStage),
}

/// A task's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub name: String,
    pub id: String,
    pub pid: u32,
    pub started_at: String,
}

impl Task {
    pub fn row(&self) -> Vec<String> {
        let id = self.id.get(..12).unwrap_or(&self.id).to_string();
        vec![self.name.clone(), id, self.pid.to_string(), self.started_at.clone()]
    }
}

impl Stage {
    /// Brings everything up, with all names public.
    ///
    /// # Errors
    ///
    /// When something cannot be brought up.
    pub async fn set(kind: Kind) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("hostagent-lab-").tempdir().context("make a temporary directory")?;
        let at = |name: &str| dir.path().join(name);
        let config = RegionConfig { ttl: 1, ..RegionConfig::loopback(at("region")) };
        let region = Region::start(config).await?;
        let data = at("data");
        for made in [&data, &at("config"), &at("state"), &at("run")] {
            fs::create_dir(made).with_context(|| format!("make {}", made.display()))?;
        }
        let (introspection, credentials) = (free_port()?, free_port()?);
        let env = agent_env(&region, introspection, credentials);
        let settings: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        fs::write(at("ecs.config"), settings.concat())?;
        fs::write(at("resolv.conf"), "nameserver 127.0.0.1\n")?;
        fs::write(at("hosts"), "127.0.0.1 localhost\n")?;

        let log = at("agent.log");
        let players = match kind {
            Kind::Embedded => {
                let mut specs = vec![Spec::agent(dir.path(), &data, env, Some(log.clone()))?];
                specs.extend(Spec::workloads()?);
                let engine = Engine::start(&at("engine.sock"), specs)?;
                engine.start_all().await?;
                Players::Embedded(engine)
            }
            Kind::Docker => Players::Docker(DockerStage::set(dir.path(), &data, &region.addresses().ca, env).await?),
        };
        let host = players.host();
        let config = hostagent_config(&region, dir.path(), &host, introspection, credentials);
        fs::write(at("config").join("50-lab.toml"), config)?;
        let config_dir = at("config");
        let introspection = SocketAddr::from((Ipv4Addr::LOCALHOST, introspection));
        let stage = Self { players, region, config_dir, introspection, log, _dir: dir };
        fs::write(data.join("tasks.json"), tasks_json(&stage.tasks().await?))?;
        Ok(stage)
    }

    /// Waits until both websockets have been opened after event number `after`.
    ///
    /// # Errors
    ///
    /// When they are not within `limit`.
    pub async fn connected(&self, after: u64, limit: Duration) -> anyhow::Result<()> {
        for wanted in [Service::EcsAgent, Service::EcsTelemetry] {
            let opened = self.region.wait_for(
                after,
                limit,
                |event| matches!(&event.what, What::WsOpen { websocket } if websocket.service == wanted),
            );
            opened.await.with_context(|| format!("the agent does not connect: {}", self.agent_log()))?;
        }
        Ok(())
    }

    /// The containers beside the agent's.
    pub async fn tasks(&self) -> anyhow::Result<Vec<Task>> {
        match &self.players {
            Players::Docker(docker) => docker.tasks().await,
            Players::Embedded(engine) => {
                let others = engine.containers().into_iter().skip(1).filter(|view| view.status == Status::Running);
                let task = |view: crate::engine::View| Task {
                    name: view.name,
                    id: view.id,
                    pid: view.pid,
                    started_at: view.started_at,
                };
                Ok(others.map(task).collect())
            }
        }
    }

    /// The last lines of the agent's log.
    pub fn agent_log(&self) -> String {
        let text = match &self.players {
            Players::Docker(docker) => docker.agent_log(),
            Players::Embedded(_) => fs::read_to_string(&self.log).unwrap_or_default(),
        };
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        format!("the agent's log ends with:\n{}", last.join("\n"))
    }

    pub fn description(&self) -> String {
        let addresses = self.region.addresses();
        let engine = match &self.players {
            Players::Embedded(engine) => format!("a stand-in within this process, {}", engine.host()),
            Players::Docker(docker) => format!("the Docker Engine of this machine, {}", docker.host()),
        };
        format!(
            "  region     {REGION}, account {ACCOUNT}, instance {INSTANCE}: stand-ins on loopback addresses\n  \
             DNS        {}, switchable, TTL 1 s\n  \
             public     {}, HTTPS on port {}\n  \
             VPC        {}: where endpoints will be\n  \
             engine     {engine}\n  \
             agent      container ecs-agent, cluster {CLUSTER}, three tasks beside it\n  \
             hostagent  the real one, told all this by {}",
            addresses.dns,
            addresses.public_cidr,
            addresses.https_port,
            addresses.vpc_cidrs.join(" and "),
            self.config_dir.join("50-lab.toml").display(),
        )
    }
}

impl Players {
    fn host(&self) -> String {
        match self {
            Players::Embedded(engine) => engine.host(),
            Players::Docker(docker) => docker.host(),
        }
    }
}

fn agent_env(region: &RegionHandle, introspection: u16, credentials: u16) -> BTreeMap<String, String> {
    let addresses = region.addresses();
    let env = [
        ("ECS_CLUSTER", CLUSTER.to_string()),
        ("AWS_DEFAULT_REGION", REGION.to_string()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", addresses.imds)),
        ("SSL_CERT_FILE", addresses.ca.display().to_string()),
        ("LAB_DNS", addresses.dns.to_string()),
        ("LAB_HTTPS_PORT", addresses.https_port.to_string()),
        ("LAB_INTROSPECTION_ADDR", format!("127.0.0.1:{introspection}")),
        ("LAB_CREDENTIALS_ADDR", format!("127.0.0.1:{credentials}")),
    ];
    env.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn hostagent_config(region: &RegionHandle, dir: &Path, host: &str, introspection: u16, credentials: u16) -> String {
    let addresses = region.addresses();
    let at = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    format!(
        "# Written by hostagent-lab: where the lab's stand-ins are.\n\
         [agent]\n\
         introspection = \"http://127.0.0.1:{introspection}\"\n\
         config_file = {}\n\
         cache_dir = {}\n\
         credentials_port = {credentials}\n\n\
         [docker]\n\
         host = {host:?}\n\n\
         [network]\n\
         public_cidrs = [{:?}]\n\
         resolver = {:?}\n\
         resolv_conf = {}\n\
         hosts_file = {}\n\
         https_port = {}\n\
         # The AWS SDK would ask the resolver of this machine.\n\
         discover = false\n\n\
         [instance]\n\
         imds = \"http://{}\"\n\n\
         # Short, because the lab's names have a TTL of one second.\n\
         [confirm]\n\
         samples = 2\n\
         min_spread_s = 2\n\n\
         [restart]\n\
         deadline_s = 30\n\
         hold_s = 2\n\n\
         [paths]\n\
         state_dir = {}\n\
         runtime_dir = {}\n",
        at("ecs.config"),
        at("cache"),
        addresses.public_cidr,
        addresses.dns.to_string(),
        at("resolv.conf"),
        at("hosts"),
        addresses.https_port,
        addresses.imds,
        at("state"),
        at("run"),
    )
}

/// What the agent's introspection tells of the tasks.
fn tasks_json(tasks: &[Task]) -> String {
    let task = |(number, task): (usize, &Task)| {
        serde_json::json!({
            "Arn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/{CLUSTER}/{number:032x}"),
            "DesiredStatus": "RUNNING",
            "KnownStatus": "RUNNING",
            "Family": task.name,
            "Version": "1",
            "Containers": [{ "DockerId": task.id, "DockerName": task.name, "Name": task.name }],
        })
    };
    let tasks: Vec<_> = tasks.iter().enumerate().map(task).collect();
    serde_json::json!({ "Tasks": tasks }).to_string()
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
