//! The log storage by itself: what stays in the cache, and what a new leader overwrites.

use super::*;
use crate::storage::wal::{Metadata, Options, Wal, create};

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    Entry { index, term, data: vec![7; bytes].into(), ..Entry::default() }
}

struct Fixture {
    log: LogStorage,
    wal: Wal,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata { node_id: 1, cluster_id: 2 };
        let (wal, locations) =
            create(&dir.path().join("wal"), &metadata, &Options::default()).unwrap();
        let start = Start { catch_up_entries: 3, ..Start::default() };
        Self { log: LogStorage::new(start, locations), wal, _dir: dir }
    }

    /// Appends in memory and in the file.
    fn append(&mut self, entries: &[Entry]) {
        self.log.append(entries);
        self.wal.save(entries, None, true).unwrap();
    }

    fn terms(&self, low: u64, high: u64) -> Vec<(u64, u64)> {
        let mut terms = Vec::new();
        let mut next = low;
        while next < high {
            let entries =
                self.log.entries(next, high, None, GetEntriesContext::empty(false)).unwrap();
            assert!(!entries.is_empty());
            next += entries.len() as u64;
            terms.extend(entries.iter().map(|entry| (entry.index, entry.term)));
        }
        terms
    }
}

#[test]
fn entries_that_a_new_leader_overwrites_are_dropped() {
    let mut fixture = Fixture::new();
    fixture.append(&[entry(1, 1, 10), entry(2, 1, 10), entry(3, 1, 10)]);
    fixture.log.stable_to(3);
    fixture.append(&[entry(2, 2, 10)]);
    assert_eq!(fixture.terms(1, 3), [(1, 1), (2, 2)]);
    assert_eq!(fixture.log.last_index().unwrap(), 2);
    assert_eq!(fixture.log.term(2).unwrap(), 2);
    assert!(fixture.log.term(3).is_err());
}

#[test]
fn entries_that_left_the_cache_are_read_back_from_the_segments() {
    let mut fixture = Fixture::new();
    let count = 40;
    let entries: Vec<Entry> = (1..=count).map(|index| entry(index, 1, 1 << 20)).collect();
    for entry in &entries {
        fixture.append(std::slice::from_ref(entry));
    }
    fixture.log.stable_to(count);
    assert!(fixture.log.cache_bytes <= CACHE_BYTES_MAX);
    assert!(1 < fixture.log.cached_from());
    let expected: Vec<(u64, u64)> = (1..=count).map(|index| (index, 1)).collect();
    assert_eq!(fixture.terms(1, count + 1), expected);
    assert_eq!(fixture.log.term(1).unwrap(), 1);
}

#[test]
fn entries_that_are_not_on_disk_stay_in_the_cache_however_many_there_are() {
    let mut fixture = Fixture::new();
    let entries: Vec<Entry> = (1..=40).map(|index| entry(index, 1, 1 << 20)).collect();
    fixture.log.append(&entries);
    fixture.log.stable_to(3);
    assert_eq!(fixture.log.cached_from(), 4);
}

#[test]
fn a_read_returns_one_entry_even_when_it_is_larger_than_the_limit() {
    let mut fixture = Fixture::new();
    fixture.append(&[entry(1, 1, 100), entry(2, 1, 100)]);
    let context = GetEntriesContext::empty(false);
    assert_eq!(fixture.log.entries(1, 3, 10, context).unwrap().len(), 1);
}

#[test]
fn a_range_that_begins_on_disk_and_ends_in_the_cache_is_read_whole() {
    let mut fixture = Fixture::new();
    let entries: Vec<Entry> = (1..=12).map(|index| entry(index, 1, 1 << 20)).collect();
    fixture.append(&entries);
    fixture.log.stable_to(12);
    let cached_from = fixture.log.cached_from();
    assert!((2..=12).contains(&cached_from), "{cached_from}");
    let read = |limit: Option<u64>| {
        fixture.log.entries(1, 13, limit, GetEntriesContext::empty(false)).unwrap().len() as u64
    };
    assert_eq!(12, read(None), "a short answer would mean that a limit was reached");
    assert_eq!(1, read(Some(0)));
    let mebibytes = |count: u64| count * ((1 << 20) + 64);
    for limit in 1..=12 {
        assert_eq!(limit, read(Some(mebibytes(limit))), "{limit} MiB");
    }
}

fn metadata(index: u64, term: u64) -> SnapshotMetadata {
    SnapshotMetadata { index, term, ..SnapshotMetadata::default() }
}

#[test]
fn a_snapshot_drops_the_entries_before_it_but_for_those_that_followers_may_ask_for() {
    let mut fixture = Fixture::new();
    let entries: Vec<Entry> = (1..=20).map(|index| entry(index, 1 + index / 10, 10)).collect();
    fixture.append(&entries);
    fixture.log.stable_to(20);
    let needs = fixture.log.snapshot(0, 2).unwrap_err();
    assert_eq!(needs, Error::Store(StorageError::SnapshotTemporarilyUnavailable));
    assert!(fixture.log.snapshot_made(metadata(13, 2), None));
    // Three before the snapshot stay.
    assert_eq!(fixture.log.first_index(), 11);
    assert_eq!([10, 11, 20].map(|index| fixture.log.term(index).unwrap()), [2, 2, 3]);
    assert_eq!(fixture.log.term(9), Err(Error::Store(StorageError::Compacted)));
    let context = GetEntriesContext::empty(false);
    let dropped = fixture.log.entries(10, 12, None, context).unwrap_err();
    assert_eq!(dropped, Error::Store(StorageError::Compacted));
    assert_eq!(fixture.terms(11, 21).len(), 10);
    assert_eq!(fixture.log.locations.first_index(), 11);
    assert_eq!(fixture.log.snapshot(0, 2).unwrap().get_metadata(), &metadata(13, 2));
    assert!(!fixture.log.snapshot_made(metadata(13, 2), None), "it is not newer");
}

#[test]
fn entries_behind_a_snapshot_on_its_way_stay() {
    let mut fixture = Fixture::new();
    let entries: Vec<Entry> = (1..=20).map(|index| entry(index, 1, 10)).collect();
    fixture.append(&entries);
    fixture.log.stable_to(20);
    assert!(fixture.log.snapshot_made(metadata(19, 1), Some(5)));
    assert_eq!(fixture.log.first_index(), 6);
    // The next one makes up for it.
    fixture.append(&[entry(21, 1, 10)]);
    fixture.log.stable_to(21);
    assert!(fixture.log.snapshot_made(metadata(21, 1), None));
    assert_eq!(fixture.log.first_index(), 19);
}

#[test]
fn a_received_snapshot_takes_the_place_of_the_log() {
    let mut fixture = Fixture::new();
    fixture.append(&[entry(1, 1, 10), entry(2, 1, 10), entry(3, 1, 10)]);
    fixture.log.apply_snapshot(&metadata(2, 4));
    assert_eq!(fixture.log.first_index(), 3);
    assert_eq!(fixture.log.last_index().unwrap(), 2);
    assert_eq!(fixture.log.term(2).unwrap(), 4);
    assert_eq!(fixture.log.term(3), Err(Error::Store(StorageError::Unavailable)));
    fixture.log.append(&[entry(3, 4, 10)]);
    assert_eq!(fixture.terms(3, 4), [(3, 4)]);
    assert!(!fixture.log.snapshot_made(metadata(2, 4), None), "the received one is as new");
}
