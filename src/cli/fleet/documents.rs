//! `hostagent fleet install` and `uninstall`.

use super::args::{InstallArgs, UninstallArgs};
use crate::{
    cli::Context as Cli,
    decide::{Reason, exit},
    facts::Targets,
    fleet::{
        Cloud,
        documents::{
            self, CHECK, Change, DOCUMENTS, Document, HASH_TAG, OWNER_TAG, VERSION_TAG, change, is_our_association,
            is_ours,
        },
    },
    ports::aws::documents::Association,
    report::{DocumentView, DocumentsReport, Verdict, Word},
};
use anyhow::Result;
use std::collections::BTreeMap;

/// Of the association. State Manager's own default is every host at once, and a host that joins meanwhile comes on top.
const AT_ONCE: &str = "10%";
/// None: a host that is not settled fails, so that State Manager shows it, and is no reason to leave out the others.
const ERRORS: &str = "100%";

pub async fn install(cli: &Cli, cloud: &Cloud, args: &InstallArgs) -> Result<u8> {
    let mut planned = Vec::new();
    for document in &DOCUMENTS {
        let stored = cloud.documents.stored(document.name).await?;
        let change = change(document, stored.as_ref(), args.adopt);
        planned.push((document, change, stored.map(|stored| stored.latest).unwrap_or_default()));
    }
    // All or none: documents of two minds about each other are worse than old ones.
    if planned.iter().any(|(_, change, _)| matches!(change, Change::Foreign { .. })) {
        let documents = planned.into_iter().map(|(document, change, _)| view(document, would(&change), change));
        let report = refused(cloud, args, documents.collect());
        cli.print(&report);
        return Ok(report.verdict.exit_code);
    }
    let mut documents = Vec::new();
    for (document, change, latest) in planned {
        let done = if args.dry_run { would(&change) } else { carry_out(cloud, document, &change, &latest).await? };
        documents.push(view(document, done, change));
    }
    let mut associations = Vec::new();
    if let Some((key, value)) = &args.associate {
        associations.push(associate(cloud, args, key, value).await?);
    }
    let changed = documents.iter().filter(|d| d.change.as_ref().is_some_and(Change::is_wanted)).count();
    let headline = match (changed, args.dry_run) {
        (0, _) => format!("the documents in {} are up to date", cloud.region),
        (n, true) => format!("{n} of {} documents in {} would be changed", DOCUMENTS.len(), cloud.region),
        (n, false) => format!("{n} of {} documents were put into {}", DOCUMENTS.len(), cloud.region),
    };
    let next = if args.dry_run { Vec::new() } else { vec!["hostagent fleet check --cluster NAME".to_owned()] };
    cli.print(&DocumentsReport {
        verdict: Verdict { verdict: Word::Done, exit_code: exit::SETTLED, headline, reasons: Vec::new() },
        region: cloud.region.clone(),
        dry_run: args.dry_run,
        documents,
        associations,
        next,
    });
    Ok(exit::SETTLED)
}

fn view(document: &Document, done: String, change: Change) -> DocumentView {
    DocumentView { name: document.name.into(), done, change: Some(change) }
}

/// Nothing was changed, because some of the documents are somebody else's.
fn refused(cloud: &Cloud, args: &InstallArgs, documents: Vec<DocumentView>) -> DocumentsReport {
    let foreign = |view: &DocumentView| match &view.change {
        Some(Change::Foreign { owner, .. }) => {
            let (tag, _) = OWNER_TAG;
            let whose =
                owner.as_ref().map_or(format!("it has no tag {tag}"), |owner| format!("its tag {tag} is {owner}"));
            let text = format!("{} was not made by this program: {whose}", view.name);
            let remedy = "update it where it comes from, or take it over with --adopt";
            Some(Reason::new("foreign-document", text, remedy))
        }
        _ => None,
    };
    let reasons: Vec<Reason> = documents.iter().filter_map(foreign).collect();
    let (count, region) = (reasons.len(), &cloud.region);
    let headline =
        format!("{count} of {} documents in {region} are somebody else's; nothing was changed", DOCUMENTS.len());
    DocumentsReport {
        verdict: Verdict { verdict: Word::Refuse, exit_code: exit::REFUSED, headline, reasons },
        region: cloud.region.clone(),
        dry_run: args.dry_run,
        documents,
        associations: Vec::new(),
        next: vec!["hostagent fleet install --adopt --dry-run".to_owned()],
    }
}

fn would(change: &Change) -> String {
    match change {
        Change::Same { version } => format!("up to date (version {version})"),
        Change::Create => "would be created".into(),
        Change::Update { from, .. } => format!("would be brought up to date from version {from}"),
        Change::Adopt { version } => format!("would be taken over as it is (version {version})"),
        Change::Foreign { from, .. } => format!("somebody else's (version {from}), left as it is"),
    }
}

async fn carry_out(cloud: &Cloud, document: &Document, change: &Change, latest: &str) -> Result<String> {
    let hash = document.hash();
    let tags = [OWNER_TAG, (HASH_TAG, hash.as_str()), (VERSION_TAG, env!("CARGO_PKG_VERSION"))];
    match change {
        Change::Same { .. } | Change::Foreign { .. } => Ok(would(change)),
        Change::Adopt { version } => {
            cloud.documents.tag(document.name, &tags).await?;
            Ok(format!("taken over as it is (version {version})"))
        }
        Change::Create => {
            cloud.documents.create(document.name, document.kind, document.content, &tags).await?;
            Ok("created".into())
        }
        Change::Update { from, .. } => {
            let version = cloud.documents.update(document.name, document.content, latest).await?;
            cloud.documents.set_default(document.name, &version).await?;
            cloud.documents.tag(document.name, &tags).await?;
            Ok(format!("version {version} is the default now; it was {from}"))
        }
    }
}

async fn associate(cloud: &Cloud, args: &InstallArgs, key: &str, value: &str) -> Result<String> {
    let targets = Targets::Tag { key: key.into(), value: value.into() };
    if args.dry_run {
        return Ok(format!("the hosts with {targets} would be checked at {}", args.schedule));
    }
    let name = documents::association(key, value);
    let wanted = Association {
        name: &name,
        document: CHECK,
        targets: &targets,
        parameters: BTreeMap::from([("Strict".to_owned(), vec!["yes".to_owned()])]),
        schedule: &args.schedule,
        at_once: AT_ONCE,
        errors: ERRORS,
    };
    let new = cloud.documents.associate(&wanted).await?;
    let done = if new { "created" } else { "brought up to date" };
    Ok(format!("association {name} {done}: hosts with {targets}, {}, {AT_ONCE} at once", args.schedule))
}

pub async fn uninstall(cli: &Cli, cloud: &Cloud, args: &UninstallArgs) -> Result<u8> {
    let mut associations = Vec::new();
    for (name, id) in
        cloud.documents.associations(CHECK).await?.into_iter().filter(|(name, _)| is_our_association(name))
    {
        if !args.dry_run {
            cloud.documents.dissociate(&name, &id).await?;
        }
        associations.push(format!("association {name} {}", if args.dry_run { "would be removed" } else { "removed" }));
    }
    if associations.is_empty() {
        associations.push("there was no association".into());
    }
    let mut documents = Vec::new();
    // The runbook first: nothing is started that would miss the others.
    for document in DOCUMENTS.iter().rev() {
        let done = match (cloud.documents.stored(document.name).await?, args.dry_run) {
            (None, _) => "is not there",
            (Some(stored), _) if !is_ours(&stored) => "somebody else's, left as it is",
            (Some(_), true) => "would be removed",
            (Some(_), false) => {
                cloud.documents.delete(document.name).await?;
                "removed"
            }
        };
        documents.push(DocumentView { name: document.name.into(), done: done.into(), change: None });
    }
    let removed = documents.iter().filter(|d| d.done == "removed").count();
    let headline = match args.dry_run {
        true => format!("nothing was removed from {}: this is a dry run", cloud.region),
        false => format!("{removed} documents were removed from {}; the hosts were not touched", cloud.region),
    };
    cli.print(&DocumentsReport {
        verdict: Verdict { verdict: Word::Done, exit_code: exit::SETTLED, headline, reasons: Vec::new() },
        region: cloud.region.clone(),
        dry_run: args.dry_run,
        documents,
        associations,
        next: Vec::new(),
    });
    Ok(exit::SETTLED)
}
