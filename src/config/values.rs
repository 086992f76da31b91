//! From TOML values to checked ones. Each function says what it found when that is not allowed.

use super::{Brake, Inventory, OnReady, Window};
use crate::text;
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};
use toml::{Spanned, de::DeValue};

/// A value as it is shown in an error, and where it stands when that is not the key's own place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub text: String,
    pub offset: Option<usize>,
}

pub(super) type Parsed<T> = Result<T, Found>;
type Value<'i> = Spanned<DeValue<'i>>;

/// The beginning of a text from a file, fit for one line.
pub(super) fn cut(text: &str) -> String {
    text::cut(&text::clean(text), 80).into_owned()
}

fn found<T>(value: &Value<'_>, note: &str) -> Parsed<T> {
    let shown = match value.get_ref() {
        DeValue::String(text) => format!("\"{}\"", cut(text)),
        DeValue::Integer(integer) => cut(&integer.to_string()),
        DeValue::Float(float) => format!("the float {}", cut(float.as_str())),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    };
    let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
    Err(Found { text: shown + &note, offset: Some(value.span().start) })
}

pub(super) fn integer(value: &Value<'_>, range: RangeInclusive<u64>) -> Parsed<u64> {
    let number = value.get_ref().as_integer().and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok());
    match number {
        Some(number) if range.contains(&number) => Ok(number),
        _ => found(value, ""),
    }
}

pub(super) fn integer_u32(value: &Value<'_>, range: RangeInclusive<u32>) -> Parsed<u32> {
    let number = integer(value, u64::from(*range.start())..=u64::from(*range.end()))?;
    u32::try_from(number).or_else(|_| found(value, ""))
}

pub(super) fn port(value: &Value<'_>) -> Parsed<u16> {
    let number = integer(value, 1..=65_535)?;
    u16::try_from(number).or_else(|_| found(value, ""))
}

pub(super) fn boolean(value: &Value<'_>) -> Parsed<bool> {
    value.get_ref().as_bool().map_or_else(|| found(value, ""), Ok)
}

fn string<'v>(value: &'v Value<'_>) -> Parsed<&'v str> {
    value.get_ref().as_str().map_or_else(|| found(value, ""), Ok)
}

/// An absolute path.
pub(super) fn path(value: &Value<'_>) -> Parsed<PathBuf> {
    let text = string(value)?;
    if text.len() > 4_000 {
        return found(value, "too long");
    }
    if !text.starts_with('/') || text.contains(char::is_control) {
        return found(value, "");
    }
    Ok(PathBuf::from(text))
}

pub(super) fn optional_path(value: &Value<'_>) -> Parsed<Option<PathBuf>> {
    if string(value)?.is_empty() { Ok(None) } else { path(value).map(Some) }
}

pub(super) fn inventory(value: &Value<'_>) -> Parsed<Inventory> {
    match string(value)? {
        "auto" => Ok(Inventory::Auto),
        "off" => Ok(Inventory::Off),
        _ => path(value).map(Inventory::File),
    }
}

pub(super) fn on_ready(value: &Value<'_>) -> Parsed<OnReady> {
    match string(value)? {
        "restart" => Ok(OnReady::Restart),
        "report" => Ok(OnReady::Report),
        "rollout" => Ok(OnReady::Rollout),
        _ => found(value, ""),
    }
}

pub(super) fn brake(value: &Value<'_>) -> Parsed<Brake> {
    match string(value)? {
        "required" => Ok(Brake::Required),
        "if-available" => Ok(Brake::IfAvailable),
        "off" => Ok(Brake::Off),
        _ => found(value, ""),
    }
}

/// As SSM names documents, or their ARNs.
pub(super) fn calendars(value: &Value<'_>) -> Parsed<Vec<String>> {
    list(value, 10, |item| {
        let text = string(item)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.-:/".contains(c);
        if (3..=400).contains(&text.len()) && text.chars().all(fits) { Ok(text.into()) } else { found(item, "") }
    })
}

/// `arn:aws:iam::123456789012:role/NAME`, as the runbook takes it.
pub(super) fn optional_role(value: &Value<'_>) -> Parsed<Option<String>> {
    let text = string(value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "+=,.@_/:-".contains(c);
    match text.split_once(":role/") {
        _ if text.is_empty() => Ok(None),
        Some((head, name)) if head.starts_with("arn:") && head.contains(":iam::") && !name.is_empty() => {
            if text.len() <= 600 && text.chars().all(fits) { Ok(Some(text.into())) } else { found(value, "") }
        }
        _ => found(value, ""),
    }
}

/// Days, times and zone each.
pub(super) fn windows(value: &Value<'_>) -> Parsed<Vec<Window>> {
    list(value, 32, |item| match string(item)?.parse::<Window>() {
        Ok(window) => Ok(window),
        Err(why) => found(item, &text::cut(&text::clean(&why), 200)),
    })
}

/// A container name as Docker allows it.
pub(super) fn container(value: &Value<'_>) -> Parsed<String> {
    let text = string(value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.len() <= 128 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
        return Ok(text.into());
    }
    found(value, "")
}

fn list<'i, 'v, T>(value: &'v Value<'i>, most: usize, item: impl Fn(&'v Value<'i>) -> Parsed<T>) -> Parsed<Vec<T>> {
    let DeValue::Array(items) = value.get_ref() else { return found(value, "") };
    if items.len() > most {
        return found(value, &format!("{} entries", items.len()));
    }
    items.iter().map(item).collect()
}

/// Names of service units, at least one.
pub(super) fn units(value: &Value<'_>) -> Parsed<Vec<String>> {
    let units = list(value, 16, |item| {
        let text = string(item)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
        let stem = text.strip_suffix(".service").unwrap_or_default();
        if text.len() <= 255 && !stem.is_empty() && stem.chars().all(fits) {
            Ok(text.to_owned())
        } else {
            found(item, "")
        }
    })?;
    if units.is_empty() { found(value, "no entries") } else { Ok(units) }
}

/// Blocks no larger than /8 (IPv4) or /7 (IPv6): a larger one would call half the internet an endpoint.
pub(super) fn cidrs(value: &Value<'_>) -> Parsed<Vec<IpNet>> {
    list(value, 256, |item| {
        let text = string(item)?;
        let Ok(net) = text.parse::<IpNet>() else {
            let note = if text.parse::<IpAddr>().is_ok() { "an address without a prefix length" } else { "" };
            return found(item, note);
        };
        let least = if matches!(net, IpNet::V4(_)) { 8 } else { 7 };
        if net.trunc() != net {
            return found(item, &format!("has bits set beyond its prefix; the block is {}", net.trunc()));
        }
        if net.prefix_len() < least {
            return found(item, &format!("a prefix shorter than /{least} holds public addresses too"));
        }
        Ok(net)
    })
}

/// A name server; port 53 when none is given, none at all for the empty text.
pub(super) fn resolver(value: &Value<'_>) -> Parsed<Option<SocketAddr>> {
    let text = string(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    match address {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(Some(address)),
        _ => found(value, ""),
    }
}

/// `http://host` or `http://host:port`, without the trailing slash.
pub(super) fn http_url(value: &Value<'_>) -> Parsed<String> {
    let text = string(value)?;
    let base = text.strip_suffix('/').unwrap_or(text);
    let Ok(uri) = base.parse::<hyper::Uri>() else { return found(value, "") };
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().map(|a| a.as_str()).unwrap_or_default();
    // An explicit port is checked here: the URI parser takes `:0` and `:99999`.
    let port_ok = match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok_and(|p| p != 0),
        _ => true,
    };
    if uri.scheme_str() == Some("http") && plain && port_ok && !authority.is_empty() && !authority.contains('@') {
        return Ok(base.into());
    }
    let note = if uri.scheme_str() == Some("https") { "these servers speak plain HTTP" } else { "" };
    found(value, note)
}

/// `unix:///path`: hostagent talks to the engine of its own host only.
pub(super) fn unix_url(value: &Value<'_>) -> Parsed<String> {
    let text = string(value)?;
    let path = text.strip_prefix("unix://").unwrap_or_default();
    // 107 bytes is what a socket address holds.
    if path.len() > 1 && path.len() <= 107 && path.starts_with('/') && !path.contains(char::is_control) {
        return Ok(text.into());
    }
    let note =
        if text.starts_with("tcp:") || text.starts_with("http") { "only this host's own engine is used" } else { "" };
    found(value, note)
}
