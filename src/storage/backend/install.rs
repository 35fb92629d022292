//! A database that was received takes the place of the file (etcd: `OpenSnapshotBackend`).
//!
//! ```text
//!   INDEX.snap.db ──open, read──▶ Received        readers use the old file
//!        commit thread: rename to db, sync ──▶ readers and the next commit get the new one
//! ```
//!
//! The received file is opened under its own name, so that the index in memory can be rebuilt from
//! it while the old one still serves. Then the commit thread, which alone writes the file, puts it
//! in place, as it does after a defragmentation. What waits in the buffers is dropped: the received
//! file has it, because it is ahead.
//!
//! A received file has reasons of its own to be bad, and they are not those of the member's file.
//! So its errors name it, no alarm is raised for it, and a panic of redb over it is an error.
//! [`offline::look`](super::offline::look) has seen all its pages and rows before raft heard of it.
//!
//! Invariants
//! * Under the name of the database there is a whole file at each moment. A member that is killed
//!   before the rename is synced finds the received file, or the database, at its next start.
//! * Nothing is written into the received file before it has its final name.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
};

use bytes::Bytes;
use redb::StorageError;

use super::{
    Applied, Backend, Bucket, Error, POISONED, Shared,
    file::{DatabaseFile, FileRead, take_after},
};
use crate::storage::{
    disk::{folder_of, sync_dir},
    redb_file::RedbFile,
    redb_panic::caught,
};

/// A received database that is open and not in use yet.
#[derive(Debug)]
pub struct Received {
    path: PathBuf,
    database: Arc<DatabaseFile>,
    file: Arc<FileRead>,
    applied: Applied,
    conf_state: Option<Bytes>,
    /// The bytes of the rows of the key bucket.
    stored: u64,
}

/// A request to the commit thread.
#[derive(Debug)]
pub(super) struct Install {
    received: Received,
    done: SyncSender<()>,
}

impl Received {
    /// The raft index and term of its last entry.
    pub fn consistent_index(&self) -> (u64, u64) {
        (self.applied.index, self.applied.term)
    }

    /// Shows the rows of a bucket to `see`, in the order of their keys, and returns what it makes
    /// of them.
    ///
    /// # Errors
    /// A row cannot be read, or does not fit its checksum. `see` has got those before it.
    pub fn read<T>(
        &self,
        bucket: Bucket,
        see: impl FnOnce(&mut dyn Iterator<Item = (Bytes, Bytes)>) -> T,
    ) -> Result<T, Error> {
        let read = caught(|| {
            let (rows, mut bad) = (self.file.range(bucket, &[], None)?, None);
            let mut rows = rows.map_while(|row| {
                let (key, entry) = row.map_err(|error| bad = Some(error)).ok()?;
                // The file has no deletions.
                Some((key, entry.value().cloned().unwrap_or_default()))
            });
            let seen = see(&mut rows);
            drop(rows);
            bad.map_or(Ok(seen), Err)
        });
        let read: Result<T, StorageError> =
            read.map_err(|why| Error::Damaged { path: self.path.clone(), why })?;
        read.map_err(|source| Error::of_redb(&self.path, source.into()))
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.file.get(bucket, key);
        value.map_err(|source| Error::of_redb(&self.path, source.into()))
    }

    /// Gives it the facts that the key space has found in its rows.
    pub fn opened_at(&mut self, revision: i64, stored: u64) {
        (self.applied.revision, self.stored) = (revision, stored);
    }
}

impl Backend {
    /// Opens a database that was received, in the directory of this one.
    ///
    /// # Errors
    /// It is no database, or cannot be opened.
    pub fn open_received(&self, path: &Path) -> Result<Received, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        // Opening would make a file that is not there.
        fs::metadata(path).map_err(failed)?;
        let opened = caught(|| {
            let file = RedbFile::open(path, self.shared.options.fsync).map_err(failed)?;
            let database = Arc::new(DatabaseFile::over(file, path)?);
            let file = database.read().map_err(|source| database.refused(source))?;
            let (applied, conf_state) = file.state(path)?;
            let (path, file) = (path.to_owned(), Arc::new(file));
            Ok(Received { path, database, file, applied, conf_state, stored: 0 })
        });
        opened.unwrap_or_else(|why| Err(Error::Damaged { path: path.to_owned(), why }))
    }

    /// Lets what the commit thread has begun come to its end, so that [`Backend::install`] waits
    /// for nothing but the exchange. From now on the thread begins no commit that nobody needs, and
    /// no defragmentation. To be called before the locks are taken that keep readers out; `install`
    /// must follow.
    pub fn before_install(&self) {
        self.shared.control().installs = true;
        self.commit_now();
    }

    /// Puts a received database in the place of the file, and drops what the buffers have. Returns
    /// when readers get its rows; the caller keeps them out meanwhile. A failure ends the member.
    pub fn install(&self, received: Received) {
        let (done, installed) = sync_channel(1);
        let mut control = self.shared.control();
        control.installs = false;
        if control.stopped {
            return;
        }
        control.install = Some(Install { received, done });
        self.shared.wake.notify_one();
        drop(control);
        // It fails if the commit thread has ended: the next start uses the received file.
        let _ = installed.recv();
    }
}

impl Shared {
    /// Installs a received database, if there is one, and returns the file that it has replaced.
    /// Called by the commit thread instead of a commit.
    pub(super) fn install_if_asked(&self) -> Option<Arc<DatabaseFile>> {
        let Install { received, done } = self.control().install.take()?;
        let old = self.put_in_place(received);
        let _ = done.send(());
        Some(old)
    }

    fn put_in_place(&self, received: Received) -> Arc<DatabaseFile> {
        let failed = |source| Error::Open { path: received.path.clone(), source };
        fail::fail_point!("install-before-rename");
        let renamed = take_after(&received.path, &self.path)
            .and_then(|()| fs::rename(&received.path, &self.path));
        if let Err(source) = renamed {
            self.fatal(&failed(source));
        }
        fail::fail_point!("install-after-rename");
        if let Err(source) = sync_dir(folder_of(&self.path)) {
            self.fatal(&failed(source));
        }
        fail::fail_point!("install-after-sync");
        let sizes = received.database.sizes(received.stored);
        let mut buffers = self.lock();
        let old_file = std::mem::replace(&mut buffers.file, received.file);
        let old_rows = std::mem::take(&mut buffers.active);
        (buffers.applied, buffers.committed) = (received.applied, received.applied);
        (buffers.conf_state, buffers.conf_state_changed) = (received.conf_state, false);
        let mut database = self.database.lock().expect(POISONED);
        let old = std::mem::replace(&mut *database, received.database);
        drop(database);
        self.sizes.note(sizes);
        self.control().full = false;
        drop(buffers);
        self.done.notify_all();
        drop((old_file, old_rows));
        old
    }
}
