//! The peer thread's one place of state: who the peers are, and where messages go.
//!
//! Everything here runs on the peer thread, and nothing here waits, so nothing is locked.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use raft::eraftpb::{Message, MessageType};
use tokio::sync::Semaphore;

use super::{
    active::Active,
    glass,
    identity::Identity,
    log_limit::LogLimit,
    peer::Link,
    pipeline::Pipeline,
    stream::{Channel, StreamBody},
    transport::Peer,
};
use crate::{
    clock,
    raft::inbox::{Inbox, Input, Refused},
};

/// Members that are remembered without belonging to the cluster as this member knows it. Anyone
/// who knows the cluster's id can claim to be one.
const REMOTES_MAX: usize = 64;

/// What a hub starts with.
pub(super) struct Seed {
    pub(super) identity: Identity,
    pub(super) election: Duration,
    /// Connections that are served at a time.
    pub(super) connections: usize,
    pub(super) active: Arc<Active>,
    pub(super) inbox: Inbox,
}

/// State that the tasks of the peer thread share.
pub(super) struct Hub {
    pub(super) identity: Identity,
    /// How long connecting and the head of an answer may take (etcd: peerDialTimeout).
    pub(super) dial_timeout: Duration,
    pub(super) active: Arc<Active>,
    /// Places for connections that are served.
    pub(super) places: Arc<Semaphore>,
    inbox: Inbox,
    links: RefCell<HashMap<u64, Link>>,
    /// Members that dialled before this one has heard of them: a lagging member still has to
    /// answer the leader that was added meanwhile. They have no streams. (etcd: remote)
    remotes: RefCell<HashMap<u64, Pipeline>>,
    removed: RefCell<HashSet<u64>>,
    complaints: LogLimit,
}

/// Why a member may not open streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// It was removed from the cluster.
    Removed,
    /// It is not known.
    Unknown,
}

impl Hub {
    pub(super) fn new(seed: Seed) -> Hub {
        Hub {
            identity: seed.identity,
            dial_timeout: Duration::from_secs(1) + seed.election,
            active: seed.active,
            places: Arc::new(Semaphore::new(seed.connections)),
            inbox: seed.inbox,
            links: RefCell::default(),
            remotes: RefCell::default(),
            removed: RefCell::default(),
            complaints: LogLimit::default(),
        }
    }

    /// Starts to talk to a peer; one that is known already gets its new URLs.
    pub(super) fn add(self: &Rc<Self>, peer: &Peer) {
        if peer.id == self.identity.member_id || self.is_removed(peer.id) {
            return;
        }
        if self.links.borrow().contains_key(&peer.id) {
            return self.update(peer);
        }
        self.remotes.borrow_mut().remove(&peer.id);
        let link = Link::start(self, peer);
        self.links.borrow_mut().insert(peer.id, link);
    }

    /// Dials a peer at other URLs from now on.
    fn update(&self, peer: &Peer) {
        if let Some(link) = self.links.borrow().get(&peer.id) {
            link.urls.replace(&peer.urls);
        }
    }

    /// Stops talking to a peer, for good.
    pub(super) fn remove(&self, id: u64) {
        self.removed.borrow_mut().insert(id);
        let link = self.links.borrow_mut().remove(&id);
        let remote = self.remotes.borrow_mut().remove(&id);
        drop((link, remote));
        self.active.forget(id);
    }

    /// Remembers the URLs of a member that is not known yet.
    pub(super) fn remember(self: &Rc<Self>, id: u64, urls: &[String]) {
        let is_peer = self.links.borrow().contains_key(&id) || id == self.identity.member_id;
        if id == 0 || urls.is_empty() || is_peer || self.is_removed(id) {
            return;
        }
        let mut remotes = self.remotes.borrow_mut();
        if remotes.len() < REMOTES_MAX && !remotes.contains_key(&id) {
            remotes.insert(id, Pipeline::to_remote(self, id, urls));
        }
    }

    /// Whether the member with this id was removed.
    pub(super) fn is_removed(&self, id: u64) -> bool {
        self.removed.borrow().contains(&id)
    }

    /// Whether a member with this id may open streams.
    pub(super) fn knows(&self, id: u64) -> Result<(), Stranger> {
        if self.is_removed(id) {
            return Err(Stranger::Removed);
        }
        let is_peer = self.links.borrow().contains_key(&id);
        if is_peer { Ok(()) } else { Err(Stranger::Unknown) }
    }

    /// Makes the stream that a peer has opened the one that messages to it are written to.
    /// `number` is the stream's, if the peer speaks glass. `None` if there is no such peer.
    pub(super) fn attach(
        self: &Rc<Self>,
        (peer, channel): (u64, Channel),
        number: Option<u64>,
    ) -> Option<StreamBody> {
        let outgoing = self.links.borrow().get(&peer)?.outgoing(channel).clone();
        if channel == Channel::Message {
            self.active.set_glass(peer, number.is_some());
        }
        Some(StreamBody::attach(self, &outgoing, number))
    }

    /// Sends messages, each on the channel it belongs to.
    pub(super) fn send(&self, messages: Vec<Message>) {
        let lost: Vec<Message> =
            messages.into_iter().filter_map(|message| self.send_one(message)).collect();
        self.lost(&lost);
    }

    /// Queues a message; returns it when that queue is full.
    fn send_one(&self, message: Message) -> Option<Message> {
        let is_proposal = message.get_msg_type() == MessageType::MsgPropose;
        if message.to == 0
            || failpoint_drops_send(message.to)
            || (is_proposal && failpoint_drops_proposal())
        {
            return None;
        }
        if let Some(link) = self.links.borrow().get(&message.to) {
            return link.send(message);
        }
        if let Some(remote) = self.remotes.borrow().get(&message.to) {
            return remote.push(message);
        }
        tracing::debug!("no peer {:x} to send a message to", message.to);
        None
    }

    /// Tells raft that these messages did not leave.
    pub(super) fn lost(&self, messages: &[Message]) {
        report_lost(messages, |input| match input {
            // A peer whose snapshot is neither reported as sent nor as failed waits for ever. The
            // raft thread never waits for this one, so waiting for room in its inbox is safe.
            Input::SnapshotSent { .. } => self.inbox.send(input).is_ok(),
            _ => self.inbox.offer(input).is_ok(),
        });
    }

    /// Tells raft that a peer's stream has broken.
    pub(super) fn unreachable(&self, peer: u64) {
        // A full inbox: raft finds out from the missing answers.
        let _ = self.inbox.offer(Input::Unreachable(peer));
    }

    /// Hands a message that has arrived to raft. `Err` when raft does not take it, which a peer's
    /// stream does not care about: Raft repeats.
    pub(super) fn receive(&self, message: Box<Message>, link: u64) -> Result<(), Refused> {
        glass::received(&message, link);
        if failpoint_drops_receive(message.from) || !self.is_for_raft(&message) {
            return Ok(());
        }
        self.inbox.offer(Input::Step(message))
    }

    fn is_for_raft(&self, message: &Message) -> bool {
        if message.to != self.identity.member_id {
            let text = "a message to another member was dropped";
            self.complain(message.from, text, &format!("it is for {:x}", message.to));
            return false;
        }
        match message.get_msg_type() {
            // Never from outside. An unknown type reads as MsgHup, so it ends here, too.
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum => false,
            // Its database could only come through `/raft/snapshot`.
            MessageType::MsgSnapshot => {
                self.complain(message.from, "a snapshot without its database", "dropped");
                false
            }
            _ => true,
        }
    }

    /// Notes that this member was removed from the cluster, as a peer says.
    pub(super) fn note_removed(&self, peer: u64) {
        if self.active.set_removed() {
            tracing::error!(
                "peer {peer:x} says: the member has been permanently removed from the cluster"
            );
        }
    }

    /// Logs news of a peer, unless the same news was logged just now.
    pub(super) fn announce(&self, peer: u64, news: &str) {
        if self.complaints.allows(self.counted_as(peer), news, clock::now()) {
            tracing::info!("peer {peer:x}: {news}");
        }
    }

    /// Logs a complaint about a peer, unless the same one was logged just now. `details` do not
    /// count for what is the same.
    pub(super) fn complain(&self, peer: u64, complaint: &str, details: &str) {
        if self.complaints.allows(self.counted_as(peer), complaint, clock::now()) {
            tracing::warn!("peer {peer:x}: {complaint}: {details}");
        }
    }

    /// The peer in whose name the log is spared a repetition. Whoever is none can make up a new id
    /// for each request, so all of them have one together.
    fn counted_as(&self, id: u64) -> u64 {
        if self.links.borrow().contains_key(&id) { id } else { 0 }
    }
}

/// Reports the peers of these messages to raft, each once, and each snapshot as failed.
pub(super) fn report_lost(messages: &[Message], mut report: impl FnMut(Input) -> bool) {
    let mut unreachable: Vec<u64> = Vec::new();
    for message in messages {
        let peer = message.to;
        if !unreachable.contains(&peer) {
            unreachable.push(peer);
            report(Input::Unreachable(peer));
        }
        if message.get_msg_type() == MessageType::MsgSnapshot {
            report(Input::SnapshotSent { peer, ok: false });
        }
    }
}

/// `peer-drop-send=return` drops all that is sent, `=return(1f)` what is sent to member 1f.
fn failpoint_drops_send(_peer: u64) -> bool {
    fail::fail_point!("peer-drop-send", |argument| names(argument, _peer));
    false
}

/// `peer-drop-proposals=1*return` drops the first proposal that is forwarded.
fn failpoint_drops_proposal() -> bool {
    fail::fail_point!("peer-drop-proposals", |_| true);
    false
}

/// `peer-drop-receive=return` drops all that arrives, `=return(1f)` what comes from member 1f.
fn failpoint_drops_receive(_peer: u64) -> bool {
    fail::fail_point!("peer-drop-receive", |argument| names(argument, _peer));
    false
}

/// `peer-delay-send=return(75)` holds back everything that is sent for 75 ms.
pub(super) fn failpoint_delay() -> Option<Duration> {
    fail::fail_point!("peer-delay-send", |argument| {
        argument.and_then(|ms| ms.parse().ok()).map(Duration::from_millis)
    });
    None
}

/// Whether a failpoint's argument is this peer's id in hex, or missing: it means all of them then.
#[allow(dead_code, clippy::needless_pass_by_value, reason = "called by failpoints alone")]
fn names(argument: Option<String>, peer: u64) -> bool {
    argument.is_none_or(|id| id == format!("{peer:x}"))
}

#[cfg(test)]
mod tests {
    use tokio::{runtime::Builder, task::LocalSet};

    use super::*;
    use crate::{raft::inbox::inbox, trace::told::Told};

    #[test]
    fn made_up_ids_do_not_fill_the_log() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let log = Told::default();
        log.while_in(|| {
            LocalSet::new().block_on(&runtime, async {
                let hub = Rc::new(Hub::new(Seed {
                    identity: Identity::new((1, 9), "3.5.33", &[]).unwrap(),
                    election: Duration::from_secs(1),
                    connections: 1,
                    active: Arc::default(),
                    inbox: inbox().0,
                }));
                hub.add(&Peer { id: 2, urls: Vec::new() });
                for id in 2..1000 {
                    hub.complain(id, "its request was refused", "cluster ID mismatch");
                }
            });
        });
        assert_eq!(log.count("peer 2: its request was refused"), 1);
        assert_eq!(log.count("its request was refused"), 2, "{:?}", log.lines());
    }
}
