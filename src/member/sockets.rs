//! The listening sockets of a member. They are bound first, so that a port in use is reported before
//! the data directory is touched.

use std::net::TcpListener;

use super::Error;
use crate::{
    api::{
        Ports,
        listen::{self, Listener, SocketFile},
    },
    config::{Address, ServerConfig},
};

/// All listening sockets of a member.
pub(super) struct Sockets {
    /// For clients, of every kind.
    pub(super) clients: Ports,
    /// For other members.
    pub(super) peers: Vec<TcpListener>,
    /// The socket files, which are removed when this is dropped.
    pub(super) files: Vec<SocketFile>,
}

/// Binds them all.
///
/// # Errors
///
/// The first address that cannot be bound, with the cause; the sockets before it are closed.
pub(super) fn bind(config: &ServerConfig) -> Result<Sockets, Error> {
    let mut files = Vec::new();
    let peers = config.listen_peer.iter().map(|&address| {
        let fail = fail("listen-peer-urls", Address::Tcp(address));
        listen::bind_tcp(address).map_err(fail)
    });
    let peers = peers.collect::<Result<_, _>>()?;
    let listen = &config.listen;
    let mut all = |flag, addresses: &[Address]| bind_all(flag, addresses, &mut files);
    let clients = Ports {
        clients: all("listen-client-urls", &listen.clients)?,
        http: all("listen-client-http-urls", &listen.http)?,
        metrics: all("listen-metrics-urls", &listen.metrics)?,
        cors: config.cors.clone(),
    };
    Ok(Sockets { clients, peers, files })
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
