//! The agent's connections on a host with 100,000 open sockets: ours against `ss -tn`, in one run.
//!
//! `cargo bench --bench sockets` prints the medians and their ratio, and fails when ours is slower.
//! Helper processes hold the sockets, each as many as its limit of descriptors allows.

use hostagent::ports::{SocketTable, sockets::KernelSockets};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, stdin},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Both ends of a connection are sockets of this host.
const SOCKETS: usize = 100_000;
/// Connections of the process that plays the agent.
const AGENT: usize = 3;
const ROUNDS: usize = 25;
/// One destination has fewer than 28,000 ports to be reached from.
const MOST: u64 = 20_000;
/// Descriptors a helper needs for itself.
const SPARE: u64 = 64;
const HOLD: &str = "hold";

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().position(|argument| argument == HOLD) {
        Some(at) => {
            let number =
                |offset: usize| -> Result<usize> { Ok(arguments.get(at + offset).ok_or("no number")?.parse()?) };
            hold(number(1)?, number(2)?).map(|()| ExitCode::SUCCESS)
        }
        None => tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure()),
    }
}

/// Holds `count` connections to an address of its own until its input ends.
fn hold(number: usize, count: usize) -> Result<()> {
    let limit = raise_limit()?;
    let [.., high, low] = number.to_be_bytes();
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 100 + high, low), 0))?;
    let mut held = Vec::with_capacity(2 * count);
    for _ in 0..count {
        held.push(TcpStream::connect(listener.local_addr()?).map_err(|error| format!("{error} (limit {limit})"))?);
        held.push(listener.accept()?.0);
    }
    println!("ready");
    stdin().read_line(&mut String::new())?;
    Ok(())
}

fn raise_limit() -> Result<u64> {
    let limits = getrlimit(Resource::Nofile);
    let hard = limits.maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: Some(hard) })?;
    Ok(hard)
}

struct Holder(Child);

impl Holder {
    /// Starts it; it says when it is ready.
    fn start(number: usize, count: usize) -> Result<Self> {
        let arguments = [HOLD.to_owned(), number.to_string(), count.to_string()];
        let mut command = Command::new(env::current_exe()?);
        Ok(Self(command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let output = self.0.stdout.take().ok_or("a helper has no output")?;
        match BufReader::new(output).lines().next() {
            Some(Ok(line)) if line == "ready" => Ok(()),
            other => Err(format!("a helper could not hold its connections: {other:?}").into()),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

async fn measure() -> Result<ExitCode> {
    let each = ((raise_limit()? - SPARE) / 2).min(MOST) as usize;
    let (mut holders, mut left) = (vec![Holder::start(0, AGENT)?], SOCKETS / 2 - AGENT);
    while left > 0 {
        let count = left.min(each);
        holders.push(Holder::start(holders.len(), count)?);
        left -= count;
    }
    for holder in &mut holders {
        holder.wait_until_ready()?;
    }
    let listed = Command::new("ss").arg("-tn").output()?.stdout.split(|byte| *byte == b'\n').count();
    if listed < SOCKETS {
        return Err(format!("ss lists {listed} sockets, not {SOCKETS}").into());
    }

    let agent = holders[0].0.id();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let found = KernelSockets::new(Duration::from_secs(30)).established(agent).await;
        let found = found.map_err(|missing| missing.to_string())?.len();
        ours.push(start.elapsed());
        if found != 2 * AGENT {
            return Err(format!("{found} of {} sockets found", 2 * AGENT).into());
        }
        let start = Instant::now();
        let status = Command::new("ss").arg("-tn").stdout(Stdio::null()).status()?;
        theirs.push(start.elapsed());
        if !status.success() {
            return Err(format!("ss: {status}").into());
        }
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!("{listed} sockets, {} helpers, {ROUNDS} rounds, medians", holders.len());
    println!("established(agent)  {:8.1} ms", ours.as_secs_f64() * 1e3);
    println!("ss -tn              {:8.1} ms", theirs.as_secs_f64() * 1e3);
    println!("ratio               {ratio:8.3}  (must be ≤ 1.0)");
    Ok(if ratio <= 1.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
