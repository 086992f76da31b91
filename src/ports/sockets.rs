//! Established TCP connections of a process and its descendants.
//!
//! The processes' descriptors give socket inodes; the kernel's list of established sockets gives their addresses.
//! The two are read one after the other, so a connection made in between is missed and one closed in between is
//! gone. An inode number closed and given to another process's socket in between would be taken for ours; the
//! kernel counts through 32 bits before it gives a number again, so this is left as it is.

mod dump;

use super::{
    SocketTable,
    words::{Span, io_words},
};
use crate::facts::{Missing, Socket};
use async_trait::async_trait;
use dump::DumpError;
use procfs::{
    ProcError, ProcResult,
    net::{TcpNetEntry, TcpState},
    process::{Process, all_processes},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Missing>;

const ROOT_HINT: &str = "run as root, with CAP_SYS_PTRACE";
const GONE_HINT: &str = "it ended while it was looked at; look again";

/// Reads the kernel's tables of this host.
#[derive(Debug, Clone)]
pub struct KernelSockets {
    deadline: Duration,
}

impl KernelSockets {
    /// `deadline` bounds each look.
    pub fn new(deadline: Duration) -> Self {
        Self { deadline }
    }
}

#[async_trait]
impl SocketTable for KernelSockets {
    async fn established(&self, root_pid: u32) -> Result<Vec<Socket>> {
        let look = Look { root: root_pid, deadline: Instant::now() + self.deadline, allowed: self.deadline };
        let late = look.late();
        // The thread minds the deadline itself; the outer one is for a kernel that hangs in between.
        let slack = Duration::from_millis(200);
        match timeout(self.deadline + slack, tokio::task::spawn_blocking(move || look.established())).await {
            Ok(Ok(sockets)) => sockets,
            Ok(Err(_)) => Err(Missing::new(what(root_pid), "the look was broken off", "look again")),
            Err(_) => Err(late),
        }
    }
}

fn what(root_pid: u32) -> String {
    format!("TCP connections of process {root_pid}")
}

struct Look {
    root: u32,
    deadline: Instant,
    allowed: Duration,
}

impl Look {
    fn established(&self) -> Result<Vec<Socket>> {
        let here =
            netns("self").map_err(|error| self.missing(format!("/proc/self/ns/net: {}", io_words(&error)), ""))?;
        let mut wanted: HashMap<u64, u32> = HashMap::new();
        // A process to read the tables of each other network namespace through.
        let mut elsewhere: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        let mut any_here = false;
        for pid in self.tree()? {
            self.in_time()?;
            let seen = netns(pid).and_then(|namespace| Ok((namespace, socket_inodes(pid)?)));
            match seen {
                Ok((namespace, inodes)) => {
                    for inode in inodes {
                        wanted.entry(inode).or_insert(pid);
                    }
                    if namespace == here {
                        any_here = true;
                    } else {
                        elsewhere.entry(namespace).or_insert(pid);
                    }
                }
                Err(error) if vanished(&error) && pid != self.root => {}
                Err(error) if vanished(&error) => return Err(self.gone()),
                Err(error) => return Err(self.missing(format!("/proc/{pid}: {}", io_words(&error)), ROOT_HINT)),
            }
        }
        let mut found = Vec::new();
        if any_here && !wanted.is_empty() {
            match dump::established(&wanted, self.deadline) {
                Ok(sockets) => found.extend(sockets),
                Err(DumpError::Unsupported(_)) => found.extend(self.read_proc(self.root, &wanted)?),
                Err(DumpError::TimedOut) => return Err(self.late()),
                Err(error) => return Err(self.missing(error.to_string(), "look again")),
            }
        }
        for pid in elsewhere.into_values() {
            self.in_time()?;
            found.extend(self.read_proc(pid, &wanted)?);
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The process and its descendants, parents first. Children of any thread count: the kernel names the process
    /// as their parent.
    fn tree(&self) -> Result<Vec<u32>> {
        let denied = |error: ProcError| self.missing(proc_words(&error), ROOT_HINT);
        let root = Process::new(self.root.try_into().map_err(|_| self.gone())?);
        match root.and_then(|process| process.stat()) {
            Ok(stat) if matches!(stat.state, 'Z' | 'X') => return Err(self.gone()),
            Ok(_) => {}
            Err(ProcError::NotFound(_)) => return Err(self.gone()),
            Err(error) => return Err(denied(error)),
        }
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for process in all_processes().map_err(denied)? {
            self.in_time()?;
            // One that ended, or that we may not see, is nobody's descendant that we could look into.
            let Ok(stat) = process.and_then(|process| process.stat()) else { continue };
            if let (Ok(pid), Ok(parent)) = (u32::try_from(stat.pid), u32::try_from(stat.ppid)) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut tree = vec![self.root];
        let mut seen = HashSet::from([self.root]);
        let mut next = 0;
        while let Some(pid) = tree.get(next).copied() {
            next += 1;
            tree.extend(children.get(&pid).into_iter().flatten().filter(|child| seen.insert(**child)));
        }
        Ok(tree)
    }

    /// The slower way: the tables as the process's own network namespace shows them.
    fn read_proc(&self, pid: u32, wanted: &HashMap<u64, u32>) -> Result<Vec<Socket>> {
        let process = i32::try_from(pid).map_err(|_| self.gone())?;
        let tables = || -> ProcResult<Vec<TcpNetEntry>> {
            let process = Process::new(process)?;
            let mut entries = process.tcp()?;
            match process.tcp6() {
                Ok(more) => entries.extend(more),
                // A host without IPv6 has no such table.
                Err(ProcError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            Ok(entries)
        };
        let entries = tables().map_err(|error| match error {
            ProcError::NotFound(_) => self.gone(),
            error => self.missing(proc_words(&error), ROOT_HINT),
        })?;
        let ours = entries.into_iter().filter(|entry| entry.state == TcpState::Established).filter_map(|entry| {
            let pid = wanted.get(&entry.inode).copied()?;
            let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
            let (local, peer) = (canonical(entry.local_address), canonical(entry.remote_address));
            Some(Socket { local, peer, pid, inode: entry.inode })
        });
        Ok(ours.collect())
    }

    fn in_time(&self) -> Result<()> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(self.late()) }
    }

    fn missing(&self, why: String, hint: &str) -> Missing {
        Missing::new(what(self.root), why, hint)
    }

    fn gone(&self) -> Missing {
        self.missing("there is no such process".into(), GONE_HINT)
    }

    fn late(&self) -> Missing {
        self.missing(format!("not read within {}", Span(self.allowed)), "look again; the host may be overloaded")
    }
}

fn netns(pid: impl std::fmt::Display) -> io::Result<(u64, u64)> {
    let namespace = fs::metadata(format!("/proc/{pid}/ns/net"))?;
    Ok((namespace.dev(), namespace.ino()))
}

fn socket_inodes(pid: u32) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let link = match entry.and_then(|entry| fs::read_link(entry.path())) {
            Ok(link) => link,
            // Closed since the directory was read.
            Err(error) if vanished(&error) => continue,
            Err(error) => return Err(error),
        };
        let number = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        let inode: Option<u64> = number.and_then(|number| number.parse().ok());
        inodes.extend(inode);
    }
    Ok(inodes)
}

/// No such file, or no such process: `/proc` says either of one that ended.
fn vanished(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

fn proc_words(error: &ProcError) -> String {
    let at =
        |path: &Option<std::path::PathBuf>| path.as_ref().map_or("/proc".into(), |path| path.display().to_string());
    match error {
        ProcError::PermissionDenied(path) => format!("{}: permission denied", at(path)),
        ProcError::Io(error, path) => format!("{}: {}", at(path), io_words(error)),
        error => error.to_string(),
    }
}
