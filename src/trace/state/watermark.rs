//! Which watermarks there are, and which events set them.

use crate::trace::{
    event::Event,
    record::Kind,
    stage::{Stage, Unit},
};

/// One thing that is known of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watermark {
    /// Follower, candidate, leader or pre-candidate.
    Role,
    /// Raft's term.
    Term,
    /// Raft's commit index.
    Commit,
    /// How far the state machine has taken entries.
    Applied,
    /// Revision of the key space.
    Revision,
    /// Whom the member follows.
    Leader,
    /// Last entry handed to the operating system.
    Written,
    /// Last entry that the disk has promised to keep.
    Synced,
    /// Consistent index in the backend's file.
    Stored,
    /// Revision in the backend's file.
    StoredRevision,
    /// Rows in the active write buffer.
    Active,
    /// Rows in the frozen write buffer.
    Frozen,
    /// For whom the member voted in its term.
    Vote,
    /// Requests that the member has finished.
    Seen,
    /// Requests of which it has kept the records.
    Kept,
    /// Records that were overwritten before they were read.
    Dropped,
    /// The oldest revision that can still be read. Not in keyframes.
    Compacted,
    /// As leader: up to which index the log of the member with this id agrees with the own one, on
    /// its disk. Not in keyframes.
    Match(u64),
}

impl Watermark {
    /// Those that keyframes carry, in the order in which screens list them.
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

    /// Its name on the screen, and what it counts.
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
    /// take the place of others: after a `log.truncate` they are not taken to rise.
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

    /// Whether it is known to rise only as long as no record is missing: the one that says that it
    /// fell, or that another leader counts anew, may be among them.
    pub(super) const fn is_rising_if_whole(self) -> bool {
        self.is_of_log() || matches!(self, Watermark::Match(_))
    }

    /// Whether the number that keyframes read is set some time after the change was recorded.
    pub(super) const fn lags(self) -> bool {
        matches!(self, Watermark::Active | Watermark::Frozen)
    }
}

/// One watermark that an event sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub water: Watermark,
    /// What it was, if the event says so.
    pub old: Option<u64>,
    /// What it is now.
    pub new: u64,
}

/// The watermarks that an event sets; none for a beginning.
pub fn changes(event: &Event) -> Vec<Change> {
    if event.kind == Kind::Begin {
        return Vec::new();
    }
    let f = &event.fields;
    let moved = |water, old, new| Change { water, old: Some(old), new };
    let is = |water, new| Change { water, old: None, new };
    match event.stage {
        Stage::WalWrite => vec![moved(Watermark::Written, f[2], f[3])],
        Stage::WalFsync => vec![moved(Watermark::Synced, f[2], f[3])],
        Stage::RaftProgress => vec![moved(Watermark::Match(f[0]), f[1], f[2])],
        Stage::RaftCommit => vec![moved(Watermark::Commit, f[1], f[2]), is(Watermark::Term, f[0])],
        Stage::ApplyEntry => vec![moved(Watermark::Applied, f[2], f[3])],
        Stage::MvccWrite => vec![moved(Watermark::Revision, f[0], f[1])],
        Stage::MvccCompact => vec![moved(Watermark::Compacted, f[0], f[1])],
        Stage::BufferPut => vec![moved(Watermark::Active, f[0], f[1])],
        // Only one buffer is frozen at a time.
        Stage::BufferFreeze => {
            vec![moved(Watermark::Active, f[0], 0), moved(Watermark::Frozen, 0, f[0])]
        }
        Stage::BackendCommit => vec![
            moved(Watermark::Stored, f[0], f[1]),
            moved(Watermark::StoredRevision, f[2], f[3]),
            moved(Watermark::Frozen, f[4], 0),
        ],
        Stage::ElectionCampaign if f[0] == 0 => vec![moved(Watermark::Term, f[1], f[2])],
        Stage::RaftRole => vec![
            moved(Watermark::Role, f[0], f[1]),
            moved(Watermark::Term, f[2], f[3]),
            moved(Watermark::Leader, f[4], f[5]),
            moved(Watermark::Vote, f[6], f[7]),
        ],
        Stage::Keyframe => keyframe(f, 0),
        Stage::KeyframeBackend => keyframe(f, 8),
        _ => Vec::new(),
    }
}

/// The two halves of a keyframe name eight watermarks each, in the order of [`Watermark::ALL`].
fn keyframe(fields: &[u64; 8], first: usize) -> Vec<Change> {
    let waters = Watermark::ALL.iter().skip(first).zip(fields);
    waters.map(|(water, new)| Change { water: *water, old: None, new: *new }).collect()
}
