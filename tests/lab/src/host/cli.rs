//! `hostagent-lab host`: a host to look around on.

use super::{
    Host, HostOptions, Supervisor, image,
    packages::{self, Build, Format},
};
use anyhow::Result;
use clap::Parser;
use std::{ffi::OsString, process::ExitCode};
use tokio::signal;

/// What a service that is looked at by a person is set to: it moves the agent as soon as the endpoints are proved.
const PROMPT: &str = "[watch]\nsplay_max_s = 0\n";

/// Starts a host, says how to get onto it, and removes it on Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "hostagent-lab host")]
struct HostArgs {
    /// Who keeps the agent
    #[arg(long, value_enum, default_value_t = Supervisor::EcsInit)]
    supervisor: Supervisor,
    /// The version the agent says it is of
    #[arg(long, default_value = super::AGENT_VERSION)]
    agent_version: String,
    /// Install hostagent from this kind of package, which packaging/build made, and run its service without a splay
    #[arg(long, value_enum, value_name = "KIND")]
    package: Option<Format>,
    /// Only build the image, if its recipe changed, and print its tag
    #[arg(long)]
    image_only: bool,
}

/// `hostagent-lab host`.
///
/// # Errors
///
/// When there is no host to be had, or no package of this source.
pub fn main(args: Vec<OsString>) -> Result<ExitCode> {
    let HostArgs { supervisor, agent_version, package, image_only } = HostArgs::parse_from(args);
    if image_only {
        println!("{}", image::ensure()?);
        return Ok(ExitCode::SUCCESS);
    }
    // Before a minute is spent on the host.
    let package = package.map(|format| Ok::<_, anyhow::Error>((format, packages::at_hand(format)?))).transpose()?;
    let hostagent = if package.is_some() { PROMPT.to_owned() } else { String::new() };
    let host = Host::try_start(&HostOptions { supervisor, agent_version, hostagent, ..HostOptions::default() })?;
    if let Some((format, path)) = &package {
        host.try_install(*format, path)?;
    }
    println!("{}", lines(host.id(), package.is_some()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(signal::ctrl_c())?;
    Ok(ExitCode::SUCCESS)
}

/// What there is to type, a line each after its purpose.
fn lines(id: &str, installed: bool) -> String {
    let on = format!("docker exec {id:.12}");
    let install = Format::Deb.installer().join(" ");
    let package = packages::on_the_host(Build::Quick, Format::Deb, packages::VERSION);
    let shell = format!("A shell on the host:  docker exec -it {id:.12} bash\n");
    let appear =
        format!("Endpoints appear:     {on} hostagent-lab set --socket /opt/region/control.sock --path endpoint\n");
    let rest = if installed {
        format!(
            "What the service saw: {on} hostagent status\n\
             {appear}\
             Watch it act:         {on} journalctl --follow --unit=hostagent\n"
        )
    } else {
        format!(
            "Look:                 {on} hostagent check\n\
             {appear}\
             Move the agent:       {on} hostagent restart\n\
             Install the service:  {on} {install} {package}\n\
             {:22}(made by `packaging/build --quick`; the option --package deb does this by itself)\n",
            ""
        )
    };
    format!("{shell}{rest}Ctrl-C removes the host.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_typed_stands_after_its_purpose() {
        for installed in [false, true] {
            let text = lines("0123456789abcdef", installed);
            let typed: Vec<&str> = text.lines().filter_map(|line| line.get(22..)).collect();
            let commands = typed.iter().filter(|line| line.starts_with("docker exec ")).count();
            assert_eq!(commands, if installed { 4 } else { 5 }, "{text}");
            assert!(!text.contains("0123456789abcdef") && text.ends_with("Ctrl-C removes the host."), "{text}");
        }
        let text = lines("0123456789abcdef", false);
        assert!(text.contains("dpkg --install /opt/packages/quick/hostagent_"), "{text}");
    }
}
