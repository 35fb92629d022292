//! The write-ahead log: the entries that this member has acknowledged, in etcd's own format.
//!
//! ```text
//!   0000000000000000-0000000000000000.wal          0000000000000001-00000000000002f1.wal
//!   ┌─────┬──────────┬──────┬───────┬───────┬─┐    ┌─────┬──────────┬───────┬───────┬─────────┐
//!   │ crc │ metadata │ snap │ entry │ state │…│ ─▶ │ crc │ metadata │ state │ entry │ 0 0 0 … │
//!   └─────┴──────────┴──────┴───────┴───────┴─┘    └─────┴──────────┴───────┴───────┴─────────┘
//!     crc-32c runs on over the data of all records, from segment to segment ──────▶
//! ```
//!
//! A log is a sequence of segments of about 64 MB, named after their number and the first index
//! that they may hold. A segment is a sequence of frames, and a frame holds a record: an entry, a
//! hard state (term, vote, commit), the index of a snapshot, the log's owner, or the checksum so
//! far. Only the last segment is written to; the bytes after its last record are zero.
//!
//! Reading order: [`record`] (the bytes), [`message`] (what is in them), [`segment`] (the files),
//! [`locations`] (where each entry stands), [`writer`] (the log and its thread), [`ahead`] (the
//! next segment), [`reader`] and [`repair`] (what a start finds), [`copy`](mod@copy) (what the disk
//! had at a moment).
//!
//! **Invariants**
//! * *Done* is reported in the order of the writes, and only after an fsync that covers all earlier
//!   writes. One write and one fsync serve everything that was queued meanwhile.
//! * An entry whose index was seen before cuts the log back to it: the log that a reader sees is
//!   not the file, but what the file's entries lead to, one after the other.
//! * The tail is zero before anything is appended: a record of an older, longer life of the
//!   segment must never look like the next one.
//! * A segment has its final name only after its first records are on the disk, so that only the
//!   last segment can be torn.
//! * A start syncs what it has read before the member acts on it: after a kill of the process it
//!   may have been read from memory only.
//!
//! **Stricter than etcd.** The checksum covers a record's data only, not its type, not its length,
//! not its padding. So we also check that types are known, that the encoding is the one that etcd
//! writes, that indexes follow on and terms do not fall, that padding is zero, and that a frame of
//! length zero is followed by zeros up to the end of its sector; and the record's own length and
//! checksum distinguish a frame whose length was damaged from a torn one.
//!
//! **Left out.** Segments are not locked one by one, as etcd does for its purge: the directory is
//! locked as a whole, and the list of [`locations`] says which segments nobody reads any more.
//! Snapshot *files* live elsewhere ([`super::snap`]); here is only the record that names them.

mod ahead;
mod copy;
pub mod error;
pub mod locations;
mod message;
mod reader;
mod record;
mod repair;
mod segment;
pub mod writer;

#[cfg(test)]
mod tests;

pub use copy::{Copied, Until, copy, owner};
pub use error::{Error, Reason};
pub use locations::Locations;
pub use reader::{Recovered, open, open_at};
pub use writer::{SnapshotRecord, Wal, Watermarks, Write, Writer, create, spawn};

pub use segment::exists;

/// The owner of a log, repeated in every segment (etcd: etcdserverpb.Metadata).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Raft's id of the member.
    pub node_id: u64,
    /// The id of the cluster.
    pub cluster_id: u64,
}

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether to sync at all; false with `--unsafe-no-fsync`.
    pub fsync: bool,
    /// A segment is cut after the save that ends past this many bytes; at most 1 GiB. etcd has
    /// 64 000 000. It grows beyond that while the next one cannot be prepared.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { fsync: true, segment_bytes: 64_000_000 }
    }
}
