//! How far a fleet command is: a bar on a terminal, plain lines elsewhere, nothing beside output for programs.

use crate::report::Format;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{cell::RefCell, io::Write, time::Duration};

const TICK: Duration = Duration::from_millis(100);
/// No colour, so that there is none for `NO_COLOR` to take away.
const COUNTED: &str = "{elapsed_precise}  [{bar:30}] {pos}/{len}  {wide_msg}";
const UNCOUNTED: &str = "{elapsed_precise}  {spinner} {wide_msg}";

/// One measure of how far it is.
pub struct Bar {
    bar: Option<ProgressBar>,
    /// The last plain line, so that none is repeated.
    last: RefCell<String>,
    plain: bool,
}

impl Bar {
    /// For people on a terminal a bar, for people elsewhere lines.
    pub fn new(format: Format, events_on_stderr: bool) -> Self {
        let target = ProgressDrawTarget::stderr();
        let live = format == Format::Human && !events_on_stderr && !target.is_hidden();
        let bar = live.then(|| {
            let bar = ProgressBar::with_draw_target(None, target).with_style(style(UNCOUNTED));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, last: RefCell::default(), plain: format == Format::Human && !live }
    }

    /// So many of so many, and what is going on.
    pub fn at(&self, done: usize, of: Option<usize>, words: &str) {
        match (&self.bar, of) {
            (Some(bar), Some(of)) => {
                bar.set_style(style(COUNTED));
                bar.set_length(of as u64);
                bar.set_position(done as u64);
                bar.set_message(words.to_owned());
            }
            (Some(bar), None) => bar.set_message(words.to_owned()),
            (None, _) => self.line(words),
        }
    }

    fn line(&self, words: &str) {
        if self.plain && *self.last.borrow() != words {
            // A closed standard error changes nothing about what is done.
            let _ = writeln!(std::io::stderr(), "{words}");
            words.clone_into(&mut self.last.borrow_mut());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A template that is wrong shows the library's own line.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).map_or_else(|_| ProgressStyle::default_bar(), |s| s.progress_chars("=> "))
}
