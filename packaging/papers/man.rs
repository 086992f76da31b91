//! Manual pages: hostagent(1) and one for each subcommand.

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use std::{fs, path::Path};

/// Files of hostagent(1), as installed.
const FILES: [(&str, &str); 9] = [
    (
        "/etc/hostagent/config.d/*.toml",
        "The host's own settings, such as 50-local.toml. Later names win; /run/hostagent/config.d and \
         /usr/lib/hostagent/config.d are read too.",
    ),
    ("/usr/lib/hostagent/config.d/00-hostagent.toml", "Every setting with its default. Not to be edited."),
    (
        "/etc/hostagent/hooks.d/",
        "Programs that may veto a restart by the service; whatever else is in there vetoes, too. What they may do is told \
         in 00-hostagent.toml at hooks_dir.",
    ),
    ("/run/hostagent/pause", "While it exists the service does nothing to the agent."),
    ("/run/hostagent/", "Lock and progress of a restart under way; gone at reboot."),
    ("/var/lib/hostagent/", "History and intent: what was done for which endpoint addresses, and the budget."),
    ("/usr/lib/systemd/system/hostagent.service", "The service; change it with systemctl edit hostagent."),
    ("/usr/lib/systemd/catalog/hostagent.catalog", "What journalctl -x says about the events that matter."),
    ("/usr/share/doc/hostagent/", "The licences of hostagent and of what is inside it."),
];

/// Writes a page for the command and for each below it.
pub fn write(mut command: Command, date: &str, directory: &Path) -> Result<()> {
    command = command.disable_help_subcommand(true);
    command.build();
    let root = name_of(&command);
    let mut files = Roff::new();
    files.control("SH", ["FILES"]);
    for (path, words) in FILES {
        files.control("TP", []).text([bold(path)]).text([roman(words)]);
    }
    let pages = pages(&command);
    for page in &pages {
        let others: Vec<String> = pages.iter().map(name_of).filter(|name| *name != name_of(page)).collect();
        let text = render(page, date, (name_of(page) == root).then_some(&files), &others)?;
        let path = directory.join(format!("{}.1", name_of(page)));
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

/// The command and those below it, each built.
fn pages(command: &Command) -> Vec<Command> {
    let below = command.get_subcommands().flat_map(pages);
    std::iter::once(command.clone()).chain(below).collect()
}

/// `hostagent-config-show`.
fn name_of(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn render(command: &Command, date: &str, files: Option<&Roff>, others: &[String]) -> Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone())
        .title(name_of(command).to_uppercase())
        .date(date)
        .source(format!("hostagent {version}"))
        .manual("hostagent");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    after_help(&after.map(ToString::to_string).unwrap_or_default()).to_writer(&mut page)?;
    if let Some(files) = files {
        files.to_writer(&mut page)?;
    }
    let mut also = Roff::new();
    also.control("SH", ["SEE ALSO"]);
    let others: Vec<String> = others.iter().map(|name| format!("{name}(1)")).collect();
    also.text([roman(others.join(", "))]);
    also.to_writer(&mut page)?;
    let page = String::from_utf8(page).context("clap_mangen wrote something that is not UTF-8")?;
    // Its way to an empty line before possible values, which mandoc warns about.
    Ok(page.replace("\n.br\n\n.br\n", "\n.sp\n"))
}

/// The help's closing blocks, each a heading and lines that are to stay lines, as sections of their own.
fn after_help(text: &str) -> Roff {
    let mut sections = Roff::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let (heading, lines) = block.split_once('\n').unwrap_or((block, ""));
        let heading = match heading.trim_end_matches(':') {
            "Exit codes" => "EXIT STATUS".to_owned(),
            other => other.to_uppercase(),
        };
        sections.control("SH", [heading.as_str()]).control("nf", []);
        for line in lines.lines() {
            sections.text([roman(line)]);
        }
        sections.control("fi", []);
    }
    sections
}
