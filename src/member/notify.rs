//! Messages to the service manager: `READY=1` when the member serves, `STOPPING=1` when it begins
//! to end.
//!
//! systemd starts a unit of `Type=notify` with the name of a datagram socket in `NOTIFY_SOCKET`. It
//! starts the units that depend on this one when `READY=1` arrives there. As in etcd, the member
//! sends it after it has published itself, so the first member of a new cluster is not ready before
//! the cluster has a quorum. etcd does not send `STOPPING=1`, from which systemd knows that the end
//! is intended.
//!
//! An unusable socket causes one warning and no failure: the variable may be inherited from a
//! shell. Each message is one datagram. If the manager's queue is full, the task waits for a
//! limited time, and does not block the grpc thread.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::net::{SocketAddr, UnixDatagram as StdUnixDatagram},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{net::UnixDatagram, time::timeout};

/// The variable that names the socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// How long a message waits for room in the manager's queue. `STOPPING=1` delays the end of the
/// member, `READY=1` delays nothing.
const READY_WITHIN: Duration = Duration::from_secs(10);
const STOPPING_WITHIN: Duration = Duration::from_millis(100);

/// The socket of the service manager, if there is one.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<OsString>,
    has_warned: AtomicBool,
}

impl Notifier {
    /// The manager that has started this process, by its environment.
    pub(super) fn from_environment() -> Self {
        Self::new(std::env::var_os(VARIABLE))
    }

    fn new(socket: Option<OsString>) -> Self {
        let socket = socket.filter(|name| !name.is_empty());
        Self { socket, has_warned: AtomicBool::new(false) }
    }

    /// Sends `READY=1`: the member serves.
    pub(super) async fn ready(&self) {
        self.send("READY=1", READY_WITHIN).await;
    }

    /// Sends `STOPPING=1`: the member has begun to end.
    pub(super) async fn stopping(&self) {
        self.send("STOPPING=1", STOPPING_WITHIN).await;
    }

    async fn send(&self, state: &str, within: Duration) {
        let Some(socket) = &self.socket else { return };
        let sent = async {
            let datagram = StdUnixDatagram::unbound()?;
            datagram.set_nonblocking(true)?;
            datagram.connect_addr(&address(socket)?)?;
            UnixDatagram::from_std(datagram)?.send(state.as_bytes()).await
        };
        let sent = timeout(within, sent).await;
        match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(_) => tracing::info!(state, "notified the service manager"),
            Err(error) if !self.has_warned.swap(true, Ordering::Relaxed) => {
                let socket = socket.display();
                tracing::warn!(%error, %socket, state, "could not notify the service manager");
            }
            Err(_) => (),
        }
    }
}

/// The socket's address: a path, or an abstract name after `@`.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => abstract_address(name),
        None => SocketAddr::from_pathname(socket),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(socket: &StdUnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut said = Vec::new();
        let mut buf = [0; 64];
        while let Ok(len) = socket.recv(&mut buf) {
            said.push(String::from_utf8(buf[..len].to_vec()).unwrap());
        }
        said
    }

    #[tokio::test]
    async fn the_manager_gets_both_messages_at_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = StdUnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.into()));
        notifier.ready().await;
        assert_eq!(said(&manager), ["READY=1"]);
        notifier.stopping().await;
        assert_eq!(said(&manager), ["STOPPING=1"]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_manager_gets_messages_at_an_abstract_name() {
        let name = format!("glass-notify-{}", std::process::id());
        let address = abstract_address(name.as_bytes()).unwrap();
        let manager = StdUnixDatagram::bind_addr(&address).unwrap();
        Notifier::new(Some(format!("@{name}").into())).ready().await;
        assert_eq!(said(&manager), ["READY=1"]);
    }

    /// Neither a missing socket nor a full queue delays the member for long.
    #[tokio::test]
    async fn without_a_manager_the_member_runs() {
        for socket in [None, Some(OsString::new())] {
            let notifier = Notifier::new(socket);
            notifier.ready().await;
            assert!(!notifier.has_warned.load(Ordering::Relaxed), "nothing to complain about");
        }
        let dir = tempfile::tempdir().unwrap();
        let notifier = Notifier::new(Some(dir.path().join("nobody").into()));
        notifier.ready().await;
        notifier.stopping().await;
        assert!(notifier.has_warned.load(Ordering::Relaxed));

        let path = dir.path().join("full");
        let _manager = StdUnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.into()));
        while !notifier.has_warned.load(Ordering::Relaxed) {
            notifier.stopping().await;
        }
    }
}
