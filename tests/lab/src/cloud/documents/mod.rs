//! Documents: versions, content and the operations on them.

mod content;
mod listing;
pub mod parameters;

pub use content::references;
pub use listing::{list, list_versions};

use super::{error::ApiError, input::Input, page::hex, state::State, tags};
use crate::region::place::ACCOUNT;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, sync::Arc};

const NAME: &str = r"[a-zA-Z0-9_\-.]{3,128}";
const NAME_OR_ARN: &str = r"[a-zA-Z0-9_\-.:/]{3,128}";
const VERSION: &str = r"[$]LATEST|[$]DEFAULT|[1-9][0-9]*";
const VERSION_NAME: &str = r"[a-zA-Z0-9_\-.]{1,128}";
/// Beginnings of names that are AWS's own.
const RESERVED: [&str; 3] = ["aws", "amazon", "amzn"];
/// Versions a document may have.
const VERSIONS: usize = 1_000;
const TYPES: [&str; 17] = [
    "Command",
    "Policy",
    "Automation",
    "Session",
    "Package",
    "ApplicationConfiguration",
    "ApplicationConfigurationSchema",
    "DeploymentStrategy",
    "ChangeCalendar",
    "Automation.ChangeTemplate",
    "ProblemAnalysis",
    "ProblemAnalysisTemplate",
    "CloudFormation",
    "ConformancePackTemplate",
    "QuickSetup",
    "ManualApprovalPolicy",
    "AutoApprovalPolicy",
];

/// One version of a document.
#[derive(Debug, Clone)]
pub struct Version {
    pub number: u64,
    /// As it was given.
    pub text: String,
    /// As it was read.
    pub content: Arc<Value>,
    pub name: Option<String>,
    pub format: String,
    /// SHA-256 of the text, in hexadecimal.
    pub hash: String,
    created: f64,
}

#[derive(Debug, Clone)]
pub struct Document {
    pub name: String,
    /// `Command` or `Automation`.
    pub kind: String,
    pub default: u64,
    versions: BTreeMap<u64, Version>,
    target_type: Option<String>,
    display_name: Option<String>,
}

#[derive(Default)]
pub struct Documents(BTreeMap<String, Document>);

impl Documents {
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A document by name or ARN, and one version of it: a number, `$LATEST` or `$DEFAULT`, which is taken for none.
    ///
    /// # Errors
    ///
    /// `InvalidDocument`, `InvalidDocumentVersion`.
    pub fn version(&self, name: &str, version: Option<&str>) -> Result<(&Document, &Version), ApiError> {
        let document = self.document(name)?;
        let found = match version.unwrap_or("$DEFAULT") {
            "$DEFAULT" => document.versions.get(&document.default),
            "$LATEST" => document.versions.values().next_back(),
            number => number.parse().ok().and_then(|number: u64| document.versions.get(&number)),
        };
        found.map(|version| (document, version)).ok_or_else(no_such_version)
    }

    fn document(&self, name: &str) -> Result<&Document, ApiError> {
        let plain = name.rsplit(":document/").next().unwrap_or(name);
        self.0.get(plain).ok_or_else(|| no_such_document(name))
    }
}

impl Document {
    fn latest(&self) -> u64 {
        self.versions.keys().next_back().copied().unwrap_or_default()
    }
}

fn no_such_document(name: &str) -> ApiError {
    ApiError::new("InvalidDocument", format_args!("Document with name {name} does not exist."))
}

fn no_such_version() -> ApiError {
    ApiError::new("InvalidDocumentVersion", "The document version is not valid or does not exist.")
}

/// A version that a request brings.
fn brought(state: &State, input: &Input<'_>, kind: &str, number: u64) -> Result<Version, ApiError> {
    let text = input.required("Content")?;
    let format = input.one_of("DocumentFormat", &["YAML", "JSON", "TEXT"])?.unwrap_or("JSON");
    let name = input.pattern("VersionName", VERSION_NAME)?.map(str::to_owned);
    let content = Arc::new(content::read(text, kind, format)?);
    let hash = hex(&Sha256::digest(text));
    Ok(Version { number, text: text.into(), content, name, format: format.into(), hash, created: state.stamp() })
}

fn description(state: &State, document: &Document, version: &Version) -> Value {
    let mut shown = json!({
        "Hash": version.hash, "HashType": "Sha256", "Name": document.name, "Owner": ACCOUNT,
        "CreatedDate": version.created, "Status": "Active", "DocumentVersion": version.number.to_string(),
        "Parameters": parameters::shown(&version.content),
        "PlatformTypes": content::platforms(&document.kind, &version.content),
        "DocumentType": document.kind, "SchemaVersion": version.content["schemaVersion"],
        "LatestVersion": document.latest().to_string(), "DefaultVersion": document.default.to_string(),
        "DocumentFormat": version.format, "Tags": tags::shown(state, "Document", &document.name),
    });
    let optional = [
        ("Description", version.content["description"].as_str().map(str::to_owned)),
        ("VersionName", version.name.clone()),
        ("TargetType", document.target_type.clone()),
        ("DisplayName", document.display_name.clone()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            shown[name] = value.into();
        }
    }
    shown
}

pub fn create(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let members =
        ["Content", "Name", "DisplayName", "VersionName", "DocumentType", "DocumentFormat", "TargetType", "Tags"];
    let input = Input::new(input, &members)?;
    let name = input.required("Name")?;
    input.pattern("Name", NAME)?;
    let kind = input.one_of("DocumentType", &TYPES)?.unwrap_or("Command");
    let target_type = input.pattern("TargetType", r"/[\w.\-:/]*")?.map(str::to_owned);
    let display_name = input.pattern("DisplayName", r"[\w.\-:/ ]*")?.map(str::to_owned);
    let given = tags::read(&input, "Tags")?;
    if RESERVED.iter().any(|reserved| name.to_lowercase().starts_with(reserved)) {
        let message = format!("Document name {name} starts with a reserved prefix: {}", RESERVED.join(", "));
        return Err(ApiError::validation(message));
    }
    if state.documents.contains(name) {
        let message = format!("Document with same name {name} already exists");
        return Err(ApiError::new("DocumentAlreadyExists", message));
    }
    let version = brought(state, &input, kind, 1)?;
    let document = Document {
        name: name.to_owned(),
        kind: kind.to_owned(),
        default: 1,
        versions: BTreeMap::from([(1, version)]),
        target_type,
        display_name,
    };
    state.tags.insert(("Document".into(), name.to_owned()), given.into_iter().collect());
    let mut shown = description(state, &document, &document.versions[&1]);
    shown["Status"] = "Creating".into();
    state.documents.0.insert(name.to_owned(), document);
    Ok(json!({ "DocumentDescription": shown }))
}

pub fn update(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let members = ["Content", "Name", "DisplayName", "VersionName", "DocumentVersion", "DocumentFormat", "TargetType"];
    let input = Input::new(input, &members)?;
    let name = input.required("Name")?;
    input.pattern("Name", NAME)?;
    let document = state.documents.document(name)?.clone();
    let latest = document.latest();
    let of = input.pattern("DocumentVersion", VERSION)?.unwrap_or("$LATEST");
    if of != "$LATEST" && of != latest.to_string() {
        return Err(no_such_version());
    }
    let version = brought(state, &input, &document.kind, latest + 1)?;
    if document.versions.get(&latest).is_some_and(|before| before.hash == version.hash) {
        let message = "The content of the association document matches another document. Change the content of the \
                       document and try again.";
        return Err(ApiError::new("DuplicateDocumentContent", message));
    }
    if version.name.is_some() && document.versions.values().any(|before| before.name == version.name) {
        let message = "The version name has already been used in this document. Specify a different version name.";
        return Err(ApiError::new("DuplicateDocumentVersionName", message));
    }
    if document.versions.len() >= VERSIONS {
        let message = "The document has too many versions. Delete one or more document versions and try again.";
        return Err(ApiError::new("DocumentVersionLimitExceeded", message));
    }
    let mut document = document;
    let number = version.number;
    document.versions.insert(number, version);
    let mut shown = description(state, &document, &document.versions[&number]);
    shown["Status"] = "Updating".into();
    state.documents.0.insert(name.to_owned(), document);
    Ok(json!({ "DocumentDescription": shown }))
}

pub fn set_default(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Name", "DocumentVersion"])?;
    let name = input.required("Name")?;
    input.pattern("Name", NAME)?;
    let number = input.required("DocumentVersion")?;
    input.pattern("DocumentVersion", "[1-9][0-9]*")?;
    let (_, version) = state.documents.version(name, Some(number))?;
    let (number, version_name) = (version.number, version.name.clone());
    if let Some(document) = state.documents.0.get_mut(name) {
        document.default = number;
    }
    let mut shown = json!({ "Name": name, "DefaultVersion": number.to_string() });
    if let Some(version_name) = version_name {
        shown["DefaultVersionName"] = version_name.into();
    }
    Ok(json!({ "Description": shown }))
}

/// The document and version that a request is about.
fn asked<'a>(state: &'a State, input: &Input<'_>) -> Result<(&'a Document, &'a Version), ApiError> {
    let name = input.required("Name")?;
    input.pattern("Name", NAME_OR_ARN)?;
    let version = input.pattern("DocumentVersion", VERSION)?;
    let Some(named) = input.pattern("VersionName", VERSION_NAME)? else {
        return state.documents.version(name, version);
    };
    let document = state.documents.document(name)?;
    let found = document.versions.values().find(|version| version.name.as_deref() == Some(named));
    let agrees = |found: &&Version| version.is_none_or(|version| version == found.number.to_string());
    found.filter(agrees).map(|found| (document, found)).ok_or_else(no_such_version)
}

pub fn describe(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Name", "DocumentVersion", "VersionName"])?;
    let (document, version) = asked(state, &input)?;
    Ok(json!({ "Document": description(state, document, version) }))
}

pub fn get(state: &State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Name", "DocumentVersion", "VersionName", "DocumentFormat"])?;
    let (document, version) = asked(state, &input)?;
    let format = input.one_of("DocumentFormat", &["YAML", "JSON", "TEXT"])?.unwrap_or("JSON");
    let text = match format {
        same if same == version.format => version.text.clone(),
        "JSON" => serde_json::to_string_pretty(&*version.content).unwrap_or_default(),
        other => return Err(ApiError::unsupported(format_args!("a conversion of {} into {other}", version.format))),
    };
    let mut shown = json!({
        "Name": document.name, "CreatedDate": version.created, "DocumentVersion": version.number.to_string(),
        "Status": "Active", "Content": text, "DocumentType": document.kind, "DocumentFormat": format,
    });
    if let Some(name) = &version.name {
        shown["VersionName"] = name.as_str().into();
    }
    Ok(shown)
}

pub fn delete(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["Name", "DocumentVersion", "VersionName", "Force"])?;
    let name = input.required("Name")?;
    input.pattern("Name", NAME)?;
    if !input.has("DocumentVersion") && !input.has("VersionName") {
        state.documents.document(name)?;
        state.documents.0.remove(name);
        state.tags.remove(&("Document".into(), name.to_owned()));
        return Ok(json!({}));
    }
    let (document, version) = asked(state, &input)?;
    let number = version.number;
    if number == document.default {
        let message = "You attempted to delete a document's default version; set another one first.";
        return Err(ApiError::new("InvalidDocumentOperation", message));
    }
    if let Some(document) = state.documents.0.get_mut(name) {
        document.versions.remove(&number);
    }
    Ok(json!({}))
}
