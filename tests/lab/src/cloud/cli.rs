//! `hostagent-lab cloud`

use super::{Cloud, CloudOptions, RestartBehaviour};
use crate::{
    host::{Host, HostOptions, IMPATIENT},
    region::{
        place::Service,
        switch::{Change, Path},
    },
};
use anyhow::bail;
use clap::Parser;
use std::{env, ffi::OsString, path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// Brings up a cloud with a fleet in it, and keeps it until SIGTERM or Ctrl-C.
///
/// Prints the lines to paste into a shell, so that hostagent, the AWS CLI and boto3 speak to it.
#[derive(Debug, Parser)]
#[command(name = "hostagent-lab cloud")]
struct Args {
    /// Simulated hosts
    #[arg(long, default_value_t = 12)]
    hosts: usize,
    /// Availability zones, in turn
    #[arg(long, value_delimiter = ',', default_values = ["eu-west-1a", "eu-west-1b", "eu-west-1c"])]
    zones: Vec<String>,
    #[arg(long, default_value = "prod")]
    cluster: String,
    /// Real hosts besides, each a container (needs root and Docker)
    #[arg(long, default_value_t = 0)]
    real: usize,
    /// Simulated seconds per real second; real hosts are as fast as they are
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Port on 127.0.0.1; 0 takes any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The host of this number, counted from 1, does not come back from a restart
    #[arg(long)]
    fails: Vec<usize>,
    /// An alarm of CloudWatch, as name=OK or name=ALARM
    #[arg(long, value_parser = pair)]
    alarm: Vec<(String, String)>,
    /// A Change Calendar, as name=OPEN or name=CLOSED
    #[arg(long, value_parser = pair)]
    calendar: Vec<(String, String)>,
    /// Python with boto3, for the scripts of runbooks
    #[arg(long)]
    python: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| format!("{text} is no name=value"))
}

/// `hostagent-lab cloud`.
///
/// # Errors
///
/// When the port is not to be had, or a real host cannot be started.
pub fn main(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let args = Args::parse_from(args);
    let options = CloudOptions { speed: args.speed, port: args.port, python: args.python, ..CloudOptions::default() };
    let cloud = Cloud::start(options)?;
    let zones: Vec<&str> = args.zones.iter().map(String::as_str).collect();
    cloud.cluster(&args.cluster);
    cloud.fleet(&args.cluster, &zones, args.hosts);
    for number in args.fails {
        let instance = super::instance_id(number);
        if number == 0 || number > args.hosts {
            bail!("there is no host {number} that could fail");
        }
        cloud.change(&instance, |host| host.restart = RestartBehaviour::DoesNotComeBack);
    }
    for (name, value) in args.alarm {
        cloud.alarm(&name, &value);
    }
    for (name, value) in args.calendar {
        cloud.calendar(&name, value == "OPEN", None);
    }
    let hosts = real_hosts(&cloud, args.real, &zones, &args.cluster)?;
    for (name, value) in cloud.environment() {
        println!("export {name}={value}");
    }
    // Somebody else's session token would go with our key.
    println!("unset AWS_SESSION_TOKEN AWS_PROFILE");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        anyhow::Ok(())
    })?;
    drop(hosts);
    Ok(ExitCode::SUCCESS)
}

/// Real hosts whose agents connected before there were endpoints, which there are now.
fn real_hosts(cloud: &Cloud, count: usize, zones: &[&str], cluster: &str) -> anyhow::Result<Vec<Host>> {
    let variable = "HOSTAGENT_LAB_HOSTS";
    if count > 2 && env::var(variable).ok().and_then(|text| text.parse().ok()).is_none_or(|most: usize| most < count) {
        bail!("set {variable}={count}: no more than two real hosts run at a time unless it says so");
    }
    let mut hosts = Vec::new();
    for number in 0..count {
        let options = HostOptions {
            instance_id: format!("i-0f00dfacade{:06x}", number + 1),
            hostagent: IMPATIENT.into(),
            ..HostOptions::default()
        };
        let host = Host::try_start(&options)?;
        host.set(&Change::path(&Service::CONTROL_PLANE, Path::Endpoint));
        cloud.attach(&host, zones.get(number % zones.len().max(1)).copied().unwrap_or("eu-west-1a"), cluster)?;
        eprintln!("{} is a container: docker exec -it {:.12} bash", options.instance_id, host.id());
        hosts.push(host);
    }
    Ok(hosts)
}
