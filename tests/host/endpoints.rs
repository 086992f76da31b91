//! Endpoints that are there, half there, not there.

use crate::scene::{CONTROL_PLANE, scene};
use hostagent_lab::{
    host::HostOptions,
    region::{
        place::Service,
        switch::{Change, Path, TlsFault, What},
    },
};
use std::time::Duration;

#[test]
fn public_then_endpoints_then_restart_then_settled() {
    scene(HostOptions::default(), |s| {
        s.says(11, &["check"], &["WAITING FOR ENDPOINTS", "com.amazonaws.eu-west-1.ecs-agent"]);
        let (agent, arn) = (s.agent(), s.host.state().instances);
        s.endpoints_appear();
        // The two websockets are on the numbered public addresses, which no private DNS covers.
        s.says(10, &["check"], &["RESTART NEEDED", "198.51.100.31:443", "198.51.100.32:443"]);
        s.says(10, &["plan"], &["systemctl restart ecs.service"]);
        s.says(10, &["restart", "--dry-run"], &["RESTART NEEDED"]);
        assert_eq!(s.agent(), agent, "check, plan and a dry run touch nothing");
        s.says(0, &["restart"], &["MOVED", "10.50."]);
        s.is_private();
        s.is_whole();
        // The worker ran in a unit of its own, and told the journal with fields.
        let journal = s.host.exec(&["journalctl", "-o", "json", "-t", "hostagent"]).stdout;
        assert!(journal.contains("HOSTAGENT_RUN") && journal.contains("hostagent-restart-"), "{journal}");
        let moved = s.agent();
        assert_ne!(moved.id, agent.id, "ecs-init makes a new container");
        assert_eq!(s.host.state().instances[0].arn, arn[0].arn, "and it is the same container instance");
        s.says(0, &["restart"], &["SETTLED"]);
        s.says(0, &["check"], &["SETTLED"]);
        assert_eq!(s.agent(), moved, "there was nothing to do");
    });
}

/// As the VPC's resolver does it: an answer stays until its TTL has gone, and what is told is what is left of it.
#[test]
fn a_resolver_that_counts_ttls_down_is_not_heard_twice() {
    scene(HostOptions::default(), |s| {
        s.host.set(&Change { ttl: Some(5), cached: Some(true), ..Change::default() });
        // Something is in the cache, and somewhere in its life.
        s.expect(11, &["check"]);
        s.endpoints_appear();
        s.host.until("the old answers have gone", |host| (host.hostagent(&["check"]).code == 10).then_some(()));
        let mark = s.host.mark();
        s.says(0, &["restart"], &["MOVED"]);
        s.is_private();
        s.is_whole();
        // Three look-ups before the restart, each with all that was asked before gone from the cache.
        let asked: Vec<u64> = s
            .host
            .events(mark, Duration::ZERO)
            .into_iter()
            .filter(|e| matches!(&e.what, What::Dns { name, qtype, .. } if name.starts_with("ecs-t.") && qtype == "A"))
            .map(|event| event.at_ms)
            .collect();
        let [first, .., last] = asked[..] else { panic!("asked {} times", asked.len()) };
        assert!(last - first > 5_000, "over more than a TTL: {asked:?}");
    });
}

#[test]
fn one_or_two_of_three_are_not_enough() {
    scene(HostOptions::default(), |s| {
        s.path(&[Service::Ecs], Path::Endpoint);
        s.holds_still(11, &["ecs-a.eu-west-1.amazonaws.com", "ecs-t.eu-west-1.amazonaws.com"]);
        s.path(&[Service::EcsAgent], Path::Endpoint);
        s.holds_still(11, &["com.amazonaws.eu-west-1.ecs-telemetry"]);
    });
}

#[test]
fn private_and_filtered_names_the_security_group() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        s.host.filter_443("10.50.1.11", true);
        s.holds_still(11, &["10.50.1.11", "security group"]);
    });
}

#[test]
fn wrong_certificates_and_dead_addresses() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        let fault = |tls, dead| Change {
            services: vec![Service::EcsTelemetry],
            tls: Some(tls),
            dead: Some(dead),
            ..Change::default()
        };
        s.host.set(&fault(TlsFault::WrongName, 0));
        s.holds_still(11, &["ecs-t.eu-west-1.amazonaws.com", "certificate"]);
        s.host.set(&fault(TlsFault::Untrusted, 0));
        s.holds_still(11, &["certificate"]);
        // One of two addresses refuses connections.
        s.host.set(&fault(TlsFault::None, 1));
        s.holds_still(11, &["10.50.1.12", "refused"]);
        s.host.set(&fault(TlsFault::None, 0));
        s.expect(10, &["check"]);
    });
}

#[test]
fn mixed_and_flapping_answers_are_waited_out() {
    scene(HostOptions::default(), |s| {
        s.endpoints_appear();
        s.path(&[Service::EcsAgent], Path::Mixed);
        s.holds_still(11, &["ecs-a.eu-west-1.amazonaws.com"]);
        // Public and endpoint in turn: a single look may well find all three private.
        s.path(&[Service::EcsAgent], Path::Flapping);
        let agent = s.agent();
        for _ in 0..3 {
            s.expect(11, &["restart"]);
        }
        assert_eq!(s.agent(), agent);
    });
}

#[test]
fn unusable_answers_are_told_apart() {
    scene(HostOptions::default(), |s| {
        for (path, code, word) in [
            (Path::Nxdomain, 11, "NXDOMAIN"),
            (Path::Empty, 11, "no address"),
            (Path::Servfail, 1, "SERVFAIL"),
            (Path::Timeout, 1, "time"),
            (Path::Malformed, 1, "ecs-a.eu-west-1.amazonaws.com"),
        ] {
            s.endpoints_appear();
            s.path(&[Service::EcsAgent], path);
            s.holds_still(code, &[word]);
        }
    });
}

#[test]
fn a_central_endpoint_vpc_counts_once_it_is_configured() {
    scene(HostOptions::default(), |s| {
        s.path(&CONTROL_PLANE, Path::Elsewhere);
        s.holds_still(11, &["10.50.200.", "endpoint_cidrs"]);
        s.host.configure("30-central", "[network]\nendpoint_cidrs = [\"10.50.200.0/24\"]\n");
        s.expect(10, &["check"]);
        s.says(0, &["restart"], &["MOVED", "10.50.200."]);
        s.is_private();
        s.is_whole();
    });
}

#[test]
fn the_control_plane_is_asked_which_names_it_hands_out() {
    let options = HostOptions { hostagent: "[network]\ndiscover = true\n".into(), ..HostOptions::default() };
    scene(options, |s| {
        // Over the public path, signed with the instance role.
        s.says(11, &["check"], &["ecs-a-3.eu-west-1.amazonaws.com"]);
        let asked = s.host.events(0, std::time::Duration::ZERO).into_iter().any(
            |event| matches!(event.what, What::Api { action, status: 200, .. } if action == "DiscoverPollEndpoint"),
        );
        assert!(asked, "the region was asked");
        s.endpoints_appear();
        let text = s.expect(10, &["check"]);
        assert!(!text.contains("ecs-a-3"), "through the endpoint it hands out the private names: {text}");
    });
}

#[test]
fn other_needs_have_answers_of_their_own() {
    scene(HostOptions::default(), |s| {
        s.says(11, &["check", "--require", "fargate"], &["com.amazonaws.eu-west-1.ecr.dkr", "S3"]);
        s.path(&[], Path::Endpoint);
        s.says(0, &["check", "--require", "logs,exec"], &["SETTLED", "logs", "ssmmessages"]);
        let all = s.expect(10, &["--format", "json", "check", "--require", "all"]);
        let all: serde_json::Value = serde_json::from_str(&all).expect("JSON");
        assert_eq!(all["services"].as_array().map(Vec::len), Some(12), "{all}");
    });
}
