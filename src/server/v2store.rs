//! The store of the v2 API: a tree of files and directories, quite apart from the key space of v3
//! (etcd: `v2store`).
//!
//! ```text
//!   log ──▶ apply ──▶ state ──┬──▶ nodes, expiring     the tree as it is now
//!                             ├──▶ window              the last thousand changes
//!                             ├──▶ hub                 watchers that wait
//!                             └──▶ rows                in the backend, with the entry
//!   GET  ────────────▶ state                           a read of this member, as of now
//!   wait ────────────▶ window, else hub
//! ```
//!
//! Every member applies v2 requests, with and without `--enable-v2`: the flag only opens the API.
//! The index counts changes, those of the members and of the cluster's version included, because
//! etcd keeps these in the same tree, below `/0`; clients' keys are below `/1`. Here only the
//! index and the window know of the former.
//!
//! Invariants
//! * Only apply changes the state, under the lock of the write buffer; then it takes this lock,
//!   and none below it.
//! * The rows of a change are in the buffer before its answer leaves.
//!
//! Left out: users and roles of v2, which etcd keeps below `/2`.

mod error;
mod event;
mod hub;
mod path;
mod request;
mod rows;
mod state;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::mpsc::Receiver;

pub use self::rows::Damaged;
pub(crate) use self::{
    error::{Code, Refusal},
    event::{Action, Event, View},
    hub::Wish,
    path::Path,
    request::Applied,
    state::Answer,
    stats::{Kind, Stats},
};
use self::{state::State, stats::Reads};
use crate::{
    clock,
    pb::etcdserverpb::Request,
    set, stage,
    storage::backend::{Backend, WriteGuard},
    trace::Reason,
};

/// A panic while the lock was held has left half a change behind.
const POISONED: &str = "a panic below this lock ends the member";

/// The store of a member. See the module's text.
#[derive(Debug)]
pub(crate) struct V2Store {
    state: RwLock<State>,
    reads: Reads,
}

/// A watcher that waits. It is forgotten when it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    store: Arc<V2Store>,
    key: Path,
    number: u64,
    /// Its events. They end if it has not taken them for too long, and at the install of a
    /// received database.
    pub(crate) events: Receiver<Arc<Event>>,
}

/// What a watcher begins with.
#[derive(Debug)]
pub(crate) struct Watching {
    /// The store's index at that moment.
    pub(crate) index: u64,
    /// An event of the window. Its watcher gets nothing more, not even in a stream, as in etcd.
    pub(crate) found: Option<Arc<Event>>,
    /// What it waits with, without an event of the window.
    pub(crate) watcher: Option<Watcher>,
}

/// The member's clock, in nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(clock::wall().as_nanos()).unwrap_or(i64::MAX)
}

impl V2Store {
    /// The store of the backend's rows.
    pub(crate) fn open(backend: &Backend) -> Result<Self, Damaged> {
        Ok(Self { state: RwLock::new(State::read(backend, now())?), reads: Reads::default() })
    }

    /// Takes the rows of a received database instead. All watchers end, because some of their
    /// events may be lost.
    pub(crate) fn reload(&self, backend: &Backend) -> Result<(), Damaged> {
        let mut read = State::read(backend, now())?;
        let mut state = self.write();
        std::mem::swap(&mut *state, &mut read);
        drop(state);
        read.hub.clear();
        Ok(())
    }

    /// Apply: carries out a request of the log, and writes what it has changed.
    pub(crate) fn apply(
        &self,
        id: u64,
        request: &Request,
        backend: &mut WriteGuard<'_>,
    ) -> Applied {
        let Some(action) = Action::of(request) else { return Ok(None) };
        let mut state = self.write();
        let before = state.index;
        let mut span = stage!(V2Apply, id, action = action.number(), index_old = before);
        state.told = 0;
        let applied = state.apply(action, request, now());
        set!(span, V2Apply, index_new = state.index, watchers = state.told);
        match action {
            Action::Get => self.reads.count(applied.is_ok()),
            _ => {
                set!(span, V2Apply, nodes = state.touched.len());
                backend.set_request(id);
                state.flush(before, backend);
            }
        }
        if let Err(refusal) = &applied {
            set!(span, V2Apply, code = refusal.code as u16);
            span.fail(Reason::V2Refused);
        }
        applied
    }

    /// Apply: notes a change that etcd makes in the directory of the cluster.
    pub(crate) fn note_cluster(&self, kinds: &[Kind], backend: &mut WriteGuard<'_>) {
        let mut state = self.write();
        let before = state.index;
        for kind in kinds {
            state.note_cluster(*kind);
        }
        state.flush(before, backend);
    }

    /// A node of this member, as of now.
    pub(crate) fn get(&self, path: &Path, recursive: bool) -> Result<Answer, Refusal> {
        let got = self.read().get(path, recursive, now());
        self.reads.count(got.is_ok());
        got
    }

    /// Finds the event that a watcher asks for in the window, or adds it to those that wait.
    pub(crate) fn watch(self: &Arc<Self>, key: Path, wish: Wish) -> Result<Watching, Refusal> {
        let mut state = self.write();
        let index = state.index;
        let since = if wish.since == 0 { index + 1 } else { wish.since };
        let found = state.window.scan(&key, wish.recursive, since, index)?;
        if found.is_some() {
            return Ok(Watching { index, found, watcher: None });
        }
        let (number, events) = state.hub.add(&key, Wish { since, ..wish });
        let watcher = Some(Watcher { store: Arc::clone(self), key, number, events });
        Ok(Watching { index, found: None, watcher })
    }

    /// When the first node expires, in nanoseconds since 1970.
    pub(crate) fn first_expiry(&self) -> Option<i64> {
        self.read().expiring.first().map(|(expires, _)| *expires)
    }

    /// The counters.
    pub(crate) fn stats(&self) -> Stats {
        let state = self.read();
        let (writes, watchers) = (state.writes.clone(), state.hub.count);
        Stats { reads: self.reads.get(), writes, watchers }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect(POISONED)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect(POISONED)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.store.write().hub.remove(&self.key, self.number);
    }
}
