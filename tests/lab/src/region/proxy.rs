//! A forward proxy (CONNECT only), for agents behind one.

use super::{
    place::{Known, Service, Way},
    state::Shared,
    switch::{Path, What},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, peer)) = listener.accept().await {
            connections.spawn(connection(shared.clone(), stream, peer));
        }
    }
}

async fn connection(shared: Arc<Shared>, mut client: TcpStream, peer: SocketAddr) {
    let Ok(Some(target)) = tokio::time::timeout(Duration::from_secs(10), request(&mut client)).await else { return };
    let server = match address(&shared, &target) {
        Some(address) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let Some(mut server) = server else {
        shared.log(What::Proxy { peer, target, status: 502 });
        let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
        return;
    };
    shared.log(What::Proxy { peer, target, status: 200 });
    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Reads up to the empty line; the `host:port` of a CONNECT.
async fn request(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 16 * 1024 {
            return None;
        }
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    head.strip_prefix("CONNECT ")?.split(' ').next().map(str::to_string)
}

/// The proxy is somewhere else: it sees the public names, unless the service has an endpoint where it is.
fn address(shared: &Shared, target: &str) -> Option<SocketAddr> {
    let (host, port) = target.rsplit_once(':')?;
    let (service, way) = match Service::of_host(&host.to_lowercase())? {
        Known::Numbered(service) => (service, Way::Numbered),
        Known::Base(service) if shared.service(service).path == Path::Endpoint => (service, Way::Endpoint(1)),
        Known::Base(service) => (service, Way::Public),
        Known::Bare => return None,
    };
    Some(SocketAddr::new(shared.binding.door(service, way)?.ip.into(), port.parse().ok()?))
}
