//! The agent's introspection server, and the ways the agent words its version.

use super::{
    Introspect,
    http::{HttpError, ask},
    words::{Span, chain, excerpt, io_words},
};
use crate::facts::{Introspection, Missing, Task};
use async_trait::async_trait;
use hyper::{Method, StatusCode, Uri};
use semver::Version;
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

type Result<T> = std::result::Result<T, Missing>;

/// A host with 100 tasks of ten containers answers with less than 1 MiB.
const MAX_BODY: usize = 8 << 20;
const SHOWN: usize = 60;

/// Asks the agent on this host.
#[derive(Debug, Clone)]
pub struct AgentIntrospection {
    base: String,
    deadline: Duration,
}

impl AgentIntrospection {
    /// `base` is the URL of the server, without a path. `deadline` bounds each question.
    pub fn new(base: &str, deadline: Duration) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), deadline }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let missing =
            |why: String, hint: &str| Missing::new(format!("agent introspection {}{path}", self.base), why, hint);
        let (host, port) = parse_base(&self.base)
            .ok_or_else(|| missing("that is not an http:// URL".into(), "correct agent.introspection"))?;
        let exchange = async {
            let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
                .await
                .map_err(|error| missing(io_words(&error), "the server opens once the agent has registered"))?;
            let host = format!("{host}:{port}");
            let answer = ask(stream, Method::GET, &host, path, MAX_BODY).await.map_err(|error| match error {
                error @ HttpError::TooLong(_) => missing(error.to_string(), "is this the agent's port?"),
                error => missing(error.to_string(), "is this the agent's port? The agent may be stopping"),
            })?;
            if answer.status() != StatusCode::OK {
                return Err(missing(format!("the answer is {}", answer.status()), "see the agent's log"));
            }
            serde_json::from_slice(answer.body()).map_err(|error| {
                let text = excerpt(&String::from_utf8_lossy(answer.body()), SHOWN);
                missing(
                    format!("the answer is not the JSON expected: {}: {text}", chain(&error)),
                    "is this the agent's port?",
                )
            })
        };
        let late = || missing(format!("no answer within {}", Span(self.deadline)), "the agent may hang; see its log");
        timeout(self.deadline, exchange).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Host and port of an `http://` URL without a path.
pub(super) fn parse_base(base: &str) -> Option<(String, u16)> {
    let uri: Uri = base.parse().ok()?;
    let plain = uri.scheme_str() == Some("http") && uri.path_and_query().is_none_or(|path| path.as_str() == "/");
    if plain { Some((uri.host()?.to_owned(), uri.port_u16().unwrap_or(80))) } else { None }
}

#[async_trait]
impl Introspect for AgentIntrospection {
    async fn metadata(&self) -> Result<Introspection> {
        let answer: MetadataAnswer = self.get("/v1/metadata").await?;
        Ok(Introspection {
            cluster: answer.cluster,
            container_instance_arn: answer.container_instance_arn.filter(|arn| !arn.is_empty()),
            version: answer.version,
        })
    }

    async fn tasks(&self) -> Result<Vec<Task>> {
        let answer: TasksAnswer = self.get("/v1/tasks").await?;
        Ok(answer.tasks.unwrap_or_default().into_iter().map(Task::from).collect())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetadataAnswer {
    cluster: String,
    container_instance_arn: Option<String>,
    version: String,
}

/// `Tasks` is `null` where Go has an empty slice, and must not be absent: `{}` is not an answer of the agent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TasksAnswer {
    #[serde(deserialize_with = "Option::deserialize")]
    tasks: Option<Vec<TaskAnswer>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskAnswer {
    arn: String,
    desired_status: Option<String>,
    known_status: String,
    #[serde(default)]
    containers: Option<Vec<ContainerAnswer>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerAnswer {
    docker_id: String,
}

impl From<TaskAnswer> for Task {
    fn from(task: TaskAnswer) -> Self {
        let containers = task.containers.unwrap_or_default().into_iter().map(|container| container.docker_id);
        Self {
            arn: task.arn,
            desired_status: task.desired_status.filter(|status| !status.is_empty()),
            known_status: task.known_status,
            containers: containers.filter(|id| !id.is_empty()).collect(),
        }
    }
}

/// Text in which no agent version was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no agent version in {0}")]
pub struct VersionError(String);

/// Reads the agent's version as introspection words it (`Amazon ECS Agent - v1.105.1 (*a8b3e7d3)`) or as
/// `/agent -version` prints it (`Amazon ECS Agent:`, then a line `Version: 1.105.1`).
///
/// # Errors
/// When the text has neither form, or what stands there is not a version of three numbers.
pub fn parse_version(text: &str) -> std::result::Result<Version, VersionError> {
    let error = || VersionError(excerpt(text, SHOWN));
    let rest = text.trim().strip_prefix("Amazon ECS Agent").ok_or_else(error)?;
    let word = match rest.strip_prefix(" - v") {
        Some(rest) => rest.split_whitespace().next(),
        None => rest
            .strip_prefix(':')
            .and_then(|lines| lines.lines().find_map(|line| line.trim().strip_prefix("Version:")))
            .and_then(|rest| rest.split_whitespace().next()),
    };
    Version::parse(word.ok_or_else(error)?).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_in_both_forms() {
        let printed = "Amazon ECS Agent:\n\tVersion: 1.105.1\n\tCommit: a8b3e7d3\n\tDirty: true\n";
        for text in [
            "Amazon ECS Agent - v1.105.1 (*a8b3e7d3)",
            "Amazon ECS Agent - v1.105.1 (a8b3e7d3)\n",
            "Amazon ECS Agent - v1.105.1",
            printed,
        ] {
            assert_eq!(parse_version(text), Ok(Version::new(1, 105, 1)), "{text}");
        }
        for text in ["", "1.105.1", "Amazon ECS Agent - v1.105", "Amazon ECS Agent:\n\tCommit: 1.2.3", "Docker v1.2.3"]
        {
            assert!(parse_version(text).is_err(), "{text}");
        }
        assert_eq!(parse_version("exec\nfailed").unwrap_err().to_string(), "no agent version in \"exec failed\"");
    }

    #[test]
    fn bases() {
        assert_eq!(parse_base("http://127.0.0.1:51678"), Some(("127.0.0.1".into(), 51678)));
        assert_eq!(parse_base("http://[::1]:8"), Some(("[::1]".into(), 8)));
        for base in ["https://127.0.0.1", "127.0.0.1:51678", "http://", "http://h/path", ""] {
            assert_eq!(parse_base(base), None, "{base}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_garbage(text in "\\PC{0,120}", tail in "\\PC{0,40}") {
            let _ = parse_version(&text);
            let _ = parse_version(&format!("Amazon ECS Agent{tail}"));
            let _ = parse_version(&format!("Amazon ECS Agent - v{tail}"));
            let _ = parse_base(&text);
        }
    }
}
