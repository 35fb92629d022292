//! Watchers, which receive the events of the key space (etcd: `watchableStore`).
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
//!     start└──────▶ │        victim        │ ─ pending notice ┘
//!     in the past   └──────────────────────┘
//! ```
//!
//! A **synced** watcher gets its events from apply, which finds it by key ([`lookup`]) and never
//! waits: if the queue of its stream is full, the watcher becomes a **victim**. It keeps the events
//! if they are small, and delivery is retried every 10 ms. Apply skips a victim. Once its kept
//! events are delivered, it is synced again if it has missed nothing since. Otherwise it becomes an
//! **unsynced** watcher and reads the later events from the backend, like one that starts at a past
//! revision. So a slow reader delays neither writes nor
//! other streams, and costs the memory of its queue, not of everything that it has missed.
//!
//! Invariants
//! * Notices enter a watcher's queue in the order of revisions. Each revision comes once, and all
//!   its events are in one notice.
//! * A watcher becomes synced only under the index lock, which excludes apply: it has everything up
//!   to the revision of that moment, and apply delivers the next one.
//! * If revisions are compacted before a watcher has read them, the watcher is cancelled with a
//!   notice that says so; events are never skipped (etcd #17529).
//! * Progress is reported only to watchers that have everything (etcd #15220, #20221), and through
//!   the same queue, so after everything else.
//!
//! Locks are taken in this order: the index, the write buffers, the watchers. The lessor's is
//! released before the watchers' is taken. No thread waits while it holds the watchers' lock.
//!
//! Left out: the previous values of events. The stream that sends the events reads them
//! ([`previous`]).

mod interval;
mod lookup;
mod notice;
mod portion;
pub(crate) mod previous;
pub(crate) mod queue;
mod sync;
mod watcher;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
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
use crate::{
    metrics::{InProgress, recorded},
    pb::mvccpb::Event,
    trace,
};

pub(crate) use self::{
    notice::{Events, News, Notice, Path, revision as revision_of},
    watcher::Filters,
};

/// The most notices in a stream's queue (etcd: chanBufLen).
pub(crate) const QUEUE_LEN: usize = 128;

/// The watch id of responses that concern no watcher, or all watchers of a stream (etcd:
/// InvalidWatchID). As in etcd, a client may still choose it for a watcher, like any number but 0.
pub(crate) const NO_WATCH_ID: i64 = -1;

/// Why a watcher was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
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

/// A request for a watcher.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchRequest {
    /// The id of the request, for the trace.
    pub(crate) id: u64,
    /// The watch id that the client chooses; 0 if the member is to assign one.
    pub(crate) watch_id: i64,
    /// The keys, with `range_end` as in a range request. An empty key is one zero byte.
    pub(crate) key: Bytes,
    pub(crate) range_end: Bytes,
    /// The first main revision to watch; 0: the next one.
    pub(crate) start_revision: i64,
    /// Whether a waiting call of the member has it, and no client's stream.
    pub(crate) is_of_call: bool,
    pub(crate) filters: Filters,
}

/// All watchers of a member.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    state: Mutex<State>,
    /// The number of synced watchers. It grows only under the index lock, so apply, which holds
    /// that lock, can read it without the watchers' lock.
    synced: AtomicUsize,
    /// The memory of the notices in all queues, in bytes.
    queued: Arc<AtomicUsize>,
    /// The number of the sync thread's newest pass.
    passes: AtomicU64,
    /// Wakes the sync thread.
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// All watchers, by number.
    watchers: HashMap<u64, Watcher>,
    /// The numbers of synced watchers, by key.
    lookup: Lookup,
    /// The unsynced watchers as pairs of `min_rev` and number, so those furthest behind come first.
    unsynced: BTreeSet<(i64, u64)>,
    /// The numbers of victims.
    victims: BTreeSet<u64>,
    /// The number of the watcher that was created last; numbers count up from 1.
    newest: u64,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(POISONED)
    }

    /// Whether any watcher is synced. To be called under the index lock.
    pub(super) fn is_watched(&self) -> bool {
        self.synced.load(Ordering::Acquire) > 0
    }

    /// Queues the events of one revision, written by request `id`, for the synced watchers that
    /// want them. To be called under the index lock; never waits for a client.
    pub(super) fn notify(&self, id: u64, revision: i64, events: &[Event]) {
        let mut span = crate::stage!(WatchNotify, id, revision = revision, events = events.len());
        let mut state = self.lock();
        let keys = events.iter().filter_map(|event| Some(event.kv.as_ref()?.key.as_ref()));
        let pairs = state.lookup.pairs(keys);
        let (mut synced, mut victims) = (0_usize, 0_usize);
        for pairs in pairs.chunk_by(|a, b| a.0 == b.0) {
            let number = pairs[0].0;
            let events = pairs.iter().map(|(_, event)| &events[*event]);
            match state.deliver(number, id, revision, events) {
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

    /// Makes synced watchers unsynced, because a received database has taken the key space from
    /// revision `had` to `current` without events. Victims find out by themselves. To be called
    /// under the index lock. Returns how many watchers have to read what they have missed.
    pub(super) fn fall_behind(&self, had: i64, current: i64) -> usize {
        let mut state = self.lock();
        let synced = |(number, watcher): (&u64, &Watcher)| {
            matches!(watcher.group, Group::Synced).then_some(*number)
        };
        let numbers: Vec<u64> = state.watchers.iter().filter_map(synced).collect();
        for number in numbers {
            state.fall_behind(number, had, current);
        }
        let behind = state.unsynced.len();
        self.note_synced(&state);
        drop(state);
        self.work.notify_one();
        behind
    }

    fn note_synced(&self, state: &State) {
        let others = state.unsynced.len() + state.victims.len();
        self.synced.store(state.watchers.len() - others, Ordering::Release);
    }
}

/// The outcome of a delivery to one watcher.
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
        // Recorded before it happens, because the stream may send the notice at once. Queues are
        // filled under the lock only, so if there is room now, there is room below.
        if trace::kept(id) && watcher.queue.has_room(notice.bytes()) {
            crate::mark!(
                WatchQueue,
                id,
                watcher = number,
                watch_id = watcher.watch_id,
                depth = depth,
                created_by = watcher.id,
                of_call = watcher.is_of_call
            );
        }
        match watcher.queue.try_send(notice) {
            // A stream that has no reader any more is about to remove its watchers.
            Ok(()) | Err(TrySendError::Closed(_)) => Delivery::Queued,
            Err(TrySendError::Full(notice)) => {
                crate::mark!(WatchVictim, id, watcher = number, revision = revision, depth = depth);
                watcher.min_rev = revision + 1;
                watcher.become_victim(notice, revision);
                self.lookup.remove(&watcher.keys, number);
                self.victims.insert(number);
                Delivery::Full
            }
        }
    }

    /// Makes a watcher that is in no group synced or unsynced, for the newest revision `current`.
    /// To be called under the index lock.
    fn assign_group(&mut self, number: u64, current: i64) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        if watcher.min_rev > current {
            watcher.group = Group::Synced;
            self.lookup.insert(&watcher.keys, number);
        } else {
            watcher.group = Group::Unsynced;
            self.unsynced.insert((watcher.min_rev, number));
        }
    }

    fn fall_behind(&mut self, number: u64, had: i64, current: i64) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        // One that starts in the future stays synced until its start.
        watcher.min_rev = watcher.min_rev.max(had + 1);
        if watcher.min_rev <= current {
            self.lookup.remove(&watcher.keys, number);
            self.assign_group(number, current);
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

    /// Whether a watcher has everything up to `current` and starts no later; `None` for one that a
    /// compaction has cancelled.
    fn is_synced(&self, number: u64, current: i64) -> Option<bool> {
        let watcher = self.watchers.get(&number)?;
        Some(matches!(watcher.group, Group::Synced) && watcher.start_rev <= current)
    }
}

/// The watchers of one client's stream, which end with it (etcd: `watchStream`).
#[derive(Debug)]
pub(crate) struct WatchStream {
    store: Arc<Store>,
    queue: Queue,
    /// The numbers of watchers, by watch id. A watcher that a compaction has cancelled still
    /// occupies its id.
    watchers: HashMap<i64, u64>,
    next_id: i64,
    /// The number of the newest watcher that started at a past revision; 0 for none. It must not
    /// receive a progress notice of the whole stream that was queued before it was created.
    newest_behind: u64,
    /// The stream counts as long as it is there.
    _counted: InProgress<'static>,
}

impl Store {
    /// Opens a stream. Returns it with the receiving end of its queue.
    pub(crate) fn watch_stream(self: &Arc<Self>, queue_len: usize) -> (WatchStream, Notices) {
        let (queue, notices) = queue::queue(queue_len, &self.watchers.queued);
        let store = Arc::clone(self);
        let watchers = HashMap::new();
        let counted = recorded::WATCH_STREAMS.during();
        let (next_id, newest_behind) = (0, 0);
        let stream =
            WatchStream { store, queue, watchers, next_id, newest_behind, _counted: counted };
        (stream, notices)
    }
}

impl WatchStream {
    /// Adds a watcher. Returns its watch id, and the newest main revision.
    pub(crate) fn create(&mut self, request: &WatchRequest) -> Result<(i64, i64), Refusal> {
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
        state.newest += 1;
        let number = state.newest;
        let watcher = Watcher {
            id: request.id,
            is_of_call: request.is_of_call,
            watch_id,
            keys,
            filters: request.filters,
            start_rev: request.start_revision,
            min_rev,
            queue: self.queue.clone(),
            group: Group::Unsynced,
        };
        state.watchers.insert(number, watcher);
        state.assign_group(number, current);
        self.store.watchers.note_synced(&state);
        let synced = i64::from(min_rev > current);
        crate::set!(
            span,
            WatchCreate,
            revision = current,
            watcher = number,
            watch_id = watch_id,
            synced = synced
        );
        // Recorded before anything can be done for the watcher.
        drop(span);
        drop((state, index));
        if min_rev <= current {
            self.store.watchers.work.notify_one();
            self.newest_behind = number;
        }
        self.watchers.insert(watch_id, number);
        Ok((watch_id, current))
    }

    /// The number of the watcher with this watch id, which is unique on this member; 0 for none.
    pub(crate) fn number(&self, watch_id: i64) -> u64 {
        self.watchers.get(&watch_id).copied().unwrap_or(0)
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

    /// Removes a watcher. Returns false if there is none with this watch id.
    pub(crate) fn cancel(&mut self, watch_id: i64) -> bool {
        let Some(number) = self.watchers.remove(&watch_id) else { return false };
        let mut state = self.store.watchers.lock();
        state.remove(number);
        self.store.watchers.note_synced(&state);
        true
    }

    /// Queues a progress notice for one watcher, if it has everything up to the newest revision
    /// (etcd: `RequestProgress`).
    pub(crate) fn request_progress(&self, watch_id: i64) {
        let Some(&watcher) = self.watchers.get(&watch_id) else { return };
        let index = self.store.read();
        let state = self.store.watchers.lock();
        if state.is_synced(watcher, index.revision) == Some(true) {
            let news = News::Progress(index.revision);
            // If the queue is full, its notices make this one unnecessary.
            let _ = self.queue.try_send(Notice { watcher, watch_id, news });
        }
    }

    /// Queues one progress notice for all watchers of the stream, if all have everything (etcd:
    /// `RequestProgressAll`). A stream without watchers gets none, since its revision would mean
    /// nothing (etcd since 3.5.8; earlier versions send one).
    ///
    /// A watcher that a compaction has cancelled does not count, although it still occupies its id.
    /// etcd counts it as unsynced, and reports no progress until the client cancels it too.
    pub(crate) fn request_progress_all(&self) {
        let index = self.store.read();
        let state = self.store.watchers.lock();
        let mut synced =
            self.watchers.values().filter_map(|number| state.is_synced(*number, index.revision));
        // There must be at least one.
        if synced.next() == Some(true) && synced.all(|is_synced| is_synced) {
            let news = News::StreamProgress(index.revision);
            let notice = Notice { watcher: self.newest_behind, watch_id: NO_WATCH_ID, news };
            let _ = self.queue.try_send(notice);
        }
    }

    /// Whether a notice from the queue is still to be sent: its watcher exists, or, if it is for
    /// the whole stream, no watcher that started at a past revision was created after it.
    pub(crate) fn is_wanted(&self, notice: &Notice) -> bool {
        match notice.news {
            News::StreamProgress(_) => notice.watcher == self.newest_behind,
            News::Events(_) | News::Compacted(_) | News::Progress(_) => {
                self.watchers.get(&notice.watch_id) == Some(&notice.watcher)
            }
        }
    }

    /// The newest main revision, which is not older than any event in the queue. Waits for a batch
    /// that is being applied.
    pub(crate) fn revision(&self) -> i64 {
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
