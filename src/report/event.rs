//! Methods in words.

use crate::decide::Method;

/// The method as a person would type it.
pub(super) fn method_words(method: &Method) -> String {
    match method {
        Method::RestartUnit { unit } => format!("systemctl restart {unit} (over D-Bus)"),
        Method::StartUnit { unit } => format!("systemctl start {unit} (over D-Bus)"),
        Method::DockerRestart { container_id, stop_timeout_s } => {
            format!("docker restart --time {stop_timeout_s} {}", short(container_id))
        }
    }
}

/// The twelve characters Docker shows of an ID.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
