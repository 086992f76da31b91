//! What can be typed. Usage errors end with exit code 2, which is clap's own.

use super::fleet::FleetArgs;
use crate::{catalog::Requirement, config::Source, report::Format};
use clap::{ArgAction, Args, Parser, Subcommand};
use std::{ffi::OsStr, iter, path::PathBuf, time::Duration};

const EXIT_CODES: &str = "\
Exit codes:
   0  settled, done, or nothing to do
   1  could not tell: too little could be seen, or the configuration is wrong
   2  usage
  10  a restart is needed
  11  waiting for endpoints
  12  refused: a restart is wanted and would not be safe here
  13  the agent is broken, or could not be verified
  75  another restart is under way, or the budget is spent: try again later
  78  watch only: the configuration is wrong, and the service is not started again";

const EXAMPLES: &str = "\
Examples:
  hostagent check                          does the agent still talk over the internet?
  hostagent check --require images,logs    which endpoints are missing for pulls and logs?
  hostagent plan                           what would a restart do here, and why?
  hostagent restart                        move the agent, if that is needed and safe
  hostagent status                         what does the service see, and what did it do?
  hostagent fleet check --cluster prod     which hosts of a cluster are still public?
  hostagent --format json check | jq .     for programs";

/// Moves the Amazon ECS agent onto PrivateLink, safely.
///
/// Looks at how the agent of this container instance reaches AWS, decides whether restarting it is
/// needed and safe now that VPC endpoints exist, restarts it through whatever supervises it, and
/// proves that it moved. Never restarts it through Docker where systemd owns it: that leaves it dead.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "hostagent", version, after_help = EXIT_CODES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Global {
    /// How to print the result
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Human)]
    pub format: Format,
    #[command(flatten)]
    pub common: Common,
}

/// Options of both programs.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Common {
    /// Read configuration files (*.toml) from here in place of /usr/lib, /run and /etc/hostagent/config.d;
    /// may be given several times, a later one wins
    #[arg(long = "config-dir", global = true, value_name = "DIR")]
    config_dirs: Vec<PathBuf>,
    /// Say more on standard error: -v what is done, -vv each probe, -vvv everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

impl Common {
    /// Where the configuration is to be read from.
    pub fn config_source(&self) -> Source {
        Source::from_args(&self.config_dirs)
    }

    /// The same options, as they are given to the other program.
    pub fn to_args(&self) -> impl Iterator<Item = &OsStr> {
        let verbose = iter::repeat_n(OsStr::new("--verbose"), self.verbose.into());
        let dirs = self.config_dirs.iter().flat_map(|dir| [OsStr::new("--config-dir"), dir.as_os_str()]);
        verbose.chain(dirs)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Look at this host and say what is wrong; changes nothing
    ///
    /// Answers for the agent's control plane whether every connection is on an endpoint, and whether
    /// a restart would be needed and safe. With --require it answers for other needs too: for each
    /// service its name, its endpoint service, its addresses, the path they take, whether they
    /// answer, and what to create or open when they do not. The verdict is about what was asked for.
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
    /// Say what `restart` would do here, step by step, and why; changes nothing
    #[command(after_help = EXIT_CODES)]
    Plan(PlanArgs),
    /// Restart the agent if that is needed and safe, and prove that it moved
    ///
    /// Idempotent: when there is nothing to do it says so and succeeds. The restart runs in a unit of
    /// its own, so that the caller (a terminal, SSM Run Command) may die without leaving it half
    /// done. One at a time; counted before acting; other containers are never touched.
    #[command(after_help = EXIT_CODES)]
    Restart(RestartArgs),
    /// Run as the service: notice endpoints, and move the agent once
    ///
    /// Started by hostagent.service. Looks once a DNS TTL while something may change and rarely once
    /// the agent is settled; restarts it after agreeing looks and its splay, inside the window, unless
    /// a hook or the pause file stands against it (see [watch] in the configuration). SIGHUP reads
    /// the configuration again. Does not end by itself.
    #[command(after_help = EXIT_CODES)]
    Watch,
    /// Say what the service sees, since when, and what it did
    ///
    /// From the service's own words, also when it is down. The exit code is that of its last look.
    #[command(after_help = EXIT_CODES)]
    Status,
    Fleet(Box<FleetArgs>),
    /// Show the configuration in effect
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Carries out a restart in a unit of its own; started by `restart`, not by hand
    #[command(hide = true)]
    Worker(WorkerArgs),
    /// Looks, or restarts and follows, for the service; started by `watch`, not by hand
    #[command(hide = true)]
    Errand,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckArgs {
    /// Needs to answer for, comma separated; may be given several times
    #[arg(long, value_enum, value_name = "NEED", value_delimiter = ',', default_value = "agent")]
    pub require: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PlanArgs {
    /// Plan for an agent that is down or unsupervised, too
    #[arg(long)]
    pub repair: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RestartArgs {
    /// Also mend an agent that is down or unsupervised in the way a Docker restart leaves it
    #[arg(long)]
    pub repair: bool,
    /// Confirm and decide as for a restart, then stop before anything is touched
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for tasks between two states: 90s, 5m, 1h; in place of restart.task_wait_s
    #[arg(long, value_name = "TIME", value_parser = parse_wait)]
    pub wait: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Every setting, its value, and the file and line it comes from
    Show,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WorkerArgs {
    /// Directory of the run that `restart` prepared
    #[arg(long, value_name = "PATH")]
    pub run_dir: PathBuf,
}

/// The longest wait, as for `restart.task_wait_s`.
const MAX_WAIT_S: u64 = 86_400;

/// `90s`, `5m`, `1h`; `0s` does not wait.
pub(super) fn parse_wait(text: &str) -> Result<Duration, String> {
    let allowed = "a whole number with a unit: 90s, 5m, 1h";
    let Some(unit) = text.chars().last().filter(char::is_ascii_alphabetic) else { return Err(allowed.into()) };
    let number = &text[..text.len() - 1];
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(allowed.into()),
    };
    // `+5` parses as a number and is not one of the forms.
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(allowed.into());
    }
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    match seconds {
        Some(seconds) if seconds <= MAX_WAIT_S => Ok(Duration::from_secs(seconds)),
        None if number.is_empty() => Err(allowed.into()),
        _ => Err("at most 24h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("hostagent").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn needs_come_comma_separated_and_repeated_and_default_to_the_agent() {
        let needs = |line: &str| match parse(line).unwrap().command {
            Command::Check(args) => args.require,
            other => panic!("{other:?}"),
        };
        assert_eq!(needs("check"), [Requirement::Agent]);
        let three = [Requirement::Images, Requirement::Logs, Requirement::Exec];
        assert_eq!(needs("check --require images,logs --require exec"), three);
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in [
            "--format ssm -vv --config-dir /a --config-dir /b plan",
            "plan --format ssm -v -v --config-dir /a --config-dir /b",
        ] {
            let cli = parse(line).unwrap();
            assert_eq!((cli.global.format, cli.global.common.verbose), (Format::Ssm, 2));
            assert_eq!(cli.global.common.config_source(), Source::Dirs(vec!["/a".into(), "/b".into()]));
        }
        assert_eq!(parse("plan").unwrap().global.common.config_source(), Source::System);
    }

    #[test]
    fn waits_have_a_unit_and_a_bound() {
        let seconds = |text: &str| parse_wait(text).map(|wait| wait.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("5m"), Ok(300));
        assert_eq!(seconds("24h"), Ok(86_400));
        assert_eq!(seconds("0s"), Ok(0));
        for bad in ["", "5", "m", "-5m", "+5m", "1.5h", "5 m", "5M", "5m5s", "5µ", "٥m"] {
            assert!(seconds(bad).unwrap_err().contains("90s, 5m, 1h"), "{bad}");
        }
        for long in ["25h", "99999999999999999999h", "18446744073709551615h"] {
            assert_eq!(seconds(long), Err("at most 24h".into()));
        }
    }

    #[test]
    fn usage_errors_exit_with_2() {
        for line in
            ["", "chekc", "check --require internet", "restart --wait 5", "config", "worker", "--format xml check"]
        {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert_eq!(parse("restart --dry-run --repair --wait 5m").unwrap().global.format, Format::Human);
        assert_eq!(parse("--help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    }
}
