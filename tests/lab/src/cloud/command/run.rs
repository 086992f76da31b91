//! How a command goes through its hosts: one first, then more at once, and none after too many errors.

use super::{Command, Plugin, Status, Stopped, behave, send::INSTANCE};
use crate::cloud::{error::ApiError, event::Event, hosts::Online, input::Input, real, state::State};
use serde_json::{Value, json};

/// Seconds from when a command is sent to a host until its agent has it, at least and at most.
const ON_THE_WAY_S: (f64, f64) = (0.3, 1.2);
/// Seconds until a command that was sent counts as delayed.
const DELAYED_S: f64 = 10.0;

/// Sends the command to as many hosts as may have it now.
pub(super) fn pump(state: &mut State, id: &str) {
    while let Some(command) = state.commands.get_mut(id) {
        let limit = command.window.min(command.concurrency);
        if command.stopped.is_some() || command.in_flight >= limit || command.next >= command.invocations.len() {
            return;
        }
        let index = command.next;
        command.next += 1;
        command.in_flight += 1;
        hand_over(state, id, index);
    }
}

fn hand_over(state: &mut State, id: &str, index: usize) {
    let now_s = state.now_s();
    let Some(command) = state.commands.get_mut(id) else { return };
    let delivery_s = command.delivery_s;
    let invocation = &mut command.invocations[index];
    invocation.sent_s = Some(now_s);
    let instance = invocation.instance.clone();
    let (online, access) = match state.hosts.get(&instance) {
        Some(host) => (host.online, host.access),
        None => (Online::Undeliverable, true),
    };
    let id = id.to_owned();
    let fraction = (state.random() % 1_000) as f64 / 1_000.0;
    let way_s = ON_THE_WAY_S.0 + fraction * (ON_THE_WAY_S.1 - ON_THE_WAY_S.0);
    if !access {
        state.after(way_s, move |state| end(state, &id, index, Status::AccessDenied, Vec::new()));
        return;
    }
    match online {
        Online::Yes => state.after(way_s, move |state| deliver(state, &id, index)),
        Online::ConnectionLost => {
            let delayed = id.clone();
            state.after(DELAYED_S, move |state| {
                if let Some(waiting) = waiting(state, &delayed, index) {
                    *waiting = Status::Delayed;
                }
            });
            state.after(delivery_s, move |state| {
                if waiting(state, &id, index).is_some() {
                    end(state, &id, index, Status::DeliveryTimedOut, Vec::new());
                }
            });
        }
        Online::Undeliverable | Online::NotRegistered | Online::Stopped => {
            state.after(way_s, move |state| end(state, &id, index, Status::Undeliverable, Vec::new()));
        }
    }
}

/// The status of an invocation that was sent and that no agent has taken yet.
fn waiting<'a>(state: &'a mut State, id: &str, index: usize) -> Option<&'a mut Status> {
    let invocation = &mut state.commands.get_mut(id)?.invocations[index];
    let waits = matches!(invocation.status, Status::Pending | Status::Delayed) && invocation.sent_s.is_some();
    waits.then_some(&mut invocation.status)
}

/// A host's agent is back: it takes what waits for it.
pub fn came_online(state: &mut State, instance: &str) {
    let waits = |command: &Command| {
        let of = |invocation: &super::Invocation| {
            invocation.instance == instance
                && invocation.sent_s.is_some()
                && matches!(invocation.status, Status::Pending | Status::Delayed)
        };
        command.invocations.iter().position(of).map(|index| (command.id.clone(), index))
    };
    let all: Vec<(String, usize)> = state.commands.latest_first().filter_map(waits).collect();
    for (id, index) in all {
        state.after(ON_THE_WAY_S.1, move |state| deliver(state, &id, index));
    }
}

fn deliver(state: &mut State, id: &str, index: usize) {
    let now_s = state.now_s();
    let Some(status) = waiting(state, id, index) else { return };
    *status = Status::InProgress;
    let Some(command) = state.commands.get_mut(id) else { return };
    command.invocations[index].began_s = Some(now_s);
    let instance = command.invocations[index].instance.clone();
    let document = command.document.clone();
    let zone = state.hosts.zone(&instance);
    state.events.push(Event::Delivered {
        instance: instance.clone(),
        zone,
        command: id.to_owned(),
        document,
        at_s: now_s,
    });
    if real::runs(state, id, index, &instance) {
        return;
    }
    let Some(command) = state.commands.get(id) else { return };
    let task = behave::Task::of(command);
    let limit_s = command.execution_s;
    let began = behave::begin(state, &instance, &task);
    let id = id.to_owned();
    let over_s = began.seconds.unwrap_or(f64::INFINITY);
    if over_s > limit_s {
        // The whole process group is killed: nothing more is said.
        state.after(limit_s, move |state| {
            let plugin = plugin(
                &task.step,
                Status::ExecutionTimedOut,
                137,
                (String::new(), String::new()),
                now_s,
                state.now_s(),
            );
            end(state, &id, index, Status::ExecutionTimedOut, vec![plugin]);
        });
        return;
    }
    state.after(over_s, move |state| {
        let said = behave::finish(state, &instance, &task, &began);
        if state.hosts.get(&instance).is_none_or(|host| host.online != Online::Yes) {
            // Nobody is there to tell: the service gives up when the time is over.
            state.after(limit_s - over_s, move |state| end(state, &id, index, Status::ExecutionTimedOut, Vec::new()));
            return;
        }
        let status = if said.code == 0 { Status::Success } else { Status::Failed };
        let plugin = plugin(&task.step, status, said.code, (said.stdout, said.stderr), now_s, state.now_s());
        end(state, &id, index, status, vec![plugin]);
    });
}

fn plugin(name: &str, status: Status, code: i32, said: (String, String), began_s: f64, ended_s: f64) -> Plugin {
    Plugin { name: name.to_owned(), status, code, stdout: said.0, stderr: said.1, began_s, ended_s }
}

/// The invocation is over, unless it has been before.
pub(in crate::cloud) fn end(state: &mut State, id: &str, index: usize, status: Status, plugins: Vec<Plugin>) {
    let now_s = state.now_s();
    let Some(command) = state.commands.get_mut(id) else { return };
    let invocation = &mut command.invocations[index];
    if invocation.status.is_over() {
        return;
    }
    let status = if invocation.status == Status::Cancelling { Status::Cancelled } else { status };
    invocation.status = status;
    invocation.ended_s = Some(now_s);
    invocation.plugins = plugins;
    let instance = invocation.instance.clone();
    let document = command.document.clone();
    command.in_flight = command.in_flight.saturating_sub(1);
    command.window = (command.window + 1).min(command.concurrency);
    command.errors += usize::from(status.is_error());
    if command.errors > command.errors_allowed && command.stopped.is_none() {
        command.stopped = Some(Stopped::TooManyErrors);
        drop_unsent(command, Status::Terminated, now_s);
    }
    let zone = state.hosts.zone(&instance);
    let status = status.details().to_owned();
    state.events.push(Event::Ended { instance, zone, command: id.to_owned(), document, status, at_s: now_s });
    pump(state, id);
}

fn drop_unsent(command: &mut Command, status: Status, now_s: f64) {
    for invocation in command.invocations.iter_mut().filter(|invocation| invocation.sent_s.is_none()) {
        invocation.status = status;
        invocation.ended_s = Some(now_s);
    }
}

pub fn cancel(state: &mut State, input: &Value) -> Result<Value, ApiError> {
    let input = Input::new(input, &["CommandId", "InstanceIds"])?;
    let id = input.required("CommandId")?.to_owned();
    input.sized("CommandId", 36..=36)?;
    let only = input.strings("InstanceIds", 50, INSTANCE)?;
    let now_s = state.now_s();
    let command = state.commands.get_mut(&id).ok_or_else(|| ApiError::new("InvalidCommandId", ""))?;
    if let Some(other) = only.iter().find(|only| !command.invocations.iter().any(|of| of.instance == **only)) {
        return Err(ApiError::new("InvalidInstanceId", *other));
    }
    if only.is_empty() && !command.is_over() {
        command.stopped.get_or_insert(Stopped::Cancelled);
        drop_unsent(command, Status::Cancelled, now_s);
    }
    let mut ending = Vec::new();
    for (index, invocation) in command.invocations.iter_mut().enumerate() {
        if invocation.status.is_over() || !(only.is_empty() || only.contains(&invocation.instance.as_str())) {
            continue;
        }
        invocation.status = Status::Cancelling;
        ending.push(index);
    }
    for index in ending {
        let id = id.clone();
        state.after(ON_THE_WAY_S.1, move |state| {
            real::cancel(state, &id, index);
            end(state, &id, index, Status::Cancelled, Vec::new());
        });
    }
    Ok(json!({}))
}
