//! Whole runs, from the lock to the proof, on a host made of stand-ins for every port.

mod acts;
mod brakes;
mod halts;
mod host;
#[allow(dead_code, reason = "what it has of the hosts to judge is shared with the invariants")]
#[path = "../invariants/world.rs"]
mod world;
