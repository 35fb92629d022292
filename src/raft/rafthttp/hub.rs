//! The peers, and the queues for messages to them.
//!
//! Everything here runs on the peer thread and never waits, so nothing is locked.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use raft::eraftpb::{
    Message,
    MessageType::{self, MsgSnapshot},
};
use tokio::sync::Semaphore;

use super::{
    bodies::Bodies,
    channel::Channel,
    drops,
    glass::Outbound,
    local::{Local, Seed},
    peer::{Link, Peer},
    pipeline::Pipeline,
    stream::StreamBody,
};
use crate::trace;

/// The most remembered members that this member does not know as part of the cluster. Any process
/// that knows the cluster's id can claim to be one.
const REMOTES_MAX: usize = 64;

/// State that the tasks of the peer thread share.
pub(super) struct Hub {
    pub(super) local: Rc<Local>,
    /// Permits for connections that are served at a time.
    pub(super) places: Arc<Semaphore>,
    /// The room for the bodies of requests.
    pub(super) bodies: Bodies,
    links: RefCell<HashMap<u64, Link>>,
    /// Members that dialled before this one has learned of them: a lagging member still has to
    /// answer the leader that was added meanwhile. They have no streams. (etcd: remote)
    remotes: RefCell<HashMap<u64, Pipeline>>,
}

/// Why a member may not open streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// The member was removed from the cluster.
    Removed,
    /// This member does not know it.
    Unknown,
}

impl Hub {
    pub(super) fn new(seed: Seed) -> Hub {
        Hub {
            places: Arc::new(Semaphore::new(seed.connections)),
            bodies: Bodies::default(),
            local: Rc::new(Local::new(seed)),
            links: RefCell::default(),
            remotes: RefCell::default(),
        }
    }

    /// Starts to talk to a peer; one that is known already gets its new URLs.
    pub(super) fn add(&self, peer: &Peer) {
        if peer.id == self.local.identity.member_id || self.local.is_removed(peer.id) {
            return;
        }
        self.local.links.learn(peer.id, &peer.urls);
        if self.links.borrow().contains_key(&peer.id) {
            return self.update(peer);
        }
        self.remotes.borrow_mut().remove(&peer.id);
        let link = Link::start(&self.local, peer);
        self.local.note_peer(peer.id);
        self.links.borrow_mut().insert(peer.id, link);
    }

    /// Dials a peer at other URLs from now on.
    fn update(&self, peer: &Peer) {
        if let Some(link) = self.links.borrow().get(&peer.id) {
            link.urls.replace(&peer.urls);
        }
    }

    /// Closes the connections to a peer, and opens no new ones.
    pub(super) fn remove(&self, id: u64) {
        let link = self.links.borrow_mut().remove(&id);
        let remote = self.remotes.borrow_mut().remove(&id);
        drop((link, remote));
        self.local.remove(id);
        if id != self.local.identity.member_id {
            // A member that gets the same prefix later may not speak glass.
            trace::forget_peer(id);
        }
    }

    /// Remembers the URLs of a member that is not known yet.
    pub(super) fn remember(&self, id: u64, urls: &[String]) {
        let is_peer = self.links.borrow().contains_key(&id) || id == self.local.identity.member_id;
        if id == 0 || urls.is_empty() || is_peer || self.local.is_removed(id) {
            return;
        }
        let mut remotes = self.remotes.borrow_mut();
        if remotes.len() < REMOTES_MAX && !remotes.contains_key(&id) {
            remotes.insert(id, Pipeline::to_remote(&self.local, id, urls));
        }
    }

    /// Whether a member with this id may open streams.
    pub(super) fn knows(&self, id: u64) -> Result<(), Stranger> {
        if self.local.is_removed(id) {
            return Err(Stranger::Removed);
        }
        let is_peer = self.links.borrow().contains_key(&id);
        if is_peer { Ok(()) } else { Err(Stranger::Unknown) }
    }

    /// From now on, messages to the peer are written to the stream that it has just opened.
    /// `number` is the stream's, if the peer speaks glass. `None` if there is no such peer.
    pub(super) fn attach(
        &self,
        peer: u64,
        channel: Channel,
        number: Option<u64>,
    ) -> Option<StreamBody> {
        let outgoing = self.links.borrow().get(&peer)?.outgoing(channel).clone();
        if channel == Channel::Message {
            self.local.active.set_glass(peer, number.is_some());
        }
        Some(StreamBody::attach(&self.local, &outgoing, number))
    }

    /// Sends messages, each on the channel it belongs to. `since`: the raw tick at which raft
    /// handed them over.
    pub(super) fn send(&self, messages: Vec<Message>, since: u64) {
        let messages = messages.into_iter().map(|message| Outbound { message, since });
        let lost: Vec<Message> = messages.filter_map(|message| self.send_one(message)).collect();
        self.local.lost(&lost);
    }

    /// Drops a message at a link that is cut. While its stream is open nobody notices, as with a
    /// network that drops packets; without a stream, dialling fails, and raft hears of that.
    fn drop_at_cut(&self, link: &Link, message: &Message) {
        drops::cut(message, false);
        if !link.outgoing(Channel::Message).is_attached() {
            self.local.unreachable(message.to);
        }
    }

    /// Queues a message; returns it when that queue is full.
    fn send_one(&self, outbound: Outbound) -> Option<Message> {
        let message = &outbound.message;
        let is_proposal = message.get_msg_type() == MessageType::MsgPropose;
        if message.to == 0
            || failpoint_drops_send(message.to)
            || (is_proposal && failpoint_drops_proposal())
        {
            return None;
        }
        if message.get_msg_type() == MessageType::MsgAppend {
            self.local.active.traffic.note_sent();
        }
        if let Some(link) = self.links.borrow().get(&message.to) {
            if self.local.links.is_cut(message.to) && message.get_msg_type() != MsgSnapshot {
                self.drop_at_cut(link, message);
                return None;
            }
            return link.send(outbound);
        }
        if let Some(remote) = self.remotes.borrow().get(&message.to) {
            return remote.push(outbound);
        }
        tracing::debug!("no peer {:x} to send a message to", message.to);
        drops::unsent(message);
        None
    }
}

/// `peer-drop-send=return` drops all that is sent, `=return(1f)` what is sent to member 1f.
fn failpoint_drops_send(_peer: u64) -> bool {
    fail::fail_point!("peer-drop-send", |argument| super::local::names(argument, _peer));
    false
}

/// `peer-drop-proposals=1*return` drops the first proposal that is forwarded.
fn failpoint_drops_proposal() -> bool {
    fail::fail_point!("peer-drop-proposals", |_| true);
    false
}

/// `peer-delay-send=return(75)` holds back everything that is sent for 75 ms.
pub(super) fn failpoint_delay() -> Option<Duration> {
    fail::fail_point!("peer-delay-send", |argument| {
        argument.and_then(|ms| ms.parse().ok()).map(Duration::from_millis)
    });
    None
}

#[cfg(test)]
mod tests {
    use tokio::{runtime::Builder, task::LocalSet};

    use super::*;
    use crate::{
        raft::{inbox::inbox, rafthttp::identity::Identity},
        trace::log_lines::LogLines,
    };

    #[test]
    fn made_up_ids_do_not_fill_the_log() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let log = LogLines::default();
        log.while_in(|| {
            LocalSet::new().block_on(&runtime, async {
                let hub = Rc::new(Hub::new(Seed {
                    identity: Identity::new(1, 9, "3.5.33", &[]).unwrap(),
                    election: Duration::from_secs(1),
                    connections: 1,
                    active: Arc::default(),
                    links: Arc::default(),
                    database: None,
                    inbox: inbox().0,
                }));
                hub.add(&Peer { id: 2, urls: Vec::new() });
                for id in 2..1000 {
                    hub.local.complain(id, "its request was refused", "cluster ID mismatch");
                }
            });
        });
        assert_eq!(log.count("peer 2: its request was refused"), 1);
        assert_eq!(log.count("its request was refused"), 2, "{:?}", log.lines());
    }
}
