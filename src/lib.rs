//! Moves the Amazon ECS agent onto PrivateLink, safely.
//!
//! One direction of data: observe → assess → decide → act → verify → report.
//!
//! | room | what it holds |
//! |---|---|
//! | [`facts`], [`catalog`] | the data of an observation and the names of the services: types on the ground floor |
//! | [`ports`] | what we need of the world, as traits, and one adapter a file |
//! | [`config`] | settings and where each came from |
//! | [`assess`] | an observation → who owns the agent, where it goes, what is ready, what stands in the way |
//! | [`decide`] | (findings, history, policy) → decision; the permission to act |
//! | [`verify`] | before and after → whether it moved, and moved nothing else |

pub mod assess;
pub mod catalog;
pub mod config;
pub mod decide;
pub mod facts;
pub mod ports;
pub mod verify;
