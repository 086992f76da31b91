//! Runbooks in the test cloud: what its interpreter makes of them, and the documents of hostagent in it.

mod fleet;
mod interpreter;
mod interrupted;
mod refusals;
mod rollout;
mod states;
mod support;
