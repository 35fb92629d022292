//! The peer thread, and the handle by which the raft layer sends messages to peers.

use std::{
    io,
    net::TcpListener as StdListener,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use raft::eraftpb::Message;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::LocalSet,
    time::sleep,
};

use super::{
    active::Active,
    hub::{self, Hub},
    identity::Identity,
    links::{Cuts, Links},
    local,
    peer::Peer,
    questions, server,
    snapshots::Database,
};
use crate::{raft::inbox::Inbox, trace};

/// The most messages that wait for the peer thread. It only sorts them into the peers' own queues,
/// so a full queue means that it is stuck.
const WAITING_MAX: usize = 64 * 1024;
/// Commands that are taken at one wake-up.
const COMMANDS_MAX: usize = 1024;

/// The configuration of the peer thread.
pub(crate) struct Config {
    /// Raft's id of this member.
    pub(crate) member_id: u64,
    /// The id of its cluster. Members of another cluster are refused with 412.
    pub(crate) cluster_id: u64,
    /// This member's peer URLs, sent to peers that may not know them yet.
    pub(crate) peer_urls: Vec<String>,
    /// The other members and their URLs.
    pub(crate) peers: Vec<Peer>,
    /// The version that peers compare with their own, such as `3.5.33`.
    pub(crate) server_version: &'static str,
    /// The election time-out. A dial may take that and a second (etcd: peerDialTimeout).
    pub(crate) election: Duration,
    /// Connections that are served at a time, at all listeners together; more wait.
    pub(crate) connections: usize,
    /// Requests to cut links, if the one that started this member may make them.
    pub(crate) cuts: Option<Cuts>,
    /// The database to send to followers that have fallen behind; none in tests.
    pub(crate) database: Option<Database>,
    /// Answers requests on the peer port that are not under `/raft`. Its handlers run on the peer
    /// thread: they must not block.
    pub(crate) extra: axum::Router,
}

/// The running peer thread. Dropping it stops the thread.
pub(crate) struct Transport {
    sender: Sender,
    active: Arc<Active>,
    thread: Option<JoinHandle<()>>,
}

/// Takes messages for peers; every thread may have a clone.
#[derive(Clone)]
pub(crate) struct Sender {
    /// Unbounded, but [`Sender::send`] keeps at most [`WAITING_MAX`] messages in it; changes of
    /// membership, which must not be lost, are rare.
    commands: UnboundedSender<Command>,
    waiting: Arc<AtomicUsize>,
    inbox: Inbox,
}

/// The commands for the peer thread.
pub(super) enum Command {
    /// Messages, and the raw tick at which raft handed them over.
    Send(Vec<Message>, u64),
    Add(Peer),
    Remove(u64),
    Stop,
}

/// Starts the peer thread, which serves `listeners` and dials the peers. Messages for raft go to
/// `inbox`.
///
/// # Errors
/// When the thread or its sockets cannot be set up, or a peer URL cannot stand in a header.
pub(crate) fn spawn(
    config: Config,
    listeners: Vec<StdListener>,
    inbox: Inbox,
) -> io::Result<Transport> {
    let (member, cluster) = (config.member_id, config.cluster_id);
    let identity = Identity::new(member, cluster, config.server_version, &config.peer_urls)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let listeners = {
        let _entered = runtime.enter();
        listeners.into_iter().map(adopt).collect::<io::Result<Vec<_>>>()?
    };
    let (commands, received) = unbounded_channel();
    let links = Arc::new(Links::default());
    let (active, waiting) = (Arc::new(Active::default()), Arc::new(AtomicUsize::new(0)));
    let sender = Sender { commands, waiting: waiting.clone(), inbox: inbox.clone() };
    let Config { election, connections, .. } = config;
    if let Some(cuts) = &config.cuts {
        links.want(&cuts.borrow());
        questions::end_at_cuts(links.clone());
    }
    let (active_too, database) = (active.clone(), config.database);
    let seed =
        local::Seed { identity, election, connections, active: active_too, links, database, inbox };
    let (peers, extra, cuts) = (config.peers, config.extra, config.cuts);
    let thread = std::thread::Builder::new().name("peer".to_owned()).spawn(move || {
        run(&runtime, async move {
            let hub = Rc::new(Hub::new(seed));
            if let Some(cuts) = cuts {
                let links = hub.local.links.clone();
                tokio::task::spawn_local(async move { links.follow(cuts).await });
            }
            for peer in peers {
                hub.add(&peer);
            }
            for listener in listeners {
                tokio::task::spawn_local(server::accept(hub.clone(), listener, extra.clone()));
            }
            obey(&hub, received, &waiting).await;
        });
    })?;
    Ok(Transport { sender, active, thread: Some(thread) })
}

/// Runs until `work` ends; every task that is still there is dropped then.
fn run(runtime: &Runtime, work: impl Future<Output = ()>) {
    LocalSet::new().block_on(runtime, work);
}

fn adopt(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Carries out commands in order, all that wait at each wake-up, until one ends the thread.
async fn obey(hub: &Rc<Hub>, mut received: UnboundedReceiver<Command>, waiting: &AtomicUsize) {
    let mut commands = Vec::new();
    while received.recv_many(&mut commands, COMMANDS_MAX).await != 0 {
        if let Some(delay) = hub::failpoint_delay() {
            sleep(delay).await;
        }
        for command in commands.drain(..) {
            match command {
                Command::Send(messages, since) => {
                    waiting.fetch_sub(messages.len(), Ordering::Relaxed);
                    hub.send(messages, since);
                }
                Command::Add(peer) => hub.add(&peer),
                Command::Remove(id) => hub.remove(id),
                Command::Stop => return,
            }
        }
    }
}

impl Transport {
    /// A handle for the raft thread.
    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The peers that are active, for other threads to read.
    pub(crate) fn active(&self) -> Arc<Active> {
        self.active.clone()
    }

    /// Closes all connections and listeners, and waits until the thread has ended.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.sender.command(Command::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the peer thread has panicked");
        }
    }
}

impl Sender {
    /// Hands over messages for peers, and never waits. A message that cannot be sent is dropped,
    /// and its peer reported to raft as unreachable.
    pub(crate) fn send(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let count = messages.len();
        if WAITING_MAX < self.waiting.fetch_add(count, Ordering::Relaxed) + count {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            local::report_lost(&messages, |input| self.inbox.offer(input).is_ok());
            return;
        }
        self.command(Command::Send(messages, trace::handed_over()));
    }

    /// Adds a peer, or changes the URLs of one.
    pub(crate) fn set_peer(&self, peer: Peer) {
        self.command(Command::Add(peer));
    }

    /// Stops talking to a member, and refuses it from now on: 410 on streams, 403 on requests.
    /// After a start it must be called for every id that was removed earlier, too.
    pub(crate) fn remove_peer(&self, id: u64) {
        self.command(Command::Remove(id));
    }

    fn command(&self, command: Command) {
        // The thread has ended when this fails, and the member is stopping.
        let _ = self.commands.send(command);
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}
