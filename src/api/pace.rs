//! How much of a client's input is looked at, in one turn and while its answers are not taken.
//!
//! All clients share one thread, and h2 reads for as long as there is something to read. A client
//! that sends faster than it is served would have thousands of streams opened before any of them
//! is looked at, and the others would wait for them. And h2 goes on reading while the answers to what
//! it has read pile up, because the client does not take them. So between the socket and h2:
//!
//! ```text
//!   socket ──▶ [ Paced ] ──▶ h2       a turn: at most TURN bytes, then the others have theirs
//!   socket ◀── [ Paced ] ◀── h2       writing waits: at most UNREAD bytes, then reading waits, too
//! ```
//!
//! * A turn is one poll of the connection's task. What was opened in it is accepted and has run as
//!   far as it can before the next one.
//! * Whatever the socket takes of the answers counts as taken: a slow line is no reason to wait.
//!   A client that is blocked until we have read everything, and reads nothing itself before that,
//!   must have more than [`UNREAD`] under way to notice; flow control does not let it get far either.
//! * Both cost nothing that could be measured: a load and a store for a read, a flag for a write.
//!
//! Left out: fairness between the calls of one connection. They are its client's own business.

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

/// Bytes of input in one turn of a connection; more by one read at most.
pub(super) const TURN: usize = 64 << 10;

/// Bytes of input after which a client must have taken something of what it was answered.
pub(super) const UNREAD: usize = 256 << 10;

/// What is left of a connection's turn. The connection's task and its socket share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<AtomicUsize>);

impl Pace {
    /// The socket, read at this pace.
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

/// A socket that is read at a pace.
#[derive(Debug)]
pub(super) struct Paced<S> {
    inner: S,
    pace: Pace,
    /// The socket took nothing when it was last given something.
    is_stuck: bool,
    /// What was read since then.
    unread: usize,
    /// Reading waits for the socket to take something.
    has_waited: bool,
}

impl<S> Paced<S> {
    /// Notes what became of an attempt to write.
    fn note(&mut self, context: &Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        self.is_stuck = written.is_pending();
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

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.note(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
