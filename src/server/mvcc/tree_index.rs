//! From keys to revisions, in memory (etcd: `treeIndex`).
//!
//! The file knows values by revision only; which revisions a key has is known here. The tree is
//! rebuilt from the key bucket when a member starts.

use std::{collections::HashSet, ops::Bound};

use bytes::Bytes;

use super::{
    Revision,
    key_index::{Found, KeyIndex, Placed},
    key_map::{Bounds, KeyMap},
};

/// The keys that a request names, as etcd's requests do: a key and an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    key: &'a [u8],
    end: &'a [u8],
}

impl<'a> KeyRange<'a> {
    /// `end` empty: this key only; one zero byte: this key and all behind it; otherwise up to,
    /// but without, `end` (etcd: `mkGteRange`).
    pub fn new(key: &'a [u8], end: &'a [u8]) -> KeyRange<'a> {
        KeyRange { key, end }
    }

    /// Whether only one key is named.
    pub fn is_point(self) -> bool {
        self.end.is_empty()
    }

    /// Whether `key` is among the keys.
    pub fn contains(self, key: &[u8]) -> bool {
        match self.end {
            [] => key == self.key,
            [0] => key >= self.key,
            end => key >= self.key && key < end,
        }
    }

    /// Bounds for the tree, which does not take a range that ends before it begins.
    fn bounds(self) -> Bounds<'a> {
        let end = match self.end {
            [] => Bound::Included(self.key),
            [0] => Bound::Unbounded,
            end => Bound::Excluded(end.max(self.key)),
        };
        (Bound::Included(self.key), end)
    }
}

/// The revisions of a range.
#[derive(Debug, Default)]
pub struct Revisions {
    /// In the order of keys, as many as were wanted.
    pub revisions: Vec<Revision>,
    /// How many there are in all.
    pub total: usize,
}

/// What was chosen of a range.
#[derive(Debug)]
pub struct Chosen {
    /// In the order that was chosen.
    pub chosen: Vec<Found>,
    /// How many there are in all.
    pub total: usize,
}

/// All keys. See the module's text.
#[derive(Debug, Default)]
pub struct TreeIndex {
    keys: KeyMap,
    /// The newest main revision that any key was written at.
    newest: i64,
}

impl TreeIndex {
    /// Adds a write of `key` for request `id`.
    pub fn put(&mut self, id: u64, key: &[u8], revision: Revision) -> Placed {
        let mut span = crate::stage!(TreeIndexPut, id, main = revision.main, sub = revision.sub);
        crate::trace::key(id, key);
        self.newest = self.newest.max(revision.main);
        let placed = self.keys.upsert(key, |index| index.put(revision));
        crate::set!(
            span,
            TreeIndexPut,
            created = placed.created,
            version = placed.version,
            generations_old = placed.generations_old,
            generations_new = placed.generations_new
        );
        placed
    }

    /// Ends the life of `key` for request `id`. Returns false if it is gone already.
    pub fn tombstone(&mut self, id: u64, key: &[u8], revision: Revision) -> bool {
        let (main, sub) = (revision.main, revision.sub);
        let _span = crate::stage!(TreeIndexTombstone, id, main = main, sub = sub);
        crate::trace::key(id, key);
        self.newest = self.newest.max(revision.main);
        self.keys.update(key, |index| index.tombstone(revision)).unwrap_or(false)
    }

    /// Takes in a row that is found when a member starts. Rows come in the order of revisions.
    pub fn restore(&mut self, key: &[u8], row: Restored) {
        let Restored { revision, is_tombstone, created, version } = row;
        self.newest = self.newest.max(revision.main);
        self.keys.upsert(key, |index| {
            if is_tombstone {
                index.restore_tombstone(revision);
            } else {
                index.restore(Revision::new(created, 0), revision, version);
            }
        });
    }

    /// Returns what `key` was at main revision `at`.
    pub fn get(&self, key: &[u8], at: i64) -> Option<Found> {
        self.keys.get(key)?.1.get(at)
    }

    /// Returns, for request `id`, the revisions at which the keys of a range stood at main
    /// revision `at`; at most `limit` if that is not 0, but counting all.
    pub fn revisions(&self, id: u64, range: KeyRange<'_>, at: i64, limit: usize) -> Revisions {
        let mut span = crate::stage!(TreeIndexGet, id);
        let found = if limit != 0 && self.is_present(at) {
            let some = self.keys.range(range.bounds()).filter_map(|(_, index)| index.get(at));
            let revisions = some.map(|it| it.modified).take(limit).collect();
            Revisions { revisions, total: self.keys.alive(range.bounds()) }
        } else {
            self.all_revisions(range, at, limit)
        };
        crate::set!(span, TreeIndexGet, revisions = found.total);
        if let Some(first) = found.revisions.first() {
            crate::set!(span, TreeIndexGet, main = first.main, sub = first.sub);
        }
        found
    }

    fn all_revisions(&self, range: KeyRange<'_>, at: i64, limit: usize) -> Revisions {
        let mut found = Revisions::default();
        self.visit(range, at, |_, it| {
            if limit == 0 || found.revisions.len() < limit {
                found.revisions.push(it.modified);
            }
            found.total += 1;
        });
        found
    }

    /// Whether the keys stand at main revision `at` as they stand now: then what is alive need not
    /// be counted key by key.
    pub fn is_present(&self, at: i64) -> bool {
        self.newest <= at
    }

    /// The same, but `choose` filters, orders and cuts them, by what the index knows of them.
    pub fn chosen(
        &self,
        id: u64,
        range: KeyRange<'_>,
        at: i64,
        choose: impl FnOnce(&mut Vec<Found>),
    ) -> Chosen {
        let mut span = crate::stage!(TreeIndexGet, id);
        let mut all = Vec::new();
        self.visit(range, at, |_, it| all.push(it));
        let total = all.len();
        choose(&mut all);
        crate::set!(span, TreeIndexGet, revisions = total);
        if let Some(first) = all.first() {
            crate::set!(span, TreeIndexGet, main = first.modified.main, sub = first.modified.sub);
        }
        Chosen { chosen: all, total }
    }

    /// Returns how many keys of a range there were at main revision `at`.
    pub fn count(&self, range: KeyRange<'_>, at: i64) -> usize {
        if self.is_present(at) {
            return self.keys.alive(range.bounds());
        }
        let mut total = 0;
        self.visit(range, at, |_, _| total += 1);
        total
    }

    /// As [`TreeIndex::count`], if no key must be visited for that but those at the two ends.
    pub fn count_at_once(&self, range: KeyRange<'_>, at: i64) -> Option<usize> {
        self.is_present(at).then(|| self.keys.alive(range.bounds()))
    }

    /// How many keys of a range have a history, at most; looks at none of them.
    pub fn most(&self, range: KeyRange<'_>) -> usize {
        if range.is_point() { 1 } else { self.keys.at_most(range.bounds()).0 }
    }

    /// How many keys are visited, at most, to find `limit` keys of a range as they stood at main
    /// revision `at` (0: all), and to count them.
    pub fn visits(&self, range: KeyRange<'_>, at: i64, limit: usize) -> usize {
        if range.is_point() {
            return 1;
        }
        let (keys, alive) = self.keys.at_most(range.bounds());
        if limit != 0 && self.is_present(at) {
            // Deleted keys may all lie before those that are found.
            return keys.min(keys - alive + limit);
        }
        keys
    }

    /// Calls `f` for the next `limit` keys of a range behind `after`, as far as they were there at
    /// main revision `at`. Returns where to go on; `None` at the end.
    pub fn visit_some(
        &self,
        range: KeyRange<'_>,
        at: i64,
        (after, limit): (Option<&Bytes>, usize),
        mut f: impl FnMut(Found),
    ) -> Option<Bytes> {
        let (from, to) = range.bounds();
        let from = after.map_or(from, |key| Bound::Excluded(key.as_ref()));
        let (mut visited, mut last) = (0, None);
        for (key, index) in self.keys.range((from, to)).take(limit) {
            index.get(at).into_iter().for_each(&mut f);
            (visited, last) = (visited + 1, Some(key));
        }
        if visited < limit { None } else { last.cloned() }
    }

    /// Calls `f` for each key of a range that was there at main revision `at`, in order.
    pub fn visit(&self, range: KeyRange<'_>, at: i64, mut f: impl FnMut(&Bytes, Found)) {
        if range.is_point() {
            if let Some((key, index)) = self.keys.get(range.key)
                && let Some(found) = index.get(at)
            {
                f(key, found);
            }
            return;
        }
        for (key, index) in self.keys.range(range.bounds()) {
            if let Some(found) = index.get(at) {
                f(key, found);
            }
        }
    }

    /// Compacts the next `limit` keys behind `after`, and returns where to go on, `None` at the
    /// end; and how many keys there were. What must be kept is added to `keep`.
    pub fn compact_some(
        &mut self,
        at: i64,
        after: Option<&Bytes>,
        limit: usize,
        keep: &mut HashSet<Revision>,
    ) -> (Option<Bytes>, usize) {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_ref()));
        let mut gone = Vec::new();
        let mut last = None;
        let mut visited = 0;
        self.keys.for_each_from(from, limit, |key, index| {
            index.compact(at, keep);
            if index.is_empty() {
                gone.push(key.clone());
            }
            visited += 1;
            if visited == limit {
                last = Some(key.clone());
            }
        });
        for key in gone {
            self.keys.remove(&key);
        }
        (if visited < limit { None } else { last }, visited)
    }

    /// Adds to `keep` what a compaction at `at` would leave of the next `limit` keys behind `after`,
    /// as `HashKV` counts it, and returns where to go on; `None` at the end.
    pub fn keep_some(
        &self,
        at: i64,
        after: Option<&Bytes>,
        limit: usize,
        keep: &mut HashSet<Revision>,
    ) -> Option<Bytes> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_ref()));
        let keys = self.keys.range((from, Bound::Unbounded)).take(limit);
        let (mut visited, mut last) = (0, None);
        for (key, index) in keys {
            index.keep(at, keep);
            (visited, last) = (visited + 1, Some(key));
        }
        if visited < limit { None } else { last.cloned() }
    }

    /// The key's history; for those who want to show it.
    pub fn key_index(&self, key: &[u8]) -> Option<&KeyIndex> {
        self.keys.get(key).map(|(_, index)| index)
    }

    /// How many keys have a history.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// A row of the key bucket, as far as the index wants to know it.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// From the row's key.
    pub revision: Revision,
    /// From the row's key.
    pub is_tombstone: bool,
    /// From the row's value.
    pub created: i64,
    /// From the row's value.
    pub version: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(keys: &[&str]) -> TreeIndex {
        let mut tree = TreeIndex::default();
        for (main, key) in (2..).zip(keys) {
            tree.put(0, key.as_bytes(), Revision::new(main, 0));
        }
        tree
    }

    fn mains(tree: &TreeIndex, key: &str, end: &[u8], limit: usize) -> (Vec<i64>, usize) {
        let found = tree.revisions(0, KeyRange::new(key.as_bytes(), end), 100, limit);
        (found.revisions.iter().map(|revision| revision.main).collect(), found.total)
    }

    #[test]
    fn a_range_ends_before_its_end() {
        let tree = tree(&["a", "b", "c"]);
        assert_eq!(mains(&tree, "a", b"c", 0), (vec![2, 3], 2));
        assert_eq!(mains(&tree, "b", b"", 0), (vec![3], 1));
        assert_eq!(mains(&tree, "b", b"\0", 0), (vec![3, 4], 2));
        assert_eq!(mains(&tree, "\0", b"\0", 0), (vec![2, 3, 4], 3));
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        let tree = tree(&["a", "b", "c"]);
        assert_eq!(mains(&tree, "c", b"a", 0), (vec![], 0));
        assert_eq!(mains(&tree, "b", b"b", 0), (vec![], 0));
        assert!(!KeyRange::new(b"c", b"a").contains(b"b"));
    }

    #[test]
    fn the_limit_does_not_change_the_count() {
        assert_eq!(mains(&tree(&["a", "b", "c"]), "a", b"\0", 2), (vec![2, 3], 3));
    }

    /// What is counted without a visit, and what is visited, are the same.
    #[test]
    fn the_past_is_counted_as_it_was_and_the_present_as_it_is() {
        let mut tree = tree(&["a", "b", "c", "d"]);
        tree.tombstone(0, b"b", Revision::new(10, 0));
        tree.put(0, b"e", Revision::new(10, 1));
        let all = KeyRange::new(b"a", b"\0");
        for (at, total) in [(1, 0), (3, 2), (9, 4), (10, 4), (11, 4)] {
            for limit in [0, 1, 3, 9] {
                let found = tree.revisions(0, all, at, limit);
                assert_eq!(found.total, total, "at {at}, limit {limit}");
                let wanted = if limit == 0 { total } else { total.min(limit) };
                assert_eq!(found.revisions.len(), wanted, "at {at}, limit {limit}");
            }
            assert_eq!(tree.count(all, at), total, "at {at}");
        }
        let mains = tree.revisions(0, all, 10, 2).revisions;
        assert_eq!(mains, [Revision::new(2, 0), Revision::new(4, 0)], "b is gone");
    }

    #[test]
    fn compaction_in_small_steps_is_compaction() {
        let mut stepwise = tree(&["a", "b", "c", "d", "e"]);
        for (main, key) in [(10, "b"), (11, "d")] {
            stepwise.tombstone(0, key.as_bytes(), Revision::new(main, 0));
        }
        let mut keep = HashSet::new();
        let mut after = None;
        loop {
            (after, _) = stepwise.compact_some(12, after.as_ref(), 2, &mut keep);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(stepwise.len(), 3);
        let (mut foreseen, mut after) = (HashSet::new(), None);
        loop {
            after = stepwise.keep_some(12, after.as_ref(), 2, &mut foreseen);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(foreseen, keep);
        let mut kept: Vec<_> = keep.into_iter().map(|revision| revision.main).collect();
        kept.sort_unstable();
        assert_eq!(kept, [2, 4, 6]);
    }
}
