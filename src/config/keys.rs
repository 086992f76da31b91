//! Every key once: its name, what it allows and where it goes. Parsing, error messages,
//! suggestions, `config show` and the tests of the default file all read this table.

use super::{Settings, values as v};
use toml::{Spanned, de::DeValue};

/// Writes a checked value into the settings.
pub(super) type Set = Box<dyn FnOnce(&mut Settings)>;

pub(super) struct Key {
    /// `section.key`
    pub name: &'static str,
    /// What is allowed, in words that follow "allowed: ".
    pub allowed: &'static str,
    pub parse: fn(&Spanned<DeValue<'_>>) -> v::Parsed<Set>,
}

impl Key {
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }

    pub fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }
}

/// One row: the field of the settings, what it allows, how it is read.
macro_rules! keys {
    ($($section:ident . $field:ident, $allowed:literal, $parse:expr;)*) => {
        &[$(Key {
            name: concat!(stringify!($section), ".", stringify!($field)),
            allowed: $allowed,
            parse: |value| {
                let checked = $parse(value)?;
                Ok(Box::new(move |settings: &mut Settings| settings.$section.$field = checked))
            },
        }),*]
    };
}

pub(super) const KEYS: &[Key] = keys! {
    agent.container, "a container name: letters, digits, '_', '.' and '-', at most 128", v::container;
    agent.units, "a list of 1 to 16 service unit names such as \"ecs.service\"", v::units;
    agent.introspection, "\"http://HOST:PORT\", nothing after it", v::http_url;
    agent.config_file, "an absolute path", v::path;
    agent.cache_dir, "an absolute path", v::path;
    agent.credentials_port, "a port from 1 to 65535", v::port;
    docker.host, "\"unix:///PATH\" of the engine's socket", v::unix_url;
    network.endpoint_cidrs, "a list of at most 256 CIDR blocks such as \"10.9.0.0/16\"", v::cidrs;
    network.public_cidrs, "a list of at most 256 CIDR blocks such as \"100.64.0.0/10\"", v::cidrs;
    network.resolver, "\"ADDRESS\" or \"ADDRESS:PORT\" of a name server, or \"\" for the host's own", v::resolver;
    network.resolv_conf, "an absolute path", v::path;
    network.hosts_file, "an absolute path", v::path;
    network.https_port, "a port from 1 to 65535", v::port;
    network.dns_timeout_ms, "milliseconds, from 10 to 60000", |value| v::integer(value, 10..=60_000);
    network.probe_timeout_ms, "milliseconds, from 10 to 60000", |value| v::integer(value, 10..=60_000);
    network.discover, "true or false", v::boolean;
    instance.imds, "\"http://HOST\" or \"http://HOST:PORT\", nothing after it", v::http_url;
    confirm.samples, "a count from 2 to 100 (one look-up proves nothing)", |value| v::integer_u32(value, 2..=100);
    confirm.min_spread_s, "seconds, from 1 to 3600", |value| v::integer(value, 1..=3_600);
    restart.task_wait_s, "seconds, from 0 (do not wait) to 86400", |value| v::integer(value, 0..=86_400);
    restart.deadline_s, "seconds, from 1 to 3600", |value| v::integer(value, 1..=3_600);
    restart.hold_s, "seconds, from 1 to 3600", |value| v::integer(value, 1..=3_600);
    restart.docker_stop_timeout_s, "seconds, from 1 to 600", |value| v::integer_u32(value, 1..=600);
    restart.budget_per_day, "a count from 0 (never restart) to 100", |value| v::integer_u32(value, 0..=100);
    restart.cool_down_s, "seconds, from 0 to 604800 (a week)", |value| v::integer(value, 0..=604_800);
    watch.on_ready, "\"restart\", \"report\" or \"rollout\"", v::on_ready;
    watch.splay_max_s, "seconds, from 0 (at once) to 86400", |value| v::integer(value, 0..=86_400);
    watch.settled_interval_s, "seconds, from 5 to 86400", |value| v::integer(value, 5..=86_400);
    watch.window, "a list of at most 32 texts such as \"Mon-Fri 22:00-04:00 Europe/Berlin\"", v::windows;
    watch.hooks_dir, "an absolute path", v::path;
    watch.pause_file, "an absolute path", v::path;
    watch.metrics_file, "an absolute path, or \"\" for none", v::optional_path;
    watch.inventory, "\"auto\", \"off\" or an absolute path", v::inventory;
    fleet.brake, "\"required\", \"if-available\" or \"off\"", v::brake;
    fleet.calendars, "a list of at most 10 names or ARNs of Change Calendars", v::calendars;
    fleet.compliance, "true or false", v::boolean;
    fleet.rollout_role, "the ARN of an IAM role, or \"\" for none", v::optional_role;
    paths.state_dir, "an absolute path", v::path;
    paths.runtime_dir, "an absolute path", v::path;
};

/// The sections, each once, in the order of the table.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().map(Key::section).filter(move |section| {
        let new = *section != last;
        last = section;
        new
    })
}

pub(super) fn find(section: &str, leaf: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section() == section && key.leaf() == leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_field_of_the_settings_in_order() {
        let value = serde_json::to_value(Settings::default()).unwrap();
        let mut fields: Vec<String> = Vec::new();
        for (section, keys) in value.as_object().unwrap() {
            fields.extend(keys.as_object().unwrap().keys().map(|key| format!("{section}.{key}")));
        }
        let mut table: Vec<String> = KEYS.iter().map(|key| key.name.into()).collect();
        table.sort();
        fields.sort();
        assert_eq!(table, fields);
        assert_eq!(
            sections().collect::<Vec<_>>(),
            ["agent", "docker", "network", "instance", "confirm", "restart", "watch", "fleet", "paths"]
        );
    }
}
