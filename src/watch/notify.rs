//! What systemd is told. Without systemd nothing is told, and nothing fails.

use sd_notify::NotifyState;
use std::time::Duration;

/// Started, or done with a reload.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(words: &str) {
    // A line end would begin another message.
    tell(&[NotifyState::Status(&crate::text::clean(words))]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] has to be called, if systemd wants to hear of us at all: twice in its time.
pub fn watchdog_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|every| (every / 2).max(Duration::from_millis(100)))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
