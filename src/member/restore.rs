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
//! * A member finds a whole directory or none: a restore works beside it, checks the hash and every
//!   page, and gives the directories their names at its end (`restore/place.rs`).
//! * A mark beside the database says that no log rebuilds it: a member that has lost it must not
//!   begin with an empty key space.
//!
//! A database file is also defragmented here while its member does not run ([`defragment`]), and
//! its keys are hashed ([`hash_kv`]).
//!
//! Left out: a raft snapshot. The new log begins with the first entry, and the database says that
//! none of it is applied yet, so a member that starts here applies it from the beginning.

mod place;
mod saved;
#[cfg(test)]
mod tests;

use std::{
    io,
    panic::PanicHookInfo,
    path::{Path, PathBuf},
};

use self::{place::Place, saved::Saved};
use super::{Error as DataError, data};
use crate::{
    config::ServerConfig,
    server::mvcc,
    storage::{
        backend::{
            self, Bucket, Defragmented,
            offline::{self, Checked, main_revision},
        },
        redb_panic, wal,
    },
};

pub use crate::storage::{backend::offline::Contents, with_causes};

/// How many revisions must be left after `--bump-revision`. No cluster writes that many; but
/// the one after the largest would end every member.
const LEFT: i64 = 1 << 62;

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
    /// Only a regular file has an end.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
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
    /// The WAL directory is the data directory, or lies where that has other files.
    #[error("wal-dir {path:?} is where the data directory has other files")]
    WalAmongData {
        /// The directory.
        path: PathBuf,
    },
    /// The file has no hash, and `--skip-hash-check` was not given.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoHash,
    /// The file is not what was saved.
    #[error("{}: expected sha256 {expected}, got {found}", path.display())]
    OtherHash {
        /// The file.
        path: PathBuf,
        /// The hash behind the database, in hex.
        expected: String,
        /// That of the database.
        found: String,
    },
    /// The file is not a database, or it is damaged.
    #[error(transparent)]
    Database(#[from] backend::Error),
    /// The raised revision would be too near to the largest revision.
    #[error(
        "the revision {revision} cannot be raised by {by}: 2^62 later revisions must be left, so it \
         can rise to {}",
        i64::MAX - LEFT
    )]
    TooLarge {
        /// The database's revision.
        revision: i64,
        /// `--bump-revision`.
        by: u64,
    },
    /// The keys of a database have no hash.
    #[error(transparent)]
    Keys(#[from] mvcc::offline::NoHash),
    /// The log cannot be made.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The same, from the log itself.
    #[error(transparent)]
    Wal(#[from] wal::Error),
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

/// What a saved file contains, as `etcdutl snapshot status` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What the rows are.
    pub contents: Contents,
    /// The bytes of the database.
    pub size: u64,
}

/// Fills the data directory of this configuration from a saved file.
///
/// # Errors
/// See [`Error`]. What was made until then is removed.
pub fn restore(config: &ServerConfig, saved: &Path, what: Restore) -> Result<(), Error> {
    let saved = Saved::open(saved)?;
    if !saved.has_hash && !what.skip_hash_check {
        return Err(Error::NoHash);
    }
    let place = Place::begin(config)?;
    let (db, name) = (place.dirs.database(), place.database());
    saved.copy(db, &name, !what.skip_hash_check)?;
    step("restore-copied", &name)?;
    let revision = offline::look(db, saved.len, &saved.path, newest)?;
    let row = raised(revision, what.bump_revision)?;
    let clear = [Bucket::Members, Bucket::MembersRemoved];
    offline::begin_again(db, &name, &clear, row.as_slice())?;
    step("restore-changed", &name)?;
    data::begin_log(&place.working, &place.dirs)?;
    step("restore-logged", &name)?;
    place.finish()
}

/// What the saved file contains. It is not changed, and not copied.
///
/// # Errors
/// See [`Error`].
pub fn status(saved: &Path) -> Result<Status, Error> {
    let saved = Saved::open(saved)?;
    // etcdutl does not look at the hash here.
    saved.check_hash()?;
    let contents = offline::look(&saved.path, saved.len, &saved.path, Checked::contents)?;
    Ok(Status { contents, size: saved.len })
}

/// The hash of the keys of a database up to a revision, and what else `etcdutl hashkv` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash {
    /// As a member answers HashKV.
    pub hash: u32,
    /// The revision up to which the keys are hashed.
    pub revision: i64,
    /// The compacted revision; −1 if there was no compaction.
    pub compacted: i64,
}

/// Hashes the keys of a database at a revision (0: the newest). The file, which may be a saved one
/// or that of a member that does not run, is not changed.
///
/// # Errors
/// See [`Error`].
pub fn hash_kv(saved: &Path, revision: i64) -> Result<KeyHash, Error> {
    let saved = Saved::open(saved)?;
    saved.check_hash()?;
    let hash = |database: &Checked| Ok(mvcc::offline::hash_of(database, revision));
    let found = offline::look(&saved.path, saved.len, &saved.path, hash)??;
    Ok(KeyHash { hash: found.hash, revision: found.hash_revision, compacted: found.compacted })
}

/// Gives the free pages of a member's database back to the disk. The member must not run: its lock
/// on the file is found.
///
/// # Errors
/// There is no database, it is in use or damaged, or the disk fails.
pub fn defragment(data_dir: &Path) -> Result<Defragmented, backend::Error> {
    offline::defragment(&data_dir.join("member/snap/db"))
}

/// Whether these functions make an error of a panic. For a panic hook, which has nothing to tell
/// then.
pub fn is_caught(panic: &PanicHookInfo<'_>) -> bool {
    redb_panic::is_caught(panic)
}

/// The revision of the key space in a database; it begins with 1.
fn newest(database: &Checked) -> Result<i64, backend::Error> {
    let row = database.last(Bucket::Key)?;
    // All rows of a compacted key space may be gone.
    let mark = database.get(Bucket::Meta, mvcc::raised(0).0.as_bytes())?;
    let revisions = [row, mark].into_iter().flatten().filter_map(|key| main_revision(&key));
    Ok(revisions.max().unwrap_or(1).max(1))
}

/// The row that raises the revision, if it is to be raised.
fn raised(revision: i64, by: u64) -> Result<Option<(&'static str, Vec<u8>)>, Error> {
    if by == 0 {
        return Ok(None);
    }
    let to = i64::try_from(by).ok().and_then(|by| revision.checked_add(by));
    let to = to.filter(|to| *to <= i64::MAX - LEFT).ok_or(Error::TooLarge { revision, by })?;
    let (key, value) = mvcc::raised(to);
    Ok(Some((key, value.to_vec())))
}

/// A step is done; in tests a failure or a kill comes here.
fn step(name: &'static str, path: &Path) -> Result<(), Error> {
    fail::fail_point!(name, |_| Err(file(path)(nix::errno::Errno::ENOSPC.into())));
    // Without failpoints the arguments have no use.
    let _ = (name, path);
    Ok(())
}
