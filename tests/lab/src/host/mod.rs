//! A whole container instance in a container: real systemd, journald and Docker Engine, the region in a network
//! namespace of its own, and the agent kept by whoever the test wants.
//!
//! [`Host::start`] gives a host whose agent is registered and holds its websockets. Nothing is left when the
//! [`Host`] is dropped. The engine of this machine must answer; see `tests/run`.

mod archive;
pub mod cli;
mod command;
mod image;
mod inspect;
mod overlay;
pub mod packages;
mod paths;
mod slots;
mod snapshot;
mod world;

pub use command::Output;
pub use inspect::{Container, CredentialRules, Unit};
pub use overlay::FOREIGN_UNIT;
pub use slots::Slot;
pub use snapshot::Snapshot;

use crate::region::{place::INSTANCE, switch::Change};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use command::{Run, run};
use std::{
    env,
    io::{ErrorKind, Write},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// From the start of the container until its systemd says that all boot jobs are done.
const BOOT: Duration = Duration::from_secs(120);
/// Set to `no-host` to leave out the tests that need a host.
const CHOICE: &str = "HOSTAGENT_TESTS";

/// The agent's version unless a test wants another.
const AGENT_VERSION: &str = "1.105.1";

/// Settings with shorter waits than the defaults, none of which lies inside an outage; the order and number of looks
/// stay as they are.
pub const IMPATIENT: &str = "\
[confirm]
min_spread_s = 1
[restart]
task_wait_s = 2
hold_s = 1
deadline_s = 20
";

/// Who keeps the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Supervisor {
    /// ecs.service, as on Amazon's images.
    #[default]
    EcsInit,
    /// The engine alone: `docker run --restart=on-failure:10`.
    BareDocker,
    /// A unit of the user's own, [`FOREIGN_UNIT`].
    Foreign,
    /// Nobody: there is no agent.
    None,
}

/// What the host is to be.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// An image made from another host; the lab's own if there is none.
    pub image: Option<Arc<Snapshot>>,
    /// The instance ID its metadata service tells.
    pub instance_id: String,
    pub supervisor: Supervisor,
    /// The version the agent says it is of.
    pub agent_version: String,
    /// Further agent versions whose archives lie in `/var/cache/ecs`.
    pub staged: Vec<String>,
    /// Whether a new agent container finds the state of the old one.
    pub persisted: bool,
    /// Further lines of `/etc/ecs/ecs.config`, such as a proxy.
    pub ecs_config: Vec<(String, String)>,
    /// A drop-in of hostagent's configuration, in TOML, over the lab's own.
    pub hostagent: String,
    /// Whether three workload containers run beside the agent.
    pub workloads: bool,
    /// Further files, as (absolute path, content).
    pub files: Vec<(String, String)>,
    /// Switches of the region that are thrown before the agent starts.
    pub region: Vec<Change>,
    /// Whether to wait until the agent is connected.
    pub await_agent: bool,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            image: None,
            instance_id: INSTANCE.into(),
            supervisor: Supervisor::default(),
            agent_version: AGENT_VERSION.into(),
            staged: Vec::new(),
            persisted: true,
            ecs_config: Vec::new(),
            hostagent: String::new(),
            workloads: true,
            files: Vec::new(),
            region: Vec::new(),
            await_agent: true,
        }
    }
}

/// A running host; removed when dropped, with the end of its journal shown if the test is failing.
pub struct Host {
    id: String,
    share: TempDir,
    runtime: Runtime,
    _slot: Slot,
}

/// Runs a test on a host, or says that it is left out when `HOSTAGENT_TESTS=no-host`.
pub fn on_host(options: HostOptions, test: impl FnOnce(&mut Host)) {
    if left_out() {
        return;
    }
    test(&mut Host::start(options));
}

/// As [`on_host`], on several hosts that run at the same time.
pub fn on_hosts(options: Vec<HostOptions>, test: impl FnOnce(&mut [Host])) {
    if left_out() {
        return;
    }
    let slots = Slot::take_together(options.len());
    let start = |(options, slot): (&HostOptions, Slot)| match Host::in_slot(options, slot) {
        Ok(host) => host,
        Err(error) => panic!("no host for this test: {error:#} ({CHOICE}=no-host leaves such tests out)"),
    };
    let mut hosts: Vec<Host> = options.iter().zip(slots).map(start).collect();
    test(&mut hosts);
}

/// Whether the user left the tests on hosts out; says so.
pub fn left_out() -> bool {
    let left_out = env::var(CHOICE).is_ok_and(|choice| choice == "no-host");
    if left_out {
        let name = thread::current().name().unwrap_or("a test").to_owned();
        // Past the test harness, which would keep a passing test's words to itself.
        let _ = writeln!(std::io::stderr(), "left out because {CHOICE}=no-host: {name}");
    }
    left_out
}

impl Host {
    /// Starts a host and waits until it is ready. Panics with the reason if there is none to be had.
    #[track_caller]
    pub fn start(options: HostOptions) -> Self {
        match Self::try_start(&options) {
            Ok(host) => host,
            Err(error) => panic!("no host for this test: {error:#} ({CHOICE}=no-host leaves such tests out)"),
        }
    }

    /// Starts a host and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When the engine does not answer, the image cannot be built, or the host does not become ready in time.
    pub fn try_start(options: &HostOptions) -> Result<Self> {
        Self::in_slot(options, Slot::take())
    }

    fn in_slot(options: &HostOptions, slot: Slot) -> Result<Self> {
        run("docker", &["version", "--format", "{{.Server.Version}}"])
            .context("the host tests need a Docker engine that answers `docker version`")?;
        slots::remove_orphans();
        let image = match &options.image {
            Some(snapshot) => snapshot.image().to_owned(),
            None => image::ensure()?,
        };
        let programs = paths::programs()?;
        let share = tempfile::Builder::new().prefix("hostagent-lab-").tempdir()?;
        for directory in ["overlay", "region"] {
            std::fs::create_dir(share.path().join(directory))?;
        }
        overlay::write(&share.path().join("overlay"), options)?;
        let booted = boot_socket(share.path())?;
        let share_text = share.path().to_str().context("the temporary directory's path is not UTF-8")?;
        let programs = programs.to_str().context("the target directory's path is not UTF-8")?;
        let packages = paths::packages()?;
        let packages = packages.to_str().context("the target directory's path is not UTF-8")?;
        let owner = format!("{}={}", slots::LABEL, slots::owner()?);
        let volumes = [
            format!("{programs}:/opt/lab:ro"),
            format!("{packages}:{}:ro", packages::DIRECTORY),
            format!("{share_text}/overlay:/opt/overlay:ro"),
            format!("{share_text}/region:/opt/region"),
            format!("{share_text}/booted:/opt/booted"),
            "/var/lib/docker".to_owned(),
            "/var/lib/containerd".to_owned(),
        ];
        let mut arguments = vec![
            "run",
            "--detach",
            "--label",
            &owner,
            "--hostname=ip-10-50-0-20",
            "--network=none",
            "--cgroupns=private",
            "--cap-add=ALL",
            "--cap-drop=SYS_RESOURCE",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
            "--security-opt=systempaths=unconfined",
            "--tmpfs=/run:exec",
            "--tmpfs=/tmp:exec",
            // systemd tells whoever started it when the boot is done.
            "--env=NOTIFY_SOCKET=/opt/booted",
        ];
        arguments.extend(volumes.iter().flat_map(|volume| ["--volume", volume]));
        arguments.push(&image);
        let id = run("docker", &arguments).context("could not start a host")?.trim().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let host = Self { id, share, runtime, _slot: slot };
        match host.become_ready(&booted, options) {
            Ok(()) => Ok(host),
            Err(error) => bail!("{error:#}\n{}", host.journal_tail()),
        }
    }

    fn become_ready(&self, booted: &UnixDatagram, options: &HostOptions) -> Result<()> {
        await_boot(booted).with_context(|| format!("the host did not boot within {BOOT:?}"))?;
        let state = self.exec(&["systemctl", "is-system-running"]);
        if state.stdout.trim() != "running" {
            let failed = self.exec(&["systemctl", "--failed", "--plain", "--no-legend"]).stdout;
            bail!("the host booted, but is {}: {failed}", state.stdout.trim());
        }
        if matches!(options.supervisor, Supervisor::BareDocker | Supervisor::Foreign) {
            self.credential_routes()?;
        }
        if options.supervisor == Supervisor::BareDocker {
            self.must(&["docker", "load", "--quiet", "--input", "/var/cache/ecs/ecs-agent.tar"])?;
            let arguments = overlay::docker_run(options, &["--detach", "--restart=on-failure:10"]);
            let arguments: Vec<&str> = ["docker"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
            self.must(&arguments)?;
        }
        if options.supervisor != Supervisor::None && options.await_agent {
            self.try_await_agent(0)?;
        }
        Ok(())
    }

    /// The routes that AWS's documentation has people lay by hand where there is no ecs-init.
    fn credential_routes(&self) -> Result<()> {
        self.must(&["sysctl", "-q", "-w", "net.ipv4.conf.all.route_localnet=1"])?;
        let prerouting = "iptables -t nat -A PREROUTING -p tcp -d 169.254.170.2 --dport 80 -j DNAT \
                          --to-destination 127.0.0.1:51679";
        let output = "iptables -t nat -A OUTPUT -d 169.254.170.2 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679";
        for line in [prerouting, output] {
            self.must(&line.split_whitespace().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Cuts the power, and switches it on again: every process of the host ends at once, `/run` and `/tmp` are empty
    /// afterwards, everything else is as it was. The region is started anew with it, with the switches in
    /// `/etc/lab-switches` thrown. Returns when systemd says that all boot jobs are done.
    #[track_caller]
    pub fn cut_power(&self) {
        let cut = || -> Result<()> {
            run("docker", &["kill", &self.id])?;
            std::fs::remove_file(self.share.path().join("booted"))?;
            let booted = boot_socket(self.share.path())?;
            run("docker", &["start", &self.id])?;
            await_boot(&booted).with_context(|| format!("the host did not boot again within {BOOT:?}"))
        };
        if let Err(error) = cut() {
            panic!("{error:#}");
        }
    }

    fn must(&self, arguments: &[&str]) -> Result<String> {
        let output = self.exec(arguments);
        if !output.success() {
            bail!("`{}` on the host ended with {}: {}", arguments.join(" "), output.code, output.stderr.trim());
        }
        Ok(output.stdout)
    }

    /// Runs a program on the host as root, for at most two minutes.
    #[track_caller]
    pub fn exec(&self, arguments: &[&str]) -> Output {
        self.exec_with(&[], arguments, None)
    }

    /// As [`Self::exec`], with options of `docker exec` (`--user`, `--env`) and text for its standard input.
    #[track_caller]
    pub fn exec_with(&self, options: &[&str], arguments: &[&str], input: Option<&str>) -> Output {
        let interactive: &[&str] = if input.is_some() { &["--interactive"] } else { &[] };
        let all = [&["exec"], interactive, options, &[self.id.as_str()], arguments].concat();
        let mut run = Run::new("docker", &all);
        if let Some(input) = input {
            run = run.input(input.as_bytes());
        }
        match run.output() {
            Ok(output) => output,
            Err(error) => panic!("could not run {} on the host: {error:#}", arguments.join(" ")),
        }
    }

    /// Runs a shell script on the host.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        self.exec(&["sh", "-c", script])
    }

    /// Starts a program on the host and leaves it running, its outputs piped. Killing the child does not kill what it
    /// started on the host: see [`Self::kill`].
    #[track_caller]
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new("docker");
        command.arg("exec").arg(&self.id).args(arguments);
        match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => panic!("could not run docker exec: {error}"),
        }
    }

    /// Runs the real `hostagent` on the host as root.
    #[track_caller]
    pub fn hostagent(&self, arguments: &[&str]) -> Output {
        self.exec(&[&["hostagent"], arguments].concat())
    }

    /// Sends a signal (`KILL`, `TERM`, …) to a process of the host; false if there is none of this ID.
    #[track_caller]
    pub fn kill(&self, signal: &str, pid: u32) -> bool {
        self.exec(&["kill", "-s", signal, &pid.to_string()]).success()
    }

    /// IDs of the host's processes whose command line matches, as `pgrep -f` does.
    #[track_caller]
    pub fn pids(&self, pattern: &str) -> Vec<u32> {
        let found = self.exec(&["pgrep", "-f", "--", pattern]).stdout;
        found.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// Writes a file on the host, with the directories above it.
    #[track_caller]
    pub fn write(&self, path: &str, content: &str) {
        let script = r#"mkdir -p "$(dirname "$1")" && cat >"$1""#;
        self.exec_with(&[], &["sh", "-c", script, "write", path], Some(content)).ok();
    }

    /// Puts a drop-in of hostagent's configuration in place, or replaces it. They are read in the order of their names.
    #[track_caller]
    pub fn configure(&self, name: &str, toml: &str) {
        self.write(&format!("/etc/hostagent/config.d/{name}.toml"), toml);
    }

    /// The whole journal of this boot, a line a record.
    #[track_caller]
    pub fn journal(&self) -> String {
        self.exec(&["journalctl", "--no-pager", "--output=short-precise"]).stdout
    }

    fn journal_tail(&self) -> String {
        let tail = Run::new("docker", &["exec", &self.id, "journalctl", "--no-pager", "--lines=80"]).timeout_s(20);
        let journal = tail.output().map(|output| output.stdout + &output.stderr).unwrap_or_default();
        let console = Run::new("docker", &["logs", "--tail=20", &self.id]).timeout_s(20);
        let console = console.output().map(|output| output.stdout + &output.stderr).unwrap_or_default();
        format!("--- console of the host ---\n{console}--- end of its journal ---\n{journal}")
    }

    /// A directory that is `/opt/region` on the host: the region's CA (`ca.pem`) and control socket.
    pub fn region_dir(&self) -> PathBuf {
        self.share.path().join("region")
    }

    /// ID of the host's own container.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Where systemd tells that the boot is done.
fn boot_socket(share: &Path) -> Result<UnixDatagram> {
    let booted = UnixDatagram::bind(share.join("booted"))?;
    booted.set_read_timeout(Some(BOOT))?;
    Ok(booted)
}

/// Reads systemd's notifications until the one that says that the boot is done.
fn await_boot(booted: &UnixDatagram) -> Result<()> {
    let mut message = [0; 4096];
    loop {
        let length = match booted.recv(&mut message) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1") {
            return Ok(());
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.journal_tail());
        }
        if let Err(error) = run("docker", &["rm", "--force", "--volumes", &self.id]) {
            eprintln!("could not remove the host {}: {error:#}", self.id);
        }
    }
}
