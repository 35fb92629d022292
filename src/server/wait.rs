//! The requests that wait for apply, by id.
//!
//! Apply sends one list of outcomes per batch, and raft the proposals that it refused. Two tasks on
//! the grpc side receive them ([`wake_applied`], [`wake_refused`]), find each request here by its
//! id, and wake it. If no request waits under an id, its client has given up, or another member
//! made the id: its outcome is dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

use super::{
    Error,
    outcome::{Outcome, Outcomes, Response},
};
use crate::{
    raft::{node::Refusal, proposals::Reason},
    trace,
};

type Waiter = oneshot::Sender<Answer>;

/// The outcome of a request that has waited.
#[derive(Debug)]
pub(super) struct Answer {
    /// What apply has computed, or why raft has refused.
    pub(super) result: Result<Response, Error>,
    /// The raw tick at which apply or raft handed it over, for the trace.
    pub(super) since: u64,
}

/// The waiting requests. Each id is registered at most once at a time.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    waiters: Mutex<HashMap<u64, Waiter>>,
}

/// A registered request. Dropping it ends the wait, and its outcome is dropped if it comes later.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    wait: &'a Wait,
    id: u64,
    /// Resolves to an error if the member stops first.
    pub(super) outcome: oneshot::Receiver<Answer>,
}

impl Wait {
    /// Registers a request. Must come before its proposal, or the outcome may be missed.
    pub(crate) fn register(&self, id: u64) -> Waiting<'_> {
        let (sender, outcome) = oneshot::channel();
        self.lock().insert(id, sender);
        Waiting { wait: self, id, outcome }
    }

    /// Wakes the requests that these outcomes belong to (etcd: `wait.Trigger`).
    fn finish(&self, Outcomes { list, since }: Outcomes) {
        let mut waiters = self.lock();
        for Outcome { id, result } in list {
            if let Some(waiter) = waiters.remove(&id) {
                // The request may be cancelled at this moment.
                let _ = waiter.send(Answer { result, since });
            }
        }
    }

    /// Whether a request waits under this id.
    pub(crate) fn is_waiting(&self, id: u64) -> bool {
        self.lock().contains_key(&id)
    }

    /// Number of waiting requests.
    pub(crate) fn pending(&self) -> usize {
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

/// Wakes the requests whose outcomes apply has sent, until apply has ended.
pub(crate) async fn wake_applied(wait: Arc<Wait>, mut outcomes: UnboundedReceiver<Outcomes>) {
    while let Some(outcomes) = outcomes.recv().await {
        wait.finish(outcomes);
    }
}

/// Wakes the requests whose proposals raft dropped or lost, until raft has ended.
pub(crate) async fn wake_refused(wait: Arc<Wait>, mut refused: UnboundedReceiver<Refusal>) {
    while let Some(Refusal { ids, reason }) = refused.recv().await {
        let error = match reason {
            Reason::Dropped => Error::ProposalDropped,
            Reason::LeaderChanged => Error::LeaderChanged,
        };
        let outcome = |id| Outcome { id, result: Err(error) };
        let list = ids.into_iter().map(outcome).collect();
        wait.finish(Outcomes { list, since: trace::handed_over() });
    }
}
