//! Finds out what an input has changed, because raft-rs does not report it.
//!
//! Before and after each input the few numbers that matter are compared: role, term, vote, leader,
//! commit index, one peer's match, votes, and acknowledgements of a read round. Every difference
//! becomes a record with the old and the new value, so that the player can step backwards.

use std::time::Duration;

use raft::{
    Raft, StateRole,
    eraftpb::{Message, MessageType},
};

use super::{log::LogStorage, status::role_number};
use crate::mark;

mod vote;

/// The numbers as they were after the last input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changes {
    role: StateRole,
    term: u64,
    vote: u64,
    leader: u64,
    commit: u64,
}

/// State before a message, for the changes beyond [`Changes`] that it may cause.
#[derive(Debug)]
pub(crate) struct Expected {
    kind: MessageType,
    from: u64,
    term: u64,
    reject: bool,
    /// The sender's match index before.
    matched: u64,
    /// Last term and index of a candidate's log.
    candidate_log: (u64, u64),
    context: Vec<u8>,
    /// Acknowledgements of the read round before, and the index it would confirm.
    round: Option<(u64, u64)>,
    /// How many messages were ready to be sent before.
    sent: usize,
    /// Votes for and against before, and the role in which they were asked for; only if the message
    /// is a vote that can count.
    votes: Option<(usize, usize, StateRole)>,
}

/// The questions of readers that a leader has put to the others, before something that may end its
/// term: raft forgets them then.
#[derive(Debug, Default)]
pub(crate) struct PendingReads {
    rounds: Vec<u64>,
    term: u64,
    leader: u64,
}

impl PendingReads {
    /// Reads the questions, if this member leads and `term` may end that.
    pub(crate) fn before(raft: &Raft<LogStorage>, term: u64) -> Self {
        if raft.state != StateRole::Leader || term <= raft.term {
            return Self::default();
        }
        let asked = raft.read_only.pending_read_index.keys();
        let rounds = asked.map(|context| round_in(context)).collect();
        Self { rounds, term: raft.term, leader: raft.leader_id }
    }

    /// Records those that are lost, because the member does not lead any more.
    pub(crate) fn after(&self, raft: &Raft<LogStorage>) {
        if raft.state == StateRole::Leader && raft.term == self.term {
            return;
        }
        for round in &self.rounds {
            mark!(ReadIndexLost, *round, term = self.term, leader = self.leader);
        }
    }
}

/// The state before a tick, which may end a leader's term or begin an election.
#[derive(Debug)]
pub(crate) struct Ticked {
    role: StateRole,
    term: u64,
    leader: u64,
    asked: PendingReads,
}

impl Ticked {
    /// Reads what a tick may change.
    pub(crate) fn before(raft: &Raft<LogStorage>) -> Self {
        let asked = PendingReads::before(raft, u64::MAX);
        Self { role: raft.state, term: raft.term, leader: raft.leader_id, asked }
    }

    /// Records that the election timeout has passed. `silent` is the time since the last message
    /// from the leader.
    pub(crate) fn after(&self, raft: &Raft<LogStorage>, silent: Duration) {
        let Self { role, term, leader, ref asked } = *self;
        asked.after(raft);
        if role == StateRole::Follower && raft.state != StateRole::Follower {
            let silent = if leader == 0 { 0 } else { silent.as_nanos() };
            let silent = u64::try_from(silent).unwrap_or(u64::MAX);
            mark!(ElectionTimeout, 0, term = term, leader = leader, silent = silent);
        }
        // A pre-candidate that asks again changes neither its role nor its term.
        let asks_again = role == StateRole::PreCandidate && raft.state == role;
        if asks_again && raft.election_elapsed == 0 {
            mark!(ElectionCampaign, 0, pre = true, term_old = term, term_new = term);
        }
    }
}

/// A round in raft's form: eight big-endian bytes.
fn round_in(context: &[u8]) -> u64 {
    context.try_into().map_or(0, u64::from_be_bytes)
}

impl Changes {
    /// Reads the numbers as they are now.
    pub(crate) fn of(raft: &Raft<LogStorage>) -> Self {
        Self {
            role: raft.state,
            term: raft.term,
            vote: raft.vote,
            leader: raft.leader_id,
            commit: raft.raft_log.committed,
        }
    }

    /// Reads the numbers again. Returns the change, or `None` if there is none.
    pub(crate) fn step(&mut self, raft: &Raft<LogStorage>) -> Option<Change> {
        let now = Self::of(raft);
        let before = std::mem::replace(self, now);
        (before != now).then_some(Change { before, now })
    }
}

/// The changes that one input has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a change that is not recorded is missing in every recording"]
pub(crate) struct Change {
    before: Changes,
    now: Changes,
}

impl Change {
    /// Whether role, term, leader or vote has changed.
    pub(crate) fn is_leadership(&self) -> bool {
        let Self { before, now } = self;
        (before.role, before.term, before.leader, before.vote)
            != (now.role, now.term, now.leader, now.vote)
    }

    /// Logs that the leader has changed, with the texts of etcd's raft.
    pub(crate) fn log(&self, id: u64) {
        let (Self { before, now }, term) = (self, self.now.term);
        match (before.leader, now.leader) {
            (old, new) if old == new => {}
            (0, new) => tracing::info!("raft.node: {id:x} elected leader {new:x} at term {term}"),
            (old, 0) => tracing::info!("raft.node: {id:x} lost leader {old:x} at term {term}"),
            (old, new) => tracing::info!(
                "raft.node: {id:x} changed leader from {old:x} to {new:x} at term {term}"
            ),
        }
    }

    /// Records the change; `by` is the member whose message made it, and `waited_ns` how long that
    /// message waited for the raft thread. The member's watermarks must be stored before
    /// ([`super::Status`]): a keyframe after this record must not show the older values.
    pub(crate) fn record(&self, by: u64, waited_ns: u64) {
        let Self { before, now } = self;
        let campaigns = matches!(now.role, StateRole::PreCandidate | StateRole::Candidate);
        if campaigns && (before.role != now.role || before.term != now.term) {
            let pre = now.role == StateRole::PreCandidate;
            mark!(ElectionCampaign, 0, pre = pre, term_old = before.term, term_new = now.term);
        }
        if self.is_leadership() {
            mark!(
                RaftRole,
                0,
                role_old = role_number(before.role),
                role_new = role_number(now.role),
                term_old = before.term,
                term_new = now.term,
                leader_old = before.leader,
                leader_new = now.leader,
                vote_old = before.vote,
                vote_new = now.vote
            );
        }
        if before.commit != now.commit {
            // Only a leader counts disks.
            let is_leader = now.role == StateRole::Leader;
            let (completed_by, learned_from) = if is_leader { (by, 0) } else { (0, by) };
            mark!(
                RaftCommit,
                0,
                term = now.term,
                commit_old = before.commit,
                commit_new = now.commit,
                completed_by = completed_by,
                waited = waited_ns,
                learned_from = learned_from
            );
        }
    }
}

impl Expected {
    /// Reads the state that `message` may change.
    pub(crate) fn before(raft: &Raft<LogStorage>, message: &Message) -> Self {
        let kind = message.get_msg_type();
        let matched = match kind {
            MessageType::MsgAppendResponse => matched(raft, message.from),
            _ => 0,
        };
        let context = match kind {
            MessageType::MsgHeartbeatResponse => message.context.to_vec(),
            _ => Vec::new(),
        };
        let round = raft.read_only.pending_read_index.get(&context);
        Self {
            kind,
            from: message.from,
            term: message.term,
            reject: message.reject,
            matched,
            candidate_log: (message.log_term, message.index),
            round: round.map(|round| (round.acks.len() as u64, round.index)),
            context,
            sent: raft.msgs.len(),
            votes: votes_to_count(raft, message),
        }
    }

    /// Records the changes that the message has made.
    pub(crate) fn after(&self, raft: &Raft<LogStorage>) {
        match self.kind {
            MessageType::MsgAppendResponse => {
                let now = matched(raft, self.from);
                if now != self.matched {
                    mark!(
                        RaftProgress,
                        0,
                        peer = self.from,
                        match_old = self.matched,
                        match_new = now,
                        learner = raft.prs().conf().learners().contains(&self.from)
                    );
                }
            }
            MessageType::MsgHeartbeatResponse => self.note_round(raft),
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => self.note_vote(raft),
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
                self.note_tally(raft);
            }
            _ => {}
        }
    }

    fn note_round(&self, raft: &Raft<LogStorage>) {
        let Some((acks, index)) = self.round else { return };
        if raft.read_only.pending_read_index.contains_key(&self.context) {
            return;
        }
        mark!(ReadIndexConfirmed, round_in(&self.context), index = index, acks = acks + 1);
    }

    /// The deciding vote ends the count, and raft-rs may already have begun the next. So this vote
    /// is added to the counts from before.
    fn note_tally(&self, raft: &Raft<LogStorage>) {
        let Some((granted, rejected, role)) = self.votes else { return };
        let (granted_now, rejected_now, _) = raft.prs().tally_votes();
        if role == raft.state && granted_now + rejected_now == granted + rejected {
            // A repeated vote.
            return;
        }
        mark!(
            ElectionTally,
            0,
            voter = self.from,
            granted = !self.reject,
            pre = role == StateRole::PreCandidate,
            in_favour = granted + usize::from(!self.reject),
            against = rejected + usize::from(self.reject),
            term = self.term
        );
    }
}

/// The votes before this one, if it is one that raft counts: an answer to what this member has
/// asked in its present role and term. A pre-vote is granted for the term that is to come.
fn votes_to_count(raft: &Raft<LogStorage>, message: &Message) -> Option<(usize, usize, StateRole)> {
    let role = match message.get_msg_type() {
        MessageType::MsgRequestPreVoteResponse => StateRole::PreCandidate,
        MessageType::MsgRequestVoteResponse => StateRole::Candidate,
        _ => return None,
    };
    let is_granted_pre_vote = role == StateRole::PreCandidate && !message.reject;
    let is_of_term = message.term == raft.term || is_granted_pre_vote && raft.term < message.term;
    let (granted, rejected, _) = raft.prs().tally_votes();
    (raft.state == role && is_of_term).then_some((granted, rejected, role))
}

fn matched(raft: &Raft<LogStorage>, peer: u64) -> u64 {
    raft.prs().get(peer).map_or(0, |progress| progress.matched)
}

#[cfg(test)]
mod tests;
