//! hostagent on a whole container instance: real systemd, journald and Docker Engine, and the real binary.
//!
//! Every scene runs beside three workload containers, whose IDs, process IDs and start times must not change.

mod bake;
mod blind;
mod days;
mod endpoints;
mod fleet;
mod interruptions;
mod mending;
mod owners;
mod packages;
mod packed;
mod refusals;
mod scene;
mod served;
mod service;
mod settings;
mod ssm;
mod storms;
mod tried;
mod unit;
