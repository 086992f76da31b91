//! Where the agent will really dial, by its own settings.
//!
//! The running agent uses the environment its container was made with. Under ecs-init the next start reads
//! `ecs.config` again, so the two may differ; readiness is judged by the next start.
//!
//! Proxies follow the agent's own rule (an old copy of Go's `httpproxy`): `HTTPS_PROXY`, else `HTTP_PROXY`, for
//! API and websockets alike; upper case before lower case; `NO_PROXY` by host name, addresses never resolved.

use super::ownership::Ownership;
use super::services::same_host;
use crate::catalog::{CONTROL_PLANE, Place, Service};
use crate::config::Settings;
use crate::facts::{Fact, Instance, Observation, Presence, Setting, setting::Env};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One control-plane service and how the agent gets there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub service: Service,
    pub host: String,
    pub port: u16,
    /// The proxy in between, if the settings name one for this host.
    pub proxy: Option<Proxy>,
    /// The settings that lead away from the catalog's name, one phrase each.
    pub because: Vec<String>,
}

/// A proxy, without the user name and password its setting may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    /// The setting that names it: `HTTPS_PROXY`.
    pub setting: String,
}

/// Where the running agent goes, and where the next start will go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// `None` when there is no agent, or its environment or the region is not known.
    pub running: Option<Vec<Target>>,
    /// `None` when what the next start reads, or the region, is not known.
    pub next: Option<Vec<Target>>,
}

impl Targets {
    /// Settings of the running agent and of the next start, as far as they were seen.
    pub fn of(observation: &Observation, ownership: &Ownership, settings: &Settings) -> Self {
        let Fact::Known(instance) = &observation.instance else { return Self::default() };
        let agent = &observation.agent;
        let port = settings.network.https_port;
        let container = match agent.presence.known() {
            Some(Presence::Container(c)) => Some(&c.env),
            _ => None,
        };
        let file = agent.config_file.known().map(|f| &f.env);
        let next = match ownership {
            Ownership::EcsInit { .. } | Ownership::HostProcess { .. } => file,
            _ => container,
        };
        // A process of the host shows no environment here; its file is the nearest thing to it.
        let running = match ownership {
            Ownership::HostProcess { .. } => file,
            _ => container,
        };
        let dial = |env: &Env| dialled(env, instance, port);
        Self { running: running.map(dial), next: next.map(dial) }
    }

    /// The targets readiness is judged by.
    pub fn judged(&self) -> &[Target] {
        self.next.as_deref().or(self.running.as_deref()).unwrap_or_default()
    }

    /// Every host and port that has to be looked up and probed for a judgement, each once.
    pub fn hosts(&self) -> Vec<(Service, String, u16)> {
        let all = self.running.iter().chain(&self.next).flatten();
        let mut hosts: Vec<_> = all.map(|t| (t.service, t.host.clone(), t.port)).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// The port at which a host is judged, if it is one of those.
    pub fn port_of(&self, service: Service, host: &str) -> Option<u16> {
        self.judged().iter().find(|t| t.service == service && same_host(&t.host, host)).map(|t| t.port)
    }
}

/// What the catalog's names depend on, for this instance.
pub fn place(instance: &Instance) -> Place<'_> {
    Place {
        region: &instance.region,
        dns_suffix: &instance.dns_suffix,
        account: &instance.account,
        partition: &instance.partition,
    }
}

/// The control-plane targets of an agent with the environment `env`; `port` is that of the endpoints.
pub fn dialled(env: &Env, instance: &Instance, port: u16) -> Vec<Target> {
    let mut place = place(instance);
    let mut because = Vec::new();
    // The agent reads AWS_DEFAULT_REGION; AWS_REGION is ignored by it.
    let setting = Setting::DefaultRegion;
    if let Some(region) = setting.of(env).filter(|region| *region != instance.region) {
        because.push(format!("{}={region} (the instance is in {})", setting.name(), instance.region));
        place.region = region;
    }
    CONTROL_PLANE
        .into_iter()
        .map(|service| {
            let mut target =
                Target { service, host: service.host(&place), port, proxy: None, because: because.clone() };
            if service == Service::Ecs {
                api_host(env, &place, &mut target);
            }
            target.proxy = proxy_for(env, &target.host, target.port);
            target
        })
        .collect()
}

/// The API's host. The websockets' hosts come from DiscoverPollEndpoint and follow none of these settings.
fn api_host(env: &Env, place: &Place<'_>, target: &mut Target) {
    let own = set(env, &[Setting::BackendHost]).or_else(|| {
        let ignored = is_true(env, Setting::IgnoreEndpointUrls);
        set(env, &[Setting::EndpointUrlEcs, Setting::EndpointUrl]).filter(|_| !ignored)
    });
    if let Some((setting, value)) = own {
        let (host, port) = host_and_port(value, target.port);
        target.because.push(format!("{}={host}", setting.name()));
        (target.host, target.port) = (host, port);
        return;
    }
    let fips = is_true(env, Setting::UseFips);
    let ipv6_only = Setting::IpCompatibility.of(env).is_some_and(|v| v.eq_ignore_ascii_case("ipv6"));
    let dual_stack = ipv6_only || is_true(env, Setting::UseDualStack);
    if fips {
        target.because.push("AWS_USE_FIPS_ENDPOINT=true".into());
    }
    if ipv6_only {
        target.because.push("ECS_INSTANCE_IP_COMPATIBILITY=ipv6".into());
    } else if dual_stack {
        target.because.push("AWS_USE_DUALSTACK_ENDPOINT=true".into());
    }
    if fips || dual_stack {
        let name = if fips { "ecs-fips" } else { "ecs" };
        let suffix = if dual_stack { place.dual_stack_suffix() } else { place.dns_suffix };
        target.host = format!("{name}.{}.{suffix}", place.region);
    }
}

/// The first of `settings` that is set and not empty, with its value.
fn set<'e>(env: &'e Env, settings: &[Setting]) -> Option<(Setting, &'e str)> {
    settings.iter().find_map(|setting| Some((*setting, setting.of(env)?)))
}

/// As the AWS SDK reads its own.
fn is_true(env: &Env, setting: Setting) -> bool {
    setting.of(env).is_some_and(|v| v.eq_ignore_ascii_case("true"))
}

/// Host and port of a URL or of a bare `host[:port]`; user information and path are dropped.
fn host_and_port(value: &str, default_port: u16) -> (String, u16) {
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (authority, None),
        },
    };
    let port = port.and_then(|p| p.parse().ok()).unwrap_or(default_port);
    (host.trim_end_matches('.').to_ascii_lowercase(), port)
}

/// In the order in which the agent looks for one.
const PROXIES: [Setting; 4] =
    [Setting::HttpsProxy, Setting::HttpsProxyLower, Setting::HttpProxy, Setting::HttpProxyLower];

/// The proxy the agent would use for `https://host:port`.
pub fn proxy_for(env: &Env, host: &str, port: u16) -> Option<Proxy> {
    let (setting, value) = set(env, &PROXIES)?;
    let no_proxy = set(env, &[Setting::NoProxy, Setting::NoProxyLower]).map_or("", |v| v.1);
    if bypasses(no_proxy, host, port) {
        return None;
    }
    let default_port = match value.split_once("://").map(|(scheme, _)| scheme) {
        Some("https") => 443,
        Some("socks5") => 1080,
        _ => 80,
    };
    let (host, port) = host_and_port(value, default_port);
    Some(Proxy { host, port, setting: setting.name().into() })
}

/// Whether `NO_PROXY` takes `host:port` past the proxy.
fn bypasses(no_proxy: &str, host: &str, port: u16) -> bool {
    let host = host.to_ascii_lowercase();
    let ip: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(|p| p.trim().to_ascii_lowercase()).filter(|p| !p.is_empty()).any(|pattern| {
        if pattern == "*" {
            return true;
        }
        if let Ok(block) = pattern.parse::<IpNet>() {
            return ip.is_some_and(|ip| block.contains(&ip));
        }
        let (name, only_port) = match pattern.rsplit_once(':') {
            Some((name, p)) if !name.contains(':') => (name, p.parse::<u16>().ok()),
            _ => (pattern.as_str(), None),
        };
        if only_port.is_some_and(|p| p != port) {
            return false;
        }
        if let Ok(other) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return ip == Some(other);
        }
        // "foo.com" covers itself and what is below it, ".foo.com" and "*.foo.com" only what is below.
        let name = name.strip_prefix('*').unwrap_or(name);
        match name.strip_prefix('.') {
            Some(_) => host.ends_with(name),
            None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        Instance {
            instance_id: "i-0f00dfacade00001".into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            partition: "aws".into(),
            dns_suffix: "amazonaws.com".into(),
            availability_zone: "eu-west-1a".into(),
            vpc_cidrs: vec![],
        }
    }

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn api(pairs: &[(&str, &str)]) -> String {
        let target = dialled(&env(pairs), &instance(), 443).remove(0);
        format!("{}:{}", target.host, target.port)
    }

    #[test]
    fn the_api_host_follows_the_settings() {
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[], "ecs.eu-west-1.amazonaws.com:443"),
            (&[("ECS_BACKEND_HOST", "")], "ecs.eu-west-1.amazonaws.com:443"),
            (&[("AWS_DEFAULT_REGION", "eu-central-1")], "ecs.eu-central-1.amazonaws.com:443"),
            (&[("ECS_BACKEND_HOST", "https://vpce-1.ecs.test:8443/x")], "vpce-1.ecs.test:8443"),
            (&[("ECS_BACKEND_HOST", "a.test"), ("AWS_USE_FIPS_ENDPOINT", "true")], "a.test:443"),
            (&[("AWS_USE_FIPS_ENDPOINT", "true")], "ecs-fips.eu-west-1.amazonaws.com:443"),
            (&[("ECS_INSTANCE_IP_COMPATIBILITY", "ipv6")], "ecs.eu-west-1.api.aws:443"),
            (&[("AWS_ENDPOINT_URL_ECS", "https://b.test")], "b.test:443"),
        ];
        for (pairs, expected) in cases {
            assert_eq!(api(pairs), expected, "{pairs:?}");
        }
        let moved = dialled(&env(&[("AWS_USE_FIPS_ENDPOINT", "true")]), &instance(), 443);
        assert_eq!(moved[0].because, ["AWS_USE_FIPS_ENDPOINT=true"]);
        assert_eq!(moved[1].host, "ecs-a.eu-west-1.amazonaws.com");
        assert!(moved[1].because.is_empty());
    }

    #[test]
    fn no_proxy_is_read_as_the_agent_reads_it() {
        let host = "ecs-a.eu-west-1.amazonaws.com";
        for (no_proxy, bypassed) in [
            ("", false),
            ("169.254.169.254,169.254.170.2", false),
            ("amazonaws.com", true),
            (".amazonaws.com", true),
            ("*.amazonaws.com", true),
            ("azonaws.com", false),
            (".ecs-a.eu-west-1.amazonaws.com", false),
            ("ECS-A.eu-west-1.amazonaws.com", true),
            ("ecs-a.eu-west-1.amazonaws.com:443", true),
            ("ecs-a.eu-west-1.amazonaws.com:8443", false),
            ("10.50.0.0/16", false),
            (" x , * ", true),
        ] {
            let env = env(&[("HTTPS_PROXY", "http://u:secret@proxy.corp:3128"), ("NO_PROXY", no_proxy)]);
            assert_eq!(proxy_for(&env, host, 443).is_none(), bypassed, "{no_proxy:?}");
        }
        assert!(bypasses("10.50.0.0/16", "10.50.1.10", 443));
        assert!(!bypasses("10.50.1.11", "10.50.1.10", 443));
    }

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let env = env(&[("http_proxy", "http://u:secret@Proxy.corp:3128/"), ("https_proxy", "")]);
        let proxy = proxy_for(&env, "ecs.eu-west-1.amazonaws.com", 443).unwrap();
        assert_eq!(proxy, Proxy { host: "proxy.corp".into(), port: 3128, setting: "http_proxy".into() });
    }
}
