//! Where each entry is in the segments, so that it need not stay in memory.
//!
//! ```text
//!   index      5        6        7        8
//!   term       1        1        2        2        16 bytes an entry
//!   segment    0        0        0        1
//!   offset   320      416      640       96   ──▶  a frame in that segment's file
//! ```
//!
//! The list grows when the `wal` thread has written, not when the disk has synced, so an entry read
//! here is written and perhaps not synced. Any thread may read. Reads name their offset in the
//! file, so only the list itself is locked, and only while a part of it is copied.
//!
//! A reader does not follow the checksum from record to record, which would mean to read all that
//! went before. It checks the frame, the record's form, and that index and term match the list. The
//! start has checked the rest, and later entries were written by this process.
//!
//! The list is bounded: when a snapshot is made, the places of entries that no follower will ask
//! for are dropped ([`Locations::compact`]). A segment may be removed once all its entries are
//! dropped, and a later segment has the place of the newest snapshot ([`Locations::purge`]). So a
//! reader never finds a place whose segment is gone.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use raft::eraftpb::Entry;

use super::{
    error::{Error, Reason},
    message,
    record::{self, Frame, WORD},
    segment::Name,
};
use crate::storage::disk::{File, sync_dir};

/// The most locations that are copied under the lock at a time.
const BATCH: u64 = 512;
/// The bytes of a file that are read at a time.
const READ_BYTES: u64 = 128 * 1024;
/// The bytes of entries that a scan has in memory at a time.
const SCAN_BYTES: u64 = 1 << 20;
/// The most older segments that stay open.
const HANDLES: usize = 4;

/// Where an entry's frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The raft term of the entry.
    pub(super) term: u64,
    /// The sequence number of the segment.
    pub(super) segment: u32,
    /// The offset of the frame in the segment, in bytes.
    pub(super) offset: u32,
}

/// The places of all entries that are in the log, by index.
#[derive(Debug)]
pub(super) struct List {
    /// The index of the first place; with no places, of the entry that will come first.
    first: u64,
    places: Vec<Location>,
    /// The term of the entry before the first one, if it is known.
    term_before: Option<u64>,
}

impl List {
    /// An empty list, for a log that may begin at `first`.
    pub(super) fn new(first: u64, term_before: Option<u64>) -> List {
        List { first, places: Vec::new(), term_before }
    }

    /// The first index in the list.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The last index; one less than the first if there are no entries.
    pub(super) fn last(&self) -> u64 {
        self.first + self.places.len() as u64 - 1
    }

    /// The entry's term, or that of the entry before the first one.
    pub(super) fn term(&self, index: u64) -> Option<u64> {
        if index + 1 == self.first {
            return self.term_before;
        }
        Some(self.get(index)?.term)
    }

    fn get(&self, index: u64) -> Option<&Location> {
        self.places.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Adds an entry, cutting the list back to its index first.
    pub(super) fn push(&mut self, index: u64, place: Location) {
        assert!(index <= self.last() + 1, "entry {index} must follow on {}", self.last());
        match index.checked_sub(self.first) {
            Some(keep) => self.places.truncate(keep as usize),
            None => *self = List::new(index, None),
        }
        // Doubling would leave half of a long list empty.
        if self.places.len() == self.places.capacity() {
            self.places.reserve_exact(1024 + self.places.len() / 4);
        }
        self.places.push(place);
    }

    /// Drops all entries: a snapshot at `index` replaces them.
    pub(super) fn reset(&mut self, index: u64, term: u64) {
        *self = List::new(index + 1, Some(term));
    }

    /// Sets the term of the entry before the first one.
    pub(super) fn set_term_before(&mut self, term: u64) {
        self.term_before = Some(term);
    }

    /// Drops the entries up to `index`, whose term stays known. Does nothing if they are not all
    /// there.
    pub(super) fn compact(&mut self, index: u64) {
        if index < self.first {
            return;
        }
        let Some(place) = self.get(index) else { return };
        self.term_before = Some(place.term);
        self.places.drain(..(index + 1 - self.first) as usize);
        // What a start has read may have been much more.
        self.places.shrink_to(self.places.len() + self.places.len() / 4 + 1024);
        self.first = index + 1;
    }
}

/// The location of each entry, and the files to read it from.
#[derive(Debug)]
pub struct Locations {
    dir: PathBuf,
    state: RwLock<State>,
    /// Older segments that were read from lately, the latest last.
    handles: Mutex<Vec<(u64, Arc<File>)>>,
    /// The index of the newest snapshot whose record is on the disk; 0 before the first.
    snapshot: AtomicU64,
}

#[derive(Debug)]
struct State {
    list: List,
    segments: Vec<Name>,
    /// The last segment. It is the writer's own handle, which alone sees unsynced writes when the
    /// disk is lossy.
    tail: Arc<File>,
}

impl Locations {
    pub(super) fn new(dir: &Path, list: List, segments: Vec<Name>, tail: Arc<File>) -> Locations {
        let state = RwLock::new(State { list, segments, tail });
        let (handles, snapshot) = (Mutex::new(Vec::new()), AtomicU64::new(0));
        Locations { dir: dir.to_owned(), state, handles, snapshot }
    }

    /// The first index in the log; one past the last if there are no entries.
    pub fn first_index(&self) -> u64 {
        self.state().list.first()
    }

    /// The last index that has been written to the file, or that of the snapshot before it.
    pub fn last_index(&self) -> u64 {
        self.state().list.last()
    }

    /// The entry's term. Also known for the entry just before the first one, if there is a snapshot
    /// or the log begins at index 1.
    pub fn term(&self, index: u64) -> Option<u64> {
        self.state().list.term(index)
    }

    /// The index of the newest snapshot whose record is on the disk; 0 before the first.
    pub fn snapshot(&self) -> u64 {
        self.snapshot.load(Ordering::Acquire)
    }

    /// Notes that the record of a snapshot is on the disk.
    pub(super) fn note_snapshot(&self, index: u64) {
        self.snapshot.fetch_max(index, Ordering::AcqRel);
    }

    /// Forgets where the entries up to `index` are: nobody will read them again. Only the thread
    /// that reads entries may call it.
    pub fn compact(&self, index: u64) {
        self.update(|list| list.compact(index));
    }

    /// Shows the entries from `first` to `last` to `see`, until it breaks.
    ///
    /// # Errors
    /// An entry cannot be read, or is not in the log.
    pub fn scan(
        &self,
        first: u64,
        last: u64,
        mut see: impl FnMut(&Entry) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut next = first;
        while next <= last {
            let entries = self.entries(next, last + 1, SCAN_BYTES)?;
            if entries.iter().try_for_each(&mut see).is_break() {
                break;
            }
            next += entries.len().max(1) as u64;
        }
        Ok(())
    }

    /// Removes the oldest segments, as long as there are more than `max`, none of their entries is
    /// in the list, and the next segment begins at or before the newest snapshot's index (etcd:
    /// `ReleaseLockTo`, `PurgeFile`). Returns the removed files.
    pub fn purge(&self, max: usize) -> Result<Vec<PathBuf>, Error> {
        let mut removed = Vec::new();
        while let Some(name) = self.take_oldest(max) {
            let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            handles.retain(|(sequence, _)| *sequence != name.sequence);
            drop(handles);
            let path = name.path(&self.dir);
            fail::fail_point!("wal-purge-before-remove");
            fs::remove_file(&path).map_err(Error::io("removing", &path, 0))?;
            // In order, so that a power failure leaves no gap between the segments.
            sync_dir(&self.dir).map_err(Error::io("syncing", &self.dir, 0))?;
            removed.push(path);
        }
        Ok(removed)
    }

    /// Takes the oldest segment out of the list of segments, if it may be removed.
    fn take_oldest(&self, max: usize) -> Option<Name> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let (first, snapshot) = (state.list.first(), self.snapshot());
        let [_, next, ..] = state.segments.as_slice() else { return None };
        let is_free = next.index <= first && next.index <= snapshot;
        (is_free && max < state.segments.len()).then(|| state.segments.remove(0))
    }

    /// Reads the entries from `low` up to, not including, `high`: as many as have together at most
    /// `max_bytes` of data, but at least one.
    pub fn entries(&self, low: u64, high: u64, max_bytes: u64) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let (mut bytes, mut window, mut next) = (0, None, low);
        while next < high {
            for place in self.places(next, high)? {
                let entry = self.read(&mut window, next, place)?;
                bytes += entry.data.len() as u64;
                if max_bytes < bytes && !entries.is_empty() {
                    return Ok(entries);
                }
                entries.push(entry);
                next += 1;
            }
        }
        Ok(entries)
    }

    /// Copies some places from `low` on, all of them below `high`.
    fn places(&self, low: u64, high: u64) -> Result<Vec<Location>, Error> {
        let state = self.state();
        let (first, last) = (state.list.first(), state.list.last());
        if low < first || last + 1 < high {
            return Err(Error::OutOfRange { low, high, first, last });
        }
        let start = (low - first) as usize;
        let count = (high - low).min(BATCH) as usize;
        Ok(state.list.places[start..start + count].to_vec())
    }

    /// Reads one entry, from what the window has of its segment if possible.
    fn read(
        &self,
        window: &mut Option<Window>,
        index: u64,
        place: Location,
    ) -> Result<Entry, Error> {
        let segment = u64::from(place.segment);
        let window = match window {
            Some(window) if window.segment == segment => window,
            _ => window.insert(Window::new(segment, self.file(segment)?)),
        };
        let entry = window.entry(u64::from(place.offset))?;
        if entry.index != index || entry.term != place.term {
            return Err(window.corrupt(place.offset, Reason::OtherEntry));
        }
        Ok(entry)
    }

    /// A handle on a segment.
    fn file(&self, sequence: u64) -> Result<Arc<File>, Error> {
        let path = {
            let state = self.state();
            let of = state.segments.iter().find(|name| name.sequence == sequence);
            let name = of.expect("a place names a segment of the list");
            if state.segments.last() == Some(name) {
                return Ok(Arc::clone(&state.tail));
            }
            name.path(&self.dir)
        };
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = match handles.iter().position(|(number, _)| *number == sequence) {
            Some(at) => handles.remove(at).1,
            None => Arc::new(File::open_read_only(&path).map_err(Error::io("opening", &path, 0))?),
        };
        handles.push((sequence, Arc::clone(&handle)));
        if HANDLES < handles.len() {
            handles.remove(0);
        }
        Ok(handle)
    }

    /// Changes the list, in one step for all readers.
    pub(super) fn update(&self, change: impl FnOnce(&mut List)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner).list);
    }

    /// Adds a segment, which is the last one from now on.
    pub(super) fn add_segment(&self, name: Name, tail: Arc<File>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.segments.push(name);
        state.tail = tail;
    }

    /// The list is changed entry by entry, so a panic leaves it shorter, but valid.
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a segment, in memory while its entries are read.
struct Window {
    segment: u64,
    file: Arc<File>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(segment: u64, file: Arc<File>) -> Window {
        Window { segment, file, start: 0, bytes: Vec::new() }
    }

    fn entry(&mut self, offset: u64) -> Result<Entry, Error> {
        let word = self.at(offset, WORD)?.try_into().expect("eight bytes were asked for");
        let frame = Frame::new(word);
        if !frame.is_canonical() || record::SIZE_LIMIT <= frame.size {
            return Err(self.corrupt(offset, Reason::Length));
        }
        let bytes = self.at(offset + WORD, frame.size)?;
        let record = record::parse(bytes);
        let entry = record.map(|record| match record.kind {
            record::Kind::Entry => record.data.and_then(message::entry),
            _ => None,
        });
        match entry {
            Ok(Some(entry)) => Ok(entry),
            Ok(None) => Err(self.corrupt(offset, Reason::Entry)),
            Err(reason) => Err(self.corrupt(offset, reason)),
        }
    }

    /// The bytes at an offset, read from the file if they are not here.
    fn at(&mut self, offset: u64, len: u64) -> Result<&[u8], Error> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || end < offset + len {
            // A length from a damaged file must not decide how much memory is used.
            let of_file = self.file.len().map_err(Error::io("measuring", self.file.path(), 0))?;
            if of_file.saturating_sub(offset) < len {
                return Err(Error::corrupt(self.file.path(), offset, Reason::Short));
            }
            self.bytes.resize(len.max(READ_BYTES) as usize, 0);
            let read = self.file.read_at(&mut self.bytes, offset);
            let count = read.map_err(Error::io("reading", self.file.path(), offset))?;
            self.bytes.truncate(count);
            self.start = offset;
        }
        let at = (offset - self.start) as usize;
        match self.bytes.get(at..at + len as usize) {
            Some(bytes) => Ok(bytes),
            None => Err(Error::corrupt(self.file.path(), offset, Reason::Short)),
        }
    }

    fn corrupt(&self, offset: impl Into<u64>, reason: Reason) -> Error {
        Error::corrupt(self.file.path(), offset.into(), reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(term: u64) -> Location {
        Location { term, segment: 0, offset: 0 }
    }

    #[test]
    fn a_place_costs_sixteen_bytes() {
        assert_eq!(size_of::<Location>(), 16);
    }

    #[test]
    fn an_index_seen_before_cuts_the_list_back() {
        let mut list = List::new(1, Some(0));
        for (index, term) in [(1, 1), (2, 1), (3, 1), (2, 2)] {
            list.push(index, place(term));
        }
        assert_eq!((list.first(), list.last()), (1, 2));
        assert_eq!([0, 1, 2, 3].map(|index| list.term(index)), [Some(0), Some(1), Some(2), None]);
    }

    #[test]
    fn a_snapshot_takes_the_place_of_all_entries() {
        let mut list = List::new(1, Some(0));
        list.push(1, place(1));
        list.reset(9, 4);
        assert_eq!((list.first(), list.last(), list.term(9)), (10, 9, Some(4)));
        list.push(10, place(4));
        assert_eq!((list.first(), list.last(), list.term(8)), (10, 10, None));
    }

    #[test]
    fn a_compacted_list_still_knows_the_term_of_its_last_dropped_entry() {
        let mut list = List::new(1, Some(0));
        for (index, term) in [(1, 1), (2, 1), (3, 2), (4, 3)] {
            list.push(index, place(term));
        }
        list.compact(3);
        assert_eq!((list.first(), list.last()), (4, 4));
        assert_eq!([2, 3, 4].map(|index| list.term(index)), [None, Some(2), Some(3)]);
        for beyond in [0, 2, 5, 9] {
            list.compact(beyond);
            assert_eq!(list.first(), 4, "{beyond}");
        }
        list.compact(4);
        assert_eq!((list.first(), list.last(), list.term(4)), (5, 4, Some(3)));
        list.push(5, place(4));
        assert_eq!((list.last(), list.term(5)), (5, Some(4)));
    }

    #[test]
    #[should_panic(expected = "must follow on")]
    fn a_gap_is_refused() {
        List::new(1, None).push(3, place(1));
    }
}
