//! Starting a member and stopping it: the threads, in the order in which they need each other.

use std::{
    cell::Cell,
    net::TcpListener,
    pin::pin,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use raft::{RawNode, eraftpb::HardState};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
};

use super::{
    Cuts, Error, assemble, compaction, corrupt_check,
    data::{self, Data},
    descriptors::{self, Shares},
    keep::{self, Keeper},
    leave,
    notify::Notifier,
    otlp,
    peer_port::{self, Promoter},
    sockets, version,
};
use crate::{
    api::{self, observe::ObserveService},
    clock,
    config::{Address, Compaction, ETCD_VERSION, LeaseCheckpoint, ServerConfig},
    mark,
    member::flight,
    raft::{
        Status,
        inbox::{Inbox, Input, Inputs, inbox},
        log::LogStorage,
        logger::logger,
        node::{COMMITTED_BYTES_MAX, Committed, Node, Outputs, ReadRound, Refusal},
        rafthttp,
        timing::Timing,
        writes::Writes,
    },
    server::{
        Server,
        apply::Applier,
        compactor,
        corruption::Answerer,
        lease::{Primary, checkpoint, expiry},
        lessor,
        long_reads::LongReads,
        members::{Attributes, Member, Members},
        mvcc::Store,
        no_space,
        outcome::Outcomes,
        propose::Proposer,
        read_index::{Coordinator, ReadIndex},
        snapshots::{self, Wishes},
        v2,
        v2store::V2Store,
        wait,
    },
    set, stage,
    storage::{backend::Backend, wal},
    trace,
};

/// The directory of the flight recorder, below the data directory.
const FLIGHT_DIRECTORY: &str = "glass";

/// Runs a member until the process receives a signal to stop. `cuts`: by which its starter may ask
/// it to cut links with other members.
///
/// # Errors
///
/// The first failure that keeps the member from starting. A storage failure while it runs ends the
/// process instead.
pub fn run(config: &ServerConfig, cuts: Option<Cuts>) -> Result<(), Error> {
    trace::set_thread("grpc");
    api::calls::set_extensive(config.extensive_metrics);
    api::slow_calls::begin(config.warnings.unary);
    let mut start = stage!(MemberStart, 0);
    let target = config.trace_otlp.as_deref().map(otlp::Target::parse).transpose()?;
    let shares = descriptors::shares()?;
    let (clients, socket_files) = sockets::bind_clients(config)?;
    let dirs = data::find(config)?;
    let peers = sockets::bind_peers(config)?;
    let data = data::open(config, &dirs)?;
    tracing::info!(
        name = %config.name,
        member = %format!("{:x}", data.member_id),
        cluster = %format!("{:x}", data.cluster_id),
        applied = data.applied,
        last = data.start.last_index,
        "starting an etcd server"
    );
    let Data { start: found, applied, .. } = &data;
    let HardState { term, vote, commit, .. } = found.hard_state;
    set!(start, MemberStart, term = term, vote = vote, last = found.last_index);
    set!(start, MemberStart, committed = commit, stored = *applied);
    let collector = trace::start(info(config, &data))?;
    collector.set_slow(config.trace_slow);
    collector.set_brief_above(config.trace_brief_above);
    trace::set_capture(config.trace_capture);
    trace::set_redact(config.trace_redact_keys);
    let trace::Info { member_id, name, wall_ns, .. } = info(config, &data);
    trace::bridge::introduce(member_id, &name, wall_ns);
    if let Some(target) = target {
        otlp::start(target, &collector)?;
    }
    flight::arm(Arc::clone(&collector), config.data_dir.join(FLIGHT_DIRECTORY));
    let member = Running::start(config, data, (peers, cuts), shares, &collector)?;
    let runtime = grpc_runtime(config.threads)?;
    drop(start);
    let served = runtime.block_on(member.serve(config, collector, clients));
    drop(socket_files);
    // Also after a failure: applied entries go into the file.
    member.stop(runtime);
    served
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

/// One thread unless `--threads` asks for more: on few cores a second one costs more than it gains.
fn grpc_runtime(threads: usize) -> Result<Runtime, Error> {
    let mut builder = match threads {
        0 | 1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads).on_thread_park(name_worker);
            builder
        }
    };
    // Runs on every thread of the runtime, blocking ones included. There may be many blocking
    // threads, and each writes few records, so a thread starts with a small ring. Workers get the
    // large one in `name_worker`: only they park.
    let begin = || trace::set_thread("background");
    Ok(builder.thread_name("grpc").on_thread_start(begin).enable_all().build()?)
}

/// Gives a worker the large ring of threads that serve requests, when it first parks.
fn name_worker() {
    thread_local! {
        static IS_NAMED: Cell<bool> = const { Cell::new(false) };
    }
    if !IS_NAMED.replace(true) {
        trace::set_thread("grpc");
    }
}

/// A member with its running threads.
struct Running {
    server: Arc<Server>,
    inbox: Inbox,
    backend: Arc<Backend>,
    transport: rafthttp::Transport,
    shares: Shares,
    threads: Threads,
    compaction: compaction::Compaction,
    /// The receivers that the grpc side takes when it starts.
    answers: std::sync::Mutex<Option<Answers>>,
}

/// The threads that a stopping member waits for, in this order.
struct Threads {
    raft: JoinHandle<()>,
    apply: JoinHandle<()>,
    /// It ends with apply, which alone wishes for snapshots.
    snapshots: JoinHandle<()>,
}

/// The receivers of what raft and apply send to the grpc side.
struct Answers {
    reads: UnboundedReceiver<ReadRound>,
    refused: UnboundedReceiver<Refusal>,
    outcomes: UnboundedReceiver<Outcomes>,
}

impl Running {
    fn start(
        config: &ServerConfig,
        data: Data,
        (ports, cuts): (Vec<TcpListener>, Option<Cuts>),
        shares: Shares,
        collector: &Arc<trace::Collector>,
    ) -> Result<Self, Error> {
        let (to_raft, raft_inbox) = inbox();
        let members = Members::open(data.cluster_id, &data.backend)?;
        let members = Arc::new(members.with_max_learners(config.max_learners));
        let store = open_store(config, &data)?;
        let v2 = Arc::new(V2Store::open(&data.backend)?);
        let status = Arc::new(Status::new(data.applied));
        let request_timeout = assemble::request_timeout(config);
        let ids = assemble::request_ids(&data, collector);
        let reads =
            Arc::new(ReadIndex::new(Arc::clone(&status), Arc::clone(&ids), request_timeout));
        let leases = primary(&data, &store, &status, &reads);
        let keeper = Keeper::new(Arc::clone(collector), data.cluster_id);
        let long_reads = Arc::new(LongReads::new(Arc::clone(&store), request_timeout));
        corrupt_check::initial(config, &data, (&members, &long_reads, &ids))?;
        let hashes = Answerer::new(data.cluster_id, Arc::clone(&long_reads), Arc::clone(&ids));
        let promoter = Promoter::default();
        let (list, lead) = (Arc::clone(&members), leases.clone());
        let extra = peer_port::router(list, lead, keeper, promoter.clone(), hashes);
        let own = transport_config(config, &data, &members, (extra, cuts), shares);
        let transport = rafthttp::spawn(own, ports, to_raft.clone())?;
        leave_behind(&transport.sender(), &members, &data);
        let server = Arc::new(assemble::server(
            config,
            &data,
            assemble::State { members, primary: leases, store, v2, status, reads, ids, long_reads },
            assemble::Handles { inbox: &to_raft, transport: &transport },
        )?);
        promoter.set(&server.membership);
        corrupt_check::raise_at_damage(&server);
        let (committed_sender, committed) = channel();
        let (reads_sender, reads) = unbounded_channel();
        let (refused_sender, refused) = unbounded_channel();
        let (outcomes_sender, outcomes) = unbounded_channel();
        let (wishes, snapshots) = start_snapshots(config, &data, &to_raft)?;
        let peers = transport.sender();
        let files = (wishes, data.snap.clone());
        let applier = Applier::new(&server, peers, outcomes_sender, files, data.replayed);
        let backend = Arc::clone(&data.backend);
        let outputs = |writes| Outputs {
            writes,
            peers: transport.sender(),
            active: transport.active(),
            committed: committed_sender,
            reads: reads_sender,
            refused: refused_sender,
        };
        let raft = start_raft(config, data, &server, raft_inbox, outputs)?;
        let apply = start_apply(applier, committed)?;
        let compaction = start_compaction(&server.store, &config.compaction)?;
        start_watch_sync(Arc::clone(&server.store))?;
        let answers = std::sync::Mutex::new(Some(Answers { reads, refused, outcomes }));
        let (inbox, threads) = (to_raft, Threads { raft, apply, snapshots });
        Ok(Self { server, inbox, backend, transport, shares, threads, compaction, answers })
    }
}

/// What answers questions about leases while this member leads.
fn primary(
    data: &Data,
    store: &Arc<Store>,
    status: &Arc<Status>,
    reads: &Arc<ReadIndex>,
) -> Primary {
    Primary::new(data.member_id, Arc::clone(store), Arc::clone(status), Arc::clone(reads))
}

/// Stops talking to members that were removed, or left behind by `--force-new-cluster`.
fn leave_behind(peers: &rafthttp::Sender, members: &Members, data: &Data) {
    for id in members.removed().iter().chain(&data.left_behind) {
        peers.remove_peer(*id);
    }
}

/// The key space and the leases of the data directory.
fn open_store(config: &ServerConfig, data: &Data) -> Result<Arc<Store>, Error> {
    let store = Store::open(Arc::clone(&data.backend))
        .map_err(|source| Error::Store { path: data.backend.path().to_owned(), source })?;
    store.lessor().raise(lessor::min_ttl(config.heartbeat, config.election));
    if config.lease_checkpoint != LeaseCheckpoint::Off {
        store.lessor().enable_checkpoints(checkpoint::interval());
    }
    Ok(store)
}

/// The other members: as the log knows them, or, before the log is applied, as the flags do.
fn others(data: &Data, members: &Members) -> Vec<Member> {
    let mut all = members.list();
    for member in &data.initial {
        if data.applied < data.initial.len() as u64 && members.get(member.id).is_none() {
            all.push(member.clone());
        }
    }
    all.retain(|member| member.id != data.member_id);
    all
}

fn transport_config(
    config: &ServerConfig,
    data: &Data,
    members: &Members,
    (extra, cuts): (axum::Router, Option<Cuts>),
    shares: Shares,
) -> rafthttp::Config {
    let peers = others(data, members).into_iter();
    rafthttp::Config {
        member_id: data.member_id,
        cluster_id: data.cluster_id,
        peer_urls: config.advertise_peer_urls.clone(),
        peers: peers
            .map(|member| rafthttp::Peer { id: member.id, urls: member.peer_urls })
            .collect(),
        server_version: ETCD_VERSION,
        election: config.election,
        connections: shares.from_peers,
        cuts,
        database: Some(rafthttp::Database {
            backend: Arc::clone(&data.backend),
            dir: data.snap.clone(),
            fsync: !config.unsafe_no_fsync,
        }),
        extra,
    }
}

fn raft_config(config: &ServerConfig, member_id: u64, applied: u64) -> raft::Config {
    raft::Config {
        id: member_id,
        election_tick: election_ticks(config),
        heartbeat_tick: 1,
        applied,
        // A returning follower is sent at once all that may be in flight. The raft thread reads it
        // from the segments, and 64 MiB take less than an election timeout. (etcd: 512 MiB.)
        max_size_per_msg: 512 << 10,
        max_inflight_msgs: 128,
        check_quorum: true,
        pre_vote: config.pre_vote,
        // A turn's proposals are one message already; raft-rs would merge without a bound.
        batch_append: false,
        max_uncommitted_size: 256 << 20,
        max_committed_size_per_ready: COMMITTED_BYTES_MAX,
        ..raft::Config::default()
    }
}

fn election_ticks(config: &ServerConfig) -> usize {
    let ticks = config.election.as_millis() / config.heartbeat.as_millis().max(1);
    usize::try_from(ticks).unwrap_or(usize::MAX)
}

/// Ticks that are skipped once, so that the first election does not take a whole timeout: all but
/// one for a lone member, all but two once others can be reached (etcd: adjustTicks). The node
/// skips a part of the random time as well.
fn advance(config: &ServerConfig, is_alone: bool) -> usize {
    match (config.election_tick_advance, is_alone) {
        (_, true) => election_ticks(config) - 1,
        (true, false) => election_ticks(config) - 2,
        (false, false) => 0,
    }
}

fn start_raft(
    config: &ServerConfig,
    data: Data,
    server: &Server,
    raft_inbox: Inputs,
    outputs: impl FnOnce(Writes) -> Outputs,
) -> Result<JoinHandle<()>, Error> {
    // The flags name the initial members; the log has the present ones.
    let voters =
        if data.applied == 0 { data.initial.len() } else { data.start.conf_state.voters.len() };
    let is_alone = voters == 1;
    let vote = (data.start.hard_state.term, data.start.hard_state.vote);
    let log = LogStorage::new(data.start, data.locations);
    let raft_config = raft_config(config, data.member_id, data.applied);
    let raw = RawNode::new(&raft_config, log, &logger())?;
    let to_raft = server.proposer.inbox.clone();
    let writer = wal::spawn(data.wal, move |ready| {
        // If raft has ended, nothing waits for this any more.
        let _ = to_raft.send(Input::Persisted { ready, since: trace::handed_over() });
    });
    let timing = Timing {
        tick: config.heartbeat,
        advance: advance(config, is_alone),
        is_alone,
        patience: assemble::request_timeout(config),
    };
    let node = Node::new(
        raw,
        raft_inbox,
        outputs(Writes::new(writer, vote)),
        Arc::clone(&server.status),
        timing,
    );
    Ok(std::thread::Builder::new().name("raft".to_owned()).spawn(move || node.run())?)
}

fn start_apply(applier: Applier, committed: Receiver<Committed>) -> Result<JoinHandle<()>, Error> {
    let thread = std::thread::Builder::new().name("apply".to_owned());
    Ok(thread.spawn(move || applier.run(&committed))?)
}

fn start_snapshots(
    config: &ServerConfig,
    data: &Data,
    inbox: &Inbox,
) -> Result<(Wishes, JoinHandle<()>), Error> {
    let settings = snapshots::Settings {
        dir: data.snap.clone(),
        count: config.snapshots.count,
        max_files: config.snapshots.max_files,
        max_segments: config.snapshots.max_wals,
        fsync: !config.unsafe_no_fsync,
    };
    let last = data.start.snapshot.index;
    Ok(snapshots::start(settings, last, &data.backend, &data.locations, inbox.clone())?)
}

fn start_compaction(store: &Arc<Store>, how: &Compaction) -> Result<compaction::Compaction, Error> {
    let batch_limit = how.batch_limit;
    let work = Arc::clone(store);
    let compaction =
        compaction::Compaction::start(how.pause, move || work.step_compaction(batch_limit))?;
    store.wake_at_compactions(compaction.thread().clone());
    Ok(compaction)
}

/// Starts the thread that brings watchers up to date. It only reads, and runs until the process
/// ends.
fn start_watch_sync(store: Arc<Store>) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name("watch-sync".to_owned());
    thread.spawn(move || {
        trace::set_thread("background");
        store.run_watch_sync();
    })?;
    Ok(())
}

impl Running {
    /// The grpc side: it wakes waiting requests, serves clients, and does the member's own periodic
    /// work. Returns when the process gets a signal to stop.
    async fn serve(
        &self,
        config: &ServerConfig,
        collector: Arc<trace::Collector>,
        ports: api::Ports,
    ) -> Result<(), Error> {
        let answers = self.answers.lock().expect("nobody panics while holding it").take();
        let answers = answers.expect("a member is served once");
        let server = &self.server;
        tokio::spawn(coordinator(server, answers.reads).run());
        tokio::spawn(wait::wake_applied(Arc::clone(&server.proposer.wait), answers.outcomes));
        tokio::spawn(wait::wake_refused(Arc::clone(&server.proposer.wait), answers.refused));
        tokio::spawn(version::monitor(Arc::clone(server)));
        tokio::spawn(expiry::run(Arc::clone(&server.leases)));
        tokio::spawn(no_space::run(Arc::clone(&server.proposer)));
        tokio::spawn(v2::expire(Arc::clone(&server.v2)));
        corrupt_check::start(config, server);
        tokio::spawn(keep::report(Arc::clone(server), collector.pinned()));
        tokio::spawn(write_flights()?);
        tokio::spawn(checkpoint::run(Arc::clone(&server.leases)));
        if let Some(what) = config.compaction.auto {
            tokio::spawn(compactor::run(Arc::clone(&server.kv), what));
        }
        let (ready, is_ready) = watch::channel(false);
        let notifier = Arc::new(Notifier::from_environment());
        let proposer = Arc::clone(&server.proposer);
        let own = (attributes(config), config.listen.clients.clone());
        tokio::spawn(publish(proposer, own, ready, Arc::clone(&notifier)));
        now_serving(server.member_id, config);
        let phase = api::Phase { ready: is_ready, stopping: server.stopping.watch() };
        let observe = config.trace_observe.then(|| {
            ObserveService::new(Arc::clone(&collector)).naming(Arc::clone(&server.members))
        });
        let limits = limits(config, self.shares);
        let clients = api::serve(Arc::clone(server), observe, ports, limits, phase);
        let mut clients = pin!(clients);
        let mut terminate = signal(SignalKind::terminate())?;
        let end = tokio::select! {
            result = clients.as_mut() => result.map_err(Error::from),
            result = tokio::signal::ctrl_c() => result.map_err(Error::from),
            _ = terminate.recv() => Ok(()),
            () = removed(self.transport.active(), server) => {
                tracing::error!("the member has been permanently removed from the cluster");
                tracing::warn!("data-dir used by this member must be removed");
                Ok(())
            }
        };
        tracing::info!("closing etcd server");
        let now = *server.status.leadership().borrow();
        mark!(MemberStop, 0, term = now.term, leader = now.leader);
        notifier.stopping().await;
        if end.is_ok() {
            leave::leave(server, &collector, clients).await;
        }
        end
    }

    /// Ends the threads in the order in which they feed each other. Applied entries are committed
    /// to the file.
    fn stop(self, runtime: Runtime) {
        // Clients first, so that their sockets close and the ports become free.
        runtime.shutdown_background();
        let _ = self.inbox.send(Input::Stop);
        let Threads { raft, apply, snapshots } = self.threads;
        let (raft, apply, snapshots) = (raft.join(), apply.join(), snapshots.join());
        if raft.is_err() || apply.is_err() || snapshots.is_err() {
            tracing::error!("a thread of the member has panicked");
        }
        self.compaction.stop();
        self.backend.stop();
        self.transport.stop();
        tracing::info!("closed etcd server");
    }
}

fn limits(config: &ServerConfig, shares: Shares) -> api::Limits {
    api::Limits {
        message_bytes: config.max_request_bytes + api::limit::GRPC_OVERHEAD,
        streams: config.max_concurrent_streams,
        connections: shares.clients,
        metrics_connections: shares.metrics,
        keepalive: config.keepalive,
    }
}

/// etcd's line for what waits for open ports.
fn now_serving(member_id: u64, config: &ServerConfig) {
    tracing::info!(
        "local-member-id" = %format!("{member_id:x}"),
        "initial-advertise-peer-urls" = %config.advertise_peer_urls.join(","),
        "advertise-client-urls" = %config.advertise_client_urls.join(","),
        "now serving peer/client/metrics"
    );
}

fn attributes(config: &ServerConfig) -> Attributes {
    Attributes { name: config.name.clone(), client_urls: config.advertise_client_urls.clone() }
}

async fn publish(
    proposer: Arc<Proposer>,
    (attributes, clients): (Attributes, Vec<Address>),
    ready: watch::Sender<bool>,
    notifier: Arc<Notifier>,
) {
    proposer.publish(&attributes).await;
    tracing::info!("published local member to cluster through raft");
    let since_start = trace::raw_clock::since_start_ns(trace::raw_clock::now());
    let applied = proposer.status.applied();
    mark!(MemberReady, 0, applied = applied, since_start = since_start);
    ready.send_replace(true);
    tracing::info!("ready to serve client requests");
    for address in clients {
        let text = "serving client traffic insecurely; this is strongly discouraged!";
        tracing::info!(%address, "{text}");
    }
    notifier.ready().await;
    // Keeps the sender alive, which the receivers need for as long as the member runs.
    std::future::pending::<()>().await;
}

/// Writes a file of the flight recorder at each SIGUSR1.
fn write_flights() -> Result<impl Future<Output = ()>, Error> {
    let mut asked = signal(SignalKind::user_defined1())?;
    Ok(async move {
        while asked.recv().await.is_some() {
            let written = tokio::task::spawn_blocking(|| flight::write(flight::Cause::Asked));
            match written.await.ok().flatten() {
                Some(Ok(path)) => {
                    tracing::info!(path = %path.display(), "wrote the flight recorder");
                }
                Some(Err(error)) => tracing::error!(%error, "could not write the flight recorder"),
                None => (),
            }
        }
    })
}

/// Returns when this member has applied its removal, or a peer says that it was removed. In the
/// first case it runs for another second, as in etcd, so that others learn of the removal from it.
async fn removed(active: Arc<rafthttp::Active>, server: &Server) {
    while !active.is_removed() {
        if server.members.is_removed(server.member_id) {
            return tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The coordinator of linearizable reads, which takes raft's answers from this channel.
fn coordinator(server: &Server, answers: UnboundedReceiver<ReadRound>) -> Coordinator {
    let reads = Arc::clone(&server.reads);
    Coordinator { reads, inbox: server.proposer.inbox.clone(), answers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_threads_that_serve_requests_have_their_ring() {
        for threads in [1, 2] {
            let runtime = grpc_runtime(threads).unwrap();
            let begin = || tokio::task::spawn_blocking(trace::thread_name);
            let names = runtime.block_on(async {
                let work: Vec<_> = (0..8).map(|_| begin()).collect();
                let mut names = Vec::new();
                for work in work {
                    names.push(work.await.unwrap());
                }
                names
            });
            assert_eq!(names, ["background"; 8], "{threads} threads");
            if threads == 1 {
                continue;
            }
            // A worker is named as soon as it has nothing to do.
            let is_named = runtime.block_on(async {
                let serving = tokio::spawn(async {
                    for _ in 0..10_000 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        if trace::thread_name() == "grpc" {
                            return true;
                        }
                    }
                    false
                });
                serving.await.unwrap()
            });
            assert!(is_named);
        }
    }
}
