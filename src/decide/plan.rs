//! Plans as plain data. `act` carries them out and adds nothing.

use crate::catalog::Service;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, net::IpAddr};

/// What to do about this host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Decision {
    /// Every control-plane connection of the agent is on an endpoint address.
    Settled,
    /// Not all of ecs, ecs-agent and ecs-telemetry are private, stable and reachable yet.
    Waiting { reasons: Vec<Reason> },
    /// The endpoints are ready and the agent still holds other connections.
    Restart { plan: Plan },
    /// The agent is down or unsupervised in a way that can be mended.
    Repair { plan: Plan },
    /// A restart is wanted and would not be safe here.
    Refuse { reasons: Vec<Reason> },
    /// A restart is wanted; the budget is spent, a cool-down runs, or this set was tried already.
    Spent { reasons: Vec<Reason> },
    /// The agent is down in a way we do not know how to mend.
    Broken { reasons: Vec<Reason> },
    /// Too little could be seen to decide. Never acted upon.
    Unknown { reasons: Vec<Reason> },
}

/// Why, with the rule it comes from and the next thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Rule identifier, stable across versions: `version-too-old`.
    pub rule: String,
    /// One line: what was found.
    pub text: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

impl Reason {
    pub fn new(rule: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { rule: rule.into(), text: text.into(), remedy: remedy.into() }
    }
}

/// How the agent is restarted here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Method {
    /// systemd `RestartUnit`: the supervisor makes a new container.
    RestartUnit { unit: String },
    /// systemd `StartUnit`: nothing supervised runs.
    StartUnit { unit: String },
    /// Docker restart of a container that no unit owns.
    DockerRestart { container_id: String, stop_timeout_s: u32 },
}

impl Method {
    /// Whether it interrupts an agent that works, and does not only start one that is down.
    pub fn moves(&self) -> bool {
        matches!(self, Method::RestartUnit { .. } | Method::DockerRestart { .. })
    }

    /// What carrying it out takes, in order: what a run goes through, and what `hostagent plan` shows.
    pub fn steps(&self) -> Vec<Step> {
        let preparing: &[Step] = match self.moves() {
            // Confirming and waiting for tasks may take minutes, so the brakes are looked at once more at the end.
            true => &[Step::Lock, Step::Brakes, Step::Confirm, Step::Settle, Step::Permit, Step::Brakes],
            // Nothing that works is interrupted by a start: there is no endpoint to wait for, and no brake to ask.
            false => &[Step::Lock, Step::Settle, Step::Permit],
        };
        [preparing, &[Step::Write, Step::Act, Step::Back, Step::Verify]].concat()
    }
}

/// A step of a restart or repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// One at a time on this host.
    Lock,
    /// Whatever may hold this host back, looked at.
    Brakes,
    /// Several agreeing look-ups, over more than one TTL.
    Confirm,
    /// Tasks between two states are waited for.
    Settle,
    /// The host is looked at once more, and all is judged anew.
    Permit,
    /// Intent and count, on disk.
    Write,
    /// The one request that touches the agent.
    Act,
    /// The agent is waited for, and started again where it stays away.
    Back,
    Verify,
}

/// A restart or a repair, ready to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub method: Method,
    /// Connections or states that call for it, one line each.
    pub why: Vec<String>,
    /// The endpoint addresses it is for. One restart per set.
    pub endpoints: EndpointSet,
    /// The agent must be back and registered within this many seconds.
    pub deadline_s: u64,
}

/// The endpoint addresses of the control plane: the identity of "this set of endpoints".
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointSet(pub BTreeSet<(Service, IpAddr)>);

impl fmt::Display for EndpointSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (service, ip)) in self.0.iter().enumerate() {
            write!(f, "{}{service} {ip}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
