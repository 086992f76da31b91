//! What the benches on a host share: release programs, this program as a helper on the host, and medians.
//!
//! Each bench is one program for both sides: started by cargo it starts a host and judges; started on the host with a
//! helper's name as its argument it takes the samples there, so that nothing but the host itself is in the figures.

// Each bench takes what it needs of it.
#![allow(dead_code)]

use hostagent_lab::host::Host;
use std::{
    env,
    error::Error,
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Odd, so that the median is one of the values.
pub const ROUNDS: usize = 25;

/// What follows a helper's name on the command line; `None` when this is not that helper.
pub fn helper(name: &str) -> Option<Vec<String>> {
    let mut arguments = env::args().skip(1);
    (arguments.next()? == name).then(|| arguments.collect())
}

/// Builds the programs that the host mounts, as they are shipped. `cargo bench` alone would leave them with its own
/// profile: without LTO, and able to unwind.
pub fn build_programs() -> Result<()> {
    if cfg!(debug_assertions) {
        return Err("this bench was built without optimisation: run it with cargo bench".into());
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--workspace", "--bins"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("the release programs could not be built: {status}").into()) }
}

/// This program, running on a host as one of its helpers.
pub struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: Box<dyn Iterator<Item = std::io::Result<String>>>,
}

impl Helper {
    pub fn start(host: &Host, arguments: &[&str]) -> Result<Self> {
        let this = env::current_exe()?;
        let name = this.file_name().and_then(|name| name.to_str()).ok_or("this program has no name")?;
        let mut command = Command::new("docker");
        // The directory of the programs is /opt/lab there; benches lie in deps below it.
        command.args(["exec", "--interactive", host.id(), &format!("/opt/lab/deps/{name}")]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("the helper has no output")?;
        Ok(Self { child, input, output: Box::new(BufReader::new(output).lines()) })
    }

    /// The next line it prints.
    pub fn line(&mut self) -> Result<String> {
        self.output.next().ok_or("the helper ended without a word")?.map_err(Into::into)
    }

    /// Closes its input, by which it knows that it may end, and gives what else it prints.
    pub fn finish(mut self) -> Result<Vec<String>> {
        drop(self.input.take());
        let lines = self.output.collect::<std::io::Result<Vec<String>>>()?;
        let status = self.child.wait()?;
        if status.success() { Ok(lines) } else { Err(format!("the helper ended with {status}").into()) }
    }
}

/// The median of one or more values.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Median, and in parentheses the least and the most.
pub fn spread(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$} to {most:.digits$})", median(values))
}

/// Prints a bound with what came of it, and says whether it holds. What is not a number holds nothing.
pub fn within(what: &str, value: f64, bound: f64, unit: &str) -> bool {
    let holds = value <= bound;
    println!("{what}: {value:.3}{unit}, must be ≤ {bound}{unit}: {}", if holds { "holds" } else { "MISSED" });
    holds
}

pub fn verdict(holds: bool) -> ExitCode {
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
