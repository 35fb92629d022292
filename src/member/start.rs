//! Starting a member and stopping it: the threads, in the order in which they need each other.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use raft::RawNode;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
};

use super::{Error, data, data::Data, peer_port, version};
use crate::{
    api::{self, observe::ObserveService},
    clock,
    config::ServerConfig,
    raft::{
        Status,
        inbox::{Inbox, Input, inbox},
        log::LogStorage,
        logger::logger,
        node::{Committed, Node, Outputs, ReadRound, Timing},
        rafthttp,
    },
    server::{
        Parts, Server, Settings,
        alarm::Alarms,
        apply::Applier,
        auth::AuthStore,
        members::{Attributes, Member, Members},
        mvcc::Store,
        read_index,
        views::ETCD_VERSION,
        wait::{Outcome, Wait},
    },
    storage::{
        backend::Backend,
        wal,
    },
    trace,
};

/// What a gRPC message may be larger than a request (etcd: grpcOverheadBytes).
const GRPC_OVERHEAD: usize = 512 * 1024;

/// A request may wait so long, and two election timeouts (etcd: ReqTimeout).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Rows that one step of a compaction deletes, and the pause after it.
const COMPACTION_ROWS: usize = 1000;
/// The pause between two steps of a compaction.
const COMPACTION_PAUSE: Duration = Duration::from_millis(10);

/// Runs a member until the process is told to stop.
///
/// # Errors
///
/// The first thing that keeps the member from starting. A storage failure while it runs ends the
/// process instead.
pub fn run(config: &ServerConfig) -> Result<(), Error> {
    trace::set_thread("grpc");
    let client_ports = bind(&config.listen_client)?;
    let peer_ports = bind(&config.listen_peer)?;
    let data = data::open(config)?;
    tracing::info!(
        name = %config.name,
        member = %format!("{:x}", data.member_id),
        cluster = %format!("{:x}", data.cluster_id),
        applied = data.applied,
        last = data.start.last_index,
        "starting an etcd server"
    );
    let collector = trace::start(info(config, &data))?;
    collector.set_slow(config.trace_slow);
    let member = Running::start(config, data, peer_ports)?;
    let runtime = grpc_runtime(config.threads)?;
    runtime.block_on(member.serve(config, collector, client_ports))?;
    member.stop(runtime);
    Ok(())
}

fn info(config: &ServerConfig, data: &Data) -> trace::Info {
    trace::Info {
        member_id: data.member_id,
        cluster_id: data.cluster_id,
        name: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: data.boot,
        wall_ns: u64::try_from(clock::wall().as_nanos()).unwrap_or(u64::MAX),
    }
}

fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Error> {
    let listen = |&address| {
        TcpListener::bind(address).map_err(|source| Error::Listen { address, source })
    };
    addresses.iter().map(listen).collect()
}

/// One thread unless more are asked for: on few cores a second one costs more than it gives.
fn grpc_runtime(threads: usize) -> Result<Runtime, Error> {
    let mut builder = match threads {
        0 | 1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let name = || trace::set_thread("grpc");
    Ok(builder.thread_name("grpc").on_thread_start(name).enable_all().build()?)
}

/// A member whose threads run.
struct Running {
    server: Arc<Server>,
    inbox: Inbox,
    backend: Arc<Backend>,
    store: Arc<Store>,
    transport: rafthttp::Transport,
    raft: JoinHandle<()>,
    apply: JoinHandle<()>,
    /// What the grpc side takes over when it starts.
    answers: std::sync::Mutex<Option<Answers>>,
}

/// What raft and apply send to the grpc side.
struct Answers {
    reads: UnboundedReceiver<ReadRound>,
    dropped: UnboundedReceiver<Vec<u64>>,
    outcomes: UnboundedReceiver<Vec<Outcome>>,
}

impl Running {
    fn start(config: &ServerConfig, data: Data, ports: Vec<TcpListener>) -> Result<Self, Error> {
        let (to_raft, raft_inbox) = inbox();
        let status = Arc::new(Status::new(data.applied));
        let store = Store::open(Arc::clone(&data.backend))?;
        let members = Arc::new(Members::open(data.cluster_id, &data.backend));
        let alarms = Arc::new(Alarms::open(&data.backend));
        let auth = Arc::new(AuthStore::open(&data.backend)?);
        let active = Arc::new(rafthttp::Active::default());
        let wall_ms = u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX);
        let ids = trace::IdGenerator::new(data.member_id, wall_ms, data.highest_id);
        let server = Arc::new(Server::new(Parts {
            member_id: data.member_id,
            settings: settings(config),
            ids: Arc::new(ids),
            inbox: to_raft.clone(),
            status: Arc::clone(&status),
            store: Arc::clone(&store),
            backend: Arc::clone(&data.backend),
            members: Arc::clone(&members),
            alarms: Arc::clone(&alarms),
            auth: Arc::clone(&auth),
            peers: Arc::clone(&active),
            wait: Arc::new(Wait::default()),
        }));
        let transport = rafthttp::spawn(
            transport_config(config, &data, &members, Arc::clone(&server)),
            ports,
            to_raft.clone(),
        )?;
        let (committed_sender, committed) = channel();
        let (reads_sender, reads) = unbounded_channel();
        let (dropped_sender, dropped) = unbounded_channel();
        let (outcomes_sender, outcomes) = unbounded_channel();
        let applier = Applier {
            member_id: data.member_id,
            quota_bytes: config.quota_bytes,
            store: Arc::clone(&store),
            backend: Arc::clone(&data.backend),
            members,
            alarms,
            auth,
            status: Arc::clone(&status),
            inbox: to_raft.clone(),
            peers: transport.sender(),
            outcomes: outcomes_sender,
        };
        let backend = Arc::clone(&data.backend);
        let outputs = |wal| Outputs {
            wal,
            peers: transport.sender(),
            committed: committed_sender,
            reads: reads_sender,
            dropped: dropped_sender,
        };
        let raft = start_raft(config, data, (to_raft.clone(), raft_inbox), status, outputs)?;
        let apply = start_apply(applier, committed)?;
        start_compaction(Arc::clone(&store))?;
        let answers = std::sync::Mutex::new(Some(Answers { reads, dropped, outcomes }));
        Ok(Self { server, inbox: to_raft, backend, store, transport, raft, apply, answers })
    }
}
