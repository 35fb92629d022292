//! Questions of readers, which raft gets only once there is a leader that may answer them.
//!
//! raft-rs drops a question that nobody can answer, and the reader would ask again only after half
//! a second (etcd: pendingReadIndexMessages). So it waits here, on the raft thread.
//!
//! A member asks one question at a time, and the same again under a new id after half a second. An
//! answer to the newest serves it as well as one to an older, so only the newest of each member
//! waits: otherwise a new leader would have to ask a quorum for each of them.

use std::collections::VecDeque;

use raft::{
    Raft, RawNode, StateRole,
    eraftpb::{Entry, Message, MessageType},
};

use super::{log::LogStorage, rafthttp};
use crate::mark;

/// The most questions that wait while there is no leader: more than a cluster has members.
const PARKED_MAX: usize = 64;

/// The questions that wait for a leader, the oldest first; one of each member, 0 for this one.
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
            return;
        }
        let lost = self.keep(question).map(|lost| rafthttp::round(&lost));
        if let Some(lost) = lost {
            mark!(ReadIndexLost, lost, term = term, leader = leader);
        }
        if lost != Some(round) {
            mark!(ReadIndexPark, round, term = term, leader = leader, parked = self.0.len());
        }
    }

    /// Keeps a question in place of an earlier one of its member. Returns that one; or the question
    /// itself, if there is no room.
    fn keep(&mut self, question: Message) -> Option<Message> {
        let older = self.0.iter().position(|older| older.from == question.from);
        let lost = older.and_then(|at| self.0.remove(at));
        if PARKED_MAX <= self.0.len() {
            return Some(question);
        }
        self.0.push_back(question);
        lost
    }

    /// Asks what waits, if there is a leader now that may answer.
    pub(crate) fn release(&mut self, raw: &mut RawNode<LogStorage>) {
        if can_answer(&raw.raft) {
            self.0.drain(..).for_each(|question| _ = raw.step(question));
        }
    }
}

// ANCHOR: can_answer
/// A leader may answer once an entry of its own term is committed.
fn can_answer(raft: &Raft<LogStorage>) -> bool {
    match raft.state {
        StateRole::Leader => raft.commit_to_current_term(),
        _ => raft.leader_id != 0,
    }
}
// ANCHOR_END: can_answer

/// A question of this member, as `RawNode::read_index` makes it.
pub(crate) fn question(round: u64) -> Message {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgReadIndex);
    let context = Entry { data: round.to_be_bytes().to_vec().into(), ..Entry::default() };
    message.set_entries(vec![context].into());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_member(from: u64, round: u64) -> Message {
        Message { from, ..question(round) }
    }

    #[test]
    fn of_each_member_only_the_newest_question_waits() {
        let mut parked = ParkedReads::default();
        let mut lost = Vec::new();
        for (from, round) in [(0, 1), (2, 10), (0, 2), (0, 3), (2, 11)] {
            lost.extend(parked.keep(of_member(from, round)));
        }
        let rounds = |list: &[Message]| list.iter().map(rafthttp::round).collect::<Vec<u64>>();
        assert_eq!(vec![1, 2, 10], rounds(&lost));
        assert_eq!(vec![3, 11], rounds(parked.0.make_contiguous()));
    }

    #[test]
    fn without_room_a_question_is_lost_and_the_others_stay() {
        let mut parked = ParkedReads::default();
        for from in 0..PARKED_MAX as u64 {
            assert_eq!(None, parked.keep(of_member(from, from + 1)));
        }
        let late = parked.keep(of_member(1000, 1000)).unwrap();
        assert_eq!((1000, PARKED_MAX), (rafthttp::round(&late), parked.0.len()));
        assert!(parked.keep(of_member(5, 2000)).is_some_and(|older| older.from == 5));
    }
}
