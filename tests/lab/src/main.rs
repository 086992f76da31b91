//! One binary for every stand-in. Which one it is depends on the name it is called by, or on its first argument.

use hostagent_lab as lab;
use std::{env, ffi::OsString, path::Path, process::ExitCode};

const USAGE: &str = "\
hostagent-lab: stand-ins for what hostagent meets on an ECS container instance

  hostagent-lab [story]   the demo: needs neither root nor Docker
  hostagent-lab region    name server, services, endpoints and metadata service
  hostagent-lab set       throw the switches of a running region
  hostagent-lab show      what a running region tells of itself
  hostagent-lab cloud     the services a fleet is moved through, with as many hosts as wanted
  hostagent-lab ssm-agent runs a document on this host as the SSM agent does
  hostagent-lab agent     an ECS agent (also when called as `agent`)
  hostagent-lab ecs-init  keeps an agent running (also when called as `amazon-ecs-init`)
  hostagent-lab workload  a task that asks for its credentials (also when called as `workload`)
  hostagent-lab link      the wire between a host and its region, with a delay
  hostagent-lab host      a whole container instance in a container, with all of these (needs root and Docker)
  hostagent-lab engine    a Docker Engine whose containers are child processes

Each takes --help.
";

fn main() -> ExitCode {
    let mut args: Vec<OsString> = env::args_os().collect();
    let called_as = args.first().map(Path::new).and_then(Path::file_stem).unwrap_or_default().to_os_string();
    let first = args.get(1).map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
    let command = match called_as.to_str() {
        Some("agent") => "agent".to_string(),
        Some("amazon-ecs-init") => "ecs-init".to_string(),
        Some("workload") => "workload".to_string(),
        // Options without a command are the story's.
        _ if first.is_empty() || (first.starts_with('-') && !matches!(first.as_str(), "-h" | "--help")) => {
            "story".to_string()
        }
        _ => {
            args.remove(1);
            first
        }
    };
    let done = match command.as_str() {
        "region" => lab::region::cli::region(args),
        "set" => lab::region::cli::set(args),
        "show" => lab::region::cli::show(args),
        "cloud" => lab::cloud::main(args),
        "ssm-agent" => lab::cloud::agent::main(args),
        "agent" => lab::agent::main(args),
        "ecs-init" => lab::ecs_init::main(args),
        "link" => lab::link::main(args),
        "workload" => lab::workload::main(),
        "host" => lab::host::cli::main(args),
        "story" => lab::story::main(args),
        "engine" => lab::engine::main(args),
        "init" => lab::engine::init(args),
        "pause" => lab::engine::pause(),
        "-h" | "--help" | "help" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => {
            eprint!("hostagent-lab: no command {other:?}\n\n{USAGE}");
            Ok(ExitCode::from(2))
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("hostagent-lab {command}: {error:#}");
        ExitCode::FAILURE
    })
}
