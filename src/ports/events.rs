//! What the engine says of the agent's container, as it happens.

use bollard::{Docker, query_parameters::EventsOptionsBuilder};
use futures_util::StreamExt;
use std::{collections::HashMap, time::Duration};
use tokio::{
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

/// Tells each thing that happens to the container of this name (`start`, `die`, …), and `engine` when listening began
/// again after it had failed: what happened meanwhile is not known. Goes on until nobody listens to `tell`.
pub async fn follow(host: String, container: String, tell: Sender<String>) {
    let mut pause = RETRY;
    let mut lost = false;
    while !tell.is_closed() {
        if let Some(docker) = connect(&host).await {
            if lost && tell.send("engine".to_owned()).await.is_err() {
                return;
            }
            let filters = HashMap::from([
                ("type", vec!["container"]),
                ("container", vec![container.as_str()]),
                ("event", ACTIONS.to_vec()),
            ]);
            let mut events = Box::pin(docker.events(Some(EventsOptionsBuilder::default().filters(&filters).build())));
            while let Some(Ok(event)) = events.next().await {
                pause = RETRY;
                // A filter by name also matches other names that begin alike.
                let name = event.actor.and_then(|a| a.attributes).and_then(|mut a| a.remove("name"));
                let action = event.action.unwrap_or_default();
                if name.is_none_or(|name| name == container) && tell.send(action).await.is_err() {
                    return;
                }
            }
        }
        lost = true;
        tracing::debug!(%host, "the engine's events cannot be followed; trying again in {} s", pause.as_secs());
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MOST);
    }
}

async fn connect(host: &str) -> Option<Docker> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    let docker = Docker::connect_with_unix(path, 300, bollard::API_DEFAULT_VERSION).ok()?;
    timeout(CONNECT, docker.negotiate_version()).await.ok()?.ok()
}
