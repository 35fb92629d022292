//! The `.snap` files beside the database, in etcd's format (etcd: `server/etcdserver/api/snap`).
//!
//! ```text
//!   member/snap/0000000000000002-00000000000186a1.snap      term and index, in hex
//!   ┌ snappb ─────┬───────────────────────────────┐
//!   │ crc (32C)   │ raftpb.Snapshot: conf state,  │
//!   │ of the data │ index, term; no data          │
//!   └─────────────┴───────────────────────────────┘
//!   member/snap/00000000000186a1.snap.db                    a database that was received
//! ```
//!
//! A `.snap` file says that the database has everything up to its index, so that a start may leave
//! out the log before it. It counts only if the log has a record with the same index and term: the
//! file is on the disk first, so that no crash leaves a record without a file, and a file without a
//! record is an orphan that a later start ignores.
//!
//! In etcd 3.5 the data of the snapshot is the v2 store as JSON, from which a member of etcd reads
//! the members. Here it is empty: the members are rows of the database, and no etcd can start on a
//! database of redb anyway.
//!
//! Invariants
//! * A file gets its name when its content is on the disk. A file whose content is damaged is
//!   renamed to `.broken`, and the next older one is used.
//! * Nothing in a file is trusted: its length is bounded, and its index and term must be those of
//!   its name.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message as _;

use super::disk::{File, sync_dir};
use crate::pb::{
    raftpb::{Snapshot, SnapshotMetadata},
    snappb,
};
use crate::{clock, metrics::recorded};

/// The longest file that is read. A v2 store of etcd in it has a few kilobytes.
const LEN_MAX: u64 = 512 << 20;
const SUFFIX: &str = "snap";
const RECEIVED: &str = ".snap.db";

const UNFINISHED: &str = "snap.tmp";
/// The names of received databases that are not whole yet: a number between these.
const PART: (&str, &str) = ("received-", ".tmp");

/// The operating system has refused something about a file.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed: {}", path.display())]
pub struct Error {
    /// The operation that failed.
    operation: &'static str,
    /// The file or directory.
    path: PathBuf,
    /// The operating system's error.
    source: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error { operation, path: path.to_owned(), source }
}

/// Why the content of a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is longer than any snapshot.
    #[error("it is too long")]
    TooLong,
    /// It is not a message of etcd's `snappb`, or its data is no snapshot.
    #[error("it is not a snapshot")]
    Malformed,
    /// The data is not what was written.
    #[error("its checksum does not match")]
    Checksum,
    /// It is the snapshot of another name.
    #[error("its index and term are not those of its name")]
    Name,
}

/// Index and term of a `.snap` file, as its name has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The raft term of the entry at the index. Files are ordered by it first, as in etcd.
    pub term: u64,
    /// The index up to which the database has everything.
    pub index: u64,
}

impl Name {
    fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{:016x}.{SUFFIX}", self.term, self.index))
    }

    fn parse(file: &str) -> Option<Name> {
        let (term, index) = file.strip_suffix(".snap")?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let name = Name { term: number(term)?, index: number(index)? };
        (name.path(Path::new("")).to_str()? == file).then_some(name)
    }
}

/// The file of a database that was received as of this index.
pub fn received_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016x}{RECEIVED}"))
}

/// The file of a database that is being received. The number makes it unique in this process.
pub fn unfinished_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{}{number}{}", PART.0, PART.1))
}

/// Removes what a member that was killed has not finished: databases that were being received, and
/// `.snap` files without their name.
///
/// # Errors
/// A file cannot be removed.
pub fn remove_unfinished(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(failed("listing", dir))? {
        let path = entry.map_err(failed("listing", dir))?.path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let number = file.strip_prefix(PART.0).and_then(|file| file.strip_suffix(PART.1));
        let is_part = number.is_some_and(|number| number.parse::<u64>().is_ok());
        let named = file.strip_suffix(".tmp").and_then(Name::parse);
        if is_part || named.is_some() {
            fs::remove_file(&path).map_err(failed("removing", &path))?;
        }
    }
    Ok(())
}

/// Writes the file of a snapshot, and returns its length in bytes.
///
/// # Errors
/// The file cannot be written; then there is none.
pub fn save(dir: &Path, metadata: SnapshotMetadata, fsync: bool) -> Result<u64, Error> {
    let name = Name { term: metadata.term(), index: metadata.index() };
    let began = clock::now();
    let data = Snapshot { data: None, metadata: Some(metadata) }.encode_to_vec();
    let crc = crc32c::crc32c(&data);
    let bytes = snappb::Snapshot { crc: Some(crc), data: Some(data.into()) }.encode_to_vec();
    recorded::SNAP_MARSHALLING.observe_duration(began.elapsed());
    let path = name.path(dir);
    let unfinished = path.with_extension(UNFINISHED);
    let written = write(&unfinished, &bytes, fsync).and_then(|()| {
        fail::fail_point!("snap-before-rename");
        fs::rename(&unfinished, &path).map_err(failed("renaming", &unfinished))
    });
    written.inspect_err(|_| _ = fs::remove_file(&unfinished))?;
    if fsync {
        sync_dir(dir).map_err(failed("syncing", dir))?;
    }
    recorded::SNAP_SAVES.observe_duration(began.elapsed());
    Ok(bytes.len() as u64)
}

fn write(path: &Path, bytes: &[u8], fsync: bool) -> Result<(), Error> {
    let _ = fs::remove_file(path);
    fail::fail_point!("snap-disk-full", |_| {
        Err(failed("writing", path)(nix::errno::Errno::ENOSPC.into()))
    });
    let file = File::create(path).map_err(failed("creating", path))?;
    file.write_at(bytes, 0).map_err(failed("writing", path))?;
    if !fsync {
        return Ok(());
    }
    let began = clock::now();
    file.sync_all().map_err(failed("syncing", path))?;
    recorded::SNAP_FSYNCS.observe_duration(began.elapsed());
    Ok(())
}

/// The names of all files, the newest first.
///
/// # Errors
/// The directory cannot be read.
pub fn names(dir: &Path) -> Result<Vec<Name>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("listing", dir))? {
        let entry = entry.map_err(failed("listing", dir))?;
        names.extend(entry.file_name().to_str().and_then(Name::parse));
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// The snapshots whose files are whole, the newest first. Others are renamed.
///
/// # Errors
/// A file cannot be read or renamed.
pub fn load(dir: &Path) -> Result<Vec<SnapshotMetadata>, Error> {
    let mut found = Vec::new();
    for name in names(dir)? {
        let path = name.path(dir);
        match read(&path, name)? {
            Ok(metadata) => found.push(metadata),
            Err(broken) => {
                let aside = path.with_extension("snap.broken");
                tracing::warn!(path = %path.display(), "a snapshot file is not used: {broken}");
                fs::rename(&path, &aside).map_err(failed("renaming", &path))?;
            }
        }
    }
    Ok(found)
}

fn read(path: &Path, name: Name) -> Result<Result<SnapshotMetadata, Broken>, Error> {
    let len = fs::metadata(path).map_err(failed("measuring", path))?.len();
    if LEN_MAX < len {
        return Ok(Err(Broken::TooLong));
    }
    let bytes = fs::read(path).map_err(failed("reading", path))?;
    Ok(parse(&bytes, name))
}

fn parse(bytes: &[u8], name: Name) -> Result<SnapshotMetadata, Broken> {
    let file = snappb::Snapshot::decode(bytes).map_err(|_| Broken::Malformed)?;
    let data = file.data.filter(|data| !data.is_empty()).ok_or(Broken::Malformed)?;
    if file.crc != Some(crc32c::crc32c(&data)) {
        return Err(Broken::Checksum);
    }
    let snapshot = Snapshot::decode(data.as_ref()).map_err(|_| Broken::Malformed)?;
    let metadata = snapshot.metadata.ok_or(Broken::Malformed)?;
    let is_named = (metadata.term(), metadata.index()) == (name.term, name.index);
    if is_named { Ok(metadata) } else { Err(Broken::Name) }
}

/// Removes the oldest files while there are more than `max`, but none from `index` on. Returns the
/// removed files.
///
/// # Errors
/// A file cannot be removed.
pub fn purge(dir: &Path, max: usize, index: u64) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    for name in names(dir)?.into_iter().skip(max).rev().collect::<Vec<_>>() {
        if name.index < index {
            let path = name.path(dir);
            fs::remove_file(&path).map_err(failed("removing", &path))?;
            removed.push(path);
        }
    }
    Ok(removed)
}

/// Removes received databases by the index as of which they were received: those that the database
/// in use has outrun, or that raft has not taken (etcd: `ReleaseSnapDBs`).
///
/// # Errors
/// A file cannot be removed.
pub fn remove_received(dir: &Path, is_useless: impl Fn(u64) -> bool) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(failed("listing", dir))? {
        let path = entry.map_err(failed("listing", dir))?.path();
        let file = path.file_name().and_then(|name| name.to_str());
        let index = file.and_then(|file| file.strip_suffix(RECEIVED));
        let index = index.and_then(|index| u64::from_str_radix(index, 16).ok());
        if index.is_some_and(|index| is_useless(index) && received_path(dir, index) == path) {
            fs::remove_file(&path).map_err(failed("removing", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::raftpb::ConfState;

    fn metadata(term: u64, index: u64) -> SnapshotMetadata {
        let conf_state = ConfState {
            voters: vec![0x8211_f1d0_f64f_3269],
            auto_leave: Some(false),
            ..ConfState::default()
        };
        SnapshotMetadata { conf_state: Some(conf_state), index: Some(index), term: Some(term) }
    }

    #[test]
    fn the_newest_whole_file_comes_first_and_a_damaged_one_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        for (term, index) in [(2, 10), (2, 20), (3, 30)] {
            save(dir.path(), metadata(term, index), true).unwrap();
        }
        let newest = Name { term: 3, index: 30 }.path(dir.path());
        let whole = fs::read(&newest).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(parse(&flipped, Name { term: 3, index: 30 }).is_err(), "byte {at}");
            assert!(parse(&whole[..at], Name { term: 3, index: 30 }).is_err(), "length {at}");
        }
        assert_eq!(parse(&whole, Name { term: 3, index: 31 }), Err(Broken::Name));
        fs::write(&newest, &whole[1..]).unwrap();
        assert_eq!(load(dir.path()).unwrap(), [metadata(2, 20), metadata(2, 10)]);
        assert!(newest.with_extension("snap.broken").exists() && !newest.exists());
        assert_eq!(load(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn the_oldest_files_go_but_none_that_the_log_may_need() {
        let dir = tempfile::tempdir().unwrap();
        for index in [10, 20, 30, 40] {
            save(dir.path(), metadata(2, index), false).unwrap();
        }
        let removed = purge(dir.path(), 1, 30).unwrap();
        assert_eq!(removed, [10, 20].map(|index| Name { term: 2, index }.path(dir.path())));
        let left: Vec<u64> = names(dir.path()).unwrap().iter().map(|name| name.index).collect();
        assert_eq!(left, [40, 30]);
    }

    #[test]
    fn what_a_killed_member_has_not_finished_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let name = Name { term: 2, index: 7 }.path(dir.path());
        let others = ["db", "db.tmp", "received-x.tmp", "notes.snap.tmp"];
        let stay = others.map(|file| dir.path().join(file));
        let parts = [unfinished_path(dir.path(), 3), name.with_extension(UNFINISHED)];
        for file in stay.iter().chain(&parts) {
            fs::write(file, "").unwrap();
        }
        remove_unfinished(dir.path()).unwrap();
        assert!(stay.iter().all(|file| file.exists()));
        assert_eq!(parts.map(|file| file.exists()), [false, false]);
    }

    #[test]
    fn a_received_database_goes_once_its_entries_are_applied() {
        let dir = tempfile::tempdir().unwrap();
        let files = [7, 8].map(|index| received_path(dir.path(), index));
        let other = dir.path().join("db");
        for file in files.iter().chain([&other]) {
            fs::write(file, "").unwrap();
        }
        remove_received(dir.path(), |index| index <= 7).unwrap();
        assert_eq!([&files[0], &files[1], &other].map(|file| file.exists()), [false, true, true]);
    }
}
