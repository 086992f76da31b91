//! The network's adapters against real servers of the tests' own, on loopback.

mod cached;
mod ecs;
mod imds;
mod introspection;
mod iptables;
mod resolver;
mod sockets;
mod support;
mod tls;
