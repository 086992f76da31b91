//! Systems Manager as a host of this region reaches it: the [`cloud`](crate::cloud)'s, behind the region's doors.

use super::{
    ecs_api::read,
    https::{Call, Reply, error, json},
    sigv4,
    state::Shared,
    switch::What,
};
use crate::cloud::{self, CloudOptions};
use hyper::{Request, StatusCode, body::Incoming};
use std::{fmt, net::SocketAddr, sync::Arc};
use tokio::runtime::Handle;

const TARGET: &str = "AmazonSSM.";

/// The one Systems Manager of a region.
pub(super) struct Manager(Arc<cloud::Shared>);

impl Manager {
    /// Must be made where a runtime is.
    pub fn new() -> Self {
        // Nobody calls back: there is no Python on a host that would run the scripts of a runbook.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        Self(cloud::Shared::started(
            CloudOptions { settle_s: 0.0, ..CloudOptions::default() },
            nowhere,
            Handle::current(),
        ))
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Manager")
    }
}

pub(super) async fn respond(shared: &Arc<Shared>, call: Call, request: Request<Incoming>) -> Reply {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(action) = target.strip_prefix(TARGET).map(str::to_string) else {
        return error(StatusCode::NOT_FOUND, "UnknownOperationException", "");
    };
    let (reply, detail) = match answer(shared, &action, request).await {
        Ok(reply) => (reply, String::new()),
        Err(reply) => (*reply, "refused".to_string()),
    };
    let status = reply.status().as_u16();
    shared.log(What::Api { action, local: call.local, peer: call.peer, status, detail });
    reply
}

async fn answer(shared: &Arc<Shared>, action: &str, request: Request<Incoming>) -> Result<Reply, Box<Reply>> {
    sigv4::check(shared, request.headers(), &["ssm"])?;
    let input = read(request).await?;
    let status = |status| StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(fault) = shared.api_fault(action) {
        return Err(Box::new(error(status(fault.status), &fault.kind, &fault.message)));
    }
    match shared.manager.0.call("ssm", action, &input) {
        Ok(output) => Ok(json(StatusCode::OK, &output)),
        Err(refused) => Err(Box::new(error(status(refused.status), &refused.kind, &refused.message))),
    }
}
