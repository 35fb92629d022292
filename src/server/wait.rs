//! The requests that wait for apply, by id.
//!
//! Apply sends one list of outcomes a batch; a task on the grpc side looks each id up here and
//! wakes its request. An id that nobody waits for belongs to another member, or to a client that
//! has given up: its outcome is dropped.

use std::{collections::HashMap, sync::Mutex};

use tokio::sync::oneshot;

use super::{
    Error,
    outcome::{Outcome, Response},
};

type Waiter = oneshot::Sender<Result<Response, Error>>;

/// The map from id to waiting request.
#[derive(Debug, Default)]
pub struct Wait {
    waiters: Mutex<HashMap<u64, Waiter>>,
}

/// A place in the map; dropping it gives the place up.
#[derive(Debug)]
pub struct Waiting<'a> {
    wait: &'a Wait,
    id: u64,
    /// Takes the outcome.
    pub(crate) outcome: oneshot::Receiver<Result<Response, Error>>,
}

impl Wait {
    /// Registers a request before it is proposed.
    pub fn register(&self, id: u64) -> Waiting<'_> {
        let (sender, outcome) = oneshot::channel();
        self.lock().insert(id, sender);
        Waiting { wait: self, id, outcome }
    }

    /// Wakes the requests whose outcomes have come (etcd: `wait.Trigger`).
    pub(crate) fn finish(&self, outcomes: Vec<Outcome>) {
        let mut waiters = self.lock();
        for Outcome { id, result } in outcomes {
            if let Some(waiter) = waiters.remove(&id) {
                // The request may have been cancelled in this very moment.
                let _ = waiter.send(result);
            }
        }
    }

    /// Whether a request waits under this id.
    pub fn is_waiting(&self, id: u64) -> bool {
        self.lock().contains_key(&id)
    }

    /// How many requests wait.
    pub fn pending(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waiter>> {
        self.waiters.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.wait.lock().remove(&self.id);
    }
}
