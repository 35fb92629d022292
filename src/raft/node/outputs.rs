//! What the consensus loop gives to others, and where it goes.

use std::sync::{Arc, mpsc::Sender};

use raft::eraftpb::{Entry, SnapshotMetadata};
use tokio::sync::mpsc::UnboundedSender;

use crate::raft::{proposals::Reason, rafthttp, writes::Writes};

/// Committed entries on their way to apply.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// A received database that comes before the entries. Its record is in the log on the disk.
    pub(crate) snapshot: Option<SnapshotMetadata>,
    /// The entries, in log order.
    pub(crate) entries: Vec<Entry>,
    /// The raw tick at which they were handed over, for the trace.
    pub(crate) since: u64,
}

/// The answer to a read round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadRound {
    /// The id of the attempt.
    pub(crate) round: u64,
    /// The index that was committed when the quorum answered.
    pub(crate) index: u64,
    /// This member's term when raft handed the answer over. The answer had arrived by then, so this
    /// term is never an older one.
    pub(crate) term: u64,
    /// The raw tick at which raft handed the answer over, for the trace.
    pub(crate) since: u64,
}

/// Proposals that will not be applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The ids of the requests, under which their callers wait.
    pub(crate) ids: Vec<u64>,
    /// Why they will not be applied.
    pub(crate) reason: Reason,
}

/// Where the loop's results go.
pub(crate) struct Outputs {
    /// Writes for the log files.
    pub(crate) writes: Writes,
    /// Messages for the other members.
    pub(crate) peers: rafthttp::Sender,
    /// Which of the other members can be reached.
    pub(crate) active: Arc<rafthttp::Active>,
    /// Committed entries for apply. Unbounded, because raft must never wait for apply; while much
    /// waits, it hands over one entry a turn.
    pub(crate) committed: Sender<Committed>,
    /// Confirmed rounds for the coordinator of linearizable reads. Unbounded; one round is in
    /// flight at a time.
    pub(crate) reads: UnboundedSender<ReadRound>,
    /// Proposals that raft refused or lost. Unbounded; bounded by the proposals in flight.
    pub(crate) refused: UnboundedSender<Refusal>,
}
