//! Run Command: commands, and what became of them on each host.

pub mod behave;
mod listing;
mod output;
mod page;
mod run;
mod send;

pub use listing::{get_invocation, list, list_invocations};
pub use output::joined;
pub(super) use run::end;
pub use run::{came_online, cancel};
pub(super) use send::{CONCURRENCY, ERRORS, INSTANCE, chosen, targets as read_targets};
pub use send::{Order, send, send_order};

use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// What became of a command on one host, or of one plugin there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    /// Sent, and not taken yet by an agent that does not answer.
    Delayed,
    InProgress,
    Success,
    Failed,
    DeliveryTimedOut,
    ExecutionTimedOut,
    Cancelling,
    Cancelled,
    /// Never sent, because of too many errors before it.
    Terminated,
    Undeliverable,
    AccessDenied,
}

impl Status {
    /// In one of the words of the enumeration `CommandInvocationStatus`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Delayed => "Delayed",
            Self::InProgress => "InProgress",
            Self::Success => "Success",
            Self::Failed | Self::Undeliverable | Self::AccessDenied => "Failed",
            Self::DeliveryTimedOut | Self::ExecutionTimedOut => "TimedOut",
            Self::Cancelling => "Cancelling",
            Self::Cancelled | Self::Terminated => "Cancelled",
        }
    }

    /// As `StatusDetails` has it.
    pub fn details(self) -> &'static str {
        match self {
            Self::DeliveryTimedOut => "DeliveryTimedOut",
            Self::ExecutionTimedOut => "ExecutionTimedOut",
            Self::Terminated => "Terminated",
            Self::Undeliverable => "Undeliverable",
            Self::AccessDenied => "AccessDenied",
            other => other.word(),
        }
    }

    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Delayed | Self::InProgress | Self::Cancelling)
    }

    /// Whether it counts against MaxErrors: what never reached the host does not.
    pub fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::ExecutionTimedOut)
    }
}

/// One step of a document on a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    pub name: String,
    pub status: Status,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// Simulated seconds.
    pub began_s: f64,
    pub ended_s: f64,
}

#[derive(Debug, Clone)]
pub struct Invocation {
    pub instance: String,
    pub status: Status,
    /// When it was handed to the host, in simulated seconds; `None` before.
    pub sent_s: Option<f64>,
    pub began_s: Option<f64>,
    pub ended_s: Option<f64>,
    pub plugins: Vec<Plugin>,
}

/// Why nothing more is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    TooManyErrors,
    Cancelled,
}

#[derive(Debug, Clone)]
pub struct Command {
    pub id: String,
    pub document: String,
    /// As it was asked for, `$DEFAULT` where it was not.
    pub version: String,
    pub content: Arc<Value>,
    /// As given.
    pub parameters: BTreeMap<String, Vec<String>>,
    /// With the defaults.
    pub resolved: Arc<BTreeMap<String, Vec<String>>>,
    pub comment: String,
    pub instance_ids: Vec<String>,
    pub targets: Vec<Value>,
    pub requested_s: f64,
    /// As given, or the default.
    pub max_concurrency: String,
    pub max_errors: String,
    /// Hosts at once, and errors that are let pass, of the hosts there are.
    pub concurrency: usize,
    pub errors_allowed: usize,
    /// Seconds for a host to take it, and for a step to run.
    pub delivery_s: f64,
    pub execution_s: f64,
    pub invocations: Vec<Invocation>,
    /// Index of the next host it is sent to.
    next: usize,
    in_flight: usize,
    errors: usize,
    /// Hosts at once by now: it begins with one and doubles with each round that ends.
    window: usize,
    pub stopped: Option<Stopped>,
    /// Of State Manager: the association it is a run of, which is not among the commands that are listed.
    pub association: Option<String>,
}

/// All commands, with the order they came in.
#[derive(Default)]
pub struct Commands {
    by_id: BTreeMap<String, Command>,
    order: Vec<String>,
}

impl Commands {
    pub fn get(&self, id: &str) -> Option<&Command> {
        self.by_id.get(id)
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut Command> {
        self.by_id.get_mut(id)
    }

    fn add(&mut self, command: Command) {
        self.order.push(command.id.clone());
        self.by_id.insert(command.id.clone(), command);
    }

    /// The latest first.
    pub fn latest_first(&self) -> impl Iterator<Item = &Command> {
        self.order.iter().rev().filter_map(|id| self.by_id.get(id))
    }
}

impl Command {
    pub fn count(&self, wanted: impl Fn(Status) -> bool) -> usize {
        self.invocations.iter().filter(|invocation| wanted(invocation.status)).count()
    }

    pub fn is_over(&self) -> bool {
        self.invocations.iter().all(|invocation| invocation.status.is_over())
    }

    /// Status and StatusDetails of the whole.
    pub fn status(&self) -> (&'static str, &'static str) {
        if self.invocations.is_empty() {
            return ("Success", "NoInstancesInTag");
        }
        if !self.is_over() {
            return match self.stopped {
                Some(Stopped::Cancelled) => ("Cancelling", "Cancelling"),
                _ if self.next == 0 => ("Pending", "Pending"),
                _ => ("InProgress", "InProgress"),
            };
        }
        let errors = self.errors;
        let undelivered = self.count(|status| status == Status::DeliveryTimedOut);
        match self.stopped {
            Some(Stopped::Cancelled) => ("Cancelled", "Cancelled"),
            Some(Stopped::TooManyErrors) => ("Failed", "Failed"),
            None if errors > self.errors_allowed => ("Failed", "Failed"),
            None if errors > 0 => ("Failed", "Incomplete"),
            None if undelivered == self.invocations.len() => ("TimedOut", "DeliveryTimedOut"),
            // Undeliverable ones do not contribute.
            None if undelivered > 0 => ("Failed", "Incomplete"),
            None if self.count(|status| status == Status::AccessDenied) > 0 => ("Failed", "AccessDenied"),
            None => ("Success", "Success"),
        }
    }
}
