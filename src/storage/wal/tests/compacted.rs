//! A log that snapshots have made shorter: its list, its segments, and what a start reads of it.

use super::*;

const LEN: u64 = 4096;

fn place(index: u64, term: u64) -> walpb::Snapshot {
    walpb::Snapshot { index: Some(index), term: Some(term), conf_state: None }
}

/// A log with entries 1 to 200, about 30 in a segment, and a snapshot at 150.
fn long(log: &Log) -> (Wal, std::sync::Arc<Locations>) {
    let (mut wal, locations) = create(&log.dir, &METADATA, &options(LEN)).unwrap();
    for index in 1..=200 {
        wal.save(&[entry(index, 1, 100)], Some(&state(1, 1, index)), true).unwrap();
        if index == 160 {
            wal.save_snapshot(&place(150, 1));
        }
    }
    (wal, locations)
}

#[test]
fn segments_are_removed_only_when_neither_a_follower_nor_a_start_needs_them() {
    let log = Log::new();
    let (wal, locations) = long(&log);
    let all = log.segments();
    assert!(5 < all.len(), "{all:?}");
    assert_eq!(locations.snapshot(), 150);
    assert!(locations.purge(1).unwrap().is_empty(), "the list still has all entries");
    locations.compact(100);
    assert!(locations.purge(all.len()).unwrap().is_empty(), "there are not too many");
    let one = locations.purge(all.len() - 1).unwrap();
    assert_eq!(one, all[..1]);
    locations.purge(1).unwrap();
    assert_eq!(locations.entries(101, 201, u64::MAX).unwrap(), entries(101, 201, 1, 100));
    let out = locations.entries(100, 201, u64::MAX).unwrap_err();
    assert!(matches!(out, Error::OutOfRange { first: 101, .. }), "{out}");
    // Without the followers' entries, those before the snapshot's record go, and no more.
    locations.compact(190);
    locations.purge(1).unwrap();
    let left = log.segments();
    assert!(2 <= left.len() && left.len() < all.len(), "{left:?}");
    drop((wal, locations));
    let (recovered, read) = log.read(LEN).unwrap();
    assert_eq!(recovered.snapshot, place(150, 1));
    assert!(recovered.first_index <= 151, "{}", recovered.first_index);
    assert_eq!(read, entries(recovered.first_index, 201, 1, 100));
}

#[test]
fn a_start_reads_only_from_the_segment_that_it_needs() {
    let log = Log::new();
    drop(long(&log));
    let damaged = &log.segments()[0];
    let mut bytes = fs::read(damaged).unwrap();
    bytes[300] ^= 1;
    fs::write(damaged, bytes).unwrap();
    assert!(log.read(LEN).is_err(), "the first segment is damaged");
    let (mut wal, locations, recovered) = open_at(&log.dir, &options(LEN), 140).unwrap();
    assert_eq!((&recovered.snapshot, recovered.last_index), (&place(150, 1), 200));
    assert_eq!(recovered.snapshots, [place(150, 1)]);
    let first = recovered.first_index;
    assert!((2..=140).contains(&first) && first == locations.first_index(), "{first}");
    assert_eq!(locations.term(first - 1), Some(1), "raft needs it");
    wal.save(&[entry(201, 2, 100)], Some(&state(2, 1, 200)), true).unwrap();
    assert_eq!(locations.entries(first, 201, u64::MAX).unwrap(), entries(first, 201, 1, 100));
}

/// Goal: entries of a lost leader that reach beyond a received snapshot never come back. Method:
/// the log has entries up to 9 of term 1, and a snapshot of entry 5 in term 3 comes.
#[test]
fn a_received_snapshot_takes_the_place_of_entries_that_reach_beyond_it() {
    for later in [vec![], entries(6, 8, 3, 10)] {
        let log = Log::new();
        let (mut wal, locations) = create(&log.dir, &METADATA, &options(LEN)).unwrap();
        wal.save(&entries(1, 10, 1, 10), Some(&state(1, 1, 3)), true).unwrap();
        let last = 5 + later.len() as u64;
        wal.save_received(&place(5, 3), &later, &state(3, 0, last));
        assert_eq!((locations.first_index(), locations.last_index()), (6, last));
        assert_eq!((locations.term(5), locations.term(9)), (Some(3), None));
        drop((wal, locations));
        let (recovered, read) = log.read(LEN).unwrap();
        assert_eq!((recovered.first_index, recovered.last_index), (6, last));
        assert_eq!((recovered.last_term, recovered.hard_state.commit), (3, last));
        assert_eq!(read, later);
    }
}

/// Goal: a write that is torn anywhere leaves the old log or the new one. Method: the record of a
/// received snapshot, with entries behind it, is cut at each byte.
#[test]
fn a_torn_record_of_a_received_snapshot_leaves_the_old_log_or_the_new_one() {
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(LEN)).unwrap();
    wal.save(&entries(1, 10, 1, 10), Some(&state(1, 1, 3)), true).unwrap();
    let start = wal.end();
    wal.save_received(&place(50, 3), &entries(51, 53, 3, 10), &state(3, 0, 51));
    let end = wal.end();
    drop(wal);
    let path = log.segments().remove(0);
    let whole = fs::read(&path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for cut in start..=end {
        fs::write(&path, &whole[..cut as usize]).unwrap();
        let (recovered, read) = log.read(LEN).unwrap();
        let (first, commit) = (recovered.first_index, recovered.hard_state.commit);
        match first {
            1 => assert_eq!((read.len(), commit), (9, 3), "cut at {cut}"),
            51 => assert!([50, 51].contains(&commit) && read.len() <= 2, "cut at {cut}"),
            other => panic!("cut at {cut}: the log begins at {other}"),
        }
        seen.insert((first, recovered.last_index));
        for broken in fs::read_dir(&log.dir).unwrap() {
            let broken = broken.unwrap().path();
            if broken != path {
                fs::remove_file(broken).unwrap();
            }
        }
    }
    let expected = [(1, 9), (51, 50), (51, 51), (51, 52)];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}
