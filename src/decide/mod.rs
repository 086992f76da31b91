//! From findings, history and policy to a decision, and from a decision to the permission to act.
//!
//! Pure: no clock, no I/O. Time is an input.

mod history;
mod plan;

pub use history::*;
pub use plan::*;
