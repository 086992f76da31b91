//! What can be typed after `hostagent fleet`.

use crate::{catalog::Requirement, cli::args::parse_wait, facts::Targets, fleet::role, ports::aws::Operator};
use clap::{Args, Subcommand};
use std::{path::PathBuf, time::Duration};

const EXIT_CODES: &str = "\
Exit codes:
   0  every host is settled, or the rollout is done
   1  could not tell: hosts did not answer, or AWS did not
   2  usage
  10  hosts are still public, or the rollout is not finished
  11  hosts wait for endpoints
  12  hosts are refused, the cluster is halted, or a document is somebody else's
  13  a host is broken, or the rollout halted
  75  another rollout for the same hosts is under way";

const EXAMPLES: &str = "\
Examples:
  hostagent fleet install                               put the SSM documents into this account and region
  hostagent fleet check --cluster prod                  who is still public?
  hostagent fleet rollout --cluster prod                move them: one host, then waves, zone by zone
  hostagent fleet follow --cluster prod                 see how its last rollout goes on, from anywhere
  hostagent fleet stop --cluster prod --why 'INC-123'   move nothing further
  hostagent fleet resume --cluster prod                 let it move again
  hostagent fleet report --cluster prod -o prod.html    the change record";

/// Many hosts, through SSM: who is still public, and a rollout that moves them
///
/// Runs where AWS credentials are: a laptop, CI, CloudShell. Reaches hosts through the SSM documents that
/// `fleet install` puts into the account; a rollout is a runbook of SSM Automation and goes on without this program.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = EXIT_CODES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct FleetArgs {
    #[command(flatten)]
    pub aws: AwsArgs,
    #[command(subcommand)]
    pub command: FleetCommand,
}

/// How to reach AWS. What is not given comes from the environment and the profile, as for the AWS CLI.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AwsArgs {
    /// Profile of the AWS configuration files (SSO, role, credential process)
    #[arg(long, global = true, value_name = "NAME", help_heading = "AWS")]
    pub profile: Option<String>,
    /// Region of the fleet
    #[arg(long, global = true, value_name = "REGION", help_heading = "AWS")]
    pub region: Option<String>,
    /// Where to reach AWS in place of its public names
    #[arg(long, global = true, value_name = "URL", help_heading = "AWS")]
    pub endpoint_url: Option<String>,
}

impl AwsArgs {
    pub fn operator(&self) -> Operator {
        Operator { profile: self.profile.clone(), region: self.region.clone(), endpoint_url: self.endpoint_url.clone() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum FleetCommand {
    /// Ask every host: who is public, who is settled, who is blocked and why; changes nothing
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
    /// Start the runbook that moves the hosts, and follow it
    ///
    /// One host first, then waves that grow up to a share of a zone, never in two zones at once. Each wave is verified
    /// before the next. At the first host that cannot be, nothing further is sent. Ctrl-C ends the following, not the
    /// rollout. Started again, it takes up what is left.
    #[command(after_help = EXIT_CODES)]
    Rollout(Box<RolloutArgs>),
    /// Follow a rollout that was started before: by its ID, the last one for some hosts, or the last one
    #[command(after_help = EXIT_CODES)]
    Follow(FollowArgs),
    /// Halt a cluster: no host of it is moved any further
    ///
    /// Sets the cluster's halt parameter, which the runbook reads before each wave and every host before it acts. A wave
    /// under way is verified to its end.
    Stop(StopArgs),
    /// Take the halt of a cluster away
    ///
    /// Starts nothing by itself: hosts that move themselves go on, and a rollout is started again with `fleet rollout`.
    Resume(ClusterArgs),
    /// The cluster's brakes and its rollouts
    #[command(after_help = EXIT_CODES)]
    Status(StatusArgs),
    /// Write what a rollout did as one HTML file for the change record
    Report(ReportArgs),
    /// Put the SSM documents into this account and region, or bring them up to date
    Install(InstallArgs),
    /// Remove the SSM documents and the associations from this account and region
    Uninstall(UninstallArgs),
}

/// Which hosts: exactly one of the three.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// The container instances of an ECS cluster
    #[arg(long, value_name = "NAME", value_parser = parse_cluster)]
    pub cluster: Option<String>,
    /// The instances with a tag
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tag: Option<(String, String)>,
    /// Instances by ID, at most 50, comma separated; may be given several times
    #[arg(long = "instance", value_name = "ID", value_delimiter = ',', value_parser = parse_instance)]
    pub instances: Vec<String>,
}

impl TargetArgs {
    /// The group lets exactly one of them through.
    pub fn targets(&self) -> Targets {
        targets(self.cluster.as_ref(), self.tag.as_ref(), &self.instances)
    }
}

/// The one of the three that was given.
fn targets(cluster: Option<&String>, tag: Option<&(String, String)>, instances: &[String]) -> Targets {
    match (cluster, tag) {
        (Some(cluster), _) => Targets::Cluster(cluster.clone()),
        (None, Some((key, value))) => Targets::Tag { key: key.clone(), value: value.clone() },
        (None, None) => Targets::Instances(instances.to_vec()),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub targets: TargetArgs,
    /// What to answer for
    #[arg(long, value_enum, value_name = "NEED", default_value = "agent")]
    pub require: Requirement,
    /// How long to wait for answers: 90s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = parse_wait, default_value = "3m")]
    pub patience: Duration,
    /// List every host, not only those that are not settled
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RolloutArgs {
    #[command(flatten)]
    pub targets: TargetArgs,
    /// The most hosts of a zone that are restarted at once, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub zone_share: u8,
    /// Each wave is at most so many times as big as the one before
    #[arg(long, value_name = "TIMES", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=10))]
    pub growth: u8,
    /// Between two waves, at most 1h
    #[arg(long, value_name = "TIME", value_parser = parse_hour, default_value = "60s")]
    pub pause: Duration,
    /// How long a host waits for its tasks that are between two states, at most 1h
    #[arg(long, value_name = "TIME", value_parser = parse_hour, default_value = "5m")]
    pub wait: Duration,
    /// Change calendar that must be open before each wave; may be given several times
    #[arg(long = "calendar", value_name = "NAME")]
    pub calendars: Vec<String>,
    /// CloudWatch alarm that halts the rollout; may be given several times
    #[arg(long = "alarm", value_name = "NAME")]
    pub alarms: Vec<String>,
    /// Who may approve before the first host is touched, as an ARN; may be given several times
    #[arg(long = "approver", value_name = "ARN")]
    pub approvers: Vec<String>,
    /// SNS topic that is told of the approval wanted
    #[arg(long, value_name = "ARN", requires = "approvers")]
    pub approval_topic: Option<String>,
    /// The role SSM Automation acts with, as an ARN; HostAgent-Rollout of your own account unless it is given
    #[arg(long, value_name = "ARN", value_parser = parse_role)]
    pub role: Option<String>,
    /// Start it and do not follow
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub pace: PaceArgs,
}

/// How often AWS is asked.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PaceArgs {
    /// Between two looks at the rollout
    #[arg(long, value_name = "TIME", value_parser = parse_wait, default_value = "5s")]
    pub every: Duration,
}

/// Which rollout: one by its ID, the last one for some hosts, or the last one.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[group(multiple = false)]
pub struct WhichArgs {
    /// The rollout's execution ID; the last one unless it or its hosts are given
    #[arg(value_name = "EXECUTION", value_parser = parse_execution)]
    pub execution: Option<String>,
    /// The last rollout for this ECS cluster
    #[arg(long, value_name = "NAME", value_parser = parse_cluster)]
    pub cluster: Option<String>,
    /// The last rollout for the instances with this tag
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tag: Option<(String, String)>,
    /// The last rollout for any of these instances, comma separated; may be given several times
    #[arg(long = "instance", value_name = "ID", value_delimiter = ',', value_parser = parse_instance)]
    pub instances: Vec<String>,
}

impl WhichArgs {
    /// The hosts whose last rollout is meant; `None` for the last of all.
    pub fn targets(&self) -> Option<Targets> {
        let none = self.cluster.is_none() && self.tag.is_none() && self.instances.is_empty();
        (!none).then(|| targets(self.cluster.as_ref(), self.tag.as_ref(), &self.instances))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct FollowArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    #[command(flatten)]
    pub pace: PaceArgs,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ClusterArgs {
    /// The ECS cluster
    #[arg(long, value_name = "NAME", value_parser = parse_cluster)]
    pub cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Why, for whoever finds the cluster halted
    #[arg(long, value_name = "TEXT", default_value = "stopped by hand")]
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Change calendar to tell the state of; may be given several times
    #[arg(long = "calendar", value_name = "NAME")]
    pub calendars: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    pub which: WhichArgs,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct InstallArgs {
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also take over documents of these names that are somebody else's, such as a CloudFormation stack's
    ///
    /// Without it, one of them whose content is another stops the installation before anything is changed.
    #[arg(long)]
    pub adopt: bool,
    /// Also check the hosts with this tag from time to time, by an association of State Manager
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub associate: Option<(String, String)>,
    /// How often, as State Manager writes it: a rate or cron expression
    #[arg(long, value_name = "EXPRESSION", default_value = "rate(1 hour)", requires = "associate")]
    pub schedule: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UninstallArgs {
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// As ECS names clusters; the last part of an ARN will do.
fn parse_cluster(text: &str) -> Result<String, String> {
    let name = text.rsplit('/').next().unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=255).contains(&name.len()) && name.chars().all(plain) {
        return Ok(name.to_owned());
    }
    Err("a cluster's name has letters, digits, - and _, at most 255".into())
}

/// What both EC2 and the runbook take.
fn parse_tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || " _.:/=+@-".contains(c);
    let fits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.chars().all(plain);
    if fits(key, 128) && fits(value, 256) {
        return Ok((key.to_owned(), value.to_owned()));
    }
    Err("key and value have letters, digits, spaces and _.:/=+@-, at most 128 and 256 of them".into())
}

fn parse_instance(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("i-").or_else(|| text.strip_prefix("mi-")).unwrap_or_default();
    let digits = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if (8..=17).contains(&hex.len()) && digits {
        return Ok(text.to_owned());
    }
    Err("i- or mi- and 8 to 17 hexadecimal digits are wanted".into())
}

/// What the runbook takes.
fn parse_role(text: &str) -> Result<String, String> {
    if role::is_role(text) {
        return Ok(text.to_owned());
    }
    Err("the ARN of an IAM role is wanted, such as arn:aws:iam::111122223333:role/HostAgent-Rollout".into())
}

/// As SSM Automation names executions.
fn parse_execution(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if text.len() == 36 && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("an execution ID has 36 characters, such as 4105a4fc-f944-11e6-9d32-0a1b2c3d4e5f".into())
}

fn parse_hour(text: &str) -> Result<Duration, String> {
    let time = parse_wait(text)?;
    if time <= Duration::from_secs(3_600) { Ok(time) } else { Err("at most 1h".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use clap::Parser;

    fn parse(line: &str) -> Result<FleetCommand, clap::Error> {
        let words = ["hostagent", "fleet"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Fleet(args) => Ok(args.command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exactly_one_kind_of_target_is_taken() {
        let targets = |line: &str| match parse(line).unwrap() {
            FleetCommand::Check(args) => args.targets.targets(),
            other => panic!("{other:?}"),
        };
        assert_eq!(targets("check --cluster prod"), Targets::Cluster("prod".into()));
        let arn = "check --cluster arn:aws:ecs:eu-west-1:123456789012:cluster/prod";
        assert_eq!(targets(arn), Targets::Cluster("prod".into()));
        let tag = Targets::Tag { key: "aws:autoscaling:groupName".into(), value: "a=b".into() };
        assert_eq!(targets("check --tag aws:autoscaling:groupName=a=b"), tag);
        let two = Targets::Instances(vec!["i-0123456789abcdef0".into(), "mi-0123456789abcdef0".into()]);
        assert_eq!(targets("check --instance i-0123456789abcdef0,mi-0123456789abcdef0"), two);
        for line in ["check", "check --cluster a --tag b=c", "rollout", "rollout --instance i-01234567 --cluster a"] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_rollout_is_named_by_its_id_or_by_its_hosts() {
        let which = |line: &str| match parse(line).unwrap() {
            FleetCommand::Follow(args) => args.which,
            FleetCommand::Report(args) => args.which,
            other => panic!("{other:?}"),
        };
        const ID: &str = "4105a4fc-f944-11e6-9d32-0a1b2c3d4e5f";
        assert_eq!(which("follow").targets(), None);
        assert_eq!(which("follow --cluster prod").targets(), Some(Targets::Cluster("prod".into())));
        let tag = Targets::Tag { key: "Cluster".into(), value: "prod".into() };
        assert_eq!(which("report --output x --tag Cluster=prod").targets(), Some(tag));
        let one = Targets::Instances(vec!["i-0123456789abcdef0".into()]);
        assert_eq!(which("follow --instance i-0123456789abcdef0").targets(), Some(one));
        let named = which(&format!("report {ID} --output x"));
        assert_eq!((named.execution.as_deref(), named.targets()), (Some(ID), None));
        let both = parse(&format!("follow {ID} --cluster prod")).unwrap_err();
        assert_eq!(both.exit_code(), 2, "{both}");
    }

    #[test]
    fn a_role_is_an_arn() {
        let role = |text: &str| parse(&format!("rollout --cluster prod --role {text}"));
        assert!(role("arn:aws:iam::111122223333:role/HostAgent-Rollout").is_ok());
        let refused = role("HostAgent-Rollout").unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("such as arn:aws:iam::111122223333:role/HostAgent-Rollout"), "{refused}");
    }

    #[test]
    fn what_could_mean_something_to_a_shell_is_refused() {
        for bad in ["a;b", "$(id)", "a'b", "a\"b", "a`b", "prod\n", "é", "{{x}}"] {
            assert!(parse_cluster(bad).is_err(), "{bad}");
            assert!(parse_tag(&format!("k={bad}")).is_err(), "{bad}");
            assert!(parse_instance(&format!("i-0123{bad}")).is_err(), "{bad}");
            assert!(parse_execution(&format!("{bad:a>36}")).is_err(), "{bad}");
        }
        assert!(parse_tag("no-value").is_err() && parse_tag("=v").is_err());
    }

    #[test]
    fn rates_have_bounds() {
        for line in ["--zone-share 0", "--zone-share 101", "--growth 1", "--pause 2h", "--approval-topic arn:x"] {
            assert_eq!(parse(&format!("rollout --cluster prod {line}")).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
