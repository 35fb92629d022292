//! Checks whether a message from a peer may be given to raft-rs.
//!
//! raft-rs trusts its peers: a malformed message ends the process, or stays in the log and ends it
//! at the next start. A peer may be another program, or a member whose disk has failed, so each
//! message is checked first. raft-rs itself checks the term and the role that a message belongs to.

use std::fmt;

use prost::Message as _;
use raft::{
    INVALID_ID, Raft, StateRole,
    eraftpb::{Entry, EntryType, Message, MessageType},
};

use super::{log::LogStorage, snapshot};
use crate::{
    pb::{self, RequestFault},
    trace::Reason,
};

/// How far a term may be above this member's. A term rises by one with each election, so no member
/// has missed 2^32 of them.
const TERM_LEAD_MAX: u64 = 1 << 32;

/// The most bytes of entries in a forwarded proposal: the highest `--max-request-bytes` of this
/// version, and above every limit that is usual in etcd. The inbox has room for one of that size.
const FORWARDED_BYTES_MAX: usize = 64 << 20;

/// Why a message is not given to raft-rs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This member's log has lost entries that it had acknowledged.
    TailLost {
        /// The index that the leader knows to be committed, and to be on this member.
        commit: u64,
        /// The last index of this member's log.
        last: u64,
    },
    /// It proposes a request that this member, which leads, could not apply itself.
    Unsupported {
        /// The number of the request's field in `InternalRaftRequest`.
        kind: u64,
        /// What etcd calls it.
        name: &'static str,
    },
    /// It proposes entries of this many bytes.
    TooLarge(usize),
    /// A message that no correct member sends; the text says why.
    Senseless(&'static str),
}

impl Fault {
    /// The fault as the record of a refused proposal has it.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Unsupported { .. } => Reason::Unsupported,
            Self::TooLarge(_) => Reason::RequestTooLarge,
            Self::TailLost { .. } | Self::Senseless(_) => Reason::Undecodable,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TailLost { commit, last } => write!(
                f,
                "the leader says that entry {commit} is committed and was on this member, whose \
                 log ends at {last}: the log has lost its tail. Remove this member from the \
                 cluster and add it again with an empty data directory"
            ),
            Self::Unsupported { kind, name } => write!(
                f,
                "it proposes {name} (kind {kind}), which this version cannot carry out; once in \
                 the log, it would end every member of this version"
            ),
            Self::TooLarge(bytes) => write!(
                f,
                "it proposes {bytes} bytes, which is more than the limit of {FORWARDED_BYTES_MAX}"
            ),
            Self::Senseless(what) => f.write_str(what),
        }
    }
}

/// The fault of a message, if it has one.
pub(crate) fn fault(message: &Message, raft: &Raft<LogStorage>) -> Option<Fault> {
    let log = &raft.raft_log;
    let last = log.last_index();
    let wrong = |what| Some(Fault::Senseless(what));
    if message.from == raft.id || message.from == INVALID_ID {
        return wrong("it names no other member as its sender");
    }
    if let Some(fault) = term_fault(message, raft) {
        return Some(fault);
    }
    if message.entries.iter().any(is_bare_change) {
        return wrong("it has a change of membership that changes nothing");
    }
    match message.get_msg_type() {
        MessageType::MsgPropose => proposal_fault(message, raft),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp if message.entries.len() != 1 => {
            wrong("a read has one context")
        }
        MessageType::MsgSnapshot => snapshot_fault(message),
        MessageType::MsgHeartbeat if last < message.commit => {
            Some(Fault::TailLost { commit: message.commit, last })
        }
        MessageType::MsgAppend if !follow_on(message) => wrong("its entries do not follow on"),
        // raft-rs says 0 of the term of every index beyond the log, and would take the two for
        // equal.
        MessageType::MsgAppend if message.index != 0 && message.log_term == 0 => {
            wrong("its entries follow on one that has no term")
        }
        MessageType::MsgAppendResponse if message.request_snapshot != 0 => {
            wrong("it asks for a snapshot, which no member of etcd does")
        }
        MessageType::MsgAppendResponse if message.reject && message.reject_hint == u64::MAX => {
            wrong("it refuses with an index that no entry can have")
        }
        // A refusal names the index that was asked for; an answer of another term is ignored by
        // that.
        MessageType::MsgAppendResponse
            if last < message.index && !message.reject && message.term == raft.term =>
        {
            wrong("it acknowledges entries that this member does not have")
        }
        _ => None,
    }
}

/// The fault of a message's term, if it has one.
fn term_fault(message: &Message, raft: &Raft<LogStorage>) -> Option<Fault> {
    let has_term = message.term != 0;
    let what = match message.get_msg_type() {
        MessageType::MsgPropose | MessageType::MsgReadIndex if has_term => {
            "a proposal or a read belongs to no term"
        }
        MessageType::MsgPropose | MessageType::MsgReadIndex => return None,
        // A follower would pass it on, with its term.
        MessageType::MsgTransferLeader if has_term && raft.state != StateRole::Leader => {
            "only a leader can hand over the leadership"
        }
        _ if !has_term => "it has no term",
        _ if raft.term.saturating_add(TERM_LEAD_MAX) < message.term => "its term is beyond reason",
        _ => return None,
    };
    Some(Fault::Senseless(what))
}

/// The fault of a snapshot, if it has one. Its database is on the disk already.
fn snapshot_fault(message: &Message) -> Option<Fault> {
    let metadata = message.get_snapshot().get_metadata();
    let what = match metadata {
        metadata if metadata.index == 0 || metadata.term == 0 => "its snapshot has no place",
        metadata if metadata.index == u64::MAX => "its snapshot's index is beyond reason",
        metadata if message.term < metadata.term => "its snapshot is of a later term",
        metadata if !snapshot::is_sound(metadata.get_conf_state()) => {
            "its snapshot has a configuration that no cluster can have"
        }
        _ => return None,
    };
    Some(Fault::Senseless(what))
}

/// Whether the entries follow the message's index without a gap, and their terms rise up to the
/// message's.
fn follow_on(message: &Message) -> bool {
    let mut term = message.log_term;
    let mut index = message.index;
    for entry in message.get_entries() {
        let Some(next) = index.checked_add(1) else { return false };
        if entry.index != next || entry.term < term {
            return false;
        }
        (index, term) = (entry.index, entry.term);
    }
    term <= message.term
}

/// The fault of a forwarded proposal, if it has one.
fn proposal_fault(message: &Message, raft: &Raft<LogStorage>) -> Option<Fault> {
    let entries = message.get_entries();
    if entries.is_empty() {
        return Some(Fault::Senseless("it proposes nothing"));
    }
    // Once it is in the log, it ends every member that comes to it.
    if entries.iter().any(is_joint_change) {
        let what = "it proposes a change of membership in a form that no member carries out";
        return Some(Fault::Senseless(what));
    }
    let bytes = entries.iter().map(|entry| entry.data.len()).sum();
    if FORWARDED_BYTES_MAX < bytes {
        return Some(Fault::TooLarge(bytes));
    }
    // A follower only passes it on: another leader may be able to apply it.
    if raft.state != StateRole::Leader {
        return None;
    }
    entries.iter().find_map(entry_fault)
}

/// Why apply could make nothing of an entry.
fn entry_fault(entry: &Entry) -> Option<Fault> {
    let malformed = Fault::Senseless("it proposes what no member can apply");
    match entry.get_entry_type() {
        EntryType::EntryNormal => pb::request_fault(&entry.data).map(|fault| match fault {
            RequestFault::Malformed => malformed,
            RequestFault::Unsupported { kind, name } => Fault::Unsupported { kind, name },
        }),
        EntryType::EntryConfChange => {
            let change = pb::raftpb::ConfChange::decode(entry.data.as_ref());
            change.is_err().then_some(malformed)
        }
        EntryType::EntryConfChangeV2 => Some(malformed),
    }
}

/// A change of membership in raft's newer form. etcd writes the older one, and apply reads no
/// other.
fn is_joint_change(entry: &Entry) -> bool {
    entry.get_entry_type() == EntryType::EntryConfChangeV2
}

/// Whether an entry is a membership change without data: raft-rs would append it, and then could
/// not read the log again.
fn is_bare_change(entry: &Entry) -> bool {
    entry.get_entry_type() == EntryType::EntryConfChange && entry.data.is_empty()
}

#[cfg(test)]
mod tests {
    use raft::{
        Config, StateRole,
        eraftpb::{ConfState, HardState},
    };
    use tempfile::TempDir;

    use super::*;
    use crate::{
        raft::{log::Start, logger::logger},
        storage::wal::{Metadata, Options, create},
    };

    /// A follower in term 2 of a cluster of three, whose log ends at entry 3.
    fn follower() -> (Raft<LogStorage>, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata { node_id: 1, cluster_id: 2 };
        let (_, locations) =
            create(&dir.path().join("wal"), &metadata, &Options::default()).unwrap();
        let conf_state = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
        let hard_state = HardState { term: 2, ..HardState::default() };
        let start = Start { hard_state, conf_state, ..Start::default() };
        let mut log = LogStorage::new(start, locations);
        log.append(&[entry(1, 1), entry(2, 1), entry(3, 2)]);
        let config = Config { id: 1, election_tick: 10, heartbeat_tick: 1, ..Config::default() };
        (Raft::new(&config, log, &logger()).unwrap(), dir)
    }

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, ..Entry::default() }
    }

    fn message(kind: MessageType) -> Message {
        let mut message = Message { from: 2, to: 1, term: 2, ..Message::default() };
        message.set_msg_type(kind);
        message
    }

    fn append(index: u64, log_term: u64, entries: Vec<Entry>) -> Message {
        let mut message = message(MessageType::MsgAppend);
        (message.index, message.log_term) = (index, log_term);
        message.set_entries(entries.into());
        message
    }

    /// Checks a message, and gives it to raft-rs if it passes, which must not panic.
    fn checked(raft: &mut Raft<LogStorage>, message: Message) -> Option<Fault> {
        let fault = fault(&message, raft);
        if fault.is_none() {
            let _ = raft.step(message);
        }
        fault
    }

    #[test]
    fn a_commit_index_beyond_the_log_says_that_its_tail_is_gone() {
        let (mut raft, _dir) = follower();
        let beyond = Message { commit: 4, ..message(MessageType::MsgHeartbeat) };
        let fault = checked(&mut raft, beyond);
        assert_eq!(fault, Some(Fault::TailLost { commit: 4, last: 3 }));
        let text = fault.unwrap().to_string();
        assert!(text.contains("entry 4") && text.contains("ends at 3"), "{text}");
        let known = Message { commit: 3, ..message(MessageType::MsgHeartbeat) };
        assert_eq!(checked(&mut raft, known), None);
        assert_eq!(raft.raft_log.committed, 3);
    }

    #[test]
    fn entries_follow_on_from_the_one_before_them() {
        let (mut raft, _dir) = follower();
        for (index, log_term, entries) in [
            (3, 2, vec![entry(5, 2)]),
            (3, 2, vec![entry(1, 2)]),
            (3, 2, vec![entry(4, 1)]),
            (3, 2, vec![entry(4, 3)]),
            (3, 2, vec![entry(4, 2), entry(4, 2)]),
            (u64::MAX, 2, vec![entry(0, 2)]),
            (3, 3, vec![]),
            (9, 0, vec![entry(10, 2)]),
        ] {
            let refused = checked(&mut raft, append(index, log_term, entries.clone()));
            assert!(matches!(refused, Some(Fault::Senseless(_))), "{index} {log_term} {entries:?}");
        }
        for (index, log_term, entries) in [
            (u64::MAX, 2, vec![]),
            (9, 2, vec![entry(10, 2)]),
            (2, 1, vec![entry(3, 2), entry(4, 2)]),
        ] {
            assert_eq!(checked(&mut raft, append(index, log_term, entries)), None);
        }
        assert_eq!(raft.raft_log.last_index(), 4);
    }

    #[test]
    fn an_acknowledgement_beyond_the_leaders_log_is_refused() {
        let (mut raft, _dir) = follower();
        raft.become_candidate();
        raft.become_leader();
        assert_eq!(raft.state, StateRole::Leader);
        let acknowledged = |index| {
            let term = 3;
            Message { index, term, ..message(MessageType::MsgAppendResponse) }
        };
        for index in [5, u64::MAX - 1, u64::MAX] {
            assert!(checked(&mut raft, acknowledged(index)).is_some(), "{index}");
        }
        assert_eq!(checked(&mut raft, acknowledged(4)), None);
    }

    /// As etcd's members send them: proposals and reads without a term, all others with one.
    #[test]
    fn a_message_without_a_term_is_accepted_only_if_members_send_its_kind_so() {
        let (mut raft, _dir) = follower();
        // It follows member 2, and has voted for it.
        assert_eq!(checked(&mut raft, append(3, 2, vec![])), None);
        raft.vote = 2;
        let kinds = [
            MessageType::MsgAppend,
            MessageType::MsgAppendResponse,
            MessageType::MsgRequestVote,
            MessageType::MsgRequestVoteResponse,
            MessageType::MsgHeartbeat,
            MessageType::MsgHeartbeatResponse,
            MessageType::MsgTransferLeader,
            MessageType::MsgTimeoutNow,
            MessageType::MsgReadIndexResp,
            MessageType::MsgRequestPreVote,
            MessageType::MsgRequestPreVoteResponse,
        ];
        for kind in kinds {
            // Up to date, so that a vote would be granted.
            let bare = Message { term: 0, log_term: 2, index: 9, ..message(kind) };
            let refused = checked(&mut raft, bare);
            assert!(matches!(refused, Some(Fault::Senseless(_))), "{kind:?}");
        }
        for kind in [MessageType::MsgPropose, MessageType::MsgReadIndex] {
            let mut forwarded = Message { from: 3, ..message(kind) };
            forwarded.mut_entries().push(Entry::default());
            let refused = checked(&mut raft, forwarded.clone());
            assert!(matches!(refused, Some(Fault::Senseless(_))), "{kind:?}");
            assert_eq!(checked(&mut raft, Message { term: 0, ..forwarded }), None);
        }
        assert_eq!(raft.msgs.len(), 3, "an answer to the leader, and two that were passed on");
    }

    #[test]
    fn a_leader_refuses_messages_without_a_term() {
        let (mut raft, _dir) = follower();
        raft.become_candidate();
        raft.become_leader();
        for index in [5, u64::MAX] {
            let forged = Message { term: 0, index, ..message(MessageType::MsgAppendResponse) };
            assert!(checked(&mut raft, forged).is_some(), "{index}");
        }
        assert_eq!(raft.prs().get(2).unwrap().matched, 0);
        let transfer = Message { term: 3, ..message(MessageType::MsgTransferLeader) };
        assert_eq!(checked(&mut raft, transfer.clone()), None);
        let (mut follower, _dir) = self::follower();
        let refused = checked(&mut follower, Message { term: 2, ..transfer });
        assert!(matches!(refused, Some(Fault::Senseless(_))));
    }

    #[test]
    fn a_message_comes_from_another_member() {
        let (mut raft, _dir) = follower();
        for from in [INVALID_ID, raft.id] {
            let own = Message { from, ..append(3, 2, vec![]) };
            assert!(checked(&mut raft, own).is_some(), "{from}");
        }
        assert_eq!(raft.leader_id, INVALID_ID);
    }

    #[test]
    fn a_refusal_does_not_stop_replication_for_good() {
        let (mut raft, _dir) = follower();
        raft.become_candidate();
        raft.become_leader();
        let refusal =
            Message { term: 3, index: 3, reject: true, ..message(MessageType::MsgAppendResponse) };
        let hint = Message { reject_hint: u64::MAX, ..refusal.clone() };
        assert!(checked(&mut raft, hint).is_some());
        // raft-rs would send nothing but snapshots from then on, and there is none.
        let asks = Message { request_snapshot: 3, ..refusal.clone() };
        assert!(checked(&mut raft, asks).is_some());
        assert_eq!(checked(&mut raft, refusal), None);
        assert_eq!(raft.prs().get(2).unwrap().next_idx, 1);
    }

    /// A malformed forwarded proposal would end every member that reaches it in the log.
    #[test]
    fn a_leader_takes_no_proposal_that_no_member_can_apply() {
        use crate::pb::etcdserverpb::{
            InternalRaftRequest, PutRequest, RequestOp, TxnRequest, request_op::Request,
        };
        let (mut raft, _dir) = follower();
        raft.become_candidate();
        raft.become_leader();
        let proposal = |kind, data: Vec<u8>| {
            let mut message = Message { term: 0, ..message(MessageType::MsgPropose) };
            let mut entry = Entry { data: data.into(), ..Entry::default() };
            entry.set_entry_type(kind);
            message.mut_entries().push(entry);
            message
        };
        let txn = |inner: Vec<u8>| {
            let operation = RequestOp { request: Some(Request::RequestTxn(inner.into())) };
            TxnRequest { success: vec![operation], ..TxnRequest::default() }
        };
        let of = |txn| InternalRaftRequest { txn: Some(txn), ..InternalRaftRequest::default() };
        let put = InternalRaftRequest { put: Some(PutRequest::default()), ..of(txn(vec![])) };
        // Field 5 has less than it says, and the same one level deeper.
        let broken = vec![0x2a, 9, 1];
        let deep = of(txn(txn(broken.clone()).encode_to_vec())).encode_to_vec();
        let normal = EntryType::EntryNormal;
        for (kind, data) in [
            (normal, vec![0xff; 9]),
            (normal, broken),
            (normal, deep),
            (EntryType::EntryConfChange, vec![0xff; 9]),
        ] {
            let mut both = proposal(normal, put.encode_to_vec());
            both.mut_entries().push(proposal(kind, data).entries[0].clone());
            assert!(checked(&mut raft, both.clone()).is_some(), "{both:?}");
        }
        assert_eq!(raft.raft_log.last_index(), 4);
        // Raft's own are empty.
        for data in [put.encode_to_vec(), vec![]] {
            assert_eq!(checked(&mut raft, proposal(normal, data)), None);
        }
        assert_eq!(raft.raft_log.last_index(), 6);
    }

    /// A forwarded proposal.
    fn proposes(data: Vec<Vec<u8>>) -> Message {
        let mut message = Message { term: 0, ..message(MessageType::MsgPropose) };
        let entry = |data: Vec<u8>| Entry { data: data.into(), ..Entry::default() };
        message.set_entries(data.into_iter().map(entry).collect::<Vec<_>>().into());
        message
    }

    /// Goal: one forwarded request does not end all members of this version. Method: each kind that
    /// etcd has and this version lacks, alone and behind a put, and one of a later etcd; a leader
    /// refuses them, and a follower passes them on, because its leader may be an etcd.
    #[test]
    fn a_leader_takes_no_proposal_of_a_kind_that_it_cannot_carry_out() {
        let (mut leader, _dir) = follower();
        leader.become_candidate();
        leader.become_leader();
        let put = vec![0x22, 0];
        for kind in [1000, 1100, 1101, 1103, 1104, 1105, 1200, 1201, 1203, 1204, 2000] {
            let mut data = Vec::new();
            prost::encoding::encode_varint(kind << 3 | 2, &mut data);
            data.push(0);
            for entries in [vec![data.clone()], vec![put.clone(), data.clone()]] {
                let fault = checked(&mut leader, proposes(entries)).unwrap();
                assert!(matches!(fault, Fault::Unsupported { kind: found, .. } if found == kind));
                assert_eq!(fault.reason(), Reason::Unsupported);
                assert!(fault.to_string().contains(&format!("(kind {kind})")), "{fault}");
            }
            let (mut follower, _dir) = follower();
            assert_eq!(checked(&mut follower, proposes(vec![data])), None);
        }
        assert_eq!(leader.raft_log.last_index(), 4, "the leader's own first entry is the last");
        // A question about auth is left out by apply, and does no harm.
        assert_eq!(checked(&mut leader, proposes(vec![put, vec![0xaa, 0x3f, 0]])), None);
    }

    /// Goal: a proposal from the peer port has a bound, which leaves room for etcd's larger limits
    /// and for the highest of this version.
    #[test]
    fn a_forwarded_proposal_has_a_limit_in_bytes() {
        let (mut raft, _dir) = follower();
        raft.become_candidate();
        raft.become_leader();
        let put = |len: usize| {
            use crate::pb::etcdserverpb::{InternalRaftRequest, PutRequest};
            let put = |len| PutRequest { value: vec![0; len].into(), ..PutRequest::default() };
            let of = |len| InternalRaftRequest { put: Some(put(len)), ..Default::default() };
            let data = of(len - (of(len).encoded_len() - len)).encode_to_vec();
            assert_eq!(data.len(), len);
            data
        };
        let half = FORWARDED_BYTES_MAX / 2;
        for refused in [vec![put(2 * half + 1)], vec![put(half), put(half), put(100)]] {
            let fault = checked(&mut raft, proposes(refused)).unwrap();
            assert!(matches!(fault, Fault::TooLarge(_)), "{fault}");
            assert_eq!(fault.reason(), Reason::RequestTooLarge);
        }
        assert_eq!(raft.raft_log.last_index(), 4);
        assert_eq!(checked(&mut raft, proposes(vec![put(2 * half)])), None);
        assert_eq!(raft.raft_log.last_index(), 5);
    }

    #[test]
    fn messages_that_no_member_sends_do_not_reach_raft() {
        let (mut raft, _dir) = follower();
        let mut bare = append(3, 2, vec![entry(4, 2)]);
        bare.mut_entries()[0].set_entry_type(EntryType::EntryConfChange);
        let mut joint = Message { term: 0, ..message(MessageType::MsgPropose) };
        joint.mut_entries().push(Entry::default());
        joint.mut_entries()[0].set_entry_type(EntryType::EntryConfChangeV2);
        let senseless = [
            Message { term: u64::MAX, ..message(MessageType::MsgRequestVote) },
            Message { term: 0, ..message(MessageType::MsgPropose) },
            Message { term: 0, ..message(MessageType::MsgReadIndex) },
            message(MessageType::MsgReadIndexResp),
            bare,
            joint,
        ];
        for message in senseless {
            let refused = checked(&mut raft, message.clone());
            assert!(matches!(refused, Some(Fault::Senseless(_))), "{message:?}");
        }
    }

    #[test]
    fn a_snapshot_that_no_member_could_have_made_does_not_reach_raft() {
        let conf = |voters: &[u64], learners: &[u64]| {
            ConfState::from((voters.to_vec(), learners.to_vec()))
        };
        let snapshot = |index, term, conf_state: ConfState| {
            let mut message = message(MessageType::MsgSnapshot);
            let metadata = message.mut_snapshot().mut_metadata();
            (metadata.index, metadata.term) = (index, term);
            metadata.set_conf_state(conf_state);
            message
        };
        let (mut raft, _dir) = follower();
        let joint = ConfState { voters_outgoing: vec![1], ..conf(&[1, 2, 3], &[]) };
        for (index, term, conf_state) in [
            (0, 2, conf(&[1, 2, 3], &[])),
            (9, 0, conf(&[1, 2, 3], &[])),
            (9, 3, conf(&[1, 2, 3], &[])),
            (u64::MAX, 2, conf(&[1, 2, 3], &[])),
            (9, 2, conf(&[], &[1])),
            (9, 2, conf(&[1, 1, 3], &[])),
            (9, 2, conf(&[1, 2], &[2])),
            (9, 2, conf(&[0, 1], &[])),
            (9, 2, joint),
        ] {
            let refused = checked(&mut raft, snapshot(index, term, conf_state));
            assert!(matches!(refused, Some(Fault::Senseless(_))), "{index} {term}");
        }
        assert_eq!(raft.raft_log.last_index(), 3);
        // raft-rs itself ignores one of another cluster's members, and one that it has.
        assert_eq!(checked(&mut raft, snapshot(9, 2, conf(&[2, 3], &[]))), None);
        assert_eq!(checked(&mut raft, snapshot(2, 1, conf(&[1, 2, 3], &[]))), None);
        assert_eq!(raft.raft_log.last_index(), 3);
        assert_eq!(checked(&mut raft, snapshot(9, 2, conf(&[1, 2, 4], &[3]))), None);
        assert_eq!((raft.raft_log.last_index(), raft.raft_log.committed), (9, 9));
    }
}
