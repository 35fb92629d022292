//! From a key to its watchers (etcd: `watcherGroup`).
//!
//! Watchers of one key are in a map, and watchers of ranges in an interval tree. A write searches
//! both, and visits only watchers of its keys. The watchers of one key are a set, and so are those
//! of one range, so removing one costs no visit to the others.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::interval::{End, IntervalTree};

/// The keys of a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    One(Bytes),
    /// From the key up to an end.
    Range(Bytes, End),
}

impl Keys {
    /// Reads a request's key and end. An empty key stands for the smallest key; an empty end means
    /// one key, and one zero byte means no upper bound. Returns `None` if the range contains no
    /// key.
    pub(super) fn new(key: &[u8], end: &[u8]) -> Option<Keys> {
        // Copied, because a watcher lives long, and these are slices of a larger network buffer.
        let begin = if key.is_empty() { b"\0" } else { key };
        let begin = Bytes::copy_from_slice(begin);
        match end {
            [] => Some(Keys::One(begin)),
            [0] => Some(Keys::Range(begin, End::Never)),
            end if begin.as_ref() < end => {
                Some(Keys::Range(begin, End::Before(Bytes::copy_from_slice(end))))
            }
            _ => None,
        }
    }
}

/// The numbers of watchers, by key.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    keys: HashMap<Bytes, BTreeSet<u64>>,
    ranges: IntervalTree,
}

impl Lookup {
    pub(super) fn insert(&mut self, keys: &Keys, watcher: u64) {
        match keys {
            Keys::One(key) => _ = self.keys.entry(key.clone()).or_default().insert(watcher),
            Keys::Range(begin, end) => self.ranges.insert(begin, end, watcher),
        }
    }

    pub(super) fn remove(&mut self, keys: &Keys, watcher: u64) {
        match keys {
            Keys::One(key) => {
                let Some(watchers) = self.keys.get_mut(key) else { return };
                watchers.remove(&watcher);
                if watchers.is_empty() {
                    self.keys.remove(key);
                }
            }
            Keys::Range(begin, end) => self.ranges.remove(begin, end, watcher),
        }
    }

    /// Calls `f` with each watcher of `key`.
    pub(super) fn visit(&self, key: &[u8], mut f: impl FnMut(u64)) {
        for watcher in self.keys.get(key).into_iter().flatten() {
            f(*watcher);
        }
        self.ranges.visit(key, &mut f);
    }

    /// Finds the watchers of each of these keys. Returns pairs of a watcher and the index of a key,
    /// in ascending order.
    pub(super) fn pairs<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<(u64, usize)> {
        let mut pairs = Vec::new();
        for (index, key) in keys.enumerate() {
            self.visit(key, |watcher| pairs.push((watcher, index)));
        }
        pairs.sort_unstable();
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn keys_are_read_as_etcd_reads_them() {
        let begin = |key: &[u8]| Bytes::copy_from_slice(key);
        assert_eq!(Keys::new(b"", b""), Some(Keys::One(begin(b"\0"))));
        assert_eq!(Keys::new(b"", b"\0"), Some(Keys::Range(begin(b"\0"), End::Never)));
        let range = Keys::Range(begin(b"a"), End::Before(begin(b"b")));
        assert_eq!(Keys::new(b"a", b"b"), Some(range));
        assert_eq!(Keys::new(b"a", b"a"), None);
        assert_eq!(Keys::new(b"b", b"a"), None);
    }

    #[test]
    fn watchers_of_one_key_are_removed_one_by_one() {
        let keys = Keys::new(b"a", b"").unwrap();
        let mut lookup = Lookup::default();
        for watcher in 0..5_000 {
            lookup.insert(&keys, watcher);
        }
        for watcher in (0..5_000).filter(|watcher| watcher % 1_000 != 7) {
            lookup.remove(&keys, watcher);
        }
        let left: Vec<u64> =
            lookup.pairs([b"a".as_slice()].into_iter()).into_iter().map(|pair| pair.0).collect();
        assert_eq!(left, [7, 1_007, 2_007, 3_007, 4_007]);
        left.into_iter().for_each(|watcher| lookup.remove(&keys, watcher));
        assert!(lookup.keys.is_empty());
    }

    /// Goal: adding or removing a watcher does not visit the others of the same keys. Method: the
    /// same number of watchers on one key, and on a thousand keys. If each visited the others, one
    /// key would take several hundred times as long; a deeper tree takes two or three times as
    /// long. The bound lies between, and the best of three runs counts, so that a pause of the
    /// machine is not a failure.
    #[test]
    fn many_watchers_of_one_key_cost_no_more_than_the_same_number_on_many_keys() {
        const WATCHERS: u64 = 50_000;
        let end_of = |is_range: bool| if is_range { b"z".as_slice() } else { b"" };
        for end in [false, true].map(end_of) {
            let run = |count: u64| {
                let key = |n: u64| Keys::new(format!("k{n:04}").as_bytes(), end).unwrap();
                let all: Vec<Keys> = (0..count).map(key).collect();
                let keys_of = |watcher: u64| &all[usize::try_from(watcher % count).unwrap()];
                let mut lookup = Lookup::default();
                let begun = clock::now();
                (0..WATCHERS).for_each(|watcher| lookup.insert(keys_of(watcher), watcher));
                (0..WATCHERS).for_each(|watcher| lookup.remove(keys_of(watcher), watcher));
                clock::now().duration_since(begun)
            };
            let best = |count| (0..3).map(|_| run(count)).min().unwrap();
            let (one, many) = (best(1), best(1_000));
            assert!(one < 20 * many, "{one:?} on one key, {many:?} on a thousand keys");
        }
    }
}
