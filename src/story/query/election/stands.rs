//! Who asks for votes, and who is known to only because others were asked.
//!
//! A member that is killed takes its newest records with it. That it has asked for votes is then
//! known from the members that received its question, and that it does so no more from its next
//! start, from its answers to a leader, or from a silence.

use crate::{
    field, fields,
    story::Event,
    trace::{Kind, message, stage::Stage},
};

/// How long after the end of an election its last messages may still arrive, in nanoseconds.
pub(super) const STRAGGLES_NS: i128 = 2_000_000_000;
/// How long nothing may happen in an election of which only others than its candidates tell; in
/// nanoseconds. A candidate asks again after an election timeout.
pub(super) const QUIET_NS: i128 = 10_000_000_000;
/// How long after its question an answer to a leader shows that a candidate follows one again:
/// messages of two streams may overtake each other; in nanoseconds.
const FOLLOWS_NS: i128 = 500_000_000;

/// A member that asks for votes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    /// The term for which it asks.
    pub(super) term: u64,
    /// The start in which it does, if its own records say so.
    pub(super) boot: Option<u16>,
    /// When it last asked, as far as known, on the common axis in nanoseconds.
    pub(super) asked: i128,
}

impl Stand {
    /// Whether an event of the candidate is of another process than the one that asked.
    pub(super) fn has_ended_before(&self, event: &Event) -> bool {
        match self.boot {
            Some(boot) => boot != event.boot,
            None => event.stage == Stage::MemberStart,
        }
    }

    /// Whether a message that another received of the candidate shows that it follows a leader.
    pub(super) fn has_ended_by(&self, receipt: &Event, time: i128) -> bool {
        let kind = field!(receipt, RaftReceive, type);
        let follows = matches!(kind, message::APP_RESP | message::HEARTBEAT_RESP);
        self.boot.is_none() && follows && self.asked + FOLLOWS_NS < time
    }
}

/// The candidate, by raft's id, and the term for which it asks this member for its vote.
pub(super) fn asked_by(event: &Event) -> Option<(u64, u64)> {
    match event.stage {
        Stage::ElectionVote => Some(fields!(event, ElectionVote: candidate, term).into()),
        Stage::RaftReceive if event.kind != Kind::Begin => {
            let [kind, peer, term] = fields!(event, RaftReceive: type, peer, term);
            matches!(kind, message::VOTE | message::PRE_VOTE).then_some((peer, term))
        }
        _ => None,
    }
}

/// The term for which a member asks for votes from this change of its role on.
pub(super) fn stands_for(event: &Event) -> Option<u64> {
    let [role, term] = fields!(event, RaftRole: role_new, term_new);
    match role {
        super::PRE_CANDIDATE => term.checked_add(1),
        super::CANDIDATE => Some(term),
        _ => None,
    }
}
