//! From an observation to what it means: who owns the agent, where it goes, what is ready, what stands in the way.
//!
//! Pure: no clock, no I/O.

mod connections;
mod converge;
mod ownership;
mod path;
mod rules;
mod services;
mod targets;

pub use connections::{Connection, Need, websockets, websockets_of};
pub use converge::Convergence;
pub use ownership::{Condition, Ownership, state_name};
pub use path::{Absence, NamePath, Path, PathMap};
pub use rules::{Finding, HOST_PROCESS, Rule, Severity, reloads, settled, table, version_allowed};
pub use services::{AddressReport, Readiness, ServiceReport, list, outcome_text, path_text, reach, same_host};
pub use targets::{Proxy, Target, Targets, dialled, place, proxy_for};

use crate::catalog::{CONTROL_PLANE, Service};
use crate::config::Settings;
use crate::decide::EndpointSet;
use crate::facts::{Fact, Observation};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an observation means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// When the look began.
    pub at: Timestamp,
    /// `None` when the instance metadata could not be read.
    pub instance_id: Option<String>,
    pub ownership: Ownership,
    pub condition: Condition,
    pub targets: Targets,
    /// One report a name looked up, the control plane's by the names the agent will dial.
    pub services: Vec<ServiceReport>,
    pub connections: Vec<Connection>,
    pub need: Need,
    /// The addresses of the three names if all of them lead to endpoints only; else empty.
    pub endpoint_set: EndpointSet,
    /// All three names lead to endpoints only, and every address completed TCP and TLS.
    pub ready: bool,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// When the agent would move by itself; `None` when it need not, has nowhere to go, or its version is not known.
    pub converges_by: Option<Convergence>,
}

impl Assessment {
    /// The findings of one severity, in order.
    pub fn with(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |f| f.severity == severity)
    }

    /// The report of a control-plane service by the name the agent will dial.
    pub fn service(&self, service: Service) -> Option<&ServiceReport> {
        self.services.iter().find(|r| r.service == service)
    }
}

/// Judges an observation.
pub fn assess(observation: &Observation, settings: &Settings) -> Assessment {
    let ownership = ownership::ownership(&observation.agent, &observation.systemd);
    let condition = ownership::condition(&observation.agent, &observation.systemd, &ownership);
    let targets = Targets::of(observation, &ownership, settings);
    let map = PathMap::new(&observation.instance, &settings.network);
    let services = services::services(observation, &targets, &map, settings);
    let connections = connections::connections(observation, &targets, &map, settings);
    let need = connections::need(observation, &condition, &connections, &services);
    let findings = rules::findings(&rules::View {
        seen: observation,
        settings,
        ownership: &ownership,
        condition: &condition,
        targets: &targets,
        services: &services,
        connections: &connections,
        need: &need,
    });
    let endpoint_set = endpoint_set(&services, &targets);
    let of = |service: Service| services.iter().find(|r| r.service == service).map(|r| r.readiness);
    let ready = !endpoint_set.0.is_empty() && CONTROL_PLANE.into_iter().all(|s| of(s) == Some(Readiness::Ready));
    let converges_by = match (&need, &observation.agent.version) {
        (Need::Stale { .. }, Fact::Known(version)) if !endpoint_set.0.is_empty() => {
            Some(converge::converges(version, observation.at, ready))
        }
        _ => None,
    };
    Assessment {
        at: observation.at,
        instance_id: observation.instance.known().map(|i| i.instance_id.clone()),
        ownership,
        condition,
        targets,
        services,
        connections,
        need,
        endpoint_set,
        ready,
        findings,
        converges_by,
    }
}

/// Where the agent dials now and will dial, for the observer to look up and probe; the catalog's names are among the
/// others it looks up.
pub fn targets(observation: &Observation, settings: &Settings) -> Targets {
    let ownership = ownership::ownership(&observation.agent, &observation.systemd);
    Targets::of(observation, &ownership, settings)
}

fn endpoint_set(services: &[ServiceReport], targets: &Targets) -> EndpointSet {
    let mut set = EndpointSet::default();
    for service in CONTROL_PLANE {
        let target = targets.judged().iter().find(|t| t.service == service);
        let report = services.iter().find(|r| r.service == service);
        let ips = target.and(report).and_then(|r| r.path.endpoint());
        let Some(ips) = ips else { return EndpointSet::default() };
        set.0.extend(ips.iter().map(|ip| (service, *ip)));
    }
    set
}
