//! The keys ahead in a queue: those of a range that were created before some revision.
//!
//! The index is ordered by keys and not by creation, so the youngest older key is known only after
//! all older ones have been found. The search is for queues, where a caller looks again whenever a
//! key ahead is deleted. Two things keep the later searches short:
//!
//! ```text
//!   first search     every key of the range                         a portion under the lock
//!                        ▼ first older          ▼ last older
//!   later searches       ├─────────────────────┤  no older key is ever added, so all are in here
//!                        none alive? done, and no key of the middle was visited
//! ```
//!
//! Keys of a queue end in the id of a lease. One member mints ascending ids, so older keys mostly
//! come first, and usually none is alive between the first and the last of them when a caller that
//! waits for the youngest looks again.

use bytes::Bytes;

use super::{
    Store,
    read_txn::PORTION_KEYS,
    tree_index::{KeyRange, Portion},
};
use crate::pb::etcdserverpb::RangeRequest;

/// A search for the keys of a range that exist and were created before some revision. It goes
/// through the index in portions, which may be of different revisions.
///
/// Its result is right for a caller that has seen `before` applied, and then watches the youngest
/// key after `revision`:
/// * No older key is added any more, so no portion misses one. A key that is deleted and put again
///   is younger.
/// * A key that was found and is deleted by now existed at `revision`, so the watcher receives its
///   deletion. It is the only one: a key that is put again would be younger.
#[derive(Debug)]
pub(crate) struct OlderKeys {
    /// The first key of the range, and its end.
    range: (Bytes, Bytes),
    before: i64,
    /// The last key visited.
    after: Option<Bytes>,
    /// The first and the last key found.
    ends: Option<(Bytes, Bytes)>,
    /// The youngest key found, and the revision at which it was created.
    pub(crate) youngest: Option<(Bytes, i64)>,
    /// The number of keys found.
    pub(crate) count: usize,
    /// The revision of the key space when the search began.
    pub(crate) revision: i64,
}

impl OlderKeys {
    /// A search in the range of this request. It begins at the first call of
    /// [`Store::find_older_keys`].
    pub(crate) fn new(range: RangeRequest, before: i64) -> OlderKeys {
        OlderKeys::within((range.key, range.range_end), before)
    }

    fn within(range: (Bytes, Bytes), before: i64) -> OlderKeys {
        let (after, ends, youngest) = (None, None, None);
        OlderKeys { range, before, after, ends, youngest, count: 0, revision: 0 }
    }

    /// A later search for those of the keys found that still exist.
    pub(crate) fn again(self) -> OlderKeys {
        let range = match self.ends {
            Some((first, last)) => (first, [&last[..], b"\0"].concat().into()),
            None => self.range,
        };
        OlderKeys::within(range, self.before)
    }

    fn found(&mut self, key: &Bytes, created: i64) {
        self.count += 1;
        if self.youngest.as_ref().is_none_or(|(_, youngest)| *youngest < created) {
            self.youngest = Some((key.clone(), created));
        }
        match &mut self.ends {
            Some((_, last)) => *last = key.clone(),
            None => self.ends = Some((key.clone(), key.clone())),
        }
    }
}

impl Store {
    /// Visits the next portion of the range. Returns whether keys are left. Reads no row.
    pub(crate) fn find_older_keys(&self, older: &mut OlderKeys) -> bool {
        let index = self.read();
        let (at, before) = (index.revision, older.before);
        let (key, end) = older.range.clone();
        let range = KeyRange::new(&key, &end);
        let after = older.after.take();
        if after.is_none() {
            older.revision = at;
            // Deleted keys stay in the index until they are compacted.
            if index.tree.count(range, at) == 0 {
                return false;
            }
        }
        let portion = Portion { after: after.as_ref(), limit: PORTION_KEYS };
        (older.after, _) = index.tree.visit_some(range, at, portion, |key, it| {
            if it.created.main < before {
                older.found(key, it.created.main);
            }
        });
        older.after.is_some()
    }
}
