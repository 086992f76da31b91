//! Lists of documents and of their versions.

use super::{ACCOUNT, NAME_OR_ARN, content};
use crate::cloud::{error::ApiError, input::Input, page::page, state::State, tags};
use serde_json::{Map, Value, json};

fn paged(member: &str, all: &[Value], of: &str, input: &Input<'_>) -> Result<Value, ApiError> {
    let size = input.integer("MaxResults", 1..=50)?.unwrap_or(50) as usize;
    let (items, next) = page(all, of, input.text("NextToken")?, size)?;
    let mut output = Map::from_iter([(member.to_owned(), items.into())]);
    output.extend(next.map(|next| ("NextToken".to_owned(), next.into())));
    Ok(output.into())
}

pub fn list(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Filters", "DocumentFilterList", "MaxResults", "NextToken"])?;
    let mut filters = Vec::new();
    for filter in input.list("Filters", 6)? {
        let filter = Input::new(filter, &["Key", "Values"])?;
        filters.push((filter.required("Key")?, filter.strings("Values", 100, "")?));
    }
    for filter in input.list("DocumentFilterList", 6)? {
        let filter = Input::new(filter, &["key", "value"])?;
        filters.push((filter.required("key")?, vec![filter.required("value")?]));
    }
    let mut all = Vec::new();
    for document in state.documents.0.values() {
        let Some(version) = document.versions.get(&document.default) else { continue };
        let mut chosen = true;
        for (key, values) in &filters {
            chosen &= match *key {
                "Name" => values.iter().any(|value| document.name.starts_with(value)),
                "Owner" => values.iter().any(|value| matches!(*value, "Self" | "Private" | "All")),
                "DocumentType" => values.contains(&document.kind.as_str()),
                "PlatformTypes" => {
                    content::platforms(&document.kind, &version.content).iter().any(|name| values.contains(name))
                }
                tag if tag.starts_with("tag:") => {
                    let of = state.tags.get(&("Document".to_owned(), document.name.clone()));
                    of.and_then(|tags| tags.get(&tag[4..])).is_some_and(|value| values.contains(&value.as_str()))
                }
                other => return Err(ApiError::new("InvalidFilterKey", other)),
            };
        }
        if chosen {
            all.push(json!({
                "Name": document.name, "CreatedDate": version.created, "Owner": ACCOUNT,
                "PlatformTypes": content::platforms(&document.kind, &version.content),
                "DocumentVersion": version.number.to_string(), "DocumentType": document.kind,
                "SchemaVersion": version.content["schemaVersion"], "DocumentFormat": version.format,
                "Tags": tags::shown(state, "Document", &document.name),
            }));
        }
    }
    paged("DocumentIdentifiers", &all, &format!("documents {filters:?}"), &input)
}

pub fn list_versions(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Name", "MaxResults", "NextToken"])?;
    let name = input.required("Name")?;
    input.pattern("Name", NAME_OR_ARN)?;
    let document = state.documents.document(name)?;
    let one = |version: &super::Version| {
        let mut shown = json!({
            "Name": document.name, "DocumentVersion": version.number.to_string(), "CreatedDate": version.created,
            "IsDefaultVersion": version.number == document.default, "DocumentFormat": version.format, "Status": "Active",
        });
        if let Some(name) = &version.name {
            shown["VersionName"] = name.as_str().into();
        }
        shown
    };
    let all: Vec<Value> = document.versions.values().rev().map(one).collect();
    paged("DocumentVersions", &all, &format!("versions {name}"), &input)
}
