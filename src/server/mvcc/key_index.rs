//! The history of one key: all revisions at which it was written (etcd: `keyIndex`).
//!
//! A key that is put, deleted and put again has lived twice. Each life is a **generation**: the
//! revisions from the put that creates the key to the tombstone that deletes it. A tombstone ends
//! the current generation and opens an empty one.
//!
//! ```text
//!   put at 2, put at 5, delete at 7, put at 9:
//!
//!     generation 0: [2, 5, 7 (tombstone)]      created 2, version 3
//!     generation 1: [9]                        created 9, version 1
//!
//!   read at 4: the value of 2 · at 6: that of 5 · at 7 and 8: no key · at 9: that of 9
//! ```
//!
//! A compaction drops what can no longer be read: generations that ended before the compacted
//! revision, and of the others all revisions older than the newest one up to there. A tombstone
//! *at* the compacted revision stays, as in etcd since 3.5.16: a watcher that starts at that
//! revision must still receive the deletion. One transaction can delete a key and create it again,
//! at one main revision. If that is the compacted one, the newest revision of each generation
//! stays.

use std::collections::HashSet;

use super::Revision;

/// One life of a key, from its creation to its deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
// ANCHOR: generation
pub(crate) struct Generation {
    /// The number of writes, the tombstone and compacted ones included.
    pub(crate) version: i64,
    /// The put that created the key.
    pub(crate) created: Revision,
    /// The writes that are not compacted, in order. The last one of an ended generation is its
    /// tombstone.
    pub(crate) revisions: Vec<Revision>,
}
// ANCHOR_END: generation

impl Generation {
    /// The index of the newest revision up to main revision `at`; `None` if all are later.
    fn newest_at(&self, at: i64) -> Option<usize> {
        self.revisions.partition_point(|revision| revision.main <= at).checked_sub(1)
    }
}

/// All generations of a key. The last one is the current one; it is empty while the key is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyIndex {
    generations: Vec<Generation>,
}

/// The metadata of a key at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyMeta {
    /// The revision of the value.
    pub(crate) modified: Revision,
    /// The first revision of the generation.
    pub(crate) created: Revision,
    /// The number of writes in the generation up to `modified`.
    pub(crate) version: i64,
}

/// The metadata of a key after a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PutEffect {
    /// The first main revision of the generation.
    pub(crate) created: i64,
    /// The number of writes in the generation.
    pub(crate) version: i64,
    /// The number of generations before the put, without an empty one.
    pub(crate) generations_old: usize,
    /// The number of generations after the put.
    pub(crate) generations_new: usize,
}

impl KeyIndex {
    /// Adds a write. Its revision is greater than all before: the caller assigns revisions under
    /// the index lock.
    pub(crate) fn put(&mut self, revision: Revision) -> PutEffect {
        assert!(self.modified() < Some(revision), "a key is written in the order of revisions");
        let generations_old = self.begun_generations();
        if self.generations.is_empty() {
            self.generations = Vec::with_capacity(1);
            self.generations
                .push(Generation { revisions: Vec::with_capacity(1), ..Generation::default() });
        }
        let last = self.generations.last_mut().expect("there is always a current generation");
        if last.revisions.is_empty() {
            last.created = revision;
        }
        // There is one such list for each key, so doubling would waste much memory.
        if last.revisions.len() == last.revisions.capacity() {
            last.revisions.reserve_exact(1 + last.revisions.len() / 4);
        }
        last.revisions.push(revision);
        last.version += 1;
        let (created, version) = (last.created.main, last.version);
        PutEffect { created, version, generations_old, generations_new: self.begun_generations() }
    }

    /// Ends the current generation. Returns false, and changes nothing, if the key is deleted
    /// already.
    pub(crate) fn tombstone(&mut self, revision: Revision) -> bool {
        if !self.is_alive() {
            return false;
        }
        self.put(revision);
        self.generations.push(Generation::default());
        true
    }

    /// Adds a put that is found in the file when a member starts. Rows come in the order of
    /// revisions. If the first rows of a generation are compacted, the next one tells their number
    /// and when the key was created.
    pub(crate) fn restore(&mut self, created: Revision, modified: Revision, version: i64) {
        if self.is_alive() {
            self.put(modified);
            return;
        }
        let generation = Generation { version, created, revisions: vec![modified] };
        match self.generations.last_mut() {
            Some(empty) => *empty = generation,
            None => self.generations = vec![generation],
        }
    }

    /// Adds a tombstone that is found in the file when a member starts. If all other rows of its
    /// generation are compacted, it is not known when the key was created.
    pub(crate) fn restore_tombstone(&mut self, revision: Revision) {
        self.restore(Revision::default(), revision, 1);
        self.generations.push(Generation::default());
    }

    /// Returns the key's metadata at main revision `at`; `None` if the key did not exist.
    pub(crate) fn get(&self, at: i64) -> Option<KeyMeta> {
        let generation = self.generation_at(at)?;
        let newest = generation.newest_at(at)?;
        let later = generation.revisions.len() - newest - 1;
        Some(KeyMeta {
            modified: generation.revisions[newest],
            created: generation.created,
            version: generation.version - i64::try_from(later).unwrap_or(i64::MAX),
        })
    }

    /// The generation at main revision `at` (etcd: `findGeneration`).
    fn generation_at(&self, at: i64) -> Option<&Generation> {
        let current = self.generations.len().checked_sub(1)?;
        for (number, generation) in self.generations.iter().enumerate().rev() {
            let (Some(first), Some(last)) =
                (generation.revisions.first(), generation.revisions.last())
            else {
                continue;
            };
            if number != current && last.main <= at {
                return None;
            }
            if first.main <= at {
                return Some(generation);
            }
        }
        None
    }

    /// Drops what a compaction at main revision `at` makes unreadable, and adds to `keep` the
    /// revisions up to `at` that are still needed. If nothing is left, the key can be removed.
    pub(crate) fn compact(&mut self, at: i64, keep: &mut HashSet<Revision>) {
        self.generations.drain(..self.oldest_needed(at));
        for generation in &mut self.generations {
            let Some(newest) = generation.newest_at(at) else { break };
            keep.insert(generation.revisions[newest]);
            generation.revisions.drain(..newest);
        }
    }

    /// Adds to `keep` the revision that a compaction at main revision `at` would keep of the key,
    /// as `HashKV` counts it: without a tombstone, whose row etcd deletes before 3.5.16.
    pub(crate) fn keep(&self, at: i64, keep: &mut HashSet<Revision>) {
        let current = self.generations.len().saturating_sub(1);
        for (number, generation) in self.generations.iter().enumerate().skip(self.oldest_needed(at))
        {
            let Some(newest) = generation.newest_at(at) else { break };
            let is_tombstone = number < current && newest + 1 == generation.revisions.len();
            if !is_tombstone {
                keep.insert(generation.revisions[newest]);
            }
        }
    }

    /// The first generation that a compaction at main revision `at` keeps (etcd: `doCompact`). If
    /// it ends *at* `at`, the next one may have begun at `at` too: a transaction may delete a key
    /// and put it again.
    fn oldest_needed(&self, at: i64) -> usize {
        let current = self.generations.len().saturating_sub(1);
        let ended_before = |generation: &Generation| {
            generation.revisions.last().is_none_or(|tombstone| tombstone.main < at)
        };
        self.generations[..current].iter().take_while(|it| ended_before(it)).count()
    }

    /// Whether the key exists at the newest revision.
    pub(crate) fn is_alive(&self) -> bool {
        self.generations.last().is_some_and(|last| !last.revisions.is_empty())
    }

    /// Whether a compaction has left nothing of the key.
    pub(crate) fn is_empty(&self) -> bool {
        match self.generations.as_slice() {
            [] => true,
            [only] => only.revisions.is_empty(),
            _ => false,
        }
    }

    /// The newest revision; `None` before the first write.
    fn modified(&self) -> Option<Revision> {
        self.generations.iter().rev().find_map(|it| it.revisions.last()).copied()
    }

    /// The number of generations that have a revision.
    fn begun_generations(&self) -> usize {
        let empty = self.generations.last().is_some_and(|last| last.revisions.is_empty());
        self.generations.len() - usize::from(empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl KeyIndex {
        /// The generations, oldest first.
        pub(in crate::server::mvcc) fn generations(&self) -> &[Generation] {
            &self.generations
        }
    }

    fn at(main: i64) -> Revision {
        Revision::new(main, 0)
    }

    /// The key of the module's text.
    fn two_generations() -> KeyIndex {
        let mut index = KeyIndex::default();
        index.put(at(2));
        index.put(at(5));
        assert!(index.tombstone(at(7)));
        index.put(at(9));
        index
    }

    fn compacted(revision: i64) -> (KeyIndex, Vec<i64>) {
        let mut index = two_generations();
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
        let index = two_generations();
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
    fn a_deleted_key_cannot_be_deleted_again() {
        let mut index = KeyIndex::default();
        assert!(!index.tombstone(at(1)));
        index.put(at(2));
        assert!(index.tombstone(at(3)));
        assert!(!index.tombstone(at(4)));
        assert_eq!(index.generations().len(), 2);
    }

    #[test]
    fn compaction_keeps_the_revision_that_is_read_at_the_compacted_one() {
        let (index, kept) = compacted(6);
        assert_eq!(kept, [5]);
        assert_eq!(index.get(6).unwrap().version, 2);
        assert_eq!(index.generations()[0].revisions, [at(5), at(7)]);
    }

    #[test]
    fn compaction_at_a_tombstone_keeps_it_and_a_later_one_drops_it() {
        let (mut index, kept) = compacted(7);
        assert_eq!(kept, [7]);
        assert_eq!(index.generations()[0].revisions, [at(7)]);
        index.compact(8, &mut HashSet::new());
        assert_eq!(index.generations().len(), 1);
        assert_eq!(index.get(9).unwrap().version, 1);
    }

    #[test]
    fn a_tombstone_does_not_count_for_the_hash() {
        let mut keep = HashSet::new();
        two_generations().keep(7, &mut keep);
        assert!(keep.is_empty());
        two_generations().keep(9, &mut keep);
        assert_eq!(keep.len(), 1);
    }

    #[test]
    fn nothing_is_left_of_a_key_that_was_deleted_before_the_compacted_revision() {
        let mut index = KeyIndex::default();
        index.put(at(2));
        index.tombstone(at(3));
        index.compact(3, &mut HashSet::new());
        assert!(!index.is_empty());
        index.compact(4, &mut HashSet::new());
        assert!(index.is_empty());
    }

    #[test]
    fn a_key_restored_from_its_tombstone_does_not_exist() {
        let mut index = KeyIndex::default();
        index.restore_tombstone(at(5));
        assert_eq!(index.get(5), None);
        assert!(!index.is_empty());
        assert_eq!(index.put(at(6)).version, 1);
        assert_eq!(index.get(6).unwrap().created, at(6));
    }

    #[test]
    fn a_put_and_a_deletion_in_one_transaction_leave_no_key() {
        let mut index = KeyIndex::default();
        index.put(Revision::new(2, 0));
        index.tombstone(Revision::new(2, 1));
        assert_eq!(index.get(2), None);
    }

    /// A key that one transaction, at 5, deletes, puts, deletes and puts again.
    fn three_generations_at_5() -> KeyIndex {
        let mut index = KeyIndex::default();
        index.put(at(2));
        assert!(index.tombstone(Revision::new(5, 0)));
        index.put(Revision::new(5, 1));
        assert!(index.tombstone(Revision::new(5, 2)));
        index.put(Revision::new(5, 3));
        index
    }

    #[test]
    fn compaction_keeps_the_newest_revision_of_each_generation_that_one_transaction_touched() {
        let mut index = three_generations_at_5();
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
    fn generations_that_share_a_main_revision_are_restored_after_a_compaction() {
        let mut index = three_generations_at_5();
        index.compact(5, &mut HashSet::new());
        let mut restored = KeyIndex::default();
        restored.restore_tombstone(Revision::new(5, 0));
        restored.restore_tombstone(Revision::new(5, 2));
        restored.restore(at(5), Revision::new(5, 3), 1);
        let revisions = |index: &KeyIndex| {
            index.generations().iter().map(|it| it.revisions.clone()).collect::<Vec<_>>()
        };
        assert_eq!(revisions(&restored), revisions(&index));
        assert_eq!(restored.get(5).unwrap().version, 1);
        let (mut first, mut second) = (HashSet::new(), HashSet::new());
        index.compact(6, &mut first);
        restored.compact(6, &mut second);
        assert_eq!(first, second);
    }
}
