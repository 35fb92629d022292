//! How long a connection has waited to be taken: since the kernel completed its handshake.
//!
//! ```text
//!   client   SYN ── ACK ─ settings ·································· settings ── request
//!   kernel          └──────── the queue of connections ────────┐         ▲
//!   member                                                  accept ── settings
//!                   └───────────── connection.accept ──────────┘
//! ```
//!
//! The kernel completes a handshake without the member, so a client of a member that is stopped or
//! busy is connected and waits for its settings. Clients of Go and Java send no request before
//! they have these. So no byte of their request lies in the socket meanwhile, and only this age
//! says how long they have waited.
//!
//! The kernel notes when a socket last sent data, and begins with the time at which the socket was
//! made. Until the member has written anything, that is the age of the connection. It is counted
//! in the kernel's ticks of 1 to 10 ms, and therefore shorter ages say nothing.
//!
//! Left out: socket files, and systems other than Linux. Their ages stay unknown.

use std::{os::fd::AsFd, time::Duration};

/// Ages below this may be an error of the kernel's ticks.
const SHORTEST: Duration = Duration::from_millis(20);

/// The age of a connection to which nothing was written yet, if it is worth telling.
pub(super) fn age(socket: &impl AsFd) -> Option<Duration> {
    kernel::since_last_sent(socket).filter(|age| SHORTEST <= *age)
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::{os::fd::AsFd, time::Duration};

    use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};

    sockopt_impl!(
        /// What the kernel knows about a connection.
        TcpInfo,
        GetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_INFO,
        libc::tcp_info
    );

    pub(super) fn since_last_sent(socket: &impl AsFd) -> Option<Duration> {
        let info = getsockopt(socket, TcpInfo).ok()?;
        Some(Duration::from_millis(u64::from(info.tcpi_last_data_sent)))
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::{os::fd::AsFd, time::Duration};

    pub(super) fn since_last_sent(_: &impl AsFd) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;
    use crate::clock;

    /// Goal: the age is that of the connection, and not that of its last bytes. Method: a client
    /// that sends bytes while it waits.
    #[test]
    fn a_connection_has_waited_since_its_handshake_however_late_its_bytes_came() {
        const HALF: Duration = Duration::from_millis(60);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = clock::now();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        thread::sleep(HALF);
        client.write_all(b"more").unwrap();
        thread::sleep(HALF);
        let (server, _) = listener.accept().unwrap();
        let told = age(&server).expect("the kernel knows");
        // Of two readings, each may be off by a tick.
        assert!(2 * HALF <= told + SHORTEST, "{told:?}");
        assert!(told <= before.elapsed() + SHORTEST, "{told:?}");
    }

    #[test]
    fn a_connection_that_is_taken_at_once_and_one_over_a_file_have_no_age() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The machine may be slow once, but not always.
        let is_unknown = (0..100).any(|_| {
            let _client = TcpStream::connect(address).unwrap();
            age(&listener.accept().unwrap().0).is_none()
        });
        assert!(is_unknown);
        let dir = tempfile::tempdir().unwrap();
        let file = UnixListener::bind(dir.path().join("s")).unwrap();
        assert_eq!(None, age(&file));
    }
}
