//! The key space: every key at every revision that is not compacted (etcd: `mvcc`).
//!
//! Nothing is overwritten. A put adds a row under a new [`Revision`], and a deletion adds a
//! tombstone, so past revisions can still be read. Two structures share the work:
//!
//! ```text
//!            key ──▶ TreeIndex ──▶ revision ──▶ backend ──▶ KeyValue
//!                    (memory)                   (buffer, file)
//!
//!    "foo" ──▶ KeyIndex [2, 5, 7t] [9] ──▶ 9.0 ──▶ key bucket: 00…09_00…00 ──▶ {foo, bar, …}
//! ```
//!
//! One lock protects the tree, the newest revision and the compacted revision. Apply takes it once
//! for a batch of entries, together with the backend's lock ([`Batch`]), so revision, index and
//! rows become visible together. A reader takes it to copy the revisions that it needs, and to look
//! into the write buffer. It reads the file afterwards, without the lock, from a snapshot of that
//! moment. The snapshot also protects a slow reader from compaction.
//!
//! Invariants
//! * Revisions are assigned in order, one main revision to each transaction that changes something.
//!   A transaction that changes nothing gets none.
//! * A refused transaction has written nothing, and every member refuses it for the same reason:
//!   all checks come before the first write, and none of them reads a clock or a disk.
//! * `compacted` only grows. It is committed to the file before, or together with, the first
//!   deletion of a row that it permits.
//! * The revision never goes back, even if compaction has deleted the newest rows (etcd #17780),
//!   because the marks of compactions count too.
//!
//! Rows, their keys and hashes are etcd's, so `HashKV` agrees with etcd after the same writes.
//! Watchers are in [`watch`]. A key's lease is in its row; the leases themselves belong to the
//! lessor (`server::lessor`), which is notified here of every put and deletion.

mod compact;
mod compare;
mod hash;
mod install;
mod key_index;
mod key_map;
pub(crate) mod offline;
pub(crate) mod older_keys;
pub(crate) mod plan;
pub(crate) mod read_txn;
pub(crate) mod reader;
pub(crate) mod reply;
mod revision;
#[cfg(test)]
mod tests;
mod tree_index;
pub(crate) mod watch;
mod write_txn;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
    thread::Thread,
};

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch as watch_channel;

use self::{compact::Worker, tree_index::RestoredRow, watch::Watchers};
use crate::{
    pb::mvccpb::KeyValue,
    server::lessor::Lessor,
    storage::backend::{Backend, Bucket, WriteGuard},
    trace,
};

pub(crate) use self::compact::raised;
pub use self::revision::Revision;
pub(crate) use self::{
    compare::COMPARES_RECORDED,
    hash::HashKv,
    reply::{KvResponse, Reply, ReplyTo},
    tree_index::{KeyRange, TreeIndex},
    write_txn::WriteTxn,
};

/// A panic under one of the locks may have left half of an entry behind.
const POISONED: &str = "a panic below this lock ends the member";

/// Why the key space cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A row of the key bucket whose key is not a revision.
    #[error("key bucket: a row's key is not a revision: {0:?}")]
    RowKey(Bytes),
    /// A row of the key bucket that is out of order.
    #[error("key bucket: revision {found} stands behind revision {before}")]
    Order {
        /// The revision of the row.
        found: Revision,
        /// The revision of the row before it.
        before: Revision,
    },
    /// A row of the key bucket whose value is not a key-value pair.
    #[error("key bucket: the row of revision {revision} is damaged")]
    Row {
        /// The revision of the row.
        revision: Revision,
        /// The decoder's error.
        source: prost::DecodeError,
    },
    /// A row of the meta bucket that should contain the revision of a compaction.
    #[error("meta bucket: {0} is not a revision")]
    Mark(&'static str),
    /// A row of the lease bucket that is not a lease.
    #[error("lease bucket: a row is damaged: {0}")]
    Lease(prost::DecodeError),
}

/// The state under the lock.
#[derive(Debug)]
struct Index {
    tree: TreeIndex,
    /// The newest main revision; 1 until the first write.
    revision: i64,
    /// The compacted revision: the oldest that can be read; −1 before the first compaction.
    compacted: i64,
}

/// The key space. See the module's text.
#[derive(Debug)]
pub(crate) struct Store {
    backend: Arc<Backend>,
    index: RwLock<Index>,
    /// A copy of the index's revision, which is read without the lock.
    revision: AtomicI64,
    /// The revision of the newest compaction whose rows are deleted; −1 before the first. Calls
    /// that wait for it are woken when it moves.
    finished: watch_channel::Sender<i64>,
    worker: Mutex<Worker>,
    /// The thread that takes the steps; apply wakes it. Empty until it has started.
    compactor: OnceLock<Thread>,
    watchers: Watchers,
    /// The leases, and the keys attached to them. Its lock is taken after those of the index and
    /// the buffers, and no other lock is taken under it.
    lessor: Lessor,
}

impl Store {
    /// Rebuilds the index from the key bucket. The next calls of [`Store::step_compaction`] resume
    /// a compaction that a crash has interrupted.
    pub(crate) fn open(backend: Arc<Backend>) -> Result<Arc<Store>, OpenError> {
        let finished = compact::mark(&backend, compact::FINISHED)?;
        let scheduled = compact::mark(&backend, compact::SCHEDULED)?;
        let rows = backend.cut(Bucket::Key);
        let Contents { tree, newest, stored, attached } = restore(&mut backend.rows(&rows))?;
        drop(rows);
        let lessor = Lessor::open(&backend, attached).map_err(OpenError::Lease)?;
        let compacted = finished.max(scheduled);
        let revision = newest.max(compacted).max(1);
        if finished < scheduled {
            tracing::info!("scheduled-compact-revision" = scheduled, "resume scheduled compaction");
        }
        backend.opened_at(revision, stored);
        note_revision(revision);
        Ok(Arc::new(Store {
            backend,
            index: RwLock::new(Index { tree, revision, compacted }),
            revision: AtomicI64::new(revision),
            finished: watch_channel::Sender::new(finished),
            worker: Mutex::default(),
            compactor: OnceLock::new(),
            watchers: Watchers::default(),
            lessor,
        }))
    }

    /// The newest main revision that readers can see.
    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The newest main revision, and the compacted one (−1: none) at the same moment.
    pub(crate) fn newest_and_compacted(&self) -> (i64, i64) {
        let index = self.read();
        (index.revision, index.compacted)
    }

    /// The keys of the index, with those of which only tombstones are left.
    pub(crate) fn keys(&self) -> usize {
        self.read().tree.len()
    }

    pub(crate) fn lessor(&self) -> &Lessor {
        &self.lessor
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Begins a batch of entries; called by the apply thread only. Readers wait until the batch is
    /// dropped, and then see all of it.
    pub(crate) fn batch(&self) -> Batch<'_> {
        // Wait for room in the write buffer before readers are locked out, and not again after
        // that, though compaction may have filled the buffer in between.
        self.backend.wait_for_room();
        fail::fail_point!("mvcc-batch-before-index");
        let index = self.index.write().expect(POISONED);
        Batch { store: self, index, backend: self.backend.write_at_once() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().expect(POISONED)
    }
}

/// The write side of the key space, for one batch of entries.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    store: &'a Store,
    index: RwLockWriteGuard<'a, Index>,
    backend: WriteGuard<'a>,
}

impl<'a> Batch<'a> {
    /// Records that an entry is applied; called once for each entry, after its writes.
    pub(crate) fn set_applied(&mut self, index: u64, term: u64) {
        self.backend.set_applied(index, term, self.index.revision);
    }

    /// The backend, for writes to other buckets.
    pub(crate) fn backend(&mut self) -> &mut WriteGuard<'a> {
        &mut self.backend
    }

    pub(crate) fn lessor(&self) -> &'a Lessor {
        &self.store.lessor
    }

    /// The newest main revision, this batch's writes included.
    pub(crate) fn revision(&self) -> i64 {
        self.index.revision
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.store.revision.store(self.index.revision, Ordering::Release);
        note_revision(self.index.revision);
    }
}

/// Publishes the newest revision for the trace's keyframes.
fn note_revision(revision: i64) {
    let revision = u64::try_from(revision).unwrap_or(0);
    trace::watermarks().revision.store(revision, Ordering::Relaxed);
}

/// The contents of the key bucket.
#[derive(Default)]
struct Contents {
    tree: TreeIndex,
    /// The newest main revision; 0 for an empty bucket.
    newest: i64,
    /// The length of all rows with their keys, in bytes.
    stored: u64,
    /// The leases of keys, by key.
    attached: HashMap<Bytes, i64>,
}

/// Reads the rows of a key bucket, oldest revision first.
fn restore(rows: &mut dyn Iterator<Item = (Bytes, Bytes)>) -> Result<Contents, OpenError> {
    let mut contents = Contents::default();
    let mut before = Revision::default();
    for (row_key, row) in rows {
        contents.stored += (row_key.len() + row.len()) as u64;
        let Some((revision, is_tombstone)) = Revision::from_row_key(&row_key) else {
            return Err(OpenError::RowKey(row_key));
        };
        // Rows are in order unless a page of the file is damaged.
        if revision <= before {
            return Err(OpenError::Order { found: revision, before });
        }
        before = revision;
        let kv = KeyValue::decode(row).map_err(|source| OpenError::Row { revision, source })?;
        let (created, version) = (kv.create_revision, kv.version);
        let row = RestoredRow { revision, is_tombstone, created, version };
        contents.tree.restore(&kv.key, row);
        contents.newest = revision.main;
        // The row of a tombstone has no lease.
        if kv.lease == 0 {
            contents.attached.remove(&kv.key);
        } else {
            contents.attached.insert(kv.key, kv.lease);
        }
    }
    Ok(contents)
}
