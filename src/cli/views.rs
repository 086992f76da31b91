//! From what the flow came to, to what is rendered. No decisions: words, verdicts and exit codes are taken over.

use crate::{
    assess::{self, Assessment, Path, Readiness, Severity as Weight},
    catalog::{Requirement, Service, services},
    config::Settings,
    decide::{self, Decision, Reason, exit},
    facts::{Fact, Observation, Presence},
    flow::Check,
    progress::{self, ClusterHalt, RunResult},
    report::{
        AddressView, AgentView, CheckReport, CheckView, ConnectionView, FindingView, Outage, PlanReport, RestartReport,
        ServiceView, Severity, Verdict, Word, headline, plan_steps, reach_words,
    },
};

/// `hostagent check`
///
/// `answer` is the decision as far as it answers for `needs`.
pub fn check(seen: &Check, answer: &Decision, needs: &[Requirement]) -> CheckReport {
    let mut verdict = verdict(answer, &connections(&seen.assessment));
    if *answer == Decision::Settled && !decide::about_the_agent(needs) {
        let names: Vec<&str> = services(needs).into_iter().map(Service::id).collect();
        verdict.headline = format!("all that was asked for answers, and nothing is missing: {}", names.join(", "));
    }
    CheckReport {
        verdict,
        agent: agent(&seen.observation, &seen.assessment),
        services: service_views(&seen.observation, &seen.assessment),
        connections: connections(&seen.assessment),
        findings: unfinished(seen).into_iter().chain(findings(&seen.assessment, answer)).collect(),
        observation: Some(seen.observation.clone()),
    }
}

/// `hostagent plan`
pub fn plan(seen: &Check, settings: &Settings) -> PlanReport {
    let plan = match &seen.decision {
        Decision::Restart { plan } | Decision::Repair { plan } => Some(plan.clone()),
        _ => None,
    };
    PlanReport {
        verdict: verdict(&seen.decision, &connections(&seen.assessment)),
        steps: plan.iter().flat_map(|plan| plan_steps(plan, settings)).collect(),
        plan,
        findings: findings(&seen.assessment, &seen.decision),
    }
}

/// `hostagent restart` that had nothing to begin.
pub fn not_begun(seen: &Check) -> RestartReport {
    RestartReport {
        verdict: verdict(&seen.decision, &connections(&seen.assessment)),
        run_id: None,
        plan: None,
        checks: Vec::new(),
        before: connections(&seen.assessment),
        after: Vec::new(),
        outage: None,
        halt: ClusterHalt::NotNeeded,
        findings: findings(&seen.assessment, &seen.decision),
    }
}

/// `hostagent restart` whose worker ended.
pub fn ended(result: &RunResult, settings: &Settings) -> RestartReport {
    let of = |seen: &Option<Observation>| {
        seen.as_ref().map(|o| connections(&assess::assess(o, settings))).unwrap_or_default()
    };
    let (before, after) = (of(&result.before), of(&result.after));
    let verdict = if result.acted { acted(result, &after) } else { verdict(&result.decision, &before) };
    let plan = match &result.decision {
        Decision::Restart { plan } | Decision::Repair { plan } => Some(plan.clone()),
        _ => None,
    };
    let checks = result.outcome.iter().flat_map(|outcome| &outcome.checks);
    RestartReport {
        verdict,
        run_id: Some(result.run_id.clone()),
        plan,
        checks: checks
            .map(|check| CheckView { name: check.name.clone(), passed: check.ok, detail: check.text.clone() })
            .collect(),
        before,
        after,
        outage: result.outage.as_ref().map(outage),
        halt: result.halt.clone(),
        findings: result.recovered.iter().map(|text| note("interrupted-restart", text)).collect(),
    }
}

/// `hostagent restart` whose worker was lost sight of.
pub fn lost(why: &str) -> RestartReport {
    let reason = Reason {
        rule: "worker-lost".into(),
        text: why.to_owned(),
        remedy: "hostagent restart finishes what was begun".into(),
    };
    RestartReport {
        verdict: Verdict {
            verdict: Word::NotVerified,
            exit_code: exit::BROKEN,
            headline: why.to_owned(),
            reasons: vec![reason],
        },
        run_id: None,
        plan: None,
        checks: Vec::new(),
        before: Vec::new(),
        after: Vec::new(),
        outage: None,
        halt: ClusterHalt::NotNeeded,
        findings: Vec::new(),
    }
}

fn acted(result: &RunResult, after: &[ConnectionView]) -> Verdict {
    let ok = result.exit_code == exit::SETTLED;
    let repaired = matches!(result.decision, Decision::Repair { .. });
    let word = match (ok, repaired) {
        (false, _) => Word::NotVerified,
        (true, true) => Word::Repaired,
        (true, false) => Word::Moved,
    };
    let headline = match (ok, result.alarms.first()) {
        (false, Some(alarm)) => alarm.clone(),
        (false, None) => "the agent was restarted, and not everything about it could be proved".to_owned(),
        (true, _) => {
            let on = after.iter().filter(|c| c.private == Some(true)).count();
            let outage = result.outage.as_ref().and_then(|o| o.agent_s);
            let away = outage.map(|s| format!("; the agent was away for {s:.2} s")).unwrap_or_default();
            format!("{on} of the agent's {} connections are on endpoint addresses{away}", after.len())
        }
    };
    let alarms = result.alarms.iter().map(|alarm| Reason::new("not-verified", alarm, ""));
    let not_halted = match &result.halt {
        ClusterHalt::NotWritten { why } => {
            let text = format!("the cluster is not halted, and others may follow: {why}");
            Some(Reason::new("cluster-not-halted", text, "hostagent fleet stop --cluster NAME"))
        }
        ClusterHalt::Written { .. } | ClusterHalt::NotNeeded => None,
    };
    let reasons = alarms.chain(not_halted).collect();
    Verdict { verdict: word, exit_code: result.exit_code, headline, reasons }
}

fn outage(outage: &progress::Outage) -> Outage {
    Outage {
        agent_api_s: outage.agent_s,
        websockets_s: outage.websockets_s,
        credential_rules_s: outage.credential_rules_s,
    }
}

fn verdict(decision: &Decision, connections: &[ConnectionView]) -> Verdict {
    let reasons = match decision {
        Decision::Waiting { reasons }
        | Decision::Refuse { reasons }
        | Decision::Spent { reasons }
        | Decision::Broken { reasons }
        | Decision::Unknown { reasons } => reasons.clone(),
        Decision::Settled | Decision::Restart { .. } | Decision::Repair { .. } => Vec::new(),
    };
    let under_way = reasons.iter().any(|reason| reason.rule == decide::RULE_UNDER_WAY);
    Verdict {
        verdict: if under_way { Word::Busy } else { Word::from(decision) },
        exit_code: decision.exit_code(),
        headline: headline(decision, connections),
        reasons,
    }
}

fn agent(seen: &Observation, assessment: &Assessment) -> AgentView {
    let container = match &seen.agent.presence {
        Fact::Known(Presence::Container(c)) => {
            let id = c.id.get(..12).unwrap_or(&c.id);
            Some(format!("{} {id} {}", c.name, assess::state_name(c.state)))
        }
        Fact::Known(Presence::HostProcess { pid, exe }) => Some(format!("{exe} (process {pid})")),
        Fact::Known(Presence::Absent) => Some("none".to_owned()),
        Fact::Unknown(_) => None,
    };
    let introspection = seen.agent.introspection.known();
    let instance = seen.instance.known();
    AgentView {
        version: seen.agent.version.known().map(|v| v.version.to_string()),
        owner: Some(assessment.ownership.to_string()),
        container,
        cluster: introspection.map(|i| i.cluster.clone()),
        container_instance: introspection.and_then(|i| i.container_instance_arn.clone()),
        instance: instance.map(|i| i.instance_id.clone()),
        region: instance.map(|i| i.region.clone()),
        zone: instance.map(|i| i.availability_zone.clone()),
        converges: assessment.converges_by.as_ref().map(|c| c.text.clone()),
    }
}

fn service_views(seen: &Observation, assessment: &Assessment) -> Vec<ServiceView> {
    assessment
        .services
        .iter()
        .map(|report| {
            let ttl = |ip: &std::net::IpAddr| {
                let names = seen.names.iter().filter(|name| name.host == report.host);
                names.flat_map(|name| name.answer.addresses()).find(|a| a.ip == *ip).and_then(|a| a.ttl_s)
            };
            ServiceView {
                service: report.service.to_string(),
                host: report.host.clone(),
                endpoint_service: Some(report.endpoint_service.clone()).filter(|name| !name.is_empty()),
                addresses: report
                    .addresses
                    .iter()
                    .map(|address| AddressView {
                        ip: address.ip.to_string(),
                        ttl_s: ttl(&address.ip),
                        path: snake(&address.path),
                        reached: address.reach.as_ref().map(|outcome| outcome.reached()),
                        reach: address.reach.as_ref().map(reach_words).unwrap_or_else(|| "not probed".to_owned()),
                    })
                    .collect(),
                path: name_path(&report.path).to_owned(),
                private: match report.readiness {
                    Readiness::Ready => Some(true),
                    Readiness::NotReady => Some(false),
                    Readiness::CannotTell => None,
                },
                remedy: report.remedy.clone(),
            }
        })
        .collect()
}

fn connections(assessment: &Assessment) -> Vec<ConnectionView> {
    assessment
        .connections
        .iter()
        .map(|connection| ConnectionView {
            service: connection.service.map(|service| service.to_string()),
            peer: connection.socket.peer.to_string(),
            path: snake(&connection.path),
            private: match connection.path {
                Path::Endpoint => Some(true),
                Path::Unknown => None,
                _ => Some(false),
            },
        })
        .collect()
}

fn snake(path: &Path) -> String {
    match path {
        Path::Endpoint => "endpoint",
        Path::PrivateElsewhere => "private_elsewhere",
        Path::Proxy => "proxy",
        Path::Public => "public",
        Path::Unknown => "unknown",
    }
    .to_owned()
}

fn name_path(path: &assess::NamePath) -> &'static str {
    use assess::{Absence, NamePath};
    match path {
        NamePath::Endpoint(_) => "endpoint",
        NamePath::PrivateElsewhere(_) => "private_elsewhere",
        NamePath::Public(_) => "public",
        NamePath::Mixed { .. } => "mixed",
        NamePath::Unplaced(_) => "unplaced",
        NamePath::Absent(Absence::NxDomain) => "nx_domain",
        NamePath::Absent(Absence::Empty) => "no_address",
        NamePath::Failed(_) => "failed",
    }
}

/// The findings that the reasons do not say already.
fn findings(assessment: &Assessment, decision: &Decision) -> Vec<FindingView> {
    let said = verdict(decision, &[]).reasons;
    let mut views: Vec<FindingView> = assessment
        .findings
        .iter()
        // The table of connections shows them one by one.
        .filter(|finding| finding.rule != "stale-connection")
        .filter(|finding| !said.iter().any(|reason| reason.rule == finding.rule && reason.text == finding.text))
        .map(|finding| FindingView {
            rule: finding.rule.clone(),
            severity: match finding.severity {
                Weight::Broken | Weight::Refuse => Severity::Error,
                Weight::Note => Severity::Info,
                _ => Severity::Warning,
            },
            text: finding.text.clone(),
            evidence: Vec::new(),
            remedy: finding.remedy.clone(),
        })
        .collect();
    views.sort_by_key(|view| view.severity);
    views
}

/// A restart that has not ended, and what ends it.
fn unfinished(seen: &Check) -> Option<FindingView> {
    seen.unfinished.as_ref().map(|text| FindingView {
        severity: Severity::Warning,
        remedy: "hostagent restart finishes one that was interrupted; one under way shows in systemctl list-units 'hostagent-restart-*'".into(),
        ..note("interrupted-restart", text)
    })
}

fn note(rule: &str, text: &str) -> FindingView {
    FindingView {
        rule: rule.to_owned(),
        severity: Severity::Info,
        text: text.to_owned(),
        evidence: Vec::new(),
        remedy: String::new(),
    }
}
