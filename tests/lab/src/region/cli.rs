//! `hostagent-lab region`, `set` and `show`.

use super::{
    Region, RegionConfig,
    place::{Binding, INSTANCE, Service},
    switch::{ApiFault, ArnMode, Change, ImdsMode, Path, TlsFault},
};
use crate::control::Client;
use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// Brings up a region and keeps it until it is told to stop (SIGTERM or Ctrl-C).
///
/// Once everything listens, prints one line of JSON with all addresses and ports.
#[derive(Debug, Parser)]
#[command(name = "hostagent-lab region")]
struct RegionArgs {
    /// Addresses to use
    #[arg(long, value_enum, default_value_t = Binding::Loopback)]
    binding: Binding,
    /// Directory for ca.pem and control.sock
    #[arg(long, default_value = "hostagent-lab-region")]
    dir: PathBuf,
    /// TTL of every name to begin with, in seconds
    #[arg(long, default_value_t = 2)]
    ttl: u32,
    /// ID of the instance that the metadata service is of
    #[arg(long, default_value = INSTANCE)]
    instance: String,
}

/// Throws switches of a running region.
#[derive(Debug, Parser)]
#[command(name = "hostagent-lab set")]
struct SetArgs {
    /// Control socket of the region
    #[arg(long)]
    socket: PathBuf,
    /// Services the switches are for: ecs, ecs-agent, ecs-telemetry, ecr.api, … or `control-plane`; none means all
    services: Vec<String>,
    /// Where the names lead
    #[arg(long, value_enum)]
    path: Option<Path>,
    /// TTL of the names, in seconds
    #[arg(long)]
    ttl: Option<u32>,
    /// What is wrong with TLS on the endpoint addresses
    #[arg(long, value_enum)]
    tls: Option<TlsFault>,
    /// How many of the endpoint addresses refuse connections
    #[arg(long)]
    dead: Option<u8>,
    /// Whether the names are answered out of a cache, which counts their TTL down
    #[arg(long)]
    cached: Option<bool>,
    #[arg(long, value_enum)]
    imds: Option<ImdsMode>,
    /// What a registration that names an ARN gets back
    #[arg(long, value_enum)]
    arn: Option<ArnMode>,
    /// Make an API action fail, or work again: ACTION=STATUS:TYPE[:MESSAGE] or ACTION=ok; `*` is every action
    #[arg(long, value_name = "ACTION=…", value_parser = api_fault)]
    api: Vec<(String, Option<ApiFault>)>,
    /// Close the open websockets of the services named
    #[arg(long)]
    hang_up: bool,
}

/// Prints what a running region tells of itself, as JSON.
#[derive(Debug, Parser)]
#[command(name = "hostagent-lab show")]
struct ShowArgs {
    /// Control socket of the region
    #[arg(long)]
    socket: PathBuf,
    #[arg(value_enum, default_value_t = What::State)]
    what: What,
    /// Only events after this number
    #[arg(long, default_value_t = 0)]
    after: u64,
    /// Wait this long for an event, in milliseconds
    #[arg(long, default_value_t = 0)]
    wait_ms: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    State,
    Websockets,
    Instances,
    /// One event a line
    Events,
}

/// `hostagent-lab region`.
///
/// # Errors
///
/// When the region cannot come up, or a part of it fails.
pub fn region(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let RegionArgs { binding, dir, ttl, instance } = RegionArgs::parse_from(args);
    let dir = std::path::absolute(dir)?;
    runtime()?.block_on(async {
        let mut region = Region::start(RegionConfig { binding, dir, ttl, instance }).await?;
        println!("{}", serde_json::to_string(region.addresses())?);
        crate::notify::ready()?;
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = term.recv() => Ok(ExitCode::SUCCESS),
            _ = int.recv() => Ok(ExitCode::SUCCESS),
            error = region.failed() => Err(error),
        }
    })
}

/// `hostagent-lab set`.
///
/// # Errors
///
/// When no region answers, or a service does not exist.
pub fn set(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let args = SetArgs::parse_from(args);
    let mut services = Vec::new();
    for name in &args.services {
        match name.as_str() {
            "all" => services.extend(Service::ALL),
            "control-plane" => services.extend(Service::CONTROL_PLANE),
            name => services.push(Service::parse(name)?),
        }
    }
    let change = Change {
        services: services.clone(),
        path: args.path,
        ttl: args.ttl,
        tls: args.tls,
        dead: args.dead,
        cached: args.cached,
        imds: args.imds,
        arn: args.arn,
        api: args.api.into_iter().collect(),
    };
    if change == (Change { services: change.services.clone(), ..Change::default() }) && !args.hang_up {
        bail!(
            "nothing to set: give at least one of --path, --ttl, --tls, --dead, --cached, --imds, --arn, --api, --hang-up"
        );
    }
    runtime()?.block_on(async {
        let client = Client::new(args.socket);
        let state = client.set(&change).await?;
        if args.hang_up {
            match services[..] {
                [] => client.hang_up(None).await?,
                _ => {
                    for service in services {
                        client.hang_up(Some(service)).await?;
                    }
                }
            }
        }
        println!("{}", serde_json::to_string(&state.switches)?);
        Ok(ExitCode::SUCCESS)
    })
}

/// `hostagent-lab show`.
///
/// # Errors
///
/// When no region answers.
pub fn show(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let args = ShowArgs::parse_from(args);
    runtime()?.block_on(async {
        let client = Client::new(args.socket);
        match args.what {
            What::State => println!("{}", serde_json::to_string_pretty(&client.state().await?)?),
            What::Websockets => println!("{}", serde_json::to_string_pretty(&client.state().await?.websockets)?),
            What::Instances => println!("{}", serde_json::to_string_pretty(&client.state().await?.instances)?),
            What::Events => {
                for event in client.events(args.after, Duration::from_millis(args.wait_ms)).await? {
                    println!("{}", serde_json::to_string(&event)?);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")
}

/// `ACTION=STATUS:TYPE[:MESSAGE]` or `ACTION=ok`.
fn api_fault(text: &str) -> Result<(String, Option<ApiFault>), String> {
    let wanted = "expected ACTION=STATUS:TYPE[:MESSAGE] or ACTION=ok";
    let (action, fault) = text.split_once('=').ok_or(wanted)?;
    if fault == "ok" {
        return Ok((action.to_string(), None));
    }
    let mut parts = fault.splitn(3, ':');
    let status = parts.next().and_then(|status| status.parse().ok()).filter(|s| (400..600).contains(s));
    let (Some(status), Some(kind)) = (status, parts.next().filter(|kind| !kind.is_empty())) else {
        return Err(format!("{wanted}, with a status from 400 to 599"));
    };
    let message = parts.next().unwrap_or_default().to_string();
    Ok((action.to_string(), Some(ApiFault { status, kind: kind.to_string(), message })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_api_are_read() {
        let fault = ApiFault { status: 400, kind: "ClientException".into(), message: "no: really".into() };
        let read = api_fault("RegisterContainerInstance=400:ClientException:no: really");
        assert_eq!(read, Ok(("RegisterContainerInstance".into(), Some(fault))));
        assert_eq!(api_fault("*=ok"), Ok(("*".into(), None)));
        assert!(api_fault("RegisterContainerInstance=200:Fine").is_err());
        assert!(api_fault("RegisterContainerInstance").is_err());
    }
}
