//! Defragmentations and copies: what is in them, who can go on meanwhile, what a crash leaves.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::storage::{
    backend::{Bucket, Options},
    own_process::alone,
};

/// A backend with a hundred rows of the key bucket, of which all but ten have been deleted again.
fn with_free_pages(folder: &Path) -> Arc<Backend> {
    let options =
        Options { batch_interval: std::time::Duration::from_secs(3600), ..Options::default() };
    let backend = Backend::open(&folder.join("db"), options).unwrap();
    for index in 1..=100_u64 {
        let mut guard = backend.write();
        guard.put(Bucket::Key, &row(index), Bytes::from(vec![7; 9000]));
        guard.set_applied(index, 3, i64::try_from(index).unwrap());
    }
    backend.commit_now();
    let mut guard = backend.write();
    (11..=100).for_each(|index| guard.delete(Bucket::Key, &row(index)));
    guard.set_applied(101, 3, 101);
    drop(guard);
    backend.commit_now();
    backend
}

fn row(index: u64) -> [u8; 17] {
    let mut key = [b'_'; 17];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key
}

fn rows(backend: &Backend) -> Vec<(Bytes, Bytes)> {
    backend.range(Bucket::Key, &[], None, 0)
}

#[test]
fn a_defragmentation_gives_back_what_deleted_rows_took_and_keeps_the_others() {
    let folder = TempDir::new().unwrap();
    let backend = with_free_pages(folder.path());
    let (hash, before, size) = (backend.hash(), rows(&backend), backend.size());
    let done = backend.defragment().unwrap();
    assert_eq!(done, Defragmented { before: size, after: backend.size() });
    assert!(done.after * 4 < done.before, "{done:?}");
    assert!(done.after - backend.size_in_use() < 64 << 10, "{done:?}");
    assert_eq!((backend.hash(), rows(&backend)), (hash, before.clone()));
    // It is the file that later commits go to, and that a restart finds.
    backend.write().put(Bucket::Key, &row(200), Bytes::from_static(b"later"));
    backend.write().set_applied(102, 3, 102);
    backend.stop();
    drop(backend);
    let again = Backend::open(&folder.path().join("db"), Options::default()).unwrap();
    assert_eq!(again.consistent_index(), (102, 3));
    assert_eq!(rows(&again).len(), before.len() + 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the database is left");
}

#[test]
fn a_reader_from_before_goes_on_reading() {
    let folder = TempDir::new().unwrap();
    let backend = with_free_pages(folder.path());
    let cut = backend.cut(Bucket::Key);
    let expected = rows(&backend);
    backend.defragment().unwrap();
    backend.write().delete(Bucket::Key, &row(1));
    backend.commit_now();
    assert_eq!(backend.rows(&cut).collect::<Vec<_>>(), expected);
    assert_eq!(rows(&backend).len(), expected.len() - 1);
}

#[test]
fn writes_go_on_while_the_file_is_copied() {
    alone("storage::backend::defrag::tests::writes_go_on_while_the_file_is_copied", || {
        let folder = TempDir::new().unwrap();
        let backend = with_free_pages(folder.path());
        let (writer, has_written) = (Arc::clone(&backend), Arc::new(AtomicBool::new(false)));
        let is_written = Arc::clone(&has_written);
        fail::cfg_callback("defrag-before-copy", move || {
            writer.write().put(Bucket::Key, &row(300), Bytes::from_static(b"meanwhile"));
            assert_eq!(rows(&writer).len(), 11);
            is_written.store(true, Ordering::Relaxed);
        })
        .unwrap();
        backend.defragment().unwrap();
        assert!(has_written.load(Ordering::Relaxed));
        assert_eq!(rows(&backend).len(), 11);
        backend.commit_now();
        assert_eq!(rows(&backend).len(), 11);
    });
}

#[test]
fn a_full_disk_refuses_the_defragmentation_and_changes_nothing() {
    alone(
        "storage::backend::defrag::tests::a_full_disk_refuses_the_defragmentation_and_changes_nothing",
        || {
            let folder = TempDir::new().unwrap();
            let backend = with_free_pages(folder.path());
            let (hash, size) = (backend.hash(), backend.size());
            fail::cfg("db-disk-full", "return").unwrap();
            let refused = backend.defragment().unwrap_err();
            fail::remove("db-disk-full");
            fail::cfg("defrag-rename", "return").unwrap();
            let not_renamed = backend.defragment();
            fail::remove("defrag-rename");
            assert!(matches!(not_renamed, Err(Refused::NotCopied(_))), "{not_renamed:?}");
            fail::cfg("disk-free-bytes", "return(1000)").unwrap();
            let without_room = [
                backend.defragment().err().map(|why| why.to_string()),
                backend.copy().err().map(|why| why.to_string()),
            ];
            fail::remove("disk-free-bytes");
            for why in without_room {
                assert!(why.as_ref().is_some_and(|why| why.contains("1000 are free")), "{why:?}");
            }
            assert!(
                matches!(&refused, Refused::NotCopied(why) if why.contains("db")),
                "{refused:?}"
            );
            assert_eq!((backend.hash(), backend.size()), (hash, size));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            backend.defragment().unwrap();
        },
    );
}

/// Goal: wherever a member dies in a defragmentation, it finds the same rows. Method: the folder is
/// copied at each boundary, which is what a kill leaves, and the copy is opened.
#[test]
fn a_crash_at_any_step_leaves_the_same_rows() {
    alone("storage::backend::defrag::tests::a_crash_at_any_step_leaves_the_same_rows", || {
        for boundary in [
            "defrag-before-copy",
            "copy-before-commit",
            "defrag-before-rename",
            "defrag-after-rename",
            "defrag-after-sync",
        ] {
            let folder = TempDir::new().unwrap();
            let backend = with_free_pages(folder.path());
            let image = TempDir::new().unwrap();
            let (from, to) = (folder.path().to_owned(), image.path().to_owned());
            let reached = Arc::new(Mutex::new(0));
            let counter = Arc::clone(&reached);
            fail::cfg_callback(boundary, move || {
                *counter.lock().unwrap() += 1;
                for file in fs::read_dir(&from).unwrap().flatten() {
                    fs::copy(file.path(), to.join(file.file_name())).unwrap();
                }
            })
            .unwrap();
            backend.defragment().unwrap();
            fail::remove(boundary);
            assert_eq!(*reached.lock().unwrap(), 1, "{boundary}");
            let crashed = Backend::open(&image.path().join("db"), Options::default()).unwrap();
            assert_eq!(rows(&crashed), rows(&backend), "{boundary}");
            assert_eq!(crashed.hash().0, backend.hash().0, "{boundary}");
            let left = fs::read_dir(image.path()).unwrap().count();
            assert_eq!(left, 1, "{boundary}: nothing unfinished is left");
        }
    });
}

#[test]
fn a_copy_is_the_database_as_of_the_last_commit() {
    let folder = TempDir::new().unwrap();
    let backend = with_free_pages(folder.path());
    let expected = backend.hash();
    let copy = backend.copy().unwrap();
    assert_eq!(copy.committed, expected.1);
    assert!(copy.copied.rows >= 10 && copy.copied.bytes > 90_000, "{:?}", copy.copied);
    backend.write().put(Bucket::Key, &row(400), Bytes::from_static(b"later"));
    backend.commit_now();
    let mut bytes = vec![0; usize::try_from(copy.len()).unwrap()];
    assert_eq!(copy.read_at(&mut bytes, 0).unwrap(), bytes.len());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a copy has no name");
    let sent = TempDir::new().unwrap();
    fs::write(sent.path().join("db"), bytes).unwrap();
    let opened = Backend::open(&sent.path().join("db"), Options::default()).unwrap();
    assert_eq!((opened.hash().0, opened.consistent_index()), (expected.0, (101, 3)));
}

#[test]
fn what_a_killed_member_left_of_a_copy_is_removed() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str| fs::write(folder.path().join(name), b"x").unwrap();
    ["copy-0.tmp", "copy-17.tmp", "db.tmp", "copy-me.tmp"].into_iter().for_each(write);
    let backend = Backend::open(&folder.path().join("db"), Options::default()).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["copy-me.tmp", "db"], "a file of another name is not ours");
    drop(backend);
}

/// Goal: who opens a file that a member uses is refused, and removes nothing of the member's work.
#[test]
fn a_second_opener_leaves_the_work_of_the_first_alone() {
    let name =
        "storage::backend::defrag::tests::a_second_opener_leaves_the_work_of_the_first_alone";
    alone(name, || {
        let folder = TempDir::new().unwrap();
        let backend = with_free_pages(folder.path());
        let at = folder.path().to_owned();
        fs::write(at.join("copy-7.tmp"), "of the first").unwrap();
        fail::cfg_callback("defrag-before-copy", move || {
            let second = Backend::open(&at.join("db"), Options::default());
            assert!(matches!(second, Err(Error::Database { .. })), "{second:?}");
            assert!(at.join("db.tmp").exists() && at.join("copy-7.tmp").exists());
        })
        .unwrap();
        backend.defragment().unwrap();
        fail::remove("defrag-before-copy");
        assert_eq!(rows(&backend).len(), 10);
    });
}

#[test]
fn a_file_that_somebody_is_making_is_not_made_twice() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    let first = DatabaseFile::make(&unfinished(&path), &path, true).unwrap();
    let second = Backend::open(&path, Options::default());
    assert!(matches!(second, Err(Error::Database { .. })), "{second:?}");
    drop(first);
    Backend::open(&path, Options::default()).unwrap();
}

#[test]
fn a_leftover_that_cannot_be_removed_is_named() {
    for left in ["db.tmp", "copy-3.tmp"] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("db");
        drop(Backend::open(&path, Options::default()).unwrap());
        fs::create_dir(folder.path().join(left)).unwrap();
        let refused = Backend::open(&path, Options::default()).unwrap_err();
        assert!(with_causes(&refused).contains(left), "{refused}");
    }
}

#[test]
fn a_defragmented_file_has_the_owner_and_the_mode_of_the_old_one() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    let folder = TempDir::new().unwrap();
    let backend = with_free_pages(folder.path());
    let path = folder.path().join("db");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    // Only root may.
    let _ = chown(&path, Some(1234), Some(1235));
    let before = fs::metadata(&path).unwrap();
    backend.defragment().unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_ne!(before.ino(), after.ino());
    let kept = |of: &fs::Metadata| (of.uid(), of.gid(), of.mode());
    assert_eq!(kept(&before), kept(&after));
}

#[test]
fn a_symbolic_link_stays_one_and_its_target_is_exchanged() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = TempDir::new().unwrap();
    let disk = TempDir::new().unwrap();
    drop(with_free_pages(disk.path()));
    std::os::unix::fs::symlink(disk.path().join("db"), folder.path().join("db")).unwrap();
    let backend = Backend::open(&folder.path().join("db"), Options::default()).unwrap();
    let before = fs::metadata(disk.path().join("db")).unwrap();
    let done = backend.defragment().unwrap();
    assert!(done.after < done.before, "{done:?}");
    assert!(fs::symlink_metadata(folder.path().join("db")).unwrap().is_symlink());
    assert_ne!(fs::metadata(disk.path().join("db")).unwrap().ino(), before.ino());
    drop(backend);
    fs::remove_file(disk.path().join("db")).unwrap();
    let refused = Backend::open(&folder.path().join("db"), Options::default());
    assert!(matches!(refused, Err(Error::Open { .. })), "nothing takes the place of the link");
}

/// Goal: neither a commit nor the hash behind it waits for a defragmentation that began after it.
#[test]
fn a_commit_does_not_wait_for_the_defragmentation_after_it() {
    let name =
        "storage::backend::defrag::tests::a_commit_does_not_wait_for_the_defragmentation_after_it";
    alone(name, || {
        let folder = TempDir::new().unwrap();
        let backend = with_free_pages(folder.path());
        let (begun, has_begun) = sync_channel(1);
        let (release, hangs) = sync_channel::<()>(1);
        let hangs = Mutex::new(hangs);
        fail::cfg_callback("defrag-before-copy", move || {
            begun.send(()).unwrap();
            hangs.lock().unwrap().recv().unwrap();
        })
        .unwrap();
        // The defragmentation is asked for while the commit is under way.
        let (frozen, is_freezing) = (sync_channel(1), sync_channel::<()>(1));
        let (at_freeze, go_on) = (frozen.0, Mutex::new(is_freezing.1));
        fail::cfg_callback("backend-before-freeze", move || {
            at_freeze.send(()).unwrap();
            go_on.lock().unwrap().recv().unwrap();
        })
        .unwrap();
        backend.write().put(Bucket::Key, &row(500), Bytes::from_static(b"to commit"));
        let (first, second) = (Arc::clone(&backend), Arc::clone(&backend));
        let commit = std::thread::spawn(move || first.commit_now());
        frozen.1.recv().unwrap();
        let defragment = std::thread::spawn(move || second.defragment());
        while backend.shared.control().defragment.is_empty() {
            std::thread::yield_now();
        }
        fail::remove("backend-before-freeze");
        is_freezing.0.send(()).unwrap();
        has_begun.recv().unwrap();
        commit.join().unwrap();
        release.send(()).unwrap();
        defragment.join().unwrap().unwrap();
        fail::remove("defrag-before-copy");
    });
}

/// Goal: the old file is closed by the commit thread, however long a reader keeps it.
#[test]
fn a_reader_that_outlives_a_defragmentation_does_not_close_the_old_file() {
    let folder = TempDir::new().unwrap();
    let backend = with_free_pages(folder.path());
    let old = Arc::downgrade(&backend.shared.database());
    let cut = backend.cut(Bucket::Key);
    backend.defragment().unwrap();
    backend.commit_now();
    assert!(1 < old.strong_count(), "the reader and the commit thread hold it");
    drop(cut);
    assert_eq!(old.strong_count(), 1, "the commit thread");
    backend.write().delete(Bucket::Key, &row(1));
    backend.commit_now();
    backend.write().delete(Bucket::Key, &row(2));
    backend.commit_now();
    assert_eq!(old.strong_count(), 0);
}

#[test]
fn after_the_end_nothing_is_defragmented() {
    let folder = TempDir::new().unwrap();
    let backend = with_free_pages(folder.path());
    backend.stop();
    assert_eq!(backend.defragment(), Err(Refused::Stopped));
}
