//! This member's own proposals, from its inbox until they are committed or lost.
//!
//! ```text
//!   inbox ──▶ gathered ──▶ sent to the leader ──▶ committed: apply answers
//!               ▲  │ no leader        │
//!               │  ▼                  │ an entry of a later term is committed, and the
//!               │ parked              │ proposal is not before it
//!               │                     ▼
//!               └──── again ◀──── lost ────▶ "leader changed"
//! ```
//!
//! Raft does not report that a proposal is lost. If a leader dies, the proposals forwarded to it
//! die with it, and their clients would wait for the whole request timeout. But a loss can be
//! proved. Terms never fall along the log. So once an entry of a later term is committed, an entry
//! of an earlier term that does not stand before it can never be committed any more (Raft 5.4, the
//! leader completeness property).
//!
//! A lost proposal is proposed again, under the same id, if no other member can still append it:
//! this member was the leader, or the leader speaks glass and appends a forwarded proposal only in
//! the term in which it was sent ([`is_stale`]). An etcd leader that has stepped down forwards it
//! once more, perhaps much later. In that case the answer is "leader changed", and the client has
//! to find out what became of its request.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use raft::{
    Raft, StateRole,
    eraftpb::{Entry, EntryType, Message, MessageType},
};

use super::log::LogStorage;
use crate::{mark, pb, trace};

/// The most proposals that wait while there is no leader.
const PARKED_MAX: usize = 5000;

/// The most bytes of a batch of proposals, as of etcd's messages.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// A request, of a client or of this member itself, on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// The request's id, which is also inside `data`.
    pub(crate) id: u64,
    /// The command that every member will apply.
    pub(crate) data: Bytes,
    /// Whether it is a request or a change of the members.
    pub(crate) kind: EntryType,
    /// When it entered the inbox.
    pub(crate) since: Instant,
}

/// A proposal that raft has taken.
#[derive(Debug)]
struct Sent {
    proposal: Proposal,
    /// The term in which it was sent to the leader.
    term: u64,
    /// Whether it may be proposed again if it is lost.
    is_repeatable: bool,
}

/// Why a proposal will not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Raft did not take it, though there is a leader.
    Dropped,
    /// It was lost with its leader.
    LeaderChanged,
}

/// A proposal that was lost with its leader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The id of the request that was proposed.
    pub(crate) id: u64,
    /// The term in which it was sent to the leader.
    pub(crate) term: u64,
    /// Its bytes if it will be proposed again; `None` if the client must be answered.
    pub(crate) again: Option<usize>,
}

/// All proposals of this member that are neither committed nor lost yet.
#[derive(Debug)]
pub(crate) struct Proposals {
    /// The low 16 bits of the member's id, with which its request ids begin.
    prefix: u64,
    gathered: Vec<Proposal>,
    parked: VecDeque<Proposal>,
    sent: HashMap<u64, Sent>,
    /// The highest term of a committed entry.
    committed_term: u64,
}

impl Proposals {
    /// No proposals yet; `member_id` says which ids are this member's.
    pub(crate) fn new(member_id: u64) -> Self {
        Self {
            prefix: member_id & 0xffff,
            gathered: Vec::new(),
            parked: VecDeque::new(),
            sent: HashMap::new(),
            committed_term: 0,
        }
    }

    /// Adds a proposal from the inbox. Returns how many are gathered in this turn.
    pub(crate) fn gather(&mut self, proposal: Proposal) -> usize {
        self.gathered.push(proposal);
        self.gathered.len()
    }

    /// Whether proposals are gathered and not proposed yet.
    pub(crate) fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Whether no proposal waits, gathered or parked.
    pub(crate) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.parked.is_empty()
    }

    /// Parks the gathered proposals until there is a leader. Returns the proposals that find no
    /// room. `term` is this member's, for the trace.
    pub(crate) fn park(&mut self, term: u64) -> Vec<Proposal> {
        let room = PARKED_MAX.saturating_sub(self.parked.len());
        let refused = self.gathered.split_off(room.min(self.gathered.len()));
        for proposal in self.gathered.drain(..) {
            let id = proposal.id;
            self.parked.push_back(proposal);
            mark!(RaftPark, id, term = term, parked = self.parked.len());
        }
        refused
    }

    /// The data of the first change of the members that waits.
    pub(crate) fn next_change(&self) -> Option<&[u8]> {
        let mut all = self.parked.iter().chain(&self.gathered);
        let change = all.find(|proposal| proposal.kind == EntryType::EntryConfChange);
        change.map(|change| &*change.data)
    }

    /// Takes all that can be proposed now, the oldest first. A change of the members is among it
    /// only if `change_room`, and never a second one: a leader empties the entry of a change while
    /// an earlier one is not applied (Raft thesis 4.1). The others are parked.
    pub(crate) fn take(&mut self, change_room: bool, term: u64) -> Vec<Proposal> {
        let mut all: Vec<Proposal> = self.parked.drain(..).collect();
        let parked = all.len();
        all.append(&mut self.gathered);
        if all.iter().all(|proposal| proposal.kind == EntryType::EntryNormal) {
            return all;
        }
        let (mut now, mut has_room) = (Vec::new(), change_room);
        for (at, proposal) in all.into_iter().enumerate() {
            if proposal.kind == EntryType::EntryNormal || std::mem::take(&mut has_room) {
                now.push(proposal);
                continue;
            }
            let id = proposal.id;
            self.parked.push_back(proposal);
            if parked <= at {
                mark!(RaftPark, id, term = term, parked = self.parked.len());
            }
        }
        now
    }

    /// Notes that raft has taken these proposals in `term`.
    pub(crate) fn sent(&mut self, proposals: &[Proposal], term: u64, is_repeatable: bool) {
        for proposal in proposals {
            let sent = Sent { proposal: proposal.clone(), term, is_repeatable };
            self.sent.insert(proposal.id, sent);
        }
    }

    /// These entries are committed, in log order, and all before them were given to this call
    /// earlier. Returns the proposals that this proves lost.
    pub(crate) fn committed(&mut self, entries: &[Entry]) -> Vec<Lost> {
        let Some(last) = entries.last() else { return Vec::new() };
        if !self.sent.is_empty() {
            for id in entries.iter().map(|entry| pb::entry_id(&entry.data)) {
                if id >> 48 == self.prefix {
                    self.sent.remove(&id);
                }
            }
        }
        if last.term <= self.committed_term {
            return Vec::new();
        }
        self.committed_term = last.term;
        let mut lost: Vec<Sent> =
            self.sent.extract_if(|_, sent| sent.term < last.term).map(|(_, sent)| sent).collect();
        // In the order in which they came.
        lost.sort_unstable_by_key(|sent| (sent.proposal.since, sent.proposal.id));
        lost.into_iter().map(|sent| self.lose(sent)).collect()
    }

    fn lose(&mut self, Sent { proposal, term, is_repeatable }: Sent) -> Lost {
        let lost = Lost { id: proposal.id, term, again: None };
        if !is_repeatable {
            return lost;
        }
        let bytes = proposal.data.len();
        self.gathered.push(proposal);
        Lost { again: Some(bytes), ..lost }
    }

    /// Drops proposals from before `oldest`, whose clients have given up; they must not be carried
    /// out so late. Returns their bytes.
    pub(crate) fn expire(&mut self, oldest: Instant) -> usize {
        self.sent.retain(|_, sent| oldest <= sent.proposal.since);
        let mut bytes = 0;
        while let Some(proposal) = self.parked.pop_front_if(|parked| parked.since < oldest) {
            bytes += proposal.data.len();
        }
        bytes
    }
}

/// The message that proposes these, in this term.
pub(crate) fn message(proposals: &[Proposal], raft: &Raft<LogStorage>) -> Message {
    let entry = |proposal: &Proposal| {
        let mut entry = Entry { data: proposal.data.clone(), ..Entry::default() };
        entry.set_entry_type(proposal.kind);
        entry
    };
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgPropose);
    message.from = raft.id;
    // Neither raft-rs nor etcd's raft reads it in a proposal; it is for `is_stale`.
    message.log_term = raft.term;
    message.set_entries(proposals.iter().map(entry).collect::<Vec<_>>().into());
    message
}

/// Whether a member that speaks glass has forwarded this proposal to the leader of another term. It
/// must not be appended then, because its sender may have proposed it again.
pub(crate) fn is_stale(message: &Message, raft: &Raft<LogStorage>) -> bool {
    message.log_term != 0 && (raft.state != StateRole::Leader || message.log_term != raft.term)
}

/// Whether this member appends what is proposed to it, as far as its role says.
pub(crate) fn can_append(raft: &Raft<LogStorage>) -> bool {
    raft.state == StateRole::Leader && raft.lead_transferee.is_none()
}

/// The ids of the kept requests whose proposals this message carries.
pub(crate) fn ids(message: &Message) -> Vec<u64> {
    let ids = message.entries.iter().map(|entry| pb::entry_id(&entry.data));
    ids.filter(|id| trace::kept(*id)).collect()
}

/// Where a forwarded proposal comes from, and why it was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarded {
    /// The sender.
    pub(crate) peer: u64,
    /// The term in which the sender has sent it.
    pub(crate) sent_term: u64,
    /// What is wrong with it; `None` if only this member's role or term is.
    pub(crate) reason: Option<trace::Reason>,
}

/// Records that proposals of another member were not appended.
pub(crate) fn note_refused(ids: &[u64], forwarded: Forwarded, raft: &Raft<LogStorage>) {
    let (term, leader) = (raft.term, raft.leader_id);
    let Forwarded { peer, sent_term, reason } = forwarded;
    for id in ids {
        mark!(RaftRefuse, *id, reason = reason; peer = peer, sent_term = sent_term, term = term,
            leader = leader);
    }
}

/// The sum of the bytes of these proposals.
pub(crate) fn data_len(proposals: &[Proposal]) -> usize {
    proposals.iter().map(|proposal| proposal.data.len()).sum()
}

/// How many of the first proposals make a batch: at least one.
pub(crate) fn batch_len(proposals: &[Proposal]) -> usize {
    let mut bytes = 0;
    let fits = |proposal: &&Proposal| {
        bytes += proposal.data.len();
        bytes <= BATCH_BYTES_MAX
    };
    proposals.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost::Message as _;

    use super::*;
    use crate::{
        clock,
        pb::etcdserverpb::{InternalRaftRequest, RequestHeader},
    };

    const OWN: u64 = 0x7700;

    fn id(number: u64) -> u64 {
        OWN << 48 | number
    }

    fn data(id: u64) -> Bytes {
        let header = Some(RequestHeader { id, ..RequestHeader::default() });
        InternalRaftRequest { header, ..InternalRaftRequest::default() }.encode_to_vec().into()
    }

    fn proposal(number: u64) -> Proposal {
        let id = id(number);
        Proposal { id, data: data(id), kind: EntryType::EntryNormal, since: clock::now() }
    }

    fn entry(id: u64, index: u64, term: u64) -> Entry {
        Entry { index, term, data: data(id), ..Entry::default() }
    }

    /// Three that were sent in term 2.
    fn sent(is_repeatable: bool) -> Proposals {
        let mut proposals = Proposals::new(OWN);
        let three: Vec<Proposal> = (1..=3).map(proposal).collect();
        proposals.sent(&three, 2, is_repeatable);
        proposals
    }

    fn ids(proposals: &[Proposal]) -> Vec<u64> {
        proposals.iter().map(|proposal| proposal.id).collect()
    }

    #[test]
    fn a_proposal_not_before_a_committed_entry_of_a_later_term_is_lost_and_proposed_again() {
        let mut proposals = sent(true);
        assert_eq!(proposals.committed(&[entry(id(1), 5, 2)]), []);
        assert!(!proposals.has_gathered(), "term 2 may still bring the others");
        // One of them stands before the first entry of term 3, the other does not.
        let lost = proposals.committed(&[entry(id(2), 6, 2), entry(0, 7, 3)]);
        let bytes = Some(data(id(3)).len());
        assert_eq!(lost, [Lost { id: id(3), term: 2, again: bytes }]);
        assert_eq!(ids(&proposals.take(true, 2)), [id(3)]);
    }

    #[test]
    fn a_proposal_that_an_etcd_leader_may_still_forward_is_not_proposed_again() {
        let mut proposals = sent(false);
        let lost = proposals.committed(&[entry(0, 5, 3)]);
        assert_eq!(lost.len(), 3);
        assert!(lost.iter().all(|lost| lost.again.is_none()));
        assert!(!proposals.has_gathered());
    }

    #[test]
    fn a_repeated_proposal_is_lost_only_to_a_term_after_that() {
        let mut proposals = sent(true);
        proposals.committed(&[entry(0, 5, 3)]);
        let again = proposals.take(true, 2);
        proposals.sent(&again, 3, true);
        assert_eq!(proposals.committed(&[entry(id(1), 6, 3)]), []);
        assert_eq!(proposals.committed(&[entry(0, 7, 4)]).len(), 2);
    }

    #[test]
    fn entries_of_other_members_say_nothing_about_own_proposals() {
        let mut proposals = sent(true);
        let others = (OWN + 1) << 48 | 1;
        assert_eq!(proposals.committed(&[entry(others, 5, 2)]), []);
        assert_eq!(proposals.committed(&[entry(0, 6, 3)]).len(), 3);
    }

    #[test]
    fn those_that_came_first_are_proposed_first_and_the_lost_before_the_new() {
        let mut proposals = sent(true);
        proposals.committed(&[entry(0, 5, 3)]);
        proposals.gather(proposal(4));
        assert!(proposals.park(2).is_empty());
        proposals.gather(proposal(5));
        assert_eq!(ids(&proposals.take(true, 2)), [1, 2, 3, 4, 5].map(id));
    }

    #[test]
    fn a_second_change_of_the_members_waits_for_the_first_and_requests_do_not() {
        let mut proposals = Proposals::new(OWN);
        let change = |number| Proposal { kind: EntryType::EntryConfChange, ..proposal(number) };
        for waiting in [proposal(1), change(2), proposal(3), change(4)] {
            proposals.gather(waiting);
        }
        assert_eq!(proposals.next_change(), Some(&*data(id(2))));
        assert_eq!(ids(&proposals.take(false, 2)), [1, 3].map(id), "one is not applied yet");
        proposals.gather(proposal(5));
        assert_eq!(ids(&proposals.take(true, 2)), [2, 5].map(id));
        assert_eq!(ids(&proposals.take(true, 2)), [4].map(id));
        assert!(proposals.is_empty() && proposals.next_change().is_none());
    }

    #[test]
    fn parked_proposals_have_a_bound_in_number_and_in_time() {
        let mut proposals = Proposals::new(OWN);
        for number in 0..=PARKED_MAX as u64 {
            proposals.gather(proposal(number));
        }
        assert_eq!(ids(&proposals.park(2)), [id(PARKED_MAX as u64)]);
        proposals.sent(&[proposal(1)], 2, true);
        let later = clock::now() + Duration::from_secs(1);
        assert_ne!(proposals.expire(later), 0);
        assert!(proposals.is_empty());
        assert_eq!(proposals.committed(&[entry(0, 5, 3)]), [], "its client has given up");
    }

    #[test]
    fn a_batch_is_cut_at_its_bytes_and_never_empty() {
        let long = |len| Proposal { data: vec![0; len].into(), ..proposal(1) };
        let half = BATCH_BYTES_MAX / 2;
        assert_eq!(batch_len(&[long(half), long(half), long(1)]), 2);
        assert_eq!(batch_len(&[long(BATCH_BYTES_MAX + 1), long(1)]), 1);
    }
}
