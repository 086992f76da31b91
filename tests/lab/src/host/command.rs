//! Running other programs, each within a time.

use anyhow::{Context, Result, bail};
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; 124 when the time was up, -1 when a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// The standard output without white space around it; panics if the program failed.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(self.success(), "exit code {}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        self.stdout.trim()
    }
}

/// A program about to be run, for at most 120 seconds unless told otherwise.
pub struct Run<'a> {
    program: &'a str,
    arguments: Vec<&'a str>,
    timeout_s: u32,
    input: Option<&'a [u8]>,
}

impl<'a> Run<'a> {
    pub fn new(program: &'a str, arguments: &[&'a str]) -> Self {
        Self { program, arguments: arguments.to_vec(), timeout_s: 120, input: None }
    }

    pub fn timeout_s(mut self, seconds: u32) -> Self {
        self.timeout_s = seconds;
        self
    }

    pub fn input(mut self, input: &'a [u8]) -> Self {
        self.input = Some(input);
        self
    }

    /// Runs it to its end, whatever its exit code.
    pub fn output(self) -> Result<Output> {
        let mut child = Command::new("timeout")
            .args(["--kill-after=5", &self.timeout_s.to_string(), self.program])
            .args(&self.arguments)
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not run {}", self.program))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input) {
            stdin.write_all(input).with_context(|| format!("{} did not read its input", self.program))?;
        }
        let done = child.wait_with_output()?;
        Ok(Output {
            code: done.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }

    /// Its standard output; an error unless it succeeded.
    pub fn ok(self) -> Result<String> {
        let line = format!("{} {}", self.program, self.arguments.join(" "));
        let timeout_s = self.timeout_s;
        let output = self.output()?;
        match output.code {
            0 => Ok(output.stdout),
            124 => bail!("`{line}` did not end within {timeout_s} s"),
            127 => bail!("`{line}`: not installed"),
            code => bail!("`{line}` ended with {code}: {}{}", output.stderr.trim(), output.stdout.trim()),
        }
    }
}

/// Runs a program that must succeed; its standard output.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    Run::new(program, arguments).ok()
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> Result<String> {
    first_field(&Run::new("sha256sum", &[]).input(bytes).ok()?)
}

/// SHA-256 of a file, in hexadecimal.
pub fn sha256_of_file(path: &str) -> Result<String> {
    first_field(&run("sha256sum", &["--", path])?)
}

fn first_field(line: &str) -> Result<String> {
    line.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_was_run() {
        assert_eq!(run("sh", &["-c", "echo a"]).unwrap(), "a\n");
        let error = run("sh", &["-c", "echo why >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("ended with 3: why"), "{error}");
        let error = Run::new("sleep", &["60"]).timeout_s(1).ok().unwrap_err().to_string();
        assert!(error.contains("did not end within 1 s"), "{error}");
        assert!(run("no-such-program", &[]).unwrap_err().to_string().contains("not installed"));
    }

    #[test]
    fn sha256_is_the_known_one() {
        assert_eq!(sha256(b"abc").unwrap()[..16], *"ba7816bf8f01cfea");
    }
}
