//! When an agent that is left alone would move by itself.

use crate::facts::AgentVersion;
use jiff::{SignedDuration, Timestamp};
use semver::Version;
use serde::{Deserialize, Serialize};

/// Discovery is cached 12 h (since 1.59.0), and websockets are re-dialled at most 35 min later (since 1.76.0).
const WORST_SINCE_1_76: SignedDuration = SignedDuration::from_secs(12 * 3_600 + 35 * 60);

/// By when the agent may move by itself; never guaranteed, because an expired answer is used again when asking fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convergence {
    /// The latest time at which a well-behaved agent has moved, if there is one.
    pub by: Option<Timestamp>,
    pub text: String,
}

/// The estimate for an agent of this version that was seen at `at` with connections elsewhere while its names lead to
/// endpoints; `ready` tells whether those answer.
pub fn converges(version: &AgentVersion, at: Timestamp, ready: bool) -> Convergence {
    let since = |minor: u64| version.version >= Version::new(1, minor, 0);
    let by = at.checked_add(WORST_SINCE_1_76).ok().filter(|_| since(76));
    let text: String = match by {
        Some(by) => format!("left alone, the agent moves by {by:.0} (12.6 h at worst); not guaranteed"),
        None if since(59) => {
            "left alone, the agent asks again for its hosts within 12 h and moves when it next dials; \
                              before 1.76 it dials only when a connection breaks; not guaranteed"
                .into()
        }
        None => "left alone, the agent asks again for its hosts within 20 min and moves when it next dials, which it \
                 does only when a connection breaks; not guaranteed"
            .into(),
    };
    let onto_nothing = if ready { "" } else { "; the endpoints do not all answer, and it would be cut off there" };
    Convergence { by, text: text + onto_nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::VersionSource;

    #[test]
    fn only_agents_that_redial_have_a_time() {
        let at: Timestamp = "2026-09-01T00:00:00Z".parse().unwrap();
        let of =
            |v: &str| converges(&AgentVersion { version: v.parse().unwrap(), source: VersionSource::Exec }, at, true);
        assert_eq!(of("1.105.1").by, Some("2026-09-01T12:35:00Z".parse().unwrap()));
        assert!(of("1.105.1").text.contains("by 2026-09-01T12:35:00Z"), "{}", of("1.105.1").text);
        assert_eq!(of("1.59.0").by, None);
        assert!(of("1.59.0").text.contains("12 h"));
        assert!(of("1.58.0").text.contains("20 min"));
        assert!(["1.105.1", "1.59.0", "1.30.0"].iter().all(|v| of(v).text.ends_with("not guaranteed")));
        let version = AgentVersion { version: Version::new(1, 105, 1), source: VersionSource::Exec };
        assert!(converges(&version, at, false).text.ends_with("cut off there"));
    }
}
