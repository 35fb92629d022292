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
    fs,
    sync::{Arc, mpsc::sync_channel},
};

use super::{
    Backend, Error, POISONED, Shared,
    file::{DatabaseFile, remove_unfinished, unfinished},
};
use crate::storage::{disk, with_causes};

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
    /// Defragments the file, if anybody has asked. Called by the commit thread, after a commit.
    pub(super) fn defragment_if_asked(&self) {
        let waiting = std::mem::take(&mut self.control().defragment);
        if waiting.is_empty() {
            return;
        }
        let done = self.defragment();
        for sender in waiting {
            // A caller that is gone needs no answer.
            let _ = sender.send(done.clone());
        }
    }

    fn defragment(&self) -> Result<Defragmented, Refused> {
        let before = self.sizes.size();
        let unfinished = unfinished(&self.path);
        let copy = self.copy_file().map_err(|error| {
            let _ = remove_unfinished(&unfinished);
            Refused::NotCopied(with_causes(&error))
        })?;
        fail::fail_point!("defrag-before-rename");
        let renamed = fs::rename(&unfinished, &self.path);
        fail::fail_point!("defrag-after-rename");
        let folder = self.path.parent().unwrap_or(std::path::Path::new("."));
        // After a rename whose outcome is unknown, nobody can tell which file a restart will find.
        let synced = renamed.and_then(|()| disk::sync_dir(folder));
        if let Err(source) = synced {
            self.fatal(&Error::Open { path: self.path.clone(), source });
        }
        fail::fail_point!("defrag-after-sync");
        self.exchange_file(Arc::new(copy));
        Ok(Defragmented { before, after: self.sizes.size() })
    }

    fn copy_file(&self) -> Result<DatabaseFile, Error> {
        let file = Arc::clone(&self.read().file);
        let copy = DatabaseFile::make(&unfinished(&self.path), &self.path, self.options.fsync)?;
        fail::fail_point!("defrag-before-copy");
        match file.copy_into(&copy) {
            Ok(_) => Ok(copy),
            Err(source) => Err(copy.refused(source)),
        }
    }

    /// Lets readers and the next commit use the new file.
    fn exchange_file(&self, copy: Arc<DatabaseFile>) {
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
        // The old file is closed when its last reader is done.
        drop((old_file, old));
    }
}

#[cfg(test)]
mod tests;
