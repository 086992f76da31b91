//! What the cloud remembers of what happened.

/// `at_s`: simulated seconds since the cloud's start.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A call, by HTTP or of a runbook's step; `error` is the kind of a refused one.
    Api { service: String, action: String, at_s: f64, error: Option<String> },
    /// The SSM agent of a host took a command.
    Delivered { instance: String, zone: String, command: String, document: String, at_s: f64 },
    /// A command's invocation on a host ended with this status in detail.
    Ended { instance: String, zone: String, command: String, document: String, status: String, at_s: f64 },
    /// An agent went away for a restart.
    RestartBegan { instance: String, zone: String, at_s: f64 },
    /// It is back, or with `ok: false` it stays away.
    RestartEnded { instance: String, zone: String, at_s: f64, ok: bool },
    /// Of an Automation execution: a step's or its own change of status.
    Automation { execution: String, step: String, status: String, at_s: f64 },
}

impl Event {
    /// When it happened, in simulated seconds since the cloud's start.
    pub fn at_s(&self) -> f64 {
        match self {
            Self::Api { at_s, .. }
            | Self::Delivered { at_s, .. }
            | Self::Ended { at_s, .. }
            | Self::RestartBegan { at_s, .. }
            | Self::RestartEnded { at_s, .. }
            | Self::Automation { at_s, .. } => *at_s,
        }
    }
}
