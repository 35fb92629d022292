//! From keys to revisions, in memory (etcd: `treeIndex`).
//!
//! The file finds values by revision only. This tree knows the revisions of each key. It is rebuilt
//! from the key bucket when a member starts.

use std::{collections::HashSet, ops::Bound};

use bytes::Bytes;

use super::{
    Revision,
    key_index::{KeyIndex, KeyMeta, PutEffect},
    key_map::{Bounds, Counts, KeyMap},
};
use crate::{
    pb::etcdserverpb::RangeRequest,
    trace::{self, Span},
};

/// The keys that a request names by a key and an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange<'a> {
    key: &'a [u8],
    end: &'a [u8],
}

impl<'a> KeyRange<'a> {
    /// If `end` is empty, the range is this key only. If `end` is one zero byte, it has no upper
    /// bound. Otherwise `end` is the first key that is not in it (etcd: `mkGteRange`).
    pub(crate) fn new(key: &'a [u8], end: &'a [u8]) -> KeyRange<'a> {
        KeyRange { key, end }
    }

    pub(crate) fn of(request: &'a RangeRequest) -> KeyRange<'a> {
        KeyRange::new(&request.key, &request.range_end)
    }

    fn is_one_key(self) -> bool {
        self.end.is_empty()
    }

    pub(crate) fn contains(self, key: &[u8]) -> bool {
        match self.end {
            [] => key == self.key,
            [0] => key >= self.key,
            end => key >= self.key && key < end,
        }
    }

    /// Bounds for the tree, which rejects a range that ends before it begins.
    fn bounds(self) -> Bounds<'a> {
        let end = match self.end {
            [] => Bound::Included(self.key),
            [0] => Bound::Unbounded,
            end => Bound::Excluded(end.max(self.key)),
        };
        (Bound::Included(self.key), end)
    }
}

/// The request that asks the index for a range, for the trace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asker {
    /// The id of the request.
    pub(crate) id: u64,
    /// How often the read has begun before.
    pub(crate) again: u64,
    /// Whether the range is to be named: the request's `rpc` does not name it.
    pub(crate) names_range: bool,
}

impl Asker {
    fn begin(self, range: KeyRange<'_>) -> Span {
        let span = crate::stage!(TreeIndexGet, self.id, again = self.again);
        if self.names_range {
            trace::key(self.id, range.key);
            trace::range_end(self.id, range.end);
        }
        span
    }

    /// Opens the step of a look-up that is done in portions.
    pub(crate) fn portions(self, range: KeyRange<'_>) -> Span {
        self.begin(range)
    }
}

/// The revisions of a range.
#[derive(Debug, Default)]
pub(crate) struct Revisions {
    /// In the order of keys, up to the limit.
    pub(crate) revisions: Vec<Revision>,
    /// The number of keys in the range, those beyond the limit included.
    pub(crate) total: usize,
}

/// The keys that were selected from a range.
#[derive(Debug)]
pub(crate) struct Selected {
    /// In the order of the selection.
    pub(crate) keys: Vec<KeyMeta>,
    /// The number of keys in the range.
    pub(crate) total: usize,
}

/// The next part of a walk that releases the index between its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portion<'a> {
    /// The last key of the part before; `None` for the first part.
    pub(crate) after: Option<&'a Bytes>,
    /// The number of keys to visit; at least 1.
    pub(crate) limit: usize,
}

impl<'a> Portion<'a> {
    /// Where the part begins, in a walk that begins at `first`.
    fn from(self, first: Bound<&'a [u8]>) -> Bound<&'a [u8]> {
        self.after.map_or(first, |key| Bound::Excluded(key.as_ref()))
    }
}

/// All keys. See the module's text.
#[derive(Debug, Default)]
pub(crate) struct TreeIndex {
    keys: KeyMap,
    /// The newest main revision at which any key was written.
    newest: i64,
}

impl TreeIndex {
    /// Adds a put of `key` by request `id`.
    pub(crate) fn put(&mut self, id: u64, key: &[u8], revision: Revision) -> PutEffect {
        let mut span = crate::stage!(TreeIndexPut, id, main = revision.main, sub = revision.sub);
        crate::trace::key(id, key);
        self.newest = self.newest.max(revision.main);
        let effect = self.keys.upsert(key, |index| index.put(revision));
        crate::set!(
            span,
            TreeIndexPut,
            created = effect.created,
            version = effect.version,
            generations_old = effect.generations_old,
            generations_new = effect.generations_new
        );
        effect
    }

    /// Ends the current generation of `key`, for request `id`. Returns false if the key is deleted
    /// already.
    pub(crate) fn tombstone(&mut self, id: u64, key: &[u8], revision: Revision) -> bool {
        let (main, sub) = (revision.main, revision.sub);
        let _span = crate::stage!(TreeIndexTombstone, id, main = main, sub = sub);
        crate::trace::key(id, key);
        self.newest = self.newest.max(revision.main);
        self.keys.update(key, |index| index.tombstone(revision)).unwrap_or(false)
    }

    /// Adds a row of the key bucket when a member starts. Rows come in the order of revisions.
    pub(crate) fn restore(&mut self, key: &[u8], row: RestoredRow) {
        let RestoredRow { revision, is_tombstone, created, version } = row;
        self.newest = self.newest.max(revision.main);
        self.keys.upsert(key, |index| {
            if is_tombstone {
                index.restore_tombstone(revision);
            } else {
                index.restore(Revision::new(created, 0), revision, version);
            }
        });
    }

    /// Returns `key` as it was at main revision `at`.
    pub(crate) fn get(&self, key: &[u8], at: i64) -> Option<KeyMeta> {
        self.keys.get(key)?.1.get(at)
    }

    /// Returns, for this request, the revisions of the first `limit` keys (0: all) of a range at
    /// main revision `at`, and counts all of them.
    pub(crate) fn revisions(
        &self,
        asker: Asker,
        range: KeyRange<'_>,
        at: i64,
        limit: usize,
    ) -> Revisions {
        let mut span = asker.begin(range);
        let mut visited = 0;
        let found = if limit != 0 && self.is_newest(at) {
            let all = self.keys.range(range.bounds()).inspect(|_| visited += 1);
            let some = all.filter_map(|(_, index)| index.get(at));
            let revisions = some.map(|it| it.modified).take(limit).collect();
            Revisions { revisions, total: self.keys.alive(range.bounds()) }
        } else {
            let mut found = Revisions::default();
            visited = self.visit(range, at, |_, it| {
                if limit == 0 || found.revisions.len() < limit {
                    found.revisions.push(it.modified);
                }
                found.total += 1;
            });
            found
        };
        crate::set!(span, TreeIndexGet, revisions = found.revisions.len(), visited = visited);
        if let Some(first) = found.revisions.first() {
            crate::set!(span, TreeIndexGet, main = first.main, sub = first.sub);
        }
        found
    }

    /// Whether no key was written after main revision `at`. Then keys are counted without a visit
    /// to each.
    pub(crate) fn is_newest(&self, at: i64) -> bool {
        self.newest <= at
    }

    /// As [`TreeIndex::revisions`], but `select` filters and sorts the keys, and applies the limit.
    pub(crate) fn selected(
        &self,
        asker: Asker,
        range: KeyRange<'_>,
        at: i64,
        select: impl FnOnce(&mut Vec<KeyMeta>),
    ) -> Selected {
        let mut span = asker.begin(range);
        let mut keys = Vec::new();
        let visited = self.visit(range, at, |_, it| keys.push(it));
        let total = keys.len();
        select(&mut keys);
        crate::set!(span, TreeIndexGet, revisions = keys.len(), visited = visited);
        if let Some(first) = keys.first() {
            crate::set!(span, TreeIndexGet, main = first.modified.main, sub = first.modified.sub);
        }
        Selected { keys, total }
    }

    /// As [`TreeIndex::count`], for this request, which wants nothing but the number.
    pub(crate) fn count_for(&self, asker: Asker, range: KeyRange<'_>, at: i64) -> usize {
        let mut span = asker.begin(range);
        if let Some(total) = self.count_if_newest(range, at) {
            return total;
        }
        let mut total = 0;
        let visited = self.visit(range, at, |_, _| total += 1);
        crate::set!(span, TreeIndexGet, visited = visited);
        total
    }

    /// Returns the number of keys in a range at main revision `at`.
    pub(crate) fn count(&self, range: KeyRange<'_>, at: i64) -> usize {
        self.count_if_newest(range, at).unwrap_or_else(|| {
            let mut total = 0;
            self.visit(range, at, |_, _| total += 1);
            total
        })
    }

    /// As [`TreeIndex::count`], if only keys at the two ends of the range must be visited for it.
    pub(crate) fn count_if_newest(&self, range: KeyRange<'_>, at: i64) -> Option<usize> {
        self.is_newest(at).then(|| self.keys.alive(range.bounds()))
    }

    /// An upper limit for the keys of a range at any revision; visits none of them.
    pub(crate) fn keys_max(&self, range: KeyRange<'_>) -> usize {
        if range.is_one_key() { 1 } else { self.keys.counts_max(range.bounds()).keys }
    }

    /// An upper limit for the keys that are visited to find the first `limit` keys (`None`: all) of
    /// a range at main revision `at`, and to count all.
    pub(crate) fn visits_max(&self, range: KeyRange<'_>, at: i64, limit: Option<usize>) -> usize {
        if range.is_one_key() {
            return 1;
        }
        let Counts { keys, alive } = self.keys.counts_max(range.bounds());
        match limit {
            // All deleted keys may come before those that are found.
            Some(limit) if self.is_newest(at) => keys.min(keys - alive + limit),
            Some(_) | None => keys,
        }
    }

    /// Visits the next portion of a range, and calls `f` for each key that existed at main revision
    /// `at`. Returns the last key visited, or `None` if the range ends; and how many were visited.
    pub(crate) fn visit_some(
        &self,
        range: KeyRange<'_>,
        at: i64,
        portion: Portion<'_>,
        mut f: impl FnMut(&Bytes, KeyMeta),
    ) -> (Option<Bytes>, usize) {
        let (first, to) = range.bounds();
        self.walk((portion.from(first), to), portion.limit, |key, index| {
            index.get(at).into_iter().for_each(|it| f(key, it));
        })
    }

    /// Calls `f` for the first `limit` keys within bounds, whether they exist or are deleted.
    /// Returns the last one, or `None` if there are fewer; and how many were visited.
    fn walk(
        &self,
        bounds: Bounds<'_>,
        limit: usize,
        mut f: impl FnMut(&Bytes, &KeyIndex),
    ) -> (Option<Bytes>, usize) {
        let (mut visited, mut last) = (0, None);
        for (key, index) in self.keys.range(bounds).take(limit) {
            f(key, index);
            (visited, last) = (visited + 1, Some(key));
        }
        (if visited < limit { None } else { last.cloned() }, visited)
    }

    /// Calls `f` for each key of a range that existed at main revision `at`, in order. Returns how
    /// many keys were visited.
    pub(crate) fn visit(
        &self,
        range: KeyRange<'_>,
        at: i64,
        mut f: impl FnMut(&Bytes, KeyMeta),
    ) -> usize {
        if range.is_one_key() {
            let Some((key, index)) = self.keys.get(range.key) else { return 0 };
            if let Some(found) = index.get(at) {
                f(key, found);
            }
            return 1;
        }
        let mut visited = 0;
        for (key, index) in self.keys.range(range.bounds()) {
            visited += 1;
            if let Some(found) = index.get(at) {
                f(key, found);
            }
        }
        visited
    }

    /// Compacts the next portion of all keys at main revision `at`, and adds to `keep` the
    /// revisions that are still needed. Returns the last key visited, or `None` at the end; and how
    /// many keys were visited.
    pub(crate) fn compact_some(
        &mut self,
        at: i64,
        portion: Portion<'_>,
        keep: &mut HashSet<Revision>,
    ) -> (Option<Bytes>, usize) {
        let (from, limit) = (portion.from(Bound::Unbounded), portion.limit);
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
        (last, visited)
    }

    /// Visits the next portion of all keys, and adds to `keep` the revisions that a compaction at
    /// `at` would leave, as `HashKV` counts them. Returns the last key visited, or `None` at the
    /// end.
    pub(crate) fn keep_some(
        &self,
        at: i64,
        portion: Portion<'_>,
        keep: &mut HashSet<Revision>,
    ) -> Option<Bytes> {
        let bounds = (portion.from(Bound::Unbounded), Bound::Unbounded);
        self.walk(bounds, portion.limit, |_, index| index.keep(at, keep)).0
    }

    /// The number of keys that have a history, deleted ones included.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// The parts of a row of the key bucket from which the index is rebuilt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestoredRow {
    /// From the row's key, like `is_tombstone`.
    pub(crate) revision: Revision,
    pub(crate) is_tombstone: bool,
    /// From the row's value, like `version`.
    pub(crate) created: i64,
    pub(crate) version: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    impl TreeIndex {
        pub(in crate::server::mvcc) fn key_index(&self, key: &[u8]) -> Option<&KeyIndex> {
            self.keys.get(key).map(|(_, index)| index)
        }
    }

    fn tree(keys: &[&str]) -> TreeIndex {
        let mut tree = TreeIndex::default();
        for (main, key) in (2..).zip(keys) {
            tree.put(0, key.as_bytes(), Revision::new(main, 0));
        }
        tree
    }

    fn mains(tree: &TreeIndex, key: &str, end: &[u8], limit: usize) -> (Vec<i64>, usize) {
        let range = KeyRange::new(key.as_bytes(), end);
        let found = tree.revisions(Asker::default(), range, 100, limit);
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

    /// Goal: a count without visits agrees with one that visits every key. Method: revisions of the
    /// past, which are visited, and of the present, which are not.
    #[test]
    fn a_range_is_counted_alike_in_the_past_and_in_the_present() {
        let mut tree = tree(&["a", "b", "c", "d"]);
        tree.tombstone(0, b"b", Revision::new(10, 0));
        tree.put(0, b"e", Revision::new(10, 1));
        let all = KeyRange::new(b"a", b"\0");
        for (at, total) in [(1, 0), (3, 2), (9, 4), (10, 4), (11, 4)] {
            for limit in [0, 1, 3, 9] {
                let found = tree.revisions(Asker::default(), all, at, limit);
                assert_eq!(found.total, total, "at {at}, limit {limit}");
                let wanted = if limit == 0 { total } else { total.min(limit) };
                assert_eq!(found.revisions.len(), wanted, "at {at}, limit {limit}");
            }
            assert_eq!(tree.count(all, at), total, "at {at}");
        }
        let mains = tree.revisions(Asker::default(), all, 10, 2).revisions;
        assert_eq!(mains, [Revision::new(2, 0), Revision::new(4, 0)], "b is gone");
    }

    #[test]
    fn compaction_in_portions_keeps_what_the_hash_foresees() {
        let mut stepwise = tree(&["a", "b", "c", "d", "e"]);
        for (main, key) in [(10, "b"), (11, "d")] {
            stepwise.tombstone(0, key.as_bytes(), Revision::new(main, 0));
        }
        let mut keep = HashSet::new();
        let mut after = None;
        loop {
            (after, _) =
                stepwise.compact_some(12, Portion { after: after.as_ref(), limit: 2 }, &mut keep);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(stepwise.len(), 3);
        let (mut foreseen, mut after) = (HashSet::new(), None);
        loop {
            after =
                stepwise.keep_some(12, Portion { after: after.as_ref(), limit: 2 }, &mut foreseen);
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
