//! The SSM documents this program brings, and how an account's differ from them.

use crate::ports::aws::documents::Kind;
use serde::Serialize;
use sha2::{Digest, Sha256};
use similar::TextDiff;
use std::fmt::Write;

pub const CHECK: &str = "HostAgent-Check";
pub const RESTART: &str = "HostAgent-Restart";
pub const INSTALL: &str = "HostAgent-Install";
pub const ROLLOUT: &str = "HostAgent-Rollout";
/// The association that checks every host from time to time.
pub const ASSOCIATION: &str = "HostAgent-Check";

/// Whose a document is; `fleet uninstall` removes no other.
pub const OWNER_TAG: (&str, &str) = ("hostagent:managed-by", "hostagent");
pub const HASH_TAG: &str = "hostagent:content-sha256";
pub const VERSION_TAG: &str = "hostagent:version";

/// A document as it is shipped in packaging/ssm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document {
    pub name: &'static str,
    pub kind: Kind,
    /// YAML.
    pub content: &'static str,
}

/// In the order they are created: the runbook sends the others.
pub const DOCUMENTS: [Document; 4] = [
    Document { name: CHECK, kind: Kind::Command, content: include_str!("../../packaging/ssm/HostAgent-Check.yaml") },
    Document {
        name: RESTART,
        kind: Kind::Command,
        content: include_str!("../../packaging/ssm/HostAgent-Restart.yaml"),
    },
    Document {
        name: INSTALL,
        kind: Kind::Command,
        content: include_str!("../../packaging/ssm/HostAgent-Install.yaml"),
    },
    Document {
        name: ROLLOUT,
        kind: Kind::Automation,
        content: include_str!("../../packaging/ssm/HostAgent-Rollout.yaml"),
    },
];

impl Document {
    /// SHA-256 of the content, in hexadecimal.
    pub fn hash(&self) -> String {
        hash(self.content)
    }
}

/// SHA-256 in hexadecimal.
pub fn hash(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().fold(String::with_capacity(64), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// What has to be done about a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    Same {
        version: String,
    },
    Create,
    /// Somebody's own document has this name, or an older version of ours.
    Update {
        from: String,
        diff: String,
    },
}

/// Compares by hash. `stored` is the content and version of the account's default version.
pub fn change(document: &Document, stored: Option<(&str, &str)>) -> Change {
    match stored {
        None => Change::Create,
        Some((content, version)) if hash(content) == document.hash() => Change::Same { version: version.into() },
        Some((content, version)) => {
            let diff = TextDiff::from_lines(content, document.content);
            let (theirs, ours) = (format!("{} (version {version})", document.name), format!("{} (new)", document.name));
            let diff = diff.unified_diff().context_radius(2).header(&theirs, &ours).to_string();
            Change::Update { from: version.into(), diff }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_keep_to_the_limits_of_ssm() {
        for document in DOCUMENTS {
            assert!(document.content.len() <= 64 * 1024, "{}: {} bytes", document.name, document.content.len());
            let schema = if document.kind == Kind::Command { "'2.2'" } else { "'0.3'" };
            assert!(document.content.contains(&format!("schemaVersion: {schema}")), "{}", document.name);
            let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            assert!((3..=128).contains(&document.name.len()) && document.name.chars().all(plain));
        }
    }

    #[test]
    fn only_another_content_is_a_change() {
        let document = DOCUMENTS[0];
        assert_eq!(change(&document, None), Change::Create);
        assert_eq!(change(&document, Some((document.content, "3"))), Change::Same { version: "3".into() });
        let older = document.content.replace("timeoutSeconds: '120'", "timeoutSeconds: '60'");
        let Change::Update { from, diff } = change(&document, Some((&older, "2"))) else { panic!("no update") };
        assert_eq!(from, "2");
        assert!(diff.contains("-    timeoutSeconds: '60'\n+    timeoutSeconds: '120'\n"), "{diff}");
    }
}
