//! Catching up: the passes of the sync thread (etcd: `syncWatchersLoop`, `syncVictimsLoop`).
//!
//! One pass serves up to 512 watchers with one read: from the revision at which the one furthest
//! behind stands, a window of revisions, each row once. It is read without the index lock, from the
//! file too. If it reaches the present of then, what was written meanwhile is read under the lock, so
//! that nothing is written after it, and the watchers become synced: that is little, and most of it
//! is in the buffers. Watchers whose window ends before that stay unsynced until a later pass.
//! Which events each watcher wants is found out in the same way, before the watchers are locked:
//! under their lock notices are put into queues, and nothing is searched for.

use std::{sync::atomic::Ordering, time::Duration};

use prost::Message as _;
use tokio::sync::mpsc::error::TrySendError;

use super::{
    Events, News, Notice, Path, State, Watchers,
    lookup::Lookup,
    notice::revision,
    watcher::{Filters, Group, Waits},
};
use crate::{
    pb::mvccpb::{Event, KeyValue, event::EventType},
    server::mvcc::{POISONED, Revision, Store},
    storage::backend::{Bucket, Cut},
};

/// Watchers in one pass (etcd: maxWatchersPerSync).
const WATCHERS_MAX: usize = 512;
/// Revisions that are read in one pass, and so the most that one notice has (etcd:
/// watchBatchMaxRevs). etcd reads all there are, which a member that has much to catch up must pay
/// with its memory; and what does not fit into the notices would be read again by the next pass.
const WINDOW: i64 = 1000;
/// And bytes, unless one revision alone has more: a stream's queue holds little more than that, and
/// gRPC's clients, other than etcd's own, refuse messages of more than 4 MiB. A kilobyte is for what
/// a message has besides events.
const WINDOW_BYTES: usize = super::queue::BYTES - 1024;
/// What an event adds to its row in a message, at most: two tags, two lengths, and its type.
const EVENT: usize = 16;
/// How many revisions are read under the index lock at most.
const NEAR: i64 = 1000;
/// How long a victim waits until it is tried again.
const VICTIM_RETRY: Duration = Duration::from_millis(10);
/// Between two passes, if one was not enough.
const PAUSE: Duration = Duration::from_millis(1);

/// What one pass has read.
struct Window {
    events: Vec<Event>,
    bytes: usize,
    /// The last revision of which it has all.
    end: i64,
}

/// The watchers that one pass serves.
#[derive(Default)]
struct Chosen {
    lookup: Lookup,
    wishes: Vec<Wish>,
    /// The oldest revision that any of them has not got.
    from: i64,
}

/// What a chosen watcher wants. Nobody else changes that while it is unsynced.
struct Wish {
    number: u64,
    min_rev: i64,
    filters: Filters,
}

/// What a pass has for one watcher: whole revisions, in order.
struct Share {
    number: u64,
    events: Vec<Event>,
}

impl Chosen {
    /// Gives each its share of the window, which may be empty. Takes time, and no lock.
    fn shares(&self, window: &Window) -> Vec<Share> {
        fail::fail_point!("watch-sync-shares");
        let keys = window.events.iter().filter_map(|event| Some(event.kv.as_ref()?.key.as_ref()));
        let pairs = self.lookup.pairs(keys);
        let share = |wish: &Wish| {
            let first = pairs.partition_point(|pair| pair.0 < wish.number);
            let places = pairs[first..].iter().take_while(|pair| pair.0 == wish.number);
            let events = places.map(|(_, place)| &window.events[*place]);
            let wanted =
                |event: &&Event| revision(event) >= wish.min_rev && wish.filters.wants(event);
            Share { number: wish.number, events: events.filter(wanted).cloned().collect() }
        };
        self.wishes.iter().map(share).collect()
    }
}

impl Store {
    /// The sync thread: serves unsynced watchers and victims for as long as the process runs.
    pub fn run_watch_sync(&self) {
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
    pub fn sync_watchers(&self) -> bool {
        let index = self.index.read().expect(POISONED);
        let current = index.revision;
        let chosen = self.watchers.choose(index.compacted);
        if chosen.wishes.is_empty() {
            return false;
        }
        let (from, count) = (chosen.from, chosen.wishes.len());
        let mut span = crate::stage!(WatchSync, 0, from = from, watchers = count);
        let last = current.min(from.saturating_add(WINDOW - 1));
        let cut = self.cut_revisions(from, last);
        drop(index);
        let window = self.read_window(&cut, last, 0);
        let mut shares = chosen.shares(&window);
        let (mut end, mut seen) = (window.end, current);
        let index = self.index.read().expect(POISONED);
        let written = index.revision - current;
        // A compaction that has passed it may have taken rows of what was written meanwhile.
        if end == current && 0 < written && written <= NEAR && index.compacted <= current {
            let cut = self.cut_revisions(current + 1, index.revision);
            let rest = self.read_window(&cut, index.revision, window.bytes);
            for (share, rest) in shares.iter_mut().zip(chosen.shares(&rest)) {
                share.events.extend(rest.events);
            }
            (end, seen) = (rest.end, index.revision);
        }
        let mut state = self.watchers.lock();
        let events = state.catch_up(shares, (end, seen), index.revision);
        self.watchers.note_synced(&state);
        let left = state.unsynced.len();
        crate::set!(span, WatchSync, to = end, events = events, left = left);
        left > 0
    }

    /// The rows of these revisions, as of now.
    fn cut_revisions(&self, first: i64, last: i64) -> Cut {
        let rows = [first, last + 1].map(|main| Revision::new(main, 0).row_key());
        self.backend.cut_range(Bucket::Key, &rows[0], &rows[1])
    }

    /// Reads events, whole revisions of them, in order. `before`: bytes that were read just before.
    fn read_window(&self, cut: &Cut, last: i64, before: usize) -> Window {
        let mut window = Window { events: Vec::new(), bytes: before, end: last };
        // The revision that is being read, and what was there before its first row.
        let (mut main, mut start) = (0, (0, before));
        for (row_key, row) in self.backend.rows(cut) {
            let Some((at, is_tombstone)) = Revision::from_row_key(&row_key) else {
                self.backend.malformed("key bucket: a row's key is not a revision")
            };
            if at.main != main {
                (main, start) = (at.main, (window.events.len(), window.bytes));
            }
            window.bytes += row.len() + EVENT;
            if window.bytes > WINDOW_BYTES && start.1 > 0 {
                window.events.truncate(start.0);
                (window.bytes, window.end) = (start.1, main - 1);
                break;
            }
            let Ok(mut kv) = KeyValue::decode(row) else {
                self.backend.malformed("key bucket: a row is no key-value pair")
            };
            // A tombstone's row has nothing but the key.
            kv.mod_revision = main;
            let kind = if is_tombstone { EventType::Delete } else { EventType::Put };
            window.events.push(Event { r#type: kind as i32, kv: Some(kv), prev_kv: None });
        }
        window
    }

    /// Tries again to hand over what did not fit. Returns whether there are still victims.
    pub fn retry_victims(&self) -> bool {
        let index = self.index.read().expect(POISONED);
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

    /// Waits for the next try if there are victims, but not if somebody is unsynced.
    fn wait_for_retry(&self) {
        let state = self.lock();
        let is_waiting = |state: &mut State| state.unsynced.is_empty() && !state.victims.is_empty();
        drop(self.work.wait_timeout_while(state, VICTIM_RETRY, is_waiting).expect(POISONED));
    }

    /// Chooses those who are the furthest behind. Those whose revisions are gone are told so.
    fn choose(&self, compacted: i64) -> Chosen {
        let mut state = self.lock();
        while let Some((min_rev, number)) = state.unsynced.first().copied()
            && min_rev < compacted
        {
            state.unsynced.remove(&(min_rev, number));
            state.tell_compacted(number, compacted);
        }
        let mut chosen = Chosen::default();
        for (min_rev, number) in state.unsynced.iter().take(WATCHERS_MAX) {
            let Some(watcher) = state.watchers.get(number) else { continue };
            if chosen.wishes.is_empty() {
                chosen.from = *min_rev;
            }
            chosen.lookup.insert(&watcher.keys, *number);
            let (number, min_rev, filters) = (*number, *min_rev, watcher.filters);
            chosen.wishes.push(Wish { number, min_rev, filters });
        }
        chosen
    }

    /// How many watchers are synced, unsynced, and victims.
    pub(in crate::server::mvcc) fn counts(&self) -> (usize, usize, usize) {
        let state = self.lock();
        (self.synced.load(Ordering::Acquire), state.unsynced.len(), state.victims.len())
    }
}

impl State {
    /// Ends a watcher that is in no group; if its queue is full, as soon as it is not.
    fn tell_compacted(&mut self, number: u64, compacted: i64) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        let news = News::Compacted(compacted);
        let notice = Notice { watcher: number, watch_id: watcher.watch_id, news };
        match watcher.queue.try_send(notice) {
            Ok(()) | Err(TrySendError::Closed(_)) => _ = self.watchers.remove(&number),
            Err(TrySendError::Full(notice)) => {
                watcher.group = Group::Victim(Waits::With(notice));
                self.victims.insert(number);
            }
        }
    }

    /// Hands their shares to those who were chosen and are still there. `end` is the last revision
    /// of the window, `seen` the one as of which it was read, `current` the one now. Returns how
    /// many events went out.
    fn catch_up(&mut self, shares: Vec<Share>, (end, seen): (i64, i64), current: i64) -> usize {
        let mut sent = 0;
        for Share { number, events } in shares {
            sent += self.bring(number, events, (end, seen));
            if let Some(watcher) = self.watchers.get(&number)
                && matches!(watcher.group, Group::Unsynced)
            {
                self.place(number, current);
            }
        }
        sent
    }

    /// Brings an unsynced watcher forward, and takes it out of its group's list.
    fn bring(&mut self, number: u64, events: Vec<Event>, (end, seen): (i64, i64)) -> usize {
        let Some(watcher) = self.watchers.get_mut(&number) else { return 0 };
        self.unsynced.remove(&(watcher.min_rev, number));
        let first = watcher.min_rev;
        watcher.min_rev = watcher.min_rev.max(end + 1);
        if events.is_empty() {
            return 0;
        }
        let count = events.len();
        let events = Events { id: watcher.id, revision: seen, events, path: Path::CatchUp };
        let news = News::Events(events);
        let notice = Notice { watcher: number, watch_id: watcher.watch_id, news };
        if let Err(TrySendError::Full(notice)) = watcher.queue.try_send(notice) {
            let (id, min_rev, depth) = (watcher.id, watcher.min_rev, watcher.queue.depth());
            crate::mark!(WatchVictim, id, watcher = number, revision = min_rev, depth = depth);
            watcher.wait_with(notice, first);
            self.victims.insert(number);
            return 0;
        }
        count
    }

    /// Tries to hand over what a victim waits with. If it works, the victim is none any more.
    fn retry(&mut self, number: u64, current: i64) {
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        let group = std::mem::replace(&mut watcher.group, Group::Unsynced);
        let Group::Victim(waits) = group else {
            watcher.group = group;
            return;
        };
        let mut is_end = false;
        match waits {
            Waits::With(notice) => {
                is_end = matches!(notice.news, News::Compacted(_));
                if let Err(TrySendError::Full(notice)) = watcher.queue.try_send(notice) {
                    watcher.group = Group::Victim(Waits::With(notice));
                    return;
                }
            }
            Waits::For(bytes) if watcher.queue.has_room(bytes) => {}
            Waits::For(bytes) => {
                watcher.group = Group::Victim(Waits::For(bytes));
                return;
            }
        }
        self.victims.remove(&number);
        if is_end {
            self.watchers.remove(&number);
        } else {
            self.place(number, current);
        }
    }
}

/// Starts nothing by itself: `member` runs [`Store::run_watch_sync`] on a thread of its own.
impl Store {
    /// How many watchers are synced, unsynced, and victims.
    pub fn watcher_counts(&self) -> (usize, usize, usize) {
        self.watchers.counts()
    }

    /// How many bytes of events wait for streams to be read, those included that were handed over
    /// last.
    pub fn watch_bytes(&self) -> usize {
        self.watchers.queued.load(Ordering::Relaxed)
    }
}
