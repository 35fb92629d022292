//! Where a start begins to read the log, and with which database.
//!
//! ```text
//!   .snap files, newest first ──▶ the log from its index on has a record of it? ──▶ begin there
//!                                        │ no: the next older file, or the whole log
//!   INDEX.snap.db of that snapshot, and the database is behind it ──▶ it becomes the database
//!   the database is behind the log that was read ──▶ read further back, as far as there is a log
//! ```
//!
//! A snapshot says that the database has everything up to its index (etcd: `LoadNewestAvailable`,
//! `recoverSnapshotBackend`). A database that was received is renamed only after the log has the
//! record of its snapshot, so a member that was killed in between finds it here, and uses it.

use std::{fs, io, path::Path, sync::Arc};

use super::Error;
use crate::{
    pb::{raftpb, walpb},
    storage::{
        backend::{self, Backend, offline},
        disk, snap,
        wal::{self, Locations, Recovered, Wal},
        with_causes,
    },
};

/// An opened log.
pub(super) struct Log {
    pub(super) wal: Wal,
    pub(super) locations: Arc<Locations>,
    pub(super) recovered: Recovered,
}

/// How a log is opened: its directory, that of the `.snap` files, and the entries before a snapshot
/// that followers may ask for.
pub(super) struct Place<'a> {
    pub(super) wal: &'a Path,
    pub(super) snap: &'a Path,
    pub(super) options: wal::Options,
    pub(super) catch_up_entries: u64,
}

impl Place<'_> {
    /// Opens the log from the newest snapshot on that has both a file and a record; without one,
    /// from its beginning.
    pub(super) fn open(&self) -> Result<Log, Error> {
        snap::remove_unfinished(self.snap)?;
        for file in snap::load(self.snap)? {
            match self.open_at(file.index().saturating_sub(self.catch_up_entries)) {
                Ok(log) if has_record(&log.recovered, &file) => return Ok(log),
                // Without a record of it, the part of the log that was read may have none to begin
                // with. Whether the log itself is damaged is found when more of it is read.
                Ok(_) | Err(Error::Wal(wal::Error::Corrupt { .. })) => {}
                Err(error) => return Err(error),
            }
            tracing::warn!(
                index = file.index(),
                term = file.term(),
                "a snapshot file is not used: the log has no record of it"
            );
        }
        self.open_at(0)
    }

    /// Opens the log from the segment on that has the entry behind this index.
    pub(super) fn open_at(&self, index: u64) -> Result<Log, Error> {
        let (wal, locations, recovered) = wal::open_at(self.wal, &self.options, index)?;
        Ok(Log { wal, locations, recovered })
    }

    /// Opens the log further back if the database needs older entries than were read: it may be
    /// gone, or older than the newest snapshot.
    ///
    /// # Errors
    /// The segments with these entries were removed.
    pub(super) fn reach(&self, log: Log, db: &Path, applied: u64) -> Result<Log, Error> {
        let needed = applied + 1;
        if log.locations.first_index() <= needed {
            return Ok(log);
        }
        drop(log);
        let log = self.open_at(needed)?;
        match log.locations.first_index() {
            first if first <= needed => Ok(log),
            first => Err(Error::BackendBehindLog { path: db.to_owned(), applied, first }),
        }
    }

    /// Opens the database; if it is behind the snapshot at `index`, and a database was received
    /// with that one, then that takes its place.
    pub(super) fn database(
        &self,
        path: &Path,
        options: &backend::Options,
        index: u64,
    ) -> Result<Arc<Backend>, Error> {
        let backend = Backend::open(path, options.clone())?;
        snap::remove_received(self.snap, |of| of != index)?;
        let received = snap::received_path(self.snap, index);
        let failed = |source| Error::DataDir { path: received.clone(), source };
        if backend.consistent_index().0 < index
            && received.try_exists().map_err(failed)?
            && is_sound(&received, index).map_err(failed)?
        {
            let path = backend.path().to_owned();
            backend.stop();
            drop(backend);
            fs::rename(&received, &path).map_err(failed)?;
            disk::sync_dir(disk::folder_of(&path)).map_err(failed)?;
            tracing::info!("snapshot-index" = index, "the database that was received is in use");
            return Ok(Backend::open(&path, options.clone())?);
        }
        Ok(backend)
    }
}

/// Whether a received database is as it was when it was received. One that is not is removed.
fn is_sound(received: &Path, index: u64) -> io::Result<bool> {
    let len = fs::metadata(received)?.len();
    let last = offline::look(received, len, received, |database| {
        database.contents()?;
        database.consistent_index()
    });
    let why = match last {
        Ok((last, _)) if last == index => return Ok(true),
        Ok((last, _)) => format!("{} ends with entry {last}", received.display()),
        Err(error) => with_causes(&error),
    };
    tracing::error!("snapshot-index" = index, "a database that was received is removed: {why}");
    fs::remove_file(received)?;
    Ok(false)
}

/// Whether the log has a record of the snapshot of this file, and has committed it.
fn has_record(recovered: &Recovered, file: &raftpb::SnapshotMetadata) -> bool {
    let place = (file.index(), file.term());
    let is_file = |record: &walpb::Snapshot| (record.index(), record.term()) == place;
    file.index() <= recovered.hard_state.commit && recovered.snapshots.iter().any(is_file)
}
