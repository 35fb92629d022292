//! Listening sockets, for clients and for other members.
//!
//! ```text
//!   config::Address ──bind──▶ Listener ──▶ Acceptor ──accept──▶ Stream ──▶ hyper
//!                        └──▶ SocketFile: removed when the member ends
//! ```
//!
//! **The queue of connections.** After the handshake, a connection waits in the kernel until the
//! member accepts it. The call to `listen` sets the length of that queue. The standard library
//! requests 128; beyond it the kernel drops the next connection, and its client retries after a
//! second. [`BACKLOG`] requests the most that the system allows, as Go does.
//!
//! **Socket files.** A killed member leaves its file behind, and an existing path cannot be bound.
//! So [`bind`] removes a socket that no process listens on. etcd removes any file: one that is not
//! a socket, and also the socket of a running member, which then gets no clients and at its end
//! removes the file of its successor. Here both cases are errors, and a member removes only the
//! file that it made.

use std::{
    fs,
    io::{self, IoSlice},
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixListener as StdUnixListener,
    },
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use super::edge;
use crate::{config::Address, trace::ends::Ends};

/// How many connections may wait to be accepted. The kernel uses the smaller of this number and
/// `net.core.somaxconn` (4096 by default), so the operator's setting decides. It is not larger
/// because old kernels keep it in 16 bits.
const BACKLOG: i32 = 65_535;

/// A listening socket. Connections wait on it until an [`Acceptor`] takes them.
#[derive(Debug)]
pub enum Listener {
    /// Listens on a TCP port.
    Tcp(StdTcpListener),
    /// Listens on a socket file.
    Unix(StdUnixListener),
}

/// The file of a listening socket; its drop removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, which differ for another file at the same path.
    file: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.file) {
            // If this fails, the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Listens at an address.
///
/// # Errors
///
/// The system's error, for example that the address is in use.
pub fn bind(address: &Address) -> io::Result<(Listener, Option<SocketFile>)> {
    let path = match address {
        Address::Tcp(address) => return Ok((Listener::Tcp(bind_tcp(*address)?), None)),
        Address::Unix(path) => path,
    };
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.clone(), file: identity(&fs::symlink_metadata(path)?) };
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((Listener::Unix(socket.into()), Some(file)))
}

/// Listens on a port, for clients or for members.
///
/// # Errors
///
/// As [`bind`].
pub fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Otherwise connections that have just ended would hold the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Removes a socket that no process listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        let text = "there is a file already, and it is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A blocking connect would wait while the queue is full.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A process listens, and `bind` fails with the right error.
        _ => Ok(()),
    }
}

/// A listener registered with the runtime.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// Must be called inside a runtime.
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => {
                edge::note_arrivals(&listener);
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            Listener::Unix(listener) => UnixListener::from_std(listener).map(Self::Unix),
        }
    }

    /// Waits for the next connection. Fails as `accept` does, for example without descriptors.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Otherwise small answers would wait for the acknowledgement of earlier ones.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// A client's connection, over TCP or a Unix socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Begins to serve the connection; see [`edge::begin`].
    pub(super) fn begin(&self, placed_ns: u64) {
        if let Self::Tcp(stream) = self {
            edge::begin(stream, placed_ns);
        }
    }

    /// Both ends of a connection over TCP; `None` if it has been reset meanwhile.
    pub(super) fn ends(&self) -> Option<Ends> {
        match self {
            Self::Tcp(stream) => {
                Some(Ends::new(stream.peer_addr().ok()?, stream.local_addr().ok()?))
            }
            Self::Unix(_) => None,
        }
    }
}

/// Calls the same method of either kind of connection.
macro_rules! either {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Stream::Tcp(stream) = &*self
            && edge::wants_age()
            && stream.poll_read_ready(context).is_ready()
        {
            edge::with(|edge| edge.set_age(edge::age(stream)));
        }
        either!(self, poll_read(context, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpStream as StdTcpStream, os::unix::net::UnixStream as StdUnixStream, time::Duration,
    };

    use super::*;

    /// More than the 128 that the standard library would allow.
    const MANY: usize = 300;

    fn allowed() -> usize {
        let limit = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
        limit.trim().parse().unwrap_or(128)
    }

    fn unix(path: &Path) -> io::Result<(Listener, Option<SocketFile>)> {
        bind(&Address::Unix(path.to_owned()))
    }

    /// Nothing accepts, so every connection needs a place in the queue. The client of a connection
    /// without one retries after a second, which is longer than this test waits.
    #[test]
    fn as_many_connections_wait_as_the_system_allows() {
        let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || StdTcpStream::connect_timeout(&address, Duration::from_millis(900));
        let waiting: Vec<_> = (0..MANY.min(allowed())).map(|_| connect().unwrap()).collect();
        assert!(128 < waiting.len() || allowed() <= 128);
    }

    #[test]
    fn a_socket_file_is_there_as_long_as_the_member() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("localhost:1");
        let (listener, file) = unix(&path).unwrap();
        StdUnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_of_a_killed_member_is_removed_and_no_other_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (listener, file) = unix(&path).unwrap();
        let error = unix(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "a process listens");
        drop(listener);
        std::mem::forget(file);
        let (_listener, file) = unix(&path).unwrap();

        // The path belongs to another listener now.
        fs::remove_file(&path).unwrap();
        let (_other, other_file) = unix(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop(other_file);

        fs::write(&path, "precious").unwrap();
        assert_eq!(unix(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn bytes_go_both_ways_on_either_kind() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (listener, _file) = unix(&path).unwrap();
        let acceptor = Acceptor::new(listener).unwrap();
        let mut client = UnixStream::connect(&path).await.unwrap();
        let mut server = acceptor.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut four = [0; 4];
        server.read_exact(&mut four).await.unwrap();
        server.write_all(&four).await.unwrap();
        server.shutdown().await.unwrap();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"ping");
        assert!(server.is_write_vectored());
    }
}
