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

    /// Goal: taking a watcher out does not look at all others of its key. Method: so many that the
    /// test would take minutes, and be noticed, if it did.
    #[test]
    fn half_a_million_watchers_of_one_key_go_one_by_one() {
        let keys = Keys::new(b"a", b"").unwrap();
        let mut lookup = Lookup::default();
        for watcher in 0..500_000 {
            lookup.insert(&keys, watcher);
        }
        for watcher in (0..500_000).filter(|watcher| watcher % 100_000 != 7) {
            lookup.remove(&keys, watcher);
        }
        let left: Vec<u64> =
            lookup.pairs([b"a".as_slice()].into_iter()).into_iter().map(|pair| pair.0).collect();
        assert_eq!(left, [7, 100_007, 200_007, 300_007, 400_007]);
        left.into_iter().for_each(|watcher| lookup.remove(&keys, watcher));
        assert!(lookup.keys.is_empty());
    }
}
