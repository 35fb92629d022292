//! All keys in order, and the number of keys in a range that are not deleted.
//!
//! ```text
//!   keys     a b c d e f | g h i j k | l m n …        an ordered map, from key to history
//!   blocks   from a: 6 keys, 5 alive | from g: 5, 5 | from l: …
//! ```
//!
//! A RangeResponse counts all keys of the range even when it returns few of them (`count`). etcd
//! visits every key for that, with its index locked. Here each block of at most [`BLOCK_MAX`] keys
//! is counted in advance: a count visits the keys of the blocks at the two ends of the range, and
//! adds the counts of those between. A list of a million keys with a limit of one adds some six
//! thousand adjacent numbers, which takes a few microseconds.
//!
//! Most puts are of a key that is alive. They change no count and cost nothing here. A key that is
//! added, deleted, put again or forgotten costs a binary search among the blocks.
//!
//! Invariants
//! * A key belongs to the last block that begins at or before it, or to the first block.
//! * The counts of a block are those of its keys.
//! * There is a block if there is a key, and no block is empty.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use super::key_index::KeyIndex;

/// The most keys in a block, and so the most that a count visits at each end of its range.
const BLOCK_MAX: usize = 256;

/// A block with fewer keys than this is joined with the next one if both together have room.
const BLOCK_MIN: usize = BLOCK_MAX / 4;

/// The lower and the upper bound of a range of keys.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Consecutive keys of the map, and their counts.
#[derive(Debug, Default)]
struct Block {
    /// The key at which the block begins; not used in the first block, which has no lower bound.
    from: Bytes,
    counts: Counts,
}

/// Numbers of keys in a part of the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Keys that have a history, deleted ones included.
    pub(crate) keys: usize,
    /// Keys that are not deleted.
    pub(crate) alive: usize,
}

/// A map from keys to their histories. See the module's text.
#[derive(Debug, Default)]
pub(crate) struct KeyMap {
    keys: BTreeMap<Bytes, KeyIndex>,
    blocks: Vec<Block>,
}

/// The effect of a change on a key.
struct Changed<R> {
    result: R,
    was_alive: bool,
    is_alive: bool,
}

fn changed<R>(index: &mut KeyIndex, change: impl FnOnce(&mut KeyIndex) -> R) -> Changed<R> {
    let was_alive = index.is_alive();
    let result = change(index);
    Changed { result, was_alive, is_alive: index.is_alive() }
}

impl KeyMap {
    /// The number of keys that have a history, deleted ones included.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The history of a key, with the stored copy of the key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<(&Bytes, &KeyIndex)> {
        self.keys.get_key_value(key)
    }

    /// Changes the history of a key, if it has one.
    pub(crate) fn update<R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut KeyIndex) -> R,
    ) -> Option<R> {
        let changed = changed(self.keys.get_mut(key)?, change);
        Some(self.counted(key, changed))
    }

    /// Changes the history of a key, or adds an empty one first.
    pub(crate) fn upsert<R>(&mut self, key: &[u8], change: impl FnOnce(&mut KeyIndex) -> R) -> R {
        if let Some(index) = self.keys.get_mut(key) {
            let changed = changed(index, change);
            return self.counted(key, changed);
        }
        // Copied, because the request's key is a slice of a large network buffer.
        let index = self.keys.entry(Bytes::copy_from_slice(key)).or_default();
        let Changed { result, is_alive, .. } = changed(index, change);
        self.count_new(key, is_alive);
        result
    }

    /// Removes a key with its history.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        let Some(index) = self.keys.remove(key) else { return };
        let number = self.block_of(key);
        let counts = &mut self.blocks[number].counts;
        counts.keys -= 1;
        counts.alive -= usize::from(index.is_alive());
        self.shrink(number);
    }

    /// The keys within bounds, in order.
    pub(crate) fn range<'a>(
        &'a self,
        bounds: Bounds<'_>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a KeyIndex)> + use<'a> {
        self.keys.range::<[u8], _>(bounds)
    }

    /// Changes the histories of up to `limit` keys from a lower bound on, in order. The change must
    /// neither delete a key nor revive one, because it is not counted.
    pub(crate) fn for_each_from(
        &mut self,
        from: Bound<&[u8]>,
        limit: usize,
        mut change: impl FnMut(&Bytes, &mut KeyIndex),
    ) {
        let keys = self.keys.range_mut::<[u8], _>((from, Bound::Unbounded));
        keys.take(limit).for_each(|(key, index)| change(key, index));
    }

    /// Upper limits for the numbers of keys within bounds: the sums of the blocks that they touch.
    /// Visits no key.
    pub(crate) fn counts_max(&self, (from, to): Bounds<'_>) -> Counts {
        let first = match from {
            Bound::Unbounded => 0,
            Bound::Included(key) | Bound::Excluded(key) => self.block_of(key),
        };
        let end = match to {
            Bound::Unbounded => self.blocks.len(),
            Bound::Included(key) | Bound::Excluded(key) => self.block_of(key) + 1,
        };
        let blocks = self.blocks.get(first..end.min(self.blocks.len())).unwrap_or_default();
        let keys = blocks.iter().map(|block| block.counts.keys).sum();
        let alive = blocks.iter().map(|block| block.counts.alive).sum();
        Counts { keys, alive }
    }

    /// The number of keys within bounds that are not deleted.
    pub(crate) fn alive(&self, (from, to): Bounds<'_>) -> usize {
        let end = |bound| match bound {
            Bound::Unbounded => None,
            Bound::Included(key) | Bound::Excluded(key) => Some(self.block_of(key)),
        };
        let (first, last) = (end(from), end(to));
        if first.is_some() && first == last || self.blocks.is_empty() {
            return self.visit_alive((from, to));
        }
        // Whole blocks, then the rest of the first block and of the last.
        let whole = first.map_or(0, |first| first + 1)..last.unwrap_or(self.blocks.len());
        let mut alive = self.blocks[whole.clone()].iter().map(|block| block.counts.alive).sum();
        if let (Some(_), Some(next)) = (first, self.blocks.get(whole.start)) {
            alive += self.visit_alive((from, Bound::Excluded(&next.from)));
        } else if first.is_some() {
            alive += self.visit_alive((from, Bound::Unbounded));
        }
        match last {
            Some(0) => alive + self.visit_alive((Bound::Unbounded, to)),
            Some(last) => alive + self.visit_alive((Bound::Included(&self.blocks[last].from), to)),
            None => alive,
        }
    }

    fn visit_alive(&self, bounds: Bounds<'_>) -> usize {
        self.range(bounds).filter(|(_, index)| index.is_alive()).count()
    }

    /// The index of the block to which a key belongs, or would belong.
    fn block_of(&self, key: &[u8]) -> usize {
        self.blocks.partition_point(|block| block.from.as_ref() <= key).saturating_sub(1)
    }

    /// Counts a change of a key, and returns its result.
    fn counted<R>(&mut self, key: &[u8], changed: Changed<R>) -> R {
        let Changed { result, was_alive, is_alive } = changed;
        if was_alive != is_alive {
            let number = self.block_of(key);
            let counts = &mut self.blocks[number].counts;
            counts.alive = counts.alive + usize::from(is_alive) - usize::from(was_alive);
        }
        result
    }

    /// Counts a key that was added.
    fn count_new(&mut self, key: &[u8], is_alive: bool) {
        if self.blocks.is_empty() {
            self.blocks.push(Block::default());
        }
        let number = self.block_of(key);
        let counts = &mut self.blocks[number].counts;
        counts.keys += 1;
        counts.alive += usize::from(is_alive);
        if BLOCK_MAX < counts.keys {
            self.split(number);
        }
    }

    /// Moves the second half of a block's keys to a new block.
    fn split(&mut self, number: usize) {
        let half = self.blocks[number].counts.keys / 2;
        let from: Bound<&[u8]> = match number {
            0 => Bound::Unbounded,
            _ => Bound::Included(&self.blocks[number].from),
        };
        let mut keys = self.keys.range::<[u8], _>((from, Bound::Unbounded));
        let alive = keys.by_ref().take(half).filter(|(_, index)| index.is_alive()).count();
        let (from, _) = keys.next().expect("the second half has a key");
        let from = Bytes::copy_from_slice(from);
        let left = Counts { keys: half, alive };
        let all = std::mem::replace(&mut self.blocks[number].counts, left);
        let right = Counts { keys: all.keys - left.keys, alive: all.alive - left.alive };
        self.blocks.insert(number + 1, Block { from, counts: right });
    }

    /// Removes a block if it is empty; joins it with the next one if it is small and there is room.
    fn shrink(&mut self, number: usize) {
        let keys = self.blocks[number].counts.keys;
        if keys == 0 {
            self.blocks.remove(number);
            return;
        }
        let has_room = |next: &Block| keys + next.counts.keys <= BLOCK_MAX - BLOCK_MIN;
        if keys < BLOCK_MIN && self.blocks.get(number + 1).is_some_and(has_room) {
            let next = self.blocks.remove(number + 1).counts;
            let counts = &mut self.blocks[number].counts;
            counts.keys += next.keys;
            counts.alive += next.alive;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{random::Random, server::mvcc::Revision};

    fn key(number: usize) -> Vec<u8> {
        format!("{number:05}").into_bytes()
    }

    /// The invariants of the module's text.
    fn check_invariants(map: &KeyMap) {
        assert_eq!(map.blocks.is_empty(), map.keys.is_empty());
        for (number, block) in map.blocks.iter().enumerate() {
            assert!((1..=BLOCK_MAX).contains(&block.counts.keys));
            let of_block = map.keys.iter().filter(|(key, _)| map.block_of(key) == number);
            let alive: Vec<bool> = of_block.map(|(_, index)| index.is_alive()).collect();
            let is_alive = |alive: &&bool| **alive;
            let (keys, alive) = (alive.len(), alive.iter().filter(is_alive).count());
            assert_eq!(block.counts, Counts { keys, alive });
        }
        assert!(map.blocks.iter().skip(1).is_sorted_by(|a, b| a.from < b.from));
    }

    fn bounds(random: &mut Random, keys: usize) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let mut ends = [random.index(keys + 2), random.index(keys + 2)];
        ends.sort_unstable();
        let mut bound = |number: usize| match random.below(4) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(key(number)),
            _ => Bound::Included(key(number)),
        };
        let bounds = (bound(ends[0]), bound(ends[1]));
        // The standard map panics if both bounds exclude the same key.
        match bounds {
            (Bound::Excluded(_), Bound::Excluded(end)) => (Bound::Unbounded, Bound::Excluded(end)),
            bounds => bounds,
        }
    }

    fn as_slices<'a>((from, to): &'a (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Bounds<'a> {
        (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice))
    }

    /// Goal: the map is ordered, and counts the keys that are not deleted. Method: random puts,
    /// deletions and removals, here and in a standard map; ranges and their counts agree.
    #[test]
    fn a_random_history_leaves_an_ordered_map_with_right_counts() {
        for seed in 0..8 {
            let (mut random, keys) = (Random::new(seed), [40, 400, 1500][seed as usize % 3]);
            let (mut map, mut model) = (KeyMap::default(), BTreeMap::new());
            for step in 1..=6 * keys {
                let (key, at) = (key(random.index(keys)), Revision::new(step as i64, 0));
                match random.below(10) {
                    0..6 => {
                        map.upsert(&key, |index| index.put(at));
                        model.insert(key, true);
                    }
                    6..9 => {
                        let was_alive = map.update(&key, |index| index.tombstone(at));
                        let alive = model.get_mut(&key);
                        assert_eq!(was_alive, alive.as_ref().map(|alive| **alive));
                        alive.into_iter().for_each(|alive| *alive = false);
                    }
                    _ => {
                        map.remove(&key);
                        model.remove(&key);
                    }
                }
                if step % (keys / 10) == 0 {
                    check_invariants(&map);
                }
                if step % 5 != 0 {
                    continue;
                }
                let bounds = bounds(&mut random, keys);
                let range = map.range(as_slices(&bounds)).map(|(key, _)| key.to_vec());
                let expected: Vec<_> = model.range(bounds.clone()).collect();
                assert!(range.eq(expected.iter().map(|(key, _)| (*key).clone())), "{bounds:?}");
                let alive = expected.iter().filter(|(_, alive)| **alive).count();
                assert_eq!(map.alive(as_slices(&bounds)), alive, "{bounds:?}");
            }
            check_invariants(&map);
            assert_eq!(map.len(), model.len());
        }
    }

    #[test]
    fn there_is_a_block_for_every_half_or_whole_block_of_keys() {
        let mut map = KeyMap::default();
        for number in 0..10 * BLOCK_MAX {
            map.upsert(&key(number), |index| index.put(Revision::new(1 + number as i64, 0)));
        }
        check_invariants(&map);
        assert!((10..=20).contains(&map.blocks.len()), "{} blocks", map.blocks.len());
        assert_eq!(map.alive((Bound::Unbounded, Bound::Unbounded)), 10 * BLOCK_MAX);
    }

    #[test]
    fn a_map_whose_keys_are_all_removed_has_no_block() {
        let mut map = KeyMap::default();
        for number in 0..1000 {
            map.upsert(&key(number * 7 % 1000), |index| {
                index.put(Revision::new(number as i64 + 1, 0))
            });
        }
        for number in 0..1000 {
            map.remove(&key(number * 13 % 1000));
            check_invariants(&map);
        }
        assert!(map.keys.is_empty() && map.blocks.is_empty());
        assert_eq!(map.range((Bound::Unbounded, Bound::Unbounded)).count(), 0);
        assert_eq!(map.alive((Bound::Unbounded, Bound::Unbounded)), 0);
    }

    #[test]
    fn a_change_of_many_keys_begins_behind_its_bound_and_ends_at_its_limit() {
        let mut map = KeyMap::default();
        for number in 0..300 {
            map.upsert(&key(number), |index| index.put(Revision::new(1 + number as i64, 0)));
        }
        let mut seen = Vec::new();
        map.for_each_from(Bound::Excluded(&key(120)), 150, |key, _| seen.push(key.to_vec()));
        assert!(seen.into_iter().eq((121..271).map(key)));
    }
}
