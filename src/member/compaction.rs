//! The thread that deletes what compactions have made unreadable, little by little.
//!
//! A compaction moves the oldest readable revision at once; `server/mvcc/compact.rs` says what is
//! left to do then. This thread does it, one bounded step after the other, with a pause in between
//! so that apply and readers get the locks.
//!
//! The thread writes into the backend, so a member that ends stops it before the backend. The rest
//! is done after the next start.

use std::{
    io,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use crate::trace;

/// How often to check for pending compaction work.
const POLL: Duration = Duration::from_millis(100);

/// The running thread. It ends with this handle, at the latest after the step that is under way.
#[derive(Debug)]
pub(super) struct Compaction {
    /// Nothing is ever sent: the thread ends when this is dropped.
    running: Sender<()>,
    thread: JoinHandle<()>,
}

impl Compaction {
    /// Starts the thread. `step` does one piece of work and returns whether there is more; between
    /// two pieces the thread waits for `pause`.
    ///
    /// # Errors
    ///
    /// When the thread cannot be spawned.
    pub(super) fn start(
        pause: Duration,
        mut step: impl FnMut() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (running, ends) = channel();
        let thread = Builder::new().name("compact".to_owned()).spawn(move || {
            trace::set_thread("background");
            loop {
                let wait = if step() { pause } else { POLL };
                if ends.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        })?;
        Ok(Self { running, thread })
    }

    /// Waits until the step that is under way is done and the thread has ended.
    pub(super) fn stop(self) {
        drop(self.running);
        if self.thread.join().is_err() {
            tracing::error!("the compaction thread has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_thread_ends_in_the_middle_of_a_pause_and_lets_go_of_the_store() {
        for has_more in [true, false] {
            let store = Arc::new(());
            let (stepped, steps) = channel();
            let held = Arc::clone(&store);
            let hour = Duration::from_secs(3600);
            let compaction = Compaction::start(hour, move || {
                let _ = (&held, stepped.send(()));
                has_more
            });
            steps.recv().unwrap();
            compaction.unwrap().stop();
            assert_eq!(Arc::strong_count(&store), 1);
        }
    }
}
