//! Events to standard error, or to the journal with their fields.

use crate::{events, text::clean};
use log::kv::{self, Key, Value, VisitSource};
use std::{
    fmt,
    io::{self, Write as _},
};
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt as tracing_fmt,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The journal when standard error is connected to it, else standard error.
    Auto,
    Stderr,
}

/// Starts logging: warnings and errors; with `verbosity` 1 what is done, 2 each probe, 3 and more everything.
///
/// # Errors
/// When logging was started before in this process.
pub fn init(verbosity: u8, target: Target) -> Result<(), tracing_subscriber::util::TryInitError> {
    let filter = filter(verbosity);
    let journal = match target {
        Target::Auto if connected_to_journal() => journal().ok(),
        _ => None,
    };
    match journal {
        Some(journal) => Registry::default().with(journal.with_filter(filter)).try_init(),
        None => {
            let stderr =
                tracing_fmt::layer().with_writer(io::stderr).with_target(false).without_time().with_ansi(false);
            Registry::default().with(stderr.with_filter(filter)).try_init()
        }
    }
}

/// Our own events by verbosity; those of libraries only when they warn, or at the very top.
fn filter(verbosity: u8) -> Targets {
    let (own, others) = match verbosity {
        0 => (LevelFilter::WARN, LevelFilter::ERROR),
        1 => (LevelFilter::INFO, LevelFilter::WARN),
        2 => (LevelFilter::DEBUG, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    Targets::new().with_default(others).with_target("hostagent", own)
}

fn journal() -> io::Result<JournalLayer> {
    Ok(JournalLayer(JournalLog::empty()?.with_syslog_identifier("hostagent".into())))
}

/// Sends each event as a journal record, its fields named `HOSTAGENT_…`.
struct JournalLayer(JournalLog);

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let fields = Fields::of(event);
        let metadata = event.metadata();
        let sent = self.0.journal_send(&record(metadata, &fields, format_args!("{}", fields.message)));
        if sent.is_err() {
            // The journal is gone or its socket is full: standard error is all that is left. It may lead to the journal
            // as well, and be as dead; `eprintln!` would end the program over that.
            let _ = writeln!(io::stderr(), "{}: {}{}", metadata.level(), clean(&fields.message), fields.tail());
        }
    }
}

fn record<'a>(metadata: &Metadata<'a>, fields: &'a Fields, message: fmt::Arguments<'a>) -> log::Record<'a> {
    log::Record::builder()
        .args(message)
        .level(level(*metadata.level()))
        .target(metadata.target())
        .module_path(metadata.module_path())
        .file(metadata.file())
        .line(metadata.line())
        .key_values(fields)
        .build()
}

fn level(level: Level) -> log::Level {
    match level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    }
}

/// An event's message and its other fields, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fields {
    message: String,
    others: Vec<(String, String)>,
}

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields
    }

    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
            return;
        }
        // The journal's own field, by which its catalog knows what happened.
        if field.name() == "event"
            && let Some(known) = events::named(&value)
        {
            self.others.push(("MESSAGE_ID".into(), known.id.into()));
        }
        self.others.push((journal_name(field.name()), value));
    }

    fn tail(&self) -> String {
        self.others.iter().map(|(name, value)| format!(" {name}={}", clean(value))).collect()
    }
}

/// Prefixed, so that a field called `priority` cannot stand beside the journal's own `PRIORITY`;
/// upper case, and within the 64 bytes the journal allows.
fn journal_name(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    "HOSTAGENT_".chars().chain(name.chars().map(fits)).take(64).collect()
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl kv::Source for Fields {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        for (name, value) in &self.others {
            visitor.visit_pair(Key::from_str(name), Value::from(value.as_str()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    type Sent = (log::Level, String, Vec<(String, String)>);

    /// Keeps what the journal would get.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Sent>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            struct Pairs(Vec<(String, String)>);
            impl<'kvs> VisitSource<'kvs> for Pairs {
                fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
                    self.0.push((key.to_string(), value.to_string()));
                    Ok(())
                }
            }
            let fields = Fields::of(event);
            let args = fields.message.clone();
            let args = format_args!("{args}");
            let record = record(event.metadata(), &fields, args);
            let mut pairs = Pairs(Vec::new());
            record.key_values().visit(&mut pairs).unwrap();
            self.0.lock().unwrap().push((record.level(), record.args().to_string(), pairs.0));
        }
    }

    #[test]
    fn fields_reach_the_journal_prefixed_and_cannot_pose_as_its_own() {
        let kept = Kept::default();
        tracing::subscriber::with_default(Registry::default().with(kept.clone()), || {
            tracing::info!(unit = "ecs.service", priority = 0, took.ms = 1.5, error = %"no\nway", "restarted {}", 1);
            tracing::error!("plain");
        });
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let kept = kept.0.lock().unwrap();
        assert_eq!((kept[0].0, kept[0].1.as_str()), (log::Level::Info, "restarted 1"));
        assert_eq!(
            kept[0].2,
            [
                pair("HOSTAGENT_UNIT", "ecs.service"),
                pair("HOSTAGENT_PRIORITY", "0"),
                pair("HOSTAGENT_TOOK_MS", "1.5"),
                pair("HOSTAGENT_ERROR", "no\nway"),
            ]
        );
        assert_eq!((kept[1].0, kept[1].1.as_str(), kept[1].2.len()), (log::Level::Error, "plain", 0));
    }

    #[test]
    fn an_event_that_matters_has_its_message_id_and_no_other_has_one() {
        let kept = Kept::default();
        tracing::subscriber::with_default(Registry::default().with(kept.clone()), || {
            tracing::error!(event = events::AGENT_DOWN.name, "down");
            tracing::info!(event = "made up", message_id = "0", "x");
        });
        let names = |n: usize| kept.0.lock().unwrap()[n].2.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>();
        assert_eq!(names(0), ["MESSAGE_ID", "HOSTAGENT_EVENT"]);
        assert_eq!(kept.0.lock().unwrap()[0].2[0].1, events::AGENT_DOWN.id);
        assert_eq!(names(1), ["HOSTAGENT_EVENT", "HOSTAGENT_MESSAGE_ID"]);
    }

    #[test]
    fn names_fit_the_journal() {
        assert_eq!(journal_name("wörld-x"), "HOSTAGENT_W_RLD_X");
        assert_eq!(journal_name(&"a".repeat(100)).len(), 64);
    }

    #[test]
    fn verbosity_opens_our_own_events_first() {
        let on = |verbosity, target: &'static str, level| filter(verbosity).would_enable(target, &level);
        assert!(on(0, "hostagent::act", Level::WARN) && !on(0, "hostagent::act", Level::INFO));
        assert!(on(2, "hostagent::act", Level::DEBUG) && !on(2, "hyper::client", Level::INFO));
        assert!(on(3, "hyper::client", Level::DEBUG) && !on(9, "hyper::client", Level::TRACE));
    }
}
