//! Layer 4: logic. The meaning of each request, and its changes to the state.
//!
//! ```text
//!   api ──▶ check ──▶ admit ──▶ propose ──▶ raft ··· committed ··· ──▶ apply ──▶ mvcc ──▶ backend
//!                                  ▲                                    │
//!                                  └────────────── wait ◀───────────────┘
//!   api ──▶ read_index ──▶ raft ··· confirmed ··· ──▶ wait until applied ──▶ mvcc
//! ```
//!
//! KV, Lease, Lock with Election, and the v2 API have small servers of their own: [`KvServer`],
//! [`LeaseServer`], [`Concurrency`], [`V2Server`]. They share two tools: a [`Proposer`] writes
//! through the log, and a [`ReadIndex`] makes reads linearizable. [`Server`] holds all of them.
//!
//! Reading order: [`kv_server`] (the steps of each request, one per line), [`check`], [`txn`],
//! [`admit`], `command`, [`propose`], [`wait`], [`apply`], [`mvcc`], [`answer`], [`answer_reader`],
//! [`lessor`], [`lease`], [`read_index`], [`compactor`], [`concurrency`], [`corruption`]. Writes
//! are applied on the `apply` thread. Waits are on the grpc thread, and slow reads on other threads
//! ([`long_reads`]).

pub(crate) mod admit;
pub mod alarm;
pub mod answer;
pub(crate) mod answer_reader;
pub mod apply;
pub mod auth;
mod blocking;
pub mod check;
mod command;
pub(crate) mod compactor;
pub(crate) mod concurrency;
pub mod corruption;
mod downgrade;
pub mod dropped;
pub mod error;
pub mod health;
pub(crate) mod ids;
mod internal;
pub(crate) mod kv_server;
pub mod lease;
pub mod lessor;
pub(crate) mod long_reads;
pub(crate) mod maintenance;
pub mod members;
pub mod membership;
pub mod mvcc;
pub(crate) mod no_space;
pub(crate) mod outcome;
mod own;
pub(crate) mod propose;
mod publish;
pub mod read_index;
pub mod slow;
pub(crate) mod snapshots;
pub(crate) mod stopping;
pub mod txn;
pub mod v2;
pub mod v2store;
pub mod views;
pub(crate) mod wait;
mod wait_step;

use std::{sync::Arc, time::Duration};

pub use error::Error;

use self::{
    alarm::Alarms, answer::Room, concurrency::Concurrency, ids::RequestIds, kv_server::KvServer,
    lease::LeaseServer, long_reads::LongReads, members::Members, membership::Membership,
    mvcc::Store, propose::Proposer, read_index::ReadIndex, slow::SlowRequests, stopping::Stopping,
    v2::V2Server,
};
use crate::{raft::Status, storage::backend::Backend};

/// The flags and durations that requests depend on.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `--max-request-bytes`: the longest request, encoded.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`: the longest list of one transaction.
    pub max_txn_ops: usize,
    /// `--quota-backend-bytes`; `None` for no quota.
    pub quota_bytes: Option<u64>,
    /// Upper limit on a request's wait: five seconds and two election timeouts.
    pub request_timeout: Duration,
    /// `--election-timeout`: the least time without a leader's heartbeat before a member campaigns.
    pub election: Duration,
    /// The shortest TTL of a lease, in seconds ([`crate::server::lessor::min_ttl`]).
    pub min_ttl: i64,
    /// `--watch-progress-notify-interval`: how often a watcher without events gets its revision.
    pub progress_interval: Duration,
    /// `--experimental-enable-lease-checkpoint-persist`: whether checkpoints outlive a restart.
    pub persist_checkpoints: bool,
    /// `--enable-v2`: whether the v2 API is served.
    pub enable_v2: bool,
}

/// One member's server; `member` puts it together (etcd: `EtcdServer`).
pub struct Server {
    pub(crate) member_id: u64,
    pub(crate) settings: Settings,
    pub(crate) ids: Arc<RequestIds>,
    /// The terms and indexes of raft and apply.
    pub(crate) status: Arc<Status>,
    /// The key space, with its watchers and its leases.
    pub(crate) store: Arc<Store>,
    /// The file below the key space.
    pub(crate) backend: Arc<Backend>,
    pub(crate) members: Arc<Members>,
    pub(crate) membership: Membership,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) reads: Arc<ReadIndex>,
    pub(crate) long_reads: Arc<LongReads>,
    pub(crate) kv: Arc<KvServer>,
    pub(crate) leases: Arc<LeaseServer>,
    pub(crate) concurrency: Arc<Concurrency>,
    /// The v2 API's server.
    pub(crate) v2: Arc<V2Server>,
    /// Limits the memory of answers in flight.
    pub(crate) room: Arc<Room>,
    /// Logs requests that take long.
    pub(crate) slow: Arc<SlowRequests>,
    pub(crate) stopping: Stopping,
}
