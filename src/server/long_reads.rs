//! Slow work, moved off the gRPC thread: reads of many keys, hashes of the whole key space, and
//! copies of the database file.
//!
//! ```text
//!   grpc thread:  range a ── linearize ──┐                  ┌── answer    get b, put c, watch d …
//!                                        └─ a permit ─┐     │
//!   blocking thread:                                  └─────┴ index, buffer, file
//! ```
//!
//! One thread serves all clients, so reading a million keys on it would delay every other request.
//! The number of reads in progress is bounded: each may hold one row more than there is room for
//! ([`super::answer`]), and running more of them than there are processors gains nothing. Later
//! reads queue for a permit, first in, first out, without occupying a thread, and fail after the
//! request timeout. Hashes have a permit of their own, so a consistency check of the whole cluster
//! delays no list. So have copies, which need as much room on the disk as the database: a snapshot
//! keeps its permit until the client has read it or is gone.
//!
//! Left out: short reads ([`is_long`](super::mvcc::read_txn::is_long) draws the line). Moving to
//! another thread and back costs more than reading a few keys.

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

use super::{Error, blocking, mvcc::Store, wait_step::WaitStep};
use crate::{
    stage,
    trace::value::{COPIES, HASHES, READS},
};

/// Upper limit on long reads in progress.
const READS_MAX: usize = 4;
/// Upper limit on hashes in progress. Each holds a set with one revision of every key.
const HASHES_MAX: usize = 1;
/// Upper limit on copies of the database file that are made or sent.
const COPIES_MAX: usize = 2;

/// Runs slow reads, hashes and copies, a limited number of each at a time.
pub(crate) struct LongReads {
    store: Arc<Store>,
    /// How long a read may wait for a permit.
    request_timeout: Duration,
    reads: Queue,
    hashes: Queue,
    copies: Queue,
}

/// The permits for one kind of work, and the calls that wait for one.
struct Queue {
    /// The kind, by its place in [`POOLS`](crate::trace::value::POOLS).
    pool: u64,
    max: usize,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Counts a waiting call. Dropping it ends the wait.
struct WaitingCall<'l>(&'l AtomicUsize);

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LongReads {
    /// Reads from this key space.
    pub(crate) fn new(store: Arc<Store>, request_timeout: Duration) -> Self {
        let reads = Queue::new(READS, READS_MAX);
        let hashes = Queue::new(HASHES, HASHES_MAX);
        let copies = Queue::new(COPIES, COPIES_MAX);
        Self { store, request_timeout, reads, hashes, copies }
    }

    /// Reads from the key space for request `id` on a blocking thread. A read that has begun runs
    /// to its end, even if its caller is gone. Fails if no permit is free within the request
    /// timeout.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        id: u64,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.read_within(id, self.request_timeout, read).await
    }

    /// As [`LongReads::read`], for a stream: it has no timeout, so it waits until a permit is free.
    pub(crate) async fn read_for_stream<T: Send + 'static>(
        &self,
        id: u64,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.read_within(id, Duration::MAX, read).await
    }

    /// As [`LongReads::read`], with another timeout.
    pub(super) async fn read_within<T: Send + 'static>(
        &self,
        id: u64,
        patience: Duration,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.store);
        self.reads.with_permit(id, patience, move || read(&store)).await
    }

    /// As [`LongReads::read`], for a hash of the whole key space. Hashes run one at a time.
    pub(super) async fn hash<T: Send + 'static>(
        &self,
        id: u64,
        hash: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.store);
        self.hashes.with_permit(id, self.request_timeout, move || hash(&store)).await
    }

    /// As [`LongReads::read`], for a copy of the database file. The permit comes with the result:
    /// it is to be kept for as long as the copy takes room on the disk.
    pub(super) async fn copy<T: Send + 'static>(
        &self,
        id: u64,
        copy: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), Error> {
        self.copies.keeping_permit(id, self.request_timeout, copy).await
    }
}

impl Queue {
    fn new(pool: u64, max: usize) -> Queue {
        Queue { pool, max, permits: Arc::new(Semaphore::new(max)), waiting: AtomicUsize::new(0) }
    }

    /// Runs `work` once a permit is free. Fails after `patience`, and while the runtime shuts down.
    async fn with_permit<T: Send + 'static>(
        &self,
        id: u64,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        // The permit ends with the work, and not earlier: a caller that gives up does not stop it.
        let end = |result, permit| {
            drop::<OwnedSemaphorePermit>(permit);
            result
        };
        self.run(id, patience, work, end).await
    }

    /// As [`Queue::with_permit`]; the permit comes with the result.
    async fn keeping_permit<T: Send + 'static>(
        &self,
        id: u64,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), Error> {
        self.run(id, patience, work, |result, permit| (result, permit)).await
    }

    async fn run<T: 'static, R: Send + 'static>(
        &self,
        id: u64,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
        end: impl FnOnce(T, OwnedSemaphorePermit) -> R + Send + 'static,
    ) -> Result<R, Error> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => self.wait(id, patience).await?,
            Err(TryAcquireError::Closed) => return Err(Error::Stopped),
        };
        let (limit, pool) = (self.max, self.pool);
        blocking::run(id, move |waited| {
            let span = stage!(ReadThread, id, waited = waited, limit = limit, pool = pool).begun();
            let result = work();
            drop(span);
            end(result, permit)
        })
        .await
    }

    async fn wait(&self, id: u64, patience: Duration) -> Result<OwnedSemaphorePermit, Error> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = WaitingCall(&self.waiting);
        let mut step = WaitStep::begin(stage!(
            ReadQueue,
            id,
            ahead = ahead,
            limit = self.max,
            pool = self.pool
        ));
        let permit = match timeout(patience, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| Error::Stopped),
            Err(_) => Err(Error::Timeout),
        };
        step.end(permit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// Goal: never more work in progress than permits, even after a client has gone away. Method:
    /// the first call hangs and its caller gives up; the second can begin only after the first has
    /// ended.
    #[tokio::test]
    async fn later_reads_queue_for_a_permit() {
        let (reads, hashes) = (Queue::new(READS, READS_MAX), Queue::new(HASHES, HASHES_MAX));
        let (release, hangs) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let first = hashes.with_permit(1, LONG, move || {
            begun.send(()).unwrap();
            let _ = hangs.recv();
        });
        tokio::select! {
            biased;
            begun = has_begun => begun.unwrap(),
            _ = first => panic!("it cannot end"),
        }
        assert_eq!(hashes.permits.available_permits(), 0);
        let second = hashes.with_permit(2, LONG, || 2);
        tokio::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("no permit was free"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(reads.with_permit(3, LONG, || 1).await, Ok(1));
        // The wait has a limit.
        let in_vain = hashes.with_permit(4, Duration::from_millis(20), || 3);
        assert_eq!(in_vain.await, Err(Error::Timeout));
        assert_eq!(hashes.waiting.load(Ordering::Relaxed), 1);
        drop(release);
        assert_eq!(second.await, Ok(2));
        assert_eq!(hashes.waiting.load(Ordering::Relaxed), 0);
    }
}
