//! Votes that are refused, and the signs of a leader, in the words of raft-rs itself.

use raft::{
    Config,
    eraftpb::{ConfState, Entry, HardState, Message},
};
use tempfile::TempDir;

use super::*;
use crate::{
    raft::{log::Start, logger::logger},
    storage::wal::{Metadata, Options, create},
    trace::Reason,
};

/// Member 1 of three, in term 2, whose log ends at entry 1 of that term.
fn member() -> (Raft<LogStorage>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let metadata = Metadata { node_id: 1, cluster_id: 2 };
    let (_, locations) = create(&dir.path().join("wal"), &metadata, &Options::default()).unwrap();
    let conf_state = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let hard_state = HardState { term: 2, ..HardState::default() };
    let start = Start { hard_state, conf_state, ..Start::default() };
    let mut log = LogStorage::new(start, locations);
    log.append(&[Entry { index: 1, term: 2, ..Entry::default() }]);
    let config = Config {
        id: 1,
        election_tick: 10,
        heartbeat_tick: 1,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    };
    (Raft::new(&config, log, &logger()).unwrap(), dir)
}

/// What the member says to a candidate, by id, of this term, whose log ends at entry 1.
fn asked(
    raft: &mut Raft<LogStorage>,
    (kind, from): (MessageType, u64),
    (term, log_term): (u64, u64),
) -> Option<Reason> {
    let mut message = Message { from, to: 1, term, log_term, index: 1, ..Message::default() };
    message.set_msg_type(kind);
    let expected = Expected::before(raft, &message);
    raft.step(message).unwrap();
    expected.refusal(raft)
}

/// The member hears of member 3, the leader of this term.
fn follows(raft: &mut Raft<LogStorage>, term: u64) {
    let mut heartbeat = Message { from: 3, to: 1, term, ..Message::default() };
    heartbeat.set_msg_type(MessageType::MsgHeartbeat);
    raft.step(heartbeat).unwrap();
}

#[test]
fn a_refused_vote_names_the_rule_that_forbids_it() {
    let [vote, pre] = [MessageType::MsgRequestVote, MessageType::MsgRequestPreVote];
    let (mut raft, _dir) = member();
    assert_eq!(None, asked(&mut raft, (pre, 2), (3, 2)), "it votes");
    assert_eq!(Some(Reason::VoteOldTerm), asked(&mut raft, (pre, 2), (1, 2)));
    assert_eq!(Some(Reason::VoteOldTerm), asked(&mut raft, (vote, 2), (1, 2)));
    assert_eq!(Some(Reason::VoteOldLog), asked(&mut raft, (pre, 2), (3, 1)));
    assert_eq!(Some(Reason::VoteOldLog), asked(&mut raft, (vote, 2), (3, 1)));
    assert_eq!(None, asked(&mut raft, (vote, 3), (3, 2)), "it votes");
    assert_eq!(Some(Reason::VoteGiven), asked(&mut raft, (vote, 2), (3, 2)));
    follows(&mut raft, 3);
    // Also of a candidate whose log is older: that is not even looked at.
    assert_eq!(Some(Reason::VoteLeaderHeard), asked(&mut raft, (pre, 2), (4, 1)));
    let (mut raft, _dir) = member();
    follows(&mut raft, 2);
    assert_eq!(Some(Reason::VoteFollows), asked(&mut raft, (vote, 2), (2, 2)));
    raft.become_candidate();
    raft.become_leader();
    assert_eq!(Some(Reason::VoteLeads), asked(&mut raft, (pre, 2), (4, 2)));
}
