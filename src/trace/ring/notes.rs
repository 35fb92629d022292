//! What the draining thread looks at: a note for each record that can be wanted.
//!
//! ```text
//!   records  ┌────┬────┬────┬────┬────┬────┐     a record is 128 bytes, and under load 999 of 1000
//!            │ 40 │ 41 │ 42 │ 43 │ 44 │ 45 │     belong to requests that are not kept
//!            └────┴────┴─▲──┴────┴────┴─▲──┘
//!   notes         begun 7│   ended 7    │        a note is 16 bytes
//!                     record 42      record 45
//! ```
//!
//! The thread that writes a record knows whether it can be wanted: the id says whether its request
//! is kept, and [`pin`] says of which others the records are wanted, because they failed or are
//! slow. Then it leaves a note, and the draining thread reads notes only. So a request that is not
//! kept costs the drain two notes, which say that it has begun and ended, instead of a look at each
//! of its records in another core's cache.
//!
//! Invariants: notes are written by the thread that owns the ring, each after its record; every
//! note is either read or counted as lost.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};

use super::{Overwritten, Write};
use crate::{
    field,
    trace::{
        id, raw_clock,
        record::Kind,
        stage::{Family, Stage},
        waiting::waits,
    },
};

/// The duration from which a request is slow, in nanoseconds, until it is set.
pub(in crate::trace) const SLOW_NS: u64 = 100_000_000;

/// From this duration on the end of a request is noted as a record: the collector decides.
static SLOW_FROM_NS: AtomicU64 = AtomicU64::new(SLOW_NS);

/// How many pinned ids fall into each place. A place that is not empty may stand for other ids too.
static PINNED: [AtomicU16; PLACES] = [const { AtomicU16::new(0) }; PLACES];

const PLACES: usize = 1024;

/// What a note says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// This record can be wanted.
    Record(u64),
    /// An rpc that is not kept has begun; its id.
    Begun(u64),
    /// An rpc that is not kept has ended well and in time; its id.
    Ended(u64),
}

impl Note {
    /// The note to leave for this record, which will have this number in its ring.
    pub(super) fn of(write: &Write<'_>, number: u64) -> Option<Note> {
        let is_wanted = write.stage.family() == Family::Loop
            || write.id == 0
            || id::kept(write.id)
            || may_be_pinned(write.id);
        if is_wanted {
            return Some(Note::Record(number));
        }
        let is_followed = write.stage == Stage::Rpc && !waits(field!(write, Rpc, method));
        match (write.stage, write.kind) {
            (Stage::Rpc, Kind::Begin) => is_followed.then_some(Note::Begun(write.id)),
            (Stage::Rpc, _) if is_followed && is_failed_or_slow(write) => {
                Some(Note::Record(number))
            }
            (Stage::Rpc, _) => Some(Note::Ended(write.id)),
            (stage, _) if stage.is_at_edge() && is_failed_or_slow(write) => {
                Some(Note::Record(number))
            }
            _ => None,
        }
    }

    fn pack(self) -> [u64; 2] {
        match self {
            Note::Record(number) => [0, number],
            Note::Begun(id) => [1, id],
            Note::Ended(id) => [2, id],
        }
    }

    fn unpack([tag, value]: [u64; 2]) -> Note {
        match tag {
            0 => Note::Record(value),
            1 => Note::Begun(value),
            _ => Note::Ended(value),
        }
    }
}

/// Whether a request that takes this many nanoseconds is slow (`--trace-slow-ms`).
pub fn is_slow(ns: u64) -> bool {
    SLOW_FROM_NS.load(Ordering::Relaxed) <= ns
}

/// The duration from which a request may be slow, in nanoseconds.
pub(super) fn slow_from() -> u64 {
    SLOW_FROM_NS.load(Ordering::Relaxed)
}

fn is_failed_or_slow(write: &Write<'_>) -> bool {
    write.result != 0 || is_slow(raw_clock::to_ns(write.raw_delta))
}

/// Sets the duration from which a request may be slow. It only ever falls.
pub(in crate::trace) fn set_slow_from(ns: u64) {
    SLOW_FROM_NS.fetch_min(ns, Ordering::Relaxed);
}

/// From now on the records of this request are noted. To be undone by [`unpin`].
pub(in crate::trace) fn pin(id: u64) {
    PINNED[place(id)].fetch_add(1, Ordering::Relaxed);
}

/// Undoes [`pin`].
pub(in crate::trace) fn unpin(id: u64) {
    PINNED[place(id)].fetch_sub(1, Ordering::Relaxed);
}

/// Whether records of this request are noted: always if it is pinned, and rarely if it is not.
pub(in crate::trace) fn may_be_pinned(id: u64) -> bool {
    PINNED[place(id)].load(Ordering::Relaxed) != 0
}

/// Neighbouring ids, whose requests are in flight together, have different places.
fn place(id: u64) -> usize {
    usize::try_from(id >> 1).unwrap_or(usize::MAX) % PLACES
}

/// The newest notes of one thread.
pub(super) struct Notes {
    slots: Box<[[AtomicU64; 2]]>,
    head: AtomicU64,
}

impl Notes {
    /// Room for this many notes; a power of two.
    pub(super) fn new(slots: usize) -> Notes {
        assert!(slots.is_power_of_two(), "the place of a note is found with a mask");
        let slots = (0..slots).map(|_| [const { AtomicU64::new(0) }; 2]).collect();
        Notes { slots, head: AtomicU64::new(0) }
    }

    /// How many notes were ever written.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The position of the oldest note that may still be read.
    pub(super) fn oldest(&self) -> u64 {
        self.head().saturating_sub(self.slots.len() as u64 - 1)
    }

    /// Adds a note. Only the thread that owns the ring may call this.
    pub(super) fn add(&self, note: Note) {
        let at = self.head.load(Ordering::Relaxed);
        // A reader that sees one of the new words must see the head that makes their place void.
        fence(Ordering::Release);
        let words = note.pack();
        for (slot, word) in self.slot(at).iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
        self.head.store(at + 1, Ordering::Release);
    }

    /// The note at this position, which must be below the head.
    pub(super) fn get(&self, at: u64) -> Result<Note, Overwritten> {
        let [tag, value] = self.slot(at);
        let words = [tag.load(Ordering::Relaxed), value.load(Ordering::Relaxed)];
        // The words must have been read before the head is looked at.
        fence(Ordering::Acquire);
        let head = self.head.load(Ordering::Relaxed);
        // While the head is `at` plus the number of places, the writer may be writing to this one.
        if head < at + self.slots.len() as u64 { Ok(Note::unpack(words)) } else { Err(Overwritten) }
    }

    fn slot(&self, at: u64) -> &[AtomicU64; 2] {
        let mask = self.slots.len() as u64 - 1;
        &self.slots[usize::try_from(at & mask).expect("a ring is smaller than the memory")]
    }
}
