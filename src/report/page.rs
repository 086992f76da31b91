//! `fleet report`: a rollout as one HTML file that needs nothing else, for the change record.

use super::{look::Tone, words::ending_tone};
use crate::{
    fleet::{
        answer::{Answer, Standing},
        ending::Ending,
        rollout::{KINDS, Standing as Rollout},
        story::{HostStory, Story, Wave},
    },
    text::clean,
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, fmt::Write};

const STYLE: &str = include_str!("page.css");

/// Writes into a `String`, which cannot fail.
macro_rules! put {
    ($page:expr, $($text:tt)*) => { _ = write!($page, $($text)*) };
}

/// The whole page. `now` is when it is written.
pub fn render(story: &Story, region: &str, now: Timestamp) -> String {
    let standing = &story.standing;
    let word = standing.ending.word();
    let tone = match ending_tone(&standing.ending) {
        Tone::Good => "good",
        Tone::Bad => "bad",
        _ => "warn",
    };
    let mut page = String::with_capacity(8_192 + story.hosts.len() * 300);
    put!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>hostagent rollout: {}, {word}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        safe(&standing.whom)
    );
    put!(
        page,
        "<header><p class=\"badge {tone}\">{word}</p><h1>Rollout to {}</h1>\n<p>{}</p></header>\n",
        safe(&standing.whom),
        safe(&format!("{}{}", figures(standing), times(standing, now)))
    );
    why(&mut page, standing, tone);
    tiles(&mut page, story);
    zones(&mut page, story);
    waves(&mut page, story);
    left(&mut page, story);
    hosts(&mut page, story);
    record(&mut page, story, region, now);
    page.push_str("</body>\n</html>\n");
    page
}

/// Text from anywhere as text of a page.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// When it began and ended, and how long that was.
fn times(standing: &Rollout, now: Timestamp) -> String {
    let at = |at: Timestamp| at.strftime("%-d %B %Y, %H:%M:%S").to_string();
    match (standing.began_at, standing.ended_at) {
        (Some(began), Some(ended)) => {
            format!("Begun {} UTC, ended {} UTC, after {}.", at(began), at(ended), span(ended.duration_since(began)))
        }
        (Some(began), None) => {
            let after = span(now.duration_since(began));
            format!("Begun {} UTC; {}, {after} later when this was written.", at(began), standing.says)
        }
        (None, _) => "When it began is not on record.".into(),
    }
}

/// Whether the figures alone say how it ended.
fn is_plain(ending: &Ending) -> bool {
    matches!(ending, Ending::Moved | Ending::NothingToDo | Ending::Partly)
}

/// The figures of one that came to its end.
fn figures(standing: &Rollout) -> String {
    if is_plain(&standing.ending) { format!("{}. ", sentence(&standing.says)) } else { String::new() }
}

/// How it ended, in words, where that is not plain from the figures.
fn why(page: &mut String, standing: &Rollout, tone: &str) {
    let ending = &standing.ending;
    if !ending.is_final() || is_plain(ending) {
        return;
    }
    let remedy = match ending.remedy() {
        "" => String::new(),
        remedy => format!("<br><strong>What to do.</strong> {}.", safe(&sentence(remedy))),
    };
    put!(
        page,
        "<p class=\"box {tone}\"><strong>How it ended.</strong> {}.{remedy}</p>\n",
        safe(&sentence(&standing.says))
    );
}

/// With a capital.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `2 h 5 min`, `3 min 20 s`, `12 s`
fn span(time: SignedDuration) -> String {
    match time.as_secs().max(0) {
        s if s >= 3_600 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        s if s >= 60 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{s} s"),
    }
}

fn tiles(page: &mut String, story: &Story) {
    let Some(state) = &story.standing.state else { return };
    let left = state.hosts.saturating_sub(state.done());
    let away: Vec<f64> = story.hosts.iter().filter_map(|host| host.restart.as_ref()?.away_s).collect();
    let mut tiles = vec![("hosts".to_owned(), state.hosts.to_string(), "")];
    for (kind, words) in KINDS.into_iter().filter(|(kind, _)| state.count(kind) > 0) {
        let tone = match kind {
            kind if is_well(kind) => "good",
            "failed" | "broken" => "bad",
            _ => "warn",
        };
        tiles.push((words.to_owned(), state.count(kind).to_string(), tone));
    }
    if left > 0 {
        tiles.push(("not looked at".into(), left.to_string(), "warn"));
    }
    tiles.push(("waves".into(), story.waves.len().to_string(), ""));
    if let Some(longest) = away.iter().copied().reduce(f64::max) {
        tiles.push(("longest an agent was away".into(), format!("{longest:.2} s"), ""));
    }
    page.push_str("<dl class=\"tiles\">\n");
    for (name, value, tone) in tiles {
        put!(page, "<div class=\"{tone}\"><dt>{}</dt><dd>{}</dd></div>\n", safe(&name), safe(&value));
    }
    page.push_str("</dl>\n");
}

/// Whether hosts of this kind are where they are to be.
fn is_well(kind: &str) -> bool {
    matches!(kind, "moved" | "settled_before")
}

/// What a host came to, as far as is known.
fn outcome(host: &HostStory) -> Standing {
    host.last().map_or(Standing::NoAnswer, |answer| answer.standing)
}

fn tone(standing: Standing) -> &'static str {
    match standing {
        Standing::Settled => "good",
        Standing::Broken => "bad",
        _ => "warn",
    }
}

fn by_zone(story: &Story) -> BTreeMap<&str, Vec<&HostStory>> {
    let mut zones: BTreeMap<&str, Vec<&HostStory>> = BTreeMap::new();
    for host in &story.hosts {
        zones.entry(host.zone().unwrap_or("zone not known")).or_default().push(host);
    }
    zones
}

fn zones(page: &mut String, story: &Story) {
    let planned: BTreeMap<&str, usize> = match &story.standing.state {
        Some(state) => state.zones.iter().map(|(zone, count)| (zone.as_str(), *count)).collect(),
        None => BTreeMap::new(),
    };
    // To whom nothing was sent: SSM did not have them online, or their turn had not come.
    let rest = match story.standing.state.as_ref().is_some_and(|state| state.phase == "done") {
        true => "not reached",
        false => "not asked",
    };
    let seen = by_zone(story);
    if planned.is_empty() && seen.is_empty() {
        return;
    }
    page.push_str("<h2>Zones</h2>\n<table class=\"zones\"><thead><tr><th>Zone</th><th>Hosts</th><th>Where they stand</th></tr></thead>\n<tbody>\n");
    let names: std::collections::BTreeSet<&str> = planned.keys().chain(seen.keys()).copied().collect();
    for name in names {
        let hosts = seen.get(name).map(Vec::as_slice).unwrap_or_default();
        let all = planned.get(name).copied().unwrap_or(0).max(hosts.len()).max(1);
        let mut parts: Vec<(String, usize, &str)> = Vec::new();
        for standing in Standing::ALL.into_iter().rev() {
            let count = hosts.iter().filter(|host| outcome(host) == standing).count();
            if count > 0 {
                parts.push((standing.words().to_owned(), count, tone(standing)));
            }
        }
        if all > hosts.len() {
            parts.push((rest.into(), all - hosts.len(), "none"));
        }
        put!(page, "<tr><th scope=\"row\">{}</th><td>{all}</td><td><div class=\"stack\">", safe(name));
        for (_, count, tone) in &parts {
            put!(page, "<i class=\"{tone}\" style=\"width:{:.2}%\"></i>", *count as f64 * 100.0 / all as f64);
        }
        let words: Vec<String> = parts.iter().map(|(words, count, _)| format!("{count} {words}")).collect();
        put!(page, "</div><span>{}</span></td></tr>\n", safe(&words.join(", ")));
    }
    page.push_str("</tbody></table>\n");
}

fn waves(page: &mut String, story: &Story) {
    let timed = |wave: &Wave| Some((wave.began_at?, wave.ended_at?));
    let all: Vec<(Timestamp, Timestamp)> = story.waves.iter().filter_map(timed).collect();
    let (Some(first), Some(last)) = (all.iter().map(|(b, _)| *b).min(), all.iter().map(|(_, e)| *e).max()) else {
        return;
    };
    let total = last.duration_since(first).as_secs_f64().max(1.0);
    put!(
        page,
        "<h2>Waves</h2>\n<p class=\"note\">Each bar is a wave from its first restart to its last proof. Between two of \
         them the next hosts are checked.</p>\n<table class=\"waves\"><thead><tr><th>Wave</th><th>Zone</th>\
         <th>Restarted</th><th>Verified</th><th>Begun</th><th>Took</th><th class=\"line\"><div><span>{}</span><span>{}</span></div></th></tr></thead>\n<tbody>\n",
        first.strftime("%H:%M:%S"),
        last.strftime("%H:%M:%S"),
    );
    for wave in &story.waves {
        let Some((began, ended)) = timed(wave) else { continue };
        let left = began.duration_since(first).as_secs_f64() * 100.0 / total;
        let width = (ended.duration_since(began).as_secs_f64() * 100.0 / total).max(0.4).min(100.0 - left);
        let good = wave.settled == wave.restarted.len();
        put!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"{tone}\">{}</td><td>{}</td><td>{}</td>\
             <td class=\"line\"><i class=\"{tone}\" style=\"margin-left:{left:.2}%;width:{width:.2}%\"></i></td></tr>\n",
            wave.number,
            safe(wave.zone.as_deref().unwrap_or("?")),
            wave.restarted.len(),
            wave.settled,
            began.strftime("%H:%M:%S"),
            span(ended.duration_since(began)),
            tone = if good { "good" } else { "bad" },
        );
    }
    page.push_str("</tbody></table>\n");
}

/// Hosts that are not moved and not settled, by what came of them: with those that were never sent anything.
fn left(page: &mut String, story: &Story) {
    let Some(state) = &story.standing.state else { return };
    let never = state.hosts.saturating_sub(state.done());
    let kinds = KINDS.into_iter().filter(|(kind, _)| !is_well(kind) && state.count(kind) > 0);
    let kinds: Vec<(&str, &str)> = kinds.collect();
    // Those that failed are among the kinds; a wave that was broken off has counted none of its hosts.
    let broken_off = if state.count("failed") > 0 { &[][..] } else { state.unverified.as_slice() };
    if kinds.is_empty() && never == 0 && broken_off.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Hosts that are left</h2>\n<table class=\"left\"><thead><tr><th>What came of them</th><th>Hosts</th>\
         <th>Which</th></tr></thead>\n<tbody>\n",
    );
    let mut row = |tone: &str, what: &str, count: usize, hosts: &[String], else_: &str| {
        let codes: Vec<String> = hosts.iter().map(|id| format!("<code>{}</code>", safe(id))).collect();
        let more = match (count.saturating_sub(hosts.len()), hosts.is_empty()) {
            (0, _) => String::new(),
            (_, true) => else_.to_owned(),
            (more, false) => format!(" and {more} more"),
        };
        put!(
            page,
            "<tr><th scope=\"row\" class=\"{tone}\">{}</th><td>{count}</td><td>{}{more}</td></tr>\n",
            safe(what),
            codes.join(" ")
        );
    };
    if !broken_off.is_empty() {
        row("bad", "restarted and not verified", broken_off.len(), broken_off, "");
    }
    for (kind, words) in kinds {
        let tone = if matches!(kind, "failed" | "broken") { "bad" } else { "warn" };
        let named = state.samples.get(kind).map(Vec::as_slice).unwrap_or_default();
        row(tone, words, state.count(kind), named, "the runbook names none of them");
    }
    let never = never.saturating_sub(broken_off.len());
    if never > 0 {
        row("", "not looked at", never, &state.left, "the rollout ended before their turn");
    }
    page.push_str("</tbody></table>\n");
    if story.standing.ending.is_final() {
        page.push_str(
            "<p class=\"note\">Started again, a rollout takes up what is left and passes over what is settled.</p>\n",
        );
    }
}

fn hosts(page: &mut String, story: &Story) {
    if story.hosts.is_empty() {
        return;
    }
    page.push_str("<h2>Hosts</h2>\n");
    for (zone, hosts) in by_zone(story) {
        let troubled = hosts.iter().filter(|host| outcome(host) != Standing::Settled).count();
        let told = if troubled > 0 { format!("{troubled} not settled") } else { "all settled".into() };
        let of = if hosts.len() == 1 { "host" } else { "hosts" };
        // Open, so that it is all there in print.
        put!(page, "<details open><summary>{} <span>{} {of}, {told}</span></summary>\n", safe(zone), hosts.len());
        page.push_str(
            "<table class=\"hosts\"><thead><tr><th>Instance</th><th>Wave</th><th>Before</th><th>Restarted</th>\
             <th>Agent away</th><th>After</th></tr></thead>\n<tbody>\n",
        );
        let mut hosts = hosts;
        hosts.sort_by_key(|host| outcome(host) == Standing::Settled);
        for host in hosts {
            row(page, host);
        }
        page.push_str("</tbody></table></details>\n");
    }
}

fn row(page: &mut String, host: &HostStory) {
    let told = |answer: Option<&Answer>| match answer {
        Some(answer) => {
            let word = format!("<b class=\"{}\">{}</b>", tone(answer.standing), answer.standing.words());
            match answer.standing {
                Standing::Settled => word,
                Standing::Restart if answer.public_connections == Some(1) => format!("{word}: 1 connection"),
                Standing::Restart if answer.public_connections.is_some_and(|count| count > 0) => {
                    format!("{word}: {} connections", answer.public_connections.unwrap_or_default())
                }
                _ => format!("{word}: {}", safe(&answer.why)),
            }
        }
        None => "–".into(),
    };
    // A restart that was not followed by a look is all that is known afterwards.
    let after = host.after.as_ref().or(host.restart.as_ref());
    let wave = if host.wave > 0 { host.wave.to_string() } else { "–".into() };
    let at = host.restarted_at.map_or_else(|| "–".into(), |at| at.strftime("%H:%M:%S").to_string());
    let away = host.restart.as_ref().and_then(|r| r.away_s).map_or_else(|| "–".into(), |s| format!("{s:.2} s"));
    put!(
        page,
        "<tr><td><code>{}</code></td><td>{wave}</td><td>{}</td><td>{at}</td><td>{away}</td><td>{}</td></tr>\n",
        safe(&host.instance),
        told(host.before.as_ref()),
        told(after)
    );
}

fn record(page: &mut String, story: &Story, region: &str, now: Timestamp) {
    page.push_str("<h2>Record</h2>\n<table class=\"record\"><tbody>\n");
    let mut line = |name: &str, value: &str| {
        put!(page, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", safe(name), safe(value))
    };
    line("Execution", &story.standing.execution);
    line("Status in SSM", &story.standing.word);
    line("Region", region);
    line("Started by", if story.by.is_empty() { "not told" } else { &story.by });
    for (name, values) in story.parameters.iter().filter(|(_, values)| values.iter().any(|value| !value.is_empty())) {
        line(name, &values.join(", "));
    }
    line("Written", &format!("{now:.0} by hostagent {}, from SSM's records; times are UTC", env!("CARGO_PKG_VERSION")));
    page.push_str("</tbody></table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{facts::ExecutionStatus, fleet::rollout::State};

    fn answer(standing: Standing, zone: &str, why: &str) -> Answer {
        let mut answer = Answer::silent(standing, "", why, "");
        answer.zone = Some(zone.into());
        answer
    }

    fn host(number: usize, zone: &str, after: Standing, why: &str) -> HostStory {
        HostStory {
            instance: format!("i-{number:017x}"),
            wave: 1,
            before: Some(answer(Standing::Restart, zone, "")),
            restart: Some(Answer { away_s: Some(0.8), ..answer(after, zone, why) }),
            restarted_at: Some(Timestamp::UNIX_EPOCH),
            after: Some(answer(after, zone, why)),
        }
    }

    /// Halted at the second of five hosts; one was never reached, two were not looked at.
    fn story(text: &str) -> Story {
        let counts = [("moved", 1), ("failed", 1), ("unreachable", 1)].map(|(kind, count)| (kind.to_owned(), count));
        let samples = [("failed", "i-00000000000000002"), ("unreachable", "i-00000000000000003")];
        let state = State {
            phase: "halted".into(),
            zones: vec![("eu-west-1a".into(), 3), (text.into(), 2)],
            wave: 2,
            hosts: 5,
            counts: counts.into(),
            samples: samples.map(|(kind, id)| (kind.to_owned(), vec![id.to_owned()])).into(),
            why: Some(text.into()),
            instance: Some("i-00000000000000002".into()),
            left: vec!["i-00000000000000004".into()],
            ..State::default()
        };
        let ending =
            Ending::Halted { by: "the rollout".into(), hosts: vec!["i-00000000000000002".into()], why: text.into() };
        let at = |second: i64| Timestamp::from_second(second).ok();
        let wave = |number, began, settled| Wave {
            number,
            zone: Some("eu-west-1a".into()),
            restarted: vec![format!("i-{number:017x}")],
            settled,
            began_at: at(began),
            ended_at: at(began + 60),
        };
        Story {
            standing: Rollout {
                execution: text.into(),
                status: ExecutionStatus::Failed,
                word: text.into(),
                began_at: at(0),
                ended_at: at(3_900),
                whom: text.into(),
                says: ending.line(Some(&state)),
                ending,
                state: Some(state),
                summary: Some(text.into()),
            },
            by: text.into(),
            parameters: [(text.to_owned(), vec![text.to_owned()])].into(),
            waves: vec![wave(1, 0, 1), wave(2, 120, 0)],
            hosts: vec![host(1, "eu-west-1a", Standing::Settled, ""), host(2, "eu-west-1a", Standing::Broken, text)],
        }
    }

    #[test]
    fn the_page_tells_how_it_ended_and_who_is_left() {
        let page = render(&story("it did not come back"), "eu-west-1", Timestamp::UNIX_EPOCH);
        for words in [
            ">halted</p>",
            "Begun 1 January 1970, 00:00:00 UTC, ended 1 January 1970, 01:05:00 UTC, after 1 h 5 min.",
            "Halted by the rollout at i-00000000000000002: it did not come back",
            "Mend the host, then hostagent fleet resume",
            ">not reached</th><td>1</td><td><code>i-00000000000000003</code>",
            ">not looked at</th><td>2</td><td><code>i-00000000000000004</code> and 1 more",
            "1 settled, 1 broken, 1 not asked",
            "<span>00:00:00</span><span>00:03:00</span>",
            "<b class=\"bad\">broken</b>: it did not come back",
        ] {
            assert!(page.contains(words), "{words}\n{page}");
        }
        assert!(!page.contains("<details>"), "what is closed is not printed");
    }

    #[test]
    fn text_from_anywhere_is_text_and_nothing_is_fetched() {
        let hostile = "</style><script src=\"http://x/\">'&\u{202e}\n<img src=x>";
        let page = render(&story(hostile), hostile, Timestamp::UNIX_EPOCH);
        for mark in ["<script", "<img", "<link", "src=\"", "\u{202e}", "url(", "@import", "'&", "\n<img"] {
            assert!(!page.contains(mark), "{mark}");
        }
        assert_eq!(page.matches("</style>").count(), 1);
        // As many tags end as begin.
        for tag in ["table", "tbody", "tr", "td", "details", "dl", "div", "span", "p", "h2"] {
            let begun = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(begun, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
