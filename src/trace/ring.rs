//! One ring for each thread: it holds the thread's newest records until they are overwritten.
//!
//! ```text
//!   writer (one thread)                      readers (any number)
//!   slot n: sequence odd → words → even      copy, then look at the sequence again
//!   ┌────┬────┬────┬────┬────┬────┐
//!   │ 40 │ 41 │ 42 │ 37 │ 38 │ 39 │  head = 43: the oldest that stands is 37
//!   └────┴────┴────┴────┴────┴────┘
//! ```
//!
//! The writer never waits: it overwrites the oldest record. A reader that is too slow, or is
//! overtaken while it copies, notices by the slot's sequence and counts the record as lost. All
//! words are atomics, so this is safe code; the fences order the words and the sequence.
//!
//! A reader that drains a ring follows its [`notes`], which name the records that can be wanted.
//!
//! Invariants: only the owning thread writes to a ring; a slot's sequence is `2n + 1` while record
//! `n` is being written and `2n + 2` when it is complete; every record that can be wanted is either
//! read or counted as lost.
//!
//! One process is one member: the clock and the list of rings are the process's.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
};

mod notes;
mod pack;

pub use notes::is_slow;
pub(super) use notes::{SLOW_NS, may_be_pinned, pin, set_slow_from, unpin};
pub use pack::{EntryMarks, NewEntry};

use notes::{Note, Notes};

use super::{
    Reason, Slot, id, raw_clock,
    record::{FLAG_RANGE_END, Head, Kind, Record, WORDS, pack_reason},
    stage::Stage,
};

/// Names of threads, by the number that records carry.
pub const THREADS: &[&str] =
    &["other", "grpc", "peer", "raft", "wal", "apply", "commit", "background"];

/// A step that takes less than this part of what is slow is short.
const SHORT_PART: u64 = 10;

static CLOCK: AtomicU64 = AtomicU64::new(1);
static CAPTURE: AtomicBool = AtomicBool::new(true);
static BRIEF: AtomicBool = AtomicBool::new(false);
static REDACT: AtomicBool = AtomicBool::new(false);
static RINGS: Mutex<Vec<Arc<Ring>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
}

/// The parts of a record to be written.
pub struct Write<'a> {
    /// The step that was taken.
    pub stage: Stage,
    /// Begin, span or mark.
    pub kind: Kind,
    /// Any of the `FLAG_` bits.
    pub flags: u8,
    /// The gRPC code of the result, 0 for success.
    pub result: u8,
    /// Member clock at the start.
    pub clock: u64,
    /// Raw tick at the start.
    pub raw: u64,
    /// Clock at the end, less the clock at the start.
    pub clock_delta: u64,
    /// Raw ticks from start to end.
    pub raw_delta: u64,
    /// Why the step failed.
    pub reason: Option<Reason>,
    /// Id of the request or the round; 0 for none.
    pub id: u64,
    /// Number that joins a send to its receive, or a read to its round; 0 for none.
    pub link: u64,
    /// The values of the stage's fields, in its order.
    pub fields: &'a [u64; 8],
}

impl Write<'_> {
    /// The number in the slot of the step's own stage.
    pub(crate) fn number(&self, slots: &[Slot]) -> u64 {
        Slot::find(Some(self.stage), slots).map_or(0, |at| self.fields[at])
    }
}

/// Takes the next value of the member's clock, which orders all its records.
#[inline]
pub fn next_clock() -> u64 {
    CLOCK.fetch_add(1, Ordering::Relaxed)
}

/// Turns the writing of records on or off, to measure what it costs. On at first.
pub fn set_capture(on: bool) {
    CAPTURE.store(on, Ordering::Relaxed);
}

/// Whether records are written.
pub fn is_capturing() -> bool {
    CAPTURE.load(Ordering::Relaxed)
}

/// Names this thread, by one of [`THREADS`], and makes its ring. Called once, when a thread starts.
/// A thread that does not call it is named after the operating system's name for it, or "other"
/// with a small ring, at its first record.
pub fn set_thread(name: &str) {
    let ring = Ring::register(number_of(name));
    OWN.with(|own| *own.borrow_mut() = Some(Own(ring)));
}

/// The place of a name in [`THREADS`]; 0 for others.
fn number_of(name: &str) -> u8 {
    let thread = THREADS.iter().position(|known| *known == name).unwrap_or(0);
    u8::try_from(thread).unwrap_or(0)
}

/// Which of [`THREADS`] this thread is.
#[cfg(test)]
pub(crate) fn thread_name() -> &'static str {
    OWN.with(|own| {
        own.borrow().as_ref().map_or(THREADS[0], |own| THREADS[usize::from(own.0.thread)])
    })
}

/// The records of this thread that its ring still has, oldest first.
#[cfg(test)]
pub(crate) fn own_records() -> Vec<Record> {
    OWN.with(|own| {
        let own = own.borrow();
        let ring = &own.as_ref().expect("this thread has written records").0;
        (ring.oldest()..ring.head()).flat_map(|number| ring.get(number)).collect()
    })
}

/// Writes a record into the ring of this thread.
pub fn push(write: &Write<'_>) {
    if !is_capturing() {
        return;
    }
    with_own(|ring| {
        let head = Head {
            stage: write.stage as u8,
            kind: write.kind as u8,
            flags: write.flags,
            thread: ring.thread,
            member: 0,
            result: write.result,
            boot: 0,
        };
        let took_ns = if write.raw_delta == 0 { 0 } else { raw_clock::to_ns(write.raw_delta) };
        let [a, b, c, d, e, f, g, h] = *write.fields;
        let clocks = write.clock_delta | pack_reason(write.reason);
        let (clock, raw) = (write.clock, write.raw);
        let (head, id, link) = (head.pack(), write.id, write.link);
        let words = [0, head, clock, raw, clocks, id, link, a, b, c, d, e, f, g, h, took_ns];
        let number = ring.put(&words);
        if let Some(note) = Note::of(write, number) {
            ring.notes.add(note);
        }
    });
}

/// Whether the quick steps of requests that nobody has chosen are left out from now on.
pub(super) fn set_brief(on: bool) {
    BRIEF.store(on, Ordering::Relaxed);
}

/// Whether this step leaves no record unless it fails.
#[inline]
pub(super) fn is_left_out(stage: Stage, id: u64) -> bool {
    stage.is_quick() && is_brief_about(id)
}

/// Whether this step leaves no record unless it fails; `took_ns` is how long it took.
#[inline]
pub fn is_too_short(stage: Stage, id: u64, took_ns: impl FnOnce() -> u64) -> bool {
    stage.is_usually_short() && is_brief_about(id) && took_ns() < notes::slow_from() / SHORT_PART
}

/// Whether the beginning of this step leaves no record: its end leaves one if it was not short.
#[inline]
pub(super) fn begins_silently(stage: Stage, id: u64) -> bool {
    stage.is_usually_short() && is_brief_about(id)
}

/// Whether only what matters about this request is recorded, because there are too many.
#[inline]
fn is_brief_about(id: u64) -> bool {
    BRIEF.load(Ordering::Relaxed) && !id::kept(id) && !may_be_pinned(id)
}

/// Whether key records from now on hold only the length of the key (`--trace-redact-keys`).
pub fn set_redact(on: bool) {
    REDACT.store(on, Ordering::Relaxed);
}

/// Whether the text of keys is left out.
pub fn is_redacting() -> bool {
    REDACT.load(Ordering::Relaxed)
}

/// Records the key that a request, or a step of it, names: it belongs to the innermost open step of
/// this thread and id. For requests that are not kept this is one comparison.
pub fn key(id: u64, key: &[u8]) {
    if is_capturing() && id::kept(id) {
        write_key(id, key, 0);
    }
}

/// Records the end of the range whose first key [`key`] has recorded for the same step; nothing for
/// a range of one key, which has no end.
pub fn range_end(id: u64, end: &[u8]) {
    if !end.is_empty() && is_capturing() && id::kept(id) {
        write_key(id, end, FLAG_RANGE_END);
    }
}

fn write_key(id: u64, key: &[u8], flag: u8) {
    let record = if is_redacting() { Record::redacted_key } else { Record::key };
    with_own(|ring| {
        let mut record = record(next_clock(), id, ring.thread, key);
        let head = record.head();
        record.set_head(Head { flags: head.flags | flag, ..head });
        ring.put_noted(&record.words);
    });
}

fn with_own(write: impl FnOnce(&Ring)) {
    // A step that ends while its thread ends has no ring any more, and is not recorded.
    let _ = OWN.try_with(|own| {
        let mut own = own.borrow_mut();
        let own = own.get_or_insert_with(|| {
            let thread = std::thread::current();
            Own(Ring::register(thread.name().map_or(0, number_of)))
        });
        write(&own.0);
    });
}

/// A thread's hold on its ring; marks the ring as closed when the thread ends.
struct Own(Arc<Ring>);

impl Drop for Own {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
    }
}

/// The ring of one thread.
pub struct Ring {
    /// Position of its thread in [`THREADS`].
    pub thread: u8,
    /// The system's number of the thread that made it, which is its own.
    pub tid: i32,
    slots: Box<[[AtomicU64; WORDS]]>,
    head: AtomicU64,
    notes: Notes,
    closed: AtomicBool,
}

/// Why a slot could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overwritten;

impl Ring {
    /// Makes a ring of `slots` records; a power of two.
    pub fn new(thread: u8, slots: usize) -> Ring {
        assert!(slots.is_power_of_two(), "the place of a record is found with a mask");
        let notes = Notes::new(slots);
        let slots = (0..slots).map(|_| [const { AtomicU64::new(0) }; WORDS]).collect();
        let tid = nix::unistd::gettid().as_raw();
        let (head, closed) = (AtomicU64::new(0), AtomicBool::new(false));
        Ring { thread, tid, slots, head, notes, closed }
    }

    fn register(thread: u8) -> Arc<Ring> {
        // The member's time begins at the first reading, which must come before any record.
        raw_clock::since_start_ns(raw_clock::now());
        let ring = Arc::new(Ring::new(thread, slots_of(thread)));
        list().push(Arc::clone(&ring));
        ring
    }

    /// How many records were ever written.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The number of the oldest record that may still be in the ring.
    pub fn oldest(&self) -> u64 {
        self.head().saturating_sub(self.slots.len() as u64)
    }

    /// Writes a record and a note about it. Only the owning thread may call this.
    pub fn put_noted(&self, words: &[u64; WORDS]) {
        let number = self.put(words);
        self.notes.add(Note::Record(number));
    }

    /// Writes a record, and returns its number. Only the owning thread may call this.
    fn put(&self, words: &[u64; WORDS]) -> u64 {
        let number = self.head.load(Ordering::Relaxed);
        let slot = self.slot(number);
        slot[0].store(2 * number + 1, Ordering::Relaxed);
        // A reader that sees one of the new words must see the odd sequence too.
        fence(Ordering::Release);
        for (word, value) in slot.iter().zip(words).skip(1) {
            word.store(*value, Ordering::Relaxed);
        }
        slot[0].store(2 * number + 2, Ordering::Release);
        self.head.store(number + 1, Ordering::Release);
        number
    }

    /// Copies the record with this number.
    pub fn get(&self, number: u64) -> Result<Record, Overwritten> {
        self.read(number, |slot| {
            let mut record = Record::EMPTY;
            for (word, value) in record.words.iter_mut().zip(slot).skip(1) {
                *word = value.load(Ordering::Relaxed);
            }
            record
        })
    }

    /// The records that the slot with this number stands for: one, several marks of a pack, or
    /// none if it was overwritten.
    pub fn records(&self, number: u64) -> impl Iterator<Item = Record> {
        self.get(number).into_iter().flat_map(pack::unpack)
    }

    /// Calls `each` for every record that stands from this number on, and returns the number at
    /// which it ended.
    pub(super) fn each_standing(&self, from: u64, mut each: impl FnMut(&Standing<'_>)) -> u64 {
        let end = self.head();
        for number in self.oldest().max(from)..end {
            let Ok((head, id)) = self.peek(number) else { continue };
            if head.kind == pack::PACKED {
                self.records(number).for_each(|record| each(&Standing::Packed(record)));
            } else {
                each(&Standing::Slot { ring: self, number, head, id });
            }
        }
        end
    }

    /// Reads only words 1 and 5 of a record: its head and its id.
    pub fn peek(&self, number: u64) -> Result<(Head, u64), Overwritten> {
        let read = |slot: &[AtomicU64; WORDS]| {
            [1, 5].map(|word: usize| slot[word].load(Ordering::Relaxed))
        };
        self.read(number, read).map(|[head, id]| (Head::unpack(head), id))
    }

    fn read<T>(
        &self,
        number: u64,
        copy: impl FnOnce(&[AtomicU64; WORDS]) -> T,
    ) -> Result<T, Overwritten> {
        let slot = self.slot(number);
        if slot[0].load(Ordering::Acquire) != 2 * number + 2 {
            return Err(Overwritten);
        }
        let copied = copy(slot);
        // The words must have been read before the sequence is looked at again.
        fence(Ordering::Acquire);
        let unchanged = slot[0].load(Ordering::Relaxed) == 2 * number + 2;
        if unchanged { Ok(copied) } else { Err(Overwritten) }
    }

    fn slot(&self, number: u64) -> &[AtomicU64; WORDS] {
        let mask = self.slots.len() as u64 - 1;
        &self.slots[usize::try_from(number & mask).expect("a ring is smaller than the memory")]
    }
}

/// A record that stands in a ring, of which only the head and the id have been looked at.
pub(super) enum Standing<'a> {
    /// It has a slot of its own.
    Slot {
        /// Its ring.
        ring: &'a Ring,
        /// Its number there.
        number: u64,
        /// Its head.
        head: Head,
        /// Its id.
        id: u64,
    },
    /// It was packed with others.
    Packed(Record),
}

impl Standing<'_> {
    /// The record's stage.
    pub(super) fn stage(&self) -> Option<Stage> {
        match self {
            Standing::Slot { head, .. } => Stage::from_number(head.stage),
            Standing::Packed(record) => record.stage(),
        }
    }

    /// The id of its request or round.
    pub(super) fn id(&self) -> u64 {
        match self {
            Standing::Slot { id, .. } => *id,
            Standing::Packed(record) => record.id(),
        }
    }

    /// The whole record, unless it has been overwritten meanwhile.
    pub(super) fn record(&self) -> Option<Record> {
        match self {
            Standing::Slot { ring, number, .. } => ring.get(*number).ok(),
            Standing::Packed(record) => Some(*record),
        }
    }
}

/// What a note was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A record that can be wanted: its number, its head and its id.
    Record(u64, Head, u64),
    /// An rpc that is not kept has begun; its id.
    Begun(u64),
    /// An rpc that is not kept has ended well and in time; its id.
    Ended(u64),
}

/// A reader of one ring, with its own position.
pub struct Reader {
    /// The ring that it reads.
    pub ring: Arc<Ring>,
    /// The next note to read.
    next: u64,
    /// Notes, and records that they named, that were overwritten before they were read.
    pub lost: u64,
    /// The head of the ring at the last search for pinned requests.
    pub searched: u64,
}

impl Reader {
    /// Reads from the oldest note that still stands; what is older counts as lost.
    pub fn new(ring: Arc<Ring>) -> Reader {
        Reader { ring, next: 0, lost: 0, searched: 0 }
    }

    /// Calls `each` for every note up to the ring's present head, in order, and returns how many
    /// were lost since the last call.
    pub fn drain(&mut self, mut each: impl FnMut(&Ring, Seen)) -> u64 {
        let (head, before) = (self.ring.notes.head(), self.lost);
        self.skip_to_oldest();
        while self.next < head {
            match self.see(self.next) {
                Ok(seen) => each(&self.ring, seen),
                Err(Overwritten) => self.lost += 1,
            }
            self.next += 1;
            self.skip_to_oldest();
        }
        self.lost - before
    }

    fn see(&self, at: u64) -> Result<Seen, Overwritten> {
        Ok(match self.ring.notes.get(at)? {
            Note::Begun(id) => Seen::Begun(id),
            Note::Ended(id) => Seen::Ended(id),
            Note::Record(number) => {
                let (head, id) = self.ring.peek(number)?;
                Seen::Record(number, head, id)
            }
        })
    }

    /// Whether the thread has ended and all its notes have been read.
    pub fn is_finished(&self) -> bool {
        self.ring.closed.load(Ordering::Acquire) && self.ring.notes.head() <= self.next
    }

    fn skip_to_oldest(&mut self) {
        let oldest = self.ring.notes.oldest();
        if self.next < oldest {
            self.lost += oldest - self.next;
            self.next = oldest;
        }
    }
}

/// The rings of all threads that run, and of those that ended and were not read to the end yet.
pub fn rings() -> Vec<Arc<Ring>> {
    list().clone()
}

/// Removes the ring of a thread that has ended.
pub fn forget(ring: &Arc<Ring>) {
    list().retain(|other| !Arc::ptr_eq(other, ring));
}

fn list() -> MutexGuard<'static, Vec<Arc<Ring>>> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records per thread, a power of two. Under load each ring reaches back for about half a second:
/// with `--trace-brief-above` 50 000 records a second the grpc thread writes half of them, and
/// above that limit two records a request. Late pins need some 200 ms. Larger rings cost more than
/// memory: they push the keys and the buffers out of the processor's caches.
fn slots_of(thread: u8) -> usize {
    match THREADS.get(usize::from(thread)).copied() {
        Some("grpc") => 1 << 14,
        Some("apply" | "raft") => 1 << 13,
        Some("peer" | "wal") => 1 << 12,
        _ => 1 << 11,
    }
}

#[cfg(test)]
mod tests;
