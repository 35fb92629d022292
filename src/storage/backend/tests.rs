//! The backend as a whole: what is visible when, and what a crash leaves behind.

use std::sync::{
    Mutex as StdMutex,
    atomic::{AtomicBool, Ordering},
};

use tempfile::TempDir;

use super::*;
use crate::{
    field,
    storage::own_process,
    trace::{self, Stage},
};

/// Options under which nothing is committed unless the test asks for it.
fn by_hand() -> Options {
    Options { batch_interval: Duration::from_secs(3600), batch_limit: 10_000, fsync: true }
}

fn open(folder: &TempDir, options: Options) -> Arc<Backend> {
    Backend::open(&folder.path().join("member/snap/db"), options).unwrap()
}

fn number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Writes one entry: two rows of the key bucket and one elsewhere, all of which say its index.
fn write_entry(backend: &Backend, index: u64) {
    let mut guard = backend.write();
    guard.put(Bucket::Key, &row_key(index, 0), number(index));
    guard.put(Bucket::Lease, b"last", number(index));
    guard.put(Bucket::Key, &row_key(index, 1), number(index));
    guard.set_applied(index, 7, i64::try_from(index).unwrap());
}

fn row_key(main: u64, sub: u64) -> [u8; 17] {
    let mut key = [b'_'; 17];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[9..].copy_from_slice(&sub.to_be_bytes());
    key
}

/// Checks that exactly the entries 1 to `index` are there.
fn assert_stands_at(backend: &Backend, index: u64) {
    assert_eq!(backend.consistent_index(), (index, if index == 0 { 0 } else { 7 }));
    let rows = backend.range(Bucket::Key, &[], None, 0);
    let expected: Vec<_> = (1..=index)
        .flat_map(|main| [0, 1].map(|sub| (row_key(main, sub), main)))
        .map(|(key, main)| (Bytes::copy_from_slice(&key), number(main)))
        .collect();
    assert_eq!(rows, expected);
    let last = backend.get(Bucket::Lease, b"last").map(|(value, _)| value);
    assert_eq!(last, (index > 0).then(|| number(index)));
}

#[test]
fn a_row_is_seen_in_the_buffer_and_later_in_the_file() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    write_entry(&backend, 1);
    assert_eq!(backend.get(Bucket::Lease, b"last"), Some((number(1), FoundIn::Active)));
    assert_eq!(backend.buffered(), (3, 0));
    assert_eq!(backend.committed().index, 0);
    backend.commit_now();
    assert_eq!(backend.get(Bucket::Lease, b"last"), Some((number(1), FoundIn::File)));
    assert_eq!(backend.buffered(), (0, 0));
    assert_eq!(backend.committed(), Applied { index: 1, term: 7, revision: 1 });
    assert_stands_at(&backend, 1);
}

#[test]
fn a_deletion_hides_the_row_before_and_after_the_commit() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    write_entry(&backend, 1);
    backend.commit_now();
    {
        let mut guard = backend.write();
        guard.delete(Bucket::Key, &row_key(1, 0));
        assert_eq!(guard.get(Bucket::Key, &row_key(1, 0)), None);
        assert_eq!(guard.range(Bucket::Key, &[], None, 0).len(), 1);
    }
    for _ in 0..2 {
        assert_eq!(backend.get(Bucket::Key, &row_key(1, 0)), None);
        assert_eq!(backend.range(Bucket::Key, &[], None, 0).len(), 1);
        backend.commit_now();
    }
}

#[test]
fn a_limit_counts_rows_that_are_there() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    for index in 1..=3 {
        write_entry(&backend, index);
    }
    backend.commit_now();
    let mut guard = backend.write();
    guard.delete(Bucket::Key, &row_key(1, 0));
    guard.delete(Bucket::Key, &row_key(1, 1));
    guard.put(Bucket::Key, &row_key(2, 0), number(20));
    guard.put(Bucket::Key, &row_key(9, 0), number(9));
    drop(guard);
    let first = |limit| backend.range(Bucket::Key, &[], None, limit);
    assert_eq!(first(1), [(Bytes::copy_from_slice(&row_key(2, 0)), number(20))]);
    assert_eq!(first(3).last().unwrap().0.as_ref(), row_key(3, 0));
    assert_eq!(first(0).len(), 5);
    let (from, to) = (row_key(2, 1), row_key(9, 0));
    assert_eq!(backend.range(Bucket::Key, &from, Some(&to), 0).len(), 3);
    assert!(backend.range(Bucket::Key, &to, Some(&from), 0).is_empty());
}

#[test]
fn everything_is_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    write_entry(&backend, 1);
    backend.write().set_conf_state(Bytes::from_static(b"{\"voters\":[1]}"));
    backend.stop();
    drop(backend);
    let backend = open(&folder, by_hand());
    assert_stands_at(&backend, 1);
    assert_eq!(backend.conf_state().unwrap().as_ref(), b"{\"voters\":[1]}");
    assert!(backend.size() > 0);
}

#[test]
fn nothing_is_committed_when_nothing_has_changed() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    backend.commit_now();
    assert_eq!(backend.commits(), 0);
    write_entry(&backend, 1);
    backend.commit_now();
    backend.commit_now();
    assert_eq!(backend.commits(), 1);
    // An entry without a row moves the index, and the file must know it.
    backend.write().set_applied(2, 7, 1);
    backend.commit_now();
    assert_eq!(backend.commits(), 2);
    assert_eq!(backend.committed().index, 2);
}

#[test]
fn a_full_buffer_is_committed_before_its_time() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, Options { batch_limit: 30, ..by_hand() });
    for index in 1..=400 {
        write_entry(&backend, index);
        let (active, frozen) = backend.buffered();
        assert!(active <= 33 && frozen <= 33, "{active} {frozen}");
    }
    assert!(backend.commits() > 0);
    assert_stands_at(&backend, 400);
    // The writer has waited for room, and says so.
    let is_wait = |record: &trace::Record| {
        record.stage() == Some(Stage::BufferWait)
            && record.kind() == Some(trace::Kind::Span)
            && field!(record, BufferWait, limit) == 30
    };
    assert!(trace::own_records().iter().any(is_wait));
}

#[test]
fn a_buffer_that_fills_while_it_is_set_aside_does_not_count_as_full_for_ever() {
    let folder = TempDir::new().unwrap();
    let batch_interval = Duration::from_micros(1);
    let backend = open(&folder, Options { batch_limit: 3, batch_interval, fsync: false });
    let (done, is_done) = std::sync::mpsc::channel();
    let of_thread = backend.clone();
    std::thread::spawn(move || {
        (1..=4000).for_each(|index| write_entry(&of_thread, index));
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(120)).expect("the writer waits for ever");
    assert_stands_at(&backend, 4000);
}

#[test]
fn a_buffer_of_few_large_rows_is_full_by_their_bytes() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    for index in 1..=130_u64 {
        let mut guard = backend.write();
        guard.put(Bucket::Key, &row_key(index, 0), vec![7; 1 << 20].into());
        guard.set_applied(index, 7, 1);
    }
    let (active, frozen) = backend.buffered();
    assert!(active + frozen < 130, "more than 64 MiB stay in one buffer");
    assert!(0 < backend.commits() + frozen as u64);
}

#[test]
fn the_interval_commits_without_being_asked() {
    let folder = TempDir::new().unwrap();
    let options = Options { batch_interval: Duration::from_millis(1), ..by_hand() };
    let backend = open(&folder, options);
    write_entry(&backend, 1);
    let deadline = crate::clock::now() + Duration::from_secs(60);
    while backend.committed().index == 0 {
        assert!(crate::clock::now() < deadline, "no commit in a minute");
        std::thread::yield_now();
    }
    assert_eq!(backend.buffered(), (0, 0));
}

#[test]
fn a_second_process_cannot_open_the_file() {
    let folder = TempDir::new().unwrap();
    let _backend = open(&folder, by_hand());
    let path = folder.path().join("member/snap/db");
    assert!(matches!(Backend::open(&path, by_hand()), Err(Error::Database { .. })));
}

#[test]
fn a_file_of_something_else_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    std::fs::write(&path, vec![42; 8192]).unwrap();
    assert!(matches!(Backend::open(&path, by_hand()), Err(Error::NoDatabase { .. })));
}

#[test]
fn without_fsync_a_clean_stop_still_keeps_everything() {
    let folder = TempDir::new().unwrap();
    let unsynced = Options { fsync: false, ..by_hand() };
    let backend = open(&folder, unsynced.clone());
    write_entry(&backend, 1);
    drop(backend);
    assert_stands_at(&open(&folder, unsynced), 1);
}

/// A value of `len` bytes that says its number; some of its bytes are zeros.
fn long(number: u64, len: usize) -> Bytes {
    let byte = |at: usize| u8::try_from((number + at as u64 / 3) % 251).unwrap();
    (0..len).map(byte).collect()
}

/// Puts a row of the key bucket of this length, as an entry of its own.
fn put_long(backend: &Backend, index: u64, len: usize) {
    let mut guard = backend.write();
    guard.put(Bucket::Key, &row_key(index, 0), long(index, len));
    guard.set_applied(index, 7, i64::try_from(index).unwrap());
}

#[test]
fn the_pages_in_use_are_those_that_redb_counts() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    for round in 0..40_u64 {
        for index in round * 50..(round + 1) * 50 {
            put_long(&backend, index, usize::try_from(index * 37 % 9000).unwrap());
        }
        if round % 4 == 3 {
            let mut guard = backend.write();
            for index in (round - 3) * 50..(round + 1) * 50 {
                if index % 7 != 0 {
                    guard.delete(Bucket::Key, &row_key(index, 0));
                }
            }
        }
        backend.commit_now();
        // A copy, as a kill would leave it: redb starts with what is stored of its allocator.
        let image = backend.path().with_extension("image");
        std::fs::copy(backend.path(), &image).unwrap();
        let pages = std::fs::metadata(&image).unwrap().len() / 4096 - 1;
        let file = DatabaseFile::open(&image, true).unwrap();
        let counted = file.database.begin_write().unwrap().stats().unwrap().allocated_pages();
        let (mut free, mut unreachable) = (0, 0);
        let see = |unused, page: std::ops::Range<u64>| match unused {
            free::Unused::Free => free += page.end - page.start,
            free::Unused::Unreachable => unreachable += page.end - page.start,
        };
        free::free_pages(&backend.shared.database().file, see).unwrap();
        // redb counts pages that become free with a later commit as allocated.
        assert_eq!(pages - free, counted, "round {round}");
        assert!(unreachable < counted, "round {round}: {unreachable} of {counted}");
        let deleted = if round % 4 == 3 { 100 } else { 1 };
        assert!(deleted < unreachable, "round {round}: {unreachable} pages wait to become free");
    }
}

#[test]
fn deleted_rows_are_no_longer_in_use_and_their_room_is_used_again() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    let fill = |from: u64| {
        for index in from..from + 1000 {
            put_long(&backend, index, 5000);
            if index % 100 == 99 {
                backend.commit_now();
            }
        }
    };
    fill(0);
    let (size, in_use) = (backend.size(), backend.size_in_use());
    assert!((5_000_000..5_400_000).contains(&size), "{size} for 5 000 000 bytes");
    assert!(size * 95 / 100 < in_use && in_use <= size, "{in_use} of {size}");
    let blocks = |backend: &Backend| {
        std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(backend.path()).unwrap()) * 512
    };
    // The file system's own notes on where the file lies are in what it says.
    let given = |backend: &Backend, size: u64| (size..size + (64 << 10)).contains(&blocks(backend));
    assert!(given(&backend, size), "{size}, and the disk says {}", blocks(&backend));
    for index in 0..990 {
        backend.write().delete(Bucket::Key, &row_key(index, 0));
    }
    backend.commit_now();
    let (after, left) = (backend.size(), backend.size_in_use());
    assert!(left < in_use / 10, "{left} of {in_use} are in use");
    assert!(after <= size + (64 << 10), "{after} after {size}");
    assert_eq!(backend.used(), left, "what is free is room");
    fill(2000);
    let again = backend.size();
    // Not all of it: redb takes the smallest piece that is large enough, be it used or new.
    assert!(again < size + size / 4, "{again} after {size}: room was not used again");
    let (size, in_use) = (backend.size(), backend.size_in_use());
    drop(backend);
    let backend = open(&folder, by_hand());
    // redb has put its file in order when it closed it.
    let near = |new: u64, old: u64| new.abs_diff(old) < 256 << 10;
    assert!(near(backend.size(), size), "{} after {size}", backend.size());
    assert!(near(backend.size_in_use(), in_use), "{} after {in_use}", backend.size_in_use());
    assert!(given(&backend, backend.size()), "{} {}", backend.size(), blocks(&backend));
}

#[test]
fn a_value_of_zeros_counts_though_it_takes_no_room() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    for index in 1..=8 {
        let mut guard = backend.write();
        guard.put(Bucket::Key, &row_key(index, 0), vec![0; 1 << 20].into());
        guard.set_applied(index, 7, 1);
    }
    backend.commit_now();
    assert!((8 << 20) < backend.size(), "{}", backend.size());
}

#[test]
fn rows_of_every_length_come_back_whole() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    let lens: Vec<usize> = (0..20_000).step_by(61).chain(4000..4200).chain(2000..2100).collect();
    for (index, len) in (1..).zip(&lens) {
        put_long(&backend, index, *len);
    }
    let expected: Vec<_> =
        (1..).zip(&lens).map(|(index, len)| (row_key(index, 0), long(index, *len))).collect();
    let same = |backend: &Backend, expected: &[([u8; 17], Bytes)]| {
        let rows = backend.range(Bucket::Key, &[], None, 0);
        assert_eq!(rows.len(), expected.len());
        for ((key, value), row) in expected.iter().zip(&rows) {
            assert!(row.0 == key[..] && row.1 == value, "{key:?}");
            assert!(backend.get(Bucket::Key, key).unwrap().0 == value, "{key:?}");
        }
    };
    same(&backend, &expected);
    backend.commit_now();
    same(&backend, &expected);
    let tails = || {
        let transaction = redb::ReadableDatabase::begin_read(&backend.shared.database().database);
        let table = transaction.unwrap().open_table(tail::TAILS).unwrap();
        redb::ReadableTableMetadata::len(&table).unwrap()
    };
    assert!(lens.len() as u64 / 4 < tails(), "{} rows were cut", tails());
    // Rewritten with another length, each has one of before or none; deleted, none is left.
    let turned: Vec<_> = expected.iter().rev().map(|row| row.1.clone()).collect();
    let turned: Vec<_> = expected.iter().map(|row| row.0).zip(turned).collect();
    for (key, value) in &turned {
        backend.write().put(Bucket::Key, key, value.clone());
    }
    backend.commit_now();
    same(&backend, &turned);
    let stored: u64 = turned.iter().map(|row| (row.0.len() + row.1.len()) as u64).sum();
    assert_eq!(backend.shared.sizes.stored(), stored);
    for (key, _) in &turned {
        backend.write().delete(Bucket::Key, key);
    }
    backend.commit_now();
    same(&backend, &[]);
    assert_eq!((tails(), backend.shared.sizes.stored()), (0, 0));
}

/// A file from before rows had checksums has the tables, but not the note of the rows' form.
#[test]
fn a_file_with_rows_without_checksums_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    for bucket in Bucket::ALL {
        transaction.open_table(bucket.table()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    for _ in 0..2 {
        let refused = Backend::open(&path, by_hand()).unwrap_err();
        assert!(matches!(refused, Error::Old { .. }) && refused.is_damage(), "{refused}");
    }
}

/// Writes rows of every bucket, some of them in two parts, and returns the file's path.
fn filled(folder: &TempDir) -> PathBuf {
    let backend = open(folder, by_hand());
    for index in 1..=300 {
        put_long(&backend, index, usize::try_from(index * 41).unwrap() % 6000);
    }
    let mut guard = backend.write();
    for bucket in Bucket::ALL.into_iter().filter(|bucket| *bucket != Bucket::Key) {
        guard.put(bucket, b"row", number(7));
    }
    drop(guard);
    backend.stop();
    folder.path().join("member/snap/db")
}

/// Goal: a row whose bytes have changed reaches no reader, though its page is what redb was given.
/// Method: another value is written below the checksums of rows, in a process of its own.
#[test]
fn a_row_that_does_not_fit_its_checksum_ends_the_reader() {
    let test = "storage::backend::tests::a_row_that_does_not_fit_its_checksum_ends_the_reader";
    if !own_process::is_alone() {
        let output = own_process::run(test);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let why = "table key, revision 9.0: the row does not fit its checksum";
        assert!(said.contains(why) && said.contains("Move the file away"), "{said}");
        assert!(said.contains("recorded: true"), "{said}");
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = filled(&folder);
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut table = transaction.open_table(Bucket::Key.table()).unwrap();
    let mut stored =
        redb::ReadableTable::get(&table, &row_key(9, 0)[..]).unwrap().unwrap().value().to_vec();
    stored[3] ^= 1;
    table.insert(&row_key(9, 0)[..], stored.as_slice()).unwrap();
    drop(table);
    transaction.commit().unwrap();
    drop(database);
    crate::storage::damage::set_alarm(|| {
        let is_it = |record: &trace::Record| {
            record.stage() == Some(Stage::BackendDamaged)
                && field!(record, BackendDamaged, main) == 9
        };
        let rings = trace::ring::rings();
        let mut records = rings.iter().flat_map(|ring| {
            (ring.oldest()..ring.head()).filter_map(|number| ring.get(number).ok())
        });
        eprintln!("recorded: {}", records.any(|record| is_it(&record)));
    });
    let backend = open(&folder, by_hand());
    assert!(backend.get(Bucket::Key, &row_key(8, 0)).is_some());
    let served = backend.get(Bucket::Key, &row_key(9, 0));
    panic!("{served:?} was served");
}

/// Goal: no flipped bit in a page gives other rows without a word. Method: one bit after the other
/// in copies of a file, all over it; everything is read.
#[test]
fn a_flipped_bit_in_a_page_is_found_or_does_no_harm() {
    let folder = TempDir::new().unwrap();
    let path = filled(&folder);
    let good = std::fs::read(&path).unwrap();
    let read = |bytes: &[u8]| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("db");
        std::fs::write(&path, bytes).unwrap();
        crate::storage::redb_panic::caught(|| -> Result<_, Error> {
            let backend = Backend::open(&path, by_hand())?;
            let rows = Bucket::ALL.map(|bucket| backend.range(bucket, &[], None, 0));
            Ok(rows)
        })
    };
    let expected = read(&good).unwrap().unwrap();
    let (mut found, mut harmless) = (0, 0);
    let step = good.len() / 64;
    for at in (0..64).map(|number| number * step + number * 131 % step) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        match read(&bytes) {
            Ok(Ok(rows)) => {
                assert!(rows == expected, "other rows after a flip in byte {at}");
                harmless += 1;
            }
            Ok(Err(error)) => {
                assert!(error.is_damage(), "{error:?} after a flip in byte {at}");
                found += 1;
            }
            Err(_) => found += 1,
        }
    }
    println!("{found} flips were found, {harmless} did no harm");
    assert!(16 <= found, "{found} were found, {harmless} did no harm");
}

/// Readers go through everything, over and over, while rows move from buffer to buffer to file.
#[test]
fn a_reader_sees_every_row_while_commits_run() {
    let folder = TempDir::new().unwrap();
    let options = Options { batch_interval: Duration::ZERO, batch_limit: 20, fsync: false };
    let backend = open(&folder, options);
    let written = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    let least = written.load(Ordering::Acquire);
                    let rows = backend.range(Bucket::Key, &[], None, 0);
                    let mains: Vec<_> = rows.iter().map(|row| row.1.clone()).collect();
                    let last = u64::try_from(rows.len() / 2).unwrap();
                    assert!(last >= least, "{last} of {least}");
                    let expected: Vec<_> =
                        (1..=last).flat_map(|main| [number(main), number(main)]).collect();
                    assert_eq!(mains, expected);
                    for main in 1..=least {
                        assert!(backend.get(Bucket::Key, &row_key(main, 1)).is_some(), "{main}");
                    }
                }
            });
        }
        for index in 1..=600 {
            write_entry(&backend, index);
            written.store(index, Ordering::Release);
        }
        over.store(true, Ordering::Release);
    });
    assert!(backend.commits() > 1);
}

/// Goal: wherever a commit dies, the file stands at the end of an entry. Method: the file is
/// copied at each boundary of a commit, which is what a kill leaves, and the copy is opened.
#[test]
fn a_crash_at_any_boundary_leaves_the_file_at_the_end_of_an_entry() {
    let boundaries = [
        ("backend-before-freeze", 2),
        ("backend-after-freeze", 2),
        ("backend-before-begin", 2),
        ("backend-after-writes", 2),
        ("backend-before-commit", 2),
        ("backend-after-commit", 5),
        ("backend-before-drop-frozen", 5),
    ];
    let _scenario = fail::FailScenario::setup();
    for (boundary, expected) in boundaries {
        let folder = TempDir::new().unwrap();
        let backend = open(&folder, by_hand());
        for index in 1..=2 {
            write_entry(&backend, index);
        }
        backend.commit_now();
        for index in 3..=5 {
            write_entry(&backend, index);
        }
        let copy = copy_at(boundary, &backend);
        backend.commit_now();
        fail::remove(boundary);
        assert!(copy.lock().unwrap().take().is_some(), "{boundary} was not reached");
        let image = backend.path().with_extension("image");
        let crashed = Backend::open(&image, by_hand()).unwrap();
        assert_stands_at(&crashed, expected);
        assert_stands_at(&backend, 5);
    }
}

/// Copies the file when the backend's own commit thread comes to a failpoint.
fn copy_at(boundary: &str, backend: &Backend) -> Arc<StdMutex<Option<()>>> {
    let copied = Arc::new(StdMutex::new(None));
    let (of_callback, thread) = (copied.clone(), backend.commit_thread());
    let (from, to) = (backend.path().to_owned(), backend.path().with_extension("image"));
    let copy = move || {
        // Other tests' commit threads come along here as well.
        if std::thread::current().id() == thread {
            std::fs::copy(&from, &to).unwrap();
            *of_callback.lock().unwrap() = Some(());
        }
    };
    fail::cfg_callback(boundary, copy).unwrap();
    copied
}

#[test]
fn writes_during_a_commit_go_with_the_next_one() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    let used = backend.used();
    write_entry(&backend, 1);
    assert_eq!(backend.used(), used, "what waits for a commit does not count");
    let frozen = backend.shared.freeze().unwrap().0;
    let one = frozen.buffer.bytes() as u64;
    assert_eq!(backend.used(), used + one);
    write_entry(&backend, 2);
    assert_eq!(backend.used(), used + 2 * one, "and what waits for this one does");
    assert_eq!(backend.buffered(), (3, 3));
    assert_eq!(backend.get(Bucket::Key, &row_key(1, 0)).unwrap().1, FoundIn::Frozen);
    assert_eq!(frozen.applied.index, 1);
    assert_stands_at(&backend, 2);
    let file = backend.shared.write_file(&frozen).unwrap();
    backend.shared.exchange(&frozen, file);
    assert_eq!(backend.used(), backend.size_in_use());
    assert_eq!(backend.committed().index, 1);
    assert_eq!(backend.get(Bucket::Key, &row_key(1, 0)).unwrap().1, FoundIn::File);
    assert_stands_at(&backend, 2);
}

#[test]
fn the_hash_is_of_all_buckets_by_name_and_leaves_out_the_raft_index() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    let mut guard = backend.write();
    guard.put(Bucket::Meta, b"finishedCompactRev", Bytes::from_static(b"7"));
    guard.put(Bucket::Key, b"2", Bytes::from_static(b"two"));
    guard.put(Bucket::Key, b"1", Bytes::from_static(b"one"));
    guard.put(Bucket::AuthUsers, b"u", Bytes::from_static(b"v"));
    guard.put(Bucket::Lease, b"gone", Bytes::from_static(b"x"));
    guard.set_applied(5, 1, 9);
    drop(guard);
    backend.commit_now();
    backend.write().delete(Bucket::Lease, b"gone");
    let bytes = b"alarmauthauthRolesauthUsersuvclusterkey1one2twoleasemembersmembers_removed\
        metafinishedCompactRev7";
    assert_eq!(backend.hash(), (crc32c::crc32c(bytes), backend.committed()));
    assert_eq!(backend.hash().1, Applied { index: 5, term: 1, revision: 9 });
    // Entries that change nothing do not change it.
    backend.write().set_applied(6, 2, 9);
    assert_eq!(backend.hash().0, crc32c::crc32c(bytes));
    backend.write().put(Bucket::Key, b"2", Bytes::from_static(b"2"));
    assert_ne!(backend.hash().0, crc32c::crc32c(bytes));
}

/// The number was reported by etcd 3.5.1 (Maintenance.Hash) for a file with these rows.
#[test]
fn the_hash_of_etcds_rows_is_etcds() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder, by_hand());
    let main = |main: u64| row_key(main, 0);
    let mut guard = backend.write();
    let mut put = |bucket, key: &[u8], value: &[u8]| {
        guard.put(bucket, key, Bytes::copy_from_slice(value));
    };
    put(Bucket::Auth, b"authRevision", &number(1));
    put(Bucket::Cluster, b"clusterVersion", b"3.5.0");
    put(Bucket::Key, &main(3), b"\n\x01a\x10\x02\x18\x03 \x02*\x012");
    put(Bucket::Key, &main(4), b"\n\x01a\x10\x02\x18\x04 \x03*\x013");
    put(Bucket::Key, &main(5), b"\n\x01a\x10\x02\x18\x05 \x04*\x014");
    let lease = b"\x08\x8a\x88\xbc\xbc\xd0\xbf\xe8\xcb\x15\x10\xe8\x07";
    put(Bucket::Lease, b"\x15\x97\xa1\xfd\x07\x8f\x04\n", lease);
    let member = br#"{"id":1658400652876682647,"peerURLs":["http://127.0.0.1:33180"],"name":"m0"}"#;
    put(Bucket::Members, b"1703d29b71fd9597", member);
    put(Bucket::Meta, b"finishedCompactRev", &main(3));
    put(Bucket::Meta, b"scheduledCompactRev", &main(3));
    let conf_state = br#"{"voters":[1658400652876682647],"auto_leave":false}"#;
    guard.set_conf_state(Bytes::from_static(conf_state));
    guard.set_applied(10, 2, 5);
    drop(guard);
    assert_eq!(backend.hash().0, 2_062_572_089);
}

/// Goal: a first start that was killed while it made the file does not keep the next one from
/// starting. Method: what it leaves, which is no file of redb's yet.
#[test]
fn a_file_that_was_not_finished_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, unfinished) = (dir.path().join("db"), dir.path().join("db.tmp"));
    std::fs::write(&unfinished, [0; 8192]).unwrap();
    let backend = Backend::open(&path, Options::default()).unwrap();
    assert!(path.exists() && !unfinished.exists());
    backend.write().put(Bucket::Key, b"k", Bytes::from_static(b"v"));
    backend.stop();
    drop(backend);
    let backend = Backend::open(&path, Options::default()).unwrap();
    assert_eq!(backend.get(Bucket::Key, b"k").map(|(value, _)| value), Some("v".into()));
    backend.stop();
}
