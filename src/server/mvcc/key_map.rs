//! All keys in order, and how many of a range are alive.
//!
//! ```text
//!   keys     a b c d e f | g h i j k | l m n …        an ordered map, from key to history
//!   blocks   from a: 6 keys, 5 alive | from g: 5, 5 | from l: …
//! ```
//!
//! A range answers how many keys it holds even when it returns few of them (`count` of etcd's
//! RangeResponse). etcd visits every key for that, under the lock of the index. Here the keys are
//! counted in blocks of at most [`BLOCK_MAX`]: of a range only the blocks at its two ends are
//! visited, and the numbers of those between are added. A list over a million keys with a limit of
//! one adds some six thousand numbers that lie side by side, which takes a few microseconds.
//!
//! A put of a key that exists, which is most of them, changes no number and costs nothing here. A key
//! that is new, deleted or forgotten costs a binary search among the blocks.
//!
//! Invariants: every key belongs to the last block that begins at or before it, or to the first
//! one; the numbers of a block are those of its keys; there is a block if there is a key, and none
//! is empty.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use super::key_index::KeyIndex;

/// Keys of a block: what a count visits at each end of its range.
const BLOCK_MAX: usize = 256;

/// Blocks that are smaller than this are joined with the next if there is room.
const BLOCK_MIN: usize = BLOCK_MAX / 4;

/// A lower and an upper bound of keys.
pub type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Some keys that follow on each other.
#[derive(Debug, Default)]
struct Block {
    /// Where it begins; of the first block this counts for nothing.
    from: Bytes,
    keys: usize,
    /// How many of the keys are not deleted.
    alive: usize,
}

/// A map from keys to their histories.
#[derive(Debug, Default)]
pub struct KeyMap {
    keys: BTreeMap<Bytes, KeyIndex>,
    blocks: Vec<Block>,
}

/// What a change has done to a key.
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
    /// How many keys have a history.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The history of a key, with the key as it is stored.
    pub fn get(&self, key: &[u8]) -> Option<(&Bytes, &KeyIndex)> {
        self.keys.get_key_value(key)
    }

    /// Changes the history of a key, if it has one.
    pub fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut KeyIndex) -> R) -> Option<R> {
        let changed = changed(self.keys.get_mut(key)?, change);
        Some(self.counted(key, changed))
    }

    /// Changes the history of a key, which is empty if there was none.
    pub fn upsert<R>(&mut self, key: &[u8], change: impl FnOnce(&mut KeyIndex) -> R) -> R {
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

    /// Forgets a key.
    pub fn remove(&mut self, key: &[u8]) {
        let Some(index) = self.keys.remove(key) else { return };
        let number = self.block_of(key);
        self.blocks[number].keys -= 1;
        self.blocks[number].alive -= usize::from(index.is_alive());
        self.shrink(number);
    }

    /// The keys within bounds, in order.
    pub fn range<'a>(
        &'a self,
        bounds: Bounds<'_>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a KeyIndex)> + use<'a> {
        self.keys.range::<[u8], _>(bounds)
    }

    /// Changes the histories of up to `limit` keys from a bound on, in order. They may not come to
    /// life or die by that.
    pub fn for_each_from(
        &mut self,
        from: Bound<&[u8]>,
        limit: usize,
        mut change: impl FnMut(&Bytes, &mut KeyIndex),
    ) {
        let keys = self.keys.range_mut::<[u8], _>((from, Bound::Unbounded));
        keys.take(limit).for_each(|(key, index)| change(key, index));
    }

    /// How many keys within bounds have a history, and how many of these are alive: at most. That
    /// is the number of all keys of the blocks, of which no key is visited.
    pub fn at_most(&self, (from, to): Bounds<'_>) -> (usize, usize) {
        let first = match from {
            Bound::Unbounded => 0,
            Bound::Included(key) | Bound::Excluded(key) => self.block_of(key),
        };
        let end = match to {
            Bound::Unbounded => self.blocks.len(),
            Bound::Included(key) | Bound::Excluded(key) => self.block_of(key) + 1,
        };
        let blocks = self.blocks.get(first..end.min(self.blocks.len())).unwrap_or_default();
        blocks.iter().fold((0, 0), |(keys, alive), block| (keys + block.keys, alive + block.alive))
    }

    /// How many keys within bounds are alive.
    pub fn alive(&self, (from, to): Bounds<'_>) -> usize {
        let end = |bound| match bound {
            Bound::Unbounded => None,
            Bound::Included(key) | Bound::Excluded(key) => Some(self.block_of(key)),
        };
        let (first, last) = (end(from), end(to));
        if first.is_some() && first == last || self.blocks.is_empty() {
            return self.visit_alive((from, to));
        }
        // Whole blocks; and what is left of the first and of the last.
        let whole = first.map_or(0, |first| first + 1)..last.unwrap_or(self.blocks.len());
        let mut alive = self.blocks[whole.clone()].iter().map(|block| block.alive).sum();
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

    /// The number of the block that a key belongs to, or would.
    fn block_of(&self, key: &[u8]) -> usize {
        self.blocks.partition_point(|block| block.from.as_ref() <= key).saturating_sub(1)
    }

    /// Counts what a change has done to a key, and returns what it returned.
    fn counted<R>(&mut self, key: &[u8], changed: Changed<R>) -> R {
        let Changed { result, was_alive, is_alive } = changed;
        if was_alive != is_alive {
            let number = self.block_of(key);
            let block = &mut self.blocks[number];
            block.alive = block.alive + usize::from(is_alive) - usize::from(was_alive);
        }
        result
    }

    /// A key was added.
    fn count_new(&mut self, key: &[u8], is_alive: bool) {
        if self.blocks.is_empty() {
            self.blocks.push(Block::default());
        }
        let number = self.block_of(key);
        self.blocks[number].keys += 1;
        self.blocks[number].alive += usize::from(is_alive);
        if BLOCK_MAX < self.blocks[number].keys {
            self.split(number);
        }
    }

    /// Gives the second half of a block's keys to a new one.
    fn split(&mut self, number: usize) {
        let half = self.blocks[number].keys / 2;
        let from: Bound<&[u8]> = match number {
            0 => Bound::Unbounded,
            _ => Bound::Included(&self.blocks[number].from),
        };
        let mut keys = self.keys.range::<[u8], _>((from, Bound::Unbounded));
        let alive = keys.by_ref().take(half).filter(|(_, index)| index.is_alive()).count();
        let (from, _) = keys.next().expect("a block has more keys than half of them");
        let from = Bytes::copy_from_slice(from);
        let block = &mut self.blocks[number];
        let right = Block { from, keys: block.keys - half, alive: block.alive - alive };
        (block.keys, block.alive) = (half, alive);
        self.blocks.insert(number + 1, right);
    }

    /// Removes a block that is empty, and joins one that is small with the next if there is room.
    fn shrink(&mut self, number: usize) {
        let keys = self.blocks[number].keys;
        if keys == 0 {
            self.blocks.remove(number);
            return;
        }
        let has_room = |next: &Block| keys + next.keys <= BLOCK_MAX - BLOCK_MIN;
        if keys < BLOCK_MIN && self.blocks.get(number + 1).is_some_and(has_room) {
            let next = self.blocks.remove(number + 1);
            let block = &mut self.blocks[number];
            block.keys += next.keys;
            block.alive += next.alive;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::server::mvcc::Revision;

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = self.0;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (x ^ (x >> 31)) as usize % below
        }
    }

    fn key(number: usize) -> Vec<u8> {
        format!("{number:05}").into_bytes()
    }

    /// What the essay promises.
    fn check_invariants(map: &KeyMap) {
        assert_eq!(map.blocks.is_empty(), map.is_empty());
        for (number, block) in map.blocks.iter().enumerate() {
            assert!((1..=BLOCK_MAX).contains(&block.keys));
            let of_block = map.keys.iter().filter(|(key, _)| map.block_of(key) == number);
            let alive: Vec<bool> = of_block.map(|(_, index)| index.is_alive()).collect();
            let is_alive = |alive: &&bool| **alive;
            assert_eq!(
                (block.keys, block.alive),
                (alive.len(), alive.iter().filter(is_alive).count())
            );
        }
        assert!(map.blocks.iter().skip(1).is_sorted_by(|a, b| a.from < b.from));
    }

    fn bounds(random: &mut Random, keys: usize) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let mut ends = [random.below(keys + 2), random.below(keys + 2)];
        ends.sort_unstable();
        let mut bound = |number: usize| match random.below(4) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(key(number)),
            _ => Bound::Included(key(number)),
        };
        let bounds = (bound(ends[0]), bound(ends[1]));
        // The standard map does not take one key, excluded twice.
        match bounds {
            (Bound::Excluded(_), Bound::Excluded(end)) => (Bound::Unbounded, Bound::Excluded(end)),
            bounds => bounds,
        }
    }

    fn as_slices<'a>((from, to): &'a (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Bounds<'a> {
        (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice))
    }

    /// Goal: the map is an ordered map, and counts what is alive. Method: random puts, deletions and
    /// removals on a map and on the standard one; all ranges agree.
    #[test]
    fn it_is_an_ordered_map_that_counts() {
        for seed in 0..8 {
            println!("seed {seed}");
            let (mut random, keys) = (Random(seed), [40, 400, 1500][seed as usize % 3]);
            let (mut map, mut model) = (KeyMap::default(), BTreeMap::new());
            for step in 1..=6 * keys {
                let (key, at) = (key(random.below(keys)), Revision::new(step as i64, 0));
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
    fn blocks_are_as_many_as_their_keys_need() {
        let mut map = KeyMap::default();
        for number in 0..10 * BLOCK_MAX {
            map.upsert(&key(number), |index| index.put(Revision::new(1 + number as i64, 0)));
        }
        check_invariants(&map);
        assert!((10..=20).contains(&map.blocks.len()), "{} blocks", map.blocks.len());
        assert_eq!(map.alive((Bound::Unbounded, Bound::Unbounded)), 10 * BLOCK_MAX);
    }

    #[test]
    fn a_map_that_is_emptied_leaves_no_block() {
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
        assert!(map.is_empty() && map.blocks.is_empty());
        assert_eq!(map.range((Bound::Unbounded, Bound::Unbounded)).count(), 0);
        assert_eq!(map.alive((Bound::Unbounded, Bound::Unbounded)), 0);
    }

    #[test]
    fn keys_from_a_bound_on_are_changed_up_to_a_limit() {
        let mut map = KeyMap::default();
        for number in 0..300 {
            map.upsert(&key(number), |index| index.put(Revision::new(1 + number as i64, 0)));
        }
        let mut seen = Vec::new();
        map.for_each_from(Bound::Excluded(&key(120)), 150, |key, _| seen.push(key.to_vec()));
        assert!(seen.into_iter().eq((121..271).map(key)));
    }
}
