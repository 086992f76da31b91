//! How long a host waits between "ready" and its restart.
//!
//! Drawn, not rolled: the same host waits as long for the same endpoints whenever it is asked, so that a service that
//! is started again does not draw anew. FNV-1a (64 bits) over the text, finished with the mixer of MurmurHash3:
//! written out here because a fleet must draw the same from every version of hostagent.

use crate::decide::EndpointSet;
use std::{fmt::Write, time::Duration};

/// A number drawn from a text. Never changes between versions.
pub fn draw(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // FNV leaves the high bits of short texts that differ in the end alike.
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A part of `whole`, below it, drawn from a text.
pub fn part(text: &str, whole: Duration) -> Duration {
    let millis = whole.as_millis().saturating_mul(u128::from(draw(text))) >> 64;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// The wait of this instance for these endpoints, below `max`.
///
/// The cube root of an even draw: few hosts go early, an eighth of the fleet in the first half of the time. What goes wrong
/// with the first is seen, and the cluster halted, before many have followed.
pub fn splay(instance_id: &str, endpoints: &EndpointSet, max: Duration) -> Duration {
    let mut text = instance_id.to_owned();
    for (service, ip) in &endpoints.0 {
        // Writing to a text cannot fail.
        let _ = write!(text, " {service}={ip}");
    }
    let early = (draw(&text) as f64 / 18_446_744_073_709_551_616.0).cbrt();
    max.mul_f64(early.min(0.999_999))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Service;

    fn set(last: u8) -> EndpointSet {
        EndpointSet([(Service::Ecs, [10, 0, 0, last].into())].into())
    }

    #[test]
    fn a_draw_is_the_same_for_ever() {
        // A change here would have a fleet of two versions draw twice.
        assert_eq!(draw(""), 0xefd0_1f60_ba99_2926);
        assert_eq!(draw("i-0f00dfacade00001"), draw("i-0f00dfacade00001"));
        let max = Duration::from_secs(1_800);
        assert_eq!(splay("i-0f00dfacade00001", &set(1), max), splay("i-0f00dfacade00001", &set(1), max));
        assert_ne!(splay("i-0f00dfacade00001", &set(1), max), splay("i-0f00dfacade00001", &set(2), max));
        assert_eq!(splay("i-0f00dfacade00001", &set(1), Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn few_of_a_fleet_go_early() {
        let max = Duration::from_secs(1_800);
        let mut waits: Vec<u64> = Vec::new();
        for n in 0..1_000 {
            let wait = splay(&format!("i-{n:017x}"), &set(1), max);
            assert!(wait < max);
            waits.push(wait.as_secs());
        }
        let by = |share: f64| waits.iter().filter(|s| (**s as f64) < 1_800.0 * share).count();
        let (fifth, half) = (by(0.2), by(0.5));
        // A cube: 8 and 125 of a thousand.
        assert!((1..=20).contains(&fifth) && (95..=155).contains(&half), "{fifth} {half}");
    }
}
