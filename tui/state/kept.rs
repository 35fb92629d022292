//! How far the entry of a story had come on a member at the cursor.
//!
//! An index alone proves nothing: two members may hold different entries at it, until the new
//! leader's replaces the other. So a member has the entry only from its own `raft.entry` of that
//! term and index on, or if it knows that everything up to the index is committed. What a disk has
//! confirmed outlives the process: a member that starts again still has it, although its records do
//! not say so yet.

use glass_etcd::{
    change, fields,
    story::{Event, Recording},
    trace::Stage,
};

use super::watermarks::{Moment, Water, Watermarks, moment};

/// The progress of the entry on one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Unknown,
    No,
    Written,
    Synced,
    InFile,
}

impl Kept {
    /// Whether a power failure cannot take it away.
    pub(crate) fn is_safe(self) -> bool {
        matches!(self, Kept::Synced | Kept::InFile)
    }
}

/// A story's entry, and what each member's log had at its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    /// Its term and index.
    pub(crate) entry: (u64, u64),
    /// For each member, by position, in the order of its clock.
    members: Vec<Vec<Known>>,
}

/// An entry that a member's log got at the index, or the end of one that it had there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    moment: Moment,
    /// The entry's term; 0 where the log was cut off.
    term: u64,
}

impl Log {
    /// Reads a recording once.
    pub(crate) fn of(recording: &Recording, entry: (u64, u64)) -> Log {
        let mut members = vec![Vec::new(); recording.members.len()];
        for event in &recording.events {
            if let Some(own) = members.get_mut(usize::from(event.member))
                && let Some(term) = term_at(event, entry.1)
            {
                own.push(Known { moment: moment(event), term });
            }
        }
        members.iter_mut().for_each(|own| own.sort_by_key(|known| known.moment));
        Log { entry, members }
    }

    /// The progress on a member that has come to this moment. `marks` are its watermarks at any
    /// moment; `knows` says whether it knows that the entry is committed.
    pub(crate) fn kept(
        &self,
        (place, cut): (u8, Moment),
        marks: impl Fn(Moment) -> Watermarks,
        knows: bool,
    ) -> Kept {
        let (term, index) = self.entry;
        let now = progress(&marks(cut), index);
        let known = &self.members[usize::from(place)];
        match known.iter().rfind(|known| known.moment <= cut) {
            Some(known) if known.term == term => {
                // A start knows less of the disk than the one before.
                let last = |boot| progress(&marks((boot, u64::MAX)), index);
                let before = (known.moment.0..cut.0).map(last).filter(|kept| kept.is_safe()).last();
                before.filter(|_| now != Kept::InFile).unwrap_or(now)
            }
            // Another entry is there, or none.
            Some(_) => Kept::No,
            None if known.iter().any(|known| known.term == term) => Kept::No,
            None if knows => now,
            None if matches!(now, Kept::No | Kept::Written) => Kept::No,
            None => Kept::Unknown,
        }
    }

    /// Whether a later leader's entry is at the index, on any member at its moment.
    pub(crate) fn is_replaced(&self, cut: impl Fn(u8) -> Option<Moment>) -> bool {
        self.members.iter().zip(0_u8..).any(|(known, place)| {
            let Some(cut) = cut(place) else { return false };
            known.iter().any(|known| self.entry.0 < known.term && known.moment <= cut)
        })
    }

    /// Whether the event is the application of the entry.
    pub(crate) fn is_applied_by(&self, event: &Event) -> bool {
        event.stage == Stage::ApplyEntry
            && fields!(event, ApplyEntry: term, index) == [self.entry.0, self.entry.1]
    }
}

/// The term that the member has at this index from this event on; `None` if it says nothing of it.
fn term_at(event: &Event, index: u64) -> Option<u64> {
    match event.stage {
        Stage::RaftEntry => {
            let [term, at] = fields!(event, RaftEntry: term, index);
            (at == index).then_some(term)
        }
        Stage::LogTruncate => {
            let [old, new] = change!(event, LogTruncate, last);
            (new < index && index <= old).then_some(0)
        }
        _ => None,
    }
}

fn progress(marks: &Watermarks, index: u64) -> Kept {
    let reaches = |water| marks.reaches(water, index);
    match (reaches(Water::Stored), reaches(Water::Synced), reaches(Water::Written)) {
        (Some(true), _, _) => Kept::InFile,
        (_, Some(true), _) => Kept::Synced,
        (_, None, _) => Kept::Unknown,
        (_, Some(false), Some(true)) => Kept::Written,
        (_, Some(false), _) => Kept::No,
    }
}
