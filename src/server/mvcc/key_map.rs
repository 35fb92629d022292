//! All keys in order, in leaves that know how many of theirs are alive.
//!
//! ```text
//!   leaves   [ a … f ] [ g … k ] [ l … z ]      at most 128 keys each, in order
//!   alive        97        128       3          how many of them are not deleted
//! ```
//!
//! A range answers how many keys it holds even when it returns few of them (`count` of etcd's
//! RangeResponse). etcd visits every key for that, under the lock of the index. Here the two leaves
//! at the ends are looked at, and the numbers of those between them are added: a list over a million
//! keys with a limit of one adds eight thousand numbers that lie side by side, which takes a few
//! microseconds.
//!
//! Two levels are enough: finding a key is two binary searches, and a new leaf, which moves all
//! behind it, comes once in 64 keys. Keys that come in order fill their leaves.
//!
//! Invariants: no leaf is empty; the first key of a leaf is greater than the last of the leaf
//! before; the bits of a leaf say which of its keys are alive, and its number how many.

use std::ops::Bound;

use bytes::Bytes;

use super::key_index::KeyIndex;

/// Keys of a leaf: as many as a `u128` has bits.
const LEAF_MAX: usize = 128;

/// Leaves that are smaller than this are joined with a neighbour that has room.
const LEAF_MIN: usize = LEAF_MAX / 4;

/// A lower and an upper bound of keys.
pub type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Where a key is: its leaf, and its place there. Ordered as the keys are.
type Place = (usize, usize);

/// Some keys in order.
#[derive(Debug)]
struct Leaf {
    keys: Vec<Bytes>,
    /// Of each key.
    indexes: Vec<KeyIndex>,
    /// A bit of each key, from the lowest on: whether it is alive.
    alive: u128,
}

/// A map from keys to their histories.
#[derive(Debug, Default)]
pub struct KeyMap {
    leaves: Vec<Leaf>,
    /// How many keys of each leaf are alive.
    alive: Vec<u32>,
    len: usize,
}

/// The bits below `place`.
fn below(place: usize) -> u128 {
    if place < LEAF_MAX { (1 << place) - 1 } else { u128::MAX }
}

impl Leaf {
    fn new() -> Self {
        Self { keys: Vec::with_capacity(LEAF_MAX), indexes: Vec::with_capacity(LEAF_MAX), alive: 0 }
    }

    /// Makes room for a bit.
    fn insert(&mut self, place: usize, key: Bytes) {
        self.keys.insert(place, key);
        self.indexes.insert(place, KeyIndex::default());
        let low = below(place);
        self.alive = (self.alive & low) | ((self.alive & !low) << 1);
    }

    fn remove(&mut self, place: usize) {
        self.keys.remove(place);
        self.indexes.remove(place);
        let low = below(place);
        self.alive = (self.alive & low) | ((self.alive >> 1) & !low);
    }

    /// Moves the keys from `place` on into a new leaf.
    fn split_off(&mut self, place: usize) -> Leaf {
        let mut right = Leaf::new();
        right.keys.extend(self.keys.drain(place..));
        right.indexes.extend(self.indexes.drain(place..));
        if place < LEAF_MAX {
            right.alive = self.alive >> place;
        }
        self.alive &= below(place);
        right
    }

    /// Takes in all keys of the leaf behind.
    fn append(&mut self, right: &mut Leaf) {
        self.alive |= right.alive << self.keys.len();
        self.keys.append(&mut right.keys);
        self.indexes.append(&mut right.indexes);
    }

    fn set_alive(&mut self, place: usize, is_alive: bool) {
        let bit = 1 << place;
        self.alive = if is_alive { self.alive | bit } else { self.alive & !bit };
    }
}

impl KeyMap {
    /// How many keys have a history.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The history of a key, with the key as it is stored.
    pub fn get(&self, key: &[u8]) -> Option<(&Bytes, &KeyIndex)> {
        let (leaf, place) = self.find(key).ok()?;
        let leaf = &self.leaves[leaf];
        Some((&leaf.keys[place], &leaf.indexes[place]))
    }

    /// Changes the history of a key, if it has one.
    pub fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut KeyIndex) -> R) -> Option<R> {
        let place = self.find(key).ok()?;
        Some(self.change(place, change))
    }

    /// Changes the history of a key, which is empty if there was none.
    pub fn upsert<R>(&mut self, key: &[u8], change: impl FnOnce(&mut KeyIndex) -> R) -> R {
        let place = self.find(key).unwrap_or_else(|place| self.insert(place, key));
        self.change(place, change)
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &[u8]) {
        let Ok((leaf, place)) = self.find(key) else { return };
        self.leaves[leaf].remove(place);
        self.len -= 1;
        self.count(leaf);
        self.shrink(leaf);
    }

    /// The keys within bounds, in order.
    pub fn range<'a>(
        &'a self,
        (from, to): Bounds<'_>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a KeyIndex)> + use<'a> {
        let (from, to) = (self.lower(from), self.upper(to));
        let leaves = self.leaves.iter().enumerate().skip(from.0);
        leaves.take_while(move |(number, _)| (*number, 0) < to).flat_map(move |(number, leaf)| {
            let first = if number == from.0 { from.1 } else { 0 };
            let end = if number == to.0 { to.1 } else { leaf.keys.len() };
            let places = first..end.max(first);
            leaf.keys[places.clone()].iter().zip(&leaf.indexes[places])
        })
    }

    /// Changes the histories of up to `limit` keys from a bound on, in order. They may not come to
    /// life or die by that.
    pub fn for_each_from(
        &mut self,
        from: Bound<&[u8]>,
        limit: usize,
        mut change: impl FnMut(&Bytes, &mut KeyIndex),
    ) {
        let (first, place) = self.lower(from);
        let leaves = self.leaves.iter_mut().skip(first).enumerate();
        let pairs = leaves.flat_map(|(number, leaf)| {
            let place = if number == 0 { place } else { 0 };
            leaf.keys[place..].iter().zip(&mut leaf.indexes[place..])
        });
        pairs.take(limit).for_each(|(key, index)| change(key, index));
    }

    /// How many keys within bounds are alive.
    pub fn alive(&self, (from, to): Bounds<'_>) -> usize {
        let (from, to) = (self.lower(from), self.upper(to));
        if to <= from {
            return 0;
        }
        let bits = |leaf: usize| self.leaves.get(leaf).map_or(0, |leaf| leaf.alive);
        if from.0 == to.0 {
            return (bits(from.0) & below(to.1) & !below(from.1)).count_ones() as usize;
        }
        let first = (bits(from.0) & !below(from.1)).count_ones();
        let last = (bits(to.0) & below(to.1)).count_ones();
        let between: u64 = self.alive[from.0 + 1..to.0].iter().map(|alive| u64::from(*alive)).sum();
        (u64::from(first + last) + between) as usize
    }

    /// Where a key is, or where it would be.
    fn find(&self, key: &[u8]) -> Result<Place, Place> {
        let behind = self.leaves.partition_point(|leaf| leaf.keys[0].as_ref() <= key);
        let Some(number) = behind.checked_sub(1) else { return Err((0, 0)) };
        let found = self.leaves[number].keys.binary_search_by(|other| other.as_ref().cmp(key));
        found.map(|place| (number, place)).map_err(|place| (number, place))
    }

    /// The first place within a lower bound.
    fn lower(&self, bound: Bound<&[u8]>) -> Place {
        match bound {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) => self.find(key).unwrap_or_else(|place| place),
            Bound::Excluded(key) => match self.find(key) {
                Ok((leaf, place)) => (leaf, place + 1),
                Err(place) => place,
            },
        }
    }

    /// The first place beyond an upper bound.
    fn upper(&self, bound: Bound<&[u8]>) -> Place {
        match bound {
            Bound::Unbounded => (self.leaves.len(), 0),
            Bound::Included(key) => self.lower(Bound::Excluded(key)),
            Bound::Excluded(key) => self.lower(Bound::Included(key)),
        }
    }

    fn insert(&mut self, (number, place): Place, key: &[u8]) -> Place {
        // Copied, because the request's key is a slice of a large network buffer.
        let key = Bytes::copy_from_slice(key);
        self.len += 1;
        if self.leaves.is_empty() {
            self.leaves.push(Leaf::new());
            self.alive.push(0);
        }
        if self.leaves[number].keys.len() < LEAF_MAX {
            self.leaves[number].insert(place, key);
            return (number, place);
        }
        // Keys that come in order go into a leaf of their own, and leave full ones behind.
        let is_last = place == LEAF_MAX && number + 1 == self.leaves.len();
        let middle = if is_last { LEAF_MAX } else { LEAF_MAX / 2 };
        let right = self.leaves[number].split_off(middle);
        self.leaves.insert(number + 1, right);
        self.alive.insert(number + 1, 0);
        let place = if middle <= place { (number + 1, place - middle) } else { (number, place) };
        self.leaves[place.0].insert(place.1, key);
        self.count(number);
        self.count(number + 1);
        place
    }

    fn change<R>(&mut self, (number, place): Place, change: impl FnOnce(&mut KeyIndex) -> R) -> R {
        let leaf = &mut self.leaves[number];
        let result = change(&mut leaf.indexes[place]);
        let is_alive = leaf.indexes[place].is_alive();
        leaf.set_alive(place, is_alive);
        self.count(number);
        result
    }

    fn count(&mut self, number: usize) {
        self.alive[number] = self.leaves[number].alive.count_ones();
    }

    /// Removes a leaf that is empty, and joins one that is small with the next if there is room.
    fn shrink(&mut self, number: usize) {
        let len = self.leaves[number].keys.len();
        if len == 0 {
            self.leaves.remove(number);
            self.alive.remove(number);
            return;
        }
        let has_room = |next: &Leaf| len + next.keys.len() <= LEAF_MAX - LEAF_MIN;
        if len < LEAF_MIN && self.leaves.get(number + 1).is_some_and(has_room) {
            let mut next = self.leaves.remove(number + 1);
            self.alive.remove(number + 1);
            self.leaves[number].append(&mut next);
            self.count(number);
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
        assert_eq!(map.leaves.len(), map.alive.len());
        let mut before: Option<&Bytes> = None;
        for (leaf, alive) in map.leaves.iter().zip(&map.alive) {
            assert!((1..=LEAF_MAX).contains(&leaf.keys.len()));
            assert_eq!(leaf.keys.len(), leaf.indexes.len());
            assert_eq!(*alive, leaf.alive.count_ones());
            assert_eq!(leaf.alive & !below(leaf.keys.len()), 0, "bits of keys that are not there");
            for (place, key) in leaf.keys.iter().enumerate() {
                assert!(before.is_none_or(|before| before < key));
                assert_eq!(leaf.alive >> place & 1 == 1, leaf.indexes[place].is_alive());
                before = Some(key);
            }
        }
        assert_eq!(map.len, map.leaves.iter().map(|leaf| leaf.keys.len()).sum::<usize>());
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
            assert_eq!(map.len(), model.len());
        }
    }

    #[test]
    fn keys_that_come_in_order_fill_their_leaves() {
        let mut map = KeyMap::default();
        for number in 0..10 * LEAF_MAX {
            map.upsert(&key(number), |index| index.put(Revision::new(1 + number as i64, 0)));
        }
        check_invariants(&map);
        assert_eq!(map.leaves.len(), 10);
        assert_eq!(map.alive((Bound::Unbounded, Bound::Unbounded)), 10 * LEAF_MAX);
    }

    #[test]
    fn a_map_that_is_emptied_leaves_no_leaf() {
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
        assert!(map.is_empty() && map.leaves.is_empty());
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
