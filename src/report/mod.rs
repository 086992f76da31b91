//! Results as text: for people, as JSON for programs, in the size SSM shows, for Prometheus, and as SSM inventory.
//!
//! Renders what it is given and decides nothing: verdicts and exit codes come with the views of [`model`].

mod event;
mod fleet;
mod fleet_rollout;
mod human;
mod human_restart;
pub mod inventory;
pub mod json;
mod look;
pub mod metrics;
mod model;
pub mod page;
mod progress;
pub mod ssm;
mod status;
mod steps;
mod words;

pub use fleet::{FleetCheckReport, ZoneView};
pub use fleet_rollout::{BrakesReport, DocumentView, DocumentsReport, RolloutReport};
pub use look::Look;
pub use model::*;
pub use progress::{halt_words, step_words};
pub use status::{BudgetView, ServiceState, StatusReport, TimeLineView};
pub use steps::plan_steps;
pub use words::{headline, reach_words};

use clap::ValueEnum;
use serde::Serialize;
use std::path::Path;

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a verdict, tables, and what to type next
    Human,
    /// One JSON document with a schema version
    Json,
    /// For SSM Run Command: the verdict in a line, a small JSON summary, the rest in a file
    Ssm,
}

/// A result that can be printed in every format.
pub trait Render: Serialize {
    /// `hostagent/check/1`: changes when a field changes its meaning or goes away, not when one is added.
    const SCHEMA: &'static str;

    fn verdict(&self) -> &Verdict;

    /// For people, with a line end.
    fn human(&self, look: Look) -> String;

    /// What the SSM summary holds besides the verdict, the most important first.
    fn summary(&self) -> ssm::Summary;
}

/// The result as text with a line end.
///
/// With [`Format::Ssm`] the full JSON document is written to `report_file`; when that fails the
/// text says so and is whole otherwise.
pub fn render<R: Render>(report: &R, format: Format, look: Look, report_file: &Path) -> String {
    match format {
        Format::Human => report.human(look),
        Format::Json => json::text(&json::Document::of(report)),
        Format::Ssm => ssm::render(report, report_file),
    }
}
