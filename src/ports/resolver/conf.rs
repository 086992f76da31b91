//! `resolv.conf` and the hosts file, read as the host's own resolver reads them. Pure.

use std::{net::IpAddr, time::Duration};

/// What of `resolv.conf` a look-up of an absolute name needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// At most three, in order: further ones are never asked, as in glibc.
    pub servers: Vec<IpAddr>,
    /// Time for one server in one round.
    pub timeout: Duration,
    /// Rounds through the servers.
    pub attempts: usize,
    pub edns0: bool,
    /// `options use-vc`: TCP only.
    pub tcp_only: bool,
}

/// What is wrong with a `resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConfError {
    #[error("names no name server")]
    NoServer,
    #[error("line {line}: \"{text}\" is not the address of a name server")]
    BadServer { line: usize, text: String },
    #[error("line {line}: \"{text}\": a name server with a zone cannot be asked; set network.resolver")]
    Zone { line: usize, text: String },
    #[error("line {line}: option \"{text}\" needs a number")]
    BadOption { line: usize, text: String },
}

impl Default for ResolvConf {
    /// glibc's defaults.
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Duration::from_secs(5), attempts: 2, edns0: false, tcp_only: false }
    }
}

const MAX_SERVERS: usize = 3;
const MAX_TIMEOUT_S: u64 = 30;
const MAX_ATTEMPTS: u64 = 5;

/// Reads `resolv.conf`. Keywords that do not matter to absolute names are passed over; a broken line is an error,
/// because asking fewer servers than the host does would be a guess.
pub(super) fn parse_resolv_conf(text: &str) -> Result<ResolvConf, ConfError> {
    let mut conf = ResolvConf::default();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let server = parse_server(line_number, words.next().unwrap_or_default())?;
                if conf.servers.len() < MAX_SERVERS {
                    conf.servers.push(server);
                }
            }
            Some("options") => {
                for option in words {
                    apply_option(&mut conf, line_number, option)?;
                }
            }
            _ => {}
        }
    }
    if conf.servers.is_empty() { Err(ConfError::NoServer) } else { Ok(conf) }
}

fn parse_server(line: usize, text: &str) -> Result<IpAddr, ConfError> {
    text.parse().map_err(|_| match text.split_once('%') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => ConfError::Zone { line, text: text.to_owned() },
        _ => ConfError::BadServer { line, text: text.chars().take(60).collect() },
    })
}

fn apply_option(conf: &mut ResolvConf, line: usize, option: &str) -> Result<(), ConfError> {
    let number = |value: &str| {
        value.parse::<u64>().map_err(|_| ConfError::BadOption { line, text: option.chars().take(60).collect() })
    };
    match option.split_once(':') {
        Some(("timeout", value)) => conf.timeout = Duration::from_secs(number(value)?.clamp(1, MAX_TIMEOUT_S)),
        Some(("attempts", value)) => conf.attempts = number(value)?.clamp(1, MAX_ATTEMPTS) as usize,
        None if option == "edns0" => conf.edns0 = true,
        None if option == "use-vc" => conf.tcp_only = true,
        _ => {}
    }
    Ok(())
}

/// The addresses the hosts file gives a name; empty when it does not name it. Lines that do not begin with an
/// address are passed over: that is what glibc and Go do with them.
pub(super) fn hosts_lookup(text: &str, host: &str) -> Vec<IpAddr> {
    let plain = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let host = plain(host);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next().unwrap_or_default();
        let address = address.split('%').next().unwrap_or_default();
        let Ok(ip) = address.parse::<IpAddr>() else { continue };
        let ip = ip.to_canonical();
        if words.any(|name| plain(name) == host) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn servers(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn resolv_conf_forms() {
        let conf = parse_resolv_conf(
            "; made by dhcp\n# x\nsearch eu-west-1.compute.internal\n\
             nameserver 10.50.0.2\nnameserver\tfd00:ec2::253 # x\n\
             options timeout:2 attempts:5 rotate ndots:4 edns0\n",
        )
        .unwrap();
        assert_eq!(conf.servers, servers(&["10.50.0.2", "fd00:ec2::253"]));
        assert_eq!((conf.timeout, conf.attempts, conf.edns0), (Duration::from_secs(2), 5, true));
        let conf = parse_resolv_conf("nameserver 10.0.0.1\noptions timeout:900 attempts:0 use-vc").unwrap();
        assert_eq!((conf.timeout, conf.attempts, conf.tcp_only), (Duration::from_secs(30), 1, true));
        let conf = parse_resolv_conf("nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4");
        assert_eq!(conf.unwrap().servers.len(), 3);
    }

    #[test]
    fn broken_resolv_conf_names_the_line() {
        let words = |text: &str| parse_resolv_conf(text).unwrap_err().to_string();
        assert_eq!(words("search lan\n"), "names no name server");
        assert_eq!(words(""), "names no name server");
        assert_eq!(words("\nnameserver dns.lan"), "line 2: \"dns.lan\" is not the address of a name server");
        assert_eq!(words("nameserver"), "line 1: \"\" is not the address of a name server");
        assert_eq!(
            words("nameserver 10.0.0.2\noptions timeout:soon"),
            "line 2: option \"timeout:soon\" needs a number"
        );
        assert!(words("nameserver fe80::1%eth0").contains("a name server with a zone cannot be asked"));
    }

    #[test]
    fn hosts_forms() {
        let text = "127.0.0.1 localhost\n10.50.1.10\tecs.eu-west-1.amazonaws.com ecs # ecs.example\n\
                    broken ecs.eu-west-1.amazonaws.com\n::ffff:10.50.1.11 ECS.eu-west-1.amazonaws.com.\n\
                    2001:db8::5 ecs.eu-west-1.amazonaws.com\n";
        let found = hosts_lookup(text, "ecs.EU-west-1.amazonaws.com");
        assert_eq!(found, servers(&["10.50.1.10", "10.50.1.11", "2001:db8::5"]));
        assert!(hosts_lookup(text, "ecs.example").is_empty());
        assert!(hosts_lookup("10.0.0.1", "10.0.0.1").is_empty(), "an address alone names nobody");
    }

    proptest! {
        #[test]
        fn never_panics_on_garbage(text in "\\PC{0,200}", lines in prop::collection::vec(
            "(nameserver|options|#|;|search)[ \t]{0,2}[0-9a-f:.%]{0,20}", 0..6)) {
            let _ = parse_resolv_conf(&text);
            let _ = parse_resolv_conf(&lines.join("\n"));
            let _ = hosts_lookup(&text, "a.b");
            let _ = hosts_lookup(&lines.join("\n"), "");
        }
    }
}
