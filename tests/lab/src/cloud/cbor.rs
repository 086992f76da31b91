//! As much of CBOR as Smithy's RPC v2 needs for JSON-like values.

use serde_json::{Map, Number, Value};

/// Nesting that is followed.
const DEPTH: usize = 32;

/// The one value that `bytes` hold; `None` when they hold anything else.
pub fn decode(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = item(&mut rest, DEPTH)?;
    rest.is_empty().then_some(value)
}

fn item(rest: &mut &[u8], depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let first = take(rest, 1)?[0];
    let (major, low) = (first >> 5, first & 0x1f);
    if major == 7 {
        return match low {
            20 => Some(Value::Bool(false)),
            21 => Some(Value::Bool(true)),
            22 | 23 => Some(Value::Null),
            26 => Number::from_f64(f32::from_be_bytes(take(rest, 4)?.try_into().ok()?).into()).map(Value::Number),
            27 => Number::from_f64(f64::from_be_bytes(take(rest, 8)?.try_into().ok()?)).map(Value::Number),
            _ => None,
        };
    }
    // 31: of no told length, up to a break.
    let length = if low == 31 { None } else { Some(argument(rest, low)?) };
    match (major, length) {
        (0, Some(number)) => Some(number.into()),
        (1, Some(number)) => Some((-1 - i64::try_from(number).ok()?).into()),
        (3, Some(length)) => {
            let text = take(rest, usize::try_from(length).ok()?)?;
            Some(Value::String(String::from_utf8(text.to_vec()).ok()?))
        }
        (4, length) => {
            let mut list = Vec::new();
            while more(rest, length, list.len()) {
                list.push(item(rest, depth)?);
            }
            Some(Value::Array(list))
        }
        (5, length) => {
            let mut map = Map::new();
            let mut count = 0;
            while more(rest, length, count) {
                let Value::String(key) = item(rest, depth)? else { return None };
                map.insert(key, item(rest, depth)?);
                count += 1;
            }
            Some(Value::Object(map))
        }
        // A time stamp is a tagged number.
        (6, Some(_)) => item(rest, depth),
        _ => None,
    }
}

/// Whether another member follows; a break is taken off.
fn more(rest: &mut &[u8], length: Option<u64>, seen: usize) -> bool {
    match length {
        Some(length) => (seen as u64) < length && !rest.is_empty(),
        None if rest.first() == Some(&0xff) => {
            *rest = &rest[1..];
            false
        }
        None => !rest.is_empty(),
    }
}

fn argument(rest: &mut &[u8], low: u8) -> Option<u64> {
    Some(match low {
        0..=23 => low.into(),
        24 => take(rest, 1)?[0].into(),
        25 => u16::from_be_bytes(take(rest, 2)?.try_into().ok()?).into(),
        26 => u32::from_be_bytes(take(rest, 4)?.try_into().ok()?).into(),
        27 => u64::from_be_bytes(take(rest, 8)?.try_into().ok()?),
        _ => return None,
    })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

/// `value` in CBOR. Members called `…Timestamp` are tagged as times.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => head(0, number, out),
            (None, Some(number)) => head(1, (-1 - number) as u64, out),
            (None, None) => {
                out.push(0xfb);
                out.extend(number.as_f64().unwrap_or_default().to_be_bytes());
            }
        },
        Value::String(text) => {
            head(3, text.len() as u64, out);
            out.extend(text.as_bytes());
        }
        Value::Array(list) => {
            head(4, list.len() as u64, out);
            list.iter().for_each(|value| write(value, out));
        }
        Value::Object(map) => {
            head(5, map.len() as u64, out);
            for (key, value) in map {
                head(3, key.len() as u64, out);
                out.extend(key.as_bytes());
                if key.ends_with("Timestamp") {
                    head(6, 1, out);
                }
                write(value, out);
            }
        }
    }
}

fn head(major: u8, number: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match number {
        0..=23 => out.push(major | number as u8),
        24..=0xff => out.extend([major | 24, number as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend((number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend((number as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend(number.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_survive_the_way_there_and_back() {
        let value =
            json!({"a": [1, -1, 24, 300, 70_000, 5_000_000_000_u64, 1.5, true, false, null], "é": "ü", "m": {}});
        assert_eq!(decode(&encode(&value)), Some(value));
        assert_eq!(encode(&json!({"StateUpdatedTimestamp": 1}))[23], 0xc1);
    }

    #[test]
    fn what_is_cut_or_strange_is_refused() {
        assert_eq!(decode(&[0xbf, 0x61, b'a', 0x9f, 0x01, 0xff, 0xff]), Some(json!({"a": [1]})));
        for bytes in [&[][..], &[0x62, b'a'], &[0x01, 0x01], &[0xbf, 0x61, b'a'], &[0x42, 1, 2], &[0x81; 64]] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
