//! What can be judged of a request's signature without recomputing it: its form, its scope, its key and its date.

use super::error::ApiError;
use crate::{clock, region::place::REGION};
use hyper::{HeaderMap, header};

/// The access key and whether a session token came with it.
pub struct Signed {
    pub key: String,
    pub token: Option<String>,
}

fn refuse<T>(status: u16, kind: &str, message: impl std::fmt::Display) -> Result<T, ApiError> {
    Err(ApiError { status, ..ApiError::new(kind, message) })
}

/// Checks the `Authorization` header as the front of an AWS service does.
pub fn check(headers: &HeaderMap, service: &str) -> Result<Signed, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = text(header::AUTHORIZATION.as_str());
    if authorization.is_empty() {
        return refuse(400, "MissingAuthenticationTokenException", "Missing Authentication Token");
    }
    let incomplete = |message: &str| refuse(400, "IncompleteSignatureException", message);
    let Some(parts) = authorization.strip_prefix("AWS4-HMAC-SHA256 ") else {
        return incomplete("Authorization header requires 'AWS4-HMAC-SHA256' algorithm.");
    };
    let part = |name: &str| {
        let found = parts.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default()
    };
    let (credential, signed, signature) = (part("Credential"), part("SignedHeaders"), part("Signature"));
    if credential.is_empty() || signed.is_empty() || signature.is_empty() {
        return incomplete("Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.");
    }
    if signature.len() != 64 || !signature.bytes().all(|b| b.is_ascii_hexdigit()) {
        return incomplete("'Signature' is not a SHA-256 in hexadecimal.");
    }
    if !signed.split(';').any(|name| name == "host") {
        return refuse(403, "InvalidSignatureException", "'Host' must be a 'SignedHeader'.");
    }
    let scope: Vec<&str> = credential.split('/').collect();
    let [key, day, region, scoped, "aws4_request"] = scope[..] else {
        return incomplete("Credential must have exactly 5 slash-delimited elements.");
    };
    let date = text("x-amz-date");
    if date.len() != 16 || day.len() != 8 || !date.starts_with(day) {
        let message = "Date in Credential scope does not match the date of the 'X-Amz-Date' header.";
        return refuse(403, "InvalidSignatureException", message);
    }
    if region != REGION {
        return refuse(403, "InvalidSignatureException", "Credential should be scoped to a valid region.");
    }
    if scoped != service {
        let message = format!("Credential should be scoped to correct service: '{service}'.");
        return refuse(403, "InvalidSignatureException", message);
    }
    let now = clock::unix_ms() / 1_000;
    let (earliest, latest) = (clock::compact(now.saturating_sub(900)), clock::compact(now + 900));
    if date < earliest.as_str() || date > latest.as_str() {
        let message = format!("Signature expired: {date} is not between {earliest} and {latest}.");
        return refuse(403, "InvalidSignatureException", message);
    }
    let token = Some(text("x-amz-security-token")).filter(|token| !token.is_empty()).map(str::to_owned);
    Ok(Signed { key: key.to_owned(), token })
}
