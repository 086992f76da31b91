//! Measures how long the agent is gone, by looking all the time while it is restarted.

use crate::{
    catalog::Service,
    config::Settings,
    decide::EndpointSet,
    facts::{CredentialRules, Socket},
    ports::Ports,
    progress::Outage,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

/// Between two looks. Short beside an outage of most of a second, and cheap enough not to lengthen it.
const EVERY: Duration = Duration::from_millis(25);

/// Looks under way; [`Sampler::finish`] ends them.
pub struct Sampler {
    stop: watch::Sender<bool>,
    agent: JoinHandle<Option<f64>>,
    websockets: JoinHandle<Option<f64>>,
    rules: JoinHandle<Option<f64>>,
}

impl Sampler {
    /// Begins to look. Start it before acting: what is gone already counts from the first look.
    ///
    /// `before` are the connections the agent held so far: while two of them stand, its websockets count as up.
    pub fn start(ports: &Ports, settings: &Settings, endpoints: &EndpointSet, before: &[Socket]) -> Self {
        let (stop, stopped) = watch::channel(false);
        let agent = {
            let ports = ports.clone();
            tokio::spawn(gap(stopped.clone(), move || {
                let ports = ports.clone();
                async move { Some(ports.introspect.metadata().await.is_ok()) }
            }))
        };
        let websockets = {
            let watched = Arc::new(Watched {
                ports: ports.clone(),
                container: settings.agent.container.clone(),
                endpoints: endpoints.clone(),
                before: before.to_vec(),
            });
            tokio::spawn(gap(stopped.clone(), move || {
                let watched = watched.clone();
                async move { Some(watched.websockets_stand().await) }
            }))
        };
        let rules = {
            let ports = ports.clone();
            tokio::spawn(gap(stopped, move || {
                let ports = ports.clone();
                async move {
                    let rules = ports.nat.credential_rules().await.ok()?;
                    Some(rules == CredentialRules { prerouting: 1, output: 1 })
                }
            }))
        };
        Self { stop, agent, websockets, rules }
    }

    /// Ends the looks and tells what was seen.
    pub async fn finish(self) -> Outage {
        let _ = self.stop.send(true);
        Outage {
            agent_s: self.agent.await.ok().flatten(),
            websockets_s: self.websockets.await.ok().flatten(),
            credential_rules_s: self.rules.await.ok().flatten(),
            resolution_s: EVERY.as_secs_f64(),
        }
    }
}

/// What the look at the websockets needs.
struct Watched {
    ports: Ports,
    container: String,
    endpoints: EndpointSet,
    before: Vec<Socket>,
}

impl Watched {
    /// Whether two of the former connections still stand, or one each to an ecs-agent and an ecs-telemetry endpoint.
    async fn websockets_stand(&self) -> bool {
        let Ok(Some(container)) = self.ports.engine.agent(&self.container).await else { return false };
        let Some(pid) = container.pid else { return false };
        let Ok(sockets) = self.ports.sockets.established(pid).await else { return false };
        if sockets.iter().filter(|socket| self.before.contains(socket)).count() >= 2 {
            return true;
        }
        let on =
            |service: Service| sockets.iter().any(|socket| self.endpoints.0.contains(&(service, socket.peer.ip())));
        on(Service::EcsAgent) && on(Service::EcsTelemetry)
    }
}

/// The longest time between a look that found it gone and the next that found it there; 0 when it was never gone,
/// `None` when no look could tell or it never came back.
async fn gap<F, R>(mut stop: watch::Receiver<bool>, look: F) -> Option<f64>
where
    F: Fn() -> R,
    R: Future<Output = Option<bool>>,
{
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut gone_since, mut longest) = (false, None::<Instant>, 0.0_f64);
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            _ = ticks.tick() => {}
        }
        match look().await {
            None => {}
            Some(true) => {
                told = true;
                if let Some(since) = gone_since.take() {
                    longest = longest.max(since.elapsed().as_secs_f64());
                }
            }
            Some(false) => {
                told = true;
                gone_since.get_or_insert_with(Instant::now);
            }
        }
    }
    (told && gone_since.is_none()).then_some(longest)
}
