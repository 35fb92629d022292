//! Why a member does not start: one clear line each.

use std::{io, path::PathBuf};

use crate::config::Address;

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port or a socket file is in use, or is not permitted.
    #[error("cannot listen on {address} (--{flag}): {source}")]
    Listen {
        /// Where it should have listened.
        address: Address,
        /// The flag that names the address, without dashes.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The data directory cannot be made or written.
    #[error("cannot use the data directory {}: {source}", path.display())]
    DataDir {
        /// The directory or a file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// etcd: "member … has already been bootstrapped".
    #[error("member {id:x} has already been bootstrapped")]
    AlreadyBootstrapped {
        /// This member's id.
        id: u64,
    },
    /// The peers belong to another cluster than the data directory.
    #[error(
        "cluster ID mismatch: the data directory belongs to cluster {own:x}, but the peer at {url} \
         to cluster {other:x}"
    )]
    ClusterIdMismatch {
        /// The cluster id in the WAL.
        own: u64,
        /// What the peer answered.
        other: u64,
        /// The peer.
        url: String,
    },
    /// `--trace-otlp` names no collector.
    #[error("--trace-otlp: {0}")]
    Otlp(#[from] super::otlp::TargetError),
    /// The other members say that this one was removed.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// `--initial-cluster-state existing` without data.
    #[error(
        "joining an existing cluster with an empty data directory is not supported yet; \
         start the member with the data that it had, or a new cluster"
    )]
    CannotJoin,
    /// The log's tail is gone.
    #[error(
        "the database has applied entry {consistent}, but the WAL ends at entry {last}: its tail is \
         gone. Remove this member from the cluster, delete its data directory, and add it again"
    )]
    LogBehindBackend {
        /// The backend's consistent index.
        consistent: u64,
        /// The log's last index.
        last: u64,
    },
    /// The log or the database is not the one that belongs to the other.
    #[error(
        "entry {index} has term {found} in the WAL, but the database has applied it with term {term}: \
         one of them is from another time or another member. Put the right one back, or remove \
         this member from the cluster, delete its data directory, and add it again"
    )]
    LogOfAnother {
        /// The backend's consistent index.
        index: u64,
        /// The term that the backend noted with it.
        term: u64,
        /// The term of that entry in the log.
        found: u64,
    },
    /// The configuration beside the consistent index is not readable.
    #[error("the database holds a configuration that is not valid: {0}")]
    ConfState(serde_json::Error),
    /// The log.
    #[error(transparent)]
    Wal(#[from] crate::storage::wal::Error),
    /// The database file.
    #[error(transparent)]
    Backend(#[from] crate::storage::backend::Error),
    /// The key space in the database.
    #[error(transparent)]
    Store(#[from] crate::server::mvcc::store::Error),
    /// The members in the database.
    #[error(transparent)]
    Members(#[from] crate::server::members::Damaged),
    /// The alarms in the database.
    #[error(transparent)]
    Alarms(#[from] crate::server::alarm::Damaged),
    /// Auth is on in the data directory.
    #[error(transparent)]
    Auth(#[from] crate::server::auth::AuthEnabled),
    /// raft-rs does not accept what it is started with.
    #[error("raft does not start: {0}")]
    Raft(#[from] raft::Error),
    /// A thread or a runtime could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}
