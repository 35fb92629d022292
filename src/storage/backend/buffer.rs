//! Rows that have been written but are not in the file yet (etcd: `txWriteBuffer`).
//!
//! Rows of the key bucket arrive in the order of their revisions, so they are appended to a
//! sorted run: no tree, no allocation for the key. Everything else (the other buckets, and the
//! deletions of compaction, which reach back) goes into a map a bucket. Where both know a key,
//! the map is newer.

use std::{collections::BTreeMap, iter::Peekable, ops::Bound};

use bytes::Bytes;

use super::{Applied, Bucket};

/// The longest key that fits into the run: a revision with the mark of a tombstone.
const RUN_KEY_LEN: usize = 18;

/// The last thing that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It was given this value.
    Put(Bytes),
    /// The key was deleted, which hides its value in the file.
    Delete,
}

impl Entry {
    pub(super) fn value(&self) -> Option<&Bytes> {
        match self {
            Entry::Put(value) => Some(value),
            Entry::Delete => None,
        }
    }
}

/// A row's key, and its new value or its deletion.
pub(super) type Row = (Bytes, Entry);

/// A key of at most 18 bytes, filled up with zeros. It compares as its bytes do: where two keys
/// differ only in length, the shorter is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RunKey {
    bytes: [u8; RUN_KEY_LEN],
    len: u8,
}

impl RunKey {
    fn new(key: &[u8]) -> Option<RunKey> {
        let mut bytes = [0; RUN_KEY_LEN];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(RunKey { bytes, len: u8::try_from(key.len()).ok()? })
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Puts and deletions of all buckets.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    run: Vec<(RunKey, Entry)>,
    maps: [BTreeMap<Bytes, Entry>; Bucket::ALL.len()],
    in_maps: usize,
    bytes: usize,
}

/// A buffer that is set aside to be written into the file, with all that belongs to it.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) buffer: Buffer,
    pub(super) applied: Applied,
    pub(super) conf_state: Option<Bytes>,
}

impl Buffer {
    /// The number of keys that the buffer puts or deletes.
    pub(super) fn len(&self) -> usize {
        self.run.len() + self.in_maps
    }

    /// How many bytes of keys and values were written, overwritten ones included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets a key, for request `id`.
    pub(super) fn put(&mut self, id: u64, bucket: Bucket, key: &[u8], value: Bytes) {
        let bytes = key.len() + value.len();
        let mut span = crate::stage!(BufferPut, id, length_old = self.len(), bytes = bytes);
        self.bytes += bytes;
        self.append_or_insert(bucket, key, value);
        crate::set!(span, BufferPut, length_new = self.len());
    }

    fn append_or_insert(&mut self, bucket: Bucket, key: &[u8], value: Bytes) {
        if bucket == Bucket::Key
            && let Some(key) = RunKey::new(key)
            && self.may_append(&key)
        {
            self.run.push((key, Entry::Put(value)));
        } else {
            self.insert(bucket, key, Entry::Put(value));
        }
    }

    pub(super) fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        self.bytes += key.len();
        self.insert(bucket, key, Entry::Delete);
    }

    /// The smallest key of a bucket that has an entry in the buffer.
    pub(super) fn first(&self, bucket: Bucket) -> Option<&[u8]> {
        let in_map = self.maps[bucket.place()].first_key_value().map(|(key, _)| key.as_ref());
        let in_run = self.run.first().filter(|_| bucket == Bucket::Key);
        in_map.into_iter().chain(in_run.map(|(key, _)| key.as_slice())).min()
    }

    /// Whether a row may go to the run. A key in the map must stay there, because the map is
    /// searched first.
    fn may_append(&self, key: &RunKey) -> bool {
        let map = &self.maps[Bucket::Key.place()];
        self.run.last().is_none_or(|(last, _)| last < key)
            && (map.is_empty() || !map.contains_key(key.as_slice()))
    }

    fn insert(&mut self, bucket: Bucket, key: &[u8], entry: Entry) {
        let map = &mut self.maps[bucket.place()];
        if map.insert(Bytes::copy_from_slice(key), entry).is_none() {
            self.in_maps += 1;
        }
    }

    pub(super) fn get(&self, bucket: Bucket, key: &[u8]) -> Option<&Entry> {
        let map = &self.maps[bucket.place()];
        if !map.is_empty()
            && let Some(entry) = map.get(key)
        {
            return Some(entry);
        }
        if bucket != Bucket::Key {
            return None;
        }
        // Most rows that are read are older than everything in the buffer.
        let (first, _) = self.run.first()?;
        if key < first.as_slice() {
            return None;
        }
        let at = self.run.binary_search_by(|(other, _)| other.as_slice().cmp(key)).ok()?;
        Some(&self.run[at].1)
    }

    /// Goes through a part of a bucket in the order of keys; `to` is excluded, `None` is the end.
    pub(super) fn range<'a>(
        &'a self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = Row> + 'a {
        let run: &[_] = if bucket == Bucket::Key { &self.run } else { &[] };
        let start = run.partition_point(|(key, _)| key.as_slice() < from);
        let end = to.map_or(run.len(), |to| run.partition_point(|(key, _)| key.as_slice() < to));
        let run = run[start..end.max(start)]
            .iter()
            .map(|(key, entry)| (Bytes::copy_from_slice(key.as_slice()), entry.clone()));
        let bounds = match to {
            // An empty range, in a form that the map takes.
            Some(to) if to <= from => (Bound::Included(from), Bound::Excluded(from)),
            Some(to) => (Bound::Included(from), Bound::Excluded(to)),
            None => (Bound::Included(from), Bound::Unbounded),
        };
        let map = self.maps[bucket.place()]
            .range::<[u8], _>(bounds)
            .map(|(key, entry)| (key.clone(), entry.clone()));
        merge(map, run)
    }
}

/// Makes one stream of two that are in order; where both have a key, the upper one's row counts.
pub(super) fn merge<U, L>(upper: U, lower: L) -> Merge<U, L>
where
    U: Iterator<Item = Row>,
    L: Iterator<Item = Row>,
{
    Merge { upper: upper.peekable(), lower: lower.peekable() }
}

/// The iterator that [`merge`] returns.
pub(super) struct Merge<U: Iterator<Item = Row>, L: Iterator<Item = Row>> {
    upper: Peekable<U>,
    lower: Peekable<L>,
}

impl<U: Iterator<Item = Row>, L: Iterator<Item = Row>> Iterator for Merge<U, L> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let (Some(upper), Some(lower)) = (self.upper.peek(), self.lower.peek()) else {
            return self.upper.next().or_else(|| self.lower.next());
        };
        match upper.0.cmp(&lower.0) {
            std::cmp::Ordering::Less => self.upper.next(),
            std::cmp::Ordering::Greater => self.lower.next(),
            std::cmp::Ordering::Equal => {
                self.lower.next();
                self.upper.next()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn rows(buffer: &Buffer, from: &[u8], to: Option<&[u8]>) -> Vec<(String, Option<Bytes>)> {
        let text = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
        let rows = buffer.range(Bucket::Key, from, to);
        rows.map(|(key, entry)| (text(&key), entry.value().cloned())).collect()
    }

    #[test]
    fn a_key_that_goes_back_is_found_and_keeps_its_place_in_the_order() {
        let mut buffer = Buffer::default();
        buffer.put(0, Bucket::Key, b"b", value("1"));
        buffer.put(0, Bucket::Key, b"d", value("2"));
        buffer.put(0, Bucket::Key, b"a", value("3"));
        assert_eq!(buffer.get(Bucket::Key, b"a"), Some(&Entry::Put(value("3"))));
        let keys: Vec<_> = rows(&buffer, b"", None).into_iter().map(|row| row.0).collect();
        assert_eq!(keys, ["a", "b", "d"]);
        let keys: Vec<_> = rows(&buffer, b"b", Some(b"d")).into_iter().map(|row| row.0).collect();
        assert_eq!(keys, ["b"]);
        assert!(rows(&buffer, b"d", Some(b"b")).is_empty());
    }

    #[test]
    fn the_last_of_put_and_delete_counts() {
        let mut buffer = Buffer::default();
        buffer.put(0, Bucket::Key, b"b", value("1"));
        buffer.delete(Bucket::Key, b"b");
        assert_eq!(buffer.get(Bucket::Key, b"b"), Some(&Entry::Delete));
        buffer.put(0, Bucket::Key, b"b", value("2"));
        assert_eq!(rows(&buffer, b"", None), [("b".to_owned(), Some(value("2")))]);
        buffer.delete(Bucket::Key, b"c");
        buffer.put(0, Bucket::Key, b"c", value("3"));
        assert_eq!(buffer.get(Bucket::Key, b"c"), Some(&Entry::Put(value("3"))));
    }

    #[test]
    fn keys_longer_than_a_revision_are_kept_too() {
        let mut buffer = Buffer::default();
        buffer.put(0, Bucket::Key, &[7; 40], value("long"));
        assert_eq!(buffer.get(Bucket::Key, &[7; 40]), Some(&Entry::Put(value("long"))));
    }

    #[test]
    fn a_tombstones_key_comes_right_after_the_same_revision_without_its_mark() {
        let plain = RunKey::new(&[1; 17]).unwrap();
        let mut marked = [1; 18];
        marked[17] = b't';
        assert!(plain < RunKey::new(&marked).unwrap());
        let mut later = [1; 17];
        later[16] = 2;
        assert!(RunKey::new(&marked).unwrap() < RunKey::new(&later).unwrap());
    }
}
