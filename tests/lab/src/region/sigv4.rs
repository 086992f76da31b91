//! What can be judged of a request's signature without knowing the secret: its form, its scope, its key and its date.

use super::{https::Reply, place::REGION, state::Shared};
use crate::clock;
use hyper::{HeaderMap, StatusCode, header};

/// Checks the `Authorization` header as the front of an AWS service does; the error answer if it does not pass.
///
/// The signature itself is not recomputed.
pub(super) fn check(shared: &Shared, headers: &HeaderMap, services: &[&str]) -> Result<(), Box<Reply>> {
    let refuse = |status, kind, message: &str| Err(Box::new(super::https::error(status, kind, message)));
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = text(header::AUTHORIZATION.as_str());
    if authorization.is_empty() {
        let kind = "MissingAuthenticationTokenException";
        return refuse(StatusCode::BAD_REQUEST, kind, "Missing Authentication Token");
    }
    let incomplete = |message: &str| refuse(StatusCode::BAD_REQUEST, "IncompleteSignatureException", message);
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
        return refuse(StatusCode::FORBIDDEN, "InvalidSignatureException", "'Host' must be a 'SignedHeader'.");
    }
    let date = text("x-amz-date");
    let scope: Vec<&str> = credential.split('/').collect();
    let [key, day, region, service, "aws4_request"] = scope[..] else {
        return incomplete("Credential must have exactly 5 slash-delimited elements.");
    };
    if date.len() != 16 || !date.starts_with(day) || day.len() != 8 {
        let message = "Date in Credential scope does not match the date of the 'X-Amz-Date' header.";
        return refuse(StatusCode::FORBIDDEN, "InvalidSignatureException", message);
    }
    if region != REGION || !services.contains(&service) {
        let message = format!("Credential should be scoped to a valid region and to service: {services:?}.");
        return refuse(StatusCode::FORBIDDEN, "InvalidSignatureException", &message);
    }
    let now = clock::unix_ms() / 1_000;
    let (earliest, latest) = (clock::compact(now.saturating_sub(900)), clock::compact(now + 900));
    if date < earliest.as_str() || date > latest.as_str() {
        let message = format!("Signature expired: {date} is not between {earliest} and {latest}.");
        return refuse(StatusCode::FORBIDDEN, "InvalidSignatureException", &message);
    }
    // Temporary credentials only: the instance role's, handed out by this region, and their token beside them.
    if !shared.knows_key(key) || text("x-amz-security-token").is_empty() {
        let message = "The security token included in the request is invalid.";
        return refuse(StatusCode::BAD_REQUEST, "UnrecognizedClientException", message);
    }
    Ok(())
}
