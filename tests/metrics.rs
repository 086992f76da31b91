//! The text for Prometheus: read by a real parser, and by a strict one of our own for content nobody chose.

use hostagent::{
    assess::assess,
    catalog::Service as Catalog,
    config::Settings,
    decide::{Decision, EndpointSet, History, RecordedOutcome, RestartRecord},
    facts::*,
    progress::Outage,
    report::metrics::{MetricsView, OneOf, Service, ServiceMetrics, render},
};
use proptest::{collection::vec, option, prelude::*};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::Write,
    process::{Command, Stdio},
    thread,
};

/// Prints what a scrape would see, as `[[name, type, [[sample, {label: value}, number], …]], …]`.
const SCRAPE: &str = "\
import json, sys
from prometheus_client.parser import text_string_to_metric_families as parse
text = sys.stdin.buffer.read().decode()
print(json.dumps([[f.name, f.type, [[s.name, s.labels, s.value] for s in f.samples]] for f in parse(text)]))
";

/// The client library of Prometheus, wherever there is a Python that has it.
fn python() -> Option<&'static str> {
    let has = |python: &&str| {
        let run = Command::new(python).args(["-c", "import prometheus_client.parser"]).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    ["/usr/bin/python3", "python3"].into_iter().find(has)
}

type Labels = Vec<(String, String)>;
type Family = (String, String, Vec<(String, BTreeMap<String, String>, f64)>);

fn scraped(python: &str, text: &str) -> Vec<Family> {
    let mut child =
        Command::new(python).args(["-c", SCRAPE]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the parser refuses it:\n{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_client_library_of_prometheus_reads_it() {
    let Some(python) = python() else {
        if env::var("HOSTAGENT_TESTS").is_ok_and(|choice| choice == "no-host") {
            let name = thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(std::io::stderr(), "left out because HOSTAGENT_TESTS=no-host: {name}");
            return;
        }
        panic!("no Python has prometheus_client: apt-get install python3-prometheus-client (tests/run does, as root)");
    };
    let view = MetricsView { cluster: Some("a\"b\\c\nd}".into()), looks_lost: Some(3), ..seen() };
    let text = render(&view);
    let families = scraped(python, &text);
    let value = |name: &str, labels: &[(&str, &str)]| {
        let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let samples = families.iter().flat_map(|f| &f.2);
        samples.filter(|s| s.0 == name && s.1 == labels).map(|s| s.2).collect::<Vec<_>>()
    };
    let ecs = [("service", "ecs"), ("host", "ecs.eu-west-1.amazonaws.com")];
    let on = |path| [ecs[0], ecs[1], ("path", path)];
    assert_eq!(value("hostagent_service_path", &on("public")), [1.0], "{text}");
    assert_eq!(value("hostagent_service_path", &on("endpoint")), [0.0]);
    assert_eq!(value("hostagent_service_ready", &ecs), [0.0]);
    assert_eq!(value("hostagent_agent_connections", &[("path", "public")]), [1.0]);
    assert_eq!(value("hostagent_agent_connections", &[("path", "endpoint")]), [0.0]);
    assert_eq!(value("hostagent_public_path_seconds_total", &[]), [61.5]);
    assert_eq!(value("hostagent_looks_lost_total", &[]), [3.0]);
    assert_eq!(value("hostagent_restarts", &[("kind", "restart"), ("outcome", "verified")]), [1.0]);
    assert_eq!(value("hostagent_restarts", &[("kind", "repair"), ("outcome", "not_verified")]), [1.0]);
    assert_eq!(value("hostagent_last_outage_seconds", &[("of", "agent")]), [0.8]);
    assert!(value("hostagent_last_outage_seconds", &[("of", "websockets")]).is_empty());
    assert_eq!(value("hostagent_restart_budget_left", &[]), [1.0]);
    assert_eq!(value("hostagent_decision", &[("decision", "settled")]), [1.0]);
    assert_eq!(value("hostagent_decision", &[("decision", "restart")]), [0.0]);
    assert_eq!(value("hostagent_state", &[("state", "observing")]), [1.0]);
    assert_eq!(value("hostagent_last_look_timestamp_seconds", &[]), [1_788_264_000.5]);
    // A line end is shown, not sent; quotes and backslashes arrive as they are.
    let agent = [("version", "1.105.1"), ("cluster", "a\"b\\c\\nd}")];
    assert_eq!(value("hostagent_ecs_agent_info", &agent), [1.0], "{text}");
    let counters = families.iter().filter(|f| f.1 == "counter").count();
    assert!(families.iter().all(|f| f.1 == "gauge" || f.1 == "counter") && counters == 2);
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

fn unseen<T>() -> Fact<T> {
    Fact::unknown("x", "not looked at", "")
}

/// A host on the public path, with a verified restart long ago and a failed repair today.
fn seen() -> MetricsView {
    let at: jiff::Timestamp = "2026-09-01T12:00:00.5Z".parse().unwrap();
    let host = "ecs.eu-west-1.amazonaws.com";
    let address = Address { ip: ip("198.51.100.10"), ttl_s: Some(60) };
    let observation = Observation {
        at,
        agent: AgentFacts {
            presence: unseen(),
            introspection: unseen(),
            tasks: unseen(),
            version: Fact::Known(AgentVersion {
                version: semver::Version::new(1, 105, 1),
                source: VersionSource::Introspection,
            }),
            cache: unseen(),
            persistence: unseen(),
            config_file: unseen(),
        },
        systemd: unseen(),
        instance: Fact::Known(Instance {
            instance_id: "i-1".into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            partition: "aws".into(),
            dns_suffix: "amazonaws.com".into(),
            availability_zone: "eu-west-1a".into(),
            vpc_cidrs: vec!["10.50.0.0/17".parse().unwrap()],
        }),
        names: vec![NameFact { service: Catalog::Ecs, host: host.into(), answer: Answer::Addresses(vec![address]) }],
        reach: vec![],
        sockets: Fact::Known(vec![Socket {
            local: "10.50.0.20:40000".parse().unwrap(),
            peer: "198.51.100.10:443".parse().unwrap(),
            pid: 1,
            inode: 1,
        }]),
        credentials: unseen(),
        discovery: None,
        workloads: unseen(),
        took_ms: vec![],
    };
    let record = |hours: i64, repair, outcome| RestartRecord {
        run_id: "r".into(),
        at: at - jiff::SignedDuration::from_hours(hours),
        endpoints: EndpointSet::default(),
        repair,
        outcome,
    };
    let history = History {
        instance_id: "i-1".into(),
        restarts: vec![record(100, false, RecordedOutcome::Verified), record(1, true, RecordedOutcome::NotVerified)],
    };
    let service = Service {
        state: OneOf::new("observing", &["observing", "settled"]),
        public_path_s: Some(61.5),
        last_outage: Some(Outage { agent_s: Some(0.8), ..Outage::default() }),
        budget_per_day: 2,
        now: at,
    };
    let assessment = assess(&observation, &Settings::default());
    MetricsView::of(&assessment, &observation, &Decision::Settled, Some(&history), &service)
}

#[test]
fn what_is_not_known_is_left_out() {
    let text = render(&MetricsView::default());
    assert_eq!(check(&text).unwrap().len(), 1, "only what it is itself: {text}");
    let other = MetricsView { budget_left: Some(0), ..MetricsView::default() };
    assert!(render(&other).contains("\nhostagent_restart_budget_left 0\n"));
}

/// Reads the format by its grammar, stricter than Prometheus: each family once, head first, no sample twice.
/// Gives the samples as (name, labels).
fn check(text: &str) -> Result<BTreeSet<(String, Labels)>, String> {
    let (mut samples, mut families, mut open) = (BTreeSet::new(), BTreeSet::new(), String::new());
    if !text.ends_with('\n') {
        return Err("no line end".into());
    }
    let mut lines = text.strip_suffix('\n').unwrap().split('\n');
    while let Some(line) = lines.next() {
        let wrong = |why: &str| Err(format!("{why}: {line}"));
        if let Some(head) = line.strip_prefix("# HELP ") {
            let (name, _) = head.split_once(' ').ok_or("no help")?;
            let kind = lines.next().and_then(|l| l.strip_prefix(&format!("# TYPE {name} ")));
            if !matches!(kind, Some("gauge" | "counter")) || !families.insert(name.to_owned()) {
                return wrong("no type, or twice");
            }
            open = name.to_owned();
            continue;
        }
        let Some(rest) = line.strip_prefix(open.as_str()).filter(|_| open.starts_with("hostagent_")) else {
            return wrong("not of its family");
        };
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (vec![], rest),
        };
        match value.strip_prefix(' ') {
            Some("NaN" | "+Inf" | "-Inf") => {}
            Some(number) if number.parse::<f64>().is_ok_and(f64::is_finite) => {}
            _ => return wrong("no value"),
        }
        if !samples.insert((open.clone(), labels)) {
            return wrong("twice");
        }
    }
    Ok(samples)
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Vec::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").ok_or("no label")?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return Err(format!("a label called {name:?}"));
        }
        let (mut value, mut chars) = (String::new(), quoted.char_indices());
        let end = loop {
            match chars.next().ok_or("a label without an end")? {
                (end, '"') => break end,
                (_, '\\') => match chars.next().map(|c| c.1) {
                    Some(c @ ('\\' | '"')) => value.push(c),
                    Some('n') => value.push('\n'),
                    other => return Err(format!("the escape {other:?}")),
                },
                (_, c) if c.is_control() => return Err(format!("the control character {c:?}")),
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        match quoted[end + 1..].split_at_checked(1) {
            Some((",", more)) => rest = more,
            Some(("}", more)) => return Ok((labels, more)),
            _ => return Err("neither a comma nor a brace".into()),
        }
    }
}

/// What tries to break out of a label.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_]{0,8}",
        "[\"\\\\\n\r\t{}=, #a1]{0,12}",
        "\\PC{0,10}",
        any::<String>(),
        Just("x\"} 1\nhostagent_state{state=\"settled".to_owned()),
    ]
}

prop_compose! {
    fn one_of()(now in word(), all in vec(word(), 0..5)) -> OneOf {
        OneOf { now, all }
    }
}

prop_compose! {
    fn a_service()(service in word(), host in word(), path in one_of(), ready in any::<Option<bool>>()) -> ServiceMetrics {
        ServiceMetrics { service, host, path, ready }
    }
}

prop_compose! {
    fn a_view()(
        version in word(),
        agent_version in option::of(word()),
        cluster in option::of(word()),
        (last_look_s, public_path_s, budget_left, looks_lost) in
            any::<(Option<f64>, Option<f64>, Option<u64>, Option<u64>)>(),
        services in vec(a_service(), 0..4),
        connections in vec((word(), any::<u64>()), 0..4),
        restarts in vec((word(), word(), any::<u64>()), 0..4),
        outage_s in vec((word(), prop::num::f64::ANY), 0..4),
        decision in one_of(),
        state in one_of(),
    ) -> MetricsView {
        MetricsView {
            version, agent_version, cluster, last_look_s, services, connections, public_path_s, restarts, outage_s,
            budget_left, looks_lost, decision, state,
        }
    }
}

proptest! {
    #[test]
    fn any_view_can_be_read_and_no_label_breaks_out(view in a_view()) {
        let text = render(&view);
        let samples = check(&text).map_err(|why| TestCaseError::fail(format!("{why}\n{text}")))?;
        // Every state asked for is there, and none that was not.
        let told: BTreeSet<&str> =
            samples.iter().filter(|(name, _)| name == "hostagent_state").map(|(_, l)| l[0].1.as_str()).collect();
        let mut asked: BTreeSet<String> = view.state.all.iter().cloned().collect();
        if !view.state.now.is_empty() {
            asked.insert(view.state.now.clone());
        }
        let asked: BTreeSet<String> = asked.iter().map(|s| hostagent::text::clean(s).into_owned()).collect();
        prop_assert_eq!(told, asked.iter().map(String::as_str).collect());
    }
}
