//! Defragmentation: the file is exchanged for a copy without free pages (etcd: `backend.defrag`).
//!
//! ```text
//!   commit thread   commit ─▶ copy into db.tmp, sync ─▶ rename to db, sync ─▶ readers get the new
//!   apply           writes into the active buffer, until that is full              file
//!   readers         read the old file                                       ─▶ the new one
//! ```
//!
//! The commit thread is the only one that writes the file, so while it copies the file stands
//! still, and nobody else has to be stopped. etcd keeps out readers and writers for the whole time.
//! Here readers never wait, and writers wait only when the buffer is full, as they do behind a slow
//! commit.
//!
//! Invariants
//! * Under the name of the database there is a whole file at each moment: the old one up to the
//!   rename, and then the new one, with the same rows. The directory is synced before anything is
//!   written into the new file, so that no commit can be lost with the old name.
//! * A copy that fails, because the disk is full for example, changes nothing.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, mpsc::sync_channel},
};

use super::{
    Backend, Error, POISONED, Shared,
    file::{DatabaseFile, FileRead, remove_unfinished, take_after, unfinished},
};
use crate::{
    clock,
    metrics::recorded,
    storage::{
        disk::{self, folder_of},
        with_causes,
    },
};

/// The bytes that a copy of the file leaves free on the disk.
const ROOM_LEFT: u64 = 16 << 20;

/// What a defragmentation has done; sizes as in [`Backend::size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defragmented {
    /// The bytes that the disk held for the file before.
    pub before: u64,
    /// The bytes that it holds now.
    pub after: u64,
}

/// Why a file was not defragmented. It is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The copy could not be made; the text has the file and the cause.
    #[error("{0}")]
    NotCopied(String),
    /// The member stops.
    #[error("the member stops")]
    Stopped,
}

impl Backend {
    /// Exchanges the file for one without free pages, and returns when that is done. Calls at the
    /// same time share the work.
    pub fn defragment(&self) -> Result<Defragmented, Refused> {
        let (sender, receiver) = sync_channel(1);
        let mut control = self.shared.control();
        if control.stopping || control.stopped {
            return Err(Refused::Stopped);
        }
        control.defragment.push(sender);
        self.shared.wake.notify_one();
        drop(control);
        receiver.recv().unwrap_or(Err(Refused::Stopped))
    }
}

impl Shared {
    /// Defragments the file, if anybody has asked, and returns the one that it has replaced. Called
    /// by the commit thread, after a commit.
    pub(super) fn defragment_if_asked(&self) -> Option<Arc<DatabaseFile>> {
        let mut control = self.control();
        if control.installs || control.defragment.is_empty() {
            return None;
        }
        let waiting = std::mem::take(&mut control.defragment);
        drop(control);
        let (began, in_progress) = (clock::now(), recorded::DEFRAGS_IN_PROGRESS.during());
        let defragmented = self.defragment();
        recorded::DEFRAGS.observe_duration(began.elapsed());
        drop(in_progress);
        let (done, old) = match defragmented {
            Ok((done, old)) => (Ok(done), Some(old)),
            Err(refused) => (Err(refused), None),
        };
        for sender in waiting {
            // A caller that is gone needs no answer.
            let _ = sender.send(done.clone());
        }
        old
    }

    fn defragment(&self) -> Result<(Defragmented, Arc<DatabaseFile>), Refused> {
        let before = self.sizes.size();
        let unfinished = unfinished(&self.path);
        let not_copied = |error: &Error| {
            let _ = remove_unfinished(&unfinished);
            Refused::NotCopied(with_causes(error))
        };
        let copy = self.copy_file().map_err(|error| {
            self.end_if_damaged(&error);
            not_copied(&error)
        })?;
        fail::fail_point!("defrag-before-rename");
        let failed = |source| Error::Open { path: self.path.clone(), source };
        rename(&unfinished, &self.path).map_err(|source| not_copied(&failed(source)))?;
        fail::fail_point!("defrag-after-rename");
        // Nobody can tell which file a restart finds after a rename that is not synced.
        if let Err(source) = disk::sync_dir(folder_of(&self.path)) {
            self.fatal(&failed(source));
        }
        fail::fail_point!("defrag-after-sync");
        let old = self.exchange_file(Arc::new(copy));
        Ok((Defragmented { before, after: self.sizes.size() }, old))
    }

    fn copy_file(&self) -> Result<DatabaseFile, Error> {
        let file = Arc::clone(&self.read().file);
        self.check_room()?;
        copy_beside(&file, &self.path, self.options.fsync)
    }

    /// Fails if there is less room on the disk than a copy needs. Filling the disk would take the
    /// room from the next commit and from the log, which end the member without it.
    pub(super) fn check_room(&self) -> Result<(), Error> {
        check_room(&self.path, self.sizes.in_use())
    }

    /// Lets readers and the next commit use the new file, and returns the old one.
    fn exchange_file(&self, copy: Arc<DatabaseFile>) -> Arc<DatabaseFile> {
        let file = match copy.read() {
            Ok(file) => Arc::new(file),
            Err(source) => self.fatal(&copy.refused(source)),
        };
        let sizes = copy.sizes(self.sizes.stored());
        let mut buffers = self.lock();
        let old_file = std::mem::replace(&mut buffers.file, file);
        let old = std::mem::replace(&mut *self.database.lock().expect(POISONED), copy);
        self.sizes.note(sizes);
        drop(buffers);
        drop(old_file);
        old
    }
}

/// Makes a file without free pages beside the database at `path`, of the same owner and mode. Its
/// errors name the database. The caller has the database's lock.
pub(super) fn copy_beside(
    from: &FileRead,
    path: &Path,
    fsync: bool,
) -> Result<DatabaseFile, Error> {
    let unfinished = unfinished(path);
    let copy = DatabaseFile::make(&unfinished, path, fsync)?;
    take_after(&unfinished, path)
        .map_err(|source| Error::Open { path: path.to_owned(), source })?;
    fail::fail_point!("defrag-before-copy");
    match from.copy_into(&copy) {
        Ok(_) => Ok(copy),
        Err(source) => Err(copy.refused(source)),
    }
}

/// Fails if the disk has no room for a copy with these bytes.
pub(super) fn check_room(path: &Path, in_use: u64) -> Result<(), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let free = disk::free_bytes(folder_of(path)).map_err(failed)?;
    let needed = in_use.saturating_add(ROOM_LEFT);
    match needed <= free {
        true => Ok(()),
        false => Err(Error::NoRoom { path: path.to_owned(), needed, free }),
    }
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fail::fail_point!("defrag-rename", |_| Err(nix::errno::Errno::EACCES.into()));
    fs::rename(from, to)
}

#[cfg(test)]
mod tests;
