//! When SSM Compliance is told: whenever the verdict is another one, and again where it could not be told.

use crate::decide::Decision;

/// So often one verdict is told until it is taken: the role may well not allow it.
const TRIES: u32 = 5;

/// What SSM Compliance was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compliance {
    verdict: String,
    /// It is being told, or was taken.
    told: bool,
    failed: u32,
}

impl Compliance {
    /// Whether the verdict of a look is to be told now. It then counts as told until [`failed`](Self::failed) says otherwise.
    pub fn is_due(&mut self, decision: &Decision) -> bool {
        if self.verdict != decision.word() {
            *self = Self { verdict: decision.word().to_owned(), ..Self::default() };
        }
        let due = !self.told && self.failed < TRIES;
        self.told |= due;
        due
    }

    /// The last one was not taken: it is told again after the next look. In words, when a person is to know.
    pub fn failed(&mut self, why: &str) -> Option<String> {
        (self.told, self.failed) = (false, self.failed.saturating_add(1));
        match self.failed {
            1 => Some(format!("SSM Compliance was not told, and is told again after the next look: {why}")),
            TRIES => Some(format!("SSM Compliance is not told until the verdict changes: {why}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_is_told_once_and_again_a_few_times_where_it_was_not_taken() {
        let (settled, unknown) = (Decision::Settled, Decision::Unknown { reasons: vec![] });
        let mut compliance = Compliance::default();
        let due: Vec<bool> = [&settled, &settled, &unknown, &settled].map(|d| compliance.is_due(d)).into();
        assert_eq!(due, [true, false, true, true]);
        let mut said = Vec::new();
        for n in 1..=TRIES {
            said.extend(compliance.failed("AccessDenied"));
            assert_eq!(compliance.is_due(&settled), n < TRIES, "{n}");
        }
        assert!(said.len() == 2 && said[0].contains("again") && said[1].contains("until the verdict"), "{said:?}");
        assert!(compliance.is_due(&unknown), "another verdict has its own tries");
    }
}
