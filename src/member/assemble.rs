//! The server of a member, assembled: each field from the data directory, the flags, or the
//! threads.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Error, data::Data};
use crate::{
    clock,
    config::{LeaseCheckpoint, ServerConfig},
    raft::{Status, inbox::Inbox, rafthttp},
    server::{
        Server, Settings,
        alarm::Alarms,
        answer::{Room, room},
        auth::AuthStore,
        lease::{self, Primary},
        long_reads,
        members::Members,
        mvcc::Store,
        read_index::ReadIndex,
        wait::Wait,
    },
    trace,
};

/// How long a request may wait, in addition to two election timeouts (etcd: ReqTimeout).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The parts from which the server is built.
pub(super) struct State {
    pub(super) members: Arc<Members>,
    pub(super) primary: Primary,
    pub(super) store: Arc<Store>,
    pub(super) status: Arc<Status>,
    pub(super) reads: Arc<ReadIndex>,
}

/// The server's ways to raft, to the peers and to the trace.
#[derive(Clone, Copy)]
pub(super) struct Handles<'m> {
    pub(super) inbox: &'m Inbox,
    pub(super) transport: &'m rafthttp::Transport,
    pub(super) collector: &'m Arc<trace::Collector>,
}

/// The server: the state from the data directory, and the handles of raft, the peers and the trace.
pub(super) fn server(
    config: &ServerConfig,
    data: &Data,
    state: State,
    handles: Handles<'_>,
) -> Result<Server, Error> {
    let State { members, primary, store, status, reads } = state;
    let Handles { inbox, transport, collector } = handles;
    let wall_ms = u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX);
    Ok(Server {
        member_id: data.member_id,
        settings: settings(config),
        ids: Arc::new(trace::IdGenerator::new(data.member_id, wall_ms, data.highest_id)),
        inbox: inbox.clone(),
        status,
        store,
        backend: Arc::clone(&data.backend),
        members,
        alarms: Arc::new(Alarms::open(&data.backend)?),
        auth: Arc::new(AuthStore::open(&data.backend)?),
        peers: transport.active(),
        wait: Arc::new(Wait::default()),
        reads,
        primary,
        no_space: Arc::default(),
        sampler: trace::Sampler::new(),
        collector: Arc::clone(collector),
        long_reads: long_reads::Permits::default(),
        room: Room::new(room::LIMITS),
        stopping: watch::Sender::new(false),
    })
}

fn settings(config: &ServerConfig) -> Settings {
    Settings {
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        quota_bytes: config.quota_bytes,
        request_timeout: request_timeout(config),
        election: config.election,
        min_ttl: lease::min_ttl(config.heartbeat, config.election),
        progress_interval: config.progress_interval,
        persist_checkpoints: config.lease_checkpoint == LeaseCheckpoint::Persisted,
    }
}

/// How long a request may wait, which is also how long a proposal may wait for a leader.
pub(super) fn request_timeout(config: &ServerConfig) -> Duration {
    REQUEST_TIMEOUT + 2 * config.election
}
