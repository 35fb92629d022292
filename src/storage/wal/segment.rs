//! The files of the log: their names, and how a new one is made without ever being visible
//! unfinished.
//!
//! A segment is built in the log's directory under a temporary name, `0.tmp` for the first
//! ([`super::ahead`] says when the others are begun). Its first records are synced, then it is
//! renamed, and then the directory is synced: if a power failure undoes the renaming, there was no
//! segment yet. That last sync uses the handle that holds the directory's lock, so that a process
//! without a free descriptor can still end a segment.
//!
//! A log that has lost its last segment looks whole, because the one before ends as it should. So
//! the file `newest` has the number of the newest segment. It is only a witness: it is not synced,
//! and if it is missing, old or torn, it says nothing.
//!
//! **Invariant.** A directory without any `*.wal` file is no log. So an interrupted first start
//! leaves either no log or one with a complete first segment. etcd builds the whole log in
//! `wal.tmp` and renames that; here the directory itself is never renamed, because it may be a
//! mount point, or hold files of others, such as `lost+found` or `.keep`.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::error::{Error, Reason};
use crate::storage::disk::{File, free_bytes, sync_dir};

/// The file with which [`check_writable`] tries the directory.
const PROBE: &str = "probe.tmp";
/// The file with the number of the newest segment.
const NEWEST: &str = "newest";

/// A segment's name: its sequence number and its first index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The segment's number; the first is 0.
    pub(super) sequence: u64,
    /// The first index that it may hold: the last index at the time of the cut, plus one.
    pub(super) index: u64,
}

impl Name {
    /// The segment's file in the log's directory.
    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{:016x}.wal", self.sequence, self.index))
    }

    fn parse(file: &str) -> Option<Name> {
        let (sequence, index) = file.strip_suffix(".wal")?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let name = Name { sequence: number(sequence)?, index: number(index)? };
        // Only the form that is written: no capitals, no other width.
        (name.path(Path::new("")).to_str()? == file).then_some(name)
    }
}

/// Whether there is a log in the directory: any `*.wal` file (etcd: wal.Exist). A file with another
/// name before `.wal` counts too, because it may be a renamed segment.
///
/// # Errors
///
/// If the directory cannot be read, or its path is no directory. A member that took this for "no
/// log" would vote as if it had never voted.
pub fn exists(dir: &Path) -> Result<bool, Error> {
    let listing = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        listing => listing.map_err(Error::io("listing", dir, 0))?,
    };
    for entry in listing {
        let path = entry.map_err(Error::io("listing", dir, 0))?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The segments in their order. A gap is an error.
pub(super) fn list(dir: &Path) -> Result<Vec<Name>, Error> {
    let names = match names(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(Error::io("listing", dir, 0))?,
    };
    if names.is_empty() {
        return Err(Error::Missing(dir.to_owned()));
    }
    for pair in names.windows(2) {
        if pair[0].sequence + 1 != pair[1].sequence {
            return Err(Error::corrupt(&pair[1].path(dir), 0, Reason::Name));
        }
    }
    Ok(names)
}

/// Notes that this is the newest segment. What cannot be noted is not missed.
pub(super) fn note_newest(dir: &Path, name: Name) {
    let path = dir.join(NEWEST);
    // A line that is not whole says nothing.
    let noted = fs::write(&path, format!("{:016x}\n", name.sequence));
    if let Err(error) = noted {
        tracing::warn!(path = %path.display(), %error, "the newest segment was not noted");
    }
}

/// Whether the last of these is the newest segment that there ever was, as far as is known.
pub(super) fn check_newest(dir: &Path, last: Name) -> Result<(), Error> {
    let noted = fs::read_to_string(dir.join(NEWEST)).unwrap_or_default();
    let noted = noted.strip_suffix('\n').filter(|number| number.len() == 16);
    let noted = noted.and_then(|number| u64::from_str_radix(number, 16).ok());
    match noted.filter(|noted| last.sequence < *noted) {
        Some(sequence) => Err(Error::TailGone { dir: dir.to_owned(), sequence }),
        None => Ok(()),
    }
}

fn names(dir: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().to_str().and_then(Name::parse));
    }
    names.sort_by_key(|name| name.sequence);
    Ok(names)
}

/// The log's directory, locked against other processes until this is dropped.
#[derive(Debug)]
pub(super) struct LockedDir {
    pub(super) path: PathBuf,
    handle: Flock<fs::File>,
}

impl LockedDir {
    /// Makes new names in the directory durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.handle.sync_all().map_err(Error::io("syncing", &self.path, 0))
    }
}

/// Locks the directory. Fails if another process has locked it.
pub(super) fn lock(dir: &Path) -> Result<LockedDir, Error> {
    let handle = match fs::File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing(dir.to_owned()));
        }
        handle => handle.map_err(Error::io("opening", dir, 0))?,
    };
    let locked = Flock::lock(handle, FlockArg::LockExclusiveNonblock);
    let handle = locked.map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Error::InUse(dir.to_owned()),
        errno => Error::io("locking", dir, 0)(errno.into()),
    })?;
    Ok(LockedDir { path: dir.to_owned(), handle })
}

/// Makes the log's directory if there is none.
pub(super) fn make_dir(dir: &Path, fsync: bool) -> Result<(), Error> {
    let existed = dir.is_dir();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).map_err(Error::io("creating", dir, 0))?;
    let Some(parent) = dir.parent().filter(|parent| fsync && !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    match sync_dir(parent) {
        // The directory was made by the operator, and this member has no rights on its parent.
        Err(error) if existed && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        // A killed start may have made the directory, so this is needed even if it exists.
        synced => synced.map_err(Error::io("syncing", parent, 0)),
    }
}

/// The path under which segment number `sequence` is built.
pub(super) fn unfinished(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence}.tmp"))
}

/// Whether a file has a name that [`unfinished`] gives, which is also etcd's (filePipeline).
fn is_unfinished(file: &str) -> bool {
    let number = file.strip_suffix(".tmp");
    number.is_some_and(|number| number.parse::<u64>().is_ok_and(|n| n.to_string() == number))
}

/// Makes a file in the directory and removes it: a log that cannot be continued is refused when the
/// member starts, and not at its next segment (etcd: fileutil.IsDirWriteable).
pub(super) fn check_writable(dir: &Path) -> Result<(), Error> {
    let probe = dir.join(PROBE);
    File::create(&probe).map_err(Error::io("creating", &probe, 0))?;
    fs::remove_file(&probe).map_err(Error::io("removing", &probe, 0))
}

/// Removes the segments that were being prepared when the member ended. Files of others stay.
pub(super) fn remove_leftovers(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(Error::io("listing", dir, 0))? {
        let entry = entry.map_err(Error::io("listing", dir, 0))?;
        if entry.file_name().to_str().is_some_and(|file| is_unfinished(file) || file == PROBE) {
            let path = entry.path();
            fs::remove_file(&path).map_err(Error::io("removing", &path, 0))?;
        }
    }
    Ok(())
}

/// Creates a segment of zeros.
pub(super) fn allocate(path: &Path, len: u64) -> Result<File, Error> {
    let file = File::create(path).map_err(Error::io("creating", path, 0))?;
    file.preallocate(len).map_err(Error::io("preallocating", path, 0))?;
    Ok(file)
}

/// Creates a segment of zeros that is not needed yet. If the file system has not enough room,
/// nothing is reserved, because that would briefly take the last blocks from the present segment
/// and from the database. A file that could not be finished is removed.
pub(super) fn prepare(path: &Path, len: u64) -> Result<File, Error> {
    let failed = |source: io::Error| Error::io("preallocating", path, 0)(source);
    let dir = path.parent().unwrap_or(path);
    if free_bytes(dir).map_err(Error::io("measuring", dir, 0))? < len {
        return Err(failed(Errno::ENOSPC.into()));
    }
    allocate(path, len).inspect_err(|_| {
        // If it cannot be removed either, the next start does it.
        let _ = fs::remove_file(path);
    })
}

/// Writes a segment's first records.
pub(super) fn write_head(file: &File, head: &[u8]) -> Result<(), Error> {
    file.write_at(head, 0).map_err(Error::io("writing", file.path(), 0))
}

/// Returns when a segment that has no name yet is on the disk.
pub(super) fn sync(file: &File, fsync: bool) -> Result<(), Error> {
    match fsync {
        true => file.sync_all().map_err(Error::io("syncing", file.path(), 0)),
        false => Ok(()),
    }
}

/// Gives a segment its final name, once its first records are on the disk.
pub(super) fn publish(file: File, dir: &Path, name: Name) -> Result<File, Error> {
    let path = name.path(dir);
    fs::rename(file.path(), &path).map_err(Error::io("renaming", file.path(), 0))?;
    Ok(file.renamed(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form() {
        let name = Name { sequence: 1, index: 0x2f1 };
        let file = "0000000000000001-00000000000002f1.wal";
        assert_eq!(name.path(Path::new("d")), Path::new("d").join(file));
        assert_eq!(Name::parse(file), Some(name));
        for wrong in [
            "1-2f1.wal",
            "0000000000000001-00000000000002F1.wal",
            "x.wal",
            "0.tmp",
            "0000000000000001-00000000000002f1.wal.broken",
            "+000000000000001-00000000000002f1.wal",
        ] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_missing_segment_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for sequence in [0, 1, 3] {
            fs::write(Name { sequence, index: sequence }.path(dir.path()), "").unwrap();
        }
        let error = list(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { reason: Reason::Name, .. }), "{error}");
    }
}
