//! SSM Run Command: documents sent to hosts, and what they answered.

use super::{AwsError, ErrorKind, Result, failed, incomplete};
use crate::facts::{CommandState, Invocation, InvocationState, Targets};
use aws_config::SdkConfig;
use aws_sdk_ssm::{
    Client,
    primitives::DateTime,
    types::{
        Command, CommandFilter, CommandFilterKey, CommandInvocation, CommandInvocationStatus, CommandStatus, Target,
    },
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// `SendCommand` takes at most so many instance IDs.
pub const IDS: usize = 50;
/// Lists come in pages of at most so many.
const PAGE: i32 = 50;
/// The shortest time, in seconds, that SSM tries to reach a host.
pub const DELIVERY_LEAST_S: i32 = 30;

/// A command to be sent.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    pub document: &'a str,
    /// Of a cluster only its instances' IDs can be sent to: at most [`IDS`] at a time.
    pub targets: &'a Targets,
    pub parameters: BTreeMap<String, Vec<String>>,
    /// At most 100 characters.
    pub comment: &'a str,
    /// How many hosts at once: a number or a percentage.
    pub at_once: &'a str,
    /// Not sent to further hosts after so many errors: a number or a percentage.
    pub errors: &'a str,
    /// How long SSM tries to reach a host, from [`DELIVERY_LEAST_S`] on.
    pub delivery_s: i32,
}

#[derive(Debug, Clone)]
pub struct RunCommand(Client);

impl RunCommand {
    pub fn new(config: &SdkConfig) -> Self {
        Self(Client::new(config))
    }

    /// Sends it; the command's ID.
    pub async fn send(&self, order: &Order<'_>) -> Result<String> {
        const ACTION: &str = "ssm:SendCommand";
        let mut request = self
            .0
            .send_command()
            .document_name(order.document)
            .comment(order.comment)
            .max_concurrency(order.at_once)
            .max_errors(order.errors)
            .timeout_seconds(order.delivery_s.max(DELIVERY_LEAST_S));
        for (name, values) in &order.parameters {
            request = request.parameters(name, values.clone());
        }
        request = match order.targets {
            // As a target, an instance that SSM does not manage costs the others nothing; in the list of IDs it would.
            Targets::Instances(ids) => {
                request.targets(Target::builder().key("InstanceIds").set_values(Some(ids.clone())).build())
            }
            Targets::Tag { key, value } => {
                request.targets(Target::builder().key(format!("tag:{key}")).values(value).build())
            }
            Targets::Cluster(name) => {
                return Err(incomplete(ACTION, &format!("target: cluster {name} is no target of SSM")));
            }
        };
        let answer = request.send().await.map_err(failed(ACTION, order.document))?;
        let id = answer.command.and_then(|command| command.command_id);
        id.ok_or_else(|| incomplete(ACTION, "command ID"))
    }

    /// How far a command is; `None` while SSM does not list it yet.
    pub async fn command(&self, id: &str) -> Result<Option<CommandState>> {
        match self.0.list_commands().command_id(id).send().await.map_err(failed("ssm:ListCommands", id)) {
            Ok(answer) => Ok(answer.commands().first().and_then(state)),
            Err(AwsError { kind: ErrorKind::Missing, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The commands of a document that were asked for after a moment, newest first.
    pub async fn commands(&self, document: &str, after: Timestamp) -> Result<Vec<CommandState>> {
        let filter = |key, value: &str| CommandFilter::builder().key(key).value(value).build();
        let after = format!("{:.0}", after.round(jiff::Unit::Second).unwrap_or(after));
        let mut request = self.0.list_commands().max_results(PAGE);
        for (key, value) in [(CommandFilterKey::DocumentName, document), (CommandFilterKey::InvokedAfter, &after)] {
            let filter = filter(key, value).map_err(|error| incomplete("ssm:ListCommands", &error.to_string()))?;
            request = request.filters(filter);
        }
        let mut pages = request.into_paginator().send();
        let mut commands = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("ssm:ListCommands", document))?;
            commands.extend(page.commands().iter().filter_map(state));
        }
        Ok(commands)
    }

    /// What each host answered so far, none while SSM does not know the command yet: a call for each 50.
    pub async fn invocations(&self, id: &str) -> Result<Vec<Invocation>> {
        let request = self.0.list_command_invocations().command_id(id).details(true).max_results(PAGE);
        let mut pages = request.into_paginator().send();
        let mut invocations = Vec::new();
        while let Some(page) = pages.next().await {
            let page = match page.map_err(failed("ssm:ListCommandInvocations", id)) {
                Err(AwsError { kind: ErrorKind::Missing, .. }) => break,
                page => page?,
            };
            invocations.extend(page.command_invocations().iter().filter_map(invocation));
        }
        Ok(invocations)
    }
}

fn state(command: &Command) -> Option<CommandState> {
    let ended = !matches!(
        command.status(),
        None | Some(CommandStatus::Pending | CommandStatus::InProgress | CommandStatus::Cancelling)
    );
    let count = |count: i32| u32::try_from(count).unwrap_or(0);
    Some(CommandState {
        id: command.command_id()?.to_owned(),
        document: command.document_name().unwrap_or_default().to_owned(),
        comment: command.comment().unwrap_or_default().to_owned(),
        ended,
        targets: count(command.target_count()),
        requested_at: command.requested_date_time().and_then(time),
    })
}

fn invocation(invocation: &CommandInvocation) -> Option<Invocation> {
    let plugins = invocation.command_plugins();
    Some(Invocation {
        instance_id: invocation.instance_id()?.to_owned(),
        state: invocation_state(invocation.status(), invocation.status_details().unwrap_or_default()),
        output: plugins.iter().filter_map(|plugin| plugin.output()).collect::<Vec<_>>().join("\n"),
        began_at: plugins.iter().filter_map(|p| p.response_start_date_time()).filter_map(time).min(),
        ended_at: plugins.iter().filter_map(|p| p.response_finish_date_time()).filter_map(time).max(),
    })
}

/// `details` tells a host that was never reached from one whose script ran too long.
fn invocation_state(status: Option<&CommandInvocationStatus>, details: &str) -> InvocationState {
    // Written with and without spaces by different parts of SSM.
    let details: String = details.chars().filter(|c| !c.is_whitespace()).collect();
    match (status, details.as_str()) {
        (_, "DeliveryTimedOut" | "Undeliverable" | "InvalidPlatform" | "AccessDenied") => InvocationState::NotReached,
        (_, "Terminated" | "RateExceeded") => InvocationState::NotSent,
        (Some(CommandInvocationStatus::Success), _) => InvocationState::Success,
        (Some(CommandInvocationStatus::Failed), _) => InvocationState::Failed,
        (Some(CommandInvocationStatus::TimedOut), _) => InvocationState::TimedOut,
        (Some(CommandInvocationStatus::Cancelled), _) => InvocationState::NotSent,
        _ => InvocationState::UnderWay,
    }
}

pub(super) fn time(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}
