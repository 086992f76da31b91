//! YAML as the services read it, into JSON.
//!
//! Plain `yes`, `no`, `on` and `off` are booleans, as in YAML 1.1: whoever means the words has to quote them.

use serde_json::{Map, Number, Value};
use yaml_rust2::{
    Event,
    parser::{MarkedEventReceiver, Parser},
    scanner::{Marker, TScalarStyle},
};

/// The one document in `text`.
///
/// # Errors
///
/// What cannot be read, with its line.
pub fn read(text: &str) -> Result<Value, String> {
    let mut builder = Builder::default();
    Parser::new_from_str(text).load(&mut builder, true).map_err(|error| error.to_string())?;
    match builder.wrong {
        Some(wrong) => Err(wrong),
        None => builder.whole.ok_or_else(|| "there is no document".to_owned()),
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    whole: Option<Value>,
    wrong: Option<String>,
}

enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

impl Builder {
    fn put(&mut self, value: Value) -> Result<(), String> {
        match self.open.last_mut() {
            None if self.whole.is_some() => return Err("more than one document".into()),
            None => self.whole = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match key.take() {
                Some(key) if map.contains_key(&key) => return Err(format!("the key {key} is there twice")),
                Some(key) => drop(map.insert(key, value)),
                None => {
                    *key = Some(match value {
                        Value::String(text) => text,
                        Value::Bool(_) | Value::Number(_) => value.to_string(),
                        _ => return Err("a key is no text".into()),
                    });
                }
            },
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Alias(_) => Err("anchors are not known here".into()),
            Event::Scalar(text, style, _, tag) => {
                let plain = style == TScalarStyle::Plain && tag.is_none();
                self.put(if plain { plain_scalar(text) } else { Value::String(text) })
            }
            Event::SequenceStart(..) => {
                self.open.push(Open::List(Vec::new()));
                Ok(())
            }
            Event::MappingStart(..) => {
                self.open.push(Open::Map(Map::new(), None));
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(list)) => self.put(Value::Array(list)),
                Some(Open::Map(map, _)) => self.put(Value::Object(map)),
                None => Err("an end without a beginning".into()),
            },
            _ => Ok(()),
        }
    }
}

impl MarkedEventReceiver for Builder {
    fn on_event(&mut self, event: Event, mark: Marker) {
        if self.wrong.is_none() {
            self.wrong = self.take(event).err().map(|wrong| format!("{wrong} (line {})", mark.line()));
        }
    }
}

fn plain_scalar(text: String) -> Value {
    match text.to_ascii_lowercase().as_str() {
        "" | "~" | "null" => return Value::Null,
        "true" | "yes" | "on" => return Value::Bool(true),
        "false" | "no" | "off" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    let float = || text.bytes().all(|b| b"+-.eE0123456789".contains(&b)).then(|| text.parse::<f64>().ok()).flatten();
    float().and_then(Number::from_f64).map_or(Value::String(text.clone()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_read_as_the_services_read_it() {
        let text = "a: 'yes'\nb: yes\nc: '2.2'\nd: 2.2\ne:\n  - 1\n  - |\n    x\n    y\nf: {}\ng: null\nh: 1.2.3\n";
        let wanted = json!({
            "a": "yes", "b": true, "c": "2.2", "d": 2.2, "e": [1, "x\ny\n"], "f": {}, "g": null, "h": "1.2.3",
        });
        assert_eq!(read(text), Ok(wanted));
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        assert!(read("a: 1\na: 2\n").unwrap_err().contains("the key a is there twice (line 2)"));
        assert!(read("a: &x 1\nb: *x\n").is_err());
        assert!(read("a: [1\n").is_err() && read("").is_err() && read("a: 1\n---\nb: 2\n").is_err());
    }
}
