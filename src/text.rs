//! Text that came from outside (introspection, certificates, files), made fit for a terminal or a log.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character could move a cursor, hide itself, or reorder what stands beside it.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // soft hyphen, Arabic letter mark, Mongolian vowel separator
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // zero-width and directional marks, line and paragraph separators, embeddings, invisible operators
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // tags
            | '\u{e0000}'..='\u{e007f}')
}

/// The text with such characters written as escapes: `\n`, `\u{1b}`.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => clean.push_str("\\n"),
            '\r' => clean.push_str("\\r"),
            '\t' => clean.push_str("\\t"),
            c if is_unsafe(c) => _ = write!(clean, "\\u{{{:x}}}", u32::from(c)),
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

/// At most `bytes` bytes of a text, cut between characters; `…` says that something is missing.
pub fn cut(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let room = bytes.saturating_sub('…'.len_utf8());
    let end = text.floor_char_boundary(room);
    if bytes < '…'.len_utf8() { Cow::Borrowed(&text[..end]) } else { Cow::Owned(format!("{}…", &text[..end])) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(clean("ecs-agent é 日本"), "ecs-agent é 日本");
        assert!(matches!(clean("plain"), Cow::Borrowed(_)));
        assert_eq!(clean("a\x1b[31mb\r\n\t\u{9b}2J"), "a\\u{1b}[31mb\\r\\n\\t\\u{9b}2J");
        assert_eq!(clean("user\u{202e}gpj\u{200b}\u{2028}"), "user\\u{202e}gpj\\u{200b}\\u{2028}");
    }

    proptest::proptest! {
        #[test]
        fn a_cut_is_a_prefix_within_its_bytes(text: String, bytes in 0usize..80) {
            let short = cut(&text, bytes);
            proptest::prop_assert!(short.len() <= bytes);
            proptest::prop_assert!(text.starts_with(short.trim_end_matches('…')) || text.contains('…'));
            proptest::prop_assert!(text.len() > bytes || short == text);
        }

        #[test]
        fn clean_text_stays_clean(text: String) {
            let once = clean(&text).into_owned();
            proptest::prop_assert!(!once.contains(is_unsafe));
            proptest::prop_assert_eq!(clean(&once).into_owned(), once);
        }
    }
}
