//! Rollouts that hosts start by themselves, `on_ready = "rollout"`: the real errand, as the service sends it, and the lab's
//! cloud.

use super::support::{Fleet, id};
use hostagent::{
    catalog::Service,
    config::Settings,
    decide::EndpointSet,
    watch::{
        errand::{Errand, Told},
        rollout::Fate,
    },
};
use hostagent_lab::cloud::HostState;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const CLUSTER_ARN: &str = "arn:aws:ecs:eu-west-1:111122223333:cluster/prod";
const ROLE: &str = "arn:aws:iam::111122223333:role/hostagent-rollout";
/// Real time within which anything that is to come has come.
const PATIENCE: Duration = Duration::from_secs(60);

fn set() -> EndpointSet {
    let ip = |last: u8| [10, 50, 1, last].into();
    EndpointSet([(Service::Ecs, ip(10)), (Service::EcsAgent, ip(11)), (Service::EcsTelemetry, ip(12))].into())
}

/// A host's metadata service and its agent's introspection server, in one.
fn host() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // Ends with the tests.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(stream: TcpStream) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        let mut length = 0;
        loop {
            let line = lines.next()?.ok()?;
            if line.is_empty() {
                break;
            }
            if let Some((_, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().ok()?;
            }
        }
        assert_eq!(length, 0, "nobody sends a body: {request}");
        let path = request.split(' ').nth(1)?;
        let (status, body) = match path {
            "/latest/api/token" => ("200 OK", "a-token".to_owned()),
            "/latest/meta-data/instance-id" => ("200 OK", "i-0f00dfacade00001".into()),
            "/latest/meta-data/placement/region" => ("200 OK", "eu-west-1".into()),
            "/latest/meta-data/placement/availability-zone" => ("200 OK", "eu-west-1a".into()),
            "/latest/meta-data/services/domain" => ("200 OK", "amazonaws.com".into()),
            "/latest/meta-data/services/partition" => ("200 OK", "aws".into()),
            "/latest/dynamic/instance-identity/document" => {
                ("200 OK", r#"{"accountId":"111122223333","region":"eu-west-1"}"#.into())
            }
            "/latest/meta-data/network/interfaces/macs/" => ("200 OK", "0e:49:61:0f:c3:11/".into()),
            path if path.ends_with("/vpc-ipv4-cidr-blocks") => ("200 OK", "10.50.0.0/17".into()),
            "/v1/metadata" => {
                let agent = "Amazon ECS Agent - v1.105.1 (*a8b3e7d3)";
                let body =
                    serde_json::json!({ "Cluster": CLUSTER_ARN, "ContainerInstanceArn": null, "Version": agent });
                ("200 OK", body.to_string())
            }
            _ => ("404 Not Found", String::new()),
        };
        let length = body.len();
        let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 21600";
        write!(out, "HTTP/1.1 {status}\r\n{ttl}\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    }
}

fn settings() -> Settings {
    let base = format!("http://{}", host());
    let mut settings = Settings::default();
    settings.agent.introspection.clone_from(&base);
    settings.instance.imds = base;
    settings.fleet.rollout_role = Some(ROLE.into());
    settings
}

/// What a process that is sent on the errand tells.
fn sent(fleet: &Fleet, errand: &Errand) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostagent"));
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(fleet.cloud.environment()).arg("errand");
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("hostagent");
    let asked = serde_json::to_vec(errand).expect("JSON");
    process.stdin.take().expect("a pipe").write_all(&asked).expect("it reads");
    let mut told = String::new();
    process.stdout.take().expect("a pipe").read_to_string(&mut told).expect("it tells");
    assert!(process.wait().expect("it ends").success(), "{told}");
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

fn starts(fleet: &Fleet, settings: &Settings, after: Option<&str>) -> Result<String, String> {
    let (settings, after) = (settings.clone(), after.map(str::to_owned));
    match sent(fleet, &Errand::Rollout { settings, endpoints: set(), after }) {
        Told::Rollout(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn fate(fleet: &Fleet, settings: &Settings, execution: &str) -> Result<Fate, String> {
    match sent(fleet, &Errand::AskAfter { settings: settings.clone(), execution: execution.into() }) {
        Told::AskedAfter(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn ends(fleet: &Fleet, settings: &Settings, execution: &str) {
    let began = Instant::now();
    while fate(fleet, settings, execution) == Ok(Fate::UnderWay) {
        assert!(began.elapsed() < PATIENCE, "{execution} goes on");
    }
    assert_eq!(fate(fleet, settings, execution), Ok(Fate::Ended));
}

#[test]
fn all_hosts_join_one_rollout_and_those_it_left_over_the_next() {
    let fleet = Fleet::rolling(3);
    let (one, other) = (settings(), settings());
    // The host that the first leaves over.
    fleet.cloud.change(&id(3), |host| host.state = HostState::Refused);
    let first = starts(&fleet, &one, None).expect("started");
    assert_eq!(starts(&fleet, &other, None).as_ref(), Ok(&first), "joined");
    ends(&fleet, &one, &first);
    assert_eq!(starts(&fleet, &one, None).as_ref(), Ok(&first), "the same endpoints make no other");
    let next = starts(&fleet, &one, Some(&first)).expect("started");
    assert_ne!(next, first);
    assert_eq!(starts(&fleet, &other, Some(&first)).as_ref(), Ok(&next), "joined again");
    ends(&fleet, &other, &next);
    assert!(fate(&fleet, &one, "00000000-0000-4000-8000-000000000000").is_err(), "none of ours");
}

#[test]
fn a_halt_or_a_closed_calendar_lets_no_host_start_a_rollout() {
    let fleet = Fleet::rolling(1);
    let mut settings = settings();
    fleet.ok(&["stop", "--cluster", "prod", "--why", "INC-7"]);
    let held = starts(&fleet, &settings, None).unwrap_err();
    assert!(held.contains("halted by") && held.contains("INC-7"), "{held}");
    fleet.ok(&["resume", "--cluster", "prod"]);
    settings.fleet.calendars = vec!["freeze".into()];
    fleet.cloud.calendar("freeze", false, None);
    let held = starts(&fleet, &settings, None).unwrap_err();
    assert!(held.contains("calendar is closed: freeze"), "{held}");
    assert_eq!(fleet.cloud.calls("StartAutomationExecution"), 0);
    fleet.cloud.calendar("freeze", true, None);
    let execution = starts(&fleet, &settings, None).expect("started");
    ends(&fleet, &settings, &execution);
}
