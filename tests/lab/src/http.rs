//! Small pieces of HTTP that several stand-ins share.

use std::collections::BTreeMap;

/// The parameters of a query string, with `%xx` decoded.
pub fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (decode(n), decode(v))).collect()
}

/// A query string of `pairs`.
pub fn encode(pairs: &[(&str, &str)]) -> String {
    let encoded = pairs.iter().map(|(name, value)| format!("{name}={}", percent(value)));
    encoded.collect::<Vec<_>>().join("&")
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: Option<u8>| digit.and_then(|d| char::from(d).to_digit(16));
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match (hex(rest.next()), hex(rest.next())) {
                (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
                _ => bytes.push(b'?'),
            },
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_the_way_there_and_back() {
        let text = encode(&[("arn", "arn:aws:ecs:eu-west-1:1:x/y z"), ("n", "1")]);
        assert_eq!(text, "arn=arn%3Aaws%3Aecs%3Aeu-west-1%3A1%3Ax%2Fy%20z&n=1");
        let back = query(&text);
        assert_eq!(back.get("arn").map(String::as_str), Some("arn:aws:ecs:eu-west-1:1:x/y z"));
        assert_eq!(query("all&limit=%zz").get("all").map(String::as_str), Some(""));
    }
}
