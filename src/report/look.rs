//! Colour and width, decided once.

use crate::text::clean;
use std::io::IsTerminal;

/// How a page for people looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    pub color: bool,
    /// Columns to fit into; `None` leaves every row on one line, for grep.
    pub width: Option<u16>,
}

impl Look {
    /// No colour, no wrapping.
    pub const PLAIN: Look = Look { color: false, width: None };

    /// As standard output wants it: colour only on a terminal and as `NO_COLOR` and the like allow.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let color = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        let width = if stdout.is_terminal() { terminal_columns() } else { None };
        Self { color: color && stdout.is_terminal(), width }
    }
}

fn terminal_columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    // Narrower than this a table is unreadable anyway; some consoles report 0.
    (size.ws_col >= 40).then_some(size.ws_col)
}

/// What a piece of text means; its colour follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warn,
    Bad,
    Strong,
    Faint,
}

const TONES: [Tone; 5] = [Tone::Good, Tone::Warn, Tone::Bad, Tone::Strong, Tone::Faint];

// Zero-width marks stand for styles until the page is whole, so that a table's columns are measured
// without them. `clean` escapes these characters, so text from outside cannot hold one.
const END: char = '\u{2065}';

impl Tone {
    fn mark(self) -> char {
        match self {
            Tone::Good => '\u{2060}',
            Tone::Warn => '\u{2061}',
            Tone::Bad => '\u{2062}',
            Tone::Strong => '\u{2063}',
            Tone::Faint => '\u{2064}',
        }
    }

    fn style(self) -> anstyle::Style {
        let color = |color: anstyle::AnsiColor| anstyle::Style::new().fg_color(Some(color.into()));
        match self {
            Tone::Good => color(anstyle::AnsiColor::Green),
            Tone::Warn => color(anstyle::AnsiColor::Yellow),
            Tone::Bad => color(anstyle::AnsiColor::Red),
            Tone::Strong => anstyle::Style::new().bold(),
            Tone::Faint => anstyle::Style::new().dimmed(),
        }
    }

    /// Good, bad, or neither known.
    pub fn of(good: Option<bool>) -> Tone {
        match good {
            Some(true) => Tone::Good,
            Some(false) => Tone::Bad,
            None => Tone::Warn,
        }
    }
}

/// Text from anywhere, cleaned and marked.
pub(super) fn paint(tone: Tone, text: &str) -> String {
    format!("{}{}{END}", tone.mark(), clean(text))
}

/// Marks become colours, or go away.
pub(super) fn finish(page: &str, look: Look) -> String {
    let mut out = String::with_capacity(page.len() + 64);
    for c in page.chars() {
        if let Some(tone) = TONES.into_iter().find(|tone| tone.mark() == c) {
            if look.color {
                out.push_str(&tone.style().render().to_string());
            }
        } else if c == END {
            if look.color {
                out.push_str(&anstyle::Reset.render().to_string());
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_colours_only_when_asked_for() {
        let page = format!("a {} b", paint(Tone::Bad, "public\u{2065}\u{1b}[0m"));
        assert_eq!(finish(&page, Look::PLAIN), "a public\\u{2065}\\u{1b}[0m b");
        let colored = finish(&page, Look { color: true, width: None });
        assert_eq!(colored, "a \u{1b}[31mpublic\\u{2065}\\u{1b}[0m\u{1b}[0m b");
    }
}
