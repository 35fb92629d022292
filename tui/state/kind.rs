//! What a step works with: the disk, the network, raft, or the state machine.
//!
//! Screens colour the steps by it. The word stands beside the colour where there is room, and the
//! stage's name, which begins the row, says it everywhere else. The first part of that name
//! decides, so a new stage belongs to the kind of its kin; a name that no kind knows fails a test.

use glass_etcd::trace::Stage;

/// The kind of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// The log's files and the database file.
    Disk,
    /// Bytes from a client or another member, and to them.
    Network,
    /// The log, its replication, terms and leaders, and the rounds of reads.
    Raft,
    /// The state machine: applied entries and what they change.
    Apply,
    /// A look into the key space that changes nothing.
    Read,
    /// The call: its checks, its waits, its answer.
    Call,
    /// The member and its recorder: starts, losses, measures.
    Member,
}

/// The kinds by the first part of a stage's name.
const BY_PREFIX: &[(&str, StepKind)] = &[
    ("wal", StepKind::Disk),
    ("backend", StepKind::Disk),
    ("connection", StepKind::Network),
    ("socket", StepKind::Network),
    ("answer", StepKind::Network),
    ("raft", StepKind::Raft),
    ("log", StepKind::Raft),
    ("election", StepKind::Raft),
    ("read_index", StepKind::Raft),
    ("apply", StepKind::Apply),
    ("txn", StepKind::Apply),
    ("mvcc", StepKind::Apply),
    ("tree_index", StepKind::Apply),
    ("buffer", StepKind::Apply),
    ("compact", StepKind::Apply),
    ("watch", StepKind::Apply),
    ("lease", StepKind::Apply),
    ("alarm", StepKind::Apply),
    ("read", StepKind::Read),
    ("v2", StepKind::Apply),
    ("rpc", StepKind::Call),
    ("gateway", StepKind::Call),
    ("auth", StepKind::Call),
    ("quota", StepKind::Call),
    ("admit", StepKind::Call),
    ("stream", StepKind::Call),
    ("session", StepKind::Call),
    ("lock", StepKind::Call),
    ("campaign", StepKind::Call),
    ("observe", StepKind::Call),
    ("thread", StepKind::Call),
    ("members", StepKind::Member),
    ("member", StepKind::Member),
    ("leader", StepKind::Raft),
    ("corrupt", StepKind::Member),
    ("snapshot", StepKind::Disk),
    ("keyframe", StepKind::Member),
    ("usual", StepKind::Member),
    ("key", StepKind::Member),
    ("connection", StepKind::Network),
    ("process", StepKind::Member),
    ("cpu", StepKind::Member),
    ("lost", StepKind::Member),
    ("trace", StepKind::Member),
];

impl StepKind {
    /// The kind of a stage.
    pub(crate) fn of(stage: Stage) -> StepKind {
        match stage {
            Stage::RaftSend | Stage::RaftReceive | Stage::RaftDrop => StepKind::Network,
            Stage::LeaseForward | Stage::LeaseServe => StepKind::Network,
            Stage::RpcReceive | Stage::RpcQueue => StepKind::Network,
            Stage::SnapshotSend | Stage::SnapshotReceive => StepKind::Network,
            Stage::SnapshotAccept => StepKind::Raft,
            Stage::MvccRange | Stage::TreeIndexGet | Stage::BufferGet | Stage::MvccHash => {
                StepKind::Read
            }
            Stage::V2Get => StepKind::Read,
            _ => by_prefix(stage).unwrap_or(StepKind::Member),
        }
    }

    /// The word that stands beside the colour.
    pub(crate) fn word(self) -> &'static str {
        match self {
            StepKind::Disk => "disk",
            StepKind::Network => "network",
            StepKind::Raft => "raft",
            StepKind::Apply => "apply",
            StepKind::Read => "read",
            StepKind::Call => "call",
            StepKind::Member => "member",
        }
    }
}

fn by_prefix(stage: Stage) -> Option<StepKind> {
    let prefix = stage.name().split('.').next();
    BY_PREFIX.iter().find(|(known, _)| Some(*known) == prefix).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_kind_by_its_name() {
        let strange: Vec<&str> = Stage::ALL
            .iter()
            .filter(|stage| by_prefix(**stage).is_none())
            .map(|s| s.name())
            .collect();
        assert!(strange.is_empty(), "{strange:?}");
        assert_eq!(StepKind::Disk, StepKind::of(Stage::WalFsync));
        assert_eq!(StepKind::Network, StepKind::of(Stage::RaftSend));
        assert_eq!(StepKind::Raft, StepKind::of(Stage::RaftCommit));
        assert_eq!(StepKind::Apply, StepKind::of(Stage::ApplyEntry));
    }
}
