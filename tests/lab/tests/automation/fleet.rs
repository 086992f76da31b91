//! A simulated fleet, and HostAgent-Rollout run over it.

use crate::support::{ROLE, cloud, create, document, ended, start};
use hostagent_lab::cloud::{Cloud, Event};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];
pub const HALT: &str = "/hostagent/prod/halt";

/// A cloud with hostagent's documents and a cluster `prod`.
pub fn fleet(hosts: usize) -> Cloud {
    fleet_at(25.0, hosts)
}

/// One in which a second of ours is `speed` of its.
pub fn fleet_at(speed: f64, hosts: usize) -> Cloud {
    let cloud = cloud(speed);
    cloud.cluster("prod");
    cloud.fleet("prod", &ZONES, hosts);
    for name in ["HostAgent-Check", "HostAgent-Restart"] {
        create(&cloud, name, "Command", &document(name)).unwrap();
    }
    create(&cloud, "HostAgent-Rollout", "Automation", &document("HostAgent-Rollout")).unwrap();
    cloud
}

/// The `n`th host of a fleet, from 1.
pub fn host(n: usize) -> String {
    format!("i-{n:017x}")
}

pub fn begin(cloud: &Cloud, more: Value) -> String {
    let mut parameters =
        json!({"Cluster": ["prod"], "Pause": ["0"], "ZoneShare": ["50"], "AutomationAssumeRole": [ROLE]});
    for (name, value) in more.as_object().unwrap() {
        parameters[name] = value.clone();
    }
    let kept: Map<_, _> = parameters
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    start(cloud, "HostAgent-Rollout", kept.into())
}

/// How a rollout ended: status, text and figures of its summary.
pub struct End {
    pub status: String,
    pub text: String,
    pub figures: Value,
    pub execution: Value,
}

pub fn end(cloud: &Cloud, id: &str) -> End {
    let execution = ended(cloud, id);
    let of = |name: &str| execution["Outputs"][name][0].as_str().unwrap_or_default().to_owned();
    let figures = serde_json::from_str(&of("Summary.Json")).unwrap_or(Value::Null);
    End {
        status: execution["AutomationExecutionStatus"].as_str().unwrap().into(),
        text: of("Summary.Text"),
        figures,
        execution,
    }
}

pub fn roll(cloud: &Cloud, more: Value) -> End {
    let id = begin(cloud, more);
    end(cloud, &id)
}

/// Hosts whose agents were restarted, in order.
pub fn restarted(cloud: &Cloud) -> Vec<String> {
    let began = |event: Event| match event {
        Event::RestartBegan { instance, .. } => Some(instance),
        _ => None,
    };
    cloud.log().into_iter().filter_map(began).collect()
}

/// At no instant were agents away in two zones, nor in more than `share` percent of a zone.
pub fn keeps_to_the_rules(cloud: &Cloud, hosts: usize, share: usize) {
    let mut away: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in cloud.log() {
        match event {
            Event::RestartBegan { instance, zone, at_s } => {
                away.entry(zone).or_default().insert(instance);
                let zones: Vec<_> = away.iter().filter(|(_, hosts)| !hosts.is_empty()).collect();
                assert_eq!(zones.len(), 1, "two zones at once at {at_s}: {zones:?}");
                let most = (hosts / ZONES.len() * share / 100).max(1);
                assert!(zones[0].1.len() <= most, "{} of {most} at {at_s}", zones[0].1.len());
            }
            Event::RestartEnded { instance, zone, .. } => {
                away.entry(zone).or_default().remove(&instance);
            }
            _ => {}
        }
    }
}
