//! The rounds of a confirmation, where a cache before the VPC's server counts TTLs down: the lab's.

use hostagent::{
    catalog::Service,
    config::Settings,
    decide::{Policy, Round, longest_ttl_s, next_round},
    facts::NameFact,
    ports::{Resolver, resolver::SystemResolver},
};
use hostagent_lab::region::{Region, RegionConfig, place, switch::Change};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

const HOST: &str = "ecs.eu-west-1.amazonaws.com";
const TTL_S: u32 = 2;

#[tokio::test]
async fn each_round_hears_an_answer_that_was_fetched_anew() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(RegionConfig::loopback(dir.path())).await.unwrap();
    let services = vec![place::Service::Ecs];
    region.set(&Change { services, ttl: Some(TTL_S), cached: Some(true), ..Change::default() }).await;
    let mut settings = Settings::default();
    settings.network.resolver = Some(region.addresses().dns);
    std::fs::write(dir.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
    (settings.network.hosts_file, settings.confirm.min_spread_s) = (dir.path().join("hosts"), 1);
    let policy = Policy::new(&settings, false);
    let resolver = SystemResolver::new(&settings.network);
    // Somebody else has asked a while ago.
    let deadline = Instant::now() + Duration::from_secs(10);
    while resolver.lookup(HOST).await.max_ttl_s() == Some(TTL_S) {
        assert!(Instant::now() < deadline, "the cache counts no TTL down");
        sleep_until(Instant::now() + Duration::from_millis(20)).await;
    }
    let mut rounds: Vec<Round> = Vec::new();
    loop {
        let at = jiff::Timestamp::now();
        let answer = resolver.lookup(HOST).await;
        let answered = Instant::now();
        let names = vec![NameFact { service: Service::Ecs, host: HOST.into(), answer }];
        rounds.push(Round { at, names, reach: vec![] });
        let Some(wait) = next_round(&rounds, &policy) else { break };
        assert!(rounds.len() < 6, "{rounds:?}");
        sleep_until(answered + wait + Duration::from_millis(20)).await;
    }
    // Only what was fetched anew has all of its TTL left.
    let left: Vec<_> = rounds.iter().map(|round| longest_ttl_s(&round.names)).collect();
    assert!(left[0] < Some(TTL_S), "{rounds:?}");
    assert_eq!(left[1..], [Some(TTL_S), Some(TTL_S)], "{rounds:?}");
}
