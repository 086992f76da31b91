//! The SSM documents this program brings, and how an account's differ from them.

use crate::{facts::StoredDocument, ports::aws::documents::Kind};
use serde::Serialize;
use sha2::{Digest, Sha256};
use similar::TextDiff;
use std::fmt::Write;

pub const CHECK: &str = "HostAgent-Check";
pub const RESTART: &str = "HostAgent-Restart";
pub const INSTALL: &str = "HostAgent-Install";
pub const ROLLOUT: &str = "HostAgent-Rollout";
/// What the names of the associations begin with that check hosts from time to time.
const ASSOCIATION: &str = "HostAgent-Check-";

/// Whose a document is: one without it, or with another value, is somebody else's. It is neither changed nor removed.
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

/// The name of the association for the hosts with a tag. The tag is in it for people, and its hash because State Manager
/// takes few characters in a name.
pub fn association(key: &str, value: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let tag: String = format!("{key}-{value}").chars().map(plain).take(80).collect();
    format!("{ASSOCIATION}{tag}-{}", &hash(&format!("{key}={value}"))[..8])
}

/// Whether an association of the check bears a name that [`association`] gave it.
pub fn is_our_association(name: &str) -> bool {
    name.starts_with(ASSOCIATION)
}

/// What has to be done about a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    Same {
        version: String,
    },
    Create,
    Update {
        from: String,
        diff: String,
    },
    /// Of the same content, and somebody else's: it becomes ours.
    Adopt {
        version: String,
    },
    /// Somebody else's document has this name. It is left as it is.
    Foreign {
        from: String,
        /// What its owner's tag says; `None` without one.
        owner: Option<String>,
        diff: String,
    },
}

impl Change {
    /// Whether something is to be done.
    pub fn is_wanted(&self) -> bool {
        !matches!(self, Change::Same { .. } | Change::Foreign { .. })
    }

    /// The lines that are, or would be, others; empty for a document that is new or the same.
    pub fn diff(&self) -> &str {
        match self {
            Change::Update { diff, .. } | Change::Foreign { diff, .. } => diff,
            Change::Same { .. } | Change::Create | Change::Adopt { .. } => "",
        }
    }
}

/// Whether this program made the document, or was told to take it over.
pub fn is_ours(stored: &StoredDocument) -> bool {
    owner(stored) == Some(OWNER_TAG.1)
}

fn owner(stored: &StoredDocument) -> Option<&str> {
    stored.tags.get(OWNER_TAG.0).map(String::as_str)
}

/// Compares by hash. With `adopt`, somebody else's document becomes ours.
pub fn change(document: &Document, stored: Option<&StoredDocument>, adopt: bool) -> Change {
    let Some(stored) = stored else { return Change::Create };
    let version = stored.version.clone();
    let ours = is_ours(stored);
    if hash(&stored.content) == document.hash() {
        return if adopt && !ours { Change::Adopt { version } } else { Change::Same { version } };
    }
    let diff = TextDiff::from_lines(stored.content.as_str(), document.content);
    let (theirs, new) = (format!("{} (version {version})", document.name), format!("{} (new)", document.name));
    let diff = diff.unified_diff().context_radius(2).header(&theirs, &new).to_string();
    if ours || adopt {
        Change::Update { from: version, diff }
    } else {
        Change::Foreign { from: version, owner: owner(stored).map(str::to_owned), diff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(content: &str, owner: Option<&str>) -> StoredDocument {
        let tags = owner.map(|owner| (OWNER_TAG.0.to_owned(), owner.to_owned()));
        StoredDocument {
            content: content.into(),
            version: "2".into(),
            latest: "2".into(),
            tags: tags.into_iter().collect(),
        }
    }

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
        assert_eq!(change(&document, None, false), Change::Create);
        let same = stored(document.content, Some("hostagent"));
        assert_eq!(change(&document, Some(&same), false), Change::Same { version: "2".into() });
        assert_eq!(change(&document, Some(&same), true), Change::Same { version: "2".into() });
        let older = document.content.replace("timeoutSeconds: '60'", "timeoutSeconds: '120'");
        let older = stored(&older, Some("hostagent"));
        let Change::Update { from, diff } = change(&document, Some(&older), false) else { panic!("no update") };
        assert_eq!(from, "2");
        assert!(diff.contains("-    timeoutSeconds: '120'\n+    timeoutSeconds: '60'\n"), "{diff}");
    }

    #[test]
    fn a_document_of_somebody_else_is_changed_only_when_it_is_adopted() {
        let document = DOCUMENTS[0];
        for owner in [None, Some("cloudformation")] {
            let theirs = stored("schemaVersion: '2.2'\n", owner);
            let left = change(&document, Some(&theirs), false);
            let Change::Foreign { owner: seen, .. } = &left else { panic!("{left:?}") };
            assert_eq!(seen.as_deref(), owner);
            assert!(!left.is_wanted() && left.diff().contains("+description:"), "{left:?}");
            assert!(matches!(change(&document, Some(&theirs), true), Change::Update { .. }));
            let same = stored(document.content, owner);
            assert_eq!(change(&document, Some(&same), false), Change::Same { version: "2".into() });
            assert_eq!(change(&document, Some(&same), true), Change::Adopt { version: "2".into() });
        }
    }
}
