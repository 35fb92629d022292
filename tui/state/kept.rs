//! How far the entry of a story had come on a member at the cursor.
//!
//! An index alone proves nothing: two members may hold different entries at it, until the new
//! leader's replaces the other. So a member has the entry only from its own `raft.entry` of that
//! term and index on, or if it knows that everything up to the index is committed. What a disk has
//! confirmed outlives the process: a member that starts again still has it, although its records do
//! not say so yet.

use glass_etcd::{
    change, field, fields,
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
pub(crate) struct Known {
    pub(crate) moment: Moment,
    /// The entry's term; 0 where the log was cut off.
    pub(crate) term: u64,
}

/// What each member's log got and lost, at every index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Logs {
    /// For each member, by position, in the order of its clock.
    members: Vec<Vec<Told>>,
}

/// What one record says about a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    known: Known,
    /// The first and the last index of which it holds.
    first: u64,
    last: u64,
    /// The term of the entry that is at the first index afterwards.
    by: u64,
}

impl Logs {
    /// Reads a recording once.
    pub(crate) fn of(recording: &Recording) -> Logs {
        let mut members = vec![Vec::new(); recording.members.len()];
        for event in &recording.events {
            if let Some(own) = members.get_mut(usize::from(event.member)) {
                own.extend(told(event));
            }
        }
        for own in &mut members {
            own.sort_by_key(|told| told.known.moment);
            cut_first(own);
        }
        Logs { members }
    }

    /// What each member's log had at the index of an entry.
    pub(crate) fn at(&self, entry: (u64, u64)) -> Log {
        let at = |own: &Vec<Told>| {
            let own = own.iter().filter(|told| (told.first..=told.last).contains(&entry.1));
            own.map(|told| told.known).collect()
        };
        Log { entry, members: self.members.iter().map(at).collect() }
    }

    /// The entries that a member's log had got by this moment, as index and term. Some of them may
    /// have been cut off since.
    pub(crate) fn got(&self, place: u8, cut: Moment) -> impl Iterator<Item = (u64, u64)> {
        let own = self.members.get(usize::from(place)).map_or(&[][..], Vec::as_slice);
        let own = own.iter().take_while(move |told| told.known.moment <= cut);
        own.filter(|told| told.known.term != 0).map(|told| (told.first, told.known.term))
    }
}

impl Log {
    /// What the member's log got at the index, up to this moment.
    pub(crate) fn known(&self, place: u8, cut: Moment) -> &[Known] {
        let known = self.members.get(usize::from(place)).map_or(&[][..], Vec::as_slice);
        &known[..known.partition_point(|known| known.moment <= cut)]
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

/// What the event says about the log of its member, if it does.
fn told(event: &Event) -> Option<Told> {
    let moment = moment(event);
    match event.stage {
        Stage::RaftEntry => {
            let [term, index] = fields!(event, RaftEntry: term, index);
            Some(Told { known: Known { moment, term }, first: index, last: index, by: term })
        }
        Stage::LogTruncate => {
            let [old, new] = change!(event, LogTruncate, last);
            let (first, by) = (new.saturating_add(1), field!(event, LogTruncate, term));
            let known = Known { moment, term: 0 };
            (new < old).then_some(Told { known, first, last: old, by })
        }
        _ => None,
    }
}

/// Members of earlier versions recorded new entries first, and then that old ones were cut off for
/// them.
fn cut_first(own: &mut [Told]) {
    for at in (0..own.len()).filter(|at| own[*at].known.term == 0).collect::<Vec<_>>() {
        let cut = own[at];
        let mut first = at;
        while 0 < first
            && own[first - 1].known.term != 0
            && (first == at || own[first - 1].first.checked_add(1) == Some(own[first].first))
        {
            first -= 1;
            if (own[first].first, own[first].known.term) == (cut.first, cut.by) {
                own[at].known.moment = own[first].known.moment;
                own[first..=at].rotate_right(1);
                break;
            }
        }
    }
}

/// How far a log, whose entry at the index is the one that is meant, has it on disk.
pub(crate) fn progress(marks: &Watermarks, index: u64) -> Kept {
    let reaches = |water| marks.reaches(water, index);
    match (reaches(Water::Stored), reaches(Water::Synced), reaches(Water::Written)) {
        (Some(true), _, _) => Kept::InFile,
        (_, Some(true), _) => Kept::Synced,
        (_, None, _) => Kept::Unknown,
        (_, Some(false), Some(true)) => Kept::Written,
        (_, Some(false), _) => Kept::No,
    }
}

#[cfg(test)]
mod tests {
    use glass_etcd::set;

    use super::*;

    fn entry(clock: u64, term: u64, index: u64) -> Event {
        let mut event = Event::mark(0, Stage::RaftEntry, clock);
        set!(event, RaftEntry, term = term, index = index);
        event
    }

    /// Goal: the entries that replace others stay, in whichever order the member recorded both; and
    /// equal indexes of older terms are cut off.
    #[test]
    fn what_replaces_an_entry_is_not_cut_off_with_it() {
        let cut = |clock| {
            let mut event = Event::mark(0, Stage::LogTruncate, clock);
            set!(event, LogTruncate, last_old = 11, last_new = 9, term = 3);
            event
        };
        let old = || vec![entry(1, 2, 10), entry(2, 2, 11)];
        let new_first = vec![entry(3, 3, 10), entry(4, 3, 11), cut(5)];
        let cut_first = vec![cut(3), entry(4, 3, 10), entry(5, 3, 11)];
        for events in [new_first, cut_first] {
            let events = old().into_iter().chain(events).collect();
            let mut recording = Recording { events, ..Recording::default() };
            recording.members.push(crate::state::scenes::put().recording.members.remove(0));
            for index in [10, 11] {
                let log = Logs::of(&recording).at((3, index));
                let terms: Vec<u64> = log.known(0, (1, 9)).iter().map(|known| known.term).collect();
                assert_eq!(terms, [2, 0, 3], "at {index}");
            }
        }
    }
}
