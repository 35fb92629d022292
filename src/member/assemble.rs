//! The server of a member, assembled: each field from the data directory, the flags, or the
//! threads.

use std::{sync::Arc, time::Duration};

use super::{Error, data::Data};
use crate::{
    clock,
    config::{LeaseCheckpoint, ServerConfig},
    raft::{Status, inbox::Inbox, rafthttp},
    server::{
        Server, Settings,
        alarm::Alarms,
        answer::{Room, room},
        answer_reader::AnswerReader,
        auth::AuthStore,
        concurrency::Concurrency,
        ids::RequestIds,
        kv_server::KvServer,
        lease::{LeaseServer, Primary},
        lessor,
        long_reads::LongReads,
        members::Members,
        membership::Membership,
        mvcc::Store,
        propose::Proposer,
        read_index::ReadIndex,
        slow::SlowRequests,
        stopping::Stopping,
        v2::V2Server,
        v2store::V2Store,
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
    pub(super) v2: Arc<V2Store>,
    pub(super) status: Arc<Status>,
    pub(super) reads: Arc<ReadIndex>,
    pub(super) ids: Arc<RequestIds>,
    pub(super) long_reads: Arc<LongReads>,
}

/// The server's handles of raft and of the peers.
#[derive(Clone, Copy)]
pub(super) struct Handles<'m> {
    pub(super) inbox: &'m Inbox,
    pub(super) transport: &'m rafthttp::Transport,
}

/// The server: the state from the data directory, and the handles of raft, the peers and the trace.
pub(super) fn server(
    config: &ServerConfig,
    data: &Data,
    state: State,
    handles: Handles<'_>,
) -> Result<Server, Error> {
    let settings = settings(config);
    let proposer = Arc::new(proposer(settings, data, &state, handles)?);
    let State { members, primary, store, v2, status, reads, ids, long_reads } = state;
    let v2 =
        Arc::new(V2Server { store: v2, proposer: Arc::clone(&proposer), started: clock::wall() });
    let stopping = Stopping::default();
    let slow = Arc::new(SlowRequests::new(config.warnings.apply));
    let kv = kv_server(&proposer, &reads, &store, (&long_reads, &slow), &stopping);
    let kv = Arc::new(kv);
    let leases = Arc::new(LeaseServer {
        primary,
        proposer: Arc::clone(&proposer),
        members: Arc::clone(&members),
    });
    let membership = Membership {
        proposer: Arc::clone(&proposer),
        reads: Arc::clone(&reads),
        is_strict: config.strict_reconfig_check,
    };
    let concurrency = Arc::new(Concurrency {
        kv: Arc::clone(&kv),
        leases: Arc::clone(&leases),
        store: Arc::clone(&store),
        ids: Arc::clone(&ids),
        stopping: stopping.clone(),
    });
    Ok(Server {
        member_id: data.member_id,
        settings,
        ids,
        status,
        store,
        backend: Arc::clone(&data.backend),
        members,
        membership,
        alarms: Arc::clone(&proposer.alarms),
        proposer,
        reads,
        long_reads,
        kv,
        leases,
        concurrency,
        v2,
        room: Room::new(room::LIMITS),
        slow,
        stopping,
    })
}

/// The ids of this member's requests, all greater than those in its log.
pub(super) fn request_ids(data: &Data, collector: &Arc<trace::Collector>) -> Arc<RequestIds> {
    let wall_ms = u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX);
    let generator = trace::IdGenerator::new(data.member_id, wall_ms, data.highest_id);
    Arc::new(RequestIds::new(generator, Arc::clone(collector)))
}

fn proposer(
    settings: Settings,
    data: &Data,
    state: &State,
    handles: Handles<'_>,
) -> Result<Proposer, Error> {
    let Handles { inbox, transport } = handles;
    Ok(Proposer {
        member_id: data.member_id,
        settings,
        ids: Arc::clone(&state.ids),
        inbox: inbox.clone(),
        status: Arc::clone(&state.status),
        wait: Arc::new(Wait::default()),
        auth: Arc::new(AuthStore::open(&data.backend)?),
        alarms: Arc::new(Alarms::open(&data.backend)?),
        no_space: Arc::default(),
        backend: Arc::clone(&data.backend),
        members: Arc::clone(&state.members),
        peers: transport.active(),
    })
}

fn kv_server(
    proposer: &Arc<Proposer>,
    reads: &Arc<ReadIndex>,
    store: &Arc<Store>,
    (long_reads, slow): (&Arc<LongReads>, &Arc<SlowRequests>),
    stopping: &Stopping,
) -> KvServer {
    let settings = proposer.settings;
    let answers = AnswerReader {
        store: Arc::clone(store),
        long_reads: Arc::clone(long_reads),
        request_timeout: settings.request_timeout,
    };
    KvServer {
        settings,
        proposer: Arc::clone(proposer),
        reads: Arc::clone(reads),
        store: Arc::clone(store),
        auth: Arc::clone(&proposer.auth),
        long_reads: Arc::clone(long_reads),
        answers,
        slow: Arc::clone(slow),
        stopping: stopping.clone(),
    }
}

fn settings(config: &ServerConfig) -> Settings {
    Settings {
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        quota_bytes: config.quota_bytes,
        request_timeout: request_timeout(config),
        election: config.election,
        min_ttl: lessor::min_ttl(config.heartbeat, config.election),
        progress_interval: config.progress_interval,
        enable_v2: config.enable_v2,
        persist_checkpoints: config.lease_checkpoint == LeaseCheckpoint::Persisted,
    }
}

/// How long a request may wait, which is also how long a proposal may wait for a leader.
pub(super) fn request_timeout(config: &ServerConfig) -> Duration {
    REQUEST_TIMEOUT + 2 * config.election
}
