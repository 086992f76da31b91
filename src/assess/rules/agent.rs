//! Rules about the agent as it is: who owns it, whether it runs, registers and serves its tasks.

use super::{HOST_PROCESS, Hit, Rule, Severity, View};
use crate::assess::ownership::{Condition, Ownership};
use crate::facts::{Fact, Presence};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "agent-unknown",
        looks_at: "the engine, the init system",
        severity: Severity::Blind,
        check: agent_unknown,
    },
    Rule {
        id: "no-agent",
        looks_at: "the engine, the init system",
        severity: Severity::Refuse,
        check: |v| match v.condition {
            Condition::Absent => vec![Hit::new(
                format!("there is no ECS agent here: no container {} and no unit", v.settings.agent.container),
                "if its container has another name, set agent.container",
            )],
            _ => vec![],
        },
    },
    Rule {
        id: "broken-by-docker-restart",
        looks_at: "the unit's state and exit, the container's state",
        severity: Severity::Broken,
        check: |v| match v.condition {
            Condition::BrokenByDocker { what, .. } => vec![Hit::new(what, "hostagent restart --repair")],
            _ => vec![],
        },
    },
    Rule {
        id: "agent-down",
        looks_at: "the unit's state and exit, the container's state",
        severity: Severity::Broken,
        check: |v| match v.condition {
            Condition::Down { what, remedy } => vec![Hit::new(what, remedy)],
            _ => vec![],
        },
    },
    Rule {
        id: "agent-stopped",
        looks_at: "the unit's state and exit, the container's state",
        severity: Severity::Refuse,
        check: |v| match v.condition {
            Condition::Stopped { what, remedy } | Condition::StoppedUnclear { what, remedy } => {
                vec![Hit::new(what, remedy)]
            }
            _ => vec![],
        },
    },
    Rule {
        id: "agent-changing",
        looks_at: "the unit's state and jobs",
        severity: Severity::Hold,
        check: |v| match v.condition {
            Condition::Changing { what } => {
                vec![Hit::new(format!("{what}: another start or stop is under way"), "run this again in a minute")]
            }
            _ => vec![],
        },
    },
    Rule {
        id: "ownership-unclear",
        looks_at: "the container's name and restart policy, the units that name the agent, traces of ecs-init",
        severity: Severity::Refuse,
        check: |v| match v.ownership {
            Ownership::Unclear { why } => vec![Hit::new(
                format!("it is not clear who restarts the agent here: {why}"),
                "leave one owner: systemctl status ecs, or (without ecs-init and its /var/cache/ecs) a container with \
                 docker run --restart; docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' ecs-agent",
            )],
            _ => vec![],
        },
    },
    Rule {
        id: "ownership-foreign",
        looks_at: "the units that name the agent",
        severity: Severity::Refuse,
        check: |v| match v.ownership {
            Ownership::Foreign { unit } => vec![Hit::new(
                format!("{unit} runs the agent, and it is not ecs-init's: how it restarts is not known"),
                format!("restart it the way {unit} is meant to be: systemctl cat {unit}"),
            )],
            _ => vec![],
        },
    },
    Rule {
        id: HOST_PROCESS,
        looks_at: "the command of the agent's unit",
        severity: Severity::Refuse,
        check: |v| match v.ownership {
            Ownership::HostProcess { unit } => vec![Hit::new(
                format!(
                    "the agent is a process of this host under {unit}, without a container, as on Bottlerocket: it is \
                     looked at, and not restarted from here"
                ),
                "once all three endpoints are there: drain the instance and reboot it (apiclient reboot), or replace it",
            )],
            _ => vec![],
        },
    },
    Rule {
        id: "introspection-silent",
        looks_at: "/v1/metadata of the introspection server",
        severity: Severity::Blind,
        check: |v| match v.seen.agent.introspection.missing().filter(|_| v.up()) {
            Some(m) => vec![Hit::new(
                format!("{}: {}; it opens only once the agent has registered with ECS", m.what, m.why),
                if m.hint.is_empty() { "docker logs --tail 50 ecs-agent".into() } else { m.hint.clone() },
            )],
            None => vec![],
        },
    },
    Rule {
        id: "not-registered",
        looks_at: "/v1/metadata of the introspection server",
        severity: Severity::Broken,
        check: |v| match v.seen.agent.introspection.known().filter(|_| *v.condition == Condition::Running) {
            Some(i) if i.container_instance_arn.is_none() => vec![Hit::new(
                format!("the agent runs and has not registered with cluster {}", i.cluster),
                "docker logs --tail 50 ecs-agent (look for RegisterContainerInstance)",
            )],
            _ => vec![],
        },
    },
    Rule {
        id: "agent-unhealthy",
        looks_at: "the container's health check",
        severity: Severity::Warning,
        check: |v| match v.seen.agent.presence.known() {
            Some(Presence::Container(c)) if v.up() && c.health.as_deref() == Some("unhealthy") => vec![Hit::new(
                format!("Docker calls {} unhealthy: its introspection server did not answer the health check", c.name),
                format!("docker inspect -f '{{{{json .State.Health}}}}' {}", c.name),
            )],
            _ => vec![],
        },
    },
    Rule {
        id: "credential-rules-unknown",
        looks_at: "the NAT rules for 169.254.170.2",
        severity: Severity::Missing,
        check: credential_rules_unknown,
    },
    Rule {
        id: "credential-rules-absent",
        looks_at: "the NAT rules for 169.254.170.2",
        severity: Severity::Broken,
        check: credential_rules_absent,
    },
    Rule {
        id: "credential-rules-repeated",
        looks_at: "the NAT rules for 169.254.170.2",
        severity: Severity::Warning,
        check: |v| match v.seen.credentials.known().and_then(|c| c.rules.known()) {
            Some(r) if v.up() && (r.prerouting > 1 || r.output > 1) => vec![Hit::new(
                format!(
                    "the credential rules for 169.254.170.2 stand more than once (PREROUTING {}, OUTPUT {})",
                    r.prerouting, r.output
                ),
                "harmless, and a sign that something else adds them: iptables -t nat -S | grep 169.254.170.2",
            )],
            _ => vec![],
        },
    },
    Rule {
        id: "credential-port-silent",
        looks_at: "the credential port of the host",
        severity: Severity::Warning,
        check: |v| match v.seen.credentials.known().and_then(|c| c.port_answers.known()) {
            Some(false) if v.up() => vec![Hit::new(
                format!("nothing listens on the credential port {}", v.settings.agent.credentials_port),
                "tasks cannot get their role's credentials: docker logs --tail 50 ecs-agent",
            )],
            _ => vec![],
        },
    },
];

fn agent_unknown(v: &View<'_>) -> Vec<Hit> {
    let presence = v.seen.agent.presence.missing().map(Hit::missing);
    let systemd = v.seen.systemd.missing().map(Hit::missing);
    // Only where no unit owns the agent does it matter whether ecs-init has been here.
    let traces = match v.ownership {
        Ownership::Unknown(missing) if presence.is_none() && systemd.is_none() => Some(Hit::missing(missing)),
        _ => None,
    };
    presence.into_iter().chain(systemd).chain(traces).collect()
}

/// The rules belong to ecs-init's start and stop. Docker alone never touches them, so there they are not needed.
fn credential_rules_unknown(v: &View<'_>) -> Vec<Hit> {
    let missing = match &v.seen.credentials {
        Fact::Unknown(missing) => Some(missing),
        Fact::Known(credentials) => credentials.rules.missing(),
    };
    let severity = if v.ecs_init() { Severity::Missing } else { Severity::Note };
    missing.filter(|_| v.in_question()).map(|m| Hit::missing(m).graded(severity)).into_iter().collect()
}

fn credential_rules_absent(v: &View<'_>) -> Vec<Hit> {
    let Some(rules) = v.seen.credentials.known().and_then(|c| c.rules.known()) else { return vec![] };
    // A dead agent has none by design; that is told by its own rule.
    if !v.up() || (rules.prerouting > 0 && rules.output > 0) {
        return vec![];
    }
    let text = format!(
        "the credential rules for 169.254.170.2 are missing (PREROUTING {}, OUTPUT {}): tasks cannot get their role's \
         credentials",
        rules.prerouting, rules.output
    );
    vec![match v.ownership {
        Ownership::EcsInit { unit } if matches!(v.condition, Condition::BrokenByDocker { .. }) => {
            Hit::new(text, format!("starting {unit} puts them back: hostagent restart --repair"))
        }
        Ownership::EcsInit { unit } => {
            Hit::new(text, format!("{unit} puts them back when it starts: systemctl restart {unit}"))
        }
        // Set by hand, or not used: no task role may be in use here at all.
        _ => Hit::new(text, "if task roles are used here: see iptables -t nat -S").graded(Severity::Warning),
    }]
}
