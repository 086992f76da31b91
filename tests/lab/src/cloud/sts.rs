//! STS: who calls, and roles to be.

use super::{ACCESS_KEY, error::ApiError, input::Input, state::State};
use crate::{clock, region::place::ACCOUNT};
use serde_json::{Value, json};

pub fn get_caller_identity(input: &Value) -> Result<Value, ApiError> {
    Input::new(input, &[])?;
    Ok(json!({
        "Arn": format!("arn:aws:iam::{ACCOUNT}:user/engineer"),
        "UserId": "AIDALABLABLABLABLAB00",
        "Account": ACCOUNT,
    }))
}

pub fn assume_role(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let members = ["RoleArn", "RoleSessionName", "DurationSeconds", "ExternalId", "Policy", "Tags"];
    let input = Input::new(input, &members)?;
    let role = input.required("RoleArn")?;
    let session = input.required("RoleSessionName")?;
    input.pattern("RoleSessionName", r"[\w+=,.@-]{2,64}")?;
    let seconds = input.integer("DurationSeconds", 900..=43_200)?.unwrap_or(3_600);
    let name = role.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(":role/")).map(|(_, name)| name);
    let Some(name) = name else { return Err(ApiError::validation(format_args!("{role} is invalid"))) };
    let key = format!("ASIA{:016X}", state.random());
    let token = format!("lab-session-{:016x}", state.random());
    state.sessions.insert(key.clone(), token.clone());
    // Of real time: signatures are, too.
    let expires = clock::iso(clock::unix_ms() / 1_000 + seconds.unsigned_abs());
    Ok(json!({
        "Credentials": {
            "AccessKeyId": key, "SecretAccessKey": "a-lab-has-no-secrets", "SessionToken": token, "Expiration": expires,
        },
        "AssumedRoleUser": {
            "AssumedRoleId": format!("AROALABLABLABLABLAB00:{session}"),
            "Arn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}"),
        },
    }))
}

impl State {
    /// The key is the cloud's own, or of a session that came with its token.
    pub(super) fn knows(&self, key: &str, token: Option<&str>) -> Result<(), ApiError> {
        let known = match token {
            None => key == ACCESS_KEY,
            Some(token) => self.sessions.get(key).is_some_and(|of| of == token),
        };
        if known {
            return Ok(());
        }
        Err(ApiError::new("UnrecognizedClientException", "The security token included in the request is invalid."))
    }
}
