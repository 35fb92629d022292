//! A received database takes the place of the key space (etcd: `watchableStore.Restore`,
//! `lessor.Recover`).
//!
//! The new index is built beside the old one, which serves readers meanwhile. Then index, file,
//! leases and watchers change together, under the index lock: a reader sees the old key space or
//! the new one. Synced watchers become unsynced at the revision that they have, and read what they
//! have missed from the new file; so nothing is skipped, and nothing comes twice.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use super::{Contents, Index, OpenError, POISONED, Store, compact, note_revision, restore};
use crate::storage::backend::{self, Bucket, Received};

/// Why a received database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// It cannot be opened or read.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// Its rows do not make a key space.
    #[error("cannot use {}", path.display())]
    Open {
        /// The received database.
        path: PathBuf,
        /// What is wrong with it.
        source: OpenError,
    },
    /// It ends with another entry than its snapshot.
    #[error("{} ends with entry {found}, and its snapshot with {wanted}", path.display())]
    OtherIndex {
        /// The received database.
        path: PathBuf,
        /// The database's consistent index.
        found: u64,
        /// The snapshot's index.
        wanted: u64,
    },
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    /// The newest main revision before.
    pub(crate) revision_old: i64,
    /// The newest main revision now.
    pub(crate) revision_new: i64,
    /// The keys in the index now.
    pub(crate) keys: usize,
    /// The watchers that have to read what they have missed.
    pub(crate) watchers: usize,
}

impl Store {
    /// Apply thread: puts the received database at `path`, which has everything up to entry
    /// `index`, in the place of the key space. `min_ttl`: as for [`Lessor::raise`].
    ///
    /// # Errors
    /// The file is not what was announced. Nothing has changed then.
    ///
    /// [`Lessor::raise`]: crate::server::lessor::Lessor::raise
    pub(crate) fn install(
        &self,
        path: &Path,
        index: u64,
        min_ttl: i64,
    ) -> Result<Installed, InstallError> {
        let mut received = self.backend.open_received(path)?;
        let (found, _) = received.consistent_index();
        if found != index {
            return Err(InstallError::OtherIndex { path: path.to_owned(), found, wanted: index });
        }
        let bad = |source| InstallError::Open { path: path.to_owned(), source };
        let finished = mark_of(&received, compact::FINISHED)?.map_err(bad)?;
        let scheduled = mark_of(&received, compact::SCHEDULED)?.map_err(bad)?;
        let contents = received.read(Bucket::Key, restore)?.map_err(bad)?;
        let Contents { tree, newest, stored, attached } = contents;
        let leases = received.read(Bucket::Lease, |rows| {
            self.lessor.prepare(rows.map(|(_, row)| row), attached, min_ttl)
        });
        let leases = leases?.map_err(|error| bad(OpenError::Lease(error)))?;
        let compacted = finished.max(scheduled);
        let revision = newest.max(compacted).max(1);
        received.opened_at(revision, stored);
        // Readers wait for the exchange alone, and not for a commit or a defragmentation.
        self.backend.before_install();
        fail::fail_point!("install-before-locks");
        // A step of the old compaction ends first, and none begins before all is exchanged.
        let mut worker = self.worker.lock().expect(POISONED);
        let mut guard = self.index.write().expect(POISONED);
        let revision_old = guard.revision;
        self.backend.install(received);
        let keys = tree.len();
        *guard = Index { tree, revision, compacted };
        self.revision.store(revision, Ordering::Release);
        note_revision(revision);
        *worker = compact::Worker::default();
        self.finished.send_replace(finished);
        self.lessor.exchange(leases);
        let watchers = self.watchers.fall_behind(revision_old, revision);
        drop((guard, worker));
        self.compactor.get().inspect(|thread| thread.unpark());
        Ok(Installed { revision_old, revision_new: revision, keys, watchers })
    }
}

fn mark_of(
    received: &Received,
    name: &'static str,
) -> Result<Result<i64, OpenError>, backend::Error> {
    let value = received.get(Bucket::Meta, name.as_bytes())?;
    Ok(compact::read_mark(name, value.as_ref()))
}
