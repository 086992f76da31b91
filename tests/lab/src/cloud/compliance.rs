//! Compliance items and inventory, as hosts report them.

use super::{command::INSTANCE, error::ApiError, input::Input, page::page, state::State};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const TYPE: &str = r"[A-Za-z0-9_\-]\w+|Custom:[a-zA-Z0-9_\-]\w+";
const SEVERITIES: [&str; 6] = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNSPECIFIED"];

/// Reports of one compliance type of one host, by its ID and the type; and the same of inventory.
pub type Reports = BTreeMap<(String, String), Vec<Value>>;

fn known_host(state: &State, instance: &str) -> Result<(), ApiError> {
    match state.hosts.get(instance) {
        Some(host) if host.registered() => Ok(()),
        _ => Err(ApiError::new("InvalidResourceId", format_args!("The resource ID {instance} is not valid."))),
    }
}

pub fn put_items(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let members =
        ["ResourceId", "ResourceType", "ComplianceType", "ExecutionSummary", "Items", "ItemContentHash", "UploadType"];
    let input = Input::new(input, &members)?;
    let (instance, resource) = (input.required("ResourceId")?, input.required("ResourceType")?);
    let kind = input.required("ComplianceType")?;
    input.sized("ComplianceType", 1..=100)?;
    input.pattern("ComplianceType", TYPE)?;
    if resource != "ManagedInstance" {
        return Err(ApiError::new("InvalidResourceType", "The resource type is not valid: only ManagedInstance is."));
    }
    known_host(state, instance)?;
    if kind.to_lowercase().starts_with("aws:") || matches!(kind, "Patch" | "Association") {
        return Err(ApiError::new(
            "ComplianceTypeCountLimitExceededException",
            format_args!("{kind} is not for callers"),
        ));
    }
    let summary = input.value("ExecutionSummary").cloned().unwrap_or(Value::Null);
    let execution = Input::new(&summary, &["ExecutionTime", "ExecutionId", "ExecutionType"])?;
    if !execution.has("ExecutionTime") {
        execution.required("ExecutionTime")?;
    }
    let upload = input.one_of("UploadType", &["COMPLETE", "PARTIAL"])?.unwrap_or("COMPLETE");
    if !input.has("Items") {
        input.required("Items")?;
    }
    let mut items = Vec::new();
    for item in input.list("Items", 10_000)? {
        let of = Input::new(item, &["Id", "Title", "Severity", "Status", "Details"])?;
        of.required("Severity")?;
        of.required("Status")?;
        of.sized("Title", 0..=500)?;
        of.one_of("Severity", &SEVERITIES)?;
        of.one_of("Status", &["COMPLIANT", "NON_COMPLIANT"])?;
        let mut item = item.clone();
        item["ComplianceType"] = kind.into();
        item["ResourceType"] = resource.into();
        item["ResourceId"] = instance.into();
        item["ExecutionSummary"] = summary.clone();
        items.push(item);
    }
    let reports = state.compliance.entry((instance.to_owned(), kind.to_owned())).or_default();
    if upload == "COMPLETE" {
        reports.clear();
    }
    let replaced = |old: &Value| items.iter().any(|new| new["Id"] == old["Id"]);
    reports.retain(|old| !replaced(old));
    reports.extend(items);
    Ok(json!({}))
}

/// Whether an item passes the filters of a list: those of type EQUAL on its own members.
fn filters<'a>(input: &Input<'a>) -> Result<Vec<(&'a str, Vec<&'a str>)>, ApiError> {
    let one = |filter: &'a Value| {
        let filter = Input::new(filter, &["Key", "Values", "Type"])?;
        match filter.text("Type")?.unwrap_or("EQUAL") {
            "EQUAL" => Ok((filter.required("Key")?, filter.strings("Values", 20, "")?)),
            other => Err(ApiError::unsupported(format_args!("the filter type {other}"))),
        }
    };
    input.list("Filters", 20)?.iter().map(one).collect()
}

fn listed(member: &str, all: &[Value], of: &str, input: &Input<'_>) -> Result<Value, ApiError> {
    let size = input.integer("MaxResults", 1..=50)?.unwrap_or(50) as usize;
    let (items, next) = page(all, of, input.text("NextToken")?, size)?;
    let mut output = Map::from_iter([(member.to_owned(), items.into())]);
    output.extend(next.map(|next| ("NextToken".to_owned(), next.into())));
    Ok(output.into())
}

pub fn list_items(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Filters", "ResourceIds", "ResourceTypes", "NextToken", "MaxResults"])?;
    let hosts = input.strings("ResourceIds", 50, "")?;
    input.strings("ResourceTypes", 5, "ManagedInstance")?;
    let filters = filters(&input)?;
    let passes = |item: &&Value| {
        filters.iter().all(|(key, values)| item[*key].as_str().is_some_and(|value| values.contains(&value)))
    };
    let of_host = |instance: &String| hosts.is_empty() || hosts.contains(&instance.as_str());
    let all = state.compliance.iter().filter(|((instance, _), _)| of_host(instance)).flat_map(|(_, items)| items);
    let all: Vec<Value> = all.filter(passes).cloned().collect();
    listed("ComplianceItems", &all, &format!("compliance {hosts:?} {filters:?}"), &input)
}

pub fn list_summaries(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Filters", "NextToken", "MaxResults"])?;
    let filters = filters(&input)?;
    let mut all = Vec::new();
    for ((instance, kind), items) in &state.compliance {
        let bad = items.iter().filter(|item| item["Status"] == "NON_COMPLIANT").count();
        let Some(first) = items.first() else { continue };
        let rank =
            |item: &Value| SEVERITIES.iter().position(|name| item["Severity"] == *name).unwrap_or(SEVERITIES.len());
        let worst = items.iter().filter(|item| item["Status"] == "NON_COMPLIANT").min_by_key(|item| rank(item));
        let summary = json!({
            "ComplianceType": kind, "ResourceType": "ManagedInstance", "ResourceId": instance,
            "Status": if bad == 0 { "COMPLIANT" } else { "NON_COMPLIANT" },
            "OverallSeverity": worst.map_or("UNSPECIFIED".into(), |item| item["Severity"].clone()),
            "ExecutionSummary": first["ExecutionSummary"],
            "CompliantSummary": {"CompliantCount": items.len() - bad},
            "NonCompliantSummary": {"NonCompliantCount": bad},
        });
        if filters.iter().all(|(key, values)| summary[*key].as_str().is_some_and(|value| values.contains(&value))) {
            all.push(summary);
        }
    }
    listed("ResourceComplianceSummaryItems", &all, &format!("summaries {filters:?}"), &input)
}

pub fn put_inventory(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["InstanceId", "Items"])?;
    let instance = input.required("InstanceId")?;
    input.pattern("InstanceId", INSTANCE)?;
    if state.hosts.get(instance).is_none_or(|host| !host.registered()) {
        return Err(ApiError::new("InvalidInstanceId", instance));
    }
    for item in input.list("Items", 30)? {
        let of = Input::new(item, &["TypeName", "SchemaVersion", "CaptureTime", "ContentHash", "Content", "Context"])?;
        let name = of.required("TypeName")?;
        of.required("SchemaVersion")?;
        of.required("CaptureTime")?;
        of.pattern("TypeName", "(AWS|Custom):.*")?;
        of.pattern("SchemaVersion", r"([0-9]{1,6})(\.[0-9]{1,6})")?;
        of.pattern("CaptureTime", "20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")?;
        for entry in of.list("Content", 10_000)? {
            let entry = entry.as_object().filter(|entry| entry.len() <= 50);
            let entry = entry.ok_or_else(|| ApiError::new("InvalidItemContentException", "at most 50 attributes"))?;
            if !entry.values().all(|value| value.as_str().is_some_and(|text| text.len() <= 4_096)) {
                return Err(ApiError::new("InvalidItemContentException", "values are strings of at most 4,096 bytes"));
            }
        }
        state.inventory.insert((instance.to_owned(), name.to_owned()), vec![item.clone()]);
    }
    Ok(json!({ "Message": "" }))
}

pub fn list_inventory(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["InstanceId", "TypeName", "NextToken", "MaxResults"])?;
    let (instance, kind) = (input.required("InstanceId")?, input.required("TypeName")?);
    let found = state.inventory.get(&(instance.to_owned(), kind.to_owned())).and_then(|items| items.first());
    let mut output = json!({ "TypeName": kind, "InstanceId": instance, "Entries": [] });
    if let Some(item) = found {
        output["Entries"] = item["Content"].clone();
        output["SchemaVersion"] = item["SchemaVersion"].clone();
        output["CaptureTime"] = item["CaptureTime"].clone();
    }
    Ok(output)
}
