use std::{os::unix::fs::symlink, thread, time::Duration};

use super::*;
use crate::{clock, trace::log_lines::LogLines};

const LEN: u64 = 4096;

/// Saves entries of 200 bytes from `first` on, until `is_enough` for the last one's index.
fn save_until(wal: &mut Wal, first: u64, mut is_enough: impl FnMut(u64) -> bool) -> u64 {
    for index in first.. {
        wal.save(&[entry(index, 1, 200)], Some(&state(1, 1, index)), true).unwrap();
        if is_enough(index) {
            return index;
        }
    }
    unreachable!()
}

/// Goal: a next segment that cannot be made costs nothing but length. Method: a directory stands
/// where the file should be made, which not even root can write to.
#[test]
fn while_the_next_segment_cannot_be_prepared_the_present_one_grows() {
    let log = Log::new();
    let (mut wal, locations) = create(&log.dir, &METADATA, &options(LEN)).unwrap();
    let (told, obstacle) = (LogLines::default(), log.dir.join("1.tmp"));
    fs::create_dir(&obstacle).unwrap();
    let length = || fs::metadata(&log.segments()[0]).unwrap().len();
    let grown = told.while_in(|| save_until(&mut wal, 1, |_| 5 * LEN < length()));
    assert_eq!(log.segments().len(), 1);
    assert_eq!(told.count("the log's next segment cannot be prepared"), 1);
    assert_eq!(told.count("creating failed: "), 1 + told.count("still has no next segment"));
    assert_eq!(told.count("Is a directory"), 1 + told.count("still has no next segment"));
    // From half of its length on: once, and again when it has doubled twice since.
    assert_eq!(told.count("still has no next segment"), 2);
    assert_eq!(locations.entries(1, grown + 1, u64::MAX).unwrap(), entries(1, grown + 1, 1, 200));
    fs::remove_dir(&obstacle).unwrap();
    let start = clock::now();
    let last = told.while_in(|| {
        save_until(&mut wal, grown + 1, |_| {
            assert!(clock::now() - start < Duration::from_secs(30), "it is never tried again");
            thread::sleep(Duration::from_millis(10));
            3 == log.segments().len()
        })
    });
    assert_eq!(told.count("the log has its next segment after all"), 1);
    let all = entries(1, last + 1, 1, 200);
    assert_eq!(locations.entries(1, last + 1, u64::MAX).unwrap(), all);
    drop((wal, locations));
    let (recovered, read) = log.read(LEN).unwrap();
    assert_eq!((read, recovered.hard_state), (all, state(1, 1, last)));
}

/// Goal: a log that ended in the middle of that opens, and accepts saves. Method: as above, without
/// removing the obstacle until the log is closed.
#[test]
fn a_segment_that_has_grown_is_opened_and_followed_by_the_next() {
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(LEN)).unwrap();
    fs::create_dir(log.dir.join("1.tmp")).unwrap();
    let last = save_until(&mut wal, 1, |index| index == 100);
    drop(wal);
    fs::remove_dir(log.dir.join("1.tmp")).unwrap();
    let grown = fs::read(&log.segments()[0]).unwrap();
    assert_eq!((log.read(LEN).unwrap().1, log.segments().len()), (entries(1, 101, 1, 200), 1));
    let (mut wal, ..) = open(&log.dir, &options(LEN)).unwrap();
    save_until(&mut wal, last + 1, |index| index == 120);
    drop(wal);
    assert_eq!(
        (log.read(LEN).unwrap().1, 1 < log.segments().len()),
        (entries(1, 121, 1, 200), true)
    );
    // Its records are what they were, with those of the save that ended it behind them.
    assert!(fs::read(&log.segments()[0]).unwrap().starts_with(&grown));
}

/// Goal: a prepared file that cannot be renamed is deleted. Method: a directory with something in
/// it has the name.
#[test]
fn a_segment_that_cannot_be_renamed_is_prepared_anew() {
    let log = Log::new();
    let (mut wal, locations) = create(&log.dir, &METADATA, &options(LEN)).unwrap();
    // All names that the second segment may get.
    let names = (1..100).map(|index| Name { sequence: 1, index }.path(&log.dir));
    let names: Vec<PathBuf> = names.collect();
    for name in &names {
        fs::create_dir_all(name.join("x")).unwrap();
    }
    let told = LogLines::default();
    let grown = told.while_in(|| save_until(&mut wal, 1, |index| index == 25));
    assert_eq!((told.count("cannot be prepared"), told.count("renaming failed")), (1, 1));
    names.iter().for_each(|name| fs::remove_dir_all(name).unwrap());
    let start = clock::now();
    let last = save_until(&mut wal, grown + 1, |_| {
        assert!(clock::now() - start < Duration::from_secs(30), "it is never tried again");
        thread::sleep(Duration::from_millis(10));
        2 == log.segments().len()
    });
    let all = entries(1, last + 1, 1, 200);
    assert_eq!(locations.entries(1, last + 1, u64::MAX).unwrap(), all);
    drop((wal, locations));
    assert_eq!(log.read(LEN).unwrap().1, all);
}

#[test]
fn a_dropped_log_leaves_no_prepared_segment() {
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(LEN)).unwrap();
    let prepared = log.dir.join("1.tmp");
    // Ten entries are more than half a segment, and less than one.
    save_until(&mut wal, 1, |index| index == 10);
    assert_eq!(log.segments().len(), 1);
    let start = clock::now();
    while !prepared.exists() {
        assert!(clock::now() - start < Duration::from_secs(30), "half a segment is enough");
        thread::sleep(Duration::from_millis(1));
    }
    drop(wal);
    assert!(!prepared.exists());
}

/// Goal: only a directory that is not there, or has no segment, has no log.
#[test]
fn a_directory_that_cannot_be_read_is_not_one_without_a_log() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    assert!(!exists(&at("missing")).unwrap());
    assert!(!exists(temp.path()).unwrap());
    fs::write(at("file"), "").unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    for name in ["file", "file/below", "loop", &"n".repeat(300)] {
        let error = exists(&at(name)).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if *path == at(name)), "{error}");
        assert!(create(&at(name), &METADATA, &options(LEN)).is_err(), "{name}");
    }
}

#[test]
fn a_directory_in_which_no_segment_can_be_made_is_refused_at_the_start() {
    let log = Log::new();
    drop(create(&log.dir, &METADATA, &options(LEN)).unwrap());
    assert_eq!(fs::read_dir(&log.dir).unwrap().count(), 1, "the probe is gone");
    let gone = segment::check_writable(&log.dir.join("below")).unwrap_err();
    assert!(matches!(gone, Error::Io { operation: "creating", .. }), "{gone}");
    fs::create_dir(log.dir.join("probe.tmp")).unwrap();
    assert!(matches!(log.read(LEN), Err(Error::Io { .. })));
}

#[test]
fn a_segment_is_not_prepared_where_there_is_no_room_for_it() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("1.tmp");
    let error = segment::prepare(&path, u64::MAX).unwrap_err();
    let text = crate::storage::with_causes(&error);
    assert!(text.contains("1.tmp") && text.contains("No space left on device"), "{text}");
    assert!(!path.exists());
}
