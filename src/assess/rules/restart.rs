//! Rules about what a restart would do: the version, the saved state, the next start, the tasks.

use super::{Hit, Rule, Severity, View};
use crate::assess::ownership::Ownership;
use crate::facts::{CacheState, Fact, Presence, Setting, Task, setting::Env};
use semver::Version;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "version-unknown",
        looks_at: "introspection, else /agent -version",
        severity: Severity::Missing,
        check: |v| v.seen.agent.version.missing().filter(|_| v.up()).map(Hit::missing).into_iter().collect(),
    },
    Rule {
        id: "version-too-old",
        looks_at: "the agent's version",
        severity: Severity::Refuse,
        check: |v| {
            version_rule(v, |version| *version < FLOOR, "is older than 1.25.1, the first that PrivateLink supports")
        },
    },
    Rule {
        id: "version-known-bad",
        looks_at: "the agent's version",
        severity: Severity::Refuse,
        check: |v| version_rule(v, |version| known_bad(version).is_some(), "is known bad across a restart"),
    },
    Rule {
        id: "staged-update",
        looks_at: "/var/cache/ecs: state and ecs-agent.tar",
        severity: Severity::Warning,
        check: staged_update,
    },
    Rule {
        id: "state-unknown",
        looks_at: "the data directory, ECS_CHECKPOINT",
        severity: Severity::Missing,
        check: |v| {
            v.seen.agent.persistence.missing().filter(|_| v.in_question()).map(Hit::missing).into_iter().collect()
        },
    },
    Rule {
        id: "state-not-kept",
        looks_at: "the data directory, ECS_CHECKPOINT, the state file",
        severity: Severity::Refuse,
        check: state_not_kept,
    },
    Rule {
        id: "config-unknown",
        looks_at: "ecs.config",
        severity: Severity::Missing,
        check: |v| {
            let missing = v.seen.agent.config_file.missing().filter(|_| v.ecs_init() && v.in_question());
            missing.map(Hit::missing).into_iter().collect()
        },
    },
    Rule {
        id: "cluster-changed",
        looks_at: "ECS_CLUSTER in ecs.config against the running agent's cluster",
        severity: Severity::Refuse,
        check: cluster_changed,
    },
    Rule {
        id: "cache-unknown",
        looks_at: "/var/cache/ecs: state and ecs-agent.tar",
        severity: Severity::Missing,
        check: |v| {
            let missing = v.seen.agent.cache.missing().filter(|_| v.ecs_init() && v.in_question());
            missing.map(Hit::missing).into_iter().collect()
        },
    },
    Rule {
        id: "cache-empty",
        looks_at: "/var/cache/ecs: state and ecs-agent.tar",
        severity: Severity::Refuse,
        check: cache_empty,
    },
    Rule {
        id: "tasks-unknown",
        looks_at: "/v1/tasks of the introspection server",
        severity: Severity::Missing,
        check: |v| v.seen.agent.tasks.missing().filter(|_| v.up()).map(Hit::missing).into_iter().collect(),
    },
    Rule {
        id: "tasks-between-states",
        looks_at: "/v1/tasks of the introspection server",
        severity: Severity::Hold,
        check: |v| {
            let tasks = v.seen.agent.tasks.known().filter(|_| v.up());
            tasks.into_iter().flatten().filter(|t| !settled(t)).map(unsettled_hit).collect()
        },
    },
    Rule {
        id: "workloads-unknown",
        looks_at: "the other containers",
        severity: Severity::Missing,
        check: |v| match v.seen.workloads.missing().filter(|_| v.in_question()) {
            Some(m) => vec![Hit::new(
                format!("{}: {}; without them it cannot be proved that none was touched", m.what, m.why),
                m.hint.clone(),
            )],
            None => vec![],
        },
    },
];

/// AWS's floor for PrivateLink.
const FLOOR: Version = Version::new(1, 25, 1);

/// Why a version must not be restarted, and what to upgrade to at least.
fn known_bad(version: &Version) -> Option<(&'static str, &'static str)> {
    match (version.major, version.minor, version.patch) {
        (1, 44, 0..=3) => Some(("its last save of state times out, and it comes back with stale tasks", "1.44.4")),
        (1, 50, 0..=1) => Some(("it is reported unhealthy after a start", "1.50.2")),
        _ => None,
    }
}

/// Whether the agent may be restarted at this version.
pub fn version_allowed(version: &Version) -> bool {
    *version >= FLOOR && known_bad(version).is_none()
}

/// Whether the next start loads another version than the one that runs.
pub fn reloads(state: &CacheState) -> bool {
    *state == CacheState::ReloadNeeded
}

/// Judges the running version, and the staged one where the next start is bound to load it.
fn version_rule(v: &View<'_>, bad: fn(&Version) -> bool, what: &str) -> Vec<Hit> {
    let running = v.seen.agent.version.known().filter(|_| v.up()).map(|a| &a.version);
    let cache = v.seen.agent.cache.known().filter(|c| v.ecs_init() && v.in_question() && reloads(&c.state));
    let staged = cache.and_then(|c| c.staged.as_ref());
    let hit = |version: &Version, which: &str| {
        let (why, floor) = known_bad(version).unwrap_or(("", "1.25.1"));
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        let replace = if v.ecs_init() {
            "yum update ecs-init (or apt), or a newer AMI"
        } else {
            "docker pull amazon/amazon-ecs-agent, and make the container anew"
        };
        Hit::new(
            format!("{which} {version} {what}{why}"),
            format!("upgrade the agent to {floor} or newer, best to the latest: {replace}"),
        )
    };
    let running = running.filter(|version| bad(version)).map(|version| hit(version, "agent"));
    let staged = staged.filter(|version| bad(version)).map(|version| hit(version, "the staged agent"));
    running.into_iter().chain(staged).collect()
}

fn staged_update(v: &View<'_>) -> Vec<Hit> {
    let Some(cache) = v.seen.agent.cache.known().filter(|_| v.ecs_init()) else { return vec![] };
    let running = v.seen.agent.version.known().map(|a| &a.version);
    let staged = cache.staged.as_ref().map_or_else(|| "another version".to_owned(), Version::to_string);
    if reloads(&cache.state) {
        return vec![Hit::new(format!("an update is staged: the next start loads agent {staged}"), "")];
    }
    match (&cache.staged, running) {
        (Some(next), Some(now)) if next != now => vec![Hit::new(
            format!("the cache holds agent {staged} and {now} runs: the next start may load {staged}"),
            "",
        )],
        _ => vec![],
    }
}

fn state_not_kept(v: &View<'_>) -> Vec<Hit> {
    if !v.in_question() {
        return vec![];
    }
    let lost = "a restart would register a new container instance and forget the running tasks";
    let mut hits = Vec::new();
    if let Some(state) = v.seen.agent.persistence.known() {
        let why = match (&state.data_dir, &state.host_dir) {
            (None, _) => Some("ECS_DATADIR is not set and nothing is mounted on /data".into()),
            (Some(dir), None) => Some(format!("{dir} in the container is on no directory of the host")),
            (Some(_), Some(_)) if !state.checkpoint => Some("ECS_CHECKPOINT is false".into()),
            (Some(_), Some(dir)) if state.state_file.as_ref().is_none_or(|(_, bytes)| *bytes == 0) => {
                Some(format!("there is no saved state in {dir} (agent.db or ecs_agent_data.json)"))
            }
            _ => None,
        };
        hits.extend(why.map(|why: String| {
            Hit::new(
                format!("the agent's state does not outlive it: {why}; {lost}"),
                "drain this instance and replace it, or run the agent with -v /var/lib/ecs/data:/data and \
                 ECS_DATADIR=/data",
            )
        }));
    }
    // ecs-init reads the file again, and it overrides what the running container was given.
    if let Some(file) = v.seen.agent.config_file.known().filter(|_| v.ecs_init()) {
        if Setting::Checkpoint.boolean(&file.env) == Some(false) {
            let value = Setting::Checkpoint.of(&file.env).unwrap_or_default();
            hits.push(Hit::new(
                format!("{} says ECS_CHECKPOINT={value}: {lost}", file.path),
                format!("take ECS_CHECKPOINT out of {}", file.path),
            ));
        }
        let now = v.seen.agent.persistence.known().and_then(|p| p.data_dir.as_deref());
        let same = |one: &str, other: &str| one.trim_end_matches('/') == other.trim_end_matches('/');
        if let Some((next, now)) = Setting::DataDir.of(&file.env).zip(now).filter(|(next, now)| !same(next, now)) {
            hits.push(Hit::new(
                format!("{} says ECS_DATADIR={next}, and the agent's state is in {now}: {lost}", file.path),
                format!("set ECS_DATADIR={now} in {}", file.path),
            ));
        }
    }
    hits
}

/// The agent compares ECS_CLUSTER with its saved cluster at the start ("default" when not set), and ends with 5.
fn cluster_changed(v: &View<'_>) -> Vec<Hit> {
    let Ownership::EcsInit { unit } = v.ownership else { return vec![] };
    let Fact::Known(file) = &v.seen.agent.config_file else { return vec![] };
    let cluster = |env: &Env| Setting::Cluster.of(env).map(str::to_owned);
    let at_start = match v.seen.agent.presence.known() {
        Some(Presence::Container(c)) => cluster(&c.env),
        _ => None,
    };
    let next = cluster(&file.env);
    let now = match v.seen.agent.introspection.known().filter(|_| v.up()) {
        Some(introspection) => introspection.cluster.clone(),
        None => at_start.clone().unwrap_or_else(|| "default".into()),
    };
    // Set in neither place, it comes from elsewhere (user data, ecs.config.json), and nothing has changed here.
    if !v.in_question() || (next.is_none() && at_start.is_none()) {
        return vec![];
    }
    let next = next.unwrap_or_else(|| "default".into());
    if next == now {
        return vec![];
    }
    vec![Hit::new(
        format!(
            "{} says cluster {next}, the agent is in {now}: at the next start it ends with 5 and {unit} stays down",
            file.path
        ),
        format!("set ECS_CLUSTER={now} in {} (to move the instance to {next}, drain and replace it)", file.path),
    )]
}

/// Refused even when S3 answers: the download comes from another bucket than the one probed, a gateway endpoint's
/// policy may know one and not the other, and it is made with the agent already stopped. `reload-cache` makes the
/// same download while the agent runs, and so proves it.
fn cache_empty(v: &View<'_>) -> Vec<Hit> {
    let Some(cache) = v.seen.agent.cache.known().filter(|_| v.ecs_init() && v.in_question()) else { return vec![] };
    let dir = v.settings.agent.cache_dir.display();
    let why = match &cache.state {
        CacheState::NoCache => format!("{dir} is not there"),
        CacheState::Uncached => format!("{dir}/state is empty or missing"),
        CacheState::Other(word) => format!("{dir}/state holds {word:?}, which ecs-init does not know"),
        CacheState::Cached | CacheState::ReloadNeeded if cache.tar_present => return vec![],
        CacheState::Cached | CacheState::ReloadNeeded => format!("{dir}/ecs-agent.tar is empty or missing"),
    };
    vec![Hit::new(
        format!("{why}: the next start downloads the agent from S3, and the agent stays down if that fails"),
        "fill the cache while the agent runs: /usr/libexec/amazon-ecs-init reload-cache",
    )]
}

/// Whether a task is in the state it is meant to be in.
pub fn settled(task: &Task) -> bool {
    let known = task.known_status.as_str();
    matches!(known, "RUNNING" | "STOPPED") && task.desired_status.as_deref().is_none_or(|d| d.is_empty() || d == known)
}

fn unsettled_hit(task: &Task) -> Hit {
    let desired = task.desired_status.as_deref().filter(|d| !d.is_empty());
    let id = task.arn.rsplit('/').next().unwrap_or(&task.arn);
    let wants = desired.map_or_else(String::new, |d| format!(" and is to be {d}"));
    Hit::new(
        format!("task {id} is {}{wants}: a restart waits for it", task.known_status),
        format!("aws ecs describe-tasks --tasks {}", task.arn),
    )
}
