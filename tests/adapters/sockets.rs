//! The table of sockets against real connections of this process and of children.

use crate::support::{AMPLE, again, again_arguments, report, reported};
use hostagent::{
    facts::{Missing, Socket},
    ports::{SocketTable, sockets::KernelSockets},
};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::{self, Child, Command, Stdio},
    time::Duration,
};

async fn established(pid: u32) -> Result<Vec<Socket>, Missing> {
    KernelSockets::new(AMPLE).established(pid).await
}

/// A connection of this process to itself: both ends.
fn connection(listen_on: &str, connect_to: IpAddr) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(listen_on).unwrap();
    let port = listener.local_addr().unwrap().port();
    let near = TcpStream::connect((connect_to, port)).unwrap();
    let (far, _) = listener.accept().unwrap();
    (near, far)
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn assert_has(sockets: &[Socket], stream: &TcpStream) {
    let (local, peer) = (canonical(stream.local_addr().unwrap()), canonical(stream.peer_addr().unwrap()));
    let found = sockets.iter().filter(|socket| socket.local == local && socket.peer == peer).count();
    assert_eq!(found, 1, "{local} → {peer} in {sockets:?}");
}

#[tokio::test]
async fn ipv4_ipv6_and_mapped_connections_of_this_process() {
    let v4 = connection("127.0.0.1:0", "127.0.0.1".parse().unwrap());
    let v6 = connection("[::1]:0", "::1".parse().unwrap());
    let mapped: Ipv6Addr = "::ffff:127.0.0.1".parse().unwrap();
    let mapped = connection("[::]:0", mapped.into());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets = established(process::id()).await.unwrap();
    for (near, far) in [&v4, &v6, &mapped] {
        assert_has(&sockets, near);
        assert_has(&sockets, far);
    }
    assert!(mapped.0.local_addr().unwrap().is_ipv6(), "the socket itself is of IPv6");
    let unmapped = |addr: SocketAddr| !matches!(addr.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    assert!(sockets.iter().all(|socket| unmapped(socket.local) && unmapped(socket.peer)), "{sockets:?}");
    assert!(sockets.iter().all(|socket| socket.local != listener.local_addr().unwrap()), "a listener is no connection");
    assert!(sockets.iter().any(|socket| socket.pid == process::id() && socket.inode != 0));
    let (near, far) = v4;
    let gone = near.local_addr().unwrap();
    drop((near, far));
    let sockets = established(process::id()).await.unwrap();
    assert!(sockets.iter().all(|socket| socket.local != gone), "a closed connection is not established");
}

/// A shell that runs a line and goes away with the test.
struct Shell(Child);

impl Shell {
    fn run(line: &str) -> Self {
        Self(Command::new("bash").args(["-c", line]).stdin(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn connections_of_grandchildren_belong_to_the_process() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The subshell holds the connection and waits for it to close; its parent waits for it.
    let line = format!("(exec 3<>/dev/tcp/127.0.0.1/{port}; read -r line <&3) & wait");
    let shell = Shell::run(&line);
    let (far, near) = listener.accept().unwrap();
    let sockets = established(shell.0.id()).await.unwrap();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    assert_eq!((sockets[0].local, sockets[0].peer), (near, listener.local_addr().unwrap()));
    assert_ne!(sockets[0].pid, shell.0.id(), "the child's own process is named");
    let own = established(process::id()).await.unwrap();
    assert_has(&own, &far);
}

#[tokio::test]
async fn a_process_that_ended_is_said_to_be_gone() {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    let mut end = String::new();
    child.stdout.take().unwrap().read_to_string(&mut end).unwrap();
    // Its output is closed; wait until it is a zombie, without reaping it.
    while fs::read_to_string(format!("/proc/{}/stat", child.id())).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::task::yield_now().await;
    }
    let text = format!(
        "TCP connections of process {}: there is no such process (it ended while it was looked at; look again)",
        child.id()
    );
    assert_eq!(established(child.id()).await.unwrap_err().to_string(), text);
    child.wait().unwrap();
    assert_eq!(established(child.id()).await.unwrap_err().to_string(), text);
    assert!(established(u32::MAX).await.unwrap_err().to_string().contains("there is no such process"));
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_said() {
    let late = KernelSockets::new(Duration::ZERO).established(process::id()).await.unwrap_err();
    assert!(late.why.contains("not read within 0 ms"), "{late}");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[tokio::test]
async fn another_network_namespace_is_looked_into() {
    let exe = env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.arg(if is_root() { "-n" } else { "-rn" }).args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    command.arg(&exe).args(again_arguments("sockets::hold_a_connection"));
    let mut child = Shell(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let addr = lines.find_map(|line| line.strip_prefix("REPORT ").map(str::to_owned));
    let addr: SocketAddr = addr.expect("unshare or ip failed").parse().unwrap();
    let sockets = established(child.0.id()).await.unwrap();
    assert!(sockets.iter().any(|socket| socket.local == addr), "{addr} in {sockets:?}");
    assert_eq!(sockets.len(), 4, "both ends of an IPv4 and of a mapped connection: {sockets:?}");
    assert!(sockets.iter().all(|socket| socket.local.is_ipv4() && socket.peer.is_ipv4()), "{sockets:?}");
    let here = established(process::id()).await.unwrap();
    assert!(here.iter().any(|socket| socket.local == addr), "a descendant's connections count in its namespace too");
    child.0.stdin.take().unwrap().write_all(b"\n").unwrap();
}

#[test]
#[ignore = "run by the test above"]
fn hold_a_connection() {
    let v4 = connection("127.0.0.1:0", "127.0.0.1".parse().unwrap());
    let mapped: Ipv6Addr = "::ffff:127.0.0.1".parse().unwrap();
    let _mapped = connection("[::]:0", mapped.into());
    report(v4.0.local_addr().unwrap());
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn without_permission_it_says_to_run_as_root() {
    let name = "sockets::look_at_process_1";
    let dir = tempfile::tempdir().unwrap();
    let command = if is_root() {
        // As nobody, from a place that nobody may enter.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let exe = dir.path().join("adapters");
        fs::copy(env::current_exe().unwrap(), &exe).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(exe).args(again_arguments(name));
        command
    } else {
        again(name)
    };
    assert_eq!(
        reported(command),
        "TCP connections of process 1: /proc/1: permission denied (run as root, with CAP_SYS_PTRACE)"
    );
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn look_at_process_1() {
    report(established(1).await.unwrap_err());
}
