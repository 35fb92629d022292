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
pub mod reply;
pub mod revision;
pub mod store;
#[cfg(test)]
mod tests;
pub mod tree_index;
pub mod watch;
pub mod write_txn;

pub use self::{
    hash::HashKv,
    reply::{Asker, KvResponse, Reply},
    revision::Revision,
    store::{Batch, Error as OpenError, Store},
    tree_index::{KeyRange, TreeIndex},
    write_txn::WriteTxn,
};
