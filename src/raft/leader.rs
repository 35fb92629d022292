//! Two questions about the leader: to whom it hands over, and whether a message is a sign of its
//! life.

use raft::{Raft, StateRole, eraftpb::MessageType};

use super::{log::LogStorage, rafthttp};

/// The voter to which this member transfers the leadership: `to`, if it names one (etcd:
/// `MoveLeader`), or that with the highest match index of those that are active (etcd:
/// `transferLeadership`, `longestConnected`).
///
/// `None` if this member does not lead, has no such voter, or transfers to it already. A transfer
/// to another member is no obstacle: as in etcd, raft gives that one up for the new one.
pub(crate) fn transferee(
    raft: &Raft<LogStorage>,
    active: &rafthttp::Active,
    to: Option<u64>,
) -> Option<u64> {
    if raft.state != StateRole::Leader {
        return None;
    }
    let voters = raft.prs().conf().voters().ids();
    let others: Vec<u64> = voters.iter().filter(|id| *id != raft.id).collect();
    let matched = |id| raft.prs().get(id).map_or(0, |progress| progress.matched);
    let heard = others.iter().filter_map(|id| Some((*id, active.since(*id)?)));
    let best = heard.max_by_key(|(id, since)| (matched(*id), std::cmp::Reverse(*since)));
    let to = match to {
        Some(to) => others.contains(&to).then_some(to),
        None => best.map(|(id, _)| id),
    };
    to.filter(|to| raft.lead_transferee != Some(*to))
}

/// Whether a message of this kind, with its sender and term, is one by which the leader holds off
/// an election. Raft counts the election timeout from the last of these, and from no other message
/// of the same member, such as a vote request. `raft` has taken the message.
pub(crate) fn is_heard(
    kind: MessageType,
    (from, term): (u64, u64),
    raft: &Raft<LogStorage>,
) -> bool {
    let holds_off = matches!(
        kind,
        MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
    );
    holds_off && from == raft.leader_id && term == raft.term
}

#[cfg(test)]
mod tests {
    use raft::{
        Config, RawNode,
        eraftpb::{ConfState, Entry, HardState, Message},
    };
    use tempfile::TempDir;

    use super::*;
    use crate::{
        raft::{log::Start, logger::logger},
        storage::wal::{Metadata, Options, create},
    };

    /// Member 1 of a cluster of three, in term 2.
    fn member() -> (RawNode<LogStorage>, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata { node_id: 1, cluster_id: 2 };
        let log = create(&dir.path().join("wal"), &metadata, &Options::default());
        let conf_state = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
        let hard_state = HardState { term: 2, ..HardState::default() };
        let start = Start { hard_state, conf_state, ..Start::default() };
        let log = LogStorage::new(start, log.unwrap().1);
        let config = Config { id: 1, election_tick: 10, heartbeat_tick: 1, ..Config::default() };
        (RawNode::new(&config, log, &logger()).unwrap(), dir)
    }

    fn message(kind: MessageType, from: u64, term: u64) -> Message {
        let mut message = Message { from, to: 1, term, ..Message::default() };
        message.set_msg_type(kind);
        message
    }

    /// Goal: a transfer to a member that does not answer is no obstacle to one that does (etcd's
    /// MoveLeader, twice). Method: the first transferee is silent, the second is asked to campaign.
    #[test]
    fn a_transfer_gives_way_to_one_to_another_member() {
        let (mut raw, _dir) = member();
        let active = rafthttp::Active::default();
        assert_eq!(transferee(&raw.raft, &active, Some(2)), None, "it does not lead");
        raw.raft.become_candidate();
        raw.raft.become_leader();
        for (to, rest) in [(2, [1, 9]), (3, [1, 9])] {
            assert_eq!(transferee(&raw.raft, &active, Some(to)), Some(to));
            raw.transfer_leader(to);
            assert_eq!(raw.raft.lead_transferee, Some(to));
            assert_eq!(transferee(&raw.raft, &active, Some(to)), None, "it is under way");
            for no_voter in rest {
                assert_eq!(transferee(&raw.raft, &active, Some(no_voter)), None);
            }
        }
        assert_eq!(transferee(&raw.raft, &active, None), None, "none of them is active");
        let index = raw.raft.raft_log.last_index();
        let has_all = Message { index, ..message(MessageType::MsgAppendResponse, 3, 3) };
        raw.step(has_all).unwrap();
        let asked =
            raw.raft.msgs.iter().filter(|to| to.get_msg_type() == MessageType::MsgTimeoutNow);
        assert_eq!(asked.map(|message| message.to).collect::<Vec<_>>(), [3]);
    }

    /// Goal: what counts as hearing from the leader is what makes raft count anew. Method: for each
    /// kind of message, from the leader and from another, raft's own count afterwards.
    #[test]
    fn a_leader_is_heard_by_exactly_the_messages_that_hold_off_an_election() {
        let kinds = [
            MessageType::MsgAppend,
            MessageType::MsgHeartbeat,
            MessageType::MsgRequestPreVote,
            MessageType::MsgRequestPreVoteResponse,
            MessageType::MsgRequestVote,
            MessageType::MsgAppendResponse,
            MessageType::MsgHeartbeatResponse,
            MessageType::MsgReadIndexResp,
            MessageType::MsgPropose,
        ];
        for kind in kinds {
            for (from, term) in [(2, 2), (2, 1), (3, 2)] {
                let (mut raw, _dir) = member();
                raw.step(message(MessageType::MsgHeartbeat, 2, 2)).unwrap();
                assert_eq!(raw.raft.leader_id, 2);
                (0..3).for_each(|_| _ = raw.tick());
                assert_eq!(raw.raft.election_elapsed, 3);
                if from == 3 && matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat) {
                    // There is one leader in a term.
                    continue;
                }
                let is_proposal = kind == MessageType::MsgPropose;
                let mut sent = message(kind, from, if is_proposal { 0 } else { term });
                let needs_entry = is_proposal || kind == MessageType::MsgReadIndexResp;
                sent.set_entries(vec![Entry::default(); usize::from(needs_entry)].into());
                let _ = raw.step(sent);
                let heard = is_heard(kind, (from, term), &raw.raft);
                assert_eq!(
                    heard,
                    raw.raft.election_elapsed == 0,
                    "{kind:?} of {from}, term {term}"
                );
            }
        }
    }
}
