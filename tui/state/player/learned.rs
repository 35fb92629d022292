//! What the player remembers of events that it has dropped.

use std::collections::BTreeMap;

use glass_etcd::{
    story::{Event, Memberships, Recording},
    trace::Stage,
};

use super::{
    super::{
        links::Links,
        story::{RequestSummary, Subject},
        watermarks::{self, Water, Watermarks},
    },
    State,
};

/// Facts that the player keeps after it has dropped the events.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The newest watermarks of each member, by position.
    pub(super) marks: Vec<Watermarks>,
    /// What the members said about their links.
    pub(super) links: Links,
    /// Who the members are.
    pub(super) memberships: Memberships,
    /// For each boot of a member, how many requests it had finished in its first keyframe.
    pub(super) seen_first: BTreeMap<(u8, u16), u64>,
}

impl Learned {
    /// Learns from the next event.
    pub(super) fn learn(&mut self, recording: &Recording, event: &Event) {
        self.links.learn(event, i128::from(watermarks::wall(recording, event)));
        self.memberships.learn(event);
        self.marks.resize_with(recording.members.len(), Watermarks::default);
        let Some(marks) = self.marks.get_mut(usize::from(event.member)) else { return };
        marks.learn(event, watermarks::wall(recording, event));
        if event.stage == Stage::KeyframeBackend
            && let Some(seen) = marks.get(Water::Seen)
        {
            self.seen_first.entry((event.member, event.boot)).or_insert(seen);
        }
    }
}

impl State {
    /// How many requests are shown, and how many the members finished meanwhile, where keyframes or
    /// messages say so.
    pub(crate) fn thinning(&self) -> (usize, Option<u64>) {
        let of_keyframes = |((place, boot), first): (&(u8, u16), &u64)| {
            let marks = self.learned.marks.get(usize::from(*place))?;
            let is_newest = marks.newest.is_some_and(|newest| newest.0 == *boot);
            is_newest
                .then(|| marks.get(Water::Seen))
                .flatten()
                .map(|seen| seen.saturating_sub(*first))
        };
        let seen = if self.learned.seen_first.is_empty() {
            let live: BTreeMap<Option<u8>, u64> =
                self.memory.seen().iter().map(|seen| (seen.member, seen.finished)).collect();
            Some(live.values().sum()).filter(|seen| *seen != 0)
        } else {
            Some(self.learned.seen_first.iter().filter_map(of_keyframes).sum())
        };
        let is_request = |row: &&RequestSummary| matches!(row.subject, Subject::Request(_));
        (self.list.rows.iter().filter(is_request).count(), seen)
    }
}
