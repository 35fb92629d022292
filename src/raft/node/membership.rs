//! Changes of the members, as the raft thread carries them out.
//!
//! Apply has accepted or refused a change, and waits here for raft's new configuration. The removal
//! of a member that leads is special, because raft-rs keeps such a leader in office, although it
//! has no progress of its own any more, and ends the process at the next entry that reaches its
//! disk; and because the others close their connections to it as soon as they have applied its
//! removal.
//!
//! So a leader does not append its own removal: it hands over first, and the next leader appends
//! it. What its own clients propose waits for that, and what another member has forwarded is
//! proposed again by that member, if it speaks glass. If the removal is in the log nevertheless,
//! because an etcd member has forwarded it or nobody could take over, the leader hands over before
//! it carries it out. If nobody takes over within two election timeouts, it steps down. Meanwhile
//! only what it has not applied waits.
//!
//! Raft empties the entry of a change while the one before it is not applied. So a change of this
//! member's clients is parked until then, and one that another member has forwarded is held here.

use std::{sync::mpsc::SyncSender, time::Instant};

use prost::Message as _;
use raft::{
    INVALID_ID, StateRole,
    eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, Message, MessageType},
};

use super::Node;
use crate::{
    clock, mark,
    pb::raftpb,
    raft::{inbox::Matched, leader, proposals, status},
};

/// The most forwarded changes that wait for an earlier one, and the most bytes of each. Others meet
/// raft as they are.
const LATER_CHANGES_MAX: usize = 64;
const LATER_CHANGE_BYTES_MAX: usize = 64 << 10;

/// A change that apply has validated.
#[derive(Debug)]
pub(super) struct Accepted {
    /// The index of its entry.
    pub(super) index: u64,
    /// In raft-rs's numbers; node 0 when nothing changes.
    pub(super) change: ConfChange,
    /// Apply waits for the new configuration.
    pub(super) answer: SyncSender<ConfState>,
}

/// The removal of this member while it leads.
#[derive(Debug)]
pub(super) struct Held {
    accepted: Accepted,
    /// When it steps down.
    until: Instant,
}

impl Node {
    /// Carries out a change, or holds it back if it removes this member, which leads.
    pub(super) fn apply_conf_change(&mut self, accepted: Accepted) {
        let raft = &self.raw.raft;
        let is_removal = accepted.change.get_change_type() == ConfChangeType::RemoveNode;
        let is_own = is_removal && accepted.change.node_id == raft.id;
        if !is_own || raft.state != StateRole::Leader {
            return self.carry_out(accepted);
        }
        let ticks = u32::try_from(2 * raft.election_timeout()).unwrap_or(u32::MAX);
        let (tick, now) = (self.timing.tick, clock::now());
        self.held = Some(Held { accepted, until: now + tick * ticks });
        self.hand_over_leadership(None);
    }

    /// Carries out the removal that is held back once this member leads no more.
    pub(super) fn settle_held(&mut self) {
        let Some(held) = &self.held else { return };
        if self.raw.raft.state == StateRole::Leader && clock::now() < held.until {
            return;
        }
        if self.raw.raft.state == StateRole::Leader {
            tracing::warn!("no voter has taken over from this member, which is removed");
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, INVALID_ID);
            self.note_changes(self.raw.raft.id);
        }
        if let Some(Held { accepted, .. }) = self.held.take() {
            self.carry_out(accepted);
        }
    }

    /// Hands the leadership over if the next change to be proposed removes this leader.
    pub(super) fn leave_before_removal(&mut self) {
        if self.proposals.next_change().is_some_and(|data| self.removes_this_leader(data)) {
            self.hand_over_leadership(None);
        }
    }

    /// Whether a forwarded proposal removes this leader, and its sender will propose it again. Then
    /// the leadership is handed over.
    pub(super) fn leaves_before(&mut self, message: &Message) -> bool {
        let is_removal = |entry: &Entry| {
            entry.get_entry_type() == EntryType::EntryConfChange
                && self.removes_this_leader(&entry.data)
        };
        let is_asked = message.get_msg_type() == MessageType::MsgPropose
            && message.entries.iter().any(is_removal)
            && self.outputs.active.speaks_glass(message.from);
        if is_asked {
            self.hand_over_leadership(None);
        }
        is_asked
    }

    /// Whether this data of an entry removes this member, which leads, and another could lead.
    fn removes_this_leader(&self, data: &[u8]) -> bool {
        let raft = &self.raw.raft;
        let change = raftpb::ConfChange::decode(data);
        let is_removal = change.is_ok_and(|change| {
            change.r#type() == raftpb::ConfChangeType::ConfChangeRemoveNode
                && change.node_id() == raft.id
        });
        is_removal && leader::transferee(raft, &self.outputs.active, None).is_some()
    }

    fn carry_out(&mut self, Accepted { index, change, answer }: Accepted) {
        let conf_state = self.new_configuration(index, &change);
        status::configured(index, &conf_state);
        self.raw.mut_store().set_conf_state(conf_state.clone());
        self.deferred.conf_applied(index);
        // Apply waits for the answer, unless the member is shutting down.
        let _ = answer.send(conf_state);
        self.note_changes(self.raw.raft.id);
    }

    /// Whether a change of the members may be proposed now. A leader empties the entry of a second
    /// one until the first is applied; of another leader this member does not know it.
    pub(super) fn takes_change(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state != StateRole::Leader || !raft.has_pending_conf()
    }

    /// Whether a forwarded proposal has to wait: it changes the members, and raft would empty its
    /// entry, because the change before it is not applied here. Its sender may have applied that
    /// one, and answered its client, a moment earlier. Only a change by itself waits, so that no
    /// request waits with it.
    pub(super) fn waits_for_change(&self, message: &Message) -> bool {
        let is_change = |entry: &Entry| entry.get_entry_type() == EntryType::EntryConfChange;
        let [entry] = message.entries.as_slice() else { return false };
        !self.takes_change()
            && is_change(entry)
            && entry.data.len() <= LATER_CHANGE_BYTES_MAX
            && self.later_changes.len() < LATER_CHANGES_MAX
    }

    /// Keeps a forwarded change until the one before it is applied.
    pub(super) fn hold_change(&mut self, message: Message) {
        let (ids, term) = (proposals::ids(&message), self.raw.raft.term);
        self.later_changes.push_back((self.turn_began, message));
        for id in ids {
            mark!(RaftPark, id, term = term, parked = self.later_changes.len());
        }
    }

    /// Takes forwarded changes that have waited, one after the other.
    pub(super) fn step_later_changes(&mut self) {
        while !self.later_changes.is_empty() {
            self.note_applied();
            if !self.takes_change() {
                return;
            }
            if let Some((_, message)) = self.later_changes.pop_front() {
                self.step(message);
            }
        }
    }

    /// How much of the log a member has, if this member leads.
    pub(super) fn matched(&self, member: u64) -> Option<Matched> {
        let raft = &self.raw.raft;
        let matched = |id| raft.prs().get(id).map(|progress| progress.matched);
        let leader = matched(raft.id).filter(|_| raft.state == StateRole::Leader)?;
        Some(Matched { member: matched(member), leader })
    }
}
