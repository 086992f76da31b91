//! The settings of the agent that say where it goes and what it keeps: one table for whoever reads and whoever judges.

use std::collections::BTreeMap;

/// Settings by their names, as the container's environment and `ecs.config` hold them.
pub type Env = BTreeMap<String, String>;

macro_rules! settings {
    ($($(#[$doc:meta])* $setting:ident = $name:literal),* $(,)?) => {
        /// A setting that is looked at. An allow list, so that no secret is ever read into a report.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Setting {
            $($(#[$doc])* $setting),*
        }

        impl Setting {
            pub const ALL: &'static [Setting] = &[$(Setting::$setting),*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self {
                    $(Setting::$setting => $name),*
                }
            }
        }
    };
}

settings! {
    Cluster = "ECS_CLUSTER",
    DataDir = "ECS_DATADIR",
    Checkpoint = "ECS_CHECKPOINT",
    DisableMetrics = "ECS_DISABLE_METRICS",
    DisableHealthCheck = "ECS_DISABLE_DOCKER_HEALTH_CHECK",
    External = "ECS_EXTERNAL",
    BackendHost = "ECS_BACKEND_HOST",
    FipsMode = "ECS_FIPS_MODE",
    IpCompatibility = "ECS_INSTANCE_IP_COMPATIBILITY",
    /// The agent's region, where it is not the instance's.
    DefaultRegion = "AWS_DEFAULT_REGION",
    /// Ignored by the agent; shown, because people set it.
    Region = "AWS_REGION",
    EndpointUrl = "AWS_ENDPOINT_URL",
    EndpointUrlEcs = "AWS_ENDPOINT_URL_ECS",
    IgnoreEndpointUrls = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    UseFips = "AWS_USE_FIPS_ENDPOINT",
    UseDualStack = "AWS_USE_DUALSTACK_ENDPOINT",
    HttpsProxy = "HTTPS_PROXY",
    HttpsProxyLower = "https_proxy",
    HttpProxy = "HTTP_PROXY",
    HttpProxyLower = "http_proxy",
    NoProxy = "NO_PROXY",
    NoProxyLower = "no_proxy",
}

impl Setting {
    /// The setting of this name, if it is looked at.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|setting| setting.name() == name)
    }

    /// Its value, trimmed; `None` when it is not set, or empty.
    pub fn of(self, env: &Env) -> Option<&str> {
        env.get(self.name()).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// What the agent makes of it as a Boolean; `None` where that is the agent's default.
    pub fn boolean(self, env: &Env) -> Option<bool> {
        self.of(env).and_then(parse_bool)
    }

    /// Whether its value is a URL, which may hold a user and a password.
    pub fn holds_url(self) -> bool {
        use Setting::*;
        matches!(
            self,
            BackendHost | EndpointUrl | EndpointUrlEcs | HttpsProxy | HttpsProxyLower | HttpProxy | HttpProxyLower
        )
    }
}

/// A Boolean as Go's `strconv.ParseBool` reads it, which the agent uses.
pub fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether an agent with this environment saves its state: as ECS_CHECKPOINT says, else where ECS_DATADIR is set.
pub fn checkpoints(env: &Env) -> bool {
    Setting::Checkpoint.boolean(env).unwrap_or_else(|| Setting::DataDir.of(env).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<&str> = Setting::ALL.iter().map(|setting| setting.name()).collect();
        assert_eq!(names.len(), Setting::ALL.len());
        assert_eq!(Setting::named("ECS_CLUSTER"), Some(Setting::Cluster));
        assert_eq!(Setting::named("AWS_SECRET_ACCESS_KEY"), None);
    }

    #[test]
    fn checkpointing_is_read_as_the_agent_reads_it() {
        for (value, says) in [
            ("1", Some(true)),
            ("t", Some(true)),
            ("T", Some(true)),
            ("true", Some(true)),
            ("TRUE", Some(true)),
            ("True", Some(true)),
            ("0", Some(false)),
            ("f", Some(false)),
            ("F", Some(false)),
            ("false", Some(false)),
            ("FALSE", Some(false)),
            ("False", Some(false)),
            (" false ", Some(false)),
            ("", None),
            ("tRUE", None),
            ("FaLse", None),
            ("no", None),
            ("off", None),
            ("00", None),
            ("yes", None),
        ] {
            let (bare, kept) =
                (env(&[("ECS_CHECKPOINT", value)]), env(&[("ECS_CHECKPOINT", value), ("ECS_DATADIR", "/data")]));
            assert_eq!(Setting::Checkpoint.boolean(&bare), says, "{value:?}");
            assert_eq!(
                (checkpoints(&bare), checkpoints(&kept)),
                (says.unwrap_or(false), says.unwrap_or(true)),
                "{value:?}"
            );
        }
        assert!(!checkpoints(&env(&[("ECS_DATADIR", " ")])));
    }
}
