//! A wire between members that can be cut: each member advertises a port of ours, and listens
//! behind it.
//!
//! A member that is cut off neither hears the others nor is heard: connections to it are closed,
//! and so are those that it has dialled, which name it in `X-Server-From`. Nothing that is written
//! to a cut wire arrives later.

use std::{collections::HashSet, io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// No head of a peer's request is longer.
const HEAD_MAX: usize = 16 << 10;

/// All wires of a cluster.
pub(crate) struct Wires {
    cut: watch::Sender<HashSet<u64>>,
    _tasks: JoinSet<()>,
}

impl Wires {
    /// Passes on what comes in at each first port to the second.
    pub(crate) async fn start(ports: &[(u16, u16)]) -> io::Result<Self> {
        let (cut, _) = watch::channel(HashSet::new());
        let mut tasks = JoinSet::new();
        for (advertised, real) in ports {
            let listener = TcpListener::bind(("127.0.0.1", *advertised)).await?;
            let to = SocketAddr::from(([127, 0, 0, 1], *real));
            tasks.spawn(accept(listener, to, cut.clone()));
        }
        Ok(Self { cut, _tasks: tasks })
    }

    /// Cuts off these members, by raft id and by the port behind their wire, and heals the others.
    pub(crate) fn cut_off(&self, members: &[(u64, u16)]) {
        // A port is smaller than any id, so both fit into one set.
        let all = members.iter().flat_map(|(id, port)| [*id, u64::from(*port)]);
        self.cut.send_replace(all.collect());
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, cut: watch::Sender<HashSet<u64>>) {
    let mut open = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        open.spawn(pass(stream, to, cut.subscribe()));
        while open.try_join_next().is_some() {}
    }
}

/// Passes a connection on until one side ends it, or the wire is cut.
async fn pass(mut from: TcpStream, to: SocketAddr, mut cut: watch::Receiver<HashSet<u64>>) {
    let Ok((head, dialler)) = head_of(&mut from).await else { return };
    let target = u64::from(to.port());
    let is_cut = |cut: &HashSet<u64>| cut.contains(&target) || cut.contains(&dialler);
    if is_cut(&cut.borrow()) {
        return;
    }
    let through = async {
        let mut there = TcpStream::connect(to).await?;
        there.set_nodelay(true)?;
        from.set_nodelay(true)?;
        there.write_all(&head).await?;
        tokio::io::copy_bidirectional(&mut from, &mut there).await
    };
    tokio::select! {
        _ = through => {}
        _ = cut.wait_for(is_cut) => {}
    }
}

/// The first request's head as it came, and who it says it is from; 0 for nobody.
async fn head_of(from: &mut TcpStream) -> io::Result<(Vec<u8>, u64)> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if HEAD_MAX < head.len() || from.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let id = text.lines().find_map(|line| line.strip_prefix("x-server-from: "));
    Ok((head, id.and_then(|id| u64::from_str_radix(id.trim(), 16).ok()).unwrap_or(0)))
}
