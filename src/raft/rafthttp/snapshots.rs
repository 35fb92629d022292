//! Snapshots between members: what both directions share. (etcd: snapshotSender, snapshotHandler)
//!
//! ```text
//!   leader:    MsgSnap from raft ─▶ copy of the database, as of now ─▶ POST /raft/snapshot
//!   follower:  ─▶ received-N.tmp, hashed and synced ─▶ INDEX.snap.db, TERM-INDEX.snap ─▶ raft
//! ```
//!
//! The body is etcd's: a length, the message, and then the database up to the end. raft's message
//! only says that a follower needs a snapshot. Index, term and configuration are those of the copy,
//! which is newer, so that the follower has less to catch up with (etcd:
//! `createMergedSnapshotMessage`). The data of the message, in etcd the v2 store, says how long the
//! database is, and which hash it has.
//!
//! Between a member of etcd and one of these nothing is sent: etcd's database is bbolt's and ours
//! is redb's, so neither could open the other's. The sender marks its request with a header that
//! etcd does not know, and a request without it is refused before its body is read.
//!
//! Invariants
//! * The raft thread never waits for a snapshot, and the peer thread never for a disk: files are
//!   copied, hashed, written and synced on blocking threads.
//! * raft gets the message only when database and `.snap` file are whole, hashed and on the disk,
//!   and all rows of the database fit their checksums. A database that is refused is removed; the
//!   member keeps what it has, and its leader sends another, a second later at the earliest.
//! * [`SENT_MAX`] snapshots are sent at a time, and one is received. raft tries again later.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::storage::backend::Backend;

/// The most snapshots that are sent at a time. Each takes the room of a copy on the disk.
const SENT_MAX: usize = 2;
/// The bytes of a database that are read, sent or written at a time.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// The chunks between the socket and the blocking thread.
pub(super) const CHUNKS_WAITING: usize = 16;

/// The member's database, to be copied, and the directory for those that are received.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    /// The database.
    pub(crate) backend: Arc<Backend>,
    /// The directory of received databases and of `.snap` files.
    pub(crate) dir: PathBuf,
    /// Whether received files are synced.
    pub(crate) fsync: bool,
}

/// What the peer thread needs for snapshots.
pub(super) struct Snapshots {
    /// None for a transport that is not a member's.
    pub(super) database: Option<Database>,
    /// Permits to send.
    pub(super) sending: Arc<Semaphore>,
    /// The permit to receive.
    pub(super) receiving: Semaphore,
    /// How many were received, for the names of unfinished files.
    pub(super) received: AtomicU64,
}

impl Snapshots {
    pub(super) fn new(database: Option<Database>) -> Snapshots {
        Snapshots {
            database,
            sending: Arc::new(Semaphore::new(SENT_MAX)),
            receiving: Semaphore::new(1),
            received: AtomicU64::new(0),
        }
    }
}

/// What the data of a snapshot's message says about the database behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// Its SHA-256, as hex.
    pub(super) sha256: String,
}

impl Description {
    pub(super) fn to_data(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a description is plain data")
    }

    pub(super) fn parse(data: &[u8]) -> Option<Description> {
        serde_json::from_slice(data).ok()
    }
}
