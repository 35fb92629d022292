//! Request ids, and the bit in them that says which requests are kept.
//!
//! ```text
//!   63            48 47                                  8 7          1  0
//!   ┌───────────────┬─────────────────────────────────────┬────────────┬──┐
//!   │ member, low 16│ milliseconds since 1970, low 40     │ counter    │k │
//!   └───────────────┴─────────────────────────────────────┴────────────┴──┘
//! ```
//!
//! The layout is etcd's (`idutil.Generator`), so that the ids of any two members, etcd's or ours,
//! differ in the member's part. As in etcd the clock is read once, at the start: a counter that
//! runs over carries into the milliseconds, so ids are ahead of the clock only while more than 128
//! a millisecond have been made since the start (etcd: 256; the keep bit takes half).
//!
//! The keep bit travels inside the id, which is in every entry, so all members decide alike without
//! a message between them. Members that do not speak glass leave the bit to chance, so for their
//! ids a hash decides, the same on every member.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::raw_clock;

/// Under load one in this many requests is kept.
pub const ONE_IN: u64 = 1000;
/// Below this many requests a second all are kept.
pub const ALL_BELOW: u64 = 50;
/// Upper limit on kept requests per second, even if forced.
pub const KEPT_MAX: u64 = 500;

/// How many requests before the one that is kept under load [`is_keeping_soon`] says so: about as
/// many as have been read and not begun yet.
const SOON: u64 = 128;

const SUFFIX: u64 = (1 << 48) - 1;
const SECOND_NS: u64 = 1_000_000_000;

/// One bit for each member prefix (the low 16 bits of an id): set if the member speaks glass.
static SPEAKERS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

static IS_KEEPING_SOON: AtomicBool = AtomicBool::new(false);

/// Whether a request that arrives now may be the one in [`ONE_IN`] that is kept.
pub fn is_keeping_soon() -> bool {
    IS_KEEPING_SOON.load(Ordering::Relaxed)
}

/// Notes that this member sets keep bits: for ids with its prefix the bit decides from now on.
pub fn note_peer(member_id: u64) {
    let (word, bit) = place(member_id);
    SPEAKERS[word].fetch_or(bit, Ordering::Relaxed);
}

/// Takes [`note_peer`] back when a member is removed: a later member with the same prefix may not
/// speak glass.
pub fn forget_peer(member_id: u64) {
    let (word, bit) = place(member_id);
    SPEAKERS[word].fetch_and(!bit, Ordering::Relaxed);
}

/// Whether this member is known to set keep bits.
#[inline]
pub fn speaks(member_id: u64) -> bool {
    let (word, bit) = place(member_id);
    SPEAKERS[word].load(Ordering::Relaxed) & bit != 0
}

/// Whether the request with this id is kept. Every member gives the same answer.
#[inline]
pub fn kept(id: u64) -> bool {
    if id == 0 {
        return false;
    }
    if speaks(id >> 48) {
        return id & 1 == 1;
    }
    hash(id).is_multiple_of(ONE_IN)
}

/// Spreads an id over all 64 bits (the finalizer of SplitMix64). Every member computes the same
/// value, so members that thin by it select the same ids.
pub fn hash(id: u64) -> u64 {
    let id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^ (id >> 31)
}

/// A table by id.
pub(super) type IdMap<T> = HashMap<u64, T, BuildHasherDefault<IdHasher>>;

/// Hashes an id with [`hash`], which is cheap. Clients choose no ids, so they can't choose ids that
/// collide.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = hash(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = hash(id);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn place(prefix: u64) -> (usize, u64) {
    let low = usize::from(u16::try_from(prefix & 0xffff).expect("masked to sixteen bits"));
    (low / 64, 1 << (low % 64))
}

/// Makes request ids. A member has one generator, which all threads share.
#[derive(Debug)]
pub struct IdGenerator {
    prefix: u64,
    last: AtomicU64,
}

impl IdGenerator {
    /// Starts at the wall clock (milliseconds since 1970), but above `highest`, the highest id
    /// that stands in the log: a clock that was set back must not make ids a second time. An id of
    /// another member does not count.
    pub fn new(member_id: u64, wall_ms: u64, highest: u64) -> IdGenerator {
        let prefix = (member_id & 0xffff) << 48;
        let own = if highest & !SUFFIX == prefix { highest & SUFFIX } else { 0 };
        let start = ((wall_ms << 8) & SUFFIX).max(own) & !1;
        IdGenerator { prefix, last: AtomicU64::new(start) }
    }

    /// The next id, with this keep bit.
    pub fn next(&self, keep: bool) -> u64 {
        let suffix = self.last.fetch_add(2, Ordering::Relaxed).wrapping_add(2) & SUFFIX;
        self.prefix | suffix | u64::from(keep)
    }
}

/// Decides which requests are kept.
#[derive(Debug, Default)]
pub struct Sampler {
    /// The present second, counted from 1.
    second: AtomicU64,
    seen: AtomicU64,
    seen_before: AtomicU64,
    kept: AtomicU64,
    total: AtomicU64,
}

impl Sampler {
    /// A sampler that has seen nothing.
    pub const fn new() -> Sampler {
        Sampler {
            second: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            seen_before: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }

    /// Whether the next request is to be kept. `forced` says that its caller asks for it (a sampled
    /// `traceparent`, an armed filter); even then there is a limit a second.
    pub fn keep_next(&self, forced: bool) -> bool {
        self.keep_at(raw_clock::rough_ns(raw_clock::now()), forced)
    }

    /// As [`Sampler::keep_next`], at a time in nanoseconds. Threads that race into a new
    /// second may count a few requests in the wrong one; nothing depends on it.
    pub fn keep_at(&self, now_ns: u64, forced: bool) -> bool {
        self.enter_second(now_ns / SECOND_NS + 1);
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        let total = self.total.fetch_add(1, Ordering::Relaxed);
        match total % ONE_IN {
            0 => IS_KEEPING_SOON.store(false, Ordering::Relaxed),
            at if at == ONE_IN - SOON => IS_KEEPING_SOON.store(true, Ordering::Relaxed),
            _ => (),
        }
        let quiet = seen < ALL_BELOW && self.seen_before.load(Ordering::Relaxed) < ALL_BELOW;
        if !(forced || quiet || total.is_multiple_of(ONE_IN)) {
            return false;
        }
        self.kept.fetch_add(1, Ordering::Relaxed) < KEPT_MAX
    }

    fn enter_second(&self, second: u64) {
        let before = self.second.load(Ordering::Relaxed);
        if before == second {
            return;
        }
        let seen = self.seen.swap(0, Ordering::Relaxed);
        let follows = before + 1 == second;
        self.seen_before.store(if follows { seen } else { 0 }, Ordering::Relaxed);
        self.kept.store(0, Ordering::Relaxed);
        self.second.store(second, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc, thread};

    use super::*;

    const WALL_MS: u64 = 1_700_000_000_123;

    #[test]
    fn an_id_is_member_milliseconds_counter_and_keep_bit() {
        let ids = IdGenerator::new(0x264a_e6bc_59e9_9892, WALL_MS, 0);
        let first = ids.next(true);
        assert_eq!(0x9892, first >> 48);
        assert_eq!(WALL_MS & ((1 << 40) - 1), (first >> 8) & ((1 << 40) - 1));
        assert_eq!(3, first & 0xff);
        assert_eq!(4, ids.next(false) & 0xff);
    }

    #[test]
    fn ids_of_many_threads_are_unique_and_rise_in_each() {
        let ids = Arc::new(IdGenerator::new(7, WALL_MS, 0));
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let ids = Arc::clone(&ids);
                thread::spawn(move || {
                    (0..5000).map(|at| ids.next(at % 3 == thread)).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut all = BTreeSet::new();
        for thread in threads {
            let made = thread.join().unwrap();
            assert!(made.is_sorted_by(|a, b| a < b));
            all.extend(made.iter().map(|id| id >> 1));
        }
        assert_eq!(20_000, all.len(), "two ids differ only in the keep bit, or not at all");
    }

    #[test]
    fn ids_start_above_the_highest_in_the_log_even_if_the_clock_went_back() {
        let ids = IdGenerator::new(7, WALL_MS, 0);
        let highest = ids.next(true);
        let after = IdGenerator::new(7, WALL_MS - 3_600_000, highest);
        let next = after.next(false);
        assert!(highest < next, "{highest:x} {next:x}");
        let other = IdGenerator::new(8, WALL_MS, highest).next(false);
        assert_eq!(WALL_MS & 0xff_ffff, (other >> 8) & 0xff_ffff, "another's id must not count");
    }

    #[test]
    fn ids_run_ahead_of_the_clock_only_by_their_number() {
        let ids = IdGenerator::new(7, WALL_MS, 0);
        let last = (0..1280).map(|_| ids.next(false)).last().unwrap();
        assert_eq!(10, ((last >> 8) & ((1 << 40) - 1)) - (WALL_MS & ((1 << 40) - 1)));
    }

    #[test]
    fn the_keep_bit_decides_for_members_that_speak_glass_and_a_hash_for_others() {
        note_peer(0xabcd_0000_0000_4a11);
        let ids = IdGenerator::new(0x4a11, WALL_MS, 0);
        assert!((0..100).all(|_| kept(ids.next(true)) && !kept(ids.next(false))));
        let foreign = IdGenerator::new(0x4a12, WALL_MS, 0);
        let kept_of_foreign = (0..100_000).filter(|at| kept(foreign.next(at % 2 == 0))).count();
        assert!((50..200).contains(&kept_of_foreign), "{kept_of_foreign} of 100 000");
        assert!(!kept(0));
        note_peer(0x4a13);
        forget_peer(0x4a13);
        let gone = IdGenerator::new(0x4a13, WALL_MS, 0);
        assert!((0..50).any(|_| !kept(gone.next(true))));
    }

    fn kept_in(sampler: &Sampler, second: u64, requests: u64, forced: bool) -> u64 {
        let step = SECOND_NS / requests;
        let at = |request| second * SECOND_NS + request * step;
        (0..requests).map(|request| u64::from(sampler.keep_at(at(request), forced))).sum()
    }

    #[test]
    fn all_are_kept_while_there_are_few_and_one_in_a_thousand_when_there_are_many() {
        let sampler = Sampler::new();
        assert_eq!([49, 49], [1, 2].map(|second| kept_in(&sampler, second, 49, false)));
        let first_of_load = kept_in(&sampler, 3, 20_000, false);
        assert!((50..=70).contains(&first_of_load), "{first_of_load}");
        let under_load = kept_in(&sampler, 4, 20_000, false);
        assert_eq!(20, under_load);
        assert_eq!(10, kept_in(&sampler, 6, 10, false), "after a silent second all are kept");
    }

    #[test]
    fn no_more_than_five_hundred_are_kept_in_a_second() {
        let sampler = Sampler::new();
        assert_eq!(500, kept_in(&sampler, 9, 5000, true));
        assert_eq!(500, kept_in(&sampler, 10, 5000, true));
    }
}
