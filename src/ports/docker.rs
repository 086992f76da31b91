//! The Docker Engine over its Unix socket, by bollard.

use super::{Acted, Engine, Result, Undone, http::ask_head};
use crate::facts::{AgentContainer, ContainerState, Missing, Mount, RestartPolicy, Workload};
use async_trait::async_trait;
use bollard::{
    ClientVersion, Docker,
    container::LogOutput,
    errors::Error,
    exec::StartExecResults,
    models::{
        ContainerInspectResponse, ContainerState as EngineState, ContainerStateStatusEnum as Status, ExecConfig,
        RestartPolicy as EnginePolicy, RestartPolicyNameEnum as PolicyName,
    },
    query_parameters::{
        InspectContainerOptions, ListContainersOptionsBuilder, RestartContainerOptionsBuilder, StartContainerOptions,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::Method;
use std::{future::Future, io, time::Duration};
use tokio::{net::UnixStream, sync::OnceCell, time::timeout};

/// One look at the engine may take this long.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Over the stop time-out, for the engine's own work of a restart.
const RESTART_MARGIN: Duration = Duration::from_secs(30);
/// bollard's own limit; our deadlines are shorter.
const CLIENT_TIMEOUT_S: u64 = 660;
/// Inspections under way at once.
const INSPECTIONS: usize = 8;

/// Engine reached over a Unix socket. Connects at the first call.
pub struct DockerEngine {
    /// `unix:///var/run/docker.sock`
    host: String,
    client: OnceCell<Docker>,
}

impl DockerEngine {
    /// `host` as in `docker.host`: `unix://` and a path.
    pub fn new(host: &str) -> Self {
        Self { host: host.to_owned(), client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&Docker> {
        self.client
            .get_or_try_init(|| async {
                let path = self.host.strip_prefix("unix://").unwrap_or(&self.host);
                let docker = Docker::connect_with_unix(path, CLIENT_TIMEOUT_S, bollard::API_DEFAULT_VERSION)
                    .map_err(|error| self.missing("Docker Engine", &error))?;
                // Lowers our version to the engine's; an old engine refuses a newer one.
                let negotiate = async {
                    match pinged(path).await {
                        Some(version) if version >= *bollard::API_DEFAULT_VERSION => Ok(docker),
                        Some(version) => Docker::connect_with_unix(path, CLIENT_TIMEOUT_S, &version),
                        None => docker.negotiate_version().await,
                    }
                };
                self.bounded("Docker Engine version", READ_DEADLINE, negotiate).await
            })
            .await
    }

    async fn bounded<T>(
        &self,
        what: &str,
        deadline: Duration,
        call: impl Future<Output = std::result::Result<T, Error>>,
    ) -> Result<T> {
        match timeout(deadline, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.missing(what, &error)),
            Err(_) => Err(Missing::new(
                format!("{what} ({})", self.host),
                format!("no answer within {} s", deadline.as_secs()),
                "see whether the engine hangs: docker info; journalctl -u docker",
            )),
        }
    }

    /// As [`Self::bounded`], for what touches a container.
    async fn acted(
        &self,
        what: &str,
        deadline: Duration,
        call: impl Future<Output = std::result::Result<(), Error>>,
    ) -> Acted<()> {
        let mut not_taken = false;
        let call = async {
            let done = call.await;
            not_taken = done.as_ref().is_err_and(turned_down);
            done
        };
        let done = self.bounded(what, deadline, call).await;
        done.map_err(|missing| if not_taken { Undone::NotTaken(missing) } else { Undone::Unclear(missing) })
    }

    fn missing(&self, what: &str, error: &Error) -> Missing {
        let what = format!("{what} ({})", self.host);
        if let Error::SocketNotFoundError(path) = error {
            return Missing::new(
                what,
                format!("no socket at {path}"),
                "start the engine (systemctl start docker), or set docker.host",
            );
        }
        if let Error::DockerResponseServerError { status_code, message } = error {
            return Missing::new(what, format!("the engine answered {status_code}: {message}"), "");
        }
        match io_kind(error) {
            Some(io::ErrorKind::PermissionDenied) => {
                Missing::new(what, "permission denied", "run as root, or as a member of the docker group")
            }
            Some(io::ErrorKind::ConnectionRefused) => Missing::new(
                what,
                "connection refused: the socket is there, the engine is not",
                "systemctl status docker",
            ),
            _ => Missing::new(what, chain(error), "docker info tells whether the engine works"),
        }
    }

    async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>> {
        let client = self.client().await?;
        let what = format!("container {name}");
        let call = client.inspect_container(name, None::<InspectContainerOptions>);
        let found = async {
            match call.await {
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                other => other.map(Some),
            }
        };
        self.bounded(&what, READ_DEADLINE, found).await
    }
}

/// The API version an engine names in its answer to a ping. To a question for its version it answers only after it
/// has run two programs to learn theirs, and that in the middle of a look.
async fn pinged(path: &str) -> Option<ClientVersion> {
    let stream = UnixStream::connect(path).await.ok()?;
    let answer = ask_head(stream, Method::GET, "docker", "/_ping").await.ok()?;
    let (major, minor) = answer.headers().get("api-version")?.to_str().ok()?.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

/// How long a restart may take until it is given up, in seconds.
pub fn longest_restart_s(stop_timeout_s: u32) -> u64 {
    u64::from(stop_timeout_s) + RESTART_MARGIN.as_secs()
}

/// Whether a request surely did nothing: there was no connection, or the engine knows no such container. What it says
/// of a container that it could not restart (`Cannot restart container …`) may be said after it was stopped.
fn turned_down(error: &Error) -> bool {
    match error {
        Error::SocketNotFoundError(_) => true,
        Error::DockerResponseServerError { status_code: 404, message } => message.starts_with("No such container"),
        error => matches!(
            io_kind(error),
            Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
        ),
    }
}

/// The I/O error somewhere behind a client error.
fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}

/// An error with what is behind it, each text once.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

#[async_trait]
impl Engine for DockerEngine {
    async fn agent(&self, name: &str) -> Result<Option<AgentContainer>> {
        match self.inspect(name).await? {
            None => Ok(None),
            Some(answer) => agent_container(answer, name)
                .map(Some)
                .map_err(|why| Missing::new(format!("container {name} ({})", self.host), why, "docker inspect it")),
        }
    }

    async fn workloads(&self, agent_name: &str) -> Result<Vec<Workload>> {
        let client = self.client().await?;
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let list = self.bounded("list of containers", READ_DEADLINE, client.list_containers(Some(options))).await?;
        let ids: Vec<String> = list
            .into_iter()
            .filter(|c| !c.names.iter().flatten().any(|n| n.trim_start_matches('/') == agent_name))
            .filter_map(|c| c.id)
            .collect();
        let inspect_all = stream::iter(ids)
            .map(|id| async move { self.inspect(&id).await })
            .buffer_unordered(INSPECTIONS)
            .try_collect::<Vec<_>>();
        let answers = match timeout(READ_DEADLINE, inspect_all).await {
            Ok(answers) => answers?,
            Err(_) => {
                let what = format!("containers beside the agent ({})", self.host);
                return Err(Missing::new(
                    what,
                    format!("no answer within {} s", READ_DEADLINE.as_secs()),
                    "docker ps -a",
                ));
            }
        };
        // One that was removed meanwhile answers 404 and is left out.
        let mut workloads: Vec<Workload> = answers.into_iter().flatten().map(workload).collect();
        workloads.sort();
        Ok(workloads)
    }

    async fn agent_version(&self, container_id: &str) -> Result<String> {
        let client = self.client().await?;
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(vec!["/agent".into(), "-version".into()]),
            ..ExecConfig::default()
        };
        let run = async {
            let exec = client.create_exec(container_id, config).await?;
            let mut text = String::new();
            if let StartExecResults::Attached { mut output, .. } = client.start_exec(&exec.id, None).await? {
                while let Some(chunk) = output.next().await {
                    if let LogOutput::StdOut { message } | LogOutput::Console { message } = chunk? {
                        text.push_str(&String::from_utf8_lossy(&message));
                    }
                    // A version is one line; whatever pours out more is not one.
                    if text.len() > 4096 {
                        break;
                    }
                }
            }
            Ok(text)
        };
        self.bounded("/agent -version in the agent's container", READ_DEADLINE, run).await
    }

    async fn restart(&self, container_id: &str, stop_timeout_s: u32) -> Acted<()> {
        let client = self.client().await.map_err(Undone::NotTaken)?;
        let seconds = i32::try_from(stop_timeout_s).unwrap_or(i32::MAX);
        let options = RestartContainerOptionsBuilder::default().t(seconds).build();
        let deadline = Duration::from_secs(longest_restart_s(stop_timeout_s));
        self.acted("docker restart", deadline, client.restart_container(container_id, Some(options))).await
    }

    async fn start(&self, container_id: &str) -> Acted<()> {
        let client = self.client().await.map_err(Undone::NotTaken)?;
        let start = async {
            match client.start_container(container_id, None::<StartContainerOptions>).await {
                // Not modified: it runs already.
                Err(Error::DockerResponseServerError { status_code: 304, .. }) => Ok(()),
                other => other,
            }
        };
        self.acted("docker start", RESTART_MARGIN, start).await
    }
}

/// Reads an inspection. What is needed and not there is an error, never a default.
fn agent_container(answer: ContainerInspectResponse, name: &str) -> std::result::Result<AgentContainer, String> {
    let state = answer.state.ok_or("the answer has no State")?;
    let config = answer.config.unwrap_or_default();
    let host = answer.host_config.ok_or("the answer has no HostConfig")?;
    Ok(AgentContainer {
        id: answer.id.ok_or("the answer has no Id")?,
        name: answer.name.map_or_else(|| name.to_owned(), |n| n.trim_start_matches('/').to_owned()),
        image: config.image.unwrap_or_default(),
        image_id: answer.image.unwrap_or_default(),
        state: container_state(&state)?,
        pid: pid(&state),
        started_at: state.started_at.ok_or("the answer has no State.StartedAt")?.to_string(),
        host_network: host.network_mode.as_deref() == Some("host"),
        restart_policy: restart_policy(host.restart_policy)?,
        mounts: answer
            .mounts
            .unwrap_or_default()
            .into_iter()
            .map(|m| Mount {
                source: m.source.unwrap_or_default(),
                destination: m.destination.unwrap_or_default(),
                read_write: m.rw.unwrap_or(false),
            })
            .collect(),
        env: super::files::agent_settings(config.env.iter().flatten().filter_map(|line| line.split_once('='))),
        health: state.health.and_then(|h| h.status).map(|s| s.to_string()),
    })
}

fn pid(state: &EngineState) -> Option<u32> {
    state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0)
}

fn container_state(state: &EngineState) -> std::result::Result<ContainerState, String> {
    Ok(match state.status.ok_or("the answer has no State.Status")? {
        Status::CREATED => ContainerState::Created,
        // 29 and later tell "stopping" apart; the process is still there.
        Status::RUNNING | Status::STOPPING => ContainerState::Running,
        Status::PAUSED => ContainerState::Paused,
        Status::RESTARTING => ContainerState::Restarting,
        Status::REMOVING => ContainerState::Removing,
        Status::EXITED => {
            ContainerState::Exited { code: state.exit_code.ok_or("State.Status is exited and there is no ExitCode")? }
        }
        Status::DEAD => ContainerState::Dead,
        Status::EMPTY => return Err("State.Status is empty".into()),
    })
}

fn restart_policy(policy: Option<EnginePolicy>) -> std::result::Result<RestartPolicy, String> {
    let Some(policy) = policy else { return Ok(RestartPolicy::No) };
    Ok(match policy.name {
        None | Some(PolicyName::EMPTY | PolicyName::NO) => RestartPolicy::No,
        Some(PolicyName::ALWAYS) => RestartPolicy::Always,
        Some(PolicyName::UNLESS_STOPPED) => RestartPolicy::UnlessStopped,
        Some(PolicyName::ON_FAILURE) => RestartPolicy::OnFailure { max: policy.maximum_retry_count.unwrap_or(0) },
    })
}

fn workload(answer: ContainerInspectResponse) -> Workload {
    let state = answer.state.unwrap_or_default();
    Workload {
        id: answer.id.unwrap_or_default(),
        name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        pid: pid(&state).unwrap_or(0),
        running: state.running.unwrap_or(false),
        exit_code: if state.status == Some(Status::EXITED) { state.exit_code } else { None },
        restart_count: answer.restart_count,
        started_at: state.started_at.map(|t| t.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> std::result::Result<AgentContainer, String> {
        agent_container(serde_json::from_str(json).unwrap(), "ecs-agent")
    }

    #[test]
    fn an_answer_without_a_state_is_an_error_and_not_a_default() {
        assert_eq!(answer(r#"{"Id":"a"}"#).unwrap_err(), "the answer has no State");
        assert_eq!(
            answer(r#"{"Id":"a","HostConfig":{},"State":{"Status":"exited","StartedAt":"x"}}"#).unwrap_err(),
            "State.Status is exited and there is no ExitCode"
        );
    }

    #[test]
    fn secrets_in_the_environment_are_left_out() {
        let agent = answer(
            r#"{"Id":"a","Name":"/ecs-agent","HostConfig":{"NetworkMode":"host"},
                "State":{"Status":"running","Pid":42,"StartedAt":"2026-01-01T00:00:00Z"},
                "Config":{"Env":["ECS_CLUSTER=prod","ECS_ENGINE_AUTH_DATA={\"secret\":1}","PATH=/bin","AWS_SECRET_ACCESS_KEY=x"]}}"#,
        )
        .unwrap();
        assert_eq!(agent.env.into_iter().collect::<Vec<_>>(), [("ECS_CLUSTER".to_owned(), "prod".to_owned())]);
        assert_eq!((agent.pid, agent.host_network), (Some(42), true));
    }

    #[test]
    fn a_container_comes_with_how_often_its_restart_policy_started_it() {
        let json = r#"{"Id":"a","Name":"/web","RestartCount":3,
                "State":{"Status":"restarting","Running":true,"Pid":0,"ExitCode":1,"StartedAt":"2026-01-01T00:00:00Z"}}"#;
        let seen = workload(serde_json::from_str(json).unwrap());
        assert_eq!((seen.restart_count, seen.running, seen.pid, seen.exit_code), (Some(3), true, 0, None));
    }

    /// An engine that answers a ping, and everything else with this 404, or by hanging up.
    fn engine(message: Option<&'static str>) -> (tempfile::TempDir, DockerEngine) {
        use std::io::{BufRead, BufReader, Write};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let answer = |status: &str, body: &str| {
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n");
            format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let lines = BufReader::new(&stream).lines().map_while(std::io::Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let said = match message {
                    _ if head.first().is_some_and(|line| line.contains("_ping")) => answer("200 OK", "OK"),
                    Some(message) => answer("404 Not Found", &format!("{{\"message\":\"{message}\"}}")),
                    None => String::new(),
                };
                let _ = (&stream).write_all(said.as_bytes());
            }
        });
        let engine = DockerEngine::new(&format!("unix://{}", path.display()));
        (dir, engine)
    }

    #[tokio::test]
    async fn what_surely_was_not_done_is_told_from_what_may_have_been() {
        let gone = DockerEngine::new("unix:///nonexistent/docker.sock").restart("a", 1).await;
        assert!(matches!(gone, Err(Undone::NotTaken(_))), "{gone:?}");
        let half_way = "Cannot restart container a: network x not found";
        for (message, not_taken) in [(Some("No such container: a"), true), (Some(half_way), false), (None, false)] {
            let (_dir, engine) = engine(message);
            for done in [engine.restart("a", 1).await, engine.start("a").await] {
                let Err(undone) = done else { panic!("{message:?}") };
                assert_eq!(matches!(undone, Undone::NotTaken(_)), not_taken, "{message:?}: {undone:?}");
                assert!(message.is_none_or(|message| undone.to_string().contains(message)), "{undone}");
            }
        }
    }

    #[tokio::test]
    async fn no_socket_is_named_with_what_to_do() {
        let missing = DockerEngine::new("unix:///nonexistent/docker.sock").agent("ecs-agent").await.unwrap_err();
        assert!(missing.to_string().contains("no socket at /nonexistent/docker.sock"), "{missing}");
        assert!(missing.hint.contains("systemctl start docker"), "{missing}");
    }
}
