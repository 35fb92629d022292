//! What a member remembers of its stories, for viewers that come later.
//!
//! ```text
//!   16 MiB of stories                                   the last ten seconds
//!   ├ whole stories, a keyframe each second ┼ everything that was wanted, heartbeats too ┤ now
//!   ▲ the oldest story goes first
//! ```
//!
//! In the last [`RECENT_NS`] everything that was wanted stays. Older records stay only if they
//! belong to a story: those of kept requests, the loops that cover them, elections, commits of the
//! file, losses, the usual durations, and one keyframe a second, so that the state beside a story
//! is known.
//!
//! Invariants: at most [`RECORDS_MAX`] records; beyond that the oldest story goes, with all its
//! records, so no story is kept in part. One exception: a story that is longer than half of the
//! bound loses its oldest records.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::cover::is_always_wanted;
use crate::trace::{
    record::{FLAG_KEPT, Kind, Record},
    stage::{Family, Stage},
};

/// How far back everything is remembered, in nanoseconds.
const RECENT_NS: u64 = 10_000_000_000;
/// The most records: 16 MiB.
pub(super) const RECORDS_MAX: usize = 131_072;
const SECOND_NS: u64 = 1_000_000_000;

/// A record's unique place in the member's order: end clock, clock, kind, stage.
pub(super) type OrderKey = (u64, u64, u8, u8);

/// The place of a record.
pub(super) fn place(record: &Record) -> OrderKey {
    let head = record.head();
    (record.clock_end(), record.clock(), head.kind, head.stage)
}

/// The remembered records.
#[derive(Default)]
pub(super) struct History {
    records: BTreeMap<OrderKey, Record>,
    /// The places of each request's records, in the order of arrival.
    stories: HashMap<u64, VecDeque<OrderKey>>,
    /// Records before this position are old; of these only stories remain.
    thinned: OrderKey,
    /// The first second from which the next keyframe is kept.
    keyframe_second: u64,
}

impl History {
    /// The records, in the member's order.
    pub(super) fn records(&self) -> impl Iterator<Item = (&OrderKey, &Record)> {
        self.records.iter()
    }

    /// Whether a record with this place is remembered.
    pub(super) fn contains(&self, place: &OrderKey) -> bool {
        self.records.contains_key(place)
    }

    /// Remembers a record.
    pub(super) fn insert(&mut self, place: OrderKey, record: Record) {
        if self.records.insert(place, record).is_none() && is_of_request(&record) {
            self.stories.entry(record.id()).or_default().push_back(place);
        }
    }

    /// Forgets what is too old or too much.
    pub(super) fn trim(&mut self, now_ns: u64) {
        self.thin(now_ns);
        while RECORDS_MAX < self.records.len() {
            self.forget_oldest();
        }
    }

    /// Of old records, keeps only those of stories. A key has no date: it is a record of its
    /// request, and goes with it.
    fn thin(&mut self, now_ns: u64) {
        let is_old = |record: &Record| record.words[3] + record.took_ns() + RECENT_NS < now_ns;
        let mut gone = Vec::new();
        for (place, record) in self.records.range(self.thinned..) {
            if !is_key(record) && !is_old(record) {
                break;
            }
            self.thinned = *place;
            let second = record.words[3] / SECOND_NS;
            let is_first = is_keyframe(record) && self.keyframe_second <= second;
            if is_first && record.stage() == Some(Stage::KeyframeProcess) {
                // The last part of a keyframe.
                self.keyframe_second = second + 1;
            }
            if !is_first && !is_of_story(record) {
                gone.push(*place);
            }
        }
        for place in gone {
            self.records.remove(&place);
        }
    }

    fn forget_oldest(&mut self) {
        let Some((place, record)) = self.records.first_key_value() else { return };
        let (place, id) = (*place, record.id());
        let story = self.stories.get_mut(&id);
        match story {
            Some(places) if is_of_request(record) && RECORDS_MAX / 2 < places.len() => {
                // Mostly the oldest has arrived first; a search through all would be quadratic.
                match places.front() == Some(&place) {
                    true => _ = places.pop_front(),
                    false => places.retain(|other| *other != place),
                }
                self.records.remove(&place);
            }
            Some(_) if is_of_request(record) => {
                for place in self.stories.remove(&id).unwrap_or_default() {
                    self.records.remove(&place);
                }
            }
            _ => _ = self.records.remove(&place),
        }
    }
}

fn is_key(record: &Record) -> bool {
    record.head().kind == Kind::Key as u8
}

fn is_keyframe(record: &Record) -> bool {
    record.head().kind == Kind::Keyframe as u8
}

fn is_of_request(record: &Record) -> bool {
    record.id() != 0 && record.stage().is_some_and(|stage| stage.family() == Family::Request)
}

/// Whether a record belongs to a story, and so stays when it is old.
fn is_of_story(record: &Record) -> bool {
    let is_kept = record.head().flags & FLAG_KEPT != 0;
    is_key(record)
        || is_kept
        || record.stage() == Some(Stage::Usual)
        || (!is_keyframe(record) && is_always_wanted(record))
        || is_of_request(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Head;

    fn record(stage: Stage, kind: Kind, flags: u8, (clock, at_ns, id): (u64, u64, u64)) -> Record {
        let head = Head { stage: stage as u8, kind: kind as u8, flags, ..Head::default() };
        Record::new(head, clock, at_ns, id, &[0; 8])
    }

    fn step(clock: u64, at_ns: u64, id: u64) -> Record {
        record(Stage::Rpc, Kind::Mark, FLAG_KEPT, (clock, at_ns, id))
    }

    fn keep(history: &mut History, record: Record) {
        history.insert(place(&record), record);
    }

    fn clocks(history: &History) -> Vec<u64> {
        history.records().map(|(_, record)| record.clock()).collect()
    }

    #[test]
    fn of_old_records_only_stories_are_left() {
        let mut history = History::default();
        keep(&mut history, Record::key(1, 7, 0, b"a key"));
        keep(&mut history, step(2, SECOND_NS, 7));
        // A heartbeat of a quiet time, and what covered the request.
        keep(&mut history, record(Stage::RaftSend, Kind::Mark, 0, (3, SECOND_NS, 0)));
        keep(&mut history, record(Stage::WalFsync, Kind::Span, FLAG_KEPT, (4, SECOND_NS, 0)));
        keep(&mut history, record(Stage::RaftRole, Kind::Mark, 0, (5, SECOND_NS, 0)));
        keep(&mut history, record(Stage::RaftSend, Kind::Mark, 0, (6, 9 * SECOND_NS, 0)));
        history.trim(10 * SECOND_NS);
        assert_eq!(clocks(&history), [1, 2, 3, 4, 5, 6]);
        history.trim(12 * SECOND_NS);
        assert_eq!(clocks(&history), [1, 2, 4, 5, 6]);
        history.trim(100 * SECOND_NS);
        assert_eq!(clocks(&history), [1, 2, 4, 5]);
    }

    #[test]
    fn one_keyframe_a_second_is_left() {
        let mut history = History::default();
        for tenth in 0..30 {
            let parts = [Stage::Keyframe, Stage::KeyframeBackend, Stage::KeyframeProcess];
            for (at, stage) in parts.into_iter().enumerate() {
                let clock = 3 * tenth + at as u64;
                let at_ns = tenth * SECOND_NS / 10;
                keep(&mut history, record(stage, Kind::Keyframe, 0, (clock, at_ns, 0)));
            }
        }
        history.trim(100 * SECOND_NS);
        assert_eq!(clocks(&history), [0, 1, 2, 30, 31, 32, 60, 61, 62]);
    }

    /// Goal: beyond the bound the oldest story goes as a whole, though its last record is younger
    /// than the first of the next story.
    #[test]
    fn beyond_the_bound_the_oldest_story_goes_as_a_whole() {
        let mut history = History::default();
        let most = RECORDS_MAX as u64;
        keep(&mut history, step(1, 1, 7));
        keep(&mut history, step(2, 1, 8));
        keep(&mut history, step(3, 1, 7));
        (4..=most).for_each(|clock| keep(&mut history, step(clock, 1, 1000 + clock)));
        history.trim(1);
        assert_eq!(history.records.len(), RECORDS_MAX);
        keep(&mut history, step(most + 1, 1, 9));
        history.trim(1);
        assert_eq!(clocks(&history)[..2], [2, 4]);
        assert_eq!(history.records.len(), RECORDS_MAX - 1);
        assert!(!history.stories.contains_key(&7));
    }

    #[test]
    fn a_story_beyond_half_of_the_bound_loses_its_oldest_records_only() {
        let mut history = History::default();
        let most = RECORDS_MAX as u64;
        (1..=most + 3).for_each(|clock| keep(&mut history, step(clock, 1, 7)));
        history.trim(1);
        assert_eq!((clocks(&history)[0], history.records.len()), (4, RECORDS_MAX));
    }
}
