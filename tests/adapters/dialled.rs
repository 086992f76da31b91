//! What a look connects to: the hosts and ports that the agent's own settings name.

use async_trait::async_trait;
use hostagent::{
    catalog::Service,
    config::Settings,
    facts::*,
    flow,
    ports::{Acted, Engine, HttpAsk, Metadata, Ports, Prober, Resolver},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

const ADDRESS: &str = "10.50.1.10";

type Result<T> = std::result::Result<T, Missing>;

/// A host whose agent has this environment; every name has one address, which answers on every port.
struct Host {
    env: setting::Env,
    probed: Mutex<BTreeSet<(String, SocketAddr)>>,
}

#[async_trait]
impl Engine for Host {
    async fn agent(&self, name: &str) -> Result<Option<AgentContainer>> {
        Ok(Some(AgentContainer {
            id: "c0ffee".into(),
            name: name.into(),
            image: "amazon/amazon-ecs-agent:latest".into(),
            image_id: "sha256:01".into(),
            state: ContainerState::Running,
            pid: None,
            started_at: "2026-09-01T08:00:00Z".into(),
            host_network: true,
            restart_policy: RestartPolicy::Always,
            mounts: vec![],
            env: self.env.clone(),
            health: None,
        }))
    }

    async fn workloads(&self, _: &str) -> Result<Vec<Workload>> {
        Ok(vec![])
    }

    async fn agent_version(&self, _: &str) -> Result<String> {
        Ok("Amazon ECS Agent - v1.105.1".into())
    }

    async fn restart(&self, _: &str, _: u32) -> Acted<()> {
        unreachable!("a check touches nothing")
    }

    async fn start(&self, _: &str) -> Acted<()> {
        unreachable!("a check touches nothing")
    }
}

#[async_trait]
impl Metadata for Host {
    async fn instance(&self) -> Result<Instance> {
        Ok(Instance {
            instance_id: "i-1".into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            partition: "aws".into(),
            dns_suffix: "amazonaws.com".into(),
            availability_zone: "eu-west-1a".into(),
            vpc_cidrs: vec!["10.50.0.0/17".parse().unwrap()],
        })
    }
}

#[async_trait]
impl Resolver for Host {
    async fn lookup(&self, _: &str) -> Answer {
        Answer::Addresses(vec![Address { ip: ADDRESS.parse().unwrap(), ttl_s: Some(60) }])
    }
}

#[async_trait]
impl Prober for Host {
    async fn probe(&self, addr: SocketAddr, host: &str, _: HttpAsk) -> ReachOutcome {
        self.probed.lock().unwrap().insert((host.into(), addr));
        ReachOutcome::Reached { http_status: None }
    }
}

/// What a check connects to, as `host:port`, and whether every address of the API was found to answer.
async fn dialled(env: &[(&str, &str)]) -> (BTreeSet<String>, bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.paths.state_dir = dir.path().into();
    let host = Arc::new(Host {
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        probed: Mutex::default(),
    });
    let ports = Ports {
        engine: host.clone(),
        metadata: host.clone(),
        resolver: host.clone(),
        prober: host.clone(),
        ..Ports::of_this_host(&settings)
    };
    let check = flow::check(&ports, &settings, &[], false).await;
    let api = check.assessment.service(Service::Ecs).unwrap();
    let answers = api.addresses.iter().all(|address| address.reach.as_ref().is_some_and(ReachOutcome::reached));
    let probed = host.probed.lock().unwrap();
    (probed.iter().map(|(name, addr)| format!("{name}:{}", addr.port())).collect(), answers)
}

#[tokio::test]
async fn the_ports_are_those_that_the_agents_settings_name() {
    let catalog =
        ["ecs-a.eu-west-1.amazonaws.com:443", "ecs-t.eu-west-1.amazonaws.com:443", "ecs.eu-west-1.amazonaws.com:443"];
    let with = |more: &str| -> BTreeSet<String> { catalog.into_iter().chain([more]).map(str::to_owned).collect() };
    assert_eq!(dialled(&[]).await, (with(catalog[0]), true));
    let own = [("ECS_BACKEND_HOST", "https://vpce-1.ecs.test:8443")];
    assert_eq!(dialled(&own).await, (with("vpce-1.ecs.test:8443"), true));
    // The same name at another port.
    let port = [("AWS_ENDPOINT_URL_ECS", "https://ecs.eu-west-1.amazonaws.com:9443/")];
    assert_eq!(dialled(&port).await, (with("ecs.eu-west-1.amazonaws.com:9443"), true));
}
