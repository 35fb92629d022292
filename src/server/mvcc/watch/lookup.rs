//! From a key to its watchers (etcd: `watcherGroup`).
//!
//! Watchers of one key stand in a map, watchers of ranges in an interval tree: a write looks into
//! both, and never at a watcher that does not want it. Many may watch the same keys: those of one
//! key stand in a set, as those of one range do, so that taking one out costs no look at the others.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::interval::{End, IntervalTree};

/// The keys that a watcher watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// One key.
    One(Bytes),
    /// From the key, up to an end.
    Range(Bytes, End),
}

impl Keys {
    /// Reads a request's key and end: an empty key is the first that there can be, no end means one
    /// key, and one zero byte "to the last". `None` if no key can be in between.
    pub(super) fn new(key: &[u8], end: &[u8]) -> Option<Keys> {
        // Copied: a watcher lives long, and these are slices of a buffer of the network.
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

/// Watchers by what they watch.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    keys: HashMap<Bytes, BTreeSet<u64>>,
    ranges: IntervalTree,
}

impl Lookup {
    /// Adds a watcher.
    pub(super) fn insert(&mut self, keys: &Keys, watcher: u64) {
        match keys {
            Keys::One(key) => _ = self.keys.entry(key.clone()).or_default().insert(watcher),
            Keys::Range(begin, end) => self.ranges.insert(begin, end, watcher),
        }
    }

    /// Takes a watcher out.
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

    /// Finds the watchers of each event: pairs of watcher and place, by watcher, then by place.
    pub(super) fn pairs<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<(u64, usize)> {
        let mut pairs = Vec::new();
        for (place, key) in keys.enumerate() {
            self.visit(key, |watcher| pairs.push((watcher, place)));
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
    fn watchers_of_one_key_go_one_by_one() {
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

    /// Goal: adding a watcher and taking it out does not look at the others that watch the same.
    /// Method: the same number of watchers on one key, and spread over a thousand. If each looked at
    /// the others, the one key would take several hundred times as long; a tree that is deeper takes
    /// two or three times. The bound lies between, and the best of three runs counts, so that a pause
    /// of the machine is no failure.
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
            assert!(one < 20 * many, "{one:?} on one key, {many:?} on a thousand");
        }
    }
}
