//! The runnable demo: an agent on the public path, endpoints that appear, and the real `hostagent` moving it.

mod docker;
mod hostagent;
mod narrate;
mod stage;
mod witness;

use crate::region::{
    place::Service,
    switch::{Change, Path},
};
use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use hostagent::Hostagent;
use narrate::Narrator;
use stage::Stage;
use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use witness::{Outage, Witness};

/// Runs the demo: a region in a box, an ECS agent, three task containers, and the real hostagent.
///
/// Needs neither root nor Docker. Everything listens on 127.0.0.0/8 and on sockets in a temporary directory.
#[derive(Debug, Parser)]
#[command(name = "hostagent-lab story")]
struct Args {
    /// What runs the agent and the tasks: a stand-in within this process, or the Docker Engine of this machine
    #[arg(long, value_enum, default_value_t = Kind::Embedded)]
    engine: Kind,
    /// The hostagent to run, in place of the one built from this source
    #[arg(long, value_name = "FILE")]
    hostagent: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Embedded,
    Docker,
}

/// The agent has this long to connect when the story begins.
const CONNECTED: Duration = Duration::from_secs(30);

/// `hostagent-lab story`. Succeeds if every step of hostagent ended with the code it should end with.
///
/// # Errors
///
/// When the stage cannot be set, or hostagent cannot be built or run.
pub fn main(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let args = Args::parse_from(args);
    let hostagent = Hostagent::find(args.hostagent)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        // Dropped unfinished, the story takes down what it has put up.
        tokio::select! {
            told = tell(args.engine, &hostagent) => told,
            _ = term.recv() => bail!("interrupted"),
            _ = int.recv() => bail!("interrupted"),
        }
    })
}

async fn tell(kind: Kind, hostagent: &Hostagent) -> anyhow::Result<ExitCode> {
    let mut say = Narrator::new();
    say.title("An ECS container instance that still talks over the internet");
    let stage = Stage::set(kind).await?;
    stage.connected(0, CONNECTED).await?;
    say.text(&stage.description());
    let mut story = Steps { say, stage: &stage, hostagent, wrong: Vec::new() };

    story.say.title("1. No endpoints: the names lead to public addresses");
    story.step(&["check"], 11, "waiting for endpoints").await?;
    story.witness("What the region sees")?;

    story.say.title("2. The endpoints of ecs, ecs-agent and ecs-telemetry appear");
    stage.region.set(&Change::path(&Service::CONTROL_PLANE, Path::Endpoint)).await;
    story.say.text(
        "Private DNS now leads the three names to addresses in the VPC. The agent does not notice: it holds its\n\
         connections, and would redial the numbered hosts it was told at the start, which stay public.",
    );
    story.step(&["check"], 10, "a restart is needed").await?;
    let before = story.witness("Before: what the region sees")?;

    story.say.title("3. hostagent restarts it, and proves that it moved");
    let tasks = stage.tasks().await?;
    let last_event = stage.region.last_event();
    let outage = Outage::watch(stage.introspection);
    story.step(&["restart"], 0, "done and verified").await?;
    let outage = outage.end().await;
    let after = story.witness("After: what the region sees")?;
    story.judge(&before, &after, &tasks, outage, last_event).await?;

    story.say.title("4. Settled");
    story.step(&["check"], 0, "every connection is on an endpoint").await?;
    story.step(&["restart"], 0, "nothing to do").await?;
    if stage.tasks().await? != tasks {
        story.wrong.push("a task container was touched".into());
    }

    let Steps { mut say, wrong, .. } = story;
    if wrong.is_empty() {
        say.title("The end: the agent moved, and nothing else did.");
        return Ok(ExitCode::SUCCESS);
    }
    say.title("The story did not go as it should:");
    for line in &wrong {
        say.bad(line);
    }
    say.text(&stage.agent_log());
    Ok(ExitCode::FAILURE)
}

struct Steps<'a> {
    say: Narrator,
    stage: &'a Stage,
    hostagent: &'a Hostagent,
    /// What was not as it should be.
    wrong: Vec<String>,
}

impl Steps<'_> {
    /// Runs one command of hostagent and compares its exit code.
    async fn step(&mut self, command: &[&str], expected: i32, meaning: &str) -> anyhow::Result<()> {
        self.say.command(&self.hostagent.shown(self.stage, command));
        let code = self.hostagent.run(self.stage, command).await?;
        if code == expected {
            self.say.good(&format!("exit code {code}: {meaning}"));
        } else {
            let line = format!("hostagent {}: exit code {code}, expected {expected} ({meaning})", command.join(" "));
            self.say.bad(&line);
            self.wrong.push(line);
        }
        Ok(())
    }

    /// The connections that the region itself counts.
    fn witness(&mut self, heading: &str) -> anyhow::Result<Witness> {
        let seen = Witness::look(&self.stage.region);
        self.say.table(heading, &["", "host", "address", "path"], &seen.rows());
        Ok(seen)
    }

    async fn judge(
        &mut self,
        before: &Witness,
        after: &Witness,
        tasks: &[stage::Task],
        outage: Duration,
        last_event: u64,
    ) -> anyhow::Result<()> {
        let mut proofs = vec![
            (before.websockets_public(), "before, both websockets were on public addresses".to_string()),
            (after.all_on_endpoints(), "after, every connection is on an endpoint address".to_string()),
            (after.arn == before.arn, format!("same container instance: {}", after.arn)),
        ];
        let now = self.stage.tasks().await?;
        let words = format!("the {} task containers have the same IDs, PIDs and start times", tasks.len());
        proofs.push((now == tasks && !tasks.is_empty(), words));
        for (good, words) in proofs {
            if good {
                self.say.good(&words);
            } else {
                self.say.bad(&words);
                self.wrong.push(format!("not so: {words}"));
            }
        }
        let rows: Vec<Vec<String>> = now.iter().map(stage::Task::row).collect();
        self.say.table("The tasks", &["container", "id", "pid", "started"], &rows);
        self.say.text(&format!("The agent was away (introspection): {:.2} s", outage.as_secs_f64()));
        for (what, gap) in witness::gaps(&self.stage.region, last_event) {
            self.say.text(&format!("{what} was away: {gap:.2} s"));
        }
        Ok(())
    }
}
