//! The Parameter Store.

use super::{
    error::ApiError,
    input::{Input, matches, whole},
    page::page,
    state::State,
    tags,
};
use crate::region::place::{ACCOUNT, REGION};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const NAME: &str = r"[a-zA-Z0-9_.\-/]+";
/// Characters of a standard parameter's value.
const VALUE: usize = 4_096;
/// Levels of a name.
const LEVELS: usize = 15;

#[derive(Debug, Clone)]
struct Parameter {
    kind: String,
    value: String,
    version: u64,
    modified: f64,
    pattern: Option<String>,
}

#[derive(Default)]
pub struct Parameters(BTreeMap<String, Parameter>);

impl Parameters {
    /// The latest value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|parameter| parameter.value.as_str())
    }
}

/// The name in an ARN, or the name itself.
fn plain(name: &str) -> &str {
    let tail = name.strip_prefix("arn:aws:ssm:").and_then(|rest| rest.split_once(":parameter")).map(|(_, tail)| tail);
    // `…:parameter/name` is of a name without a slash as well as of one with; here all with one have it in front.
    tail.map_or(name, |tail| if tail[1..].contains('/') { tail } else { &tail[1..] })
}

fn shown(name: &str, parameter: &Parameter) -> Value {
    let slash = if name.starts_with('/') { "" } else { "/" };
    json!({
        "Name": name, "Type": parameter.kind, "Value": parameter.value, "Version": parameter.version,
        "LastModifiedDate": parameter.modified, "DataType": "text",
        "ARN": format!("arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{slash}{name}"),
    })
}

pub fn get(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Name", "WithDecryption"])?;
    let name = plain(input.required("Name")?);
    input.sized("Name", 1..=2_048)?;
    if name.contains(':') {
        return Err(ApiError::unsupported("versions and labels of parameters"));
    }
    let found = state.parameters.0.get(name).ok_or_else(|| ApiError::new("ParameterNotFound", ""))?;
    Ok(json!({ "Parameter": shown(name, found) }))
}

pub fn get_several(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Names", "WithDecryption"])?;
    let names = input.strings("Names", 10, "")?;
    let (mut found, mut invalid) = (Vec::new(), Vec::new());
    for name in names.into_iter().map(plain) {
        match state.parameters.0.get(name) {
            Some(parameter) => found.push(shown(name, parameter)),
            None => invalid.push(name),
        }
    }
    Ok(json!({ "Parameters": found, "InvalidParameters": invalid }))
}

pub fn by_path(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Path", "Recursive", "WithDecryption", "MaxResults", "NextToken"])?;
    let path = input.required("Path")?;
    if !path.starts_with('/') {
        return Err(ApiError::validation("The parameter path must begin with a forward slash (/)."));
    }
    let recursive = input.boolean("Recursive")?;
    let size = input.integer("MaxResults", 1..=10)?.unwrap_or(10);
    let below = format!("{}/", path.trim_end_matches('/'));
    let inside = |name: &str| name.strip_prefix(&below).is_some_and(|rest| recursive || !rest.contains('/'));
    let all: Vec<Value> =
        state.parameters.0.iter().filter(|(name, _)| inside(name)).map(|(name, found)| shown(name, found)).collect();
    let of = format!("parameters {path} {recursive}");
    let (parameters, next) = page(&all, &of, input.text("NextToken")?, size as usize)?;
    let mut output = Map::from_iter([("Parameters".to_owned(), parameters.into())]);
    output.extend(next.map(|next| ("NextToken".to_owned(), next.into())));
    Ok(output.into())
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let bare = name.trim_start_matches('/').to_lowercase();
    if !matches(NAME, name) {
        let message = "Parameter name: can't contain anything but letters, numbers and the symbols .-_/";
        return Err(ApiError::validation(message));
    }
    if bare.starts_with("aws") || bare.starts_with("ssm") {
        let message = "Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive).";
        return Err(ApiError::validation(message));
    }
    if name.ends_with('/') || (name.contains('/') && !name.starts_with('/')) || name.contains("//") {
        return Err(ApiError::validation("Parameter name must be a fully qualified name."));
    }
    if name.matches('/').count() > LEVELS {
        let message = "A hierarchy can have a maximum of 15 levels.";
        return Err(ApiError::new("HierarchyLevelLimitExceededException", message));
    }
    Ok(())
}

pub fn put(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let members = ["Name", "Value", "Type", "Description", "Overwrite", "AllowedPattern", "Tags", "Tier", "DataType"];
    let input = Input::new(input, &members)?;
    let (name, value) = (input.required("Name")?, input.required("Value")?);
    input.sized("Description", 0..=1_024)?;
    input.one_of("Tier", &["Standard", "Advanced", "Intelligent-Tiering"])?;
    let kind = input.one_of("Type", &["String", "StringList", "SecureString"])?;
    let overwrite = input.boolean("Overwrite")?;
    let given = tags::read(&input, "Tags")?;
    check_name(name)?;
    if value.is_empty() || value.chars().count() > VALUE {
        let message = format!(
            "Standard tier parameters support a maximum parameter value of {VALUE} characters, and at least one."
        );
        return Err(ApiError::validation(message));
    }
    if value.contains("{{") {
        return Err(ApiError::validation(
            "Parameter value can't nest another parameter. Do not use \"{{}}\" in the value.",
        ));
    }
    if overwrite && !given.is_empty() {
        let message = "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, \
                       please remove overwrite flag. To update tags for an existing parameter, please use \
                       AddTagsToResource or RemoveTagsFromResource.";
        return Err(ApiError::validation(message));
    }
    let before = state.parameters.0.get(name);
    if before.is_some() && !overwrite {
        let message =
            "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.";
        return Err(ApiError::new("ParameterAlreadyExists", message));
    }
    let kind = match (kind, before) {
        (Some(kind), _) => kind.to_owned(),
        (None, Some(before)) => before.kind.clone(),
        (None, None) => return Err(ApiError::validation("A parameter type is required when you create a parameter.")),
    };
    let pattern = input.sized("AllowedPattern", 0..=1_024)?.map(str::to_owned);
    let pattern = pattern.or_else(|| before.and_then(|before| before.pattern.clone()));
    if let Some(pattern) = &pattern {
        if whole(pattern).is_none() {
            return Err(ApiError::new(
                "InvalidAllowedPatternException",
                "The request does not meet the regular expression requirement.",
            ));
        }
        if !matches(pattern, value) {
            let message = format!("Parameter value, cannot be validated against allowedPattern: {pattern}");
            return Err(ApiError::new("ParameterPatternMismatchException", message));
        }
    }
    let version = before.map_or(1, |before| before.version + 1);
    let parameter = Parameter { kind, value: value.to_owned(), version, modified: state.stamp(), pattern };
    state.parameters.0.insert(name.to_owned(), parameter);
    if !given.is_empty() {
        state.tags.insert(("Parameter".into(), name.to_owned()), given.into_iter().collect());
    }
    Ok(json!({ "Version": version, "Tier": "Standard" }))
}

pub fn delete(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Name"])?;
    let name = plain(input.required("Name")?);
    state.parameters.0.remove(name).ok_or_else(|| ApiError::new("ParameterNotFound", ""))?;
    state.tags.remove(&("Parameter".into(), name.to_owned()));
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_store() {
        for good in ["/hostagent/prod/halt", "plain", "/a-b/c.d_E"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["a/b", "/aws/x", "SSMthing", "/a//b", "/a/", "/é", "/a b", &"/a".repeat(16)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_arn_names_its_parameter() {
        assert_eq!(plain("arn:aws:ssm:eu-west-1:111122223333:parameter/hostagent/prod/halt"), "/hostagent/prod/halt");
        assert_eq!(plain("arn:aws:ssm:eu-west-1:111122223333:parameter/name"), "name");
        assert_eq!(plain("/a/b"), "/a/b");
    }
}
