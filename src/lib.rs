//! Moves the Amazon ECS agent onto PrivateLink, safely.
//!
//! One direction of data: observe → assess → decide → act → verify → report.
//!
//! | room | what it holds |
//! |---|---|
//! | [`facts`], [`catalog`] | the data of an observation and the names of the services: types on the ground floor |
//! | [`ports`] | what we need of the world, as traits, and one adapter a file |
//! | [`config`] | settings and where each came from |
//! | [`observe`] | one look at the host, through the ports |
//! | [`assess`] | an observation → who owns the agent, where it goes, what is ready, what stands in the way |
//! | [`decide`] | (findings, history, policy) → decision; the permission to act |
//! | [`act`] | carries a permitted plan out; hands a run off to a unit of its own |
//! | [`verify`] | before and after → whether it moved, and moved nothing else |
//! | [`flow`], [`progress`] | the one place that runs all of it, and what a run tells meanwhile |
//! | [`watch`] | the service: its states, its waits, what it tells systemd |
//! | [`fleet`] | many hosts: asked through SSM, moved by its runbook, reported on |
//! | [`report`] | results as text for people, as JSON, and in the size SSM shows |
//! | [`cli`] | the command line, one file a command |
//! | [`logging`], [`events`], [`text`] | events to stderr or the journal, and which matter; text from outside made harmless |

// What comes from outside must never end the program: it runs where nobody watches.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod act;
pub mod assess;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod decide;
pub mod events;
pub mod facts;
pub mod fleet;
pub mod flow;
pub mod logging;
pub mod observe;
pub mod ports;
pub mod progress;
pub mod report;
pub mod text;
pub mod verify;
pub mod watch;
