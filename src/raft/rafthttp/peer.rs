//! One peer: its queues, and which of them a message takes.

use std::{cell::RefCell, rc::Rc};

use raft::eraftpb::{Message, MessageType};
use tokio::task::JoinSet;

use super::{
    channel::Channel,
    dial::Urls,
    glass::Outbound,
    local::Local,
    pipeline::Pipeline,
    probing, snapshot_sender,
    stream::{Outgoing, Reader},
};

/// Another member, with the ways to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Raft's id of that member.
    pub(crate) id: u64,
    /// Its peer URLs, `http://host:port`. They are tried in turn.
    pub(crate) urls: Vec<String>,
}

/// The connections with one peer. Dropping it ends them all. (etcd: peer)
pub(super) struct Link {
    pub(super) urls: Rc<Urls>,
    msgapp: Rc<Outgoing>,
    message: Rc<Outgoing>,
    pipeline: Pipeline,
    local: Rc<Local>,
    /// Snapshots that are being sent.
    snapshots: RefCell<JoinSet<()>>,
    /// The readers of both streams, and the probe.
    _readers: JoinSet<()>,
}

impl Link {
    /// Makes the queues, and starts to dial both streams.
    pub(super) fn start(local: &Rc<Local>, peer: &Peer) -> Link {
        let urls = Rc::new(Urls::new(&peer.urls));
        let mut readers = JoinSet::new();
        for channel in [Channel::MsgApp, Channel::Message] {
            let reader = Reader::new(local.clone(), peer.id, channel, urls.clone());
            readers.spawn_local(reader.run());
        }
        readers.spawn_local(probing::probe(local.clone(), peer.id, urls.clone()));
        Link {
            msgapp: Outgoing::new(peer.id, Channel::MsgApp),
            message: Outgoing::new(peer.id, Channel::Message),
            pipeline: Pipeline::start(local, peer.id, &urls),
            urls,
            local: local.clone(),
            snapshots: RefCell::default(),
            _readers: readers,
        }
    }

    /// The queue of a stream.
    pub(super) fn outgoing(&self, channel: Channel) -> &Rc<Outgoing> {
        match channel {
            Channel::MsgApp => &self.msgapp,
            Channel::Message => &self.message,
        }
    }

    /// Queues a message: a snapshot goes by a request of its own, MsgApp on its stream if the peer
    /// has opened it, else all on the message stream if that is open, else on the pipeline. Returns
    /// it when that queue is full. (etcd: peer.pick)
    #[must_use]
    pub(super) fn send(&self, outbound: Outbound) -> Option<Message> {
        let kind = outbound.message.get_msg_type();
        if kind == MessageType::MsgSnapshot {
            let send = snapshot_sender::send(self.local.clone(), self.urls.clone(), outbound);
            let mut snapshots = self.snapshots.borrow_mut();
            // Those that have ended.
            while snapshots.try_join_next().is_some() {}
            snapshots.spawn_local(send);
            return None;
        }
        if kind == MessageType::MsgAppend && self.msgapp.is_attached() {
            return self.msgapp.push(outbound);
        }
        if self.message.is_attached() {
            return self.message.push(outbound);
        }
        self.pipeline.push(outbound)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.msgapp.close();
        self.message.close();
    }
}
