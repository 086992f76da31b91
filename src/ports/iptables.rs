//! The host's NAT table, read with the `iptables` program the agent's supervisor wrote it with.

use super::{
    Nat,
    words::{Span, excerpt, io_words},
};
use crate::facts::{CredentialRules, Missing};
use async_trait::async_trait;
use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::UnixStream, process::Command, time::timeout};

type Result<T> = std::result::Result<T, Missing>;

/// Where the program is looked for, whatever PATH we were started with.
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";
/// Two seconds of waiting for the lock others may hold.
const ARGUMENTS: [&str; 5] = ["-w", "2", "-t", "nat", "-S"];
const CREDENTIALS_IP: &str = "169.254.170.2";
/// Where hostagent-nat.socket listens, for a service that may not read the rules itself.
const SOCKET: &str = "/run/hostagent/nat.sock";
/// The last line of what it prints: the listing did not break off.
const WHOLE: &str = "# whole";
/// No listing is larger than this many bytes.
const LARGEST: u64 = 4 << 20;
/// CAP_NET_ADMIN, as a bit of a capability set.
const NET_ADMIN: u64 = 1 << 12;

/// Runs `iptables` and counts the two rules of the credential endpoint.
#[derive(Debug, Clone)]
pub struct IptablesNat {
    port: u16,
    deadline: Duration,
    path: String,
    socket: PathBuf,
}

impl IptablesNat {
    /// `port` is the credential endpoint's on the host. `deadline` bounds the program's run, lock included.
    pub fn new(port: u16, deadline: Duration) -> Self {
        Self::with_path(port, deadline, PATH)
    }

    /// As [`IptablesNat::new`], with other directories to look in, separated by colons.
    pub fn with_path(port: u16, deadline: Duration, path: &str) -> Self {
        Self { port, deadline, path: path.to_owned(), socket: SOCKET.into() }
    }

    /// What hostagent-nat.socket prints.
    async fn listing(&self) -> Result<String> {
        let missing =
            |why: String, hint: &str| Missing::new(format!("NAT rules ({})", self.socket.display()), why, hint);
        let read = async {
            let mut text = String::new();
            let stream = UnixStream::connect(&self.socket).await?;
            stream.take(LARGEST).read_to_string(&mut text).await.map(|_| text)
        };
        match timeout(self.deadline, read).await {
            Ok(Ok(text)) if text.trim_end().ends_with(WHOLE) => Ok(text),
            Ok(Ok(_)) => Err(missing("the listing is not whole".into(), "journalctl -u 'hostagent-nat@*'")),
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(missing(io_words(&error), "run as root"))
            }
            Ok(Err(error)) => Err(missing(io_words(&error), "systemctl status hostagent-nat.socket")),
            Err(_) => Err(missing(
                format!("no answer within {}", Span(self.deadline)),
                "see which program holds the iptables lock",
            )),
        }
    }

    fn count(&self, text: &str) -> Result<CredentialRules> {
        count_rules(text, self.port).map_err(|line| {
            let why = format!("a line that is no rule: {}", excerpt(&line, 60));
            Missing::new("NAT rules (iptables -t nat -S)", why, "see what iptables prints there")
        })
    }
}

/// Whether this process may read the rules. Where that cannot be told, trying tells.
fn may_read() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.map_or(true, |status| status.capeff & NET_ADMIN != 0)
}

#[async_trait]
impl Nat for IptablesNat {
    async fn credential_rules(&self) -> Result<CredentialRules> {
        // Sandboxed as hostagent.service is, or an ordinary user.
        if Path::exists(&self.socket) && !may_read() {
            return self.count(&self.listing().await?);
        }
        let missing = |why: String, hint: &str| Missing::new("NAT rules (iptables -t nat -S)", why, hint);
        let find =
            |name: &str| self.path.split(':').map(|dir| PathBuf::from(dir).join(name)).find(|file| file.is_file());
        let program = find("iptables").ok_or_else(|| {
            missing(format!("there is no iptables in {}", self.path), "install iptables, or read the rules with nft")
        })?;
        let run = Command::new(&program)
            .args(ARGUMENTS)
            .env_clear()
            .env("PATH", &self.path)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = match timeout(self.deadline, run).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(missing(format!("{} may not be run", program.display()), "run as root"));
            }
            Ok(Err(error)) => return Err(missing(format!("{}: {}", program.display(), io_words(&error)), "")),
            Err(_) => {
                let why = format!("no answer within {}", Span(self.deadline));
                return Err(missing(why, "see which program holds the iptables lock"));
            }
        };
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let first = stderr.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no message");
            let denied = first.to_ascii_lowercase().contains("permission denied");
            return Err(missing(format!("{first} ({})", output.status), if denied { "run as root" } else { "" }));
        }
        self.count(&String::from_utf8_lossy(&output.stdout))
    }
}

/// Counts the two rules in the output of `iptables -t nat -S`; the first line that is none of its kind otherwise.
///
/// Only whole rules count: one that asks for more (a source, an interface) does not serve every task.
fn count_rules(text: &str, port: u16) -> std::result::Result<CredentialRules, String> {
    let mut rules = CredentialRules { prerouting: 0, output: 0 };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if !line.starts_with("-P ") && !line.starts_with("-N ") && !line.starts_with("-A ") {
            return Err(line.to_owned());
        }
        match credential_rule(&words(line), port) {
            Some(Chain::Prerouting) => rules.prerouting += 1,
            Some(Chain::Output) => rules.output += 1,
            None => {}
        }
    }
    Ok(rules)
}

enum Chain {
    Prerouting,
    Output,
}

fn credential_rule(words: &[String], port: u16) -> Option<Chain> {
    let (mut destination, mut protocol, mut dport, mut target) = (false, false, false, false);
    let (chain, jump, to) = match (words.first()?.as_str(), words.get(1)?.as_str()) {
        ("-A", "PREROUTING") => (Chain::Prerouting, "DNAT", format!("127.0.0.1:{port}")),
        ("-A", "OUTPUT") => (Chain::Output, "REDIRECT", port.to_string()),
        _ => return None,
    };
    let mut jumps = false;
    let mut rest = words.get(2..)?.chunks_exact(2);
    for pair in &mut rest {
        match (pair[0].as_str(), pair[1].as_str()) {
            ("-d" | "--destination", ip) if ip.strip_suffix("/32").unwrap_or(ip) == CREDENTIALS_IP => {
                destination = true
            }
            ("-p" | "--protocol", "tcp" | "6") => protocol = true,
            ("--dport" | "--destination-port", "80") => dport = true,
            ("-m" | "--match", "tcp" | "comment") | ("--comment", _) => {}
            ("-j" | "--jump", name) if name == jump => jumps = true,
            ("--to-destination", value) if jump == "DNAT" && value == to => target = true,
            ("--to-ports" | "--to-port", value) if jump == "REDIRECT" && value == to => target = true,
            _ => return None,
        }
    }
    let whole = rest.remainder().is_empty() && destination && protocol && dport && jumps && target;
    whole.then_some(chain)
}

/// Splits at blanks; double quotes keep a comment together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut escaped) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            c if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREROUTING: &str =
        "-A PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679";
    const OUTPUT: &str = "-A OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679";

    fn count(lines: &[&str]) -> (u32, u32) {
        let rules = count_rules(&lines.join("\n"), 51679).unwrap();
        (rules.prerouting, rules.output)
    }

    #[test]
    fn rules_are_counted() {
        let head =
            "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n-N DOCKER\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER";
        assert_eq!(count(&[head]), (0, 0));
        assert_eq!(count(&[head, PREROUTING, OUTPUT]), (1, 1));
        assert_eq!(count(&[PREROUTING, OUTPUT, OUTPUT]), (1, 2));
        assert_eq!(count(&["# Warning: iptables-legacy tables present", OUTPUT]), (0, 1));
        assert_eq!(count(&[]), (0, 0));
        let commented = PREROUTING.replace("-j DNAT", "-m comment --comment \"tasks \\\" roles\" -j DNAT");
        assert_eq!(count(&[&commented]), (1, 0));
    }

    #[test]
    fn other_rules_do_not_count() {
        for (from, to) in [
            ("169.254.170.2", "169.254.170.3"),
            ("--dport 80", "--dport 8080"),
            ("51679", "51680"),
            ("-p tcp", "-p udp"),
            ("-d 169", "-s 10.0.0.0/8 -d 169"),
            ("-d 169", "! -d 169"),
            ("PREROUTING", "POSTROUTING"),
            ("OUTPUT", "DOCKER_OUTPUT"),
            ("-j ", "-g "),
            (" -m tcp --dport 80", ""),
        ] {
            let rules = [PREROUTING.replace(from, to), OUTPUT.replace(from, to)];
            let changed: Vec<&str> =
                rules.iter().filter(|r| *r != PREROUTING && *r != OUTPUT).map(String::as_str).collect();
            assert_eq!(count(&changed), (0, 0), "{from} → {to}");
        }
    }

    #[tokio::test]
    async fn a_listing_from_the_socket_counts_only_when_it_is_whole() {
        use tokio::io::AsyncWriteExt;
        for (text, expected) in [
            (format!("{PREROUTING}\n{OUTPUT}\n{WHOLE}\n"), Some((1, 1))),
            (format!("{PREROUTING}\n"), None),
            (String::new(), None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("nat.sock");
            let listener = tokio::net::UnixListener::bind(&socket).unwrap();
            let nat = IptablesNat { socket, ..IptablesNat::new(51679, Duration::from_secs(5)) };
            let serve = async { listener.accept().await.unwrap().0.write_all(text.as_bytes()).await.unwrap() };
            let (listing, ()) = tokio::join!(nat.listing(), serve);
            let counted = listing.and_then(|text| nat.count(&text)).map(|r| (r.prerouting, r.output));
            assert_eq!(counted.ok(), expected, "{text}");
        }
        let gone =
            IptablesNat { socket: "/nowhere/nat.sock".into(), ..IptablesNat::new(51679, Duration::from_secs(5)) };
        assert!(gone.listing().await.unwrap_err().to_string().contains("hostagent-nat.socket"));
    }

    #[test]
    fn what_is_no_rule_is_said() {
        assert_eq!(count_rules("<html>\n", 51679), Err("<html>".into()));
    }

    proptest! {
        #[test]
        fn never_panics_on_garbage(text in "\\PC{0,120}", tail in "[-a-zA-Z0-9 \"\\\\.:/!]{0,80}") {
            let _ = count_rules(&text, 51679);
            let _ = count_rules(&format!("-A PREROUTING {tail}"), 51679);
            let _ = count_rules(&format!("-A {tail}"), 51679);
        }
    }
}
