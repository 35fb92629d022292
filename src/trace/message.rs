//! Raft's message types, by the numbers that etcd gives them (`raftpb.MessageType`).

/// The names of all types; a type's number is its position.
pub const MESSAGES: &[&str] = &[
    "MsgHup",
    "MsgBeat",
    "MsgProp",
    "MsgApp",
    "MsgAppResp",
    "MsgVote",
    "MsgVoteResp",
    "MsgSnap",
    "MsgHeartbeat",
    "MsgHeartbeatResp",
    "MsgUnreachable",
    "MsgSnapStatus",
    "MsgCheckQuorum",
    "MsgTransferLeader",
    "MsgTimeoutNow",
    "MsgReadIndex",
    "MsgReadIndexResp",
    "MsgPreVote",
    "MsgPreVoteResp",
];

/// A proposal on its way to the leader.
pub const PROP: u64 = 2;
/// Entries, or only the commit index.
pub const APP: u64 = 3;
/// A follower's answer: up to which index its log on disk matches.
pub const APP_RESP: u64 = 4;
/// A request for a vote.
pub const VOTE: u64 = 5;
/// The answer to that: granted or refused.
pub const VOTE_RESP: u64 = 6;
/// A snapshot of the state machine, for a member that the log no longer reaches.
pub const SNAP: u64 = 7;
/// A sign of life of the leader, which may ask for the confirmation of a read round.
pub const HEARTBEAT: u64 = 8;
/// A follower's answer to a heartbeat.
pub const HEARTBEAT_RESP: u64 = 9;
/// The leader asks a follower to campaign at once.
pub const TIMEOUT_NOW: u64 = 14;
/// A follower asks the leader for the commit index.
pub const READ_INDEX: u64 = 15;
/// The leader's answer: the commit index that a quorum confirmed.
pub const READ_INDEX_RESP: u64 = 16;
/// A pre-candidate asks whether a vote would be granted.
pub const PRE_VOTE: u64 = 17;
/// The answer to that.
pub const PRE_VOTE_RESP: u64 = 18;

/// Whether only a leader sends messages of this type.
pub const fn is_of_leader(kind: u64) -> bool {
    matches!(kind, APP | SNAP | HEARTBEAT | TIMEOUT_NOW | READ_INDEX_RESP)
}
