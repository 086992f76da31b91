//! The size of the release binary, and the memory `hostagent check` needs at its peak.
//!
//! `cargo bench --bench footprint` (root and Docker) builds the release programs and runs `hostagent check` on a host
//! under GNU time, whose maximum resident set counts the program's own code as far as it was read. It prints the
//! median and fails when either is over its bound.

mod support;

use hostagent_lab::{
    host::{Host, HostOptions},
    region::switch::{Change, Path},
};
use std::{env, fs, process::ExitCode};
use support::{ROUNDS, Result, median, spread, verdict, within};

const BINARY_MB: f64 = 12.0;
const MEMORY_MB: f64 = 20.0;
const MB: f64 = 1e6;

fn main() -> Result<ExitCode> {
    support::build_programs()?;
    let this = env::current_exe()?;
    let programs = this.parent().and_then(|deps| deps.parent()).ok_or("this program lies in no directory")?;
    let binary = fs::metadata(programs.join("hostagent"))?.len() as f64 / MB;
    let host = Host::try_start(&HostOptions::default())?;
    host.set(&Change::path(&[], Path::Endpoint));
    let peak = |arguments: &str| -> Result<Vec<f64>> {
        (0..ROUNDS)
            .map(|_| {
                // Its exit code is its answer: a restart is needed. GNU time says so before its own line.
                let output = host.sh(&format!("/usr/bin/time --format %M hostagent {arguments} >/dev/null"));
                let last = output.stderr.lines().last().unwrap_or_default();
                let kib: f64 = last.parse().map_err(|_| format!("GNU time said: {}", output.stderr))?;
                if output.code == 10 { Ok(kib * 1024.0 / MB) } else { Err(format!("check: {}", output.code).into()) }
            })
            .collect()
    };
    let (check, all) = (peak("check")?, peak("check --require all")?);
    drop(host);

    println!("peak memory in MB: medians of {ROUNDS} runs (least to most)");
    println!("{:<36}{}", "hostagent check", spread(&check, 2));
    println!("{:<36}{}", "hostagent check --require all", spread(&all, 2));
    let mut holds = within("release binary", binary, BINARY_MB, " MB");
    holds &= within("hostagent check", median(&check), MEMORY_MB, " MB");
    Ok(verdict(holds))
}
