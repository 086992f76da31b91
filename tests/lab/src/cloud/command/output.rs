//! How much of what a host says is shown where, as the SSM agent cuts it.

/// Characters of a plugin's output in lists.
pub const LISTED: usize = 2_500;
/// Characters of the two outputs of GetCommandInvocation.
pub const STDOUT: usize = 24_000;
pub const STDERR: usize = 8_000;

const TITLE: &str = "\n----------ERROR-------\n";
const CUT_OUTPUT: &str = "\n---Output truncated---";
const CUT_ERROR: &str = "\n---Error truncated----";

/// The beginning of `text` that fits into `most` characters, with a mark where it was cut.
pub fn cut(text: &str, most: usize, mark: &str) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(mark.len())).collect();
    kept + mark
}

/// Both outputs in one text of at most `most` characters: each has half where both are long.
pub fn joined(stdout: &str, stderr: &str, most: usize) -> String {
    if stderr.is_empty() {
        return cut(stdout, most, CUT_OUTPUT);
    }
    let room = most - TITLE.len();
    let (output, error) = (stdout.chars().count(), stderr.chars().count());
    let half = room / 2;
    let (for_output, for_error) = match (output <= half, error <= half) {
        (_, true) => (room - error, error),
        (true, false) => (output, room - output),
        (false, false) => (half, room - half),
    };
    format!("{}{TITLE}{}", cut(stdout, for_output, CUT_OUTPUT), cut(stderr, for_error, CUT_ERROR))
}

/// Standard output as GetCommandInvocation has it.
pub fn stdout(text: &str) -> String {
    cut(text, STDOUT, CUT_OUTPUT)
}

/// Standard error as GetCommandInvocation has it.
pub fn stderr(text: &str) -> String {
    cut(text, STDERR, CUT_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_share_the_room() {
        assert_eq!(joined("a", "", 100), "a");
        assert_eq!(joined("a", "b", 100), "a\n----------ERROR-------\nb");
        let (long, longer) = ("é".repeat(3_000), "x".repeat(3_000));
        for (stdout, stderr) in [(&long, &longer), (&long, &"b".to_owned()), (&"a".to_owned(), &longer)] {
            let both = joined(stdout, stderr, LISTED);
            assert_eq!(both.chars().count(), LISTED);
            assert!(both.contains(TITLE) && both.contains("truncated---"), "{both}");
        }
        assert!(joined(&long, "why", LISTED).ends_with("why"));
    }
}
