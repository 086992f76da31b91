//! The events that matter, as the journal knows them: an ID each, and what its catalog says of it.
//!
//! An event carries one by its name, `event = events::REPAIRED.name`; the journal's record then has that event's
//! `MESSAGE_ID`, and `journalctl -x` shows its text. The catalog file is made from this table.

/// An event with an ID of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// `MESSAGE_ID`: 32 hexadecimal digits, never given to another event.
    pub id: &'static str,
    /// The value of the field `event`, and so of `HOSTAGENT_EVENT`.
    pub name: &'static str,
    /// What happened, in a line.
    pub subject: &'static str,
    /// What it means and what to do; `@FIELD@` stands for a field of the record.
    pub text: &'static str,
}

pub const ENDPOINTS_READY: Known = Known {
    id: "e23961726ccf4308a5d6171c8a0f1654",
    name: "endpoints-ready",
    subject: "All three ECS endpoints are ready",
    text: "\
ecs, ecs-agent and ecs-telemetry resolve to endpoint addresses only, several times over more than one TTL, and every
address completes TCP and TLS. The agent moves to them at its next restart; whether hostagent makes one is the setting
watch.on_ready. Look: hostagent plan",
};

pub const ENDPOINTS_GONE: Known = Known {
    id: "0a9df23cf11a47bf99fbc87a3ca147cf",
    name: "endpoints-gone",
    subject: "The ECS endpoints are no longer all there",
    text: "\
At least one of ecs, ecs-agent and ecs-telemetry leads to a public address again, to other addresses than before, or
does not answer. Nothing is restarted because of it. Look: hostagent check; then at the endpoints, their private DNS
and their security groups.",
};

pub const RESTART_BEGUN: Known = Known {
    id: "20f1b399992d44a8864a256b19ad7ce3",
    name: "restart-begun",
    subject: "A restart of the ECS agent has begun",
    text: "\
hostagent restarts the Amazon ECS agent in run @HOSTAGENT_RUN@. Tasks go on; the agent is gone for about a second. The
run is a unit of its own and tells how it ended. Look: journalctl -u 'hostagent-restart-*'",
};

pub const RESTART_VERIFIED: Known = Known {
    id: "b3c74f869cd6497f9280279902398b20",
    name: "restart-verified",
    subject: "The ECS agent has moved onto the endpoints",
    text: "\
Run @HOSTAGENT_RUN@ is proved: the agent is supervised, registered as the same container instance, its tasks and all
other containers are untouched, and both of its websockets stand on endpoint addresses. Nothing is to be done.",
};

pub const RESTART_NOT_VERIFIED: Known = Known {
    id: "78b89b8bb426493b8ec11abd85b5c750",
    name: "restart-not-verified",
    subject: "A restart of the ECS agent could not be verified",
    text: "\
The agent was restarted in run @HOSTAGENT_RUN@, and this was not as it should be, or could not be seen, afterwards:
@HOSTAGENT_FAILED@. It is not tried again for the same endpoint addresses. Look: hostagent check",
};

pub const REPAIRED: Known = Known {
    id: "ce1b025055864adaadc6fa7232b69128",
    name: "repaired",
    subject: "The ECS agent was mended",
    text: "\
The agent was down, or ran unsupervised as a Docker restart leaves it. Run @HOSTAGENT_RUN@ started its unit again and
proved that it is whole. To restart the agent by hand use systemctl restart ecs, never docker restart.",
};

pub const AGENT_DOWN: Known = Known {
    id: "e0c82206f182444d8fbe438e963cbfe4",
    name: "agent-down",
    subject: "THE ECS AGENT IS DOWN",
    text: "\
The agent did not come back in run @HOSTAGENT_RUN@, though it was started again. Running tasks go on; no new ones start
here, and task roles cannot be used. Somebody has to look now: systemctl status ecs; journalctl -u ecs -n 50;
docker logs --tail 50 ecs-agent",
};

pub const AGENT_BROKEN: Known = Known {
    id: "6f0c2c1f7d5b4f58a1f5c0a9b2d47e31",
    name: "agent-broken",
    subject: "The ECS agent is down, unsupervised or cut off",
    text: "\
hostagent, which watches this host, found its agent broken: @HOSTAGENT_WHY@. Running tasks go on; no new ones start
here, and task roles may not work. The service never repairs by itself. Look: hostagent check; then, where it says so,
type: hostagent restart --repair",
};

pub const REFUSED: Known = Known {
    id: "228fab08cdab4df48e513624405a07d7",
    name: "refused",
    subject: "A restart of the ECS agent is wanted, and would not be safe",
    text: "\
Nothing was touched, because: @HOSTAGENT_WHY@. This does not end by itself. Look: hostagent check, which names what to
do about each reason.",
};

pub const BLOCKED: Known = Known {
    id: "8f34a05b0aee455f8b015b464b22c9e9",
    name: "blocked",
    subject: "hostagent cannot see enough to act",
    text: "\
Nothing was touched, because a fact is missing: @HOSTAGENT_WHY@. hostagent never acts on what it could not see. Look:
hostagent check",
};

pub const CONFIGURATION_REFUSED: Known = Known {
    id: "062e9614104c4e5c93638921b2f31bbf",
    name: "configuration-refused",
    subject: "The configuration of hostagent was refused",
    text: "\
@HOSTAGENT_WHY@. A running service keeps the configuration it had. Mend the file; then: systemctl reload hostagent, or
systemctl start hostagent if it does not run. Look: hostagent config show",
};

pub const CLUSTER_HALTED: Known = Known {
    id: "5d1f0b7a4c3e4b0c9a8e2f6d7b135a90",
    name: "cluster-halted",
    subject: "The cluster was halted by this host",
    text: "\
The restart of the ECS agent on this host could not be verified, so hostagent set @HOSTAGENT_PARAMETER@: no host of the
cluster moves its agent until that is taken away. Mend this host first. Look: hostagent check; hostagent fleet status;
then hostagent fleet resume",
};

/// Every one of them.
pub const TABLE: [Known; 12] = [
    ENDPOINTS_READY,
    ENDPOINTS_GONE,
    RESTART_BEGUN,
    RESTART_VERIFIED,
    RESTART_NOT_VERIFIED,
    REPAIRED,
    AGENT_DOWN,
    AGENT_BROKEN,
    REFUSED,
    BLOCKED,
    CONFIGURATION_REFUSED,
    CLUSTER_HALTED,
];

/// The event of this name.
pub fn named(name: &str) -> Option<&'static Known> {
    const { &TABLE }.iter().find(|known| known.name == name)
}

/// The journal's catalog: what `journalctl -x` shows beside these events.
pub fn catalog() -> String {
    let mut text = String::from("# Made from the table in src/events.rs, and tested to be the same.\n");
    for Known { id, subject, text: body, .. } in &TABLE {
        text += &format!("\n-- {id}\nSubject: {subject}\nDefined-By: hostagent\nSupport: man:hostagent(1)\n\n{body}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/journal/hostagent.catalog");

    #[test]
    fn the_catalog_file_is_the_table() {
        if std::env::var_os("HOSTAGENT_WRITE_CATALOG").is_some() {
            std::fs::write(FILE, catalog()).unwrap();
        }
        let file = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(file == catalog(), "HOSTAGENT_WRITE_CATALOG=1 cargo test the_catalog_file writes it anew");
    }

    #[test]
    fn every_event_is_its_own() {
        let ids: BTreeSet<&str> = TABLE.iter().map(|k| k.id).collect();
        let names: BTreeSet<&str> = TABLE.iter().map(|k| k.name).collect();
        assert_eq!((ids.len(), names.len()), (TABLE.len(), TABLE.len()));
        for known in &TABLE {
            assert!(known.id.len() == 32 && known.id.bytes().all(|b| b.is_ascii_hexdigit()), "{}", known.name);
            assert_eq!(named(known.name), Some(known));
            assert!(!known.subject.contains('\n') && !known.text.contains("\n\n"), "{}", known.name);
        }
        assert_eq!(named("step"), None);
    }

    /// Every source file outside this one, tests within them left out.
    fn sources(dir: &std::path::Path, into: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("src/events.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                into.push_str(text.split("#[cfg(test)]").next().unwrap());
            }
        }
    }

    #[test]
    fn every_event_of_the_catalog_is_told_somewhere_with_the_fields_its_text_names() {
        let mut code = String::new();
        sources(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut code);
        for known in &TABLE {
            let name = known.name.to_uppercase().replace('-', "_");
            assert!(code.contains(&format!("events::{name}")), "nobody tells {}", known.name);
            for field in known.text.split('@').filter_map(|word| word.strip_prefix("HOSTAGENT_")) {
                let field = field.to_lowercase();
                let told = [format!("{field} = "), format!("%{field},"), format!(" {field},")];
                assert!(told.iter().any(|told| code.contains(told)), "{}: nobody tells {field}", known.name);
            }
        }
    }
}
