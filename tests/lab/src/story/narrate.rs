//! What the story prints.

use std::io::{IsTerminal as _, stdout};

/// Prints, with colour on a terminal unless `NO_COLOR` says otherwise.
pub struct Narrator {
    colour: bool,
}

impl Narrator {
    pub fn new() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: stdout().is_terminal() && !refused }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub fn title(&mut self, text: &str) {
        println!("\n{}\n", self.painted("1", text));
    }

    pub fn text(&mut self, text: &str) {
        println!("{text}");
    }

    pub fn command(&mut self, command: &str) {
        println!("\n{}", self.painted("36", &format!("$ {command}")));
    }

    pub fn good(&mut self, text: &str) {
        println!("{} {text}", self.painted("32", "ok"));
    }

    pub fn bad(&mut self, text: &str) {
        println!("{} {text}", self.painted("31", "WRONG"));
    }

    pub fn table(&mut self, heading: &str, columns: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([columns[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("  {}", padded.join("  ").trim_end())
        };
        println!("\n{heading}:");
        println!("{}", self.painted("2", &line(columns.to_vec())));
        for row in rows {
            println!("{}", line(row.iter().map(String::as_str).collect()));
        }
        println!();
    }
}
