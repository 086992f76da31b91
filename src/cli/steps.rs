//! What a command tells while it works: on standard error, beside its result, and for people only.
//!
//! On a terminal the step under way is one live line, with the time since the command began and since the step did.
//! When the next step begins, it stays as a plain line. Elsewhere each step is that plain line at once, so that a
//! terminal shows in the end what a file holds.

use crate::{progress::Progress, report::step_words};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::{
    cell::RefCell,
    fmt,
    io::{self, Write},
    time::{Duration, Instant},
};

/// Between two movements of the live line.
const TICK: Duration = Duration::from_millis(100);
/// No colour, so that there is none for `NO_COLOR` to take away.
const LINE: &str = "{since_began}  {spinner} {wide_msg} {since_step}";

/// The steps of one command.
pub struct Steps {
    began: Instant,
    shown: Shown,
}

enum Shown {
    Nothing,
    Lines,
    Live {
        line: ProgressBar,
        /// What stays of the step under way.
        stays: RefCell<Option<String>>,
    },
}

impl Steps {
    /// Steps nobody asked for: the result is for a program.
    pub fn untold() -> Self {
        Self { began: Instant::now(), shown: Shown::Nothing }
    }

    /// Live where standard error is a terminal that can, and nothing else is written there.
    pub fn for_people(events_on_stderr: bool) -> Self {
        let began = Instant::now();
        let target = if events_on_stderr { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        if target.is_hidden() {
            return Self { began, shown: Shown::Lines };
        }
        // Writing to a text cannot fail.
        let since_began = move |_: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = out.write_str(&seconds(began.elapsed()));
        };
        let since_step = |step: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{:>4} s", step.elapsed().as_secs());
        };
        let style = match ProgressStyle::with_template(LINE) {
            Ok(style) => style.with_key("since_began", since_began).with_key("since_step", since_step),
            // A template that is wrong shows the library's own line.
            Err(_) => ProgressStyle::default_spinner(),
        };
        // Nothing is drawn before there is something to say.
        let line = ProgressBar::with_draw_target(None, target).with_style(style);
        Self { began, shown: Shown::Live { line, stays: RefCell::default() } }
    }

    /// What goes on until the first step, or until the result: only of interest while it lasts.
    pub fn meanwhile(&self, words: &'static str) {
        if let Shown::Live { line, .. } = &self.shown {
            line.set_message(words);
            line.enable_steady_tick(TICK);
        }
    }

    /// A step of a run begins.
    pub fn step(&self, progress: &Progress) {
        let words = step_words(&progress.event);
        let plain = format!("{}  {words}", seconds(self.began.elapsed()));
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines => aside(&plain),
            Shown::Live { line, stays } => {
                if let Some(done) = stays.replace(Some(plain)) {
                    line.suspend(|| aside(&done));
                }
                line.reset_elapsed();
                line.set_message(words);
                line.enable_steady_tick(TICK);
            }
        }
    }

    /// The result follows: the last step stays, and nothing moves any more.
    pub fn end(&self) {
        if let Shown::Live { line, stays } = &self.shown {
            if let Some(done) = stays.take() {
                line.suspend(|| aside(&done));
            }
            line.finish_and_clear();
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.end();
    }
}

/// A closed standard error does not change what was found.
fn aside(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn seconds(elapsed: Duration) -> String {
    format!("{:>7.1} s", elapsed.as_secs_f64())
}
