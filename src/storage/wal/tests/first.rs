//! The first start: a log comes to be in a directory as it is, whole or not at all.

use std::{
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::*;

/// Goal: a log is made in a directory that others use too, or that is a mount point. Method: what
/// volumes, packages and killed etcds leave there; the directory must not be exchanged for another.
#[test]
fn a_directory_without_segments_becomes_a_log_and_keeps_its_files() {
    let log = Log::new();
    fs::create_dir_all(log.dir.join("lost+found")).unwrap();
    fs::create_dir(log.dir.join("old.tmp")).unwrap();
    for file in [".keep", "0.tmp", "1.tmp", "01.tmp", "notes.tmp", "x.wal.broken"] {
        fs::write(log.dir.join(file), "left").unwrap();
    }
    let inode = fs::metadata(&log.dir).unwrap().ino();
    assert!(!exists(&log.dir).unwrap());
    let (mut wal, _) = create(&log.dir, &METADATA, &options(4096)).unwrap();
    wal.save(&[entry(1, 1, 10)], Some(&state(1, 1, 1)), true).unwrap();
    drop(wal);
    assert_eq!(log.read(4096).unwrap().1, [entry(1, 1, 10)]);
    assert_eq!(fs::metadata(&log.dir).unwrap().ino(), inode);
    for kept in ["lost+found", "old.tmp", ".keep", "01.tmp", "notes.tmp", "x.wal.broken"] {
        assert!(log.dir.join(kept).exists(), "{kept}");
    }
    for unfinished in ["0.tmp", "1.tmp", "probe.tmp"] {
        assert!(!log.dir.join(unfinished).exists(), "{unfinished}");
    }
    let beside = fs::read_dir(log.dir.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 1, "nothing is made beside the directory");
}

/// Goal: a member whose segments were renamed does not vote as if it had never voted.
#[test]
fn a_segment_with_another_name_is_no_new_beginning() {
    let log = Log::new();
    drop(create(&log.dir, &METADATA, &options(4096)).unwrap());
    fs::rename(&log.segments()[0], log.dir.join("copy.wal")).unwrap();
    assert!(exists(&log.dir).unwrap());
    assert!(matches!(create(&log.dir, &METADATA, &options(4096)), Err(Error::Exists(_))));
    assert!(matches!(open(&log.dir, &options(4096)), Err(Error::Missing(_))));
}

/// Goal: wherever a first start ends, there is no log, or a whole one. Method: it ends at each
/// step, on a disk that loses what was not synced; the next start does what a member does.
#[test]
fn a_first_start_that_is_cut_short_leaves_no_log_or_a_whole_one() {
    alone(
        "storage::wal::tests::first::a_first_start_that_is_cut_short_leaves_no_log_or_a_whole_one",
        || {
            fail::cfg("disk-lossy", "return").unwrap();
            for (step, has_log) in [("begun", false), ("unnamed", false), ("named", true)] {
                let log = Log::new();
                let point = format!("wal-first-segment-{step}");
                for _ in 0..2 {
                    fail::cfg(&point, "panic").unwrap();
                    let first = || create(&log.dir, &METADATA, &options(4096)).map(drop);
                    let ended = catch_unwind(AssertUnwindSafe(first));
                    fail::remove(&point);
                    // The second time, a named log is already there.
                    assert!(matches!(ended, Err(_) | Ok(Err(Error::Exists(_)))), "{step}");
                    assert_eq!(exists(&log.dir).unwrap(), has_log, "{step}");
                }
                if !has_log {
                    assert!(matches!(open(&log.dir, &options(4096)), Err(Error::Missing(_))));
                    drop(create(&log.dir, &METADATA, &options(4096)).unwrap());
                }
                let (mut wal, _, recovered) = open(&log.dir, &options(4096)).unwrap();
                assert_eq!((recovered.metadata, recovered.last_index), (METADATA, 0), "{step}");
                wal.save(&[entry(1, 1, 10)], Some(&state(1, 1, 1)), true).unwrap();
                drop(wal);
                assert_eq!(log.read(4096).unwrap().1, [entry(1, 1, 10)], "{step}");
            }
        },
    );
}
