//! DescribeInstanceInformation: the managed nodes.

use super::{
    error::ApiError,
    hosts::{Online, SimulatedHost},
    input::Input,
    page::page,
    state::State,
};
use serde_json::{Value, json};

fn ping(host: &SimulatedHost) -> &'static str {
    match host.online {
        Online::Yes | Online::Undeliverable => "Online",
        Online::ConnectionLost | Online::Stopped | Online::NotRegistered => "ConnectionLost",
    }
}

pub fn describe(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["InstanceInformationFilterList", "Filters", "MaxResults", "NextToken"])?;
    let size = input.integer("MaxResults", 5..=50)?.unwrap_or(50) as usize;
    let mut filters = Vec::new();
    for filter in input.list("InstanceInformationFilterList", 100)? {
        let filter = Input::new(filter, &["key", "valueSet"])?;
        filters.push((filter.required("key")?, filter.strings("valueSet", 100, "")?));
    }
    for filter in input.list("Filters", 100)? {
        let filter = Input::new(filter, &["Key", "Values"])?;
        filters.push((filter.required("Key")?, filter.strings("Values", 100, "")?));
    }
    for (key, _) in &filters {
        let known = ["InstanceIds", "PingStatus", "PlatformTypes", "ResourceType"];
        if !known.contains(key) && !key.starts_with("tag:") {
            return Err(ApiError::new("InvalidFilterKey", key));
        }
    }
    let passes = |host: &SimulatedHost, key: &str, values: &[&str]| match key {
        "InstanceIds" => values.contains(&host.instance.as_str()),
        "PingStatus" => values.contains(&ping(host)),
        "PlatformTypes" => values.contains(&"Linux"),
        "ResourceType" => values.contains(&resource_type(host)),
        tag => host.tag(tag.trim_start_matches("tag:")).is_some_and(|value| values.contains(&value)),
    };
    let chosen: Vec<&SimulatedHost> = state
        .hosts
        .iter()
        .filter(|host| host.registered())
        .filter(|host| filters.iter().all(|(key, values)| passes(host, key, values)))
        .collect();
    let (items, next) = page(&chosen, &format!("nodes {filters:?}"), input.text("NextToken")?, size)?;
    let shown = |host: &SimulatedHost| {
        json!({
            "InstanceId": host.instance, "PingStatus": ping(host), "LastPingDateTime": state.stamp(),
            "AgentVersion": "3.3.2299.0", "IsLatestVersion": true, "PlatformType": "Linux",
            "PlatformName": "Amazon Linux", "PlatformVersion": "2023", "ResourceType": resource_type(host),
            "IPAddress": "10.50.0.20", "ComputerName": "ip-10-50-0-20.eu-west-1.compute.internal",
        })
    };
    let mut output = json!({ "InstanceInformationList": items.into_iter().map(shown).collect::<Vec<_>>() });
    if let Some(next) = next {
        output["NextToken"] = next.into();
    }
    Ok(output)
}

fn resource_type(host: &SimulatedHost) -> &'static str {
    if host.instance.starts_with("mi-") { "ManagedInstance" } else { "EC2Instance" }
}
