//! Tags of documents and parameters.

use super::{error::ApiError, input::Input, state::State};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Tags a resource may have.
const MOST: usize = 50;
const TEXT: &str = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*";

/// By type of the resource and its ID.
pub type Tags = BTreeMap<(String, String), BTreeMap<String, String>>;

/// The list `Tags` of a request.
pub fn read(input: &Input<'_>, name: &str) -> Result<Vec<(String, String)>, ApiError> {
    let tag = |value: &Value| {
        let tag = Input::new(value, &["Key", "Value"])?;
        let (key, value) = (tag.required("Key")?, tag.required("Value")?);
        tag.sized("Key", 1..=128)?;
        tag.sized("Value", 0..=256)?;
        tag.pattern("Key", TEXT)?;
        tag.pattern("Value", TEXT)?;
        if key.to_lowercase().starts_with("aws:") {
            return Err(ApiError::validation("aws: prefixed tag key names are not allowed for external use."));
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    input.list(name, 1_000)?.iter().map(tag).collect()
}

fn resource(state: &State, input: &Input<'_>) -> Result<(String, String), ApiError> {
    let kinds = ["Document", "ManagedInstance", "MaintenanceWindow", "Parameter", "PatchBaseline", "OpsItem"];
    let others = ["OpsMetadata", "Automation", "Association"];
    let kind = input.required("ResourceType")?;
    input.one_of("ResourceType", &[&kinds[..], &others[..]].concat())?;
    let id = input.required("ResourceId")?;
    let there = match kind {
        "Document" => state.documents.contains(id),
        "Parameter" => state.parameters.value(id).is_some(),
        "ManagedInstance" => state.hosts.get(id).is_some(),
        "Automation" => true,
        other => return Err(ApiError::unsupported(format_args!("tags of a {other}"))),
    };
    if !there {
        return Err(ApiError::new("InvalidResourceId", format_args!("The resource ID {id} is not valid.")));
    }
    Ok((kind.to_owned(), id.to_owned()))
}

pub fn add(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["ResourceType", "ResourceId", "Tags"])?;
    let resource = resource(state, &input)?;
    let tags = read(&input, "Tags")?;
    let mut all = state.tags.get(&resource).cloned().unwrap_or_default();
    all.extend(tags);
    if all.len() > MOST {
        return Err(ApiError::new("TooManyTagsError", "The Targets parameter includes too many tags."));
    }
    state.tags.insert(resource, all);
    Ok(json!({}))
}

pub fn remove(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["ResourceType", "ResourceId", "TagKeys"])?;
    let resource = resource(state, &input)?;
    let keys = input.strings("TagKeys", 1_000, TEXT)?;
    if let Some(tags) = state.tags.get_mut(&resource) {
        tags.retain(|key, _| !keys.contains(&key.as_str()));
    }
    Ok(json!({}))
}

pub fn list(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["ResourceType", "ResourceId"])?;
    let resource = resource(state, &input)?;
    Ok(json!({ "TagList": shown(state, &resource.0, &resource.1) }))
}

/// The tags of a resource as answers list them.
pub fn shown(state: &State, kind: &str, id: &str) -> Vec<Value> {
    let tags = state.tags.get(&(kind.to_owned(), id.to_owned()));
    tags.into_iter().flatten().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}
