//! What the engine says of the agent's container, as it happens.

use super::http::{self, HttpError};
use http_body_util::BodyExt;
use hyper::{Method, Response, StatusCode, body::Incoming};
use serde::Deserialize;
use std::{fmt::Write, time::Duration};
use tokio::{
    net::UnixStream,
    sync::mpsc::Sender,
    time::{sleep, timeout},
};

/// Things that open the question anew. Health checks and what is run inside the container are not among them.
const ACTIONS: [&str; 5] = ["start", "die", "destroy", "pause", "unpause"];
/// Between two tries to listen: the first, and the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);
/// Connecting may take this long.
const CONNECT: Duration = Duration::from_secs(5);
/// No sane event is longer.
const LONGEST: usize = 1 << 20;

/// An event, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Told {
    action: String,
    actor: Actor,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Actor {
    attributes: Attributes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attributes {
    name: Option<String>,
}

/// Tells each thing that happens to the container of this name (`start`, `die`, …), and `engine` when listening began
/// again after it had failed: what happened meanwhile is not known. Goes on until nobody listens to `tell`.
pub async fn follow(host: String, container: String, tell: Sender<String>) {
    let mut pause = RETRY;
    let mut lost = false;
    while !tell.is_closed() {
        let told = listen(&host, &container, lost, &tell).await;
        if told.is_ok_and(|any| any) {
            pause = RETRY;
        }
        lost = true;
        tracing::debug!(%host, "the engine's events cannot be followed; trying again in {} s", pause.as_secs());
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MOST);
    }
}

/// Listens until the engine or the one who is told goes away; whether anything was told. No client with its pool and its
/// models: this is the one connection that stays, and what it needs stays in memory with it.
async fn listen(host: &str, container: &str, again: bool, tell: &Sender<String>) -> Result<bool, HttpError> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    let stream = match timeout(CONNECT, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => stream,
        _ => return Ok(false),
    };
    let filters = serde_json::json!({ "type": ["container"], "container": [container], "event": ACTIONS });
    let request = http::request(Method::GET, "docker", &format!("/events?filters={}", encoded(&filters.to_string())))?;
    http::with(stream, request, async |answer: Response<Incoming>| {
        if answer.status() != StatusCode::OK {
            return Ok(false);
        }
        if again && tell.send("engine".to_owned()).await.is_err() {
            return Ok(false);
        }
        let (mut body, mut unread, mut any) = (answer.into_body(), Vec::new(), false);
        while let Some(Ok(frame)) = body.frame().await {
            unread.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                let Ok(event) = serde_json::from_slice::<Told>(&line) else { return Ok(any) };
                any = true;
                // A filter by name also matches other names that begin alike.
                let ours = event.actor.attributes.name.is_none_or(|name| name == container);
                if ours && tell.send(event.action).await.is_err() {
                    return Ok(any);
                }
            }
            if unread.len() > LONGEST {
                break;
            }
        }
        Ok(any)
    })
    .await
}

/// Fit for the query of a URL.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
        sync::mpsc,
    };

    /// Answers one request with these chunks, and gives what was asked.
    async fn answer(engine: &UnixListener, chunks: &[&str]) -> String {
        let (mut stream, _) = engine.accept().await.unwrap();
        let mut asked = vec![0; 4_096];
        let length = stream.read(&mut asked).await.unwrap();
        let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        for chunk in chunks {
            let _ = write!(text, "{:x}\r\n{chunk}\r\n", chunk.len());
        }
        stream.write_all(text.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&asked[..length]).into_owned()
    }

    #[tokio::test]
    async fn events_of_the_agent_are_told_and_a_loss_of_the_engine_is_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let engine = UnixListener::bind(&path).unwrap();
        let (tell, mut told) = mpsc::channel(8);
        let following = tokio::spawn(follow(format!("unix://{}", path.display()), "ecs-agent".into(), tell));
        let event = |name: &str, action: &str| {
            format!(r#"{{"Action":"{action}","Actor":{{"Attributes":{{"name":"{name}"}}}}}}"#)
        };
        let (die, other) = (event("ecs-agent", "die"), event("ecs-agent-2", "start"));
        // Cut anywhere, and more than one at a time.
        let (head, tail) = die.split_at(20);
        let asked = answer(&engine, &[head, &format!("{tail}\n{other}\n{{\"Action\":\"start\"}}\n")]).await;
        assert!(asked.starts_with("GET /events?filters=%7B%22"), "{asked}");
        assert_eq!((told.recv().await.as_deref(), told.recv().await.as_deref()), (Some("die"), Some("start")));
        // What happened until it answers again is not known.
        answer(&engine, &["no JSON\n"]).await;
        assert_eq!(told.recv().await.as_deref(), Some("engine"));
        following.abort();
    }
}
