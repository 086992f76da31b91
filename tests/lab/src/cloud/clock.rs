//! Simulated time: it starts with the cloud and runs `speed` times as fast as the real one.

use crate::clock::unix_ms;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub struct SimClock {
    began: Instant,
    began_unix_s: f64,
    /// Simulated seconds per real second.
    pub speed: f64,
}

impl SimClock {
    pub(super) fn new(speed: f64) -> Self {
        Self { began: Instant::now(), began_unix_s: unix_ms() as f64 / 1_000.0, speed: speed.max(0.001) }
    }

    /// Simulated seconds since the start.
    pub fn now_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * self.speed
    }

    /// Seconds since the Unix epoch at `at_s` simulated seconds: what answers give as time stamps.
    pub fn unix_s(&self, at_s: f64) -> f64 {
        self.began_unix_s + at_s
    }

    /// Real time until `at_s`; zero when that is past.
    pub fn until(&self, at_s: f64) -> Duration {
        self.real(at_s - self.now_s())
    }

    /// Real length of `seconds` simulated ones.
    pub fn real(&self, seconds: f64) -> Duration {
        // A year is as good as for ever, and no overflow.
        Duration::from_secs_f64((seconds / self.speed).clamp(0.0, 31_536_000.0))
    }
}
