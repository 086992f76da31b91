//! EC2: the instances.

use super::{
    error::ApiError,
    hosts::{Online, SimulatedHost},
    input::{Input, matches},
    page::page,
    state::State,
};
use crate::region::place::ACCOUNT;
use serde_json::{Map, Value, json};

/// Instances of a page unless fewer are asked for.
const PAGE: usize = 1_000;

fn refuse<T>(kind: &str, message: impl std::fmt::Display) -> Result<T, ApiError> {
    Err(ApiError::new(kind, message))
}

pub fn describe_instances(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["InstanceIds", "Filters", "MaxResults", "NextToken", "DryRun"])?;
    let ids = input.strings("InstanceIds", 1_000, "")?;
    let size = input.integer("MaxResults", i64::MIN..=i64::MAX)?;
    if let Some(size) = size.filter(|size| !(5..=1_000).contains(size)) {
        let message =
            format!("Value ( {size} ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.");
        return refuse("InvalidParameterValue", message);
    }
    if size.is_some() && !ids.is_empty() {
        let message = "The parameter instancesSet cannot be used with the parameter maxResults";
        return refuse("InvalidParameterCombination", message);
    }
    for id in &ids {
        if !matches("i-([0-9a-f]{8}|[0-9a-f]{17})", id) {
            return refuse("InvalidInstanceID.Malformed", format_args!("Invalid id: \"{id}\""));
        }
        if state.hosts.get(id).is_none() {
            return refuse("InvalidInstanceID.NotFound", format_args!("The instance ID '{id}' does not exist"));
        }
    }
    let mut filters = Vec::new();
    for filter in input.list("Filters", 200)? {
        let filter = Input::new(filter, &["Name", "Values"])?;
        let name = filter.required("Name")?;
        let known = ["availability-zone", "instance-id", "instance-state-name", "tag-key"];
        if !known.contains(&name) && !name.starts_with("tag:") {
            return refuse("InvalidParameterValue", format_args!("The filter '{name}' is invalid"));
        }
        filters.push((name, filter.strings("Values", 200, "")?));
    }
    let chosen: Vec<&SimulatedHost> = state
        .hosts
        .iter()
        .filter(|host| host.instance.starts_with("i-") && (ids.is_empty() || ids.contains(&host.instance.as_str())))
        .filter(|host| filters.iter().all(|(name, values)| passes(host, name, values)))
        .collect();
    let of = format!("instances {ids:?} {filters:?}");
    let size = size.map_or(PAGE, |size| size as usize);
    let (items, next) = page(&chosen, &of, input.text("NextToken")?, size)?;
    let reservations = items.into_iter().map(|host| shown(state, host)).collect();
    let mut output = Map::from_iter([("Reservations".to_owned(), reservations)]);
    output.extend(next.map(|next| ("NextToken".to_owned(), next.into())));
    Ok(output.into())
}

fn passes(host: &SimulatedHost, name: &str, values: &[&str]) -> bool {
    // A filter's values may have stars.
    let fits = |text: &str| {
        values.iter().any(|value| {
            if value.contains('*') { matches(&regex::escape(value).replace(r"\*", ".*"), text) } else { *value == text }
        })
    };
    match name.strip_prefix("tag:") {
        Some(key) => host.tag(key).is_some_and(fits),
        None => match name {
            "availability-zone" => fits(&host.zone),
            "instance-id" => fits(&host.instance),
            "tag-key" => host.tags.iter().any(|(key, _)| fits(key)),
            _ => fits(running(host).1),
        },
    }
}

fn running(host: &SimulatedHost) -> (u32, &'static str) {
    if host.online == Online::Stopped { (80, "stopped") } else { (16, "running") }
}

fn shown(state: &State, host: &SimulatedHost) -> Value {
    let (code, name) = running(host);
    let tags: Vec<Value> = host.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    json!({
        "ReservationId": host.instance.replacen("i-", "r-", 1), "OwnerId": ACCOUNT,
        "Instances": [{
            "InstanceId": host.instance, "State": {"Code": code, "Name": name},
            "Placement": {"AvailabilityZone": host.zone, "Tenancy": "default"}, "Tags": tags,
            "InstanceType": "m6i.large", "PrivateIpAddress": "10.50.0.20",
            "LaunchTime": crate::clock::iso(state.stamp_at(0.0) as u64),
        }],
    })
}
