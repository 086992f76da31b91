//! `fleet check`: who stands where, and why.

use super::{
    Look, Render, Verdict,
    human::{self, Page, cell},
    look::{Tone, paint},
    ssm::{Summary, brief},
};
use crate::{
    fleet::{
        answer::Standing,
        check::{Group, Host},
    },
    text::{clean, cut},
};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Hosts named in a line about a group.
const NAMED: usize = 4;
/// More rows than this are shown only when they are asked for: the groups have said what matters.
const ROWS: usize = 20;
/// Bytes of a reason in that table: the groups give it whole.
const WHY: usize = 72;

/// `hostagent fleet check`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetCheckReport {
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Whom it asked, in words.
    pub targets: String,
    pub counts: BTreeMap<Standing, usize>,
    pub zones: Vec<ZoneView>,
    /// The hosts that are not settled, by reason.
    pub groups: Vec<Group>,
    /// Every host, ordered by zone and instance ID.
    pub hosts: Vec<Host>,
    /// Whether people want every host listed.
    #[serde(skip)]
    pub all: bool,
    /// What to type next.
    #[serde(skip)]
    pub next: Vec<String>,
}

/// The hosts of a zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ZoneView {
    /// `None`: the hosts' zone is not known.
    pub zone: Option<String>,
    pub hosts: usize,
    pub counts: BTreeMap<Standing, usize>,
}

impl Standing {
    pub(super) fn tone(self) -> Tone {
        match self {
            Standing::Settled => Tone::Good,
            Standing::Broken => Tone::Bad,
            _ => Tone::Warn,
        }
    }
}

impl Render for FleetCheckReport {
    const SCHEMA: &'static str = "hostagent/fleet-check/1";

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn human(&self, look: Look) -> String {
        let mut page = Page::new(&self.verdict, look);
        page.reasons(&self.verdict);
        self.zones(&mut page);
        self.reasons(&mut page);
        self.hosts(&mut page);
        page.next(&self.next.iter().map(String::as_str).collect::<Vec<_>>());
        page.finish()
    }

    fn summary(&self) -> Summary {
        let group =
            |g: &Group| json!({ "standing": g.standing, "rule": g.rule, "why": brief(&g.why), "hosts": g.hosts.len() });
        Summary {
            facts: vec![("targets", brief(&self.targets)), ("counts", json!(self.counts))],
            lists: vec![
                ("reasons", human::reasons(&self.verdict)),
                ("groups", self.groups.iter().map(group).collect()),
                ("zones", self.zones.iter().map(|zone| json!(zone)).collect()),
            ],
        }
    }
}

impl FleetCheckReport {
    fn zones(&self, page: &mut Page) {
        let used: Vec<Standing> = Standing::ALL.into_iter().filter(|s| self.counts.contains_key(s)).collect();
        if used.is_empty() {
            return;
        }
        page.heading("Zones");
        let header: Vec<&str> = ["zone", "hosts"].into_iter().chain(used.iter().map(|s| s.words())).collect();
        let row = |zone: &ZoneView| {
            let name = cell(zone.zone.as_deref().unwrap_or("not known"));
            let count = |s: &Standing| match zone.counts.get(s) {
                Some(count) => paint(s.tone(), &count.to_string()),
                None => "·".to_owned(),
            };
            [name, zone.hosts.to_string()].into_iter().chain(used.iter().map(count)).collect()
        };
        page.table(&header, self.zones.iter().map(row).collect());
    }

    fn reasons(&self, page: &mut Page) {
        if self.groups.is_empty() {
            return;
        }
        page.heading("Why");
        for group in &self.groups {
            let word = paint(group.standing.tone(), group.standing.words());
            let rule =
                if group.rule.is_empty() { String::new() } else { paint(Tone::Faint, &format!(" [{}]", group.rule)) };
            let alike = if group.hosts.len() > 1 { ", in the words of the first" } else { "" };
            page.line(2, &format!("{} {word}{alike}: {}{rule}", group.hosts.len(), clean(&group.why)));
            if !group.remedy.is_empty() {
                page.line(4, &format!("→ {}", clean(&group.remedy)));
            }
            let named = group.hosts.iter().take(NAMED).map(|id| clean(id).into_owned()).collect::<Vec<_>>().join(" ");
            let more = group.hosts.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            page.line(4, &paint(Tone::Faint, &format!("{named}{more}")));
        }
    }

    fn hosts(&self, page: &mut Page) {
        let wanted = |host: &&Host| self.all || host.answer.standing != Standing::Settled;
        let rows: Vec<&Host> = self.hosts.iter().filter(wanted).collect();
        if rows.is_empty() {
            return;
        }
        page.heading("Hosts");
        if !self.all && rows.len() > ROWS {
            page.line(2, &format!("{} are not settled: --all lists every host, --format json holds them", rows.len()));
            return;
        }
        let row = |host: &&Host| {
            let answer = &host.answer;
            let or = |text: &Option<String>| cell(text.as_deref().unwrap_or("?"));
            let connected = match host.agent_connected {
                Some(false) => paint(Tone::Bad, " (agent not connected)"),
                _ => String::new(),
            };
            vec![
                cell(&host.instance),
                or(&answer.zone),
                paint(answer.standing.tone(), answer.standing.words()),
                or(&answer.agent_version),
                or(&answer.hostagent_version),
                format!("{}{connected}", cell(&cut(&answer.why, WHY))),
            ]
        };
        let header = ["instance", "zone", "stands", "ecs-agent", "hostagent", "why"];
        page.table(&header, rows.iter().map(row).collect());
    }
}
