//! Real hosts: documents are run in them as the SSM agent runs them.

use super::{
    Cloud,
    agent::{Job, StepResult, StepStatus},
    command::{INSTANCE, Plugin, Status, end},
    event::Event,
    hosts::{Online, SimulatedHost},
    input::matches,
    state::{Shared, State},
};
use crate::{
    control::Client,
    host::Host,
    region::{
        place::{REGION, Service},
        switch::What,
    },
};
use anyhow::{Context as _, bail};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    sync::oneshot,
};

/// Real time that one look for events may wait.
const LOOK: Duration = Duration::from_secs(5);
/// Real time until a region that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(200);

impl Cloud {
    /// Makes a real host known to all services. Documents are run in it, for as long as they take in real time; whether
    /// its agent is connected is what its region says.
    ///
    /// The host's ID must be one that AWS would give: `i-` and 17 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// When the host does not tell its ID, or it is not such a one.
    pub fn attach(&self, host: &Host, zone: &str, cluster: &str) -> anyhow::Result<()> {
        let text = host.exec(&["cat", "/etc/lab-instance"]).stdout;
        let instance = text.trim().strip_prefix("LAB_INSTANCE=").context("the host does not tell its instance ID")?;
        if !matches(INSTANCE, instance) {
            bail!("{instance} is no instance ID as AWS gives them; set HostOptions::instance_id");
        }
        let known = SimulatedHost {
            instance: instance.to_owned(),
            zone: zone.to_owned(),
            cluster: cluster.to_owned(),
            tags: vec![("Cluster".into(), cluster.into()), ("Name".into(), format!("real-{instance}"))],
            agent_connected: false,
            ..SimulatedHost::default()
        };
        let shared = self.shared();
        shared.state().real.insert(instance.to_owned(), host.id().to_owned());
        self.add(vec![known]);
        let socket = host.region_dir().join("control.sock");
        shared.runtime.spawn(follow(Arc::downgrade(shared), instance.to_owned(), socket));
        Ok(())
    }
}

/// Keeps what ECS knows of a host's agent as its region has it, until the cloud is gone.
async fn follow(shared: Weak<Shared>, instance: String, socket: PathBuf) {
    let client = Client::new(socket);
    loop {
        // Gone while the power is cut; it starts anew with the host.
        if watch(&shared, &instance, &client).await.is_err() {
            set_connected(&shared, &instance, false);
            tokio::time::sleep(AGAIN).await;
        }
        if shared.strong_count() == 0 {
            return;
        }
    }
}

async fn watch(shared: &Weak<Shared>, instance: &str, client: &Client) -> anyhow::Result<()> {
    let state = client.state().await?;
    let control = |service: Service| service == Service::EcsAgent;
    let mut open: BTreeSet<u64> = state.websockets.iter().filter(|of| control(of.service)).map(|of| of.id).collect();
    let mut seen = state.last_event;
    set_connected(shared, instance, !open.is_empty());
    while shared.strong_count() > 0 {
        for event in client.events(seen, LOOK).await? {
            seen = event.seq;
            match event.what {
                What::WsOpen { websocket } if control(websocket.service) => drop(open.insert(websocket.id)),
                What::WsClose { websocket, .. } if control(websocket.service) => drop(open.remove(&websocket.id)),
                _ => continue,
            }
            set_connected(shared, instance, !open.is_empty());
        }
    }
    Ok(())
}

fn set_connected(shared: &Weak<Shared>, instance: &str, connected: bool) {
    let Some(shared) = shared.upgrade() else { return };
    let mut state = shared.state();
    let Some(host) = state.hosts.get_mut(instance) else { return };
    if host.agent_connected == connected {
        return;
    }
    host.agent_connected = connected;
    let (instance, zone, at_s) = (instance.to_owned(), host.zone.clone(), state.now_s());
    state.events.push(if connected {
        Event::RestartEnded { instance, zone, at_s, ok: true }
    } else {
        Event::RestartBegan { instance, zone, at_s }
    });
}

/// Whether a real host has taken the invocation.
pub(super) fn runs(state: &mut State, command: &str, index: usize, instance: &str) -> bool {
    let Some(container) = state.real.get(instance).cloned() else { return false };
    let (Some(of), Some(shared)) = (state.commands.get(command), state.shared()) else { return false };
    let job = Job {
        instance: instance.to_owned(),
        region: REGION.into(),
        command: command.to_owned(),
        content: (*of.content).clone(),
        parameters: of.parameters.clone(),
        new_agent: state.options.new_agents,
        dir: format!("/var/lib/amazon/ssm/{instance}/document/orchestration").into(),
    };
    let (stop, stopped) = oneshot::channel();
    state.running.insert((command.to_owned(), index), stop);
    let (command, weak) = (command.to_owned(), Arc::downgrade(&shared));
    shared.runtime.spawn(async move {
        let done = tokio::select! {
            done = on_host(&container, &job) => done,
            _ = stopped => return,
        };
        if let Some(shared) = weak.upgrade() {
            finish(&mut shared.state(), &command, index, &job.instance, done);
        }
    });
    true
}

/// Ends what runs on a real host.
pub(super) fn cancel(state: &mut State, command: &str, index: usize) {
    if let Some(stop) = state.running.remove(&(command.to_owned(), index)) {
        // It has ended by itself when nobody listens.
        let _ = stop.send(());
    }
}

async fn on_host(container: &str, job: &Job) -> anyhow::Result<Vec<StepResult>> {
    let mut child = Command::new("docker")
        .args(["exec", "--interactive", container, "hostagent-lab", "ssm-agent"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // It takes the standard input of the agent on the host along, which then kills what it runs.
        .kill_on_drop(true)
        .spawn()
        .context("run docker")?;
    let (mut stdin, mut stdout) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
    let mut stderr = child.stderr.take().context("no stderr")?;
    stdin.write_all(format!("{}\n", serde_json::to_string(job)?).as_bytes()).await?;
    let (mut answer, mut errors) = (String::new(), String::new());
    let (read, _, status) =
        tokio::join!(stdout.read_to_string(&mut answer), stderr.read_to_string(&mut errors), child.wait());
    read?;
    // Until here, or the agent takes it for the end.
    drop(stdin);
    serde_json::from_str(&answer)
        .with_context(|| format!("the agent on the host said {answer:?} ({:?}): {errors}", status))
}

fn finish(state: &mut State, command: &str, index: usize, instance: &str, done: anyhow::Result<Vec<StepResult>>) {
    state.running.remove(&(command.to_owned(), index));
    let Some(began_s) = state.commands.get(command).and_then(|of| of.invocations[index].began_s) else { return };
    let limit_s = state.commands.get(command).map_or(0.0, |of| of.execution_s);
    let now_s = state.now_s();
    if state.hosts.get(instance).is_none_or(|host| host.online != Online::Yes) {
        // Nobody is there to tell: the service gives up when the time is over.
        let command = command.to_owned();
        state.after(began_s + limit_s - now_s, move |state| {
            end(state, &command, index, Status::ExecutionTimedOut, Vec::new());
        });
        return;
    }
    let steps = match done {
        Ok(steps) => steps,
        Err(error) => {
            let failed = Plugin {
                name: "agent".into(),
                status: Status::Failed,
                code: 1,
                stdout: String::new(),
                stderr: format!("{error:#}"),
                began_s,
                ended_s: now_s,
            };
            return end(state, command, index, Status::Failed, vec![failed]);
        }
    };
    let status = |status: StepStatus| match status {
        StepStatus::Success | StepStatus::Skipped => Status::Success,
        StepStatus::Failed => Status::Failed,
        StepStatus::TimedOut => Status::ExecutionTimedOut,
    };
    let worst = steps.iter().map(|step| status(step.status)).find(|status| *status != Status::Success);
    let plugin = |step: StepResult| Plugin {
        status: status(step.status),
        name: step.name,
        code: step.code,
        stdout: step.stdout,
        stderr: step.stderr,
        began_s,
        ended_s: now_s,
    };
    let plugins = steps.into_iter().map(plugin).collect();
    end(state, command, index, worst.unwrap_or(Status::Success), plugins);
}
