//! A copy of a log has what the disk had at a moment: nothing less, and nothing that came later.

use super::*;

const OTHER: Metadata = Metadata { node_id: METADATA.node_id, cluster_id: 0x5678 };

/// Copies the log up to there, and reads the copy.
fn copied(log: &Log, until: Until) -> Result<(Copied, Recovered, Vec<Entry>), Error> {
    let to = Log::new();
    let double =
        |entry: &mut Entry| entry.data = [&entry.data[..], &entry.data[..]].concat().into();
    let copied = copy((&log.dir, &to.dir), &until, |_| OTHER, double)?;
    let (recovered, entries) = to.read(64_000)?;
    Ok((copied, recovered, entries))
}

fn until(synced: u64, term: u64, vote: u64) -> Until {
    Until { synced, term, vote: Some(vote), next: None }
}

/// Entries 1 to 3 of term 1, a vote in term 2, entry 3 replaced in term 2, entry 4.
fn log() -> (Log, Vec<u64>) {
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(64_000)).unwrap();
    let mut ends = vec![wal.end()];
    let steps: [(&[Entry], Option<HardState>); 5] = [
        (&entries(1, 4, 1, 10), Some(state(1, 7, 1))),
        (&[], Some(state(1, 7, 2))),
        (&[], Some(state(2, 8, 2))),
        (&entries(3, 4, 2, 10), None),
        (&entries(4, 5, 2, 10), Some(state(2, 8, 4))),
    ];
    for (entries, state) in steps {
        wal.save(entries, state.as_ref(), true).unwrap();
        ends.push(wal.end());
    }
    (log, ends)
}

#[test]
fn it_ends_with_what_was_synced() {
    let (log, _) = log();
    let (end, recovered, found) = copied(&log, until(3, 1, 7)).unwrap();
    assert_eq!((end.last_index, end.last_term, end.hard_state.clone()), (3, 1, state(1, 7, 1)));
    assert_eq!(recovered.hard_state, state(1, 7, 1), "the commit index was not synced");
    assert_eq!(recovered.metadata, OTHER);
    assert_eq!(found.iter().map(|entry| entry.data.len()).collect::<Vec<_>>(), [20; 3]);
    let (end, ..) = copied(&log, until(3, 2, 8)).unwrap();
    assert_eq!(end.terms, [(1, 1), (3, 2)]);
    assert_eq!([0, 2, 3, 4].map(|index| end.term(index)), [None, Some(1), Some(2), None]);
    assert_eq!((end.last_term, end.hard_state), (2, state(2, 8, 2)), "the vote was");
    let (end, ..) = copied(&log, until(4, 2, 8)).unwrap();
    assert_eq!((end.last_index, end.last_term), (4, 2));
    let (end, ..) = copied(&log, until(2, 1, 7)).unwrap();
    assert_eq!((end.last_index, end.hard_state), (2, HardState::default()));
}

#[test]
fn a_vote_that_came_later_is_left_out() {
    let (log, _) = log();
    for (vote, term) in [(Some(0), 1), (Some(7), 1), (None, 1)] {
        let until = Until { synced: 3, term, vote, next: None };
        let (end, ..) = copied(&log, until).unwrap();
        assert!(end.hard_state.term <= 1, "{vote:?}: {:?}", end.hard_state);
    }
    let (end, ..) = copied(&log, Until { synced: 3, term: 2, vote: Some(9), next: None }).unwrap();
    assert_eq!(end.hard_state, state(1, 7, 1), "it voted for nobody else");
}

#[test]
fn where_the_next_write_began_decides_between_an_entry_and_the_one_that_replaced_it() {
    let (log, ends) = log();
    let at = |step: usize| Until { next: Some((0, ends[step])), ..until(3, 2, 8) };
    let (end, ..) = copied(&log, at(3)).unwrap();
    assert_eq!((end.last_index, end.last_term), (3, 1));
    let (end, ..) = copied(&log, at(4)).unwrap();
    assert_eq!((end.last_index, end.last_term), (3, 2));
}

#[test]
fn it_crosses_segments_and_copies_while_the_log_grows() {
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(2_000)).unwrap();
    for index in 1..60 {
        wal.save(&entries(index, index + 1, 1, 100), Some(&state(1, 7, index)), true).unwrap();
    }
    assert!(2 < log.segments().len());
    let (end, _, found) = copied(&log, until(50, 1, 7)).unwrap();
    assert_eq!((end.last_index, found.len()), (50, 50));
    assert_eq!(owner(&log.dir).unwrap(), METADATA);
}

#[test]
fn what_cannot_be_copied_says_why() {
    let (log, _) = log();
    let error = copied(&log, until(9, 2, 8)).unwrap_err();
    assert!(matches!(error, Error::Behind { synced: 9, last: 4, .. }), "{error}");
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(2_000)).unwrap();
    for index in 1..60 {
        wal.save(&entries(index, index + 1, 1, 100), None, true).unwrap();
    }
    fs::remove_file(&log.segments()[0]).unwrap();
    let error = copied(&log, until(50, 1, 7)).unwrap_err();
    assert!(matches!(error, Error::Purged(_)), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(owner(empty.path()).unwrap_err(), Error::Missing(_)));
}
