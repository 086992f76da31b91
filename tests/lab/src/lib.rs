//! A region in a box: stand-ins for what hostagent meets on an ECS container instance.
//!
//! - [`region`]: name server, services on public and endpoint addresses, metadata service
//! - [`control`]: the client of a running region's switches, events and websockets
//! - [`agent`]: an ECS agent that connects as the real one does
//! - [`host`]: a container instance in a container, with real systemd, journald and Docker Engine, for tests
//! - [`cloud`]: the services a fleet is moved through, and as many hosts as wanted
//! - [`ecs_init`], [`link`], [`workload`]: what runs on such a host
//! - [`engine`]: a Docker Engine whose containers are child processes
//! - [`story`]: the demo

pub mod agent;
pub mod clock;
pub mod cloud;
pub mod control;
pub mod ecs_init;
pub mod engine;
pub mod host;
pub mod http;
pub mod link;
pub mod notify;
pub mod region;
pub mod story;
pub mod workload;
