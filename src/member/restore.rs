//! A data directory made of a saved snapshot, for a member of a new cluster (etcd: `etcdutl
//! snapshot restore`).
//!
//! ```text
//!   saved file:  the database ‖ SHA-256          data-dir/member/snap/db   the rows, members removed
//!        └──── copied, checked ────────────────▶ data-dir/member/wal/      the new cluster's first
//!                                                                          entries
//! ```
//!
//! The keys, their revisions and the leases stay. The members do not: the new cluster is that of
//! `--initial-cluster`, with another id, and no member of the old one can join it. Each of its
//! members is restored from the same file, so they begin with the same rows and the same log.
//!
//! Invariants
//! * The saved file is never changed.
//! * The log is made last, so that a directory with a log has the whole database. A mark beside the
//!   database says that no log rebuilds it: a member that has lost it must not begin with an empty
//!   key space.
//!
//! A database file is also defragmented here while its member does not run ([`defragment`]).
//!
//! Left out: a raft snapshot. The new log begins with the first entry, and the database says that
//! none of it is applied yet, so a member that starts here applies it from the beginning.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    Error as DataError,
    data::{self, Dirs},
};
use crate::{
    config::ServerConfig,
    server::mvcc,
    storage::{
        backend::{self, Backend, Bucket, Options},
        disk, wal, with_causes,
    },
};

/// The bytes of the hash behind a saved database.
const HASH: usize = 32;
/// A database is as long as some number of these, and a saved one longer by a hash (etcd:
/// hasChecksum).
const SECTOR: u64 = 512;

/// What to do with the saved file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restore {
    /// `--skip-hash-check`: the file may be a copy from a data directory, which has no hash.
    pub skip_hash_check: bool,
    /// `--bump-revision`: by how much the key space's revision rises, so that no client has seen a
    /// later one. All revisions up to it count as compacted then.
    pub bump_revision: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The saved file or the directory cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The data directory has something in it.
    #[error("data-dir {path:?} not empty or could not be read")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The WAL directory already exists.
    #[error("wal-dir {path:?} exists")]
    WalExists {
        /// The directory.
        path: PathBuf,
    },
    /// The file has no hash, and `--skip-hash-check` was not given.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoHash,
    /// The file is not what was saved.
    #[error("expected sha256 {expected}, got {found}")]
    OtherHash {
        /// The hash behind the database, in hex.
        expected: String,
        /// That of the database.
        found: String,
    },
    /// The file is not a database, or it is damaged.
    #[error(transparent)]
    Database(#[from] backend::Error),
    /// The raised revision would leave too few revisions for later writes.
    #[error("the revision {revision} cannot be raised by {by}: {RAISED_MAX} is the limit")]
    TooLarge {
        /// The database's revision.
        revision: i64,
        /// `--bump-revision`.
        by: u64,
    },
    /// The log cannot be made.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The same, from the log itself.
    #[error(transparent)]
    Wal(#[from] wal::Error),
}

/// The highest revision after `--bump-revision`. As many are left for writes: the first write
/// without one would end every member.
const RAISED_MAX: i64 = i64::MAX / 2;

fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

/// What a saved file contains, as `etcdutl snapshot status` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The CRC-32C of all buckets' names and rows.
    pub hash: u32,
    /// The revision of the newest row of the key bucket.
    pub revision: i64,
    /// The rows of all buckets.
    pub rows: u64,
    /// The bytes of the database.
    pub size: u64,
}

/// Fills the data directory of this configuration from a saved file.
///
/// # Errors
/// See [`Error`]. A directory that was begun is left as it is, and refused by the next attempt.
pub fn restore(config: &ServerConfig, saved: &Path, what: Restore) -> Result<(), Error> {
    check_empty(config)?;
    let dirs = Dirs::make(config)?;
    copy_checked(saved, dirs.database(), what.skip_hash_check)?;
    let options = Options { fsync: !config.unsafe_no_fsync, ..Options::default() };
    let backend = Backend::open(dirs.database(), options)?;
    change(&backend, what)?;
    backend.stop();
    drop(backend);
    data::begin_log(config, &dirs)?;
    Ok(())
}

/// What the saved file contains. It is copied into this directory first, because a database cannot
/// be opened without being written.
///
/// # Errors
/// See [`Error`].
pub fn status(saved: &Path, scratch: &Path) -> Result<Status, Error> {
    let path = scratch.join("db");
    let size = copy_checked(saved, &path, true)?;
    let backend = Backend::open(&path, Options { fsync: false, ..Options::default() })?;
    let (mut hash, mut rows) = (0, 0);
    let mut buckets = Bucket::ALL;
    buckets.sort_unstable_by_key(|bucket| bucket.name());
    for bucket in buckets {
        hash = crc32c::crc32c_append(hash, bucket.name().as_bytes());
        for (key, value) in backend.rows(&backend.cut(bucket)) {
            hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value);
            rows += 1;
        }
    }
    let revision = revision(&backend);
    backend.stop();
    Ok(Status { hash, revision, rows, size })
}

/// Gives the free pages of a member's database back to the disk, and returns its bytes before and
/// after. The member must not run: its lock on the file is found.
///
/// # Errors
/// Why not, in one line: there is no database, it is in use or damaged, or the disk fails.
pub fn defragment(data_dir: &Path) -> Result<(u64, u64), String> {
    let path = data_dir.join("member/snap/db");
    if !path.exists() {
        return Err(format!("{}: no such file", path.display()));
    }
    let backend = Backend::open(&path, Options::default()).map_err(|error| with_causes(&error))?;
    let done = backend.defragment().map_err(|error| error.to_string())?;
    backend.stop();
    Ok((done.before, done.after))
}

/// As etcd: the data directory may exist if it is empty, that of the log may not.
fn check_empty(config: &ServerConfig) -> Result<(), Error> {
    let path = &config.data_dir;
    let is_empty = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if !is_empty {
        return Err(Error::NotEmpty { path: path.clone() });
    }
    match &config.wal_dir {
        Some(path) if path.exists() => Err(Error::WalExists { path: path.clone() }),
        _ => Ok(()),
    }
}

/// Copies the database without its hash, and returns its length.
fn copy_checked(saved: &Path, to: &Path, skip: bool) -> Result<u64, Error> {
    let mut from = fs::File::open(saved).map_err(file(saved))?;
    let len = from.metadata().map_err(file(saved))?.len();
    let has_hash = len % SECTOR == HASH as u64;
    if !has_hash && !skip {
        return Err(Error::NoHash);
    }
    let len = if has_hash { len - HASH as u64 } else { len };
    let copy = disk::File::create(to).map_err(file(to))?;
    let (mut hash, mut left) = (Sha256::new(), len);
    let mut bytes = vec![0; 1 << 20];
    while 0 < left {
        let part = usize::try_from(left.min(1 << 20)).unwrap_or(usize::MAX);
        from.read_exact(&mut bytes[..part]).map_err(file(saved))?;
        hash.update(&bytes[..part]);
        copy.write_at(&bytes[..part], len - left).map_err(file(to))?;
        left -= part as u64;
    }
    copy.sync_all().map_err(file(to))?;
    if has_hash && !skip {
        let mut expected = [0; HASH];
        from.read_exact(&mut expected).map_err(file(saved))?;
        let found = hash.finalize();
        if expected != found[..] {
            let [expected, found] = [&expected[..], &found[..]].map(hex);
            return Err(Error::OtherHash { expected, found });
        }
    }
    Ok(len)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the database one of a cluster that has not begun.
fn change(backend: &Backend, what: Restore) -> Result<(), Error> {
    let revision = revision(backend);
    let mut guard = backend.write();
    for bucket in [Bucket::Members, Bucket::MembersRemoved] {
        for (key, _) in guard.range(bucket, &[], None, 0) {
            guard.delete(bucket, &key);
        }
    }
    let mut now = revision;
    if what.bump_revision != 0 {
        let by = i64::try_from(what.bump_revision).ok();
        now = by
            .and_then(|by| revision.checked_add(by))
            .filter(|now| *now <= RAISED_MAX)
            .ok_or(Error::TooLarge { revision, by: what.bump_revision })?;
        mvcc::raise_revision(&mut guard, now);
    }
    guard.set_applied(0, 0, now);
    drop(guard);
    backend.commit_now();
    Ok(())
}

/// The revision of the newest row of the key bucket, 1 if there is none.
fn revision(backend: &Backend) -> i64 {
    let newest = backend.rows(&backend.cut(Bucket::Key)).last();
    let main = newest.and_then(|(key, _)| Some(i64::from_be_bytes(key.get(..8)?.try_into().ok()?)));
    main.unwrap_or(1)
}
