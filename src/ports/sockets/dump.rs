//! The kernel's own listing of TCP sockets over netlink (`sock_diag`), filtered to established ones in the kernel.

use crate::facts::Socket;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, Parseable,
};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY, SockDiagMessage, TCP_ESTABLISHED,
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Why the listing is not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum DumpError {
    /// The kernel lists no sockets this way (module `tcp_diag` or `inet_diag` not there); it may by other ways.
    #[error("the kernel does not answer sock_diag: {0}")]
    Unsupported(io::Error),
    #[error("sock_diag: {0}")]
    Io(#[from] io::Error),
    #[error("sock_diag: the kernel's answer cannot be read: {0}")]
    Malformed(String),
    #[error("sock_diag: the list changed while it was read")]
    Interrupted,
    #[error("sock_diag: no complete answer in time")]
    TimedOut,
}

/// Errors the kernel gives for a request it has no handler for.
const NO_HANDLER: [i32; 6] = [
    1,  // EPERM, from a system call filter
    2,  // ENOENT
    22, // EINVAL
    93, // EPROTONOSUPPORT
    95, // EOPNOTSUPP
    97, // EAFNOSUPPORT
];

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The kernel fills at most 32 KiB a message when it is offered that much.
const BUFFER: usize = 64 << 10;

/// The established TCP sockets whose inode is in `wanted` (inode → process), IPv4 and IPv6.
pub(super) fn established(wanted: &HashMap<u64, u32>, deadline: Instant) -> Result<Vec<Socket>, DumpError> {
    let mut netlink = Netlink::new(NETLINK_SOCK_DIAG).map_err(unsupported)?;
    netlink.bind_auto()?;
    netlink.connect(&NetlinkAddr::new(0, 0))?;
    let mut buffer = vec![0; BUFFER];
    let mut found = Vec::with_capacity(wanted.len());
    for (sequence, family) in [(1, AF_INET), (2, AF_INET6)] {
        netlink.send(&request(family, sequence), 0)?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left < Duration::from_millis(1) {
                return Err(DumpError::TimedOut);
            }
            set_socket_timeout(&netlink, Timeout::Recv, Some(left)).map_err(io::Error::from)?;
            let size = match netlink.recv(&mut &mut buffer[..], 0) {
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(DumpError::TimedOut),
                Err(error) => return Err(error.into()),
            };
            let batch = buffer.get(..size).ok_or_else(|| DumpError::Malformed("a message is cut off".into()))?;
            if read_batch(batch, sequence, wanted, &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

fn request(family: u8, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::ESTABLISHED,
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    });
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads one message of the kernel, which holds many sockets; true when it was the last one.
///
/// Nothing is allocated for a socket that is not wanted: a host may have hundreds of thousands of them.
fn read_batch(
    mut bytes: &[u8],
    sequence: u32,
    wanted: &HashMap<u64, u32>,
    found: &mut Vec<Socket>,
) -> Result<bool, DumpError> {
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes).map_err(|error| DumpError::Malformed(error.to_string()))?;
        if message.sequence_number() == sequence {
            if message.flags() & NLM_F_DUMP_INTR != 0 {
                return Err(DumpError::Interrupted);
            }
            match message.message_type() {
                NLMSG_NOOP => {}
                NLMSG_DONE => return errno(message.payload(), 0).map(|()| true),
                NLMSG_ERROR => return errno(message.payload(), 22).map(|()| false),
                SOCK_DIAG_BY_FAMILY => read_socket(message.payload(), wanted, found)?,
                other => return Err(DumpError::Malformed(format!("message of type {other}"))),
            }
        }
        let aligned = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(aligned..).unwrap_or_default();
    }
    Ok(false)
}

/// The error number at the head of a final message: 0, or the negative of the number.
fn errno(payload: &[u8], absent: i32) -> Result<(), DumpError> {
    let number = payload.first_chunk::<4>().map_or(absent, |bytes| i32::from_ne_bytes(*bytes).saturating_neg());
    match number {
        0 => Ok(()),
        number => Err(unsupported(io::Error::from_raw_os_error(number))),
    }
}

fn unsupported(error: io::Error) -> DumpError {
    match error.raw_os_error() {
        Some(number) if NO_HANDLER.contains(&number) => DumpError::Unsupported(error),
        _ => DumpError::Io(error),
    }
}

fn read_socket(payload: &[u8], wanted: &HashMap<u64, u32>, found: &mut Vec<Socket>) -> Result<(), DumpError> {
    let header = InetResponseHeader::parse(payload).map_err(|error| DumpError::Malformed(error.to_string()))?;
    let inode = u64::from(header.inode);
    let Some(pid) = wanted.get(&inode).copied() else { return Ok(()) };
    if header.state == TCP_ESTABLISHED {
        let id = header.socket_id;
        found.push(Socket {
            local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
            peer: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
            pid,
            inode,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;
    use proptest::prelude::*;

    fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(16 + payload.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&0u16.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn socket(inode: u32) -> Vec<u8> {
        let mut socket_id = SocketId::new_v6();
        socket_id.source_address = "::ffff:10.50.0.9".parse().unwrap();
        socket_id.destination_address = "::ffff:10.50.1.11".parse().unwrap();
        (socket_id.source_port, socket_id.destination_port) = (40_000, 443);
        let header = InetResponseHeader {
            family: AF_INET6,
            state: TCP_ESTABLISHED,
            timer: None,
            socket_id,
            recv_queue: 0,
            send_queue: 0,
            uid: 0,
            inode,
        };
        let mut bytes = vec![0; header.buffer_len()];
        header.emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_batch_gives_the_wanted_sockets_and_its_end() {
        let wanted = HashMap::from([(7, 100)]);
        let mut found = Vec::new();
        let batch = [
            message(SOCK_DIAG_BY_FAMILY, 1, &socket(6)),
            message(SOCK_DIAG_BY_FAMILY, 1, &socket(7)),
            message(SOCK_DIAG_BY_FAMILY, 9, &socket(7)), // of another request
        ];
        assert!(!read_batch(&batch.concat(), 1, &wanted, &mut found).unwrap());
        let expected = Socket {
            local: "10.50.0.9:40000".parse().unwrap(),
            peer: "10.50.1.11:443".parse().unwrap(),
            pid: 100,
            inode: 7,
        };
        assert_eq!(found, [expected]);
        assert!(read_batch(&message(NLMSG_DONE, 1, &0i32.to_ne_bytes()), 1, &wanted, &mut found).unwrap());
    }

    #[test]
    fn refusals_are_told_apart() {
        let refusal = |number: i32| {
            let bytes = message(NLMSG_ERROR, 1, &(-number).to_ne_bytes());
            read_batch(&bytes, 1, &HashMap::new(), &mut Vec::new()).unwrap_err()
        };
        assert!(matches!(refusal(2), DumpError::Unsupported(_)));
        assert!(matches!(refusal(12), DumpError::Io(_)));
        let cut = &message(SOCK_DIAG_BY_FAMILY, 1, &socket(7))[..40];
        let cut = read_batch(cut, 1, &HashMap::new(), &mut Vec::new());
        assert!(matches!(cut, Err(DumpError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn never_panics_on_garbage(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u16..24) {
            let wanted = HashMap::from([(7, 100)]);
            let _ = read_batch(&bytes, 1, &wanted, &mut Vec::new());
            let _ = read_batch(&message(kind, 1, &bytes), 1, &wanted, &mut Vec::new());
        }
    }
}
