//! Wall-clock times as the stand-ins print them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch.
pub fn unix_nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    (unix_nanos() / 1_000_000) as u64
}

/// `2026-11-22T17:36:05Z`.
pub fn iso(unix_s: u64) -> String {
    let (year, month, day, hour, minute, second) = civil(unix_s);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `20261122T173605Z`, the form of `X-Amz-Date`.
pub fn compact(unix_s: u64) -> String {
    let (year, month, day, hour, minute, second) = civil(unix_s);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// RFC 3339 with nanoseconds, as the Docker Engine writes it.
pub fn rfc3339_nanos(nanos: u128) -> String {
    let seconds = (nanos / 1_000_000_000) as u64;
    let text = iso(seconds);
    format!("{}.{:09}Z", &text[..text.len() - 1], nanos % 1_000_000_000)
}

/// Days-to-date after Howard Hinnant's public-domain algorithm.
fn civil(unix_s: u64) -> (i64, u64, u64, u64, u64, u64) {
    let days = (unix_s / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u64;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let rest = unix_s % 86_400;
    (year, month as u64, day, rest / 3_600, rest % 3_600 / 60, rest % 60)
}

/// `digits` random hexadecimal digits, for identifiers.
pub fn random_hex(digits: usize) -> String {
    use std::hash::{BuildHasher, RandomState};
    let mut text = String::new();
    while text.len() < digits {
        // RandomState is seeded from the system's randomness: good enough for names nobody has to guess.
        text.push_str(&format!("{:016x}", RandomState::new().hash_one(unix_nanos())));
    }
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(iso(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(compact(1_795_368_965), "20261122T173605Z");
        assert_eq!(rfc3339_nanos(951_827_696_000_000_007), "2000-02-29T12:34:56.000000007Z");
    }
}
