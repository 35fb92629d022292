//! Watchers: whoever wants to hear of changes (etcd: `watchableStore`).
//!
//! Every watcher is in one of three groups:
//!
//! ```text
//!                     caught up                       apply, as it writes
//!     ┌──────────┐ ─────────────▶ ┌────────┐ ◀──────────────────────────────
//!     │ unsynced │                │ synced │ ─────▶ queue of the stream ([`queue`]) ─▶ client
//!     └──────────┘ ◀──┐       ┌─▶ └────────┘                  ▲
//!       ▲  │          │       │        │ queue full           │ room again
//!       │  │ queue    │ behind│ not    ▼                      │
//!       │  │ full   ┌──────────────────────┐                  │
//!     start└──────▶ │        victim        │ ─ what it waits with
//!     in the past   └──────────────────────┘
//! ```
//!
//! A **synced** watcher gets its events from apply, which finds it by key ([`lookup`]) and never
//! waits: if the queue of its stream is full, the watcher becomes a **victim**. Its events are kept
//! if they are few and small, and are tried again every 10 ms; what is written meanwhile it reads
//! from the backend later, as an **unsynced** watcher, like one that asked for a revision of the past.
//! So a slow reader holds up neither writes nor other streams, and costs what its queue holds and not
//! all that it has missed.
//!
//! Invariants
//! * A watcher's notices go into its queue in the order of revisions, each revision once, and all
//!   events of one revision in one notice.
//! * A watcher becomes synced only under the index lock, at which apply would have to wait: it has
//!   everything up to the revision of that moment, and apply brings the next.
//! * What was compacted before a watcher could read it is said, never left out (etcd #17529).
//! * Progress is told only to those who have everything (etcd #15220, #20221), through the same
//!   queue, so behind everything.
//!
//! Locks: the index, then the write buffers, and the watchers last, when the lessor's is free again.
//! Nothing waits under the last.
//!
//! Left out: the events' previous values, which are read by those who send them ([`previous`]).

mod interval;
mod lookup;
mod notice;
pub mod previous;
pub mod queue;
mod sync;
mod watcher;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;

use self::{
    lookup::{Keys, Lookup},
    queue::{Notices, Queue},
    watcher::{Group, Watcher},
};
use super::{POISONED, Store};
use crate::{pb::mvccpb::Event, trace};

pub use self::{
    notice::{Events, News, Notice, Path, revision as revision_of},
    watcher::Filters,
};

/// How many notices wait in a stream's queue (etcd: chanBufLen).
pub const QUEUE_LEN: usize = 128;

/// Stands in responses for no watcher, or for all of a stream (etcd: InvalidWatchID). As in etcd a
/// client may still choose it for a watcher of its own, like any other number but 0.
pub const NO_WATCH_ID: i64 = -1;

/// Why a watcher was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// etcd: ErrWatcherDuplicateID.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
    /// etcd: ErrEmptyWatcherRange.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// A revision below zero (etcd: ErrCompacted, since 3.5.9).
    #[error("etcdserver: mvcc: required revision has been compacted")]
    NegativeStart,
}

/// What a watcher asks for.
#[derive(Clone, Debug, Default)]
pub struct WatchRequest {
    /// The request that creates it.
    pub id: u64,
    /// The id that the client has chosen; 0 to be given one.
    pub watch_id: i64,
    /// The first key.
    pub key: Bytes,
    /// As in a range request.
    pub range_end: Bytes,
    /// From which revision on; 0 from the next one.
    pub start_revision: i64,
    /// What it does not want.
    pub filters: Filters,
}

/// All watchers of a member.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    state: Mutex<State>,
    /// How many there are in the synced group. Grows only under the index lock, so that apply,
    /// which has it, may look here before it goes to any trouble.
    synced: AtomicUsize,
    /// What all queues hold, in bytes.
    queued: Arc<AtomicUsize>,
    /// Tells the sync thread that there is something to do.
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    watchers: HashMap<u64, Watcher>,
    /// The synced ones.
    lookup: Lookup,
    /// The unsynced ones, those first that are the furthest behind.
    unsynced: BTreeSet<(i64, u64)>,
    victims: BTreeSet<u64>,
    /// How many watchers there ever were; the number of the newest.
    made: u64,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(POISONED)
    }

    /// Whether anybody would be notified of a write. To be asked under the index lock.
    pub(super) fn is_watched(&self) -> bool {
        self.synced.load(Ordering::Acquire) > 0
    }

    /// Hands the events of one revision, written by request `id`, to the synced watchers that want
    /// them. Under the index lock; waits for nobody.
    pub(super) fn notify(&self, id: u64, revision: i64, events: &[Event]) {
        let mut span = crate::stage!(WatchNotify, id, revision = revision, events = events.len());
        let mut state = self.lock();
        let keys = events.iter().filter_map(|event| Some(event.kv.as_ref()?.key.as_ref()));
        let pairs = state.lookup.pairs(keys);
        let (mut synced, mut victims) = (0_usize, 0_usize);
        for pairs in pairs.chunk_by(|a, b| a.0 == b.0) {
            let number = pairs[0].0;
            let wanted = pairs.iter().map(|(_, place)| &events[*place]);
            match state.deliver(number, id, revision, wanted) {
                Delivery::Unwanted => {}
                Delivery::Queued => synced += 1,
                Delivery::Full => victims += 1,
            }
        }
        self.note_synced(&state);
        drop(state);
        if victims > 0 {
            self.work.notify_one();
        }
        crate::set!(span, WatchNotify, synced = synced, victims = victims);
    }

    fn note_synced(&self, state: &State) {
        let others = state.unsynced.len() + state.victims.len();
        self.synced.store(state.watchers.len() - others, Ordering::Release);
    }
}

/// What became of an event.
enum Delivery {
    Unwanted,
    Queued,
    Full,
}

impl State {
    /// Puts the events of one revision into a synced watcher's queue.
    fn deliver<'e>(
        &mut self,
        number: u64,
        id: u64,
        revision: i64,
        events: impl Iterator<Item = &'e Event>,
    ) -> Delivery {
        let Some(watcher) = self.watchers.get_mut(&number) else { return Delivery::Unwanted };
        let events: Vec<Event> = events.filter(|event| watcher.wants(event)).cloned().collect();
        if events.is_empty() {
            return Delivery::Unwanted;
        }
        let news = News::Events(Events { id, revision, events, path: Path::Synced });
        let notice = Notice { watcher: number, watch_id: watcher.watch_id, news };
        let depth = watcher.queue.depth();
        // Said before it happens: the stream may send it in the next moment. All who fill queues
        // hold the lock, so there is room if there is room now.
        if trace::kept(id) && watcher.queue.has_room(notice.bytes()) {
            let watch_id = watcher.watch_id;
            crate::mark!(WatchQueue, id, watcher = number, watch_id = watch_id, depth = depth);
        }
        match watcher.queue.try_send(notice) {
            // A stream whose reader has gone takes its watchers away in a moment.
            Ok(()) | Err(TrySendError::Closed(_)) => Delivery::Queued,
            Err(TrySendError::Full(notice)) => {
                crate::mark!(WatchVictim, id, watcher = number, revision = revision, depth = depth);
                watcher.min_rev = revision + 1;
                watcher.wait_with(notice, revision);
                self.lookup.remove(&watcher.keys, number);
                self.victims.insert(number);
                Delivery::Full
            }
        }
    }

    /// Puts a watcher that is in no group into that in which it belongs while the key space
    /// stands at `current`. Only under the index lock.
    fn place(&mut self, number: u64, current: i64) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        if watcher.min_rev > current {
            watcher.group = Group::Synced;
            self.lookup.insert(&watcher.keys, number);
        } else {
            watcher.group = Group::Unsynced;
            self.unsynced.insert((watcher.min_rev, number));
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(watcher) = self.watchers.remove(&number) else { return };
        match watcher.group {
            Group::Synced => self.lookup.remove(&watcher.keys, number),
            Group::Unsynced => _ = self.unsynced.remove(&(watcher.min_rev, number)),
            Group::Victim(_) => _ = self.victims.remove(&number),
        }
    }

    /// Whether a watcher has everything up to `current`, and has begun by then; `None` for one that
    /// a compaction has cancelled.
    fn is_synced(&self, number: u64, current: i64) -> Option<bool> {
        let watcher = self.watchers.get(&number)?;
        Some(matches!(watcher.group, Group::Synced) && watcher.start_rev <= current)
    }
}

/// The watchers of one client's stream, which end with it (etcd: `watchStream`).
#[derive(Debug)]
pub struct WatchStream {
    store: Arc<Store>,
    queue: Queue,
    /// By the id that the client knows. Those whose revision was compacted still hold their ids.
    watchers: HashMap<i64, u64>,
    next_id: i64,
    /// The newest watcher that began in the past. Progress of the whole stream that was queued
    /// before it came must not be told to it.
    last_behind: u64,
}

impl Store {
    /// Opens a stream, and the queue out of which its notices are to be taken.
    pub fn watch_stream(self: &Arc<Self>, queue_len: usize) -> (WatchStream, Notices) {
        let (queue, notices) = queue::queue(queue_len, &self.watchers.queued);
        let store = Arc::clone(self);
        let watchers = HashMap::new();
        (WatchStream { store, queue, watchers, next_id: 0, last_behind: 0 }, notices)
    }
}

impl WatchStream {
    /// Adds a watcher. Returns its id, and the revision at which it begins to watch.
    pub fn create(&mut self, request: &WatchRequest) -> Result<(i64, i64), Refusal> {
        let keys = Keys::new(&request.key, &request.range_end).ok_or(Refusal::EmptyRange)?;
        if request.start_revision < 0 {
            return Err(Refusal::NegativeStart);
        }
        let watch_id = self.free_id(request.watch_id)?;
        let mut span = crate::stage!(WatchCreate, request.id, start = request.start_revision);
        let index = self.store.read();
        let current = index.revision;
        let min_rev =
            if request.start_revision == 0 { current + 1 } else { request.start_revision };
        let mut state = self.store.watchers.lock();
        state.made += 1;
        let number = state.made;
        let watcher = Watcher {
            id: request.id,
            watch_id,
            keys,
            filters: request.filters,
            start_rev: request.start_revision,
            min_rev,
            queue: self.queue.clone(),
            group: Group::Unsynced,
        };
        state.watchers.insert(number, watcher);
        state.place(number, current);
        self.store.watchers.note_synced(&state);
        drop((state, index));
        if min_rev <= current {
            self.store.watchers.work.notify_one();
            self.last_behind = number;
        }
        self.watchers.insert(watch_id, number);
        let synced = i64::from(min_rev > current);
        crate::set!(
            span,
            WatchCreate,
            revision = current,
            watcher = number,
            watch_id = watch_id,
            synced = synced
        );
        Ok((watch_id, current))
    }

    fn free_id(&mut self, wanted: i64) -> Result<i64, Refusal> {
        if wanted != 0 {
            let is_taken = self.watchers.contains_key(&wanted);
            return if is_taken { Err(Refusal::DuplicateId) } else { Ok(wanted) };
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// Takes a watcher away. Returns false if there is none with this id.
    pub fn cancel(&mut self, watch_id: i64) -> bool {
        let Some(number) = self.watchers.remove(&watch_id) else { return false };
        let mut state = self.store.watchers.lock();
        state.remove(number);
        self.store.watchers.note_synced(&state);
        true
    }

    /// Reports to one watcher how far the key space is (etcd: `RequestProgress`), through the queue:
    /// only if it holds everything up to there, and otherwise not at all.
    pub fn request_progress(&self, watch_id: i64) {
        let Some(&watcher) = self.watchers.get(&watch_id) else { return };
        let index = self.store.read();
        let state = self.store.watchers.lock();
        if state.is_synced(watcher, index.revision) == Some(true) {
            let news = News::Progress(index.revision);
            // Without room there is news in the queue, which says more.
            let _ = self.queue.try_send(Notice { watcher, watch_id, news });
        }
    }

    /// Reports the same for all watchers of the stream at once (etcd: `RequestProgressAll`). A
    /// stream without watchers gets no answer, since a revision means nothing without one (etcd
    /// since 3.5.8; earlier versions answer).
    ///
    /// A watcher that a compaction has cancelled does not count, although its id is still taken.
    /// etcd counts it as unsynced, and reports nothing until the client cancels it as well.
    pub fn request_progress_all(&self) {
        let index = self.store.read();
        let state = self.store.watchers.lock();
        let mut synced =
            self.watchers.values().filter_map(|number| state.is_synced(*number, index.revision));
        // The first one shows whether there is any.
        if synced.next() == Some(true) && synced.all(|is_synced| is_synced) {
            let news = News::StreamProgress(index.revision);
            let notice = Notice { watcher: self.last_behind, watch_id: NO_WATCH_ID, news };
            let _ = self.queue.try_send(notice);
        }
    }

    /// Whether a notice is for a watcher that the stream still has, or for the stream as it is.
    pub fn is_wanted(&self, notice: &Notice) -> bool {
        match notice.news {
            News::StreamProgress(_) => notice.watcher == self.last_behind,
            News::Events(_) | News::Compacted(_) | News::Progress(_) => {
                self.watchers.get(&notice.watch_id) == Some(&notice.watcher)
            }
        }
    }

    /// The newest revision: not before any event that stands in the queue, and so waited for if a
    /// batch is being applied.
    pub fn revision(&self) -> i64 {
        self.store.read().revision
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let mut state = self.store.watchers.lock();
        for number in self.watchers.values() {
            state.remove(*number);
        }
        self.store.watchers.note_synced(&state);
    }
}
