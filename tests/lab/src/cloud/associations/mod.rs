//! State Manager: associations, which run a document again and again.

mod listing;
mod run;

pub use listing::{describe, describe_execution_targets, describe_executions, list};
pub use run::{joined, start_once};

use super::{
    command::{CONCURRENCY, ERRORS, read_targets},
    documents::parameters,
    error::ApiError,
    input::{Input, matches},
    state::State,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";
/// Members of CreateAssociation that an update has, too.
const MEMBERS: [&str; 12] = [
    "Name",
    "DocumentVersion",
    "Parameters",
    "Targets",
    "ScheduleExpression",
    "AssociationName",
    "MaxErrors",
    "MaxConcurrency",
    "ComplianceSeverity",
    "SyncCompliance",
    "ApplyOnlyAtCronInterval",
    "CalendarNames",
];
/// Minutes between two runs, at least.
const SHORTEST_MIN: u64 = 30;

/// A run of an association.
#[derive(Debug, Clone)]
pub struct Execution {
    pub id: String,
    /// The command it is; `None` where nothing was sent.
    pub command: Option<String>,
    /// Why nothing was sent.
    pub skipped: Option<String>,
    pub created_s: f64,
}

#[derive(Debug, Clone)]
pub struct Association {
    pub id: String,
    pub document: String,
    pub version: String,
    pub parameters: BTreeMap<String, Vec<String>>,
    pub targets: Vec<Value>,
    /// `rate(…)` or `cron(…)`; without one it runs once.
    pub schedule: Option<String>,
    pub name: Option<String>,
    pub max_errors: Option<String>,
    pub max_concurrency: Option<String>,
    severity: String,
    sync: String,
    only_at_interval: bool,
    calendars: Vec<String>,
    /// Of the association itself; each update makes the next.
    number: u64,
    created_s: f64,
    updated_s: f64,
    pub executions: Vec<Execution>,
}

/// By ID.
pub type Associations = BTreeMap<String, Association>;

fn none(id: &str) -> ApiError {
    ApiError::new("AssociationDoesNotExist", format_args!("The association {id} does not exist."))
}

/// Seconds between the runs of a schedule. Of `cron(…)` no more is understood here than that it is one: it runs daily.
fn interval_s(schedule: &str) -> Result<f64, ApiError> {
    let invalid = |why: &str| Err(ApiError::new("InvalidSchedule", format_args!("{schedule}: {why}")));
    if matches(r"cron\(\S+( \S+){5}\)", schedule) {
        return Ok(86_400.0);
    }
    let inner = schedule.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')'));
    let Some((number, unit)) = inner.and_then(|inner| inner.split_once(' ')) else { return invalid("not a schedule") };
    let Some(number) = number.parse::<u64>().ok().filter(|number| *number > 0) else { return invalid("not a number") };
    // One of a unit is written without an s, more of it with one.
    let minutes = match (unit, number) {
        ("minute", 1) => 1,
        ("hour", 1) => 60,
        ("day", 1) => 1_440,
        ("minutes", 2..) => number,
        ("hours", 2..) => number * 60,
        ("days", 2..) => number * 1_440,
        _ => return invalid("not a unit of this number"),
    };
    if minutes < SHORTEST_MIN { invalid("the shortest is 30 minutes") } else { Ok(minutes as f64 * 60.0) }
}

/// Takes over what a request says. What it does not say becomes the default, in an update as well.
fn fill(state: &State, association: &mut Association, input: &Input<'_>) -> Result<(), ApiError> {
    if let Some(document) = input.pattern("Name", r"[a-zA-Z0-9_\-.:/]{3,128}")? {
        association.document = document.to_owned();
    }
    let version = input.pattern("DocumentVersion", r"[$]LATEST|[$]DEFAULT|[1-9][0-9]*")?;
    association.version = version.unwrap_or("$DEFAULT").to_owned();
    association.parameters = input.lists("Parameters")?;
    association.targets = read_targets(input)?;
    association.schedule = input.sized("ScheduleExpression", 1..=256)?.map(str::to_owned);
    association.name = input.pattern("AssociationName", r"[a-zA-Z0-9_\-.]{3,128}")?.map(str::to_owned);
    association.max_errors = input.pattern("MaxErrors", ERRORS)?.map(str::to_owned);
    association.max_concurrency = input.pattern("MaxConcurrency", CONCURRENCY)?.map(str::to_owned);
    let severities = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "UNSPECIFIED"];
    association.severity = input.one_of("ComplianceSeverity", &severities)?.unwrap_or("UNSPECIFIED").to_owned();
    association.sync = input.one_of("SyncCompliance", &["AUTO", "MANUAL"])?.unwrap_or("AUTO").to_owned();
    association.only_at_interval = input.boolean("ApplyOnlyAtCronInterval")?;
    association.calendars = input.strings("CalendarNames", 100, "")?.into_iter().map(str::to_owned).collect();
    association.schedule.as_deref().map(interval_s).transpose()?;
    let calendars: Vec<&str> = association.calendars.iter().map(String::as_str).collect();
    super::gates::open(state, &calendars)?;
    let (document, version) = state.documents.version(&association.document, Some(&association.version))?;
    if document.kind != "Command" {
        return Err(ApiError::unsupported(format_args!("associations of documents of type {}", document.kind)));
    }
    parameters::resolve(&version.content, &association.parameters)?;
    if association.targets.is_empty() {
        return Err(ApiError::new("InvalidTarget", "The association has no targets."));
    }
    super::command::chosen(state, &association.targets).map(drop)
}

pub fn create(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &[&MEMBERS[..], &["Tags"]].concat())?;
    input.required("Name")?;
    super::tags::read(&input, "Tags")?;
    let id = state.uuid();
    let now_s = state.now_s();
    let mut association = Association {
        id: id.clone(),
        document: String::new(),
        version: String::new(),
        parameters: BTreeMap::new(),
        targets: Vec::new(),
        schedule: None,
        name: None,
        max_errors: None,
        max_concurrency: None,
        severity: String::new(),
        sync: String::new(),
        only_at_interval: false,
        calendars: Vec::new(),
        number: 1,
        created_s: now_s,
        updated_s: now_s,
        executions: Vec::new(),
    };
    fill(state, &mut association, &input)?;
    let same = |other: &Association| {
        other.document == association.document && other.targets == association.targets && other.name == association.name
    };
    if state.associations.values().any(same) {
        return Err(ApiError::new("AssociationAlreadyExists", "The specified association already exists."));
    }
    state.associations.insert(id.clone(), association);
    run::begin(state, &id, 1);
    answer(state, &id)
}

pub fn update(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &[&MEMBERS[..], &["AssociationId", "AssociationVersion"]].concat())?;
    let id = input.required("AssociationId")?.to_owned();
    input.pattern("AssociationId", ID)?;
    let mut association = state.associations.get(&id).cloned().ok_or_else(|| none(&id))?;
    fill(state, &mut association, &input)?;
    association.number += 1;
    association.updated_s = state.now_s();
    let number = association.number;
    state.associations.insert(id.clone(), association);
    run::begin(state, &id, number);
    answer(state, &id)
}

fn answer(state: &State, id: &str) -> Result<Value, ApiError> {
    let association = state.associations.get(id).ok_or_else(|| none(id))?;
    Ok(json!({ "AssociationDescription": listing::shown(state, association) }))
}

pub fn delete(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["AssociationId"])?;
    let id = input.required("AssociationId")?;
    input.pattern("AssociationId", ID)?;
    state.associations.remove(id).ok_or_else(|| none(id))?;
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_the_services() {
        assert_eq!(interval_s("rate(30 minutes)").unwrap(), 1_800.0);
        assert_eq!(interval_s("rate(1 day)").unwrap(), 86_400.0);
        assert!(interval_s("cron(0 2 ? * SUN *)").is_ok());
        for wrong in ["rate(29 minutes)", "rate(1 days)", "rate(2 day)", "rate(0 hours)", "hourly", "cron(* *)"] {
            assert_eq!(interval_s(wrong).unwrap_err().kind, "InvalidSchedule", "{wrong}");
        }
    }
}
