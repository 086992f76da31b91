//! What people, programs and SSM get to read: golden pages, and properties for content nobody chose.

use hostagent::{
    catalog::Service,
    cli::{args::Cli, config_show::config_show},
    config::{Loaded, Settings, Source, load},
    decide::{EndpointSet, Method, Plan, Reason},
    progress::ClusterHalt,
    report::{
        AddressView, AgentView, BudgetView, CheckReport, CheckView, ConnectionView, FindingView, Format, Look, Outage,
        PlanReport, Render, RestartReport, ServiceState, ServiceView, Severity, StatusReport, TimeLineView, Verdict,
        Word, plan_steps, render, ssm,
    },
    text,
};
use proptest::prelude::*;
use std::{fs, path::Path};

fn verdict(verdict: Word, exit_code: u8, headline: &str) -> Verdict {
    Verdict { verdict, exit_code, headline: headline.into(), reasons: vec![] }
}

fn reason(rule: &str, text: &str, remedy: &str) -> Reason {
    Reason { rule: rule.into(), text: text.into(), remedy: remedy.into() }
}

fn service(service: &str, host: &str, last: u8, path: &str, reach: [Option<&str>; 2]) -> ServiceView {
    let address = |net: u8, failed: Option<&str>| AddressView {
        ip: format!("10.50.{net}.{last}"),
        ttl_s: Some(60),
        path: path.into(),
        reached: Some(failed.is_none()),
        reach: failed.unwrap_or("ok").into(),
    };
    ServiceView {
        service: service.into(),
        host: host.into(),
        endpoint_service: Some(format!("com.amazonaws.eu-west-1.{service}")),
        addresses: vec![address(1, reach[0]), address(2, reach[1])],
        path: path.into(),
        private: Some(path == "endpoint"),
        remedy: String::new(),
    }
}

fn connection(service: Option<&str>, peer: &str, path: &str) -> ConnectionView {
    ConnectionView {
        service: service.map(Into::into),
        peer: peer.into(),
        path: path.into(),
        private: (path != "unknown").then_some(path == "endpoint"),
    }
}

fn stale() -> Vec<ConnectionView> {
    vec![
        connection(Some("ecs"), "198.51.100.10:443", "public"),
        connection(Some("ecs-agent"), "198.51.100.31:443", "public"),
        connection(None, "198.51.100.32:443", "unknown"),
    ]
}

fn moved() -> Vec<ConnectionView> {
    vec![
        connection(Some("ecs"), "10.50.1.10:443", "endpoint"),
        connection(Some("ecs-agent"), "10.50.2.11:443", "endpoint"),
        connection(Some("ecs-telemetry"), "10.50.1.12:443", "endpoint"),
    ]
}

fn check() -> CheckReport {
    let mut dkr = service(
        "ecr.dkr",
        "111122223333.dkr.ecr.eu-west-1.amazonaws.com",
        14,
        "endpoint",
        [None, Some("TLS failed: certificate is for \"other.example\"")],
    );
    dkr.remedy = "allow 443 from this host in the security group of the endpoint".into();
    let mut ecs = service("ecs", "ecs.eu-west-1.amazonaws.com", 10, "endpoint", [None; 2]);
    // Said by a finding already: not said again under the table.
    ecs.remedy = "nothing to do if that is wanted".into();
    let mut s3 =
        service("s3", "prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com", 15, "public", [None; 2]);
    s3.private = None;
    let mut logs = service("logs", "logs.eu-west-1.amazonaws.com", 16, "mixed", [None; 2]);
    logs.addresses[0].path = "endpoint".into();
    logs.addresses[1] = AddressView { ip: "198.51.100.16".into(), path: "public".into(), ..logs.addresses[1].clone() };
    CheckReport {
        verdict: verdict(
            Word::Restart,
            10,
            "3 of the agent's 3 connections are not on an endpoint, and all three endpoints are ready",
        ),
        agent: AgentView {
            version: Some("1.105.1".into()),
            owner: Some("ecs.service (ecs-init)".into()),
            container: Some("ecs-agent 3f2a9c1d7b60 running".into()),
            cluster: Some("prod".into()),
            instance: Some("i-0f00dfacade00001".into()),
            converges: Some("left alone it would move by 2026-11-23 06:30 UTC at the latest, not guaranteed".into()),
            ..AgentView::default()
        },
        services: vec![
            ecs,
            service("ecs-agent", "ecs-a.eu-west-1.amazonaws.com", 11, "endpoint", [None; 2]),
            service("ecs-telemetry", "ecs-t.eu-west-1.amazonaws.com", 12, "endpoint", [None; 2]),
            dkr,
            s3,
            logs,
        ],
        connections: stale(),
        findings: vec![
            FindingView {
                rule: "s3-gateway-not-visible".into(),
                severity: Severity::Info,
                text: "a gateway endpoint for S3 is a route and cannot be seen from a host".into(),
                evidence: vec!["2 open connections to S3 would be cut when a gateway is attached".into()],
                remedy: String::new(),
            },
            FindingView {
                rule: "stale-connection".into(),
                severity: Severity::Warning,
                text: "not on an endpoint: 198.51.100.31:443".into(),
                evidence: vec![],
                remedy: String::new(),
            },
            FindingView {
                rule: "staged-update".into(),
                severity: Severity::Error,
                text: "the next start loads agent 1.106.0".into(),
                evidence: vec!["/var/cache/ecs/state is 2".into()],
                remedy: "nothing to do if that is wanted".into(),
            },
        ],
        observation: None,
    }
}

fn plan() -> Plan {
    let set = [(Service::Ecs, "10.50.1.10".parse().unwrap()), (Service::EcsAgent, "10.50.1.11".parse().unwrap())];
    Plan {
        method: Method::RestartUnit { unit: "ecs.service".into() },
        why: vec!["ecs-agent: 198.51.100.31:443 is public".into()],
        endpoints: EndpointSet(set.into()),
        deadline_s: 120,
    }
}

fn plan_report() -> PlanReport {
    PlanReport {
        verdict: verdict(Word::Restart, 10, "3 of the agent's 3 connections are not on an endpoint"),
        plan: Some(plan()),
        steps: plan_steps(&plan(), &Settings::default()),
        findings: vec![],
    }
}

fn restart() -> RestartReport {
    let check = |name: &str, passed, detail: &str| CheckView { name: name.into(), passed, detail: detail.into() };
    RestartReport {
        verdict: verdict(Word::NotVerified, 13, "the agent is back, and the credential rules are missing"),
        run_id: Some("20261122T180000Z-1f3a".into()),
        plan: Some(plan()),
        checks: vec![
            check(
                "same-container-instance",
                Some(true),
                "arn:aws:ecs:eu-west-1:111122223333:container-instance/prod/0a1b",
            ),
            check("credential-rules", Some(false), "PREROUTING 0 times, OUTPUT 1 time"),
            check("workloads-untouched", None, "permission denied"),
        ],
        before: stale(),
        after: moved(),
        outage: Some(Outage { agent_api_s: Some(0.784), websockets_s: Some(0.81), credential_rules_s: None }),
        halt: ClusterHalt::Written { parameter: "/hostagent/prod/halt".into() },
        findings: vec![],
    }
}

#[test]
fn what_became_of_the_halt_is_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let pages = |report: &RestartReport| {
        [Format::Human, Format::Json, Format::Ssm]
            .map(|format| render(report, format, Look::PLAIN, &dir.path().join("last.json")))
    };
    for page in pages(&restart()) {
        assert!(page.contains("/hostagent/prod/halt"), "{page}");
    }
    let why = "ssm:PutParameter: ThrottlingException\u{1b}[2J".to_owned();
    for page in pages(&RestartReport { halt: ClusterHalt::NotWritten { why }, ..restart() }) {
        assert!(page.contains("ThrottlingException") && !page.contains('\u{1b}'), "{page}");
    }
    for page in pages(&RestartReport { halt: ClusterHalt::NotNeeded, ..restart() }) {
        assert!(!page.contains("halted"), "{page}");
    }
}

/// Wide enough for nothing to wrap, and not a terminal: what a log keeps.
#[test]
fn pages_for_people() {
    insta::assert_snapshot!("check_human", check().human(Look::PLAIN));
    insta::assert_snapshot!("plan_human", plan_report().human(Look::PLAIN));
    insta::assert_snapshot!("restart_human", restart().human(Look::PLAIN));
    let refused = CheckReport {
        verdict: Verdict {
            reasons: vec![
                reason(
                    "version-too-old",
                    "agent 1.25.0 is older than 1.25.1",
                    "upgrade the agent: yum update ecs-init",
                ),
                reason("state-not-persisted", "the agent's /data is not on the host", ""),
            ],
            ..verdict(Word::Refuse, 12, "agent 1.25.0 is older than 1.25.1 (and 1 more reason)")
        },
        agent: AgentView::default(),
        services: vec![],
        connections: vec![],
        findings: vec![],
        observation: None,
    };
    insta::assert_snapshot!("refused_human", refused.human(Look::PLAIN));
}

#[test]
fn a_narrow_coloured_terminal() {
    let page = check().human(Look { color: true, width: Some(80) });
    insta::assert_snapshot!("check_human_80_columns", page.replace('\u{1b}', "ESC"));
}

#[test]
fn documents_for_programs() {
    let version = env!("CARGO_PKG_VERSION");
    let json = |text: String| text.replace(version, "VERSION");
    let file = Path::new("/nonexistent");
    insta::assert_snapshot!("check_json", json(render(&check(), Format::Json, Look::PLAIN, file)));
    insta::assert_snapshot!("plan_json", json(render(&plan_report(), Format::Json, Look::PLAIN, file)));
    insta::assert_snapshot!("restart_json", json(render(&restart(), Format::Json, Look::PLAIN, file)));
}

#[test]
fn the_ssm_page_names_the_file_that_holds_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new/report.json");
    let page = render(&check(), Format::Ssm, Look::PLAIN, &file);
    insta::assert_snapshot!("check_ssm", page.replace(dir.path().to_str().unwrap(), "DIR"));
    assert_eq!(fs::read_to_string(&file).unwrap(), render(&check(), Format::Json, Look::PLAIN, &file));
    assert!(page.len() <= 2_500, "{}", page.len());
}

#[test]
fn the_ssm_page_says_when_the_file_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    fs::create_dir(&file).unwrap();
    let page = render(&restart(), Format::Ssm, Look::PLAIN, &file);
    let lines: Vec<&str> = page.lines().collect();
    assert!(lines[0].starts_with("NOT VERIFIED: the agent is back"), "{page}");
    let summary: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!((&summary["exit_code"], &summary["report"]), (&13.into(), &serde_json::Value::Null));
    assert_eq!(summary["checks_failed"][0]["name"], "credential-rules");
    assert!(
        lines[2].starts_with("The full report could not be written to ") && lines[2].contains("report.json: "),
        "{page}"
    );
}

fn status() -> StatusReport {
    let at = |s: i64| jiff::Timestamp::from_second(1_795_000_000 + s).unwrap();
    let entry = |s, kind: &str, text: &str| TimeLineView { at: at(s), kind: kind.into(), text: text.into() };
    StatusReport {
        verdict: Verdict {
            verdict: Word::Waiting,
            exit_code: 11,
            headline: "ecs-a.eu-west-1.amazonaws.com leads to public addresses".into(),
            reasons: vec![
                reason("not-private", "ecs-a.eu-west-1.amazonaws.com leads to public addresses", "create the endpoint"),
                reason(
                    "service-down",
                    "the service is not running; these are its last words",
                    "systemctl start hostagent",
                ),
            ],
        },
        service: ServiceState::Stopped,
        state: Some("observing".into()),
        words: Some("waiting for endpoints: ecs-a.eu-west-1.amazonaws.com leads to public addresses".into()),
        since: Some(at(0)),
        looked_at: Some(at(3_600)),
        next_look: None,
        last_words_at: Some(at(3_605)),
        instance: Some("i-0f00dfacade00001".into()),
        paused: true,
        budget: Some(BudgetView { allowed: 2, used: 0, left: 2 }),
        time_line: vec![
            entry(0, "started", "hostagent watches"),
            entry(1, "endpoints_gone", "the endpoints went away: \u{1b}[2J"),
        ],
    }
}

#[test]
fn status_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    insta::assert_snapshot!("status_human", status().human(Look::PLAIN));
    let version = concat!("\"hostagent\": \"", env!("CARGO_PKG_VERSION"), "\"");
    let json = render(&status(), Format::Json, Look::PLAIN, &file).replace(version, "\"hostagent\": \"VERSION\"");
    insta::assert_snapshot!("status_json", json);
    let page = render(&status(), Format::Ssm, Look::PLAIN, &file);
    insta::assert_snapshot!("status_ssm", page.replace(dir.path().to_str().unwrap(), "DIR"));
}

/// The longest columns a help text may have; also what makes the goldens the same everywhere.
#[test]
fn help_texts() {
    use clap::CommandFactory;
    let mut command = Cli::command().term_width(100);
    command.build();
    insta::assert_snapshot!("help", command.render_long_help());
    insta::assert_snapshot!("help_short", command.render_help());
    for name in ["check", "plan", "restart", "watch", "status", "config"] {
        let sub = command.find_subcommand_mut(name).unwrap();
        insta::assert_snapshot!(format!("help_{name}"), sub.render_long_help());
    }
}

#[test]
fn config_show_is_toml_that_means_what_is_in_effect() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[network]\nendpoint_cidrs = [\"10.9.0.0/16\"]\n[paths]\nstate_dir = \"/var/lib/\\\"quoted\\\\\"\n";
    fs::write(dir.path().join("10-a.toml"), text).unwrap();
    let mut loaded = load(&Source::Dirs(vec![dir.path().into()])).unwrap();
    let shown = |loaded: &Loaded, format| config_show(loaded, format).replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!("config_json", shown(&loaded, Format::Json));
    insta::assert_snapshot!("config_ssm", shown(&loaded, Format::Ssm));
    let human = shown(&loaded, Format::Human);
    let again = tempfile::tempdir().unwrap();
    fs::write(again.path().join("10-a.toml"), &human).unwrap();
    assert_eq!(load(&Source::Dirs(vec![again.path().into()])).unwrap().settings, loaded.settings);
    loaded.set_task_wait(60);
    insta::assert_snapshot!("config_human", shown(&loaded, Format::Human));
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\u{0}-\u{20}\u{7f}-\u{9f}\u{200b}-\u{200f}\u{202a}-\u{202e}\u{2060}-\u{2069}\"\\\\]{0,300}",
        "(日本語|é|\"|\\\\|\u{1b}\\[2J){0,1500}",
    ]
}

prop_compose! {
    fn any_check(many: usize)(
        headline in hostile(),
        texts in proptest::collection::vec(hostile(), 1..4),
        reasons in 0..many,
        services in 0..many,
        connections in 0..many,
        findings in 0..many,
    ) -> CheckReport {
        let text = |n: usize| texts[n % texts.len()].clone();
        let mut report = check();
        report.verdict.headline = headline;
        report.verdict.reasons = (0..reasons).map(|n| reason(&text(n), &text(n + 1), &text(n + 2))).collect();
        report.services = (0..services).map(|n| {
            let mut service = service(&text(n), &text(n + 1), 9, &text(n), [None, Some(text(n + 2).as_str())]);
            service.remedy = text(n);
            service
        }).collect();
        report.connections = (0..connections).map(|n| connection(Some(&text(n)), &text(n + 1), &text(n))).collect();
        report.findings = (0..findings).map(|n| FindingView {
            rule: text(n),
            severity: Severity::Warning,
            text: text(n + 1),
            evidence: vec![text(n), text(n + 1)],
            remedy: text(n + 2),
        }).collect();
        report.agent.version = Some(text(0));
        report.agent.cluster = Some(text(1));
        report.agent.converges = Some(text(2));
        report
    }
}

fn harmless(page: &str) -> bool {
    !page.contains(|c| c != '\n' && text::is_unsafe(c))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ssm_sizes_hold_for_any_content(report in any_check(80), name in "[a-zé\u{1b}]{1,40}") {
        let dir = tempfile::tempdir().unwrap();
        let page = render(&report, Format::Ssm, Look::PLAIN, &dir.path().join(name));
        prop_assert!(harmless(&page));
        let lines: Vec<&str> = page.lines().collect();
        prop_assert_eq!(lines.len(), 3);
        prop_assert!(lines[0].starts_with("RESTART NEEDED: ") && lines[0].len() <= ssm::FIRST_LINE);
        prop_assert!(lines[1].len() <= ssm::SUMMARY && page.len() <= 2_500, "{} {}", lines[1].len(), page.len());
        let summary: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        prop_assert_eq!(&summary["schema"], "hostagent/check/1");
        prop_assert_eq!(&summary["exit_code"], 10);
        // What is shown and what is counted as left out add up.
        for (key, all) in [("reasons", report.verdict.reasons.len()), ("connections", report.connections.len())] {
            let shown = summary[key].as_array().map_or(0, Vec::len) as u64;
            prop_assert_eq!(shown + summary["omitted"][key].as_u64().unwrap_or(0), all as u64);
        }
    }

    #[test]
    fn a_monstrous_file_name_leaves_a_whole_summary(headline in hostile(), name in "/[a-z\u{1b}]{200,5000}") {
        let mut report = check();
        report.verdict.headline = headline;
        let page = render(&report, Format::Ssm, Look::PLAIN, Path::new(&format!("/proc/none{name}")));
        let lines: Vec<&str> = page.lines().collect();
        prop_assert!(lines[0].len() <= ssm::FIRST_LINE && lines[1].len() <= ssm::SUMMARY && harmless(&page));
        prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(lines[1]).unwrap()["verdict"], "restart");
    }

    #[test]
    fn json_is_whole_and_true_for_any_content(report in any_check(80)) {
        let json = render(&report, Format::Json, Look::PLAIN, Path::new("/unused"));
        prop_assert!(harmless(&json));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(value["headline"].as_str(), Some(report.verdict.headline.as_str()));
        prop_assert_eq!(value["services"].as_array().unwrap().len(), report.services.len());
    }

    #[test]
    fn a_page_for_people_holds_nothing_a_terminal_obeys(
        report in any_check(8),
        width in proptest::option::of(40u16..200),
    ) {
        let plain = report.human(Look { color: false, width });
        prop_assert!(harmless(&plain));
        // With colour: our own escapes and nothing else.
        let colored = report.human(Look { color: true, width });
        prop_assert!(harmless(&anstream::adapter::strip_str(&colored).to_string()));
    }
}
