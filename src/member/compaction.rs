//! The thread that deletes what compactions have made unreadable, little by little.
//!
//! A compaction moves the oldest readable revision at once; `server/mvcc/compact.rs` says what is
//! left to do then. This thread does it, one bounded step after the other, with a pause in between
//! so that apply and readers get the locks.
//!
//! Without anything to do the thread is parked, and apply wakes it with the next compaction: a call
//! that waits for its rows to go ("physical") waits for the work only.
//!
//! The thread writes into the backend, so a member that ends stops it before the backend. The rest
//! is done after the next start.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle, Thread, park, park_timeout},
    time::Duration,
};

use crate::trace;

/// The running thread.
#[derive(Debug)]
pub(super) struct Compaction {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Compaction {
    /// Starts the thread. `step` does one piece of work and returns whether there is more; between
    /// two pieces the thread waits for `pause`, and without more to do until it is unparked.
    ///
    /// # Errors
    ///
    /// When the thread cannot be spawned.
    pub(super) fn start(
        pause: Duration,
        mut step: impl FnMut() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = Builder::new().name("compact".to_owned()).spawn(move || {
            trace::set_thread("background");
            while !ends.load(Ordering::Acquire) {
                match step() {
                    true => park_timeout(pause),
                    false => park(),
                }
            }
        })?;
        Ok(Self { is_over, thread })
    }

    /// The thread, for those who have work for it.
    pub(super) fn thread(&self) -> &Thread {
        self.thread.thread()
    }

    /// Waits until the step that is under way is done and the thread has ended.
    pub(super) fn stop(self) {
        self.is_over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the compaction thread has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

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

    #[test]
    fn the_thread_that_has_nothing_to_do_works_again_when_it_is_woken() {
        let (stepped, steps) = channel();
        let compaction = Compaction::start(Duration::from_secs(3600), move || {
            let _ = stepped.send(());
            false
        });
        let compaction = compaction.unwrap();
        for _ in 0..3 {
            steps.recv().unwrap();
            compaction.thread().unpark();
        }
        compaction.stop();
    }
}
