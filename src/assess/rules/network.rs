//! Rules about the ways out: names, addresses, connections, proxies.

use super::{Hit, Rule, Severity, View};
use crate::assess::connections::Need;
use crate::assess::path::{NamePath, Path};
use crate::assess::services::{ServiceReport, first_failure, outcome_text, path_text, same_host};
use crate::catalog::Service;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "instance-unknown",
        looks_at: "the instance metadata service",
        severity: Severity::Blind,
        check: |v| v.seen.instance.missing().map(Hit::missing).into_iter().collect(),
    },
    Rule {
        id: "sockets-unknown",
        looks_at: "the agent's established connections",
        severity: Severity::Blind,
        check: |v| v.seen.sockets.missing().filter(|_| v.up()).map(Hit::missing).into_iter().collect(),
    },
    Rule {
        id: "targets-unknown",
        looks_at: "the agent's environment and ecs.config",
        severity: Severity::Missing,
        check: |v| match v.targets.next {
            None if v.in_question() && v.seen.instance.known().is_some() => vec![Hit::new(
                "the settings the next start reads could not be seen, so its hosts and proxies are not known",
                "",
            )],
            _ => vec![],
        },
    },
    Rule {
        id: "proxied",
        looks_at: "HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the next start",
        severity: Severity::Refuse,
        check: proxied,
    },
    Rule {
        id: "targets-differ",
        looks_at: "ECS_BACKEND_HOST, AWS_DEFAULT_REGION, FIPS, dual-stack and IPv6-only settings",
        severity: Severity::Warning,
        check: |v| {
            let judged = v.targets.judged().iter().filter(|t| !t.because.is_empty());
            judged
                .map(|t| {
                    let text =
                        format!("the agent dials {} for {}, because of {}", t.host, t.service, t.because.join(", "));
                    Hit::of(t.service, text, "")
                })
                .collect()
        },
    },
    Rule {
        id: "targets-change",
        looks_at: "the container's environment against ecs.config",
        severity: Severity::Warning,
        check: targets_change,
    },
    Rule { id: "name-not-endpoint", looks_at: "the names' addresses", severity: Severity::Waiting, check: names },
    Rule {
        id: "name-unknown",
        looks_at: "the names' addresses",
        severity: Severity::Missing,
        check: |v| {
            let unknown = |r: &&ServiceReport| matches!(r.path, NamePath::Failed(_) | NamePath::Unplaced(_));
            v.services.iter().filter(unknown).map(|r| softened(r, path_hit(r))).collect()
        },
    },
    Rule {
        id: "not-reached",
        looks_at: "TCP and TLS to every address",
        severity: Severity::Waiting,
        check: |v| v.services.iter().flat_map(not_reached).collect(),
    },
    Rule {
        id: "not-probed",
        looks_at: "TCP and TLS to every address",
        severity: Severity::Missing,
        check: |v| {
            let unprobed =
                |r: &&ServiceReport| r.path.endpoint().is_some() && r.addresses.iter().any(|a| a.reach.is_none());
            let hit = |r: &ServiceReport| {
                let text = format!("{}: not every address was probed", r.host);
                softened(r, Hit::of(r.service, text, ""))
            };
            v.services.iter().filter(unprobed).map(hit).collect()
        },
    },
    Rule {
        id: "public-hosts-handed-out",
        looks_at: "DiscoverPollEndpoint over a fresh connection",
        severity: Severity::Waiting,
        check: handed_out,
    },
    Rule {
        id: "discovery-unknown",
        looks_at: "DiscoverPollEndpoint over a fresh connection",
        severity: Severity::Note,
        check: |v| {
            let missing = v.seen.discovery.as_ref().and_then(|d| d.missing());
            missing.map(Hit::missing).into_iter().collect()
        },
    },
    Rule {
        id: "stale-connection",
        looks_at: "the agent's established connections",
        severity: Severity::Warning,
        check: |v| match v.need {
            Need::Stale { connections } => {
                connections.iter().map(|c| Hit::new(format!("not on an endpoint: {c}"), "")).collect()
            }
            _ => vec![],
        },
    },
    Rule {
        id: "not-connected",
        looks_at: "the agent's established connections",
        severity: Severity::Warning,
        check: |v| match v.need {
            Need::Disconnected { missing } => {
                let names = missing.iter().map(|s| s.id()).collect::<Vec<_>>().join(" and ");
                vec![Hit::new(
                    format!("the agent holds no connection to {names}"),
                    "brief gaps are normal: look again in a minute; if it stays so, the agent gets no new tasks and no \
                     credentials: docker logs --tail 50 ecs-agent",
                )]
            }
            _ => vec![],
        },
    },
    Rule {
        id: "other-connection",
        looks_at: "the agent's established connections",
        severity: Severity::Note,
        check: |v| {
            let stale: &[_] = if let Need::Stale { connections } = v.need { connections } else { &[] };
            let other = v.connections.iter().filter(|c| c.path != Path::Endpoint && !stale.contains(c));
            other.map(|c| Hit::new(format!("not of the control plane, left as it is: {c}"), "")).collect()
        },
    },
    Rule { id: "s3-gateway", looks_at: "the S3 name and connections", severity: Severity::Note, check: s3_gateway },
];

/// What is not of the control plane is told and never gates a restart.
fn softened(report: &ServiceReport, hit: Hit) -> Hit {
    if report.service.is_control_plane() { hit } else { hit.graded(Severity::Warning) }
}

fn path_hit(r: &ServiceReport) -> Hit {
    Hit::of(r.service, format!("{} {}", r.host, path_text(&r.path)), r.remedy.clone())
}

fn names(v: &View<'_>) -> Vec<Hit> {
    let not_endpoint = |r: &&ServiceReport| {
        let gateway = r.service == Service::S3 && matches!(r.path, NamePath::Public(_));
        let known = !matches!(r.path, NamePath::Endpoint(_) | NamePath::Failed(_) | NamePath::Unplaced(_));
        known && !gateway
    };
    v.services.iter().filter(not_endpoint).map(|r| softened(r, path_hit(r))).collect()
}

fn not_reached(r: &ServiceReport) -> Option<Hit> {
    let (address, outcome) = first_failure(r)?;
    let failed = r.addresses.iter().filter(|a| a.reach.as_ref().is_some_and(|o| !o.reached())).count();
    let more = if failed > 1 { format!(" (and {} more)", failed - 1) } else { String::new() };
    let text = format!("{} at {}:{}: {}{more}", r.host, address.ip, r.port, outcome_text(outcome));
    // Where the name itself is not an endpoint's, that comes first and has a remedy of its own.
    let remedy = if r.path.endpoint().is_some() { r.remedy.clone() } else { String::new() };
    Some(softened(r, Hit::of(r.service, text, remedy)))
}

/// With a proxy in between the agent dials the proxy, whatever DNS says: endpoints would change nothing, and a restart
/// would be for nothing. Refused, rather than waited for, because it is the setting that has to change.
fn proxied(v: &View<'_>) -> Vec<Hit> {
    let proxied: Vec<_> = v.targets.next.iter().flatten().filter_map(|t| Some((t, t.proxy.as_ref()?))).collect();
    let Some((_, proxy)) = proxied.first() else { return vec![] };
    let hosts = proxied.iter().map(|(t, _)| t.host.as_str()).collect::<Vec<_>>().join(",");
    let file = v.settings.agent.config_file.display();
    let restart = if v.ecs_init() { ", then run this again" } else { ", and make the container anew with it" };
    vec![Hit::new(
        format!(
            "the agent goes through the proxy {}:{} ({}) for {hosts}, so endpoints make no difference to it",
            proxy.host, proxy.port, proxy.setting
        ),
        format!("add {hosts} to NO_PROXY in {file}{restart}"),
    )]
}

fn targets_change(v: &View<'_>) -> Vec<Hit> {
    let (Some(running), Some(next)) = (&v.targets.running, &v.targets.next) else { return vec![] };
    let way = |t: &crate::assess::targets::Target| match &t.proxy {
        Some(proxy) => format!("{}:{} through {}:{}", t.host, t.port, proxy.host, proxy.port),
        None => format!("{}:{}", t.host, t.port),
    };
    let changed = running.iter().zip(next).filter(|(one, other)| way(one) != way(other));
    changed
        .map(|(one, other)| {
            let text = format!("{}: the running agent dials {}, the next start {}", one.service, way(one), way(other));
            Hit::of(one.service, text, format!("as {} says", v.settings.agent.config_file.display()))
        })
        .collect()
}

/// The control plane's own word. Over the endpoint it hands out the two names that private DNS covers; as long as it
/// hands out others, a restarted agent would go out again.
fn handed_out(v: &View<'_>) -> Vec<Hit> {
    let Some(discovery) = v.seen.discovery.as_ref().and_then(|d| d.known()) else { return vec![] };
    let expected = |service: Service| v.targets.judged().iter().find(|t| t.service == service);
    [(Service::EcsAgent, &discovery.agent_host), (Service::EcsTelemetry, &discovery.telemetry_host)]
        .into_iter()
        .filter(|(service, host)| expected(*service).is_some_and(|t| !same_host(&t.host, host)))
        .map(|(service, host)| {
            Hit::of(
                service,
                format!("the control plane hands out {host} for {service}, which private DNS does not cover"),
                "its requests do not come in through the ecs endpoint yet: see what ecs resolves to",
            )
        })
        .collect()
}

fn s3_gateway(v: &View<'_>) -> Vec<Hit> {
    let gateway = |r: &&ServiceReport| r.service == Service::S3 && matches!(r.path, NamePath::Public(_));
    let Some(report) = v.services.iter().find(gateway) else { return vec![] };
    let open = v.connections.iter().filter(|c| c.service == Some(Service::S3)).count();
    vec![Hit::of(
        Service::S3,
        format!(
            "{} resolves publicly, which says nothing: a gateway endpoint is a route. Attaching one cuts every open S3 \
             connection of the subnet; the agent holds {open} that can be told (those of dockerd and of tasks are not \
             seen here)",
            report.host
        ),
        report.remedy.clone(),
    )]
}
