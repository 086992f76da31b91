//! The link between a host and its region: two TUN devices, and this process between them, which holds every packet
//! back for a while. Kernels without netem have no other way to a network delay.

use crate::notify;
use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::{
    ffi::OsString,
    io::ErrorKind,
    os::unix::net::UnixDatagram as StdDatagram,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::UnixDatagram,
    process::Command,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_tun::Tun;

/// Where a running link takes a new delay.
pub const SOCKET: &str = "/run/lab-link.sock";
/// Device of the host, in the namespace the link was started in.
const HOST_DEVICE: &str = "lab0";
/// Device of the region, moved into its namespace.
const REGION_DEVICE: &str = "lab1";
/// The region's network namespace.
const NAMESPACE: &str = "region";
/// Larger than any packet a device with the usual 1,500 octets can hand out.
const PACKET: usize = 2048;
/// Packets on their way in one direction; beyond this the link drops, as a full queue does.
const QUEUE: usize = 4096;

/// Carries packets between the host's namespace and the region's.
#[derive(Debug, Parser)]
#[command(name = "hostagent-lab link")]
struct LinkArgs {
    #[command(subcommand)]
    command: LinkCommand,
}

#[derive(Debug, Subcommand)]
enum LinkCommand {
    /// Make the two devices and forward packets until stopped
    Run {
        #[arg(long, default_value = SOCKET)]
        socket: PathBuf,
    },
    /// Change the one-way delay of a running link
    Delay {
        /// Milliseconds each packet is held back
        ms: u64,
        #[arg(long, default_value = SOCKET)]
        socket: PathBuf,
    },
}

/// `hostagent-lab link`.
///
/// # Errors
///
/// When the devices cannot be made or fail, or no link is there to take a delay.
pub fn main(args: Vec<OsString>) -> Result<ExitCode> {
    match LinkArgs::parse_from(args).command {
        LinkCommand::Run { socket } => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&socket))?;
        }
        LinkCommand::Delay { ms, socket } => {
            let sent = StdDatagram::unbound()?.send_to(ms.to_string().as_bytes(), &socket);
            sent.with_context(|| format!("no link listens on {}", socket.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(socket: &Path) -> Result<()> {
    let host = Arc::new(device(HOST_DEVICE)?);
    let region = Arc::new(device(REGION_DEVICE)?);
    // A device keeps its file descriptor when it changes namespace.
    let moved = Command::new("ip").args(["link", "set", REGION_DEVICE, "netns", NAMESPACE]).status().await?;
    if !moved.success() {
        bail!("could not move {REGION_DEVICE} into the network namespace {NAMESPACE}: ip ended with {moved}");
    }
    let control = bind(socket)?;
    notify::ready()?;
    let delay_ms = Arc::new(AtomicU64::new(0));
    tokio::select! {
        ended = forward(host.clone(), region.clone(), delay_ms.clone()) => ended,
        ended = forward(region, host, delay_ms.clone()) => ended,
        ended = take_orders(control, delay_ms) => ended,
    }
}

fn device(name: &str) -> Result<Tun> {
    let made = Tun::builder().name(name).build();
    let mut queues = made.with_context(|| format!("could not make the TUN device {name}"))?;
    queues.pop().with_context(|| format!("the TUN device {name} came without a queue"))
}

fn bind(socket: &Path) -> Result<UnixDatagram> {
    if let Err(error) = std::fs::remove_file(socket)
        && error.kind() != ErrorKind::NotFound
    {
        bail!("could not replace {}: {error}", socket.display());
    }
    UnixDatagram::bind(socket).with_context(|| format!("could not listen on {}", socket.display()))
}

async fn take_orders(control: UnixDatagram, delay_ms: Arc<AtomicU64>) -> Result<()> {
    let mut order = [0; 32];
    loop {
        let length = control.recv(&mut order).await?;
        match std::str::from_utf8(&order[..length]).ok().and_then(|text| text.trim().parse().ok()) {
            Some(ms) => delay_ms.store(ms, Relaxed),
            None => eprintln!("link: not a number of milliseconds: {:?}", String::from_utf8_lossy(&order[..length])),
        }
    }
}

/// Carries packets one way. The order is kept also across a change of the delay.
async fn forward(from: Arc<Tun>, to: Arc<Tun>, delay_ms: Arc<AtomicU64>) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUE);
    let reading = async move {
        let mut packet = [0; PACKET];
        loop {
            let length = from.recv(&mut packet).await?;
            let due = Instant::now() + Duration::from_millis(delay_ms.load(Relaxed));
            match sender.try_send((due, packet[..length].to_vec())) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return Ok(()),
            }
        }
    };
    let writing = async move {
        while let Some((due, packet)) = receiver.recv().await {
            // Even a sleep until now lasts until the timer's next millisecond.
            if due > Instant::now() {
                sleep_until(due).await;
            }
            // Refused while the other device is still down: lost, as on any wire.
            if let Err(error) = to.send(&packet).await
                && error.raw_os_error() != Some(rustix::io::Errno::IO.raw_os_error())
            {
                return Err(error.into());
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}
