//! Restores that fail or are killed, and files that are not what was saved.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::{
    config::{Asked, parse},
    random::Random,
    storage::{
        backend::{Backend, Options},
        own_process::alone,
        with_causes,
    },
};

/// The steps of a restore, in their order; the last one only with a directory for the log.
const STEPS: [&str; 7] = [
    "restore-begun",
    "restore-disk-full",
    "restore-copied",
    "restore-changed",
    "restore-logged",
    "restore-named",
    "restore-log-named",
];

fn config(words: &[String]) -> ServerConfig {
    match parse(words, &[]) {
        Ok(Asked::Start(parsed)) => parsed.config,
        other => panic!("{other:?}"),
    }
}

/// A member with its data in `root/data`, and its log there too or in `root/log/wal`.
fn member(root: &Path, own_wal: bool) -> ServerConfig {
    let mut words =
        vec!["--name=a".to_owned(), "--initial-cluster=a=http://localhost:1".to_owned()];
    words.push("--initial-advertise-peer-urls=http://localhost:1".to_owned());
    words.push(format!("--data-dir={}", root.join("data").display()));
    words.extend(own_wal.then(|| format!("--wal-dir={}", root.join("log/wal").display())));
    config(&words)
}

/// The bytes of a database with rows at the revisions 2 to 60, and of an old member.
fn database() -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let backend = Backend::open(&folder.path().join("db"), Options::default()).unwrap();
    let mut guard = backend.write();
    for revision in 2..=60_i64 {
        let mut key = [b'_'; 17];
        key[..8].copy_from_slice(&revision.to_be_bytes());
        guard.put(Bucket::Key, &key, Bytes::from(vec![b'v'; 3000]));
    }
    guard.put(Bucket::Members, b"old", Bytes::from_static(b"{}"));
    guard.set_applied(70, 3, 60);
    drop(guard);
    backend.stop();
    drop(backend);
    fs::read(folder.path().join("db")).unwrap()
}

/// Writes a saved file: the bytes and their hash.
fn save(folder: &Path, database: &[u8]) -> PathBuf {
    let path = folder.join("saved");
    fs::write(&path, [database, &Sha256::digest(database)[..]].concat()).unwrap();
    path
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_restored_directory_has_the_rows_and_a_new_log() {
    for own_wal in [false, true] {
        let root = TempDir::new().unwrap();
        let saved = save(root.path(), &database());
        let config = member(root.path(), own_wal);
        restore(&config, &saved, Restore::default()).unwrap();
        assert_eq!(names(&config.data_dir), ["member"]);
        assert_eq!(names(root.path()).len(), 2 + usize::from(own_wal));
        let data = data::open(&config, &data::find(&config).unwrap()).unwrap();
        assert_eq!((data.applied, data.start.last_index), (0, 1));
        assert_eq!(data.backend.range(Bucket::Key, &[], None, 0).len(), 59);
        assert_eq!(data.backend.range(Bucket::Members, &[], None, 0), []);
        data.backend.stop();
    }
}

/// Goal: a restore that fails at any step says why, and leaves nothing.
#[test]
fn a_restore_that_fails_leaves_nothing() {
    alone("member::restore::tests::a_restore_that_fails_leaves_nothing", || {
        fail::cfg("wal-segment-bytes", "return(65536)").unwrap();
        for (number, step) in STEPS.into_iter().enumerate() {
            let root = TempDir::new().unwrap();
            let saved = save(root.path(), &database());
            let config = member(root.path(), number % 2 == 0);
            fail::cfg(step, "return").unwrap();
            let refused = restore(&config, &saved, Restore::default()).expect_err(step);
            fail::remove(step);
            let told = with_causes(&refused);
            let named = told.contains(&root.path().display().to_string());
            assert!(named && told.contains("No space left"), "{step}: {told}");
            assert_eq!(names(root.path()), ["saved"], "{step}");
            restore(&config, &saved, Restore::default()).unwrap();
        }
        // Neither an empty directory that was there, nor one with something in it, is removed.
        let root = TempDir::new().unwrap();
        let saved = save(root.path(), &database());
        let config = member(root.path(), false);
        fs::create_dir(&config.data_dir).unwrap();
        fail::cfg("db-disk-full", "return").unwrap();
        let refused = restore(&config, &saved, Restore::default()).unwrap_err();
        fail::remove("db-disk-full");
        assert!(with_causes(&refused).contains("No space left"), "{refused}");
        assert_eq!(names(&config.data_dir), [""; 0]);
    });
}

/// Goal: wherever a restore is killed, no member begins in what it leaves. Method: the directories
/// are copied at each step, which is what a kill leaves, and a member looks for its data there.
#[test]
fn no_member_starts_in_what_a_killed_restore_leaves() {
    alone("member::restore::tests::no_member_starts_in_what_a_killed_restore_leaves", || {
        fail::cfg("wal-segment-bytes", "return(65536)").unwrap();
        for own_wal in [false, true] {
            for step in &STEPS[..if own_wal { 7 } else { 6 }] {
                let (root, image) = (TempDir::new().unwrap(), TempDir::new().unwrap());
                let saved = save(root.path(), &database());
                let (from, to) = (root.path().to_owned(), image.path().to_owned());
                let reached = Arc::new(Mutex::new(0));
                let counter = Arc::clone(&reached);
                fail::cfg_callback(*step, move || {
                    *counter.lock().unwrap() += 1;
                    copy_tree(&from, &to);
                })
                .unwrap();
                restore(&member(root.path(), own_wal), &saved, Restore::default()).unwrap();
                fail::remove(*step);
                assert!(0 < *reached.lock().unwrap(), "{step}");
                let killed = member(image.path(), own_wal);
                let refused = data::find(&killed).expect_err(step);
                assert!(matches!(refused, DataError::RestoreUnfinished { .. }), "{refused}");
                let again = restore(&killed, &saved, Restore::default()).unwrap_err();
                assert!(matches!(again, Error::NotEmpty { .. }), "{again}");
            }
        }
    });
}

/// Goal: an error names the file that is damaged in any way, and nothing is left. Method:
/// pages of zeros, a cut, and single bits anywhere.
#[test]
fn damage_is_told_with_the_name_of_the_file() {
    let good = database();
    let mut images = Vec::new();
    for range in [4096..8192, 8192..good.len().min(200_000), good.len() / 2..good.len()] {
        let mut bytes = good.clone();
        bytes[range].fill(0);
        images.push(bytes);
    }
    images.push(good[..good.len() / 2 / 4096 * 4096].to_vec());
    let mut random = Random::new(7);
    for _ in 0..40 {
        let mut bytes = good.clone();
        let at = usize::try_from(random.below(good.len() as u64)).unwrap();
        bytes[at] ^= 1 << random.below(8);
        images.push(bytes);
    }
    let root = TempDir::new().unwrap();
    let config = member(root.path(), false);
    let mut refusals = 0;
    for (number, bytes) in images.iter().enumerate() {
        let saved = save(root.path(), bytes);
        let Err(refused) = status(&saved) else {
            // The bit was in a page that is free.
            continue;
        };
        refusals += 1;
        let told = with_causes(&refused);
        let named = told.contains(&saved.display().to_string());
        assert!(named && told.contains("damaged") || told.contains("no database"), "{told}");
        let refused = restore(&config, &saved, Restore::default()).expect_err("as above");
        assert!(
            with_causes(&refused).contains(&saved.display().to_string()),
            "{number}: {refused}"
        );
        assert_eq!(names(root.path()), ["saved"], "{number}");
    }
    assert!(4 < refusals, "{refusals} of {}", images.len());
}

#[test]
fn what_is_no_database_is_refused() {
    let root = TempDir::new().unwrap();
    let config = member(root.path(), false);
    let what = Restore { skip_hash_check: true, bump_revision: 0 };
    for bytes in [&b""[..], &Sha256::digest(b"")[..], &[7; 32], &[0; 4096], &[9; 5000]] {
        let saved = root.path().join("saved");
        fs::write(&saved, bytes).unwrap();
        for refused in [status(&saved).err(), restore(&config, &saved, what).err()] {
            let told = with_causes(&refused.expect("no database"));
            assert!(told.starts_with(&saved.display().to_string()), "{told}");
        }
        assert_eq!(fs::read(&saved).unwrap(), bytes);
        assert_eq!(names(root.path()), ["saved"]);
    }
    assert!(matches!(status(Path::new("/dev/zero")), Err(Error::NotAFile { .. })));
    let empty = root.path().join("data/member/snap/db");
    fs::create_dir_all(empty.parent().unwrap()).unwrap();
    fs::write(&empty, "").unwrap();
    let refused = defragment(&config.data_dir).unwrap_err();
    assert!(refused.to_string().contains("it is empty"), "{refused}");
    assert_eq!(fs::metadata(&empty).unwrap().len(), 0, "and not made a database");
}

#[test]
fn a_hash_that_does_not_fit_is_told_by_the_status_too() {
    let root = TempDir::new().unwrap();
    let database = database();
    let saved = save(root.path(), &database);
    let told = status(&saved).unwrap();
    assert_eq!((told.contents.revision, told.size), (60, database.len() as u64));
    let mut bytes = fs::read(&saved).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&saved, &bytes).unwrap();
    assert!(matches!(status(&saved), Err(Error::OtherHash { .. })));
    // A file without a hash has none to compare.
    fs::write(&saved, &database).unwrap();
    assert_eq!(status(&saved).unwrap(), told);
    // It is looked at and not changed, also if its member was killed and it has to be repaired.
    assert_eq!(fs::read(&saved).unwrap(), database);
    assert_eq!(names(root.path()), ["saved"]);
}

#[test]
fn a_database_in_use_is_neither_looked_at_nor_defragmented() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("member/snap/db");
    let backend = Backend::open(&path, Options::default()).unwrap();
    fs::write(path.with_extension("tmp"), "of the member").unwrap();
    let refused = [
        status(&path).err().map(|why| with_causes(&why)),
        defragment(root.path()).err().map(|why| with_causes(&why)),
    ];
    for why in refused {
        assert!(why.as_ref().is_some_and(|why| why.contains("already open")), "{why:?}");
    }
    assert!(path.with_extension("tmp").exists(), "the member's");
    // A killed member's file has to be repaired before it can be looked at.
    let copy = root.path().join("copy");
    backend.write().put(Bucket::Meta, b"row", Bytes::from_static(b"value"));
    backend.commit_now();
    fs::copy(&path, &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    assert_eq!(status(&copy).unwrap().contents.rows, 3);
    assert_eq!(fs::read(&copy).unwrap(), before);
    drop(backend);
    let done = defragment(root.path()).unwrap();
    assert!(done.after <= done.before, "{done:?}");
    assert_eq!(names(path.parent().unwrap()), ["db"]);
}

#[test]
fn the_log_has_a_place_of_its_own_or_the_usual_one() {
    let root = TempDir::new().unwrap();
    let saved = save(root.path(), &database());
    let with = |wal: &str| {
        let (data, wal) = (root.path().join("data"), root.path().join(wal));
        config(&[
            "--name=default".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--wal-dir={}", wal.display()),
        ])
    };
    for wal in ["data", ".", "data/member", "data/member/snap", "data/member/snap/wal"] {
        let refused = restore(&with(wal), &saved, Restore::default()).expect_err(wal);
        assert!(
            matches!(refused, Error::WalAmongData { .. } | Error::WalExists { .. }),
            "{refused}"
        );
        assert_eq!(names(root.path()), ["saved"], "{wal}");
    }
    for wal in ["data/member/wal", "data/wal", "wal"] {
        let config = with(wal);
        restore(&config, &saved, Restore::default()).unwrap();
        data::open(&config, &data::find(&config).unwrap()).unwrap().backend.stop();
        fs::remove_dir_all(&config.data_dir).unwrap();
    }
}

#[test]
fn a_raised_revision_leaves_room_for_later_ones() {
    let root = TempDir::new().unwrap();
    let saved = save(root.path(), &database());
    let most = u64::try_from(i64::MAX - LEFT - 60).unwrap();
    let by = |bump_revision| Restore { skip_hash_check: false, bump_revision };
    for too_many in [most + 1, u64::try_from(i64::MAX - 60).unwrap(), u64::MAX] {
        let config = member(root.path(), false);
        let refused = restore(&config, &saved, by(too_many)).unwrap_err().to_string();
        assert!(refused.contains("2^62 later revisions"), "{refused}");
        assert_eq!(names(root.path()), ["saved"]);
    }
    let config = member(root.path(), false);
    restore(&config, &saved, by(most)).unwrap();
    // Once raised, it is the raised one that counts.
    let db = config.data_dir.join("member/snap/db");
    let len = fs::metadata(&db).unwrap().len();
    assert_eq!(offline::look(&db, len, &db, newest).unwrap(), i64::MAX - LEFT);
}
