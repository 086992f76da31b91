//! When the service may act: `Mon-Fri 22:00-04:00 Europe/Berlin`.

use jiff::{
    Timestamp, ToSpan, Zoned,
    civil::{Time, Weekday},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Days and times of one zone. A span whose end is not after its begin ends on the following day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// As it was written, blanks made single.
    text: String,
    /// Monday first.
    days: [bool; 7],
    from: Time,
    /// At or before `from`: on the following day.
    to: Time,
    zone: TimeZone,
}

/// What the windows say of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    /// No window is configured.
    Always,
    /// Inside one that is so many seconds long.
    Open { length_s: u64 },
    /// Outside all of them; the next begins then, if any does within two weeks.
    Closed { opens: Option<Timestamp> },
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Two weeks hold at least one whole opening of every window, whatever a zone does to its clocks.
const AHEAD: i32 = 14;

impl Window {
    /// The span that begins on this day of the zone, if one does.
    fn on(&self, day: jiff::civil::Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days[day_index(day.weekday())] {
            return None;
        }
        let last = if self.to > self.from { day } else { day.tomorrow().ok()? };
        let begin = day.to_datetime(self.from).to_zoned(self.zone.clone()).ok()?;
        let end = last.to_datetime(self.to).to_zoned(self.zone.clone()).ok()?;
        Some((begin.timestamp(), end.timestamp()))
    }

    /// Spans from yesterday's to two weeks ahead, in order.
    fn spans(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let today = Zoned::new(now, self.zone.clone()).date();
        (-1..=AHEAD).filter_map(move |n| self.on(today.checked_add(n.days()).ok()?))
    }
}

/// What all windows together say of `now`.
pub fn opening(windows: &[Window], now: Timestamp) -> Opening {
    if windows.is_empty() {
        return Opening::Always;
    }
    let spans = || windows.iter().flat_map(|w| w.spans(now));
    if let Some((begin, end)) = spans().find(|(begin, end)| *begin <= now && now < *end) {
        let length = end.duration_since(begin).as_secs();
        return Opening::Open { length_s: u64::try_from(length).unwrap_or(0) };
    }
    Opening::Closed { opens: spans().map(|(begin, _)| begin).filter(|begin| *begin > now).min() }
}

/// When a window opens, in its own zone: `Sat 02:00 Europe/Berlin (2026-11-28)`. `opens` is what [`opening`] said.
pub fn opens_words(windows: &[Window], opens: Timestamp) -> String {
    let its = windows.iter().find(|window| window.spans(opens).any(|(begin, _)| begin == opens));
    let (zone, name) = match its {
        Some(window) => (window.zone.clone(), window.text.rsplit(' ').next().unwrap_or("UTC")),
        None => (TimeZone::UTC, "UTC"),
    };
    let at = Zoned::new(opens, zone);
    let day = DAYS.get(day_index(at.weekday())).copied().unwrap_or_default();
    format!("{day} {:02}:{:02} {name} ({})", at.hour(), at.minute(), at.date())
}

fn day_index(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.text
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Window {
    type Err = String;

    /// `DAYS HH:MM-HH:MM ZONE`; says what is wrong in a few words.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [days, times, zone] = words[..] else { return Err("not three words: DAYS TIMES ZONE".into()) };
        let (from, to) = times.split_once('-').ok_or_else(|| format!("{times} is no HH:MM-HH:MM"))?;
        Ok(Self {
            text: words.join(" "),
            days: parse_days(days)?,
            from: parse_time(from, false)?,
            // A day ends at 24:00, which is the midnight that begins the next.
            to: parse_time(to, true)?,
            zone: parse_zone(zone)?,
        })
    }
}

/// `Mon-Fri,Sun`, `daily`; a range may go over Sunday.
fn parse_days(text: &str) -> Result<[bool; 7], String> {
    if text.eq_ignore_ascii_case("daily") {
        return Ok([true; 7]);
    }
    let index = |name: &str| {
        DAYS.iter().position(|d| d.eq_ignore_ascii_case(name)).ok_or_else(|| format!("{name:?} is no day: Mon to Sun"))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (index(first)?, index(last)?);
        days[day] = true;
        while day != last {
            day = (day + 1) % 7;
            days[day] = true;
        }
    }
    Ok(days)
}

fn parse_time(text: &str, end: bool) -> Result<Time, String> {
    if end && text == "24:00" {
        return Ok(Time::midnight());
    }
    let wrong = || format!("{text:?} is no time of day: 00:00 to 23:59");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !two(hour) || !two(minute) {
        return Err(wrong());
    }
    let (hour, minute) = (hour.parse().map_err(|_| wrong())?, minute.parse().map_err(|_| wrong())?);
    Time::new(hour, minute, 0, 0).map_err(|_| wrong())
}

fn parse_zone(text: &str) -> Result<TimeZone, String> {
    if text.eq_ignore_ascii_case("UTC") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(text).map_err(|_| {
        format!("the zone {text:?} is not in this host's time zone database (the package tzdata); UTC always is")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn closed_until(text: &str) -> Opening {
        Opening::Closed { opens: Some(at(text)) }
    }

    #[test]
    fn no_window_is_always_open() {
        assert_eq!(opening(&[], at("2026-11-22T00:00:00Z")), Opening::Always);
    }

    #[test]
    fn a_span_over_midnight_belongs_to_the_day_it_begins_on() {
        let windows = ["Mon-Fri 22:00-04:00 UTC".parse().unwrap()];
        // 2026-11-20 is a Friday.
        let open = Opening::Open { length_s: 6 * 3_600 };
        assert_eq!(opening(&windows, at("2026-11-20T22:00:00Z")), open);
        assert_eq!(opening(&windows, at("2026-11-21T03:59:59Z")), open);
        assert_eq!(opening(&windows, at("2026-11-21T04:00:00Z")), closed_until("2026-11-23T22:00:00Z"));
        assert_eq!(opening(&windows, at("2026-11-22T23:00:00Z")), closed_until("2026-11-23T22:00:00Z"));
    }

    #[test]
    fn days_wrap_and_join_and_a_whole_day_is_one() {
        let windows = ["Sat-Mon,wed 00:00-24:00 UTC".parse().unwrap()];
        let whole = Opening::Open { length_s: 86_400 };
        for (day, open) in [(21, true), (22, true), (23, true), (24, false), (25, true), (26, false)] {
            let now = at(&format!("2026-11-{day}T12:00:00Z"));
            assert_eq!(opening(&windows, now) == whole, open, "{now}");
        }
        let daily = ["daily 01:00-01:30 UTC".parse().unwrap()];
        assert_eq!(opening(&daily, at("2026-11-22T01:29:00Z")), Opening::Open { length_s: 1_800 });
    }

    #[test]
    fn a_zone_moves_it_and_its_summer_time_too() {
        let Ok(window) = "Sun 01:00-05:00 Europe/Berlin".parse() else { panic!("tzdata is installed") };
        let windows = [window];
        assert_eq!(opening(&windows, at("2026-11-22T00:00:00Z")), Opening::Open { length_s: 4 * 3_600 });
        // The night of 25 October has an hour more.
        assert_eq!(opening(&windows, at("2026-10-25T00:00:00Z")), Opening::Open { length_s: 5 * 3_600 });
    }

    #[test]
    fn when_it_opens_is_said_in_its_own_zone() {
        let windows = ["Mon-Fri 22:00-04:00 UTC", "Sat 02:00-04:00 Europe/Berlin"].map(|text| text.parse().unwrap());
        let said = |now: &str| {
            let Opening::Closed { opens: Some(opens) } = opening(&windows, at(now)) else { panic!("closed at {now}") };
            opens_words(&windows, opens)
        };
        // 2026-11-20 is a Friday, and Berlin an hour ahead.
        assert_eq!(said("2026-11-20T12:00:00Z"), "Fri 22:00 UTC (2026-11-20)");
        let sat = &windows[1..];
        assert_eq!(opens_words(sat, at("2026-11-21T01:00:00Z")), "Sat 02:00 Europe/Berlin (2026-11-21)");
        assert_eq!(opens_words(&[], at("2026-11-21T01:30:00Z")), "Sat 01:30 UTC (2026-11-21)");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("22:00-04:00 UTC", "three words"),
            ("Mon-Fry 22:00-04:00 UTC", "\"Fry\""),
            ("Mon 22:00 UTC", "HH:MM-HH:MM"),
            ("Mon 24:00-04:00 UTC", "24:00"),
            ("Mon 22:60-04:00 UTC", "22:60"),
            ("Mon 9:00-10:00 UTC", "9:00"),
            ("Mon 22:00-04:00 Europe/Atlantis", "Europe/Atlantis"),
        ] {
            let error = text.parse::<Window>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
