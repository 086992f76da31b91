//! The engine stand-in, through the client library that hostagent uses.

mod support;

use anyhow::{Context as _, ensure};
use bollard::{
    Docker,
    errors::Error,
    exec::{CreateExecOptions, StartExecResults},
    models::{ContainerInspectResponse, ContainerStateStatusEnum, RestartPolicyNameEnum},
    query_parameters::{
        EventsOptions, InspectContainerOptions, KillContainerOptions, ListContainersOptions, RestartContainerOptions,
        StartContainerOptions, StopContainerOptions,
    },
};
use futures_util::StreamExt as _;
use hostagent_lab::engine::{Engine, EngineHandle, Spec, Status};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use support::LONG;
use tempfile::TempDir;

const NAME: &str = "ecs-agent";

struct Lab {
    engine: EngineHandle,
    docker: Docker,
    /// A pipe that a script writes to when it is ready.
    ready: PathBuf,
    // Last, so that the files are there until the containers are gone.
    _dir: TempDir,
}

impl Lab {
    /// An engine with one container that runs `script`, and one beside it.
    async fn start(script: &str) -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        let ready = dir.path().join("ready");
        ensure!(std::process::Command::new("mkfifo").arg(&ready).status()?.success());
        let shell = |name: &str, script: &str| Spec {
            name: name.into(),
            image: "amazon/amazon-ecs-agent:latest".into(),
            path: "/bin/sh".into(),
            program: PathBuf::from("/bin/sh"),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::from([
                ("ECS_CLUSTER".into(), "prod".into()),
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("READY".into(), ready.display().to_string()),
            ]),
            binds: vec!["/var/lib/ecs/data:/data".into(), "/etc/ecs:/etc/ecs:ro".into()],
            host_network: true,
            retries: Some(2),
            ..Spec::default()
        };
        let socket = dir.path().join("engine.sock");
        let engine = Engine::start(&socket, vec![shell(NAME, script), shell("beside", "exec sleep 600")])?;
        engine.start_all().await?;
        Ok(Self { docker: connect(&socket).await?, engine, ready, _dir: dir })
    }

    /// Waits until the script has written to the pipe `$READY`.
    async fn ready(&self) -> anyhow::Result<()> {
        tokio::time::timeout(LONG, tokio::fs::read(self.ready.clone())).await.context("the script is not ready")??;
        Ok(())
    }

    async fn inspect(&self, key: &str) -> Result<ContainerInspectResponse, Error> {
        self.docker.inspect_container(key, None::<InspectContainerOptions>).await
    }
}

async fn connect(socket: &Path) -> anyhow::Result<Docker> {
    let path = socket.to_str().context("socket")?;
    Ok(Docker::connect_with_unix(path, 30, bollard::API_DEFAULT_VERSION)?.negotiate_version().await?)
}

fn status(error: &Error) -> Option<(u16, &str)> {
    match error {
        Error::DockerResponseServerError { status_code, message } => Some((*status_code, message)),
        _ => None,
    }
}

#[tokio::test]
async fn a_container_looks_like_one_of_the_real_engine() -> anyhow::Result<()> {
    let lab = Lab::start("exec sleep 600").await?;
    ensure!(lab.docker.version().await?.api_version.as_deref() == Some("1.41"));
    ensure!(lab.docker.ping().await? == "OK");
    let seen = lab.inspect(NAME).await?;
    let state = seen.state.context("state")?;
    ensure!(state.status == Some(ContainerStateStatusEnum::RUNNING) && state.running == Some(true), "{state:?}");
    let pid = state.pid.context("pid")?;
    ensure!(Path::new(&format!("/proc/{pid}")).exists());
    let host = seen.host_config.context("host config")?;
    ensure!(host.network_mode.as_deref() == Some("host"));
    let policy = host.restart_policy.context("restart policy")?;
    ensure!(policy.name == Some(RestartPolicyNameEnum::ON_FAILURE) && policy.maximum_retry_count == Some(2));
    let mounts = seen.mounts.context("mounts")?;
    ensure!(mounts[0].destination.as_deref() == Some("/data") && mounts[0].rw == Some(true), "{mounts:?}");
    ensure!(mounts[1].rw == Some(false));
    ensure!(seen.config.and_then(|config| config.env).is_some_and(|env| env.contains(&"ECS_CLUSTER=prod".into())));
    let id = seen.id.context("id")?;
    ensure!(lab.inspect(&id[..12]).await?.id.as_deref() == Some(id.as_str()), "by the beginning of the ID");

    let all = lab.docker.list_containers(Some(ListContainersOptions { all: true, ..Default::default() })).await?;
    let names: Vec<String> = all.into_iter().filter_map(|c| c.names).flatten().collect();
    ensure!(names == ["/ecs-agent", "/beside"], "{names:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_told_as_the_real_engine_does() -> anyhow::Result<()> {
    let lab = Lab::start("exec sleep 600").await?;
    let error = lab.inspect("nope").await.err().context("found")?;
    ensure!(status(&error) == Some((404, "No such container: nope")), "{error:?}");
    let error = lab.docker.restart_container("nope", None::<RestartContainerOptions>).await.err().context("found")?;
    ensure!(status(&error) == Some((404, "No such container: nope")), "{error:?}");
    let error = lab.docker.inspect_exec("nope").await.err().context("found")?;
    ensure!(status(&error) == Some((404, "No such exec instance: nope")), "{error:?}");

    lab.docker.stop_container(NAME, None::<StopContainerOptions>).await?;
    let id = lab.inspect(NAME).await?.id.context("id")?;
    let error = lab.docker.kill_container(NAME, None::<KillContainerOptions>).await.err().context("killed")?;
    let words = format!("Cannot kill container: {NAME}: Container {id} is not running");
    ensure!(status(&error) == Some((409, words.as_str())), "{error:?}");
    let options = CreateExecOptions { cmd: Some(vec!["/bin/sh", "-c", "true"]), ..Default::default() };
    let error = lab.docker.create_exec(NAME, options).await.err().context("made")?;
    ensure!(status(&error) == Some((409, format!("Container {id} is not running").as_str())), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_restart_keeps_the_id_and_changes_the_process() -> anyhow::Result<()> {
    let lab = Lab::start("exec sleep 600").await?;
    let (before, beside) = (lab.engine.containers()[0].clone(), lab.engine.containers()[1].clone());
    lab.docker.restart_container(NAME, Some(RestartContainerOptions { t: Some(30), signal: None })).await?;
    let after = lab.engine.containers()[0].clone();
    ensure!(after.id == before.id && after.pid != before.pid && after.started_at > before.started_at, "{after:?}");
    ensure!(after.status == Status::Running && after.finished_at > before.started_at, "{after:?}");
    ensure!(lab.engine.containers()[1] == beside, "the other container was touched");
    Ok(())
}

#[tokio::test]
async fn stop_is_a_sigterm_and_after_the_time_a_sigkill() -> anyhow::Result<()> {
    let lab = Lab::start("trap 'exit 7' TERM; echo >$READY; while :; do sleep 0.05; done").await?;
    lab.ready().await?;
    lab.docker.stop_container(NAME, Some(StopContainerOptions { t: Some(30), signal: None })).await?;
    let view = lab.engine.containers()[0].clone();
    // The policy is on-failure, but it was stopped by hand.
    ensure!(view.status == Status::Exited && view.exit_code == 7, "{view:?}");
    // Stopping what does not run, and starting what runs, is no error for a client: 304.
    lab.docker.stop_container(NAME, None::<StopContainerOptions>).await?;
    lab.docker.start_container(NAME, None::<StartContainerOptions>).await?;
    lab.docker.start_container(NAME, None::<StartContainerOptions>).await?;
    lab.ready().await?;

    let stubborn = Lab::start("trap '' TERM; echo >$READY; while :; do sleep 0.05; done").await?;
    stubborn.ready().await?;
    stubborn.docker.stop_container(NAME, Some(StopContainerOptions { t: Some(0), signal: None })).await?;
    let view = stubborn.engine.containers()[0].clone();
    ensure!(view.status == Status::Exited && view.exit_code == 137, "{view:?}");
    Ok(())
}

#[tokio::test]
async fn on_failure_restarts_failures_only_and_only_so_often() -> anyhow::Result<()> {
    let failing = Lab::start("exit 3").await?;
    let view =
        tokio::time::timeout(LONG, failing.engine.wait_for(NAME, |view| view.status == Status::Exited)).await??;
    ensure!(view.restart_count == 2 && view.ends == 3 && view.exit_code == 3, "{view:?}");
    let content = Lab::start("exit 0").await?;
    let view =
        tokio::time::timeout(LONG, content.engine.wait_for(NAME, |view| view.status == Status::Exited)).await??;
    ensure!(view.restart_count == 0 && view.ends == 1, "{view:?}");
    Ok(())
}

#[tokio::test]
async fn commands_run_in_it_and_their_output_comes_framed() -> anyhow::Result<()> {
    let lab = Lab::start("exec sleep 600").await?;
    let run = async |cmd: Vec<&str>| -> anyhow::Result<(String, Option<i64>)> {
        let options = CreateExecOptions {
            cmd: Some(cmd),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let exec = lab.docker.create_exec(NAME, options).await?.id;
        let StartExecResults::Attached { mut output, .. } = lab.docker.start_exec(&exec, None).await? else {
            anyhow::bail!("detached")
        };
        let mut text = String::new();
        while let Some(part) = output.next().await {
            text.push_str(&part?.to_string());
        }
        Ok((text, lab.docker.inspect_exec(&exec).await?.exit_code))
    };
    let (text, code) = run(vec!["/bin/sh", "-c", "echo in $ECS_CLUSTER; echo oh >&2; exit 4"]).await?;
    ensure!(text.contains("in prod\n") && text.contains("oh\n") && code == Some(4), "{text:?} {code:?}");
    let (text, code) = run(vec!["/nope"]).await?;
    ensure!(text.contains("OCI runtime exec failed") && code == Some(127), "{text:?} {code:?}");
    Ok(())
}

#[tokio::test]
async fn events_tell_what_happens() -> anyhow::Result<()> {
    let lab = Lab::start("exec sleep 600").await?;
    let mut events = lab.docker.events(None::<EventsOptions>);
    let heard = async {
        let mut actions = Vec::new();
        while let Some(event) = events.next().await {
            actions.extend(event?.action);
            if actions.last().is_some_and(|action| action == "restart") {
                break;
            }
        }
        Ok::<_, Error>(actions)
    };
    // The stream's request is sent when it is first asked for an event: restart until one is heard.
    let restarts = async {
        loop {
            lab.docker.restart_container(NAME, None::<RestartContainerOptions>).await?;
            tokio::task::yield_now().await;
        }
        #[allow(unreachable_code)]
        Ok::<Vec<String>, Error>(Vec::new())
    };
    let actions = tokio::select! { heard = heard => heard?, restarts = restarts => restarts? };
    let expected = ["kill", "die", "stop", "start", "restart"];
    let tail = &expected[expected.len().saturating_sub(actions.len())..];
    ensure!(actions == tail, "{actions:?}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_engine_leaves_no_process_behind() -> anyhow::Result<()> {
    let lab = Lab::start("sleep 600 & sleep 600").await?;
    let pid = lab.engine.containers()[0].pid;
    let Lab { engine, docker, .. } = lab;
    drop(engine);
    ensure!(docker.ping().await.is_err());
    group_gone(pid).await
}

#[tokio::test]
async fn what_the_first_process_leaves_behind_ends_with_it() -> anyhow::Result<()> {
    let lab = Lab::start("sleep 600 & echo >$READY; exit 0").await?;
    let pid = lab.engine.containers()[0].pid;
    lab.ready().await?;
    tokio::time::timeout(LONG, lab.engine.wait_for(NAME, |view| view.status == Status::Exited)).await??;
    group_gone(pid).await
}

/// Waits until no process in the group can be signalled.
async fn group_gone(pid: u32) -> anyhow::Result<()> {
    let group = rustix::process::Pid::from_raw(pid as i32).context("pid")?;
    let gone = async {
        while rustix::process::test_kill_process_group(group).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.context("processes were left behind")
}
