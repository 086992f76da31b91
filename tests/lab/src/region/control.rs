//! The control API of a running region, on a Unix socket.
//!
//! `GET /state` · `POST /set` (a [`Change`]) · `GET /events?after=N&wait_ms=M` (long poll) · `POST /hang-up?service=S`

use super::{
    place::Service,
    state::Shared,
    switch::{Addresses, Change, Event, State},
};
use crate::http::query;
use axum::{
    Json, Router,
    extract::{RawQuery, State as Extract},
    http::StatusCode,
    routing::{get, post},
};
use std::{sync::Arc, time::Duration};
use tokio::net::UnixListener;

/// The longest a poll for events may wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    addresses: Arc<Addresses>,
}

pub(super) async fn serve(
    shared: Arc<Shared>,
    addresses: Arc<Addresses>,
    listener: UnixListener,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/state", get(state))
        .route("/set", post(set))
        .route("/events", get(events))
        .route("/hang-up", post(hang_up))
        .with_state(Context { shared, addresses });
    Ok(axum::serve(listener, router).await?)
}

pub(super) fn snapshot(shared: &Shared, addresses: &Addresses) -> State {
    State {
        addresses: addresses.clone(),
        switches: shared.switches(),
        websockets: shared.websockets(),
        connections: shared.connections(),
        instances: shared.instances(),
        last_event: *shared.latest().borrow(),
    }
}

async fn state(Extract(context): Extract<Context>) -> Json<State> {
    Json(snapshot(&context.shared, &context.addresses))
}

async fn set(Extract(context): Extract<Context>, Json(change): Json<Change>) -> Json<State> {
    context.shared.change(&change).await;
    Json(snapshot(&context.shared, &context.addresses))
}

async fn events(Extract(context): Extract<Context>, RawQuery(raw): RawQuery) -> Json<Vec<Event>> {
    let query = query(&raw.unwrap_or_default());
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or_default();
    let after = number("after");
    let wait = Duration::from_millis(number("wait_ms")).min(WAIT_MAX);
    let mut latest = context.shared.latest();
    // Nothing new by then is an answer too: the empty list.
    let _ = tokio::time::timeout(wait, latest.wait_for(|seq| *seq > after)).await;
    Json(context.shared.events_after(after))
}

async fn hang_up(Extract(context): Extract<Context>, RawQuery(raw): RawQuery) -> (StatusCode, String) {
    let query = query(&raw.unwrap_or_default());
    match query.get("service").map(|name| Service::parse(name)).transpose() {
        Ok(service) => {
            context.shared.hang_up(service);
            (StatusCode::OK, "{}".into())
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
    }
}
