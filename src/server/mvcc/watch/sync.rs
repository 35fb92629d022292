//! Catching up: the passes of the sync thread (etcd: `syncWatchersLoop`, `syncVictimsLoop`).
//!
//! A pass serves up to 512 watchers with one read. It reads a window of revisions, each row once,
//! from the oldest revision that one of the watchers has not received:
//!
//! 1. Under the index lock, choose the watchers and the window.
//! 2. Without it, read the window, perhaps from the file, and find the events of each watcher. If
//!    they are many, this step and the next are taken for a portion of the watchers at a time.
//! 3. Under the index lock again: if the window ends at the revision that was the newest in step 1,
//!    read the revisions written since. These are few, and mostly in the buffers. Then queue the
//!    notices, and make the watchers synced. The lock excludes apply, so no event is missed.
//!
//! Watchers whose window ends earlier stay unsynced until a later pass. No rows are read under the
//! watchers' lock: it is held only to choose watchers and to queue notices.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::sync::mpsc::error::TrySendError;

use super::{
    Events, News, Notice, Path, State, Watchers,
    portion::{ChosenWatcher, EventBatch, Portion, portions},
    watcher::{Group, Pending, Watcher},
};
use crate::{
    pb::mvccpb::{Event, event::EventType},
    server::mvcc::{POISONED, Revision, Store, reader::Source},
    storage::backend::{Bucket, Cut},
    trace,
};

/// The most watchers in one pass (etcd: maxWatchersPerSync).
const WATCHERS_MAX: usize = 512;
/// The most revisions read in one pass, and so in one notice (etcd: watchBatchMaxRevs). etcd reads
/// all missing events at once, however many, and reads again those that do not fit into its
/// notices.
const WINDOW_REVISIONS_MAX: i64 = 1000;
/// The most bytes of events read in one pass, unless one revision alone has more. The queue of a
/// stream holds no more than that, and gRPC clients other than etcd's own refuse messages above
/// 4 MiB. The kilobyte is for the other fields of a message.
const WINDOW_BYTES_MAX: usize = super::queue::BYTES_MAX - 1024;
/// The most bytes of an event in a message beside its row: two tags, two lengths, its type.
const EVENT_BYTES_MAX: usize = 16;
/// The most revisions read under the index lock.
const LOCKED_REVISIONS_MAX: i64 = 1000;
/// The time between two attempts to deliver the pending notices of victims.
const VICTIM_RETRY: Duration = Duration::from_millis(10);
/// The pause between two passes if unsynced watchers are left.
const PAUSE: Duration = Duration::from_millis(1);

/// The events that a pass has read.
struct Window {
    events: Vec<Event>,
    /// The length of the events in a message, in bytes, at most.
    bytes: usize,
    /// The last revision of which all events are there.
    end: i64,
}

/// The watchers of one pass.
#[derive(Default)]
struct Chosen {
    watchers: Vec<ChosenWatcher>,
    /// The oldest revision that any of them has not received.
    from: i64,
}

impl Store {
    /// The loop of the sync thread, which serves unsynced watchers and victims until the process
    /// ends. `member` starts the thread.
    pub(crate) fn run_watch_sync(&self) {
        loop {
            self.watchers.wait_for_work();
            self.retry_victims();
            let is_behind = self.sync_watchers();
            if is_behind {
                std::thread::sleep(PAUSE);
            } else {
                self.watchers.wait_for_retry();
            }
        }
    }

    /// One pass over the unsynced watchers. Returns whether there are any left.
    pub(crate) fn sync_watchers(&self) -> bool {
        let index = self.read();
        let current = index.revision;
        let chosen = self.watchers.choose(index.compacted);
        if chosen.watchers.is_empty() {
            return false;
        }
        let (from, count) = (chosen.from, chosen.watchers.len());
        let number = self.watchers.passes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut span = crate::stage!(WatchSync, 0, from = from, watchers = count, pass = number);
        let last = current.min(from.saturating_add(WINDOW_REVISIONS_MAX - 1));
        let cut = self.cut_revisions(from, last);
        drop(index);
        let window = self.read_window(&cut, last, 0);
        let (mut to, mut events) = (i64::MAX, 0);
        for portion in portions(chosen.watchers, &window.events) {
            let (end, queued) = self.sync_portion(&portion, &window, (number, current));
            (to, events) = (to.min(end), events + queued);
        }
        let left = self.watchers.lock().unsynced.len();
        crate::set!(span, WatchSync, to = to, events = events, left = left);
        left > 0
    }

    /// Brings the watchers of one portion forward, in the pass of this number, which began when
    /// `current` was the newest revision. Returns the last revision that they have now, and the
    /// number of events.
    fn sync_portion(
        &self,
        portion: &Portion,
        window: &Window,
        (number, current): (u64, i64),
    ) -> (i64, usize) {
        let mut batches = portion.event_batches(&window.events);
        let (mut end, mut seen) = (window.end, current);
        let index = self.read();
        let written = index.revision - current;
        let is_near = 0 < written && written <= LOCKED_REVISIONS_MAX;
        // A compaction beyond `current` may have deleted rows written since.
        if end == current && is_near && index.compacted <= current {
            let cut = self.cut_revisions(current + 1, index.revision);
            let rest = self.read_window(&cut, index.revision, window.bytes);
            // Otherwise the next pass reads them, without the lock.
            if portion.has_room_for(&rest.events) {
                for (batch, rest) in batches.iter_mut().zip(portion.event_batches(&rest.events)) {
                    batch.events.extend(rest.events);
                }
                (end, seen) = (rest.end, index.revision);
            }
        }
        let mut state = self.watchers.lock();
        let events = state.catch_up(batches, PassEnd { number, end, seen, newest: index.revision });
        self.watchers.note_synced(&state);
        (end, events)
    }

    /// A snapshot of the rows of these main revisions.
    fn cut_revisions(&self, first: i64, last: i64) -> Cut {
        let rows = [first, last + 1].map(|main| Revision::new(main, 0).row_key());
        self.backend.cut_range(Bucket::Key, &rows[0], &rows[1])
    }

    /// Reads the events up to revision `last`, in whole revisions and in order. `before`: bytes
    /// that the pass has read already.
    fn read_window(&self, cut: &Cut, last: i64, before: usize) -> Window {
        let mut window = Window { events: Vec::new(), bytes: before, end: last };
        // The current revision, and the number of events and bytes before it.
        let (mut main, mut start) = (0, (0, before));
        for (row_key, row) in self.backend.rows(cut) {
            let Some((at, is_tombstone)) = Revision::from_row_key(&row_key) else {
                self.backend.malformed("key bucket: a row's key is not a revision")
            };
            if at.main != main {
                (main, start) = (at.main, (window.events.len(), window.bytes));
            }
            window.bytes += row.len() + EVENT_BYTES_MAX;
            if window.bytes > WINDOW_BYTES_MAX && start.1 > 0 {
                window.events.truncate(start.0);
                (window.bytes, window.end) = (start.1, main - 1);
                break;
            }
            let mut kv = Source::Published(&self.backend).decode(row);
            // The row of a tombstone has the key only.
            kv.mod_revision = main;
            let kind = if is_tombstone { EventType::Delete } else { EventType::Put };
            window.events.push(Event { r#type: kind as i32, kv: Some(kv), prev_kv: None });
        }
        window
    }

    /// Retries the delivery to victims. Returns whether any are left.
    pub(crate) fn retry_victims(&self) -> bool {
        let index = self.read();
        let mut state = self.watchers.lock();
        let numbers: Vec<u64> = state.victims.iter().copied().collect();
        for number in numbers {
            state.retry(number, index.revision);
        }
        self.watchers.note_synced(&state);
        !state.victims.is_empty()
    }
}

impl Watchers {
    fn wait_for_work(&self) {
        let state = self.lock();
        let is_idle = |state: &mut State| state.unsynced.is_empty() && state.victims.is_empty();
        drop(self.work.wait_while(state, is_idle).expect(POISONED));
    }

    /// Waits for the next retry if there are victims, unless a watcher is unsynced.
    fn wait_for_retry(&self) {
        let state = self.lock();
        let is_waiting = |state: &mut State| state.unsynced.is_empty() && !state.victims.is_empty();
        drop(self.work.wait_timeout_while(state, VICTIM_RETRY, is_waiting).expect(POISONED));
    }

    /// Chooses the watchers furthest behind, and cancels those whose next revision is compacted.
    fn choose(&self, compacted: i64) -> Chosen {
        let mut state = self.lock();
        while let Some((min_rev, number)) = state.unsynced.first().copied()
            && min_rev < compacted
        {
            state.unsynced.remove(&(min_rev, number));
            state.cancel_compacted(number, compacted);
        }
        let mut chosen = Chosen::default();
        for (min_rev, number) in state.unsynced.iter().take(WATCHERS_MAX) {
            let Some(watcher) = state.watchers.get(number) else { continue };
            if chosen.watchers.is_empty() {
                chosen.from = *min_rev;
            }
            let (number, min_rev) = (*number, *min_rev);
            let (keys, filters) = (watcher.keys.clone(), watcher.filters);
            chosen.watchers.push(ChosenWatcher { number, min_rev, keys, filters });
        }
        chosen
    }
}

/// Which pass it is, and how far it has come, in main revisions.
#[derive(Clone, Copy)]
struct PassEnd {
    /// The number of the pass.
    number: u64,
    /// The last one that was read.
    end: i64,
    /// The newest one when it was read, for the header.
    seen: i64,
    /// The newest one now, under the index lock.
    newest: i64,
}

impl State {
    /// Removes a watcher that is in no group, and notifies it. If its queue is full, this happens
    /// when the queue has room.
    fn cancel_compacted(&mut self, number: u64, compacted: i64) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        let news = News::Compacted(compacted);
        let notice = Notice { watcher: number, watch_id: watcher.watch_id, news };
        match watcher.queue.try_send(notice) {
            Ok(()) | Err(TrySendError::Closed(_)) => _ = self.watchers.remove(&number),
            Err(TrySendError::Full(notice)) => {
                watcher.group = Group::Victim(Pending::Notice(notice));
                self.victims.insert(number);
            }
        }
    }

    /// Queues the events of the watchers that still exist. Returns how many were queued.
    fn catch_up(&mut self, batches: Vec<EventBatch>, pass: PassEnd) -> usize {
        let mut queued = 0;
        for batch in batches {
            let number = batch.number;
            queued += self.advance(batch, pass);
            if let Some(watcher) = self.watchers.get(&number)
                && matches!(watcher.group, Group::Unsynced)
            {
                self.assign_group(number, pass.newest);
            }
        }
        queued
    }

    /// Queues the events of an unsynced watcher, and removes it from the list of its group. Returns
    /// how many were queued.
    fn advance(&mut self, batch: EventBatch, pass: PassEnd) -> usize {
        let EventBatch { number, events } = batch;
        let Some(watcher) = self.watchers.get_mut(&number) else { return 0 };
        self.unsynced.remove(&(watcher.min_rev, number));
        let first = watcher.min_rev;
        watcher.min_rev = watcher.min_rev.max(pass.end + 1);
        let count = events.len();
        if events.is_empty() {
            note_forward(watcher, number, (first, count), pass);
            return 0;
        }
        let (revision, path) = (pass.seen, Path::CatchUp);
        let events = Events { id: watcher.id, revision, events, path };
        let news = News::Events(events);
        let notice = Notice { watcher: number, watch_id: watcher.watch_id, news };
        // Recorded before it happens, because the stream may send the notice at once. Queues are
        // filled under the lock only, so if there is room now, there is room below.
        if watcher.queue.has_room(notice.bytes()) {
            note_forward(watcher, number, (first, count), pass);
        }
        if let Err(TrySendError::Full(notice)) = watcher.queue.try_send(notice) {
            let (id, min_rev, depth) = (watcher.id, watcher.min_rev, watcher.queue.depth());
            crate::mark!(WatchVictim, id, watcher = number, revision = min_rev, depth = depth);
            watcher.become_victim(notice, first);
            self.victims.insert(number);
            return 0;
        }
        count
    }

    /// Tries to deliver the pending notice of a victim. If there is room, the watcher leaves the
    /// group.
    fn retry(&mut self, number: u64, current: i64) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        let group = std::mem::replace(&mut watcher.group, Group::Unsynced);
        let Group::Victim(pending) = group else {
            watcher.group = group;
            return;
        };
        let mut is_end = false;
        match pending {
            Pending::Notice(notice) => {
                is_end = matches!(notice.news, News::Compacted(_));
                if let Err(TrySendError::Full(notice)) = watcher.queue.try_send(notice) {
                    watcher.group = Group::Victim(Pending::Notice(notice));
                    return;
                }
            }
            Pending::Bytes(bytes) if watcher.queue.has_room(bytes) => {}
            Pending::Bytes(bytes) => {
                watcher.group = Group::Victim(Pending::Bytes(bytes));
                return;
            }
        }
        self.victims.remove(&number);
        if is_end {
            self.watchers.remove(&number);
        } else {
            self.assign_group(number, current);
        }
    }
}

/// Records what a pass does for one watcher, from its `first` revision on. There may be thousands,
/// so only those whose requests are kept have a record.
fn note_forward(watcher: &Watcher, number: u64, (first, events): (i64, usize), pass: PassEnd) {
    if trace::kept(watcher.id) {
        crate::mark!(
            WatchForward,
            watcher.id,
            watcher = number,
            next_old = first,
            next_new = watcher.min_rev,
            events = events,
            synced = pass.newest < watcher.min_rev,
            pass = pass.number
        );
    }
}

impl Store {
    /// The numbers of synced watchers, of unsynced ones, and of victims.
    pub(crate) fn watcher_counts(&self) -> (usize, usize, usize) {
        let state = self.watchers.lock();
        let synced = self.watchers.synced.load(Ordering::Acquire);
        (synced, state.unsynced.len(), state.victims.len())
    }

    /// The memory of the events in all queues and in the last notices taken, in bytes.
    pub(crate) fn watch_bytes(&self) -> usize {
        self.watchers.queued.load(Ordering::Relaxed)
    }
}
