//! The cluster query language, as far as container instances are chosen by it.

use crate::cloud::{
    hosts::SimulatedHost,
    input::{matches, whole},
};

/// An expression such as `attribute:ecs.availability-zone == eu-west-1a and agentConnected == false`.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    Is(Subject, String),
    IsNot(Subject, String),
    In(Subject, Vec<String>),
    Matches(Subject, String),
    Exists(Subject),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Attribute(String),
    AgentConnected,
    AgentVersion,
    Instance,
}

impl Filter {
    /// # Errors
    ///
    /// What cannot be read.
    pub fn read(text: &str) -> Result<Self, String> {
        let tokens = tokens(text);
        let mut rest = tokens.as_slice();
        let filter = either(&mut rest)?;
        match rest.first() {
            None => Ok(filter),
            Some(token) => Err(format!("Invalid filter: {token} was not expected.")),
        }
    }

    pub fn is_true(&self, host: &SimulatedHost) -> bool {
        match self {
            Self::Is(subject, value) => subject.of(host).is_some_and(|of| of == *value),
            Self::IsNot(subject, value) => subject.of(host).is_none_or(|of| of != *value),
            Self::In(subject, values) => subject.of(host).is_some_and(|of| values.contains(&of)),
            Self::Matches(subject, pattern) => subject.of(host).is_some_and(|of| matches(pattern, &of)),
            Self::Exists(subject) => subject.of(host).is_some(),
            Self::Not(inner) => !inner.is_true(host),
            Self::And(left, right) => left.is_true(host) && right.is_true(host),
            Self::Or(left, right) => left.is_true(host) || right.is_true(host),
        }
    }
}

impl Subject {
    fn read(token: &str) -> Result<Self, String> {
        match token {
            "agentConnected" => Ok(Self::AgentConnected),
            "agentVersion" => Ok(Self::AgentVersion),
            "ec2InstanceId" => Ok(Self::Instance),
            other => match other.strip_prefix("attribute:") {
                Some(name) if !name.is_empty() => Ok(Self::Attribute(name.to_owned())),
                _ => Err(format!("Invalid filter: {other} is no subject.")),
            },
        }
    }

    fn of(&self, host: &SimulatedHost) -> Option<String> {
        match self {
            Self::AgentConnected => Some(host.agent_connected.to_string()),
            Self::AgentVersion => Some(host.agent_version.clone()),
            Self::Instance => Some(host.instance.clone()),
            Self::Attribute(name) => match name.as_str() {
                "ecs.availability-zone" => Some(host.zone.clone()),
                "ecs.os-type" => Some("linux".into()),
                _ => None,
            },
        }
    }
}

fn tokens(text: &str) -> Vec<String> {
    let mut spaced = String::new();
    for letter in text.chars() {
        match letter {
            '(' | ')' | '[' | ']' | ',' => spaced.extend([' ', letter, ' ']),
            other => spaced.push(other),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

fn next<'a>(rest: &mut &'a [String]) -> Result<&'a str, String> {
    let (first, left) = rest.split_first().ok_or("Invalid filter: it ends too early.")?;
    *rest = left;
    Ok(first)
}

fn takes(rest: &mut &[String], words: [&str; 2]) -> bool {
    let found = rest.first().is_some_and(|token| words.contains(&token.as_str()));
    if found {
        *rest = &rest[1..];
    }
    found
}

fn either(rest: &mut &[String]) -> Result<Filter, String> {
    let mut left = both(rest)?;
    while takes(rest, ["or", "||"]) {
        left = Filter::Or(Box::new(left), Box::new(both(rest)?));
    }
    Ok(left)
}

fn both(rest: &mut &[String]) -> Result<Filter, String> {
    let mut left = one(rest)?;
    while takes(rest, ["and", "&&"]) {
        left = Filter::And(Box::new(left), Box::new(one(rest)?));
    }
    Ok(left)
}

fn one(rest: &mut &[String]) -> Result<Filter, String> {
    if takes(rest, ["not", "!"]) {
        return Ok(Filter::Not(Box::new(one(rest)?)));
    }
    if takes(rest, ["(", "("]) {
        let inner = either(rest)?;
        return if takes(rest, [")", ")"]) { Ok(inner) } else { Err("Invalid filter: a ) is missing.".into()) };
    }
    let subject = Subject::read(next(rest)?)?;
    match next(rest)? {
        "==" | "equals" => Ok(Filter::Is(subject, value(rest)?)),
        "!=" | "not_equals" => Ok(Filter::IsNot(subject, value(rest)?)),
        "exists" => Ok(Filter::Exists(subject)),
        "=~" | "matches" => {
            let pattern = value(rest)?;
            whole(&pattern)
                .map(|_| Filter::Matches(subject, pattern))
                .ok_or_else(|| "Invalid filter: no pattern.".into())
        }
        "in" => {
            if next(rest)? != "[" {
                return Err("Invalid filter: in takes a list.".into());
            }
            let mut values = vec![value(rest)?];
            while takes(rest, [",", ","]) {
                values.push(value(rest)?);
            }
            if takes(rest, ["]", "]"]) {
                Ok(Filter::In(subject, values))
            } else {
                Err("Invalid filter: a ] is missing.".into())
            }
        }
        other => Err(format!("Invalid filter: {other} is no operator known here.")),
    }
}

fn value(rest: &mut &[String]) -> Result<String, String> {
    let token = next(rest)?;
    if ["(", ")", "[", "]", ",", "and", "or"].contains(&token) {
        return Err(format!("Invalid filter: {token} is no value."));
    }
    Ok(token.trim_matches(['\'', '"']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_choose_hosts() {
        let host = SimulatedHost { agent_connected: false, ..SimulatedHost::default() };
        for (text, wanted) in [
            ("attribute:ecs.availability-zone == eu-west-1a", true),
            ("attribute:ecs.availability-zone == eu-west-1b or agentConnected == false", true),
            ("attribute:ecs.availability-zone == eu-west-1a and agentConnected == true", false),
            ("not (agentConnected == true)", true),
            ("attribute:ecs.availability-zone in [eu-west-1b, eu-west-1a]", true),
            ("attribute:ecs.availability-zone != eu-west-1a", false),
            ("attribute:stack exists", false),
            ("ec2InstanceId =~ i-0+1", true),
        ] {
            assert_eq!(Filter::read(text).unwrap().is_true(&host), wanted, "{text}");
        }
        for wrong in [
            "",
            "zone == a",
            "agentConnected",
            "agentConnected == ",
            "agentConnected = true",
            "(agentConnected == true",
        ] {
            assert!(Filter::read(wrong).is_err(), "{wrong}");
        }
    }
}
