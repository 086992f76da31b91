//! The query protocols of EC2 and STS: forms in, XML out.

use super::error::ApiError;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt::Write as _};

/// Lists of EC2's requests by the names of their members there, with the members' own names.
const LISTS: [(&str, &str); 3] = [("InstanceId", "InstanceIds"), ("Filter", "Filters"), ("Value", "Values")];

/// Members of EC2's answers that its XML calls otherwise.
const RENAMED: [(&str, &str); 4] =
    [("Reservations", "reservationSet"), ("Instances", "instancesSet"), ("State", "instanceState"), ("Tags", "tagSet")];

/// `Filter.1.Name=x&Filter.1.Value.1=y` as the structure it stands for.
pub fn input(form: &BTreeMap<String, String>) -> Value {
    let mut root = Value::Object(Map::new());
    for (path, text) in form {
        if matches!(path.as_str(), "Action" | "Version") {
            continue;
        }
        let parts: Vec<&str> = path.split('.').collect();
        set(&mut root, &parts, text);
    }
    lists(root)
}

fn set(value: &mut Value, path: &[&str], text: &str) {
    let Some((first, rest)) = path.split_first() else {
        *value = Value::String(text.to_owned());
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    if let Some(map) = value.as_object_mut() {
        set(map.entry(*first).or_insert(Value::Null), rest, text);
    }
}

/// Structures whose members are all numbered are lists; numbers and booleans are what they look like.
fn lists(value: Value) -> Value {
    match value {
        Value::Object(map) if !map.is_empty() && map.keys().all(|key| key.parse::<u32>().is_ok()) => {
            let mut items: Vec<(u32, Value)> =
                map.into_iter().map(|(key, item)| (key.parse().unwrap_or_default(), lists(item))).collect();
            items.sort_by_key(|(number, _)| *number);
            Value::Array(items.into_iter().map(|(_, item)| item).collect())
        }
        Value::Object(map) => {
            let named = |(key, item): (String, Value)| {
                let list = LISTS.iter().find(|(member, _)| *member == key).map(|(_, name)| (*name).to_owned());
                let number = (key == "MaxResults" || key == "DurationSeconds")
                    .then(|| item.as_str().and_then(|text| text.parse::<i64>().ok()));
                match number.flatten() {
                    Some(number) => (key, number.into()),
                    None => (list.unwrap_or(key), lists(item)),
                }
            };
            Value::Object(map.into_iter().map(named).collect())
        }
        other => other,
    }
}

/// The answer's document.
pub fn output(service: &str, action: &str, value: &Value) -> String {
    let id = crate::clock::random_hex(32);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    if service == "ec2" {
        let _ = write!(
            xml,
            "<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>{id}</requestId>"
        );
        members(&mut xml, value, true);
    } else {
        let _ = write!(xml, "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>");
        members(&mut xml, value, false);
        let _ = write!(xml, "</{action}Result><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>");
    }
    let _ = write!(xml, "</{action}Response>");
    xml
}

/// The document of an error.
pub fn error(service: &str, error: &ApiError) -> String {
    let (kind, message) = (escape(query_kind(service, &error.kind)), escape(&error.message));
    let inner = format!("<Code>{kind}</Code><Message>{message}</Message>");
    match service {
        "ec2" => format!("<Response><Errors><Error>{inner}</Error></Errors><RequestID>0</RequestID></Response>"),
        _ => {
            format!("<ErrorResponse><Error><Type>Sender</Type>{inner}</Error><RequestId>0</RequestId></ErrorResponse>")
        }
    }
}

/// The same refusals have other names in EC2 and STS.
fn query_kind<'a>(service: &str, kind: &'a str) -> &'a str {
    match (service, kind) {
        ("ec2", "ExpiredTokenException") => "RequestExpired",
        (_, "ExpiredTokenException") => "ExpiredToken",
        ("ec2", "UnrecognizedClientException") => "AuthFailure",
        (_, "UnrecognizedClientException") => "InvalidClientTokenId",
        ("ec2", "ValidationException") => "InvalidParameterValue",
        (_, "ValidationException") => "ValidationError",
        (_, other) => other,
    }
}

/// Members as elements. EC2's begin in lower case.
fn members(xml: &mut String, value: &Value, ec2: bool) {
    let Some(map) = value.as_object() else { return };
    for (name, value) in map {
        let mut letters = name.chars();
        let lower = || letters.next().map(|first| first.to_lowercase().chain(letters).collect::<String>());
        let renamed = RENAMED.iter().find(|(of, _)| of == name).map(|(_, to)| (*to).to_owned());
        let name = if ec2 { renamed.or_else(lower).unwrap_or_default() } else { name.clone() };
        let _ = write!(xml, "<{name}>");
        element(xml, value, ec2);
        let _ = write!(xml, "</{name}>");
    }
}

fn element(xml: &mut String, value: &Value, ec2: bool) {
    match value {
        Value::Null => {}
        Value::String(text) => xml.push_str(&escape(text)),
        Value::Array(list) => {
            let item = if ec2 { "item" } else { "member" };
            for value in list {
                let _ = write!(xml, "<{item}>");
                element(xml, value, ec2);
                let _ = write!(xml, "</{item}>");
            }
        }
        Value::Object(_) => members(xml, value, ec2),
        other => xml.push_str(&other.to_string()),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn a_form_is_the_structure_it_stands_for() {
        let form = http::query(
            "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3ACluster&Filter.1.Value.1=a&Filter.1.Value.2=b\
             &Filter.2.Name=instance-state-name&Filter.2.Value.1=running&InstanceId.1=i-1&MaxResults=50",
        );
        let wanted = json!({
            "Filters": [
                {"Name": "tag:Cluster", "Values": ["a", "b"]},
                {"Name": "instance-state-name", "Values": ["running"]},
            ],
            "InstanceIds": ["i-1"],
            "MaxResults": 50,
        });
        assert_eq!(input(&form), wanted);
    }

    #[test]
    fn xml_is_escaped() {
        let xml = output("ec2", "DescribeInstances", &json!({"Reservations": [{"OwnerId": "<&\">"}]}));
        assert!(
            xml.contains("<reservationSet><item><ownerId>&lt;&amp;&quot;&gt;</ownerId></item></reservationSet>"),
            "{xml}"
        );
    }
}
