//! `hostagent fleet report`: the change record.

use super::{args::ReportArgs, rollout::which};
use crate::{
    cli::Context as Cli,
    decide::exit,
    fleet::{Cloud, story},
    report::{self, Format, page},
};
use anyhow::{Context, Result};
use std::{io::Write, os::unix::fs::PermissionsExt};

pub async fn report(cli: &Cli, cloud: &Cloud, args: &ReportArgs) -> Result<u8> {
    let id = which(cloud, &args.which).await?;
    let bar = cli.bar();
    bar.at(0, None, &format!("reading what rollout {id} did"));
    let execution = cloud.automation.execution(&id).await?;
    let story = story::read(cloud, &execution).await?;
    drop(bar);
    let page = page::render(&story, &cloud.region, jiff::Timestamp::now());
    let path = args.output.display();
    let dir = args.output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(".".as_ref());
    // Whole or not at all.
    let mode = std::fs::Permissions::from_mode(0o644);
    let file = tempfile::Builder::new().permissions(mode).tempfile_in(dir);
    let mut file = file.with_context(|| format!("cannot write in {}", dir.display()))?;
    file.write_all(page.as_bytes()).with_context(|| format!("cannot write {path}"))?;
    file.persist(&args.output).with_context(|| format!("cannot write {path}"))?;
    match cli.format {
        Format::Json => cli.write(&report::json::text(&story)),
        Format::Human | Format::Ssm => cli.write(&format!(
            "{path}: rollout {id}, {} hosts, {} waves, {} bytes\n",
            story.hosts.len(),
            story.waves.len(),
            page.len()
        )),
    }
    Ok(exit::SETTLED)
}
