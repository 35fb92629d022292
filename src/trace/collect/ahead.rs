//! What kept requests stood behind: the work before theirs, and the first requests that it was for.
//!
//! ```text
//!   wal     ├── fsync of 5–9 ──┤├─ fsync of 10 ─┤     entry 10 is kept, and 5 to 9 are not
//!   entry 10       ▲ appended                        so the fsync of 5–9 is kept too
//!   raft    5 6 7 8 9  ◀── the ring still has the ids: trace.shared names the first six
//! ```
//!
//! A loop's step is kept if it covers a kept entry, or is the round of a kept read
//! ([`super::cover`]). What such an entry waits for meanwhile is the step before, which covers
//! others. All steps of loops pass through here in the order in which they ended, so the last few
//! of each kind are at hand when a kept one comes.
//!
//! | kept                      | kept with it: the one before, back to that which was in progress … |
//! |---------------------------|---------------------------------------------------------------------|
//! | `wal.fsync`               | when the first kept entry of the group was appended                 |
//! | `apply.batch`             | when the first kept entry of the batch was handed over              |
//! | `read_index.round`        | when its first read came                                            |
//!
//! The step that had ended by then is kept as well, without requests: it proves that nothing else
//! was in progress. The ids are in the records of entries and reads, which nobody has kept. They
//! are looked up in the rings, in a few dozen steps. Where nothing is kept, nothing is looked up.
//!
//! Left out: the commits of the file, which are kept in any case, and long reads, which have ids of
//! their own.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    change, field, fields,
    trace::{
        THREADS,
        record::{Kind, Record},
        ring::Ring,
        stage::Stage,
    },
};

/// How many steps of each kind are at hand.
const AT_HAND: usize = 32;
/// The most steps that are kept because one kept step stood behind them.
const BEFORE_MAX: usize = 4;
/// Of how many steps it is known that their requests were recorded.
const NAMED_MAX: usize = 1024;
/// The most kept entries whose times are known.
const ENTRIES_MAX: usize = 1024;
/// How many requests a step is kept with.
pub(super) const IDS_MAX: usize = 6;
/// The most records of a ring that are looked at for one step, beside those of the search for the
/// first one.
const LOOKED_AT_MAX: u64 = 512;

/// When an entry of a kept request began to wait, in nanoseconds since the member's start.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    /// Its place in the log.
    appended: Option<u64>,
    /// Its hand-over to apply.
    handed_over: Option<u64>,
}

/// A step that has ended.
#[derive(Clone, Copy, Debug)]
struct Known {
    record: Record,
    /// Whether it has been handed to subscribers.
    is_sent: bool,
    /// Whether its requests have been looked up.
    is_told: bool,
}

/// A step to be kept, because a kept request stood behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// Its record.
    pub(super) record: Record,
    /// Whether subscribers have it.
    pub(super) is_sent: bool,
    /// Whether its requests are to be looked up.
    pub(super) is_for_ids: bool,
}

/// The steps at hand; see the essay of this module.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    steps: BTreeMap<Stage, VecDeque<Known>>,
    entries: BTreeMap<u64, Since>,
    /// The clocks at which the newest steps began whose requests were recorded.
    named: VecDeque<u64>,
}

impl Ahead {
    /// Learns when the entry of a kept request began to wait, from a record of it.
    pub(super) fn learn(&mut self, record: &Record) {
        let at_ns = record.words[3];
        let (index, since) = match record.stage() {
            Some(Stage::RaftEntry) => {
                let since = Since { appended: Some(at_ns), handed_over: None };
                (field!(record, RaftEntry, index), since)
            }
            Some(Stage::ApplyEntry) => {
                let [index, waited] = fields!(record, ApplyEntry: index, waited);
                let handed_over = Some(at_ns.saturating_sub(waited));
                (index, Since { appended: None, handed_over })
            }
            _ => return,
        };
        let known = self.entries.entry(index).or_default();
        known.appended = since.appended.or(known.appended);
        known.handed_over = since.handed_over.or(known.handed_over);
        if ENTRIES_MAX < self.entries.len() {
            self.entries.pop_first();
        }
    }

    /// Notes that the requests of a step are recorded. Whether they had not been: a late search and
    /// the pass that hands over what it found may both come to the same step.
    pub(super) fn is_first_naming(&mut self, step: &Record) -> bool {
        let is_first = !self.named.contains(&step.clock());
        if is_first {
            self.named.push_back(step.clock());
        }
        if NAMED_MAX < self.named.len() {
            self.named.pop_front();
        }
        is_first
    }

    /// Takes in a step, and returns those before it that are to be kept with it. Must be called for
    /// each record, in the order in which they ended.
    pub(super) fn follow(&mut self, record: &Record, is_kept: bool, is_sent: bool) -> Vec<Before> {
        let Some(stage) = record.stage().filter(|stage| is_followed(*stage)) else {
            return Vec::new();
        };
        let before = if is_kept { self.before(stage, record) } else { Vec::new() };
        if record.head().kind == Kind::Span as u8 {
            let steps = self.steps.entry(stage).or_default();
            if AT_HAND <= steps.len() {
                steps.pop_front();
            }
            steps.push_back(Known { record: *record, is_sent, is_told: false });
        }
        before
    }

    /// The steps before this one, the newest first.
    fn before(&mut self, stage: Stage, record: &Record) -> Vec<Before> {
        let since = self.since(stage, record);
        let Some(steps) = self.steps.get_mut(&stage) else { return Vec::new() };
        let mut next = *record;
        let mut found = Vec::new();
        for known in steps.iter_mut().rev() {
            if !is_before(stage, &known.record, &next) {
                continue;
            }
            let end = known.record.words[3] + known.record.took_ns();
            let was_in_progress = since.is_none_or(|since| since < end);
            found.push(Before {
                record: known.record,
                is_sent: known.is_sent,
                is_for_ids: was_in_progress && !known.is_told,
            });
            known.is_sent = true;
            known.is_told |= was_in_progress;
            let is_first = since.is_none_or(|since| known.record.words[3] <= since);
            if is_first || !was_in_progress || BEFORE_MAX <= found.len() {
                break;
            }
            next = known.record;
        }
        found
    }

    /// When the first of the kept entries that a step covers began to wait. `None` for a round,
    /// whose record names the one before, and if no entry is known.
    fn since(&self, stage: Stage, record: &Record) -> Option<u64> {
        let [first, last] = match stage {
            Stage::WalFsync | Stage::ApplyBatch => {
                fields!(record, WalFsync | ApplyBatch: first, last)
            }
            _ => return None,
        };
        if last < first {
            return None;
        }
        let own = self.entries.range(first..=last).map(|(_, since)| since);
        own.filter_map(|since| match stage {
            Stage::WalFsync => since.appended,
            _ => since.handed_over,
        })
        .min()
    }
}

/// Whether steps of this stage are looked at.
fn is_followed(stage: Stage) -> bool {
    matches!(stage, Stage::WalFsync | Stage::ApplyBatch | Stage::ReadIndexRound)
}

/// Whether a step is the one before another.
fn is_before(stage: Stage, before: &Record, record: &Record) -> bool {
    match stage {
        Stage::WalFsync => {
            let [old, new] = change!(before, WalFsync, synced);
            old != new && new == change!(record, WalFsync, synced)[0]
        }
        Stage::ApplyBatch => {
            let last = field!(before, ApplyBatch, last);
            last.saturating_add(1) == field!(record, ApplyBatch, first)
        }
        // Each attempt of a round is linked to the first.
        _ => {
            let id = field!(record, ReadIndexRound, before);
            id != 0 && (before.id() == id || before.words[6] == id)
        }
    }
}

/// The id of the round before this one; 0 if there was none, or this is no round.
pub(super) fn round_before(record: &Record) -> u64 {
    field!(record, ReadIndexRound, before)
}

/// The first requests that a step was for, as far as these rings still tell; of entries, by their
/// place, with 0 where none is known.
pub(super) fn ids<'a>(rings: impl Iterator<Item = &'a Ring>, step: &Record) -> Vec<u64> {
    let is_of = |ring: &Ring, name: &str| THREADS.get(usize::from(ring.thread)) == Some(&name);
    match step.stage() {
        Some(Stage::WalFsync | Stage::ApplyBatch) => {
            let [first, last] = fields!(step, WalFsync | ApplyBatch: first, last);
            let raft = rings.filter(|ring| is_of(ring, "raft"));
            raft.map(|ring| of_entries(ring, first, last)).find(|ids| ids.iter().any(|id| *id != 0))
        }
        Some(Stage::ReadIndexRound) => {
            let round = if step.words[6] == 0 { step.id() } else { step.words[6] };
            let grpc = rings.filter(|ring| is_of(ring, "grpc"));
            let mut ids: Vec<u64> =
                grpc.flat_map(|ring| of_round(ring, round, step.clock_end())).collect();
            ids.truncate(IDS_MAX);
            Some(ids)
        }
        _ => None,
    }
    .unwrap_or_default()
}

/// The requests of the first entries of a range, 0 where none is known. Entries enter the log in
/// order.
fn of_entries(ring: &Ring, first: u64, last: u64) -> Vec<u64> {
    let entries = |number| {
        let records = ring.records(number);
        let entries = records.filter(|record| record.stage() == Some(Stage::RaftEntry));
        entries.map(|record| (field!(record, RaftEntry, index), record.id()))
    };
    let is_below = |number| entries(number).last().map(|(index, _)| index < first);
    let begin = search(ring, is_below);
    // By the place in the range: an entry that belongs to no request leaves its place empty.
    let mut ids = vec![0; IDS_MAX];
    let end = ring.head().min(begin + LOOKED_AT_MAX);
    for (index, id) in (begin..end).flat_map(entries).filter(|(index, _)| first <= *index) {
        match usize::try_from(index - first).ok().and_then(|place| ids.get_mut(place)) {
            Some(place) if index <= last => *place = id,
            _ => break,
        }
    }
    ids
}

/// The first reads that waited for a round, which ended at this clock.
fn of_round(ring: &Ring, round: u64, clock: u64) -> Vec<u64> {
    let begin = search(ring, |number| Some(ring.get(number).ok()?.clock_end() < clock));
    let mut ids = Vec::new();
    for number in begin..ring.head().min(begin + LOOKED_AT_MAX) {
        if let Ok(record) = ring.get(number)
            && record.stage() == Some(Stage::ReadIndexWait)
            && record.head().kind == Kind::Span as u8
            && field!(record, ReadIndexWait, round) == round
        {
            ids.push(record.id());
            if IDS_MAX <= ids.len() {
                break;
            }
        }
    }
    ids
}

/// The number of the first record of a ring that does not lie below, by halving. `is_below` says
/// nothing of some records: then the next one that it knows decides.
fn search(ring: &Ring, is_below: impl Fn(u64) -> Option<bool>) -> u64 {
    let (mut low, mut high) = (ring.oldest(), ring.head());
    while low < high {
        let middle = low + (high - low) / 2;
        let known = (middle..high).take(usize::try_from(LOOKED_AT_MAX).unwrap_or(usize::MAX));
        match known.map(|number| (number, is_below(number))).find_map(|(at, is)| Some((at, is?))) {
            Some((at, true)) => low = at + 1,
            Some((_, false)) | None => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests;
