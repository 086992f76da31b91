//! `fleet report`: a rollout as one HTML file that needs nothing else, for the change record.

use crate::{
    facts::ExecutionStatus,
    fleet::{
        answer::{Answer, Standing},
        rollout::{KINDS, tally},
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
    let (word, tone) = ended(story);
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
        safe(&sentence(story))
    );
    if let Some(state) = &standing.state
        && let Some(why) = &state.why
    {
        let host = state.instance.as_ref().map(|id| format!(" Host: <code>{}</code>.", safe(id))).unwrap_or_default();
        put!(page, "<p class=\"box {tone}\"><strong>Why it ended there.</strong> {}.{host}</p>\n", safe(why));
    }
    tiles(&mut page, story);
    zones(&mut page, story);
    waves(&mut page, story);
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

fn ended(story: &Story) -> (&'static str, &'static str) {
    let halted = story.standing.state.as_ref().is_some_and(|state| state.phase == "halted");
    match story.standing.status {
        ExecutionStatus::UnderWay | ExecutionStatus::WaitsForApproval => ("under way", "warn"),
        ExecutionStatus::Success => ("done", "good"),
        ExecutionStatus::Failed if halted => ("halted", "bad"),
        ExecutionStatus::Failed => ("not finished", "bad"),
        ExecutionStatus::Stopped => ("stopped", "bad"),
    }
}

fn sentence(story: &Story) -> String {
    let counts = story.standing.state.as_ref().map(tally).unwrap_or_else(|| story.standing.says.clone());
    match (story.began_at, story.ended_at) {
        (Some(began), Some(ended)) => {
            format!("{counts}. Begun {began:.0}, ended {ended:.0}, after {}.", span(ended.duration_since(began)))
        }
        (Some(began), None) => format!("{counts}. Begun {began:.0}, and under way."),
        (None, _) => format!("{counts}."),
    }
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
            "moved" | "settled_before" => "good",
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
            parts.push(("not looked at".into(), all - hosts.len(), "none"));
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
    page.push_str(
        "<h2>Waves</h2>\n<table class=\"waves\"><thead><tr><th>Wave</th><th>Zone</th><th>Hosts</th>\
         <th>Verified</th><th>Begun</th><th>Took</th><th class=\"line\">From its restart to its proof</th></tr></thead>\n<tbody>\n",
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

fn hosts(page: &mut String, story: &Story) {
    if story.hosts.is_empty() {
        return;
    }
    page.push_str("<h2>Hosts</h2>\n");
    for (zone, hosts) in by_zone(story) {
        let troubled = hosts.iter().filter(|host| outcome(host) != Standing::Settled).count();
        let open = if troubled > 0 || hosts.len() <= 50 { " open" } else { "" };
        let told = if troubled > 0 { format!("{troubled} not settled") } else { "all settled".into() };
        put!(page, "<details{open}><summary>{} <span>{} hosts, {told}</span></summary>\n", safe(zone), hosts.len());
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
                Standing::Restart if answer.public_connections.is_some_and(|count| count > 0) => {
                    format!("{word}: {} connections", answer.public_connections.unwrap_or_default())
                }
                _ => format!("{word} {}", safe(&answer.why)),
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
    for (name, values) in &story.parameters {
        line(name, &values.join(", "));
    }
    line("Written", &format!("{now:.0} by hostagent {}, from SSM's records; times are UTC", env!("CARGO_PKG_VERSION")));
    page.push_str("</tbody></table>\n");
}
