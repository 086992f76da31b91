//! `hostagent fleet` against the lab's cloud: the real program and the real AWS SDK, simulated hosts.

mod check;
mod documents;
mod from_hosts;
mod others;
mod readme;
mod rollout;
mod support;
