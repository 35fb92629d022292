//! Checks whether a message from a peer may be given to raft-rs.
//!
//! raft-rs trusts its peers: a malformed message ends the process, or stays in the log and ends it
//! at the next start. A peer may be another program, or a member whose disk has failed, so each
//! message is checked first. What raft-rs checks by itself, the term and the role that a message
//! belongs to, is left to it.

use std::fmt;

use raft::{
    Raft,
    eraftpb::{Entry, EntryType, Message, MessageType},
};

use super::log::LogStorage;

/// How far a term may be above this member's. A term rises by one with each election, so no member
/// has missed 2^32 of them.
const TERM_LEAD_MAX: u64 = 1 << 32;

/// Why a message is not given to raft-rs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This member's log has lost entries that it had acknowledged.
    TailLost {
        /// The index that the leader knows to be committed, and to be on this member.
        commit: u64,
        /// The last index of this member's log.
        last: u64,
    },
    /// A snapshot, which this member cannot take yet.
    Snapshot,
    /// A message that no correct member sends; the text says why.
    Senseless(&'static str),
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
            Self::Snapshot => f.write_str("this member cannot take a snapshot yet"),
            Self::Senseless(what) => f.write_str(what),
        }
    }
}

/// What is wrong with a message, if anything is.
pub fn fault(message: &Message, raft: &Raft<LogStorage>) -> Option<Fault> {
    let log = &raft.raft_log;
    let last = log.last_index();
    let wrong = |what| Some(Fault::Senseless(what));
    if raft.term.saturating_add(TERM_LEAD_MAX) < message.term {
        return wrong("its term is beyond reason");
    }
    if message.entries.iter().any(is_bare_change) {
        return wrong("it has a change of membership that changes nothing");
    }
    match message.get_msg_type() {
        MessageType::MsgPropose if message.entries.is_empty() => wrong("it proposes nothing"),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp if message.entries.len() != 1 => {
            wrong("a read has one context")
        }
        MessageType::MsgSnapshot => Some(Fault::Snapshot),
        MessageType::MsgHeartbeat if last < message.commit => {
            Some(Fault::TailLost { commit: message.commit, last })
        }
        MessageType::MsgAppend if !follow_on(message) => wrong("its entries do not follow on"),
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
        let start = Start { hard_state, conf_state, last_index: 0, last_term: 0 };
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
    fn entries_follow_on_from_what_is_before_them() {
        let (mut raft, _dir) = follower();
        for (index, log_term, entries) in [
            (3, 2, vec![entry(5, 2)]),
            (3, 2, vec![entry(1, 2)]),
            (3, 2, vec![entry(4, 1)]),
            (3, 2, vec![entry(4, 3)]),
            (3, 2, vec![entry(4, 2), entry(4, 2)]),
            (u64::MAX, 2, vec![entry(0, 2)]),
            (3, 3, vec![]),
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
    fn nobody_acknowledges_what_the_leader_does_not_have() {
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

    #[test]
    fn what_no_member_sends_is_not_given_to_raft() {
        let (mut raft, _dir) = follower();
        let mut bare = append(3, 2, vec![entry(4, 2)]);
        bare.mut_entries()[0].set_entry_type(EntryType::EntryConfChange);
        let senseless = [
            Message { term: u64::MAX, ..message(MessageType::MsgRequestVote) },
            message(MessageType::MsgPropose),
            message(MessageType::MsgReadIndex),
            message(MessageType::MsgReadIndexResp),
            bare,
        ];
        for message in senseless {
            let refused = checked(&mut raft, message.clone());
            assert!(matches!(refused, Some(Fault::Senseless(_))), "{message:?}");
        }
        let snapshot = message(MessageType::MsgSnapshot);
        assert_eq!(checked(&mut raft, snapshot), Some(Fault::Snapshot));
    }
}
