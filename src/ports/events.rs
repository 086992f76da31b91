//! What the engine says of the agent's container, as it happens.

use serde::Deserialize;
use std::{fmt::Write, io, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
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
const LONGEST: u64 = 1 << 20;

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

/// Listens until the engine or the one who is told goes away; whether anything was told.
///
/// This is the one connection that stays, and what it needs stays in memory with it. So it takes no client: to a
/// question in HTTP/1.0 the answer is an event a line, until one of the two hangs up.
async fn listen(host: &str, container: &str, again: bool, tell: &Sender<String>) -> io::Result<bool> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    let filters = serde_json::json!({ "type": ["container"], "container": [container], "event": ACTIONS });
    let filters = encoded(&filters.to_string());
    let open = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(format!("GET /events?filters={filters} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes()).await?;
        let mut lines = Lines(BufReader::new(stream));
        let agreed = lines.next().await?.split(|byte| *byte == b' ').nth(1) == Some(b"200");
        while !matches!(lines.next().await?.as_slice(), b"" | b"\r\n") {}
        Ok::<_, io::Error>((lines, agreed))
    };
    let (mut lines, agreed) = timeout(CONNECT, open).await??;
    if !agreed || again && tell.send("engine".to_owned()).await.is_err() {
        return Ok(false);
    }
    let mut any = false;
    while let Ok(event) = serde_json::from_slice::<Told>(&lines.next().await?) {
        any = true;
        // A filter by name also matches other names that begin alike.
        let ours = event.actor.attributes.name.is_none_or(|name| name == container);
        if ours && tell.send(event.action).await.is_err() {
            break;
        }
    }
    Ok(any)
}

struct Lines(BufReader<UnixStream>);

impl Lines {
    /// The next line with its end; empty at the end of all.
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.0).take(LONGEST).read_until(b'\n', &mut line).await?;
        Ok(line)
    }
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
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n").await.unwrap();
        for chunk in chunks {
            stream.write_all(chunk.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
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
