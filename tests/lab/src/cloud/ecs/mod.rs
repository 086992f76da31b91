//! ECS as far as a fleet is found and judged by it.

mod filter;

use super::{error::ApiError, hosts::SimulatedHost, input::Input, page::page, state::State};
use crate::region::place::{ACCOUNT, REGION};
use filter::Filter;
use serde_json::{Map, Value, json};

const STATUSES: [&str; 5] = ["ACTIVE", "DRAINING", "REGISTERING", "DEREGISTERING", "REGISTRATION_FAILED"];

/// The name of the cluster a request is about.
fn cluster<'a>(state: &State, input: &Input<'a>) -> Result<&'a str, ApiError> {
    let given = input.text("cluster")?.unwrap_or("default");
    let name = given.rsplit('/').next().unwrap_or(given);
    if state.clusters.contains(name) {
        return Ok(name);
    }
    Err(ApiError::new("ClusterNotFoundException", "Cluster not found."))
}

fn invalid(message: impl std::fmt::Display) -> ApiError {
    ApiError::new("InvalidParameterException", message)
}

fn size(input: &Input<'_>) -> Result<usize, ApiError> {
    let size = input.integer("maxResults", i64::MIN..=i64::MAX)?.unwrap_or(100);
    if !(1..=100).contains(&size) {
        return Err(invalid("maxResults must be between 1 and 100."));
    }
    Ok(size as usize)
}

fn token<'a>(input: &Input<'a>) -> Result<Option<&'a str>, ApiError> {
    input.text("nextToken")
}

fn listed(member: &str, items: Vec<Value>, next: Option<String>) -> Value {
    let mut output = Map::from_iter([(member.to_owned(), items.into())]);
    output.extend(next.map(|next| ("nextToken".to_owned(), next.into())));
    output.into()
}

fn foreign_token(error: ApiError) -> ApiError {
    if error.kind == "InvalidNextToken" { invalid("Invalid token") } else { error }
}

pub fn list_clusters(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["maxResults", "nextToken"])?;
    let arn = |name: &String| Value::String(format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}"));
    let all: Vec<Value> = state.clusters.iter().map(arn).collect();
    let (items, next) = page(&all, "clusters", token(&input)?, size(&input)?).map_err(foreign_token)?;
    Ok(listed("clusterArns", items, next))
}

pub fn describe_clusters(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["clusters", "include"])?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for given in input.strings("clusters", 100, "")? {
        let name = given.rsplit('/').next().unwrap_or(given);
        let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}");
        if !state.clusters.contains(name) {
            failures.push(json!({"arn": arn, "reason": "MISSING"}));
            continue;
        }
        let hosts = state.hosts.iter().filter(|host| host.cluster == name).count();
        found.push(json!({
            "clusterArn": arn, "clusterName": name, "status": "ACTIVE", "registeredContainerInstancesCount": hosts,
        }));
    }
    Ok(json!({ "clusters": found, "failures": failures }))
}

pub fn list_container_instances(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["cluster", "filter", "nextToken", "maxResults", "status"])?;
    let cluster = cluster(state, &input)?;
    let text = input.text("filter")?.unwrap_or_default();
    let filter = if text.is_empty() { None } else { Some(Filter::read(text).map_err(invalid)?) };
    let status = input.one_of("status", &STATUSES).map_err(|_| invalid("status is not valid."))?;
    let chosen: Vec<&SimulatedHost> = state
        .hosts
        .iter()
        .filter(|host| host.cluster == cluster)
        .filter(|host| status.map_or(host.ecs_status != "INACTIVE", |status| host.ecs_status == status))
        .filter(|host| filter.as_ref().is_none_or(|filter| filter.is_true(host)))
        .collect();
    let of = format!("container instances {cluster} {text} {status:?}");
    let (items, next) = page(&chosen, &of, token(&input)?, size(&input)?).map_err(foreign_token)?;
    let arns = items.into_iter().map(|host| host.ecs_arn().into()).collect();
    Ok(listed("containerInstanceArns", arns, next))
}

pub fn describe_container_instances(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["cluster", "containerInstances", "include"])?;
    let cluster = cluster(state, &input)?;
    let asked = input.strings("containerInstances", usize::MAX, "")?;
    if asked.is_empty() {
        return Err(invalid("Container instances cannot be empty."));
    }
    if asked.len() > 100 {
        return Err(invalid("instanceIds can have at most 100 items."));
    }
    let tags = input.strings("include", 2, "TAGS|CONTAINER_INSTANCE_HEALTH")?.contains(&"TAGS");
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        match find(state, cluster, given) {
            Some(host) => found.push(shown(state, host, tags)),
            None => {
                let id = given.rsplit('/').next().unwrap_or(given);
                let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/{cluster}/{id}");
                failures.push(json!({"arn": arn, "reason": "MISSING"}));
            }
        }
    }
    Ok(json!({ "containerInstances": found, "failures": failures }))
}

pub fn describe_capacity_providers(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["capacityProviders", "cluster", "include", "maxResults", "nextToken"])?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in input.strings("capacityProviders", 100, "")? {
        let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:capacity-provider/{name}");
        if !state.hosts.iter().any(|host| host.group.as_deref() == Some(name)) {
            failures.push(json!({"arn": arn, "reason": "MISSING"}));
            continue;
        }
        let group = format!(
            "arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:4105a4fc-f944-11e6-9d32-0a1b2c3d4e5f:\
             autoScalingGroupName/{name}"
        );
        found.push(json!({
            "capacityProviderArn": arn, "name": name, "status": "ACTIVE", "tags": [],
            "autoScalingGroupProvider": {"autoScalingGroupArn": group, "managedTerminationProtection": "DISABLED"},
        }));
    }
    Ok(json!({ "capacityProviders": found, "failures": failures }))
}

/// The host of a container instance's ARN or ID.
fn find<'a>(state: &'a State, cluster: &str, given: &str) -> Option<&'a SimulatedHost> {
    let id = given.rsplit('/').next()?;
    let tail = |length: usize| id.get(id.len().checked_sub(length)?..);
    let names = [(17, "i-"), (17, "mi-"), (8, "i-")];
    let found = names.iter().find_map(|(length, prefix)| state.hosts.get(&format!("{prefix}{}", tail(*length)?)));
    found.filter(|host| host.cluster == cluster && host.ecs_arn().ends_with(id))
}

fn shown(state: &State, host: &SimulatedHost, tags: bool) -> Value {
    let attributes = [("ecs.availability-zone", host.zone.as_str()), ("ecs.os-type", "linux")]
        .map(|(name, value)| json!({"name": name, "value": value}));
    let mut shown = json!({
        "containerInstanceArn": host.ecs_arn(), "ec2InstanceId": host.instance, "version": 1,
        "versionInfo": {"agentVersion": host.agent_version, "agentHash": "a8b3e7d3", "dockerVersion": "DockerVersion: 20.10.24"},
        "status": host.ecs_status, "agentConnected": host.agent_connected, "runningTasksCount": 3, "pendingTasksCount": 0,
        "remainingResources": [], "registeredResources": [], "attachments": [], "tags": [],
        "attributes": attributes,
        "registeredAt": state.stamp_at(0.0),
    });
    if let Some(group) = &host.group {
        shown["capacityProviderName"] = group.as_str().into();
    }
    if tags {
        shown["tags"] = host.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    }
    shown
}
