//! Under load: the `raft.entry` marks of four entries in one record of the ring.
//!
//! ```text
//!   entries   7    8    9    10        11 (kept)    12 …
//!            └── one record ───┘    its own record   the next
//! ```
//!
//! Every entry leaves a mark on every member, so these are the records that a busy cluster writes
//! most, and hardly any of them is ever wanted. A ring that writes a quarter of them reaches back
//! as far with a quarter of the memory, and so takes less of the processor's caches.
//!
//! Nothing is lost: [`Ring::records`] makes the four marks again, each with its own clock. They
//! share the tick, which is that of the raft thread's turn.
//!
//! Invariants: a pack stands only in a ring, and a reader of a ring unpacks it; only
//! requests that nobody has chosen are packed, so the collector's notes never name a pack.
//!
//! | word | content |
//! |------|---------|
//! | 1    | the head of a mark, with the kind [`PACKED`] |
//! | 2, 3 | clock of the first entry; raw tick |
//! | 4    | how many entries |
//! | 5    | id of the first request |
//! | 6, 7 | index of the first entry; term |
//! | 8–10 | ids of the other requests |
//! | 11, 12 | bytes of the entries, 32 bits each |
//! | 13, 14 | how long each message had waited, 32 bits of nanoseconds each |

use super::{CLOCK, Ordering, is_brief_about, is_capturing, raw_clock, with_own};
use crate::{
    numbers,
    trace::{
        record::{Head, Kind, Record, WORDS},
        stage::Stage,
    },
};

/// The kind of a record that holds several marks.
pub(super) const PACKED: u8 = u8::MAX;
/// Entries in one record.
const ENTRIES: usize = 4;

/// An entry that has come into the log.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry {
    /// The id of its request; 0 if it has none.
    pub id: u64,
    /// Its term.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// Bytes of its data.
    pub bytes: u64,
    /// Nanoseconds that the message that brought it had waited; 0 for one of this member's own.
    pub waited_ns: u64,
}

/// Marks the entries that come into the log, in the order of their indexes.
#[derive(Debug, Default)]
pub struct EntryMarks {
    waiting: [Option<NewEntry>; ENTRIES],
    len: usize,
}

impl EntryMarks {
    /// Takes an entry whose mark shares a record with those of its neighbours. False if it does
    /// not: then the caller marks it, after those before it, which are marked here.
    pub fn takes(&mut self, entry: NewEntry) -> bool {
        let is_packed = is_brief_about(entry.id) && entry.id != 0 && is_small(&entry);
        if is_packed {
            self.pack(entry);
        } else {
            self.flush();
        }
        is_packed
    }

    /// Adds an entry to the present pack, or begins a new one.
    pub(in crate::trace) fn pack(&mut self, entry: NewEntry) {
        let follows = |last: NewEntry| {
            last.term == entry.term && last.index.checked_add(1) == Some(entry.index)
        };
        let is_next =
            self.len.checked_sub(1).and_then(|last| self.waiting[last]).is_some_and(follows);
        if self.len == ENTRIES || !is_next {
            self.flush();
        }
        self.waiting[self.len] = Some(entry);
        self.len += 1;
    }

    fn flush(&mut self) {
        let len = std::mem::take(&mut self.len);
        let entries = std::mem::take(&mut self.waiting);
        let Some(first) = entries[0].filter(|_| is_capturing()) else { return };
        let [a, b, c, d] = entries.map(|entry| entry.unwrap_or(NONE));
        let clock = CLOCK.fetch_add(len as u64, Ordering::Relaxed);
        let raw = raw_clock::now();
        let pair = |low: u64, high: u64| low | high << 32;
        with_own(|ring| {
            let (stage, kind) = (Stage::RaftEntry as u8, PACKED);
            let head = Head { stage, kind, thread: ring.thread, ..Head::default() };
            ring.put(&[
                0,
                head.pack(),
                clock,
                raw,
                len as u64,
                a.id,
                first.index,
                first.term,
                b.id,
                c.id,
                d.id,
                pair(a.bytes, b.bytes),
                pair(c.bytes, d.bytes),
                pair(a.waited_ns, b.waited_ns),
                pair(c.waited_ns, d.waited_ns),
                0,
            ]);
        });
    }
}

impl Drop for EntryMarks {
    fn drop(&mut self) {
        self.flush();
    }
}

const NONE: NewEntry = NewEntry { id: 0, term: 0, index: 0, bytes: 0, waited_ns: 0 };

/// Whether its numbers fit into 32 bits.
fn is_small(entry: &NewEntry) -> bool {
    u32::try_from(entry.bytes | entry.waited_ns).is_ok()
}

/// The marks that a record of a ring stands for: itself, or those that are packed in it.
pub(super) fn unpack(record: Record) -> impl Iterator<Item = Record> {
    let is_pack = record.head().kind == PACKED;
    let len = if is_pack { record.words[4].min(ENTRIES as u64) } else { 1 };
    (0..len).map(move |at| if is_pack { entry(&record.words, at) } else { record })
}

fn entry(words: &[u64; WORDS], at: u64) -> Record {
    let half =
        |word: u64| if at.is_multiple_of(2) { word & u64::from(u32::MAX) } else { word >> 32 };
    let (id, bytes, waited) = match at {
        0 => (words[5], words[11], words[13]),
        1 => (words[8], words[11], words[13]),
        2 => (words[9], words[12], words[14]),
        _ => (words[10], words[12], words[14]),
    };
    let fields = numbers!(
        RaftEntry,
        term = words[7],
        index = words[6] + at,
        bytes = half(bytes),
        waited = half(waited)
    );
    let head = Head { kind: Kind::Mark as u8, ..Head::unpack(words[1]) };
    Record::new(head, words[2] + at, words[3], id, &fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ring::own_records;

    fn new(index: u64) -> NewEntry {
        NewEntry { id: 1000 + index, term: 3, index, bytes: 10 * index, waited_ns: 7 * index }
    }

    fn marked(index: u64) -> [u64; 5] {
        [1000 + index, 3, index, 10 * index, 7 * index]
    }

    /// Goal: packing loses nothing that a record of each entry would have.
    #[test]
    fn packed_entries_come_out_as_the_marks_that_they_were() {
        let mut marks = EntryMarks::default();
        (5..=10).for_each(|index| marks.pack(new(index)));
        // A new term, and a gap, begin a new pack.
        marks.pack(NewEntry { term: 4, ..new(11) });
        marks.pack(NewEntry { term: 4, ..new(13) });
        drop(marks);
        let packs = own_records();
        let lens: Vec<u64> = packs.iter().map(|pack| pack.words[4]).collect();
        assert_eq!([4, 2, 1, 1], *lens);
        let records: Vec<Record> = packs.into_iter().flat_map(unpack).collect();
        let told = |record: &Record| {
            let [term, index, bytes, waited] =
                crate::fields!(record, RaftEntry: term, index, bytes, waited);
            [record.id(), term, index, bytes, waited]
        };
        let expected: Vec<[u64; 5]> = (5..=10).map(marked).collect();
        assert_eq!(expected, records.iter().take(6).map(told).collect::<Vec<_>>());
        assert!(records.iter().all(|record| record.kind() == Some(Kind::Mark)));
        assert!(records.is_sorted_by(|a, b| a.clock() < b.clock()), "each has a clock of its own");
    }

    #[test]
    fn what_does_not_fit_and_what_belongs_to_no_request_has_a_record_of_its_own() {
        assert!(is_small(&new(5)));
        assert!(!is_small(&NewEntry { waited_ns: 1 << 32, ..new(5) }));
        let mut marks = EntryMarks::default();
        assert!(!marks.takes(NewEntry { id: 0, ..new(5) }));
        assert!(!marks.takes(new(6)), "nothing is packed without load");
    }
}
