//! Where a member stands: role, term, and how far each part of it has come.
//!
//! Events that change a watermark carry its old and its new value, and keyframes repeat all of
//! them. So what held at a cursor is the newest value at or before it; and where nothing came
//! before, the *old* value of the first change after it. What neither of them tells is unknown,
//! and is shown as unknown.

use std::cmp::Ordering;

use glass_etcd::trace::{Event, Kind, Recording, Stage, Unit, order};

/// One thing that is known of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Water {
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
}

impl Water {
    /// All of them, in the order in which screens list them.
    pub(crate) const ALL: [Water; 16] = [
        Water::Role,
        Water::Term,
        Water::Commit,
        Water::Applied,
        Water::Revision,
        Water::Leader,
        Water::Written,
        Water::Synced,
        Water::Stored,
        Water::StoredRevision,
        Water::Active,
        Water::Frozen,
        Water::Vote,
        Water::Seen,
        Water::Kept,
        Water::Dropped,
    ];

    /// Its name on the screen, and what it counts.
    pub(crate) const fn named(self) -> (&'static str, Unit) {
        match self {
            Water::Role => ("role", Unit::Role),
            Water::Term => ("term", Unit::Term),
            Water::Commit => ("commit", Unit::Index),
            Water::Applied => ("applied", Unit::Index),
            Water::Revision => ("rev", Unit::Revision),
            Water::Leader => ("leader", Unit::Member),
            Water::Written => ("wal written", Unit::Index),
            Water::Synced => ("wal synced", Unit::Index),
            Water::Stored => ("file has", Unit::Index),
            Water::StoredRevision => ("file rev", Unit::Revision),
            Water::Active => ("buffer", Unit::Count),
            Water::Frozen => ("frozen", Unit::Count),
            Water::Vote => ("vote", Unit::Member),
            Water::Seen => ("requests", Unit::Count),
            Water::Kept => ("kept", Unit::Count),
            Water::Dropped => ("dropped", Unit::Count),
        }
    }
}

/// A place in a member's time: its boot, and its clock.
pub(crate) type Moment = (u16, u64);

/// Where on its member's clock an event takes effect, as the order of playback has it.
pub(crate) fn moment(event: &Event) -> Moment {
    (event.boot, order::point(event))
}

/// One watermark that an event sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Which.
    pub(crate) water: Water,
    /// What it was, if the event says so.
    pub(crate) old: Option<u64>,
    /// What it is now.
    pub(crate) new: u64,
}

/// The watermarks that an event sets.
pub(crate) fn changes(event: &Event) -> Vec<Change> {
    if event.kind == Kind::Begin {
        return Vec::new();
    }
    let f = &event.fields;
    let moved = |water, old, new| Change { water, old: Some(old), new };
    let is = |water, new| Change { water, old: None, new };
    match event.stage {
        Stage::WalWrite => vec![moved(Water::Written, f[2], f[3])],
        Stage::WalFsync => vec![moved(Water::Synced, f[2], f[3])],
        Stage::RaftCommit => vec![moved(Water::Commit, f[1], f[2]), is(Water::Term, f[0])],
        Stage::ApplyEntry => vec![moved(Water::Applied, f[2], f[3])],
        Stage::MvccWrite => vec![moved(Water::Revision, f[0], f[1])],
        Stage::BufferPut => vec![moved(Water::Active, f[0], f[1])],
        Stage::BufferFreeze => vec![is(Water::Active, 0), is(Water::Frozen, f[0])],
        Stage::BackendCommit => vec![
            moved(Water::Stored, f[0], f[1]),
            moved(Water::StoredRevision, f[2], f[3]),
            is(Water::Frozen, 0),
        ],
        Stage::ElectionCampaign if f[0] == 0 => vec![moved(Water::Term, f[1], f[2])],
        Stage::RaftRole => vec![
            moved(Water::Role, f[0], f[1]),
            moved(Water::Term, f[2], f[3]),
            moved(Water::Leader, f[4], f[5]),
            moved(Water::Vote, f[6], f[7]),
        ],
        Stage::Keyframe => keyframe(f, 0),
        Stage::KeyframeBackend => keyframe(f, 8),
        _ => Vec::new(),
    }
}

/// The two halves of a keyframe name eight watermarks each, in the order of [`Water::ALL`].
fn keyframe(fields: &[u64; 8], first: usize) -> Vec<Change> {
    let waters = Water::ALL.iter().skip(first).zip(fields);
    waters.map(|(water, new)| Change { water: *water, old: None, new: *new }).collect()
}

/// What is known of one member at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermarks {
    values: [Option<(Moment, u64)>; Water::ALL.len()],
    /// The newest event that has been taken in.
    pub(crate) newest: Option<Moment>,
    /// When that was on the wall, in nanoseconds since 1970.
    pub(crate) heard_wall_ns: Option<u64>,
}

impl Watermarks {
    /// Takes in one event. Events may come in any order: the newest of each watermark holds.
    pub(crate) fn learn(&mut self, event: &Event, wall_ns: u64) {
        let at = moment(event);
        self.newest = self.newest.max(Some(at));
        self.heard_wall_ns = self.heard_wall_ns.max(Some(wall_ns));
        for change in changes(event) {
            let slot = &mut self.values[change.water as usize];
            if slot.is_none_or(|(known, _)| known <= at) {
                *slot = Some((at, change.new));
            }
        }
    }

    /// The value, unless nothing is known of it since the member's last start.
    pub(crate) fn get(&self, water: Water) -> Option<u64> {
        let (known, value) = self.values[water as usize]?;
        let boot = self.newest.map_or(known.0, |newest| newest.0);
        (known.0 == boot).then_some(value)
    }
}

/// What held on one member once everything up to `cut` had happened.
pub(crate) fn at(recording: &Recording, member: u8, cut: Moment) -> Watermarks {
    let mut marks = Watermarks::default();
    let mut after: [Option<(Moment, u64)>; Water::ALL.len()] = [None; Water::ALL.len()];
    for event in recording.events.iter().filter(|event| event.member == member) {
        if moment(event).cmp(&cut) != Ordering::Greater {
            marks.learn(event, wall(recording, event));
            continue;
        }
        for change in changes(event) {
            let (Some(old), at) = (change.old, moment(event)) else { continue };
            let slot = &mut after[change.water as usize];
            if at.0 == cut.0 && slot.is_none_or(|(known, _)| at < known) {
                *slot = Some((at, old));
            }
        }
    }
    for (known, later) in marks.values.iter_mut().zip(after) {
        let is_stale = known.is_none_or(|(known, _)| known.0 < cut.0);
        if let (true, Some((_, old))) = (is_stale, later) {
            *known = Some((cut, old));
        }
    }
    marks.newest = marks.newest.max(Some((cut.0, 0)));
    marks
}

/// When an event took effect, in nanoseconds since 1970, by its own member's clock.
pub(crate) fn wall(recording: &Recording, event: &Event) -> u64 {
    let member = recording.members.get(usize::from(event.member));
    let boot = member.and_then(|member| member.boots.iter().find(|boot| boot.boot == event.boot));
    let took = if order::point(event) == event.clock { 0 } else { event.took_ns };
    boot.map_or(0, |boot| boot.wall_ns).saturating_add(event.at_ns).saturating_add(took)
}
