//! The engine's events.

use super::container::Container;
use crate::clock;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

/// Events a slow listener may be behind before it loses some.
const BEHIND: usize = 1024;

#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Value>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Events {
    /// Tells of something that happened to a container, with attributes beside its name and image.
    pub fn tell(&self, container: &Container, action: &str, attributes: &[(&str, String)]) {
        let mut all: Map<String, Value> =
            attributes.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
        all.insert("image".into(), json!(container.spec.image));
        all.insert("name".into(), json!(container.spec.name));
        all.extend(container.spec.labels.iter().map(|(name, value)| (name.clone(), json!(value))));
        let nanos = clock::unix_nanos();
        // Nobody listening is no error.
        let _ = self.0.send(json!({
            "status": action,
            "id": container.id,
            "from": container.spec.image,
            "Type": "container",
            "Action": action,
            "Actor": { "ID": container.id, "Attributes": all },
            "scope": "local",
            "time": nanos / 1_000_000_000,
            "timeNano": nanos as u64,
        }));
    }

    pub fn listen(&self) -> broadcast::Receiver<Value> {
        self.0.subscribe()
    }
}
