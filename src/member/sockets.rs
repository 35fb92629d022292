//! The listening sockets of a member. Those for clients are bound first, so that a port in use is
//! reported before the data directory is touched. Those for members are bound only after a new
//! member has asked the others whether it may begin.

use std::net::TcpListener;

use super::Error;
use crate::{
    api::{
        Ports,
        listen::{self, Listener, SocketFile},
    },
    config::{Address, ServerConfig},
};

/// Binds the sockets for clients, of every kind. The files of Unix sockets are removed when they
/// are dropped.
///
/// # Errors
///
/// The first address that cannot be bound, with the cause; the sockets before it are closed.
pub(super) fn bind_clients(config: &ServerConfig) -> Result<(Ports, Vec<SocketFile>), Error> {
    let mut files = Vec::new();
    let listen = &config.listen;
    let mut all = |flag, addresses: &[Address]| bind_all(flag, addresses, &mut files);
    let ports = Ports {
        clients: all("listen-client-urls", &listen.clients)?,
        http: all("listen-client-http-urls", &listen.http)?,
        metrics: all("listen-metrics-urls", &listen.metrics)?,
        cors: config.cors.clone(),
        hosts: config.hosts.clone(),
        has_gateway: config.grpc_gateway,
    };
    Ok((ports, files))
}

/// Binds the sockets for other members.
///
/// # Errors
///
/// The first address that cannot be bound, with the cause.
pub(super) fn bind_peers(config: &ServerConfig) -> Result<Vec<TcpListener>, Error> {
    let peers = config.listen_peer.iter().map(|&address| {
        let fail = fail("listen-peer-urls", Address::Tcp(address));
        listen::bind_tcp(address).map_err(fail)
    });
    peers.collect()
}

fn bind_all(
    flag: &'static str,
    addresses: &[Address],
    files: &mut Vec<SocketFile>,
) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    for address in addresses {
        let (listener, file) = listen::bind(address).map_err(fail(flag, address.clone()))?;
        listeners.push(listener);
        files.extend(file);
    }
    Ok(listeners)
}

fn fail(flag: &'static str, address: Address) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Listen { address, flag, source }
}
