//! Limits the number of connected clients: a gate that all client listeners share.
//!
//! ```text
//!   kernel's queue ──accept──▶ admit ──▶ a connection, which holds its place until it ends
//!                               │ no place: the listener waits here, with one client in hand
//!                               └────────── and the others wait in the kernel's queue
//! ```
//!
//! Each connection takes a file descriptor, and so does each file of the log and each stream of a
//! peer. A member whose clients held all descriptors could not work, so clients may use only those
//! beyond a reserve (`member::descriptors` computes it), and further clients wait: a connection
//! that was accepted and closed would only come back at once (etcd: `transport.LimitListener`).
//!
//! **Invariants.** A listener accepts a client first and then takes a place for it, so a listener
//! without clients holds none of the shared places. The log has one line when a client starts to
//! wait for a place, and one when a sixteenth of the places is free again. Clients that merely
//! replace each other, singly or many at once, cause no line.

use std::{
    io::{Error, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The pause after an accept that failed because of this machine's state.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a client may wait before the log mentions it.
const PATIENCE: Duration = Duration::from_millis(100);

/// The places for clients. Clones share them.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Places>);

#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    max: usize,
    /// Whether the last log line reported that no place is free.
    is_full: AtomicBool,
}

/// A client's place. Its drop frees the place.
#[derive(Debug)]
pub struct Admitted {
    /// `None` only during the drop.
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Gate {
    /// A gate with `max` places.
    pub fn new(max: usize) -> Gate {
        let max = max.min(Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(max));
        Gate(Arc::new(Places { free, max, is_full: AtomicBool::new(false) }))
    }

    /// Waits for a place for one more client.
    pub async fn admit(&self) -> Admitted {
        let places = &self.0;
        let mut free = Box::pin(Arc::clone(&places.free).acquire_owned());
        let permit = match timeout(PATIENCE, &mut free).await {
            Ok(permit) => permit,
            Err(_) => {
                places.note_full();
                free.await
            }
        };
        let permit = permit.expect("a gate is never closed");
        Admitted { permit: Some(permit), places: Arc::clone(places) }
    }
}

impl Places {
    fn note_full(&self) {
        if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                connections = self.max,
                max = self.max,
                "all file descriptors for clients are in use; further clients wait until others \
                 disconnect (raise ulimit -n)"
            );
        }
    }

    fn note_freed(&self) {
        let free = self.free.available_permits();
        if self.max.div_ceil(16) <= free && self.is_full.swap(false, Ordering::Relaxed) {
            tracing::info!(
                connections = self.max - free,
                max = self.max,
                "clients are accepted again"
            );
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        drop(self.permit.take());
        if self.places.is_full.load(Ordering::Relaxed) {
            self.places.note_freed();
        }
    }
}

/// Logs failing accepts: one line when they begin, and one when they are over.
#[derive(Debug, Default)]
pub struct Failures(AtomicU64);

impl Failures {
    /// Call this after a failed accept. Returns when the next one is worth a try.
    pub async fn note(&self, error: &Error) {
        // The client disconnected between its connect and our accept.
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
            return;
        }
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(%error, "clients cannot be accepted; trying again");
        }
        tokio::time::sleep(PAUSE).await;
    }

    /// Call this after a successful accept.
    pub fn over(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            let attempts = self.0.swap(0, Ordering::Relaxed);
            tracing::info!(attempts, "clients can be accepted again");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::trace::log_lines::LogLines;

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(work)
    }

    async fn told(told: &LogLines) {
        while told.lines().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn a_client_without_a_place_waits_and_the_log_has_one_line_each_way() {
        let log = LogLines::default();
        log.while_in(|| {
            run(async {
                let gate = Gate::new(32);
                let mut inside = Vec::new();
                for _ in 0..32 {
                    inside.push(gate.admit().await);
                }
                // Two listeners, each with an accepted client.
                let (mut first, mut second) = (Box::pin(gate.admit()), Box::pin(gate.admit()));
                // One client leaves, another takes its place, repeatedly.
                for _ in 0..20 {
                    assert!(first.as_mut().now_or_never().is_none());
                    assert!(second.as_mut().now_or_never().is_none());
                    drop(inside.pop());
                    inside.push(first.as_mut().now_or_never().expect("it was freed"));
                    first = second;
                    second = Box::pin(gate.admit());
                }
                assert!(log.lines().is_empty());
                tokio::select! {
                    _ = &mut first => unreachable!("there is no place"),
                    _ = &mut second => unreachable!("there is no place"),
                    () = told(&log) => {}
                }
                drop((first, second));
                inside.truncate(31);
                assert_eq!(log.lines().len(), 1, "one place is no news");
                inside.truncate(30);
                assert_eq!(log.lines().len(), 2, "{:?}", log.lines());
                inside.clear();
                assert_eq!(gate.0.free.available_permits(), 32);
            });
        });
        let lines = log.lines();
        assert!(lines[0].contains("connections=32 max=32"), "{}", lines[0]);
        assert!(lines[1].contains("accepted again connections=30 max=32"), "{}", lines[1]);
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn failing_accepts_are_logged_once_and_a_client_that_has_gone_is_no_failure() {
        let (told, failures) = (LogLines::default(), Failures::default());
        told.while_in(|| {
            run(async {
                failures.note(&ErrorKind::ConnectionAborted.into()).await;
                failures.over();
                for _ in 0..5 {
                    failures.note(&nix::errno::Errno::EMFILE.into()).await;
                }
                failures.over();
                failures.over();
            });
        });
        let lines = told.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("Too many open files"), "{}", lines[0]);
        assert!(lines[1].contains("attempts=5"), "{}", lines[1]);
    }
}
