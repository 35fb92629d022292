//! This member as its connections see it: its identity, and where they report what they meet.
//!
//! Everything here runs on the peer thread and never waits, so nothing is locked. The tasks of a
//! connection need no more than this; [`hub`](super::hub) decides where messages go.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use raft::eraftpb::{Message, MessageType};

use super::{
    active::Active,
    channel::Channel,
    drops, glass,
    identity::Identity,
    links::Links,
    log_limit::LogLimit,
    snapshots::{Database, Snapshots},
};
use crate::{
    clock, metrics,
    raft::inbox::{Inbox, Input, Refused},
    trace,
};

/// The configuration with which the peer thread starts.
pub(super) struct Seed {
    pub(super) identity: Identity,
    pub(super) election: Duration,
    /// Connections that are served at a time.
    pub(super) connections: usize,
    pub(super) active: Arc<Active>,
    pub(super) links: Arc<Links>,
    pub(super) database: Option<Database>,
    pub(super) inbox: Inbox,
}

/// State that the tasks of all connections share.
pub(super) struct Local {
    pub(super) identity: Identity,
    /// How long connecting and the head of an answer may take (etcd: peerDialTimeout).
    pub(super) dial_timeout: Duration,
    pub(super) active: Arc<Active>,
    /// The links that are cut.
    pub(super) links: Arc<Links>,
    pub(super) snapshots: Snapshots,
    inbox: Inbox,
    /// The peers, with what is counted for each.
    peers: RefCell<HashMap<u64, Arc<metrics::Peer>>>,
    removed: RefCell<HashSet<u64>>,
    complaints: LogLimit,
}

impl Local {
    pub(super) fn new(seed: Seed) -> Local {
        Local {
            identity: seed.identity,
            dial_timeout: Duration::from_secs(1) + seed.election,
            active: seed.active,
            links: seed.links,
            snapshots: Snapshots::new(seed.database),
            inbox: seed.inbox,
            peers: RefCell::default(),
            removed: RefCell::default(),
            complaints: LogLimit::default(),
        }
    }

    /// Notes that this member talks to a peer.
    pub(super) fn note_peer(&self, id: u64) {
        let counts = metrics::peer(self.identity.member_id, id);
        self.peers.borrow_mut().insert(id, counts);
    }

    /// Forgets a peer that was removed from the cluster, and refuses it from now on.
    pub(super) fn remove(&self, id: u64) {
        if let Some(counts) = self.peers.borrow_mut().remove(&id) {
            counts.active.set(0);
        }
        self.removed.borrow_mut().insert(id);
        self.active.forget(id);
        self.links.forget(id);
    }

    /// Counts something of a peer; nothing of a member that is none.
    pub(super) fn count(&self, id: u64, count: impl FnOnce(&metrics::Peer)) {
        if let Some(counts) = self.peers.borrow().get(&id) {
            count(counts);
        }
    }

    /// This member has begun, or ended, to read a stream of the peer's.
    pub(super) fn set_read(&self, peer: u64, channel: Channel, is_up: bool) {
        if let Some(is_active) = self.active.set_read(peer, channel, is_up) {
            self.count(peer, |counts| {
                counts.active.set(i64::from(is_active));
                counts.disconnected.add(u64::from(!is_active));
            });
        }
    }

    /// Whether the member with this id was removed.
    pub(super) fn is_removed(&self, id: u64) -> bool {
        self.removed.borrow().contains(&id)
    }

    /// Reports to raft that these messages were not sent.
    pub(super) fn lost(&self, messages: &[Message]) {
        for message in messages {
            self.count(message.to, |counts| counts.sent_failures.increment());
            if message.get_msg_type() == MessageType::MsgAppend {
                self.active.traffic.note_failed(message.to);
            }
        }
        report_lost(messages, |input| match input {
            // raft pauses a peer until its snapshot is reported as sent or failed, so the report
            // must not be lost. The raft thread never waits for this one, so it is safe to wait for
            // room in its inbox.
            Input::SnapshotSent { .. } => self.inbox.send(input).is_ok(),
            _ => self.inbox.offer(input).is_ok(),
        });
    }

    /// Reports to raft that a peer's stream has broken.
    pub(super) fn unreachable(&self, peer: u64) {
        // A full inbox: raft finds out from the missing answers.
        let _ = self.inbox.offer(Input::Unreachable(peer));
    }

    /// Hands a received message to raft. `Err` if raft's inbox has no room; a stream ignores that,
    /// because Raft repeats.
    pub(super) fn receive(&self, message: Box<Message>, link: u64) -> Result<(), Refused> {
        if self.links.is_cut(message.from) {
            drops::cut(&message, true);
            return Ok(());
        }
        glass::received(&message, link);
        if failpoint_drops_receive(message.from) || !self.is_for_raft(&message) {
            return Ok(());
        }
        let (peer, kind, term) = (message.from, message.get_msg_type(), message.term);
        if kind == MessageType::MsgAppend {
            self.active.traffic.note_received();
        }
        let taken = self.inbox.offer(Input::Step { message, since: trace::handed_over() });
        taken.inspect_err(|_| {
            self.count(peer, |counts| counts.received_failures.increment());
            drops::untaken(peer, kind, term);
        })
    }

    /// Hands raft the message of a snapshot whose database is on the disk.
    pub(super) fn receive_snapshot(&self, message: Message, link: u64) -> Result<(), Refused> {
        glass::received(&message, link);
        let message = Box::new(message);
        self.inbox.offer(Input::Step { message, since: trace::handed_over() })
    }

    /// Reports to raft that a peer has a snapshot.
    pub(super) fn snapshot_sent(&self, peer: u64) {
        // As in `lost`: raft pauses the peer until it hears of this.
        let _ = self.inbox.send(Input::SnapshotSent { peer, ok: true });
    }

    fn is_for_raft(&self, message: &Message) -> bool {
        if message.to != self.identity.member_id {
            let text = "a message to another member was dropped";
            self.complain(message.from, text, &format!("it is for {:x}", message.to));
            return false;
        }
        match message.get_msg_type() {
            // Never valid from outside. An unknown type decodes as MsgHup, so it ends here, too.
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

    /// Logs a change of a peer's state, unless the same was logged just before.
    pub(super) fn announce(&self, peer: u64, news: &str) {
        if self.complaints.allows(self.counted_as(peer), news, clock::now()) {
            tracing::info!("peer {peer:x}: {news}");
        }
    }

    /// Logs a complaint about a peer, unless the same one was logged just before. `details` may
    /// differ.
    pub(super) fn complain(&self, peer: u64, complaint: &str, details: &str) {
        if self.complaints.allows(self.counted_as(peer), complaint, clock::now()) {
            tracing::warn!("peer {peer:x}: {complaint}: {details}");
        }
    }

    /// The peer under whose name a repeated line is left out of the log. Senders that are no peers
    /// can make up an id for each request, so all of them share one.
    fn counted_as(&self, id: u64) -> u64 {
        if self.peers.borrow().contains_key(&id) { id } else { 0 }
    }
}

/// Reports the peers of these messages to raft, each once, and each snapshot as failed.
pub(super) fn report_lost(messages: &[Message], mut report: impl FnMut(Input) -> bool) {
    let mut unreachable: Vec<u64> = Vec::new();
    for message in messages {
        drops::unsent(message);
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

/// `peer-drop-receive=return` drops all that arrives, `=return(1f)` what comes from member 1f.
fn failpoint_drops_receive(_peer: u64) -> bool {
    fail::fail_point!("peer-drop-receive", |argument| names(argument, _peer));
    false
}

/// Whether a failpoint's argument is this peer's id in hex, or missing: it means all of them then.
#[allow(dead_code, clippy::needless_pass_by_value, reason = "called by failpoints alone")]
pub(super) fn names(argument: Option<String>, peer: u64) -> bool {
    argument.is_none_or(|id| id == format!("{peer:x}"))
}
