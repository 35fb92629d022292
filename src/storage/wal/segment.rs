//! The files of the log: their names, and how a new one comes to be without ever being seen half
//! done.
//!
//! A whole log is built in `wal.tmp`, synced, and renamed. A further segment is built as `1.tmp`
//! ([`super::ahead`] says when), its first records are synced, and then it gets its name. In both
//! cases the directory is synced behind the rename: a name that a power failure takes back is a
//! file that was never there. That sync uses the handle that holds the directory's lock, so that a
//! process without a free descriptor can still end a segment.

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

/// A segment's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Its place in the row; the first is 0.
    pub(super) sequence: u64,
    /// The first index that it may hold: the last one at the time of the cut, and one.
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
        // Only the one form that is written: no capitals, no other width.
        (name.path(Path::new("")).to_str()? == file).then_some(name)
    }
}

/// Whether there is a log in the directory (etcd: wal.Exist).
///
/// # Errors
///
/// Nobody can tell: the directory is there and cannot be read, or something else stands in its
/// place. A member that took this for "no log" would vote as if it had never voted.
pub fn exists(dir: &Path) -> Result<bool, Error> {
    match names(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        names => Ok(!names.map_err(Error::io("listing", dir, 0))?.is_empty()),
    }
}

/// The segments in their order; without a gap, or it is an error.
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

fn names(dir: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().to_str().and_then(Name::parse));
    }
    names.sort_by_key(|name| name.sequence);
    Ok(names)
}

/// Keeps everybody else out for as long as it lives.
pub(super) fn lock(dir: &Path) -> Result<Flock<fs::File>, Error> {
    let handle = match fs::File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing(dir.to_owned()));
        }
        handle => handle.map_err(Error::io("opening", dir, 0))?,
    };
    Flock::lock(handle, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Error::InUse(dir.to_owned()),
        errno => Error::io("locking", dir, 0)(errno.into()),
    })
}

/// An empty directory beside the log's, in which a new log is built.
pub(super) fn scratch_dir(dir: &Path) -> Result<PathBuf, Error> {
    let mut scratch = dir.as_os_str().to_owned();
    scratch.push(".tmp");
    let scratch = PathBuf::from(scratch);
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        removed => removed.map_err(Error::io("removing", &scratch, 0))?,
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(&scratch).map_err(Error::io("creating", &scratch, 0))?;
    Ok(scratch)
}

/// Gives a finished log its name.
pub(super) fn publish_dir(scratch: &Path, dir: &Path, fsync: bool) -> Result<(), Error> {
    fs::rename(scratch, dir).map_err(Error::io("renaming", scratch, 0))?;
    match dir.parent().filter(|parent| fsync && !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent).map_err(Error::io("syncing", parent, 0)),
        None => Ok(()),
    }
}

/// Makes a file in the directory and removes it: a log that cannot be continued is refused when the
/// member starts, and not at its next segment (etcd: fileutil.IsDirWriteable).
pub(super) fn check_writable(dir: &Path) -> Result<(), Error> {
    let probe = dir.join("probe.tmp");
    File::create(&probe).map_err(Error::io("creating", &probe, 0))?;
    fs::remove_file(&probe).map_err(Error::io("removing", &probe, 0))
}

/// Removes the segments that were being prepared when the member ended.
pub(super) fn remove_leftovers(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(Error::io("listing", dir, 0))? {
        let path = entry.map_err(Error::io("listing", dir, 0))?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
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

/// The same, for a segment that is not needed yet. Where the file system has not enough room, it
/// reserves nothing: for a moment that would take the last blocks from the segment and from the
/// database that are written meanwhile. A file that could not be finished is removed.
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

/// Gives a segment, whose first records are on the disk, its name.
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
