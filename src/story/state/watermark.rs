//! The watermarks, and the events that set them.

use crate::{
    change, field, slot,
    story::Event,
    trace::{
        Slot,
        record::Kind,
        stage::{Stage, Unit},
    },
};

/// One number that describes a member's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watermark {
    /// Follower, candidate, leader or pre-candidate.
    Role,
    /// Raft's current term.
    Term,
    /// Highest index that the member knows to be committed.
    Commit,
    /// Last entry that the state machine has applied.
    Applied,
    /// Revision of the key space.
    Revision,
    /// The leader that the member follows.
    Leader,
    /// Last entry passed to the operating system.
    Written,
    /// Last entry that an fsync has covered.
    Synced,
    /// Consistent index in the backend's file.
    Stored,
    /// Revision in the backend's file.
    StoredRevision,
    /// Rows in the active write buffer.
    Active,
    /// Rows in the frozen write buffer.
    Frozen,
    /// The candidate that the member voted for in its term.
    Vote,
    /// Requests that the member has finished.
    Seen,
    /// Requests whose records the member has kept.
    Kept,
    /// Records that were overwritten before they were read.
    Dropped,
    /// The oldest revision that can still be read. Not in keyframes.
    Compacted,
    /// As leader: the index up to which the log of the member with this id agrees with the
    /// leader's, on that member's disk. Not in keyframes.
    Match(u64),
}

impl Watermark {
    /// The watermarks that keyframes carry, in the order in which screens list them.
    pub const ALL: [Watermark; 16] = [
        Watermark::Role,
        Watermark::Term,
        Watermark::Commit,
        Watermark::Applied,
        Watermark::Revision,
        Watermark::Leader,
        Watermark::Written,
        Watermark::Synced,
        Watermark::Stored,
        Watermark::StoredRevision,
        Watermark::Active,
        Watermark::Frozen,
        Watermark::Vote,
        Watermark::Seen,
        Watermark::Kept,
        Watermark::Dropped,
    ];

    /// Its name on the screen, and its unit.
    pub const fn named(self) -> (&'static str, Unit) {
        match self {
            Watermark::Role => ("role", Unit::Role),
            Watermark::Term => ("term", Unit::Term),
            Watermark::Commit => ("commit", Unit::Index),
            Watermark::Applied => ("applied", Unit::Index),
            Watermark::Revision => ("rev", Unit::Revision),
            Watermark::Leader => ("leader", Unit::Member),
            Watermark::Written => ("wal written", Unit::Index),
            Watermark::Synced => ("wal synced", Unit::Index),
            Watermark::Stored => ("file has", Unit::Index),
            Watermark::StoredRevision => ("file rev", Unit::Revision),
            Watermark::Active => ("buffer", Unit::Count),
            Watermark::Frozen => ("frozen", Unit::Count),
            Watermark::Vote => ("vote", Unit::Member),
            Watermark::Seen => ("requests", Unit::Count),
            Watermark::Kept => ("kept", Unit::Count),
            Watermark::Dropped => ("dropped", Unit::Count),
            Watermark::Compacted => ("compacted", Unit::Revision),
            Watermark::Match(_) => ("match", Unit::Index),
        }
    }

    /// Whether it never falls while the member runs. The log's two fall when a new leader's entries
    /// replace others: after a `log.truncate` they are not assumed to rise.
    pub(super) const fn is_rising(self) -> bool {
        !matches!(
            self,
            Watermark::Role
                | Watermark::Leader
                | Watermark::Vote
                | Watermark::Active
                | Watermark::Frozen
        )
    }

    /// Whether it falls with the log's tail.
    pub(super) const fn is_of_log(self) -> bool {
        matches!(self, Watermark::Written | Watermark::Synced)
    }

    /// Whether it is known to rise only if no record is missing: a missing record may say that it
    /// fell, or that another leader counts anew.
    pub(super) const fn is_rising_if_whole(self) -> bool {
        self.is_of_log() || matches!(self, Watermark::Match(_))
    }

    /// Whether the number that keyframes read is set some time after its change is recorded.
    pub(super) const fn lags(self) -> bool {
        matches!(self, Watermark::Active | Watermark::Frozen)
    }
}

/// One watermark that an event sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The watermark that is set.
    pub water: Watermark,
    /// Its old value, if the event has it.
    pub old: Option<u64>,
    /// Its value from this event on.
    pub new: u64,
}

/// The watermarks that an event sets; none for a beginning.
pub fn changes(event: &Event) -> Vec<Change> {
    use Watermark as Mark;
    if event.kind == Kind::Begin {
        return Vec::new();
    }
    let moved = |water, [old, new]: [u64; 2]| Change { water, old: Some(old), new };
    match event.stage {
        Stage::WalWrite => vec![moved(Mark::Written, change!(event, WalWrite, written))],
        Stage::WalFsync => vec![moved(Mark::Synced, change!(event, WalFsync, synced))],
        Stage::RaftProgress => {
            let peer = field!(event, RaftProgress, peer);
            vec![moved(Mark::Match(peer), change!(event, RaftProgress, match))]
        }
        Stage::RaftCommit => vec![
            moved(Mark::Commit, change!(event, RaftCommit, commit)),
            is(Mark::Term, field!(event, RaftCommit, term)),
        ],
        Stage::ApplyEntry => vec![moved(Mark::Applied, change!(event, ApplyEntry, applied))],
        Stage::MvccWrite => vec![moved(Mark::Revision, change!(event, MvccWrite, revision))],
        Stage::MvccCompact => vec![moved(Mark::Compacted, change!(event, MvccCompact, compacted))],
        Stage::BufferPut => vec![moved(Mark::Active, change!(event, BufferPut, length))],
        // Only one buffer is frozen at a time.
        Stage::BufferFreeze => {
            let rows = field!(event, BufferFreeze, length);
            vec![moved(Mark::Active, [rows, 0]), moved(Mark::Frozen, [0, rows])]
        }
        Stage::BackendCommit => vec![
            moved(Mark::Stored, change!(event, BackendCommit, index)),
            moved(Mark::StoredRevision, change!(event, BackendCommit, revision)),
            moved(Mark::Frozen, [field!(event, BackendCommit, writes), 0]),
        ],
        // The received file has everything up to there.
        Stage::SnapshotInstall => {
            let [_, index] = change!(event, SnapshotInstall, applied);
            let [_, revision] = change!(event, SnapshotInstall, revision);
            vec![
                moved(Mark::Applied, change!(event, SnapshotInstall, applied)),
                moved(Mark::Revision, change!(event, SnapshotInstall, revision)),
                is(Mark::Stored, index),
                is(Mark::StoredRevision, revision),
                is(Mark::Active, 0),
            ]
        }
        // `election.campaign` raises the term, and this follows it at once, with everything else.
        Stage::RaftRole => vec![
            moved(Mark::Role, change!(event, RaftRole, role)),
            moved(Mark::Term, change!(event, RaftRole, term)),
            moved(Mark::Leader, change!(event, RaftRole, leader)),
            moved(Mark::Vote, change!(event, RaftRole, vote)),
        ],
        Stage::Keyframe | Stage::KeyframeBackend => keyframe(event),
        _ => Vec::new(),
    }
}

fn is(water: Watermark, new: u64) -> Change {
    Change { water, old: None, new }
}

/// The watermarks of the first two parts of a keyframe. The third has measures, and no watermark.
const KEYFRAMES: [(Watermark, Slot); 16] = [
    (Watermark::Role, slot!(Keyframe, role)),
    (Watermark::Term, slot!(Keyframe, term)),
    (Watermark::Commit, slot!(Keyframe, commit)),
    (Watermark::Applied, slot!(Keyframe, applied)),
    (Watermark::Revision, slot!(Keyframe, revision)),
    (Watermark::Leader, slot!(Keyframe, leader)),
    (Watermark::Written, slot!(Keyframe, written)),
    (Watermark::Synced, slot!(Keyframe, synced)),
    (Watermark::Stored, slot!(KeyframeBackend, committed)),
    (Watermark::StoredRevision, slot!(KeyframeBackend, committed_revision)),
    (Watermark::Active, slot!(KeyframeBackend, active)),
    (Watermark::Frozen, slot!(KeyframeBackend, frozen)),
    (Watermark::Vote, slot!(KeyframeBackend, vote)),
    (Watermark::Seen, slot!(KeyframeBackend, seen)),
    (Watermark::Kept, slot!(KeyframeBackend, kept)),
    (Watermark::Dropped, slot!(KeyframeBackend, dropped)),
];

fn keyframe(event: &Event) -> Vec<Change> {
    let of_part = KEYFRAMES.iter().filter(|(_, slot)| slot.stage() == event.stage);
    of_part.map(|(water, slot)| is(*water, event.number(&[*slot]))).collect()
}
