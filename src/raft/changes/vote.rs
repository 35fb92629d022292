//! The votes that this member gives and refuses, each refusal with the rule that forbids the vote.

use std::cmp::Ordering;

use raft::{INVALID_ID, Raft, StateRole, eraftpb::MessageType};

use super::Expected;
use crate::{mark, raft::log::LogStorage, trace::Reason};

impl Expected {
    /// Records what came of a candidate's question.
    pub(super) fn note_vote(&self, raft: &Raft<LogStorage>) {
        let refusal = self.refusal(raft);
        mark!(
            ElectionVote,
            0,
            reason = refusal;
            candidate = self.from,
            granted = refusal.is_none(),
            pre = self.kind == MessageType::MsgRequestPreVote,
            term = self.term,
            last_term = self.candidate_log.0,
            last = self.candidate_log.1,
            own_last_term = raft.raft_log.last_term(),
            own_last = raft.raft_log.last_index()
        );
    }

    /// Why the member does not vote for the candidate, by the rules in the order in which raft-rs
    /// asks them (`Raft::step`). While it heeds a leader, a candidate of a later term gets no
    /// answer at all.
    pub(super) fn refusal(&self, raft: &Raft<LogStorage>) -> Option<Reason> {
        let answer = raft.msgs.iter().skip(self.sent).find(|answer| {
            answer.to == self.from
                && matches!(
                    answer.get_msg_type(),
                    MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse
                )
        });
        if answer.is_some_and(|answer| !answer.reject) {
            return None;
        }
        let has_voted = raft.vote != INVALID_ID && raft.vote != self.from;
        let follows = raft.vote == INVALID_ID && raft.leader_id != INVALID_ID;
        Some(match self.term.cmp(&raft.term) {
            Ordering::Less => Reason::VoteOldTerm,
            Ordering::Greater if answer.is_none() && raft.state == StateRole::Leader => {
                Reason::VoteLeads
            }
            Ordering::Greater if answer.is_none() => Reason::VoteLeaderHeard,
            Ordering::Equal if has_voted => Reason::VoteGiven,
            Ordering::Equal if follows => Reason::VoteFollows,
            _ => Reason::VoteOldLog,
        })
    }
}
