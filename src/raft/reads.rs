//! Questions of readers, which raft gets only once there is a leader that may answer them.
//!
//! raft-rs drops a question that nobody can answer, and the reader would ask again only after half
//! a second (etcd: pendingReadIndexMessages). So it waits here, on the raft thread.

use std::collections::VecDeque;

use raft::{
    Raft, RawNode, StateRole,
    eraftpb::{Entry, Message, MessageType},
};

use super::{log::LogStorage, rafthttp};
use crate::mark;

/// The most questions that wait while there is no leader.
const PARKED_MAX: usize = 5000;

/// The questions that wait for a leader, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct ParkedReads(VecDeque<Message>);

impl ParkedReads {
    /// Whether no question waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks, or keeps the question until there is a leader that may answer it.
    pub(crate) fn ask(&mut self, question: Message, raw: &mut RawNode<LogStorage>) {
        let (round, term, leader) = (rafthttp::round(&question), raw.raft.term, raw.raft.leader_id);
        if can_answer(&raw.raft) {
            // Raft refuses none of these; one that is lost is asked again.
            let _ = raw.step(question);
        } else if self.0.len() < PARKED_MAX {
            self.0.push_back(question);
            mark!(ReadIndexPark, round, term = term, leader = leader, parked = self.0.len());
        } else {
            mark!(ReadIndexLost, round, term = term, leader = leader);
        }
    }

    /// Asks what waits, if there is a leader now that may answer.
    pub(crate) fn release(&mut self, raw: &mut RawNode<LogStorage>) {
        if can_answer(&raw.raft) {
            self.0.drain(..).for_each(|question| _ = raw.step(question));
        }
    }
}

/// A leader may answer once an entry of its own term is committed.
fn can_answer(raft: &Raft<LogStorage>) -> bool {
    match raft.state {
        StateRole::Leader => raft.commit_to_current_term(),
        _ => raft.leader_id != 0,
    }
}

/// A question of this member, as `RawNode::read_index` makes it.
pub(crate) fn question(round: u64) -> Message {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgReadIndex);
    let context = Entry { data: round.to_be_bytes().to_vec().into(), ..Entry::default() };
    message.set_entries(vec![context].into());
    message
}
