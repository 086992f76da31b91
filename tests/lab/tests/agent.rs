//! The stand-in agent against the region: it must behave as the real one was measured to.

mod support;

use anyhow::{Context as _, ensure};
use hostagent_lab::region::{
    place::Service,
    switch::{ApiFault, Change, Path, What},
};
use support::{LONG, Lab, api_call, ended, get, opened, refuses, stop};

const ACS: &str = "ecs-a.eu-west-1.amazonaws.com";
const TCS: &str = "ecs-t.eu-west-1.amazonaws.com";
const NUMBERED_ACS: &str = "ecs-a-3.eu-west-1.amazonaws.com";
const NUMBERED_TCS: &str = "ecs-t-3.eu-west-1.amazonaws.com";

fn endpoints() -> Change {
    Change::path(&Service::CONTROL_PLANE, Path::Endpoint)
}

#[tokio::test]
async fn only_a_restart_moves_it() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let setup = lab.agent()?;
    let mut agent = setup.start()?;
    let hosts = lab.websockets_after(0).await?;
    ensure!(hosts == (NUMBERED_ACS.into(), NUMBERED_TCS.into()), "public discovery gave {hosts:?}");
    let arn = lab.region.instances().first().context("registered")?.arn.clone();
    let (status, body) = get(setup.introspection, "/v1/metadata", &[]).await?;
    ensure!(status == 200 && body.contains(&arn) && body.contains("Amazon ECS Agent - v1.105.1 (*a8b3e7d3)"), "{body}");

    // The names flip and the sockets break: it comes back to the hosts it knows.
    lab.region.set(&endpoints()).await;
    let flipped = lab.region.last_event();
    lab.region.hang_up(None);
    let hosts = lab.websockets_after(flipped).await?;
    ensure!(hosts == (NUMBERED_ACS.into(), NUMBERED_TCS.into()), "without a restart it moved to {hosts:?}");

    let asked = lab.region.events_after(flipped).iter().any(|event| api_call(event, "DiscoverPollEndpoint"));
    ensure!(!asked, "it asked for the hosts again, long before they are too old");

    ensure!(stop(&mut agent).await? == 0, "SIGTERM must end it with 0");
    let before = lab.region.last_event();
    let mut agent = setup.start()?;
    let hosts = lab.websockets_after(before).await?;
    ensure!(hosts == (ACS.into(), TCS.into()), "after a restart: {hosts:?}");
    for websocket in lab.region.websockets() {
        let endpoints = lab.region.addresses().services[&websocket.service].endpoint;
        ensure!(endpoints.contains(&websocket.local.ip()), "{websocket:?}");
    }
    let instances = lab.region.instances();
    ensure!(instances.len() == 1 && instances[0].arn == arn && instances[0].registrations == 2, "{instances:?}");
    ensure!(stop(&mut agent).await? == 0);
    Ok(())
}

#[tokio::test]
async fn left_alone_it_converges_when_its_cache_expires() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    // 30 minutes in 90 ms, 12 hours in 2.2 s.
    let setup = lab.agent()?.with("LAB_TIME_SCALE", "20000");
    let _agent = setup.start()?;
    lab.websockets_after(0).await?;
    lab.region.set(&endpoints()).await;
    let flipped = lab.region.last_event();
    let moved = lab.region.wait_for(
        flipped,
        LONG,
        |event| matches!(&event.what, What::WsOpen { websocket } if websocket.host == ACS),
    );
    let moved = moved.await?.seq;
    let events = lab.region.events_after(flipped);
    let until = |event: &&_| matches!(event, hostagent_lab::region::switch::Event { seq, .. } if *seq < moved);
    let redialled = events.iter().take_while(until).filter(|event| opened(event, Service::EcsAgent)).count();
    ensure!(redialled > 1, "it redials the numbered host until then; it did so {redialled} times");
    ensure!(events.iter().take_while(until).any(|event| api_call(event, "DiscoverPollEndpoint")));
    Ok(())
}

#[tokio::test]
async fn introspection_opens_only_after_registration() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let fault = ApiFault { status: 500, kind: "ServerException".into(), message: "not now".into() };
    let api = [("RegisterContainerInstance".to_string(), Some(fault))].into();
    lab.region.set(&Change { api, ..Change::default() }).await;
    let setup = lab.agent()?;
    let mut agent = setup.start()?;
    let mut seen = 0;
    for _ in 0..3 {
        let tried = lab.region.wait_for(seen, LONG, |event| api_call(event, "RegisterContainerInstance")).await?;
        seen = tried.seq;
        ensure!(refuses(setup.introspection), "introspection is open before registration");
    }
    ensure!(ended(&mut agent).await? == 1, "a failed registration is for the supervisor to try again");
    Ok(())
}

#[tokio::test]
async fn a_changed_cluster_is_terminal() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let mut agent = lab.agent()?.start()?;
    lab.websockets_after(0).await?;
    ensure!(stop(&mut agent).await? == 0);
    let before = lab.region.last_event();
    let mut agent = lab.agent()?.with("ECS_CLUSTER", "default").start()?;
    ensure!(ended(&mut agent).await? == 5);
    let registered = lab.region.events_after(before).iter().any(|e| api_call(e, "RegisterContainerInstance"));
    ensure!(!registered, "it must not register with the other cluster");
    Ok(())
}

#[tokio::test]
async fn unreadable_state_and_a_refused_registration_are_terminal() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let setup = lab.agent()?;
    std::fs::write(setup.data.join("agent.db"), "not a database")?;
    ensure!(ended(&mut setup.start()?).await? == 5, "unreadable state");
    std::fs::remove_file(setup.data.join("agent.db"))?;
    // The region has no such cluster, which it says with a ClientException.
    ensure!(ended(&mut setup.with("ECS_CLUSTER", "staging").start()?).await? == 5, "no such cluster");
    Ok(())
}

#[tokio::test]
async fn without_checkpoints_it_becomes_a_new_instance() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let mut seen = 0;
    // What an earlier life has saved is not looked at.
    for checkpoint in ["true", "false", "false"] {
        let setup = lab.agent()?.with("ECS_CHECKPOINT", checkpoint);
        let mut agent = setup.start()?;
        lab.websockets_after(seen).await?;
        ensure!(stop(&mut agent).await? == 0);
        seen = lab.region.last_event();
    }
    ensure!(lab.region.instances().len() == 3, "{:?}", lab.region.instances());
    Ok(())
}

#[tokio::test]
async fn known_bad_versions_end_badly() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let setup = lab.agent()?.with("LAB_AGENT_VERSION", "1.44.2").with("LAB_TIME_SCALE", "100");
    let mut agent = setup.start()?;
    lab.websockets_after(0).await?;
    ensure!(stop(&mut agent).await? == 5, "the final save of 1.44.2 times out");
    // An older one keeps its state in the other file.
    std::fs::remove_file(setup.data.join("agent.db"))?;
    let before = lab.region.last_event();
    let mut agent = setup.with("LAB_AGENT_VERSION", "1.25.0").start()?;
    lab.websockets_after(before).await?;
    ensure!(stop(&mut agent).await? == 0);
    ensure!(lab.dir.path().join("data/ecs_agent_data.json").exists());
    Ok(())
}

#[tokio::test]
async fn a_private_name_that_does_not_answer_leaves_it_without_acs() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.region.set(&endpoints()).await;
    lab.region.set(&Change { services: vec![Service::EcsAgent], dead: Some(2), ..Change::default() }).await;
    let setup = lab.agent()?;
    let mut agent = setup.start()?;
    lab.region.wait_for(0, LONG, |event| opened(event, Service::EcsTelemetry)).await?;
    let (status, _) = get(setup.introspection, "/v1/metadata", &[]).await?;
    ensure!(status == 200, "introspection answers all the same");
    let (status, body) = get(setup.credentials, "/v2/credentials/some-id", &[]).await?;
    ensure!(status == 503, "no credentials without ACS: {status} {body}");

    lab.region.set(&Change { dead: Some(0), ..Change::default() }).await;
    lab.region.wait_for(0, LONG, |event| opened(event, Service::EcsAgent)).await?;
    ensure!(stop(&mut agent).await? == 0);
    Ok(())
}

#[tokio::test]
async fn behind_a_proxy_every_peer_is_the_proxy() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let setup = lab.agent()?.with("HTTPS_PROXY", &format!("http://{}", lab.region.addresses().proxy));
    let _agent = setup.start()?;
    lab.websockets_after(0).await?;
    let mut targets: Vec<String> = lab
        .region
        .events_after(0)
        .into_iter()
        .filter_map(|event| match event.what {
            What::Proxy { target, status: 200, .. } => target.split(':').next().map(str::to_string),
            _ => None,
        })
        .collect();
    targets.sort();
    ensure!(targets == [NUMBERED_ACS, NUMBERED_TCS, "ecs.eu-west-1.amazonaws.com"], "{targets:?}");
    Ok(())
}

#[tokio::test]
async fn tasks_are_those_of_the_file() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let setup = lab.agent()?;
    let _agent = setup.start()?;
    lab.websockets_after(0).await?;
    ensure!(get(setup.introspection, "/v1/tasks", &[]).await?.1 == "{\"Tasks\":[]}");
    let id = "0123456789abcdef".repeat(4);
    let tasks = format!(
        "{{\"Tasks\":[{{\"Arn\":\"arn:aws:ecs:eu-west-1:111122223333:task/prod/1\",\"KnownStatus\":\"RUNNING\",\
         \"Family\":\"web\",\"Version\":\"1\",\"Containers\":[{{\"DockerId\":\"{id}\",\"DockerName\":\"x\",\
         \"Name\":\"web\"}}]}}]}}"
    );
    std::fs::write(setup.data.join("tasks.json"), &tasks)?;
    ensure!(get(setup.introspection, "/v1/tasks", &[]).await?.1 == tasks);
    let (status, body) = get(setup.introspection, &format!("/v1/tasks?dockerid={}", &id[..12]), &[]).await?;
    ensure!(status == 200 && body.contains("task/prod/1"), "{status} {body}");
    ensure!(get(setup.introspection, "/v1/tasks?taskarn=nothing", &[]).await?.0 == 404);
    Ok(())
}
