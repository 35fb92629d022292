//! Limits how much of a client's input is read, per turn and while its answers are unread.
//!
//! All clients share one thread, and h2 reads as long as there is input. A client that sends faster
//! than it is served would open thousands of streams before any of them is served, and the other
//! clients would wait for them. And h2 continues to read while the answers pile up because the
//! client does not read them. So this module is between the socket and h2:
//!
//! ```text
//!   socket ──▶ [ Paced ] ──▶ h2       a turn: at most TURN bytes, then the others have theirs
//!   socket ◀── [ Paced ] ◀── h2       writing waits: at most UNREAD bytes, then reading waits, too
//! ```
//!
//! * A turn is one poll of the connection's task. Streams opened in it are accepted and have run as
//!   far as they can before the next turn.
//! * An answer counts as taken once the socket has accepted it: a slow network is no reason to
//!   wait. This can stop only a client that has more than [`UNREAD`] in flight and reads nothing
//!   until we have read all of it; HTTP/2's flow control stops such a client anyway.
//! * Both cost nothing measurable: a load and a store per read, a flag per write.
//!
//! Left out: fairness between the calls of one connection. They belong to one client.

use std::{
    future::Future,
    io::{IoSlice, Result},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{edge, through::ends_with_inner};

/// Bytes of input in one turn of a connection; it may be exceeded by one read.
pub(super) const TURN: usize = 64 << 10;

/// Bytes of input after which a client must have taken some of its answers.
pub(super) const UNREAD: usize = 256 << 10;

/// The rest of a connection's turn, in bytes. The connection's task and its socket share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<AtomicUsize>);

impl Pace {
    /// Wraps the socket of the connection that this limits.
    pub(super) fn socket<S>(&self, inner: S) -> Paced<S> {
        Paced { inner, pace: self.clone(), is_stuck: false, unread: 0, has_waited: false }
    }

    /// Drives the connection over [`Pace::socket`], turn by turn.
    pub(super) async fn drive<F: Future>(&self, connection: F) -> F::Output {
        let mut connection = pin!(connection);
        std::future::poll_fn(|context| {
            self.0.store(TURN, Ordering::Relaxed);
            let polled = connection.as_mut().poll(context);
            if polled.is_pending() && self.left() == 0 {
                context.waker().wake_by_ref();
            }
            polled
        })
        .await
    }

    fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A socket whose reads are limited.
#[derive(Debug)]
pub(super) struct Paced<S> {
    inner: S,
    pace: Pace,
    /// Whether the socket accepted nothing at the last write.
    is_stuck: bool,
    /// Bytes read since then.
    unread: usize,
    /// Whether a read waits for the socket to accept something.
    has_waited: bool,
}

impl<S> Paced<S> {
    /// Records the result of a write.
    fn note(&mut self, context: &Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if self.is_stuck != written.is_pending() {
            self.is_stuck = !self.is_stuck;
            edge::with(|edge| edge.set_stuck(self.is_stuck));
        }
        if !self.is_stuck {
            self.unread = 0;
            if std::mem::take(&mut self.has_waited) {
                context.waker().wake_by_ref();
            }
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let left = self.pace.left();
        if left == 0 {
            // The next turn comes by itself.
            return Poll::Pending;
        }
        if self.is_stuck && UNREAD <= self.unread {
            self.has_waited = true;
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buf))?;
        let len = buf.filled().len() - before;
        self.pace.0.store(left.saturating_sub(len), Ordering::Relaxed);
        if self.is_stuck {
            self.unread += len;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.note(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.note(context, written)
    }

    ends_with_inner!();
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::timeout,
    };

    use super::*;

    /// Capacity of the pipes in these tests, in bytes.
    const PIPE: usize = 1 << 20;
    const PIECE: usize = 8 << 10;
    const SHORT: std::time::Duration = std::time::Duration::from_millis(100);

    #[tokio::test]
    async fn a_turn_has_a_bound_and_the_next_comes_by_itself() {
        let (mut client, server) = duplex(PIPE);
        client.write_all(&[0; 10 * TURN]).await.unwrap();
        let pace = Pace::default();
        let mut socket = pace.socket(server);
        let (mut turns, mut total) = (0, 0);
        // As h2 does: reads as long as there is input.
        let greedy = poll_fn(|context| {
            turns += 1;
            let before = total;
            while total < 10 * TURN {
                let mut piece = [0; PIECE];
                let mut buf = ReadBuf::new(&mut piece);
                ready!(Pin::new(&mut socket).poll_read(context, &mut buf)).unwrap();
                total += buf.filled().len();
                assert!(total - before < TURN + PIECE);
            }
            Poll::Ready(())
        });
        timeout(20 * SHORT, pace.drive(greedy)).await.expect("each turn wakes the next");
        assert_eq!(turns, 10);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_not_read_on_until_it_does() {
        let (mut client, server) = duplex(PIPE);
        client.write_all(&[0; PIPE]).await.unwrap();
        let pace = Pace::default();
        let mut socket = pace.socket(server);
        let served = pace.drive(async {
            let mut piece = vec![0; PIECE];
            // Until the pipe is full, reads are not limited.
            socket.read_exact(&mut piece).await.unwrap();
            while let Ok(written) = timeout(SHORT, socket.write(&[1; PIECE])).await {
                written.unwrap();
            }
            let mut read = 0;
            while let Ok(more) = timeout(SHORT, socket.read(&mut piece)).await {
                read += more.unwrap();
            }
            assert_eq!(read, UNREAD);
            client.read_exact(&mut piece).await.unwrap();
            assert!(timeout(SHORT, socket.read(&mut piece)).await.is_err(), "nothing was written");
            socket.write_all(&[1]).await.unwrap();
            let mut rest = vec![0; PIPE - PIECE - UNREAD];
            timeout(20 * SHORT, socket.read_exact(&mut rest))
                .await
                .expect("it is read on")
                .unwrap();
        });
        served.await;
    }

    #[tokio::test]
    async fn a_waiting_read_is_woken_by_a_write() {
        let (mut client, server) = duplex(PIPE);
        client.write_all(&[0; PIPE]).await.unwrap();
        let pace = Pace::default();
        let mut socket = pace.socket(server);
        let mut turns = 0;
        // As h2 does: one task that reads what it can, then writes what it can.
        let served = pace.drive(poll_fn(|context| {
            turns += 1;
            loop {
                let mut piece = [0; PIECE];
                let mut buf = ReadBuf::new(&mut piece);
                let Poll::Ready(read) = Pin::new(&mut socket).poll_read(context, &mut buf) else {
                    break;
                };
                read.unwrap();
                if buf.filled().is_empty() {
                    return Poll::Ready(());
                }
            }
            while Pin::new(&mut socket).poll_write(context, &[1; PIECE]).is_ready() {}
            Poll::Pending
        }));
        let client = async {
            tokio::time::sleep(SHORT).await;
            let (mut answers, mut requests) = tokio::io::split(client);
            let write = async {
                requests.write_all(&[0; PIPE]).await.unwrap();
                requests.shutdown().await.unwrap();
            };
            let mut sink = tokio::io::sink();
            let (copied, ()) = tokio::join!(tokio::io::copy(&mut answers, &mut sink), write);
            copied.unwrap();
        };
        let both = async {
            tokio::select! {
                () = served => {}
                () = client => panic!("the server hangs up"),
            }
        };
        timeout(100 * SHORT, both).await.expect("reading goes on as answers are taken");
    }
}
