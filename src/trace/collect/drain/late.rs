//! What the collector keeps although its pass has gone by: the steps of requests that were pinned
//! late, which still stand in the rings, and what kept requests stood behind.

use std::collections::HashSet;

use super::State;
use crate::{
    field, numbers,
    trace::{
        collect::{
            ahead::{self, Ahead, Before, IDS_MAX, round_before},
            cover::Cover,
            history::place,
        },
        id,
        record::{FLAG_KEPT, Head, Kind, Record},
        ring::{self, Reader, Standing},
        stage::{Family, Stage},
    },
};

impl State {
    /// Searches the records still in the rings for requests that were pinned late, and for what
    /// covers them and what they stood behind: all records, or those since the last search.
    pub(super) fn rescan(&mut self, ids: &HashSet<u64>, is_again: bool, now_ns: u64) {
        let mut found = Vec::new();
        let mut late = Cover::default();
        let mut rounds = HashSet::new();
        let ends = self.each_standing(is_again, |standing| {
            if ring::may_be_pinned(standing.id())
                && ids.contains(&standing.id())
                && let Some(record) = standing.record()
            {
                match record.stage() {
                    Some(Stage::RaftEntry | Stage::ApplyEntry) => {
                        late.learn(field!(record, RaftEntry | ApplyEntry, index));
                    }
                    Some(Stage::ReadIndexRound) => _ = rounds.insert(round_before(&record)),
                    _ => (),
                }
                found.push(record);
            }
        });
        // The times in a ring are ticks, and those who learn from records expect nanoseconds.
        for record in &mut found {
            *record = self.finish(*record, true);
            self.learn(record, now_ns);
        }
        rounds.remove(&0);
        let mut before = Vec::new();
        if !late.is_empty() || !rounds.is_empty() {
            let (covering, ahead) = self.covering(is_again, late, (&found, &rounds));
            found.extend(covering);
            before = ahead;
        }
        for (reader, end) in self.readers.iter_mut().zip(ends) {
            reader.searched = end;
        }
        for record in found {
            if !self.history.contains(&place(&record)) {
                self.staging.push(record);
            }
        }
        for Before { record, is_for_ids, .. } in before {
            if !self.history.contains(&place(&record)) {
                self.staging.push(record);
                if is_for_ids {
                    self.name_shared(&record, now_ns);
                }
            }
        }
    }

    /// The steps of loops that cover late entries, and what was before these or before the rounds
    /// of late reads; all with their times as nanoseconds. `own` are the late requests' records.
    fn covering(
        &self,
        is_again: bool,
        mut late: Cover,
        (own, rounds): (&[Record], &HashSet<u64>),
    ) -> (Vec<Record>, Vec<Before>) {
        let (mut found, mut before) = (Vec::new(), Vec::new());
        // Each kind of step is in the ring of one thread, in the order in which they ended.
        let mut ahead = Ahead::default();
        own.iter().for_each(|record| ahead.learn(record));
        self.each_standing(is_again, |standing| {
            let (stage, id) = (standing.stage(), standing.id());
            if stage.is_some_and(|stage| stage.family() == Family::Loop)
                && let Some(record) = standing.record()
            {
                let record = self.finish(record, true);
                let is_covered = late.covers(&record);
                before.extend(ahead.follow(&record, is_covered, is_covered));
                if is_covered {
                    found.push(record);
                }
                let is_round = stage == Some(Stage::ReadIndexRound);
                if is_round && (rounds.contains(&id) || rounds.contains(&record.words[6])) {
                    before.push(Before { record, is_sent: false, is_for_ids: true });
                }
            }
        });
        (found, before)
    }

    /// Looks at every record in the rings, or at those since the last search, and returns up to
    /// which record it looked in each ring.
    fn each_standing(&self, is_again: bool, mut each: impl FnMut(&Standing<'_>)) -> Vec<u64> {
        let from = |reader: &Reader| if is_again { reader.searched } else { 0 };
        let readers = self.readers.iter();
        readers.map(|reader| reader.ring.each_standing(from(reader), &mut each)).collect()
    }

    /// Keeps what kept requests stood behind, and names the requests that it was for.
    pub(super) fn keep_before(
        &mut self,
        before: Vec<Before>,
        now_ns: u64,
        wanted: &mut Vec<Record>,
    ) {
        for Before { mut record, is_sent, is_for_ids } in before {
            let head = record.head();
            record.set_head(Head { flags: head.flags | FLAG_KEPT, ..head });
            self.history.insert(place(&record), record);
            if !is_sent {
                wanted.push(record);
            }
            if is_for_ids {
                self.name_shared(&record, now_ns);
            }
        }
    }

    /// Records the first requests that a step was for, once, unless they are kept anyway.
    fn name_shared(&mut self, step: &Record, now_ns: u64) {
        let ids = ahead::ids(self.readers.iter().map(|reader| &*reader.ring), step);
        if ids.iter().all(|id| *id == 0 || id::kept(*id)) || !self.ahead.is_first_naming(step) {
            return;
        }
        let id = |at: usize| ids.get(at).copied().unwrap_or(0);
        let fields = numbers!(
            Shared,
            step = step.clock(),
            first = id(0),
            second = id(1),
            third = id(2),
            fourth = id(3),
            fifth = id(4),
            sixth = id(IDS_MAX - 1)
        );
        let head = self.own_head(Stage::Shared, Kind::Mark);
        self.staging.push(Record::new(head, ring::next_clock(), now_ns, 0, &fields));
    }
}
