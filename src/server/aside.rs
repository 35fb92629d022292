//! What takes long and is not waited for by anybody else: reads of many keys, and hashes of all.
//!
//! ```text
//!   grpc thread:  range a ── linearize ──┐             ┌── answer       get b, put c, watch d …
//!                                        └─ a turn ─┐  │
//!   a thread that may block:                        └──┴ index, buffer, file
//! ```
//!
//! One thread serves all clients, so a list of a million keys on it would be a pause for everybody.
//! How many run at the same time is bounded: each holds a row more than it has room for
//! ([`super::answer`]), and more of them than there are processors are not faster. Who comes later
//! waits for a turn, in order, without a thread, and no longer than a request may. Turns of hashes
//! are their own, so that a check of the whole cluster delays no list.
//!
//! Left out: what is short ([`is_long`](super::mvcc::read_txn::is_long) says what that is). Going
//! to another thread and back costs more than to read a few keys.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::timeout,
};

use super::{Error, Server, mvcc::Store};
use crate::{stage, trace};

/// Long reads at the same time.
const READS_MAX: usize = 4;
/// Hashes of the key space at the same time; each has a set with a revision of every key.
const HASHES_MAX: usize = 1;

/// Whose turn it is.
pub(crate) struct Turns {
    reads: Line,
    hashes: Line,
}

impl Default for Turns {
    fn default() -> Self {
        Self { reads: Line::new(READS_MAX), hashes: Line::new(HASHES_MAX) }
    }
}

/// The work of one kind, and the calls that wait for a turn.
struct Line {
    max: usize,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// One that waits. Dropping it leaves the line.
struct Place<'l>(&'l AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Reads from the key space for request `id`, away from the thread that serves requests. Once it
    /// has begun it is done to the end, also if nobody waits for it any more. Fails if its turn does
    /// not come for as long as a request may wait.
    pub(crate) async fn read_aside<T: Send + 'static>(
        &self,
        id: u64,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (store, patience) = (Arc::clone(&self.store), self.settings.request_timeout);
        self.turns.reads.in_turn(id, patience, move || read(&store)).await
    }

    /// As [`Server::read_aside`], for a stream, which has no time-out: its turn comes.
    pub(crate) async fn read_aside_for_stream<T: Send + 'static>(
        &self,
        id: u64,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.store);
        self.turns.reads.in_turn(id, Duration::MAX, move || read(&store)).await
    }

    /// As [`Server::read_aside`], for what goes through all of the key space: one at a time.
    pub(crate) async fn hash_aside<T: Send + 'static>(
        &self,
        id: u64,
        hash: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (store, patience) = (Arc::clone(&self.store), self.settings.request_timeout);
        self.turns.hashes.in_turn(id, patience, move || hash(&store)).await
    }
}

impl Line {
    fn new(max: usize) -> Line {
        Line { max, turns: Arc::new(Semaphore::new(max)), waiting: AtomicUsize::new(0) }
    }

    /// Fails after `patience`, and while the runtime ends.
    async fn in_turn<T: Send + 'static>(
        &self,
        id: u64,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(turn) => turn,
            Err(TryAcquireError::NoPermits) => self.wait(id, patience).await?,
            Err(TryAcquireError::Closed) => return Err(Error::Stopped),
        };
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            // Not earlier: who has gone away does not make a turn free that is still taken.
            drop(turn);
            result
        });
        done.await.map_err(|_| Error::Stopped)
    }

    async fn wait(&self, id: u64, patience: Duration) -> Result<OwnedSemaphorePermit, Error> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        let mut span = stage!(ReadTurn, id, ahead = ahead, limit = self.max).begun();
        let turn = match timeout(patience, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(turn) => turn.map_err(|_| Error::Stopped),
            Err(_) => Err(Error::Timeout),
        };
        if turn.is_err() {
            span.flag(trace::FLAG_ERROR);
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// Goal: there are never more at work than there are turns, not even after a client has gone
    /// away. Method: the first hangs and is given up; the second can begin only behind its end.
    #[tokio::test]
    async fn who_comes_later_waits_for_a_turn() {
        let turns = Turns::default();
        let (release, hangs) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let first = turns.hashes.in_turn(1, LONG, move || {
            begun.send(()).unwrap();
            let _ = hangs.recv();
        });
        tokio::select! {
            biased;
            begun = has_begun => begun.unwrap(),
            _ = first => panic!("it cannot end"),
        }
        assert_eq!(turns.hashes.turns.available_permits(), 0);
        let second = turns.hashes.in_turn(2, LONG, || 2);
        tokio::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("there was no turn"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(turns.reads.in_turn(3, LONG, || 1).await, Ok(1));
        // It does not wait for ever.
        let in_vain = turns.hashes.in_turn(4, Duration::from_millis(20), || 3);
        assert_eq!(in_vain.await, Err(Error::Timeout));
        assert_eq!(turns.hashes.waiting.load(Ordering::Relaxed), 1);
        drop(release);
        assert_eq!(second.await, Ok(2));
        assert_eq!(turns.hashes.waiting.load(Ordering::Relaxed), 0);
    }
}
