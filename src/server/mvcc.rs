//! The key space: every key, at every revision that is not compacted (etcd: `mvcc`).
//!
//! Nothing is overwritten. A put adds a row under a new [`Revision`], a deletion adds a tombstone,
//! and so yesterday can still be read. Two structures share the work:
//!
//! ```text
//!            key ──▶ TreeIndex ──▶ revision ──▶ backend ──▶ KeyValue
//!                    (memory)                   (buffer, file)
//!
//!    "foo" ──▶ KeyIndex [2, 5, 7t] [9] ──▶ 9.0 ──▶ key bucket: 00…09_00…00 ──▶ {foo, bar, …}
//! ```
//!
//! One lock, over the tree, the current revision and the compacted revision. Apply takes it once
//! for a whole batch of entries, together with the backend's ([`Batch`]), so that revision,
//! index and rows become visible together. A reader takes it to copy the revisions that it needs
//! and to look at the write buffer; the file it reads afterwards, without the lock, as of that
//! moment. That snapshot is also what protects a slow reader from compaction.
//!
//! Invariants
//! * Revisions are handed out in order, one main revision for each transaction that changes
//!   something; a transaction that changes nothing leaves no trace.
//! * A transaction that is refused has written nothing, and every member refuses it for the same
//!   reason: all tests come before the first write, and none of them looks at a clock or a disk.
//! * `compacted` only grows, and is in the file before or together with the first row that is
//!   missing because of it.
//! * The revision never goes back, not even when compaction has deleted the newest rows
//!   (etcd #17780): the marks of the compaction count as well.
//!
//! Rows, keys of rows and hashes are etcd's, so that `HashKV` agrees with etcd after the same
//! writes. Whoever wants to hear of changes is in [`watch`]. A key's lease is in its row; the leases
//! themselves are the lessor's (`server::lease`), which learns of every put and deletion here.

pub mod compact;
pub mod hash;
pub mod key_index;
pub mod key_map;
pub mod plan;
pub mod read_txn;
pub(crate) mod reader;
pub mod reply;
pub mod revision;
#[cfg(test)]
mod tests;
pub mod tree_index;
pub mod watch;
pub mod write_txn;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use prost::Message;

use self::{compact::Worker, tree_index::Restored, watch::Watchers};
use crate::{
    pb::mvccpb::KeyValue,
    server::lease::Lessor,
    storage::backend::{Backend, Bucket, WriteGuard},
    trace,
};

pub use self::{
    hash::HashKv,
    reply::{Asker, KvResponse, Reply},
    revision::Revision,
    tree_index::{KeyRange, TreeIndex},
    write_txn::WriteTxn,
};

/// A panic while one of the locks was held has left half an entry behind.
const POISONED: &str = "a panic below this lock ends the member";

/// Why the key space cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A row of the key bucket has no revision as its key.
    #[error("key bucket: a row's key is not a revision: {0:?}")]
    RowKey(Bytes),
    /// A row of the key bucket does not come behind the one that was read before it.
    #[error("key bucket: revision {found} stands behind revision {before}")]
    Order {
        /// Of the row.
        found: Revision,
        /// Of the row before.
        before: Revision,
    },
    /// A row of the key bucket has no key-value pair as its value.
    #[error("key bucket: the row of revision {revision} is damaged")]
    Row {
        /// Of the row.
        revision: Revision,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// A mark of the compaction is not a revision.
    #[error("meta bucket: {0} is not a revision")]
    Mark(&'static str),
    /// A row of the lease bucket is no lease.
    #[error("lease bucket: a row is damaged: {0}")]
    Lease(prost::DecodeError),
}

/// What the lock protects.
#[derive(Debug)]
struct Index {
    tree: TreeIndex,
    /// The newest revision; 1 while nothing was ever written.
    revision: i64,
    /// Up to, but without, this revision nothing can be read; −1 before the first compaction.
    compacted: i64,
}

/// The key space. See the module's text.
#[derive(Debug)]
pub struct Store {
    backend: Arc<Backend>,
    index: RwLock<Index>,
    /// The newest revision and the compacted one, for those who need nothing else of the lock.
    revision: AtomicI64,
    compacted: AtomicI64,
    /// The newest compaction that has been asked for, and the newest whose rows are gone.
    scheduled: AtomicI64,
    finished: AtomicI64,
    worker: Mutex<Worker>,
    watchers: Watchers,
    /// The leases, and which keys are attached to them. Its lock is taken after the
    /// index and the buffers, and no other is taken below it.
    lessor: Lessor,
}

impl Store {
    /// Rebuilds the index from the key bucket. A compaction that a crash has interrupted goes on
    /// with the next calls of [`Store::step_compaction`].
    pub fn open(backend: Arc<Backend>) -> Result<Arc<Store>, OpenError> {
        let finished = compact::mark(&backend, compact::FINISHED)?;
        let scheduled = compact::mark(&backend, compact::SCHEDULED)?;
        let Contents { tree, newest, stored, attached } = restore(&backend)?;
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
            compacted: AtomicI64::new(compacted),
            scheduled: AtomicI64::new(scheduled),
            finished: AtomicI64::new(finished),
            worker: Mutex::default(),
            watchers: Watchers::default(),
            lessor,
        }))
    }

    /// The newest revision that readers can see.
    pub fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The oldest revision that can be read; −1 before the first compaction.
    pub fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::Acquire)
    }

    /// The leases.
    pub fn lessor(&self) -> &Lessor {
        &self.lessor
    }

    /// The file below.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Begins a batch of entries. Only the apply thread does so. Readers wait until the batch is
    /// dropped, and then see all of it.
    pub fn batch(&self) -> Batch<'_> {
        // The backend's back-pressure is waited out before readers are locked out, and not again
        // when they are: compaction may have filled the buffer in between.
        self.backend.wait_for_room();
        fail::fail_point!("mvcc-batch-before-index");
        let index = self.index.write().expect(POISONED);
        Batch { store: self, index, backend: self.backend.write_at_once() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().expect(POISONED)
    }
}

/// The write side, held for one batch of entries.
#[derive(Debug)]
pub struct Batch<'a> {
    store: &'a Store,
    index: RwLockWriteGuard<'a, Index>,
    backend: WriteGuard<'a>,
}

impl<'a> Batch<'a> {
    /// Notes that an entry is applied; called once for each, after its writes.
    pub fn set_applied(&mut self, index: u64, term: u64) {
        self.backend.set_applied(index, term, self.index.revision);
    }

    /// The other buckets.
    pub fn backend(&mut self) -> &mut WriteGuard<'a> {
        &mut self.backend
    }

    /// The leases.
    pub fn lessor(&self) -> &'a Lessor {
        &self.store.lessor
    }

    /// The newest revision, that of this batch included.
    pub fn revision(&self) -> i64 {
        self.index.revision
    }

    /// The compacted revision, this batch included.
    pub fn compacted(&self) -> i64 {
        self.index.compacted
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.store.revision.store(self.index.revision, Ordering::Release);
        note_revision(self.index.revision);
        self.store.compacted.store(self.index.compacted, Ordering::Release);
    }
}

/// For the keyframes: where the key space stands.
fn note_revision(revision: i64) {
    let revision = u64::try_from(revision).unwrap_or(0);
    trace::watermarks().revision.store(revision, Ordering::Relaxed);
}

/// What the key bucket has.
#[derive(Default)]
struct Contents {
    tree: TreeIndex,
    /// The newest revision; 0 for an empty bucket.
    newest: i64,
    /// Bytes of keys and values.
    stored: u64,
    /// Keys that have a lease, and which.
    attached: HashMap<Bytes, i64>,
}

/// Goes through the key bucket, oldest revision first.
fn restore(backend: &Backend) -> Result<Contents, OpenError> {
    let mut contents = Contents::default();
    let mut before = Revision::default();
    let cut = backend.cut(Bucket::Key);
    for (row_key, row) in backend.rows(&cut) {
        contents.stored += (row_key.len() + row.len()) as u64;
        let Some((revision, is_tombstone)) = Revision::from_row_key(&row_key) else {
            return Err(OpenError::RowKey(row_key));
        };
        // The file's pages are in order, unless something has changed one.
        if revision <= before {
            return Err(OpenError::Order { found: revision, before });
        }
        before = revision;
        let kv = KeyValue::decode(row).map_err(|source| OpenError::Row { revision, source })?;
        let (created, version) = (kv.create_revision, kv.version);
        let row = Restored { revision, is_tombstone, created, version };
        contents.tree.restore(&kv.key, row);
        contents.newest = revision.main;
        // A tombstone's row has no lease.
        if kv.lease == 0 {
            contents.attached.remove(&kv.key);
        } else {
            contents.attached.insert(kv.key, kv.lease);
        }
    }
    Ok(contents)
}
