//! Lists in pages, with tokens that say nothing to the caller.

use super::error::ApiError;
use sha2::{Digest as _, Sha256};

/// A page of `all`, and the token of the next one. `of` names the list with all its filters: a token of another list is
/// refused, as the services do.
pub fn page<T: Clone>(
    all: &[T],
    of: &str,
    token: Option<&str>,
    size: usize,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let seal = seal(of);
    let begin = match token {
        None => 0,
        Some(token) => {
            open(token, &seal).ok_or_else(|| ApiError::new("InvalidNextToken", "The specified token is not valid."))?
        }
    };
    let rest = all.get(begin..).unwrap_or_default();
    let end = rest.len().min(size);
    let next = (end < rest.len()).then(|| format!("{seal}{:08x}", (begin + end) ^ 0x5aa5_c33c));
    Ok((rest[..end].to_vec(), next))
}

fn open(token: &str, seal: &str) -> Option<usize> {
    Some(usize::from_str_radix(token.strip_prefix(seal)?, 16).ok()? ^ 0x5aa5_c33c)
}

fn seal(of: &str) -> String {
    hex(&Sha256::digest(of)[..20])
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_and_foreign_tokens_are_refused() {
        let all: Vec<u32> = (0..101).collect();
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let (items, next) = page(&all, "list", token.as_deref(), 50).unwrap();
            seen.extend(items);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
        let (_, next) = page(&all, "list", None, 50).unwrap();
        assert_eq!(page(&all, "another", next.as_deref(), 50).unwrap_err().kind, "InvalidNextToken");
        assert!(page(&all, "list", Some("x"), 50).is_err());
        assert_eq!(page(&all[..50], "list", None, 50).unwrap().1, None, "a full last page has no next");
    }
}
