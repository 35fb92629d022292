//! The life of one key: all revisions at which it was written (etcd: `keyIndex`).
//!
//! A key that is put, deleted and put again has lived twice. Each life is a **generation**: the
//! revisions from the put that began it to the tombstone that ended it. A deletion ends the
//! last generation and opens an empty one.
//!
//! ```text
//!   put at 2, put at 5, delete at 7, put at 9:
//!
//!     generation 0: [2, 5, 7 (tombstone)]      created 2, version 3
//!     generation 1: [9]                        created 9, version 1
//!
//!   at 4 the key stands at 2 · at 6 at 5 · at 7 and 8 it is gone · at 9 it stands at 9
//! ```
//!
//! Compacting at a revision forgets what nobody may ask for any more: of each generation that is
//! still alive there, everything before the newest revision that is not later; and generations
//! that ended before. A tombstone *at* the compacted revision stays (since etcd 3.5.16): a
//! watcher that starts exactly there must still be told of the deletion. One transaction can end a
//! life and begin the next, both at one main revision: compacted there, each keeps its newest.

use std::collections::HashSet;

use super::Revision;

/// One life of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// How many writes the generation has seen, its tombstone and compacted ones included.
    pub version: i64,
    /// The write that began it.
    pub created: Revision,
    /// Its writes that are not compacted, in order; a finished generation ends in its tombstone.
    pub revisions: Vec<Revision>,
}

impl Generation {
    /// The place of its newest revision that is not later than `at`; `None` if it began later.
    fn newest_at(&self, at: i64) -> Option<usize> {
        self.revisions.partition_point(|revision| revision.main <= at).checked_sub(1)
    }
}

/// All lives of a key. The last generation is the current one, and empty while the key is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyIndex {
    modified: Revision,
    generations: Vec<Generation>,
}

/// What a key is at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The revision of the value.
    pub modified: Revision,
    /// The revision at which this life of the key began.
    pub created: Revision,
    /// The number of writes in this life, up to the value.
    pub version: i64,
}

/// What a put has made of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The main revision at which this life of the key began.
    pub created: i64,
    /// The number of writes in this life.
    pub version: i64,
    /// How many generations with writes there were before.
    pub generations_old: usize,
    /// How many there are now.
    pub generations_new: usize,
}

impl KeyIndex {
    /// Adds a write. Revisions only grow: the caller hands them out under the index lock.
    pub fn put(&mut self, revision: Revision) -> Placed {
        assert!(revision > self.modified, "a key is written in the order of revisions");
        let generations_old = self.lives();
        if self.generations.is_empty() {
            self.generations = Vec::with_capacity(1);
            self.generations
                .push(Generation { revisions: Vec::with_capacity(1), ..Generation::default() });
        }
        let last = self.generations.last_mut().expect("there is always a current generation");
        if last.revisions.is_empty() {
            last.created = revision;
        }
        // There is one such list for each key: doubling would waste more than it holds.
        if last.revisions.len() == last.revisions.capacity() {
            last.revisions.reserve_exact(1 + last.revisions.len() / 4);
        }
        last.revisions.push(revision);
        last.version += 1;
        let (created, version) = (last.created.main, last.version);
        self.modified = revision;
        Placed { created, version, generations_old, generations_new: self.lives() }
    }

    /// Ends the current generation. Returns false, and changes nothing, if the key is gone already.
    pub fn tombstone(&mut self, revision: Revision) -> bool {
        if !self.is_alive() {
            return false;
        }
        self.put(revision);
        self.generations.push(Generation::default());
        true
    }

    /// Takes in a put that is found when a member starts. Rows come in the order of revisions. The
    /// first row that is left of a life says what is not left: when it began, and how many writes
    /// it has seen.
    pub fn restore(&mut self, created: Revision, modified: Revision, version: i64) {
        if self.is_alive() {
            self.put(modified);
            return;
        }
        let generation = Generation { version, created, revisions: vec![modified] };
        match self.generations.last_mut() {
            Some(empty) => *empty = generation,
            None => self.generations = vec![generation],
        }
        self.modified = modified;
    }

    /// Takes in a tombstone that is found when a member starts. If it is the first row that is left
    /// of its life, when that began is not known any more.
    pub fn restore_tombstone(&mut self, revision: Revision) {
        self.restore(Revision::default(), revision, 1);
        self.generations.push(Generation::default());
    }

    /// Returns what the key was at main revision `at`; `None` if it was not there.
    pub fn get(&self, at: i64) -> Option<Found> {
        let generation = self.generation_at(at)?;
        let after = generation.revisions.partition_point(|revision| revision.main <= at);
        let place = after.checked_sub(1)?;
        let behind = i64::try_from(generation.revisions.len() - after).unwrap_or(i64::MAX);
        Some(Found {
            modified: generation.revisions[place],
            created: generation.created,
            version: generation.version - behind,
        })
    }

    /// The generation that was alive at `at` (etcd: `findGeneration`).
    fn generation_at(&self, at: i64) -> Option<&Generation> {
        let current = self.generations.len().checked_sub(1)?;
        for (place, generation) in self.generations.iter().enumerate().rev() {
            let (Some(first), Some(last)) =
                (generation.revisions.first(), generation.revisions.last())
            else {
                continue;
            };
            if place != current && last.main <= at {
                return None;
            }
            if first.main <= at {
                return Some(generation);
            }
        }
        None
    }

    /// Forgets what a compaction at `at` makes unreadable, and adds to `keep` the revisions that
    /// are still needed. Afterwards the index may be empty, and then the key can be dropped.
    pub fn compact(&mut self, at: i64, keep: &mut HashSet<Revision>) {
        self.generations.drain(..self.oldest_needed(at));
        for generation in &mut self.generations {
            let Some(place) = generation.newest_at(at) else { break };
            keep.insert(generation.revisions[place]);
            generation.revisions.drain(..place);
        }
    }

    /// Adds to `keep` what a compaction at `at` would leave of the key for `HashKV`: a tombstone
    /// does not count, since versions before 3.5.16 have deleted its row.
    pub fn keep(&self, at: i64, keep: &mut HashSet<Revision>) {
        let current = self.generations.len().saturating_sub(1);
        for (number, generation) in self.generations.iter().enumerate().skip(self.oldest_needed(at))
        {
            let Some(place) = generation.newest_at(at) else { break };
            let is_tombstone = number < current && place + 1 == generation.revisions.len();
            if !is_tombstone {
                keep.insert(generation.revisions[place]);
            }
        }
    }

    /// The first generation that a compaction at `at` keeps (etcd: `doCompact`). It is not the only
    /// one that has begun by then if it ends *at* `at`: a transaction may delete a key and put it
    /// again, and what it has put is alive.
    fn oldest_needed(&self, at: i64) -> usize {
        let current = self.generations.len().saturating_sub(1);
        let ended_before = |generation: &Generation| {
            generation.revisions.last().is_none_or(|tombstone| tombstone.main < at)
        };
        self.generations[..current].iter().take_while(|it| ended_before(it)).count()
    }

    /// Whether the key is there now.
    pub fn is_alive(&self) -> bool {
        self.generations.last().is_some_and(|last| !last.revisions.is_empty())
    }

    /// Whether nothing is left of the key.
    pub fn is_empty(&self) -> bool {
        match self.generations.as_slice() {
            [] => true,
            [only] => only.revisions.is_empty(),
            _ => false,
        }
    }

    /// The lives of the key, oldest first; the last is empty while the key is gone.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    fn lives(&self) -> usize {
        let empty = self.generations.last().is_some_and(|last| last.revisions.is_empty());
        self.generations.len() - usize::from(empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(main: i64) -> Revision {
        Revision::new(main, 0)
    }

    /// The key of the picture above.
    fn lived_twice() -> KeyIndex {
        let mut index = KeyIndex::default();
        index.put(at(2));
        index.put(at(5));
        assert!(index.tombstone(at(7)));
        index.put(at(9));
        index
    }

    fn compacted(revision: i64) -> (KeyIndex, Vec<i64>) {
        let mut index = lived_twice();
        let (mut kept, mut foreseen) = (HashSet::new(), HashSet::new());
        index.keep(revision, &mut foreseen);
        index.compact(revision, &mut kept);
        assert!(foreseen.is_subset(&kept));
        let mut kept: Vec<_> = kept.into_iter().map(|revision| revision.main).collect();
        kept.sort_unstable();
        (index, kept)
    }

    #[test]
    fn a_key_is_found_as_it_was_at_each_revision() {
        let index = lived_twice();
        let found = |revision| index.get(revision).map(|it| (it.modified.main, it.version));
        assert_eq!(found(1), None);
        assert_eq!(found(4), Some((2, 1)));
        assert_eq!(found(6), Some((5, 2)));
        assert_eq!(found(7), None);
        assert_eq!(found(8), None);
        assert_eq!(found(100), Some((9, 1)));
        assert_eq!(index.get(100).unwrap().created, at(9));
    }

    #[test]
    fn a_key_that_is_gone_cannot_be_deleted_again() {
        let mut index = KeyIndex::default();
        assert!(!index.tombstone(at(1)));
        index.put(at(2));
        assert!(index.tombstone(at(3)));
        assert!(!index.tombstone(at(4)));
        assert_eq!(index.generations().len(), 2);
    }

    #[test]
    fn compaction_keeps_the_newest_revision_that_can_still_be_asked_for() {
        let (index, kept) = compacted(6);
        assert_eq!(kept, [5]);
        assert_eq!(index.get(6).unwrap().version, 2);
        assert_eq!(index.generations()[0].revisions, [at(5), at(7)]);
    }

    #[test]
    fn compaction_at_a_tombstone_keeps_it_and_the_next_one_drops_it() {
        let (mut index, kept) = compacted(7);
        assert_eq!(kept, [7]);
        assert_eq!(index.generations()[0].revisions, [at(7)]);
        index.compact(8, &mut HashSet::new());
        assert_eq!(index.generations().len(), 1);
        assert_eq!(index.get(9).unwrap().version, 1);
    }

    #[test]
    fn a_tombstone_is_not_kept_for_the_hash() {
        let mut keep = HashSet::new();
        lived_twice().keep(7, &mut keep);
        assert!(keep.is_empty());
        lived_twice().keep(9, &mut keep);
        assert_eq!(keep.len(), 1);
    }

    #[test]
    fn nothing_is_left_of_a_key_that_was_deleted_before_the_compaction() {
        let mut index = KeyIndex::default();
        index.put(at(2));
        index.tombstone(at(3));
        index.compact(3, &mut HashSet::new());
        assert!(!index.is_empty());
        index.compact(4, &mut HashSet::new());
        assert!(index.is_empty());
    }

    #[test]
    fn a_restored_tombstone_is_a_key_that_is_gone() {
        let mut index = KeyIndex::default();
        index.restore_tombstone(at(5));
        assert_eq!(index.get(5), None);
        assert!(!index.is_empty());
        assert_eq!(index.put(at(6)).version, 1);
        assert_eq!(index.get(6).unwrap().created, at(6));
    }

    #[test]
    fn put_and_delete_in_one_transaction_leave_no_key() {
        let mut index = KeyIndex::default();
        index.put(Revision::new(2, 0));
        index.tombstone(Revision::new(2, 1));
        assert_eq!(index.get(2), None);
    }
    /// Deleted, put, deleted and put again by one transaction at 5.
    fn twice_in_one_transaction() -> KeyIndex {
        let mut index = KeyIndex::default();
        index.put(at(2));
        assert!(index.tombstone(Revision::new(5, 0)));
        index.put(Revision::new(5, 1));
        assert!(index.tombstone(Revision::new(5, 2)));
        index.put(Revision::new(5, 3));
        index
    }

    #[test]
    fn compaction_keeps_the_newest_of_each_life_that_one_transaction_has_ended_and_begun() {
        let mut index = twice_in_one_transaction();
        let (mut kept, mut hashed) = (HashSet::new(), HashSet::new());
        index.keep(5, &mut hashed);
        index.compact(5, &mut kept);
        assert_eq!(hashed, HashSet::from([Revision::new(5, 3)]));
        assert_eq!(kept, HashSet::from([0, 2, 3].map(|sub| Revision::new(5, sub))));
        assert_eq!(index.get(5).unwrap().modified, Revision::new(5, 3));
        let mut later = HashSet::new();
        index.compact(6, &mut later);
        assert_eq!(later, HashSet::from([Revision::new(5, 3)]));
        assert_eq!(index.generations().len(), 1);
    }

    #[test]
    fn what_is_left_of_such_lives_is_restored_as_it_was() {
        let mut index = twice_in_one_transaction();
        index.compact(5, &mut HashSet::new());
        let mut restored = KeyIndex::default();
        restored.restore_tombstone(Revision::new(5, 0));
        restored.restore_tombstone(Revision::new(5, 2));
        restored.restore(at(5), Revision::new(5, 3), 1);
        let lives = |index: &KeyIndex| {
            index.generations().iter().map(|it| it.revisions.clone()).collect::<Vec<_>>()
        };
        assert_eq!(lives(&restored), lives(&index));
        assert_eq!(restored.get(5).unwrap().version, 1);
        let (mut first, mut second) = (HashSet::new(), HashSet::new());
        index.compact(6, &mut first);
        restored.compact(6, &mut second);
        assert_eq!(first, second);
    }
}
