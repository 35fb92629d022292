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
//! ([`super::answer`]), and more of them than there are processors are not faster. Who comes later waits for a turn, in order, without a
//! thread. Turns of hashes are their own, so that a check of the whole cluster delays no list.
//!
//! Left out: what is short ([`is_long`](super::mvcc::read_txn::is_long) says what that is). Going
//! to another thread and back costs more than to read a few keys.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Error, Server, mvcc::Store};

/// Long reads at the same time.
const READS_MAX: usize = 4;
/// Hashes of the key space at the same time; each has a set with a revision of every key.
const HASHES_MAX: usize = 1;

/// Whose turn it is.
pub(crate) struct Turns {
    reads: Arc<Semaphore>,
    hashes: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let [reads, hashes] = [READS_MAX, HASHES_MAX].map(|max| Arc::new(Semaphore::new(max)));
        Self { reads, hashes }
    }
}

impl Server {
    /// Reads from the key space, away from the thread that serves requests. Once it has begun it is
    /// done to the end, also if nobody waits for it any more.
    pub(crate) async fn read_aside<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.store);
        in_turn(&self.turns.reads, move || read(&store)).await
    }

    /// As [`Server::read_aside`], for what goes through all of the key space: one at a time.
    pub(crate) async fn hash_aside<T: Send + 'static>(
        &self,
        hash: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.store);
        in_turn(&self.turns.hashes, move || hash(&store)).await
    }
}

/// Fails while the runtime ends.
async fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let turn = Arc::clone(turns).acquire_owned().await.map_err(|_| Error::Stopped)?;
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        // Not earlier: who has gone away does not make a turn free that is still taken.
        drop(turn);
        result
    });
    done.await.map_err(|_| Error::Stopped)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Goal: there are never more at work than there are turns, not even after a client has gone
    /// away. Method: the first hangs and is given up; the second can begin only behind its end.
    #[tokio::test]
    async fn who_comes_later_waits_for_a_turn() {
        let turns = Turns::default();
        let (release, hangs) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let first = in_turn(&turns.hashes, move || {
            begun.send(()).unwrap();
            let _ = hangs.recv();
        });
        tokio::select! {
            biased;
            begun = has_begun => begun.unwrap(),
            _ = first => panic!("it cannot end"),
        }
        assert_eq!(turns.hashes.available_permits(), 0);
        let second = in_turn(&turns.hashes, || 2);
        tokio::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("there was no turn"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(in_turn(&turns.reads, || 1).await, Ok(1));
        drop(release);
        assert_eq!(second.await, Ok(2));
    }
}
