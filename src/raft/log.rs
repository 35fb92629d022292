//! The log as raft-rs reads it: the newest entries in memory, older ones in the WAL's segments.
//!
//! ```text
//!   index   first ........ first cached ............ stable ........... last
//!           └── WAL segments ──┘└──────────── cache (bounded) ───────────┘
//! ```
//!
//! An entry enters the cache before the WAL has it, because raft-rs must be able to read what it
//! was just given. It may leave the cache only once it is on disk (`stable`), and only when the
//! cache holds more than its bytes. Entries that a new leader overwrites leave at once.
//!
//! When a snapshot is made, the entries up to its index are dropped, but for some that slow
//! followers may still ask for ([`LogStorage::snapshot_made`]). A follower that asks for a dropped
//! entry is sent the database instead. A snapshot that is received takes the place of the whole log
//! ([`LogStorage::apply_snapshot`]).

use std::{collections::VecDeque, sync::Arc};

use raft::{
    Error, GetEntriesContext, RaftState, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata},
    storage::Storage,
};

use crate::{
    mark,
    storage::{self, wal::Locations},
};

/// How many bytes of entries stay in memory.
const CACHE_BYTES_MAX: usize = 4 << 20;

/// Bytes of an entry in memory beside its data.
const ENTRY_OVERHEAD: usize = 96;

/// The log storage behind a `RawNode`. Only the raft thread touches it.
#[derive(Debug)]
pub(crate) struct LogStorage {
    hard_state: HardState,
    conf_state: ConfState,
    /// The newest snapshot that was made or received; index 0 before the first.
    snapshot: SnapshotMetadata,
    /// How many entries before a snapshot stay (etcd: SnapshotCatchUpEntries).
    catch_up_entries: u64,
    first_index: u64,
    /// The term of the entry before the first one.
    term_before: u64,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// The index up to which the WAL has synced the entries of the cache.
    stable: u64,
    last_index: u64,
    last_term: u64,
    locations: Arc<Locations>,
}

/// The state that a start has recovered from WAL and database.
#[derive(Debug, Default)]
pub(crate) struct Start {
    /// Term, vote and commit index, the latter at least the consistent index.
    pub(crate) hard_state: HardState,
    /// The configuration at the consistent index.
    pub(crate) conf_state: ConfState,
    /// The last entry of the WAL; 0 for an empty one.
    pub(crate) last_index: u64,
    /// The term of that entry.
    pub(crate) last_term: u64,
    /// The newest snapshot; index 0 if there is none.
    pub(crate) snapshot: SnapshotMetadata,
    /// How many entries before a snapshot stay for slow followers.
    pub(crate) catch_up_entries: u64,
}

impl LogStorage {
    /// Starts with an empty cache over the segments in `locations`.
    pub(crate) fn new(start: Start, locations: Arc<Locations>) -> Self {
        let first_index = locations.first_index();
        Self {
            snapshot: start.snapshot,
            catch_up_entries: start.catch_up_entries,
            first_index,
            term_before: locations.term(first_index - 1).unwrap_or(0),
            hard_state: start.hard_state,
            conf_state: start.conf_state,
            cache: VecDeque::new(),
            cache_bytes: 0,
            stable: start.last_index,
            last_index: start.last_index,
            last_term: start.last_term,
            locations,
        }
    }

    /// Appends a Ready's entries, which the WAL will write, and drops those that they overwrite.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        if first.index <= self.last_index {
            mark!(
                LogTruncate,
                0,
                last_old = self.last_index,
                last_new = first.index - 1,
                term = first.term
            );
            self.truncate(first.index);
        }
        for entry in entries {
            self.cache_bytes += cost(entry);
            self.cache.push_back(entry.clone());
        }
        let last = entries.last().expect("the slice has a first entry");
        (self.last_index, self.last_term) = (last.index, last.term);
    }

    /// Forgets the entries from `first` on.
    fn truncate(&mut self, first: u64) {
        while let Some(entry) = self.cache.pop_back_if(|entry| first <= entry.index) {
            self.cache_bytes -= cost(&entry);
        }
        self.stable = self.stable.min(first - 1);
    }

    /// The last index on this member's disk, as far as the WAL has reported.
    pub(crate) fn stable(&self) -> u64 {
        self.stable
    }

    /// Notes that the WAL has synced everything up to `index`, so the cache may drop it.
    pub(crate) fn stable_to(&mut self, index: u64) {
        self.stable = self.stable.max(index.min(self.last_index));
        while CACHE_BYTES_MAX < self.cache_bytes {
            let Some(entry) = self.cache.pop_front_if(|entry| entry.index <= self.stable) else {
                break;
            };
            self.cache_bytes -= cost(&entry);
        }
    }

    /// Sets the configuration that raft has changed to.
    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Notes a snapshot that this member has made, and drops the entries before it, except for
    /// those that slow followers may ask for, and those behind a snapshot on its way to one, whose
    /// index is `sent`. Returns false if a newer one was received meanwhile.
    pub(crate) fn snapshot_made(&mut self, made: SnapshotMetadata, sent: Option<u64>) -> bool {
        if made.index <= self.snapshot.index || made.index < self.first_index {
            return false;
        }
        let upto = made.index.saturating_sub(self.catch_up_entries);
        self.snapshot = made;
        self.compact(upto.min(sent.unwrap_or(u64::MAX)));
        true
    }

    /// Drops the entries up to `index`, which are applied.
    fn compact(&mut self, index: u64) {
        let Ok(term) = self.term(index) else { return };
        if index < self.first_index {
            return;
        }
        let first = index + 1;
        mark!(LogCompact, 0, first_old = self.first_index, first_new = first, term = term);
        (self.first_index, self.term_before) = (first, term);
        while let Some(entry) = self.cache.pop_front_if(|entry| entry.index < first) {
            self.cache_bytes -= cost(&entry);
        }
        self.locations.compact(index);
    }

    /// Takes over a snapshot that was received: the log begins behind it, and is empty.
    pub(crate) fn apply_snapshot(&mut self, received: &SnapshotMetadata) {
        let (index, term) = (received.index, received.term);
        if index < self.last_index {
            // Entries of a leader that has lost reach beyond it.
            mark!(LogTruncate, 0, last_old = self.last_index, last_new = index, term = term);
        }
        self.conf_state = received.get_conf_state().clone();
        self.snapshot = received.clone();
        (self.first_index, self.term_before) = (index + 1, term);
        (self.last_index, self.last_term, self.stable) = (index, term, index);
        self.cache.clear();
        self.cache_bytes = 0;
    }

    /// The index of the first entry.
    pub(crate) fn first_index(&self) -> u64 {
        self.first_index
    }

    /// The last index.
    pub(crate) fn last(&self) -> u64 {
        self.last_index
    }

    fn cached_from(&self) -> u64 {
        self.cache.front().map_or(self.last_index + 1, |entry| entry.index)
    }

    fn cached(&self, low: u64, high: u64, max_bytes: u64) -> Vec<Entry> {
        let skip = usize::try_from(low - self.cached_from()).expect("the cache fits in memory");
        let count = usize::try_from(high - low).expect("the cache fits in memory");
        let mut bytes = 0;
        let within = |entry: &&Entry| {
            let is_first = bytes == 0;
            bytes += size(entry).max(1);
            is_first || bytes <= max_bytes
        };
        self.cache.iter().skip(skip).take(count).take_while(within).cloned().collect()
    }
}

/// The size of an entry, as raft-rs counts it against a limit.
fn size(entry: &Entry) -> u64 {
    u64::from(protobuf::Message::compute_size(entry))
}

fn cost(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD
}

impl Storage for LogStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if self.last_index + 1 < high {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        let cached_from = self.cached_from();
        if cached_from <= low {
            return Ok(self.cached(low, high, max_bytes));
        }
        // Raft cannot replicate what it cannot read back: the disk has failed, and the member ends.
        let upto = high.min(cached_from);
        let mut entries = match self.locations.entries(low, upto, max_bytes) {
            Ok(entries) => entries,
            Err(error) => storage::fatal(&error),
        };
        // To raft-rs a short answer means that the limit was reached, so nothing else may shorten
        // it.
        let is_whole = entries.len() as u64 == upto - low;
        let taken: u64 = entries.iter().map(size).sum();
        if is_whole && upto < high && taken < max_bytes {
            let next = self.cached(upto, high, max_bytes - taken);
            let fits = next.first().is_some_and(|first| size(first) <= max_bytes - taken);
            entries.extend(next.into_iter().take_while(|_| fits));
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index + 1 == self.first_index {
            return Ok(self.term_before);
        }
        if index < self.first_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index == self.last_index {
            return Ok(self.last_term);
        }
        if self.last_index < index {
            return Err(Error::Store(StorageError::Unavailable));
        }
        if self.cached_from() <= index {
            let at = usize::try_from(index - self.cached_from()).expect("the cache fits in memory");
            return Ok(self.cache[at].term);
        }
        self.locations.term(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first_index)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.snapshot.index == 0 {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        // It only says that a snapshot is needed: the one that is sent is made when it is sent, and
        // is newer (etcd: createMergedSnapshotMessage).
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(self.snapshot.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests;
