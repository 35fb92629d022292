//! Layer 4: logic. What a request means, and what it changes.
//!
//! ```text
//!   api ──▶ check ──▶ admit ──▶ propose ──▶ raft ··· committed ··· ──▶ apply ──▶ mvcc ──▶ backend
//!                                  ▲                                    │
//!                                  └────────────── wait ◀───────────────┘
//!   api ──▶ read_index ──▶ raft ··· confirmed ··· ──▶ wait until applied ──▶ mvcc
//! ```
//!
//! [`Server`] is what all of it shares; each file adds the requests, or the steps, that it is about.
//!
//! Reading order: [`kv`] (what each request does, a line a step), [`check`], [`txn`], [`admit`],
//! `command`, [`propose`], [`wait`], [`apply`], [`mvcc`], [`answer`], [`lease`], [`read_index`],
//! [`compactor`], [`concurrency`]. The write side runs on the `apply` thread; everything that waits
//! runs on the grpc thread, and what reads for long on others ([`long_reads`]).

pub mod admit;
pub mod alarm;
pub mod answer;
pub mod apply;
pub mod auth;
pub mod check;
mod command;
pub mod compactor;
pub mod concurrency;
pub mod dropped;
pub mod error;
pub mod health;
pub mod kv_server;
pub mod lease;
pub(crate) mod long_reads;
pub mod members;
pub mod mvcc;
pub mod no_space;
pub(crate) mod outcome;
mod own;
pub mod propose;
pub mod publish;
pub mod read_index;
mod stopping;
pub mod txn;
pub mod views;
pub mod wait;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

pub use error::Error;

use self::{
    alarm::Alarms, answer::Room, auth::AuthStore, lease::Primary, long_reads::Permits,
    members::Members, mvcc::Store, no_space::NoSpace, read_index::ReadIndex, wait::Wait,
};
use crate::{
    raft::{Status, inbox::Inbox, rafthttp},
    storage::backend::Backend,
    trace,
};

/// Limits and times of a member.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--quota-backend-bytes`; `None` for no quota.
    pub quota_bytes: Option<u64>,
    /// How long a request may wait: five seconds and two election timeouts.
    pub request_timeout: Duration,
    /// `--election-timeout`.
    pub election: Duration,
    /// The shortest TTL of a lease, in seconds ([`crate::server::lease::min_ttl`]).
    pub min_ttl: i64,
    /// `--watch-progress-notify-interval`.
    pub progress_interval: Duration,
    /// `--experimental-enable-lease-checkpoint-persist`.
    pub persist_checkpoints: bool,
}

/// One member's server; `member` puts it together (etcd: `EtcdServer`).
pub struct Server {
    /// This member's id.
    pub(crate) member_id: u64,
    /// Limits and times.
    pub(crate) settings: Settings,
    /// Makes request ids.
    pub(crate) ids: Arc<trace::IdGenerator>,
    /// To the raft thread.
    pub(crate) inbox: Inbox,
    /// Where raft and apply stand.
    pub(crate) status: Arc<Status>,
    /// The key space.
    pub(crate) store: Arc<Store>,
    /// The database below it.
    pub(crate) backend: Arc<Backend>,
    /// The cluster's members.
    pub(crate) members: Arc<Members>,
    /// The raised alarms.
    pub(crate) alarms: Arc<Alarms>,
    /// Users and roles.
    pub(crate) auth: Arc<AuthStore>,
    /// Which peers can be reached.
    pub(crate) peers: Arc<rafthttp::Active>,
    /// The requests that wait for apply.
    pub(crate) wait: Arc<Wait>,
    /// The rounds in which reads are confirmed.
    pub(crate) reads: Arc<ReadIndex>,
    /// The leader's side of leases.
    pub(crate) primary: Primary,
    /// Wishes for the alarm of a full backend.
    pub(crate) no_space: Arc<NoSpace>,
    /// Which requests all members keep the trace of, by chance.
    pub(crate) sampler: trace::Sampler,
    /// Knows which requests somebody is waiting to see.
    pub(crate) collector: Arc<trace::Collector>,
    /// Limits on the slow reads in progress.
    pub(crate) long_reads: Permits,
    /// What answers in flight may take.
    pub(crate) room: Arc<Room>,
    /// The order to stop ([`stopping`]).
    pub(crate) stopping: watch::Sender<bool>,
}
