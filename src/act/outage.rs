//! Measures how long the agent is gone, by looking all the time while it is restarted.
//!
//! The looks must not lengthen what they measure: they share the host with the engine and the init system, which are
//! at work on the restart. While the agent is away little more is done than to knock at its introspection port.

use crate::{
    assess,
    catalog::Service,
    config::Settings,
    decide::EndpointSet,
    facts::{CredentialRules, Observation, Presence, Socket},
    ports::Ports,
    progress::Outage,
};
use std::{
    future::{Future, pending},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

/// Between two looks: short beside an outage of most of a second.
const EVERY: Duration = Duration::from_millis(25);

/// Looks under way; [`Sampler::finish`] ends them.
pub struct Sampler {
    agent: Looks,
    websockets: Looks,
    rules: Looks,
}

impl Sampler {
    /// Begins to look. Start it before acting: what is gone already counts from the first look.
    ///
    /// `before` is the host as it was last seen: while as many of the connections the agent held then stand as it needs
    /// websockets, these count as up.
    pub fn start(ports: &Ports, settings: &Settings, endpoints: &EndpointSet, before: &Observation) -> Self {
        let (answers, answering) = watch::channel(true);
        let websockets = Websockets {
            ports: ports.clone(),
            container: settings.agent.container.clone(),
            endpoints: endpoints.clone(),
            wanted: assess::websockets(before),
            before: before.sockets.known().cloned().unwrap_or_default(),
            answering: answering.clone(),
            pid: agent_pid(before),
        };
        Self {
            agent: Looks::start(Agent { ports: ports.clone(), answers }),
            websockets: Looks::start(websockets),
            rules: Looks::start(Rules { ports: ports.clone(), answering, last: None, back_again: false }),
        }
    }

    /// Ends the looks and tells what was seen.
    pub async fn finish(self) -> Outage {
        // The others go by whether the agent answers, so its last look comes first.
        let agent_s = self.agent.end().await;
        let (websockets_s, credential_rules_s) = tokio::join!(self.websockets.end(), self.rules.end());
        Outage { agent_s, websockets_s, credential_rules_s, resolution_s: EVERY.as_secs_f64() }
    }
}

/// Looks at one thing until they are ended.
struct Looks {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Option<f64>>,
}

impl Looks {
    fn start(thing: impl Look) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(gap(stopped, thing)) }
    }

    async fn end(self) -> Option<f64> {
        let _ = self.stop.send(());
        self.task.await.ok().flatten()
    }
}

fn agent_pid(seen: &Observation) -> Option<u32> {
    match seen.agent.presence.known()? {
        Presence::Container(container) => container.pid,
        Presence::HostProcess { pid, .. } => Some(*pid),
        Presence::Absent => None,
    }
}

/// Something looked at again and again.
trait Look: Send + 'static {
    /// Whether it is there; `None` when this look does not tell.
    fn look(&mut self) -> impl Future<Output = Option<bool>> + Send;

    /// Ends when there is a reason to look before the time.
    fn reason(&mut self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// The introspection server.
struct Agent {
    ports: Ports,
    answers: watch::Sender<bool>,
}

impl Look for Agent {
    async fn look(&mut self) -> Option<bool> {
        let up = self.ports.introspect.metadata().await.is_ok();
        self.answers.send_if_modified(|answers| std::mem::replace(answers, up) != up);
        Some(up)
    }
}

/// The agent's websockets.
struct Websockets {
    ports: Ports,
    container: String,
    endpoints: EndpointSet,
    wanted: &'static [Service],
    before: Vec<Socket>,
    answering: watch::Receiver<bool>,
    /// The agent's process as far as it is known, so that the engine is not asked for it at each look.
    pid: Option<u32>,
}

impl Look for Websockets {
    /// Whether enough of the former connections still stand, or one to an endpoint of each wanted service.
    async fn look(&mut self) -> Option<bool> {
        let Some(sockets) = self.sockets().await else { return Some(false) };
        if sockets.iter().filter(|socket| self.before.contains(socket)).count() >= self.wanted.len() {
            return Some(true);
        }
        let on =
            |service: Service| sockets.iter().any(|socket| self.endpoints.0.contains(&(service, socket.peer.ip())));
        Some(self.wanted.iter().all(|service| on(*service)))
    }

    async fn reason(&mut self) {
        change(&mut self.answering).await;
    }
}

/// Ends when the agent begins to answer or ceases to.
async fn change(answering: &mut watch::Receiver<bool>) {
    if answering.changed().await.is_err() {
        // Nobody looks at the agent any more.
        pending().await
    }
}

impl Websockets {
    async fn sockets(&mut self) -> Option<Vec<Socket>> {
        if let Some(pid) = self.pid.take()
            && let Ok(sockets) = self.ports.sockets.established(pid).await
        {
            self.pid = Some(pid);
            return Some(sockets);
        }
        // An agent that does not answer holds no websockets: both need its registration.
        if !*self.answering.borrow() {
            return None;
        }
        let pid = self.ports.engine.agent(&self.container).await.ok()??.pid?;
        let sockets = self.ports.sockets.established(pid).await.ok()?;
        self.pid = Some(pid);
        Some(sockets)
    }
}

/// The credential rules, which it takes a program of its own to read. A supervisor takes them away once the agent is
/// gone and lays them again before it starts the next, so they are read at first, while the agent is away, and until
/// they are back.
struct Rules {
    ports: Ports,
    answering: watch::Receiver<bool>,
    last: Option<bool>,
    back_again: bool,
}

impl Look for Rules {
    async fn look(&mut self) -> Option<bool> {
        if self.back_again || (self.last == Some(true) && *self.answering.borrow()) {
            return None;
        }
        let there = self.ports.nat.credential_rules().await.ok()? == CredentialRules { prerouting: 1, output: 1 };
        self.back_again = there && self.last == Some(false);
        self.last = Some(there);
        Some(there)
    }

    async fn reason(&mut self) {
        change(&mut self.answering).await;
    }
}

/// The longest time between a look that found it gone and the next that found it there; 0 when it was never gone,
/// `None` when no look could tell or it never came back. What is still gone at the end is looked at once more then:
/// whoever ends the looks may have seen it come back since.
async fn gap(mut stopped: oneshot::Receiver<()>, mut thing: impl Look) -> Option<f64> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut gone_since, mut longest) = (false, None::<Instant>, 0.0_f64);
    let mut last = false;
    while !last {
        tokio::select! {
            _ = &mut stopped => last = true,
            _ = ticks.tick() => {}
            () = thing.reason() => {}
        }
        if last && gone_since.is_none() {
            break;
        }
        match thing.look().await {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Tells these, one at each look, and then nothing more.
    struct Script(VecDeque<Option<bool>>, Option<oneshot::Sender<()>>);

    impl Look for Script {
        async fn look(&mut self) -> Option<bool> {
            let told = self.0.pop_front();
            // The end comes while there is one look left to make.
            if self.0.len() <= 1 {
                drop(self.1.take());
            }
            told.flatten()
        }
    }

    async fn seconds(looks: &[Option<bool>]) -> Option<f64> {
        let (stop, stopped) = oneshot::channel();
        gap(stopped, Script(looks.iter().copied().collect(), Some(stop))).await
    }

    #[tokio::test]
    async fn a_gap_needs_an_end() {
        const YES: Option<bool> = Some(true);
        const NO: Option<bool> = Some(false);
        assert_eq!(seconds(&[YES, YES, YES]).await, Some(0.0), "never gone");
        assert!(seconds(&[YES, NO, None, YES, YES, YES]).await.is_some_and(|s| s > 0.0), "gone and back");
        assert_eq!(seconds(&[YES, NO, NO, NO]).await, None, "never back");
        assert_eq!(seconds(&[None, None, None]).await, None, "no look could tell");
    }

    #[tokio::test]
    async fn what_comes_back_at_the_very_end_is_seen() {
        let seen = seconds(&[Some(true), Some(false), Some(true)]).await;
        assert!(seen.is_some(), "it was there at the last look: {seen:?}");
    }
}
