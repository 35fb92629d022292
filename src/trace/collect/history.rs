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
//! records, so no story is kept in part. A request that this member serves and that has not ended
//! does not go: its records wait apart until its end, and the time of the end counts then. The
//! exceptions:
//!
//! * a story that is longer than half of the bound loses its oldest records;
//! * open requests may take [`OPEN_MAX`] records; beyond that the one that began first counts as
//!   ended;
//! * of what a member tells a stream or a watcher again and again, the first and the last records
//!   stay ([`GROWING_MAX`] of each), and the totals with the last.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
};

use super::cover::is_always_wanted;
use crate::{
    field,
    trace::{
        record::{FLAG_KEPT, Kind, Record},
        stage::{Family, Stage},
    },
};

/// How far back everything is remembered, in nanoseconds.
const RECENT_NS: u64 = 10_000_000_000;
/// The most records: 16 MiB.
pub(super) const RECORDS_MAX: usize = 131_072;
/// The most records of open requests: 4 MiB.
pub(super) const OPEN_MAX: usize = RECORDS_MAX / 4;
/// How many of the first, and of the last, records of one stage that grows stay in a story.
const GROWING_MAX: usize = 32;
/// The stages of which a story may have any number: what a member tells a stream or a watcher.
const GROWING: &[Stage] =
    &[Stage::StreamFlow, Stage::ObserveLeader, Stage::WatchProgress, Stage::WatchSend];
/// The field `path` of `watch.send` for a watcher that catches up. Otherwise the record belongs to
/// the story of a write, which is sent to many watchers once.
const CATCH_UP: u64 = 1;
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
    /// The records of open requests.
    open: BTreeMap<OrderKey, Record>,
    /// The open requests, with the place of the beginning of their rpc; and by that place.
    begun: HashMap<u64, OrderKey>,
    by_begin: BTreeMap<OrderKey, u64>,
    /// The places of each request's records, in the order of arrival.
    stories: HashMap<u64, VecDeque<OrderKey>>,
    /// For each repeating stage of a request: how many records came, and where the last ones are.
    growing: HashMap<(u64, Stage), (usize, VecDeque<OrderKey>)>,
    /// Records up to this position are old; of these only stories remain.
    thinned: Option<OrderKey>,
    /// The first second from which the next keyframe is kept.
    keyframe_second: u64,
}

impl History {
    /// The records: those of ended requests and of loops, then those of open requests, each in the
    /// member's order.
    pub(super) fn records(&self) -> impl Iterator<Item = (&OrderKey, &Record)> {
        self.records.iter().chain(&self.open)
    }

    /// Whether a record with this place is remembered.
    pub(super) fn contains(&self, place: &OrderKey) -> bool {
        self.records.contains_key(place) || self.open.contains_key(place)
    }

    /// Remembers a record.
    pub(super) fn insert(&mut self, place: OrderKey, record: Record) {
        if !is_of_request(&record) {
            self.records.insert(place, record);
            return;
        }
        let (id, kind) = (record.id(), record.kind());
        let is_rpc = record.stage() == Some(Stage::Rpc);
        if is_rpc && kind == Some(Kind::Begin) {
            self.open(place, id);
        }
        let is_open = self.begun.contains_key(&id);
        let records = if is_open { &mut self.open } else { &mut self.records };
        if records.insert(place, record).is_none() {
            self.stories.entry(id).or_default().push_back(place);
        }
        if let Some(stage) = growing(&record) {
            self.bound(id, stage, place);
        }
        if is_rpc && kind == Some(Kind::Span) {
            self.close(id);
        }
    }

    /// An rpc has begun, unless its end has come before its beginning.
    fn open(&mut self, place: OrderKey, id: u64) {
        let known = self.stories.get(&id).into_iter().flatten();
        let known: Vec<OrderKey> = known.copied().collect();
        let is_end = |record: &Record| {
            record.stage() == Some(Stage::Rpc) && record.kind() == Some(Kind::Span)
        };
        if known.iter().any(|place| self.records.get(place).is_some_and(is_end)) {
            return;
        }
        self.begun.insert(id, place);
        self.by_begin.insert(place, id);
        for place in known {
            self.open.extend(self.records.remove(&place).map(|record| (place, record)));
        }
    }

    /// A request has ended, or counts as ended.
    fn close(&mut self, id: u64) {
        let Some(place) = self.begun.remove(&id) else { return };
        self.by_begin.remove(&place);
        for place in self.stories.get(&id).into_iter().flatten() {
            self.records.extend(self.open.remove(place).map(|record| (*place, record)));
        }
    }

    /// Of the records of one stage in a story, keeps the first and the last.
    fn bound(&mut self, id: u64, stage: Stage, place: OrderKey) {
        let (count, last) = self.growing.entry((id, stage)).or_default();
        *count += 1;
        if *count <= GROWING_MAX {
            return;
        }
        last.push_back(place);
        if last.len() <= GROWING_MAX {
            return;
        }
        let Some(gone) = last.pop_front() else { return };
        self.records.remove(&gone);
        self.open.remove(&gone);
        if let Some(places) = self.stories.get_mut(&id) {
            places.retain(|place| *place != gone);
        }
    }

    /// Forgets what is too old or too much.
    pub(super) fn trim(&mut self, now_ns: u64) {
        self.thin(now_ns);
        while OPEN_MAX < self.open.len()
            && let Some(id) = self.by_begin.first_key_value().map(|(_, id)| *id)
        {
            self.close(id);
        }
        while RECORDS_MAX < self.records.len() + self.open.len() {
            self.forget_oldest();
        }
    }

    /// Of old records, keeps only those of stories. A key has no date: it is a record of its
    /// request, and goes with it.
    fn thin(&mut self, now_ns: u64) {
        let is_old = |record: &Record| record.words[3] + record.took_ns() + RECENT_NS < now_ns;
        let mut gone = Vec::new();
        let from = self.thinned.map_or(Bound::Unbounded, Bound::Excluded);
        for (place, record) in self.records.range((from, Bound::Unbounded)) {
            if !is_key(record) && !is_old(record) {
                break;
            }
            self.thinned = Some(*place);
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
                for stage in GROWING {
                    self.growing.remove(&(id, *stage));
                }
            }
            _ => _ = self.records.remove(&place),
        }
    }
}

/// The stage of a record of which a story may have any number.
fn growing(record: &Record) -> Option<Stage> {
    let stage = record.stage().filter(|stage| GROWING.contains(stage))?;
    let is_write = stage == Stage::WatchSend && field!(record, WatchSend, path) != CATCH_UP;
    (!is_write).then_some(stage)
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

    /// Goal: what fills the memory of a quiet member is not what it forgets its stories for.
    #[test]
    fn heartbeats_of_hours_do_not_push_out_a_story() {
        let mut history = History::default();
        keep(&mut history, step(1, 1, 7));
        let beats = 2 * RECORDS_MAX as u64;
        for beat in 1..=beats {
            let at_ns = beat * SECOND_NS / 100;
            let heartbeat = record(Stage::RaftSend, Kind::Mark, 0, (1 + beat, at_ns, 0));
            keep(&mut history, heartbeat);
            if beat.is_multiple_of(100) {
                history.trim(at_ns);
            }
        }
        assert_eq!(1, clocks(&history)[0]);
        assert!(history.records.len() < 1200, "{}", history.records.len());
    }

    #[test]
    fn one_keyframe_a_second_is_left() {
        let mut history = History::default();
        for tenth in 0..200 {
            let parts = [Stage::Keyframe, Stage::KeyframeBackend, Stage::KeyframeProcess];
            for (at, stage) in parts.into_iter().enumerate() {
                let clock = 3 * tenth + at as u64;
                let at_ns = tenth * SECOND_NS / 10;
                keep(&mut history, record(stage, Kind::Keyframe, 0, (clock, at_ns, 0)));
            }
            // As often as in a member.
            history.trim(tenth * SECOND_NS / 10);
        }
        history.trim(100 * SECOND_NS);
        let whole = (0..20).flat_map(|second| (0..3).map(move |part| 30 * second + part));
        assert_eq!(clocks(&history), whole.collect::<Vec<u64>>());
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

    fn rpc(kind: Kind, clock: u64, id: u64) -> Record {
        record(Stage::Rpc, kind, FLAG_KEPT, (clock, clock, id))
    }

    /// Goal: an hour-long request keeps its beginning while others fill the memory, and goes with
    /// the others once it has ended.
    #[test]
    fn an_open_request_stays_however_much_comes_after_it() {
        let mut history = History::default();
        keep(&mut history, step(1, 1, 7));
        keep(&mut history, rpc(Kind::Begin, 2, 7));
        keep(&mut history, step(3, 1, 8));
        let most = RECORDS_MAX as u64;
        (4..most + 1000).for_each(|clock| keep(&mut history, step(clock, 1, 1000 + clock)));
        history.trim(1);
        assert_eq!(RECORDS_MAX, history.records().count());
        let of = |history: &History, id| history.records().filter(|(_, r)| r.id() == id).count();
        assert_eq!([2, 0], [7, 8].map(|id| of(&history, id)));
        assert!(history.contains(&place(&step(1, 1, 7))));
        // The end of an rpc has the clock of its beginning.
        let mut end = rpc(Kind::Span, 2, 7);
        end.set_length(most + 2000, 1);
        keep(&mut history, end);
        history.trim(1);
        assert_eq!(0, of(&history, 7), "it is the oldest of those that have ended");
        let mut late = History::default();
        keep(&mut late, end);
        keep(&mut late, rpc(Kind::Begin, 2, 7));
        assert!(late.open.is_empty() && late.begun.is_empty());
    }

    #[test]
    fn open_requests_do_not_fill_the_memory() {
        let mut history = History::default();
        (1..=OPEN_MAX as u64).for_each(|clock| keep(&mut history, rpc(Kind::Begin, clock, clock)));
        history.trim(1);
        assert_eq!((0, OPEN_MAX), (history.records.len(), history.open.len()));
        keep(&mut history, rpc(Kind::Begin, 1 << 40, 1 << 40));
        history.trim(1);
        assert_eq!((1, OPEN_MAX), (history.records.len(), history.open.len()));
        assert_eq!(Some(1), history.records.values().next().map(Record::id));
    }

    /// Goal: a stream of any length keeps its first and its newest records, and no more.
    #[test]
    fn a_stream_of_an_hour_keeps_what_came_first_and_last() {
        let mut history = History::default();
        keep(&mut history, rpc(Kind::Begin, 1, 7));
        let flow = |clock| record(Stage::StreamFlow, Kind::Mark, FLAG_KEPT, (clock, clock, 7));
        (2..10_000).for_each(|clock| keep(&mut history, flow(clock)));
        let clocks: Vec<u64> = history.open.values().map(Record::clock).collect();
        let (first, last) = clocks.split_at(1 + GROWING_MAX);
        assert!(first.iter().eq((1..=33).collect::<Vec<u64>>().iter()), "{first:?}");
        assert!(last.iter().eq((9968..10_000).collect::<Vec<u64>>().iter()), "{last:?}");
        assert_eq!(clocks.len(), history.stories[&7].len());
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
