//! A hash of everything that can be read at a revision (etcd: `HashKV`).
//!
//! Members that have applied the same entries have the same hash, however far its compaction has
//! progressed: rows that are still to be deleted do not count. Nor does the tombstone at the
//! compacted revision, because etcd before 3.5.16 deletes its row.
//!
//! ```text
//!   compacted 5, hash of 8:   2   3   4   5 │ 6   7   8 │ 9  10     rows by main revision
//!                             those that a  │ all of    │ none
//!                             compaction at │ them      │
//!                             8 would leave │           │
//! ```
//!
//! The compacted revision itself has a hash (etcd since 3.5.10): that of the rows that the
//! compaction leaves. An answer names the compacted revision, because a compaction changes the
//! hashes of the revisions after it. Two members can be compared if they agree on both the revision
//! and the compacted revision; then their hashes must be equal.
//!
//! A walk through the whole index finds the rows that a compaction would leave. Apply must not wait
//! for it, so the walk releases the index after some keys. Writes in between have later revisions
//! and change nothing; after a compaction the walk begins again.
//!
//! Left out: late 3.5 also computes a hash while it compacts, of the rows before it deletes them.
//! It keeps the last ten of these hashes in memory until it restarts, and answers with them first:
//! with the hash that the revision had before it was compacted, and with the compacted revision of
//! that time. Such an answer depends on how far the member's compaction is, and on when the member
//! was started. Here the answer depends only on the entries that were applied.

use std::{collections::HashSet, sync::RwLockReadGuard};

use bytes::Bytes;

use super::{Index, Revision, Store, tree_index::Portion};
use crate::{
    clock,
    metrics::recorded,
    server::{Error, error::note},
    storage::backend::{Bucket, Cut},
};

/// Keys visited before the index lock is released for apply.
pub(super) const STEP_KEYS: usize = 10_000;

/// A hash of the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HashKv {
    /// CRC-32C of the bucket's name and of the keys and values of its rows.
    pub(crate) hash: u32,
    /// The newest main revision when the hash was computed.
    pub(crate) revision: i64,
    /// The compacted revision at that time; −1 before the first compaction.
    pub(crate) compacted: i64,
    /// The main revision that was hashed.
    pub(crate) hash_revision: i64,
}

/// The rows to hash.
struct Input {
    /// The answer, without the hash itself.
    answer: HashKv,
    /// The rows that count up to the compacted revision. All later ones count.
    keep: HashSet<Revision>,
    rows: Cut,
}

impl Store {
    /// Hashes the key space at main revision `revision` (0: the newest), for request `id`. Reads
    /// the whole bucket.
    pub(crate) fn hash_kv(&self, id: u64, revision: i64) -> Result<HashKv, Error> {
        let mut span = crate::stage!(MvccHash, id, asked = revision.max(0));
        let began = clock::now();
        let (hashed, rows) = note(&mut span, self.hash_rows(revision))?;
        recorded::HASHES_BY_REVISION.observe_duration(began.elapsed());
        let HashKv { hash_revision, compacted, .. } = hashed;
        let (at, compacted) = (hash_revision, compacted.max(0));
        crate::set!(span, MvccHash, revision = at, compacted = compacted, rows = rows);
        Ok(hashed)
    }

    /// The hash, and the number of rows in it.
    fn hash_rows(&self, revision: i64) -> Result<(HashKv, u64), Error> {
        let Input { answer, keep, rows } = loop {
            if let Some(input) = self.hash_input(revision)? {
                break input;
            }
        };
        let (hash, counted) = of_rows(&mut self.backend.rows(&rows), answer, &keep);
        Ok((HashKv { hash, ..answer }, counted))
    }

    /// Returns `None` if a compaction was applied meanwhile: then the walk begins again.
    fn hash_input(&self, revision: i64) -> Result<Option<Input>, Error> {
        let index = self.read();
        let (current, compacted) = (index.revision, index.compacted);
        if revision > 0 && revision < compacted {
            return Err(Error::Compacted);
        }
        if revision > current {
            return Err(Error::FutureRevision);
        }
        let hash_revision = if revision == 0 { current } else { revision };
        let answer = HashKv { hash: 0, revision: current, compacted, hash_revision };
        let Some((mut keep, mut index)) = self.kept_at(hash_revision, index) else {
            return Ok(None);
        };
        // If nothing is kept at the revision of the hash, etcd hashes every row that it finds. Up
        // to the compacted revision these are the rows that the compaction leaves, once it is
        // finished.
        if keep.is_empty() && 0 < compacted {
            let Some(left) = self.kept_at(compacted, index) else { return Ok(None) };
            (keep, index) = left;
        }
        let rows = self.backend.cut(Bucket::Key);
        drop(index);
        Ok(Some(Input { answer, keep, rows }))
    }

    /// The revisions that a compaction at `at` would leave, and the index, which was released in
    /// between; `None` if a compaction was applied meanwhile.
    fn kept_at<'s>(
        &'s self,
        at: i64,
        mut index: RwLockReadGuard<'s, Index>,
    ) -> Option<(HashSet<Revision>, RwLockReadGuard<'s, Index>)> {
        let compacted = index.compacted;
        let (mut keep, mut after) = (HashSet::new(), None);
        loop {
            let portion = Portion { after: after.as_ref(), limit: STEP_KEYS };
            after = index.tree.keep_some(at, portion, &mut keep);
            if after.is_none() {
                return Some((keep, index));
            }
            drop(index);
            fail::fail_point!("mvcc-hash-step");
            index = self.read();
            if index.compacted != compacted {
                return None;
            }
        }
    }
}

/// Hashes those of all rows that count. Returns also their number.
pub(super) fn of_rows(
    rows: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    answer: HashKv,
    keep: &HashSet<Revision>,
) -> (u32, u64) {
    let mut hash = crc32c::crc32c(Bucket::Key.name().as_bytes());
    let mut counted = 0;
    for (key, value) in rows.filter(|(key, _)| counts(key, &answer, keep)) {
        hash = crc32c::crc32c_append(hash, &key);
        hash = crc32c::crc32c_append(hash, &value);
        counted += 1;
    }
    (hash, counted)
}

/// Whether a row is part of the hash.
fn counts(key: &Bytes, answer: &HashKv, keep: &HashSet<Revision>) -> bool {
    let HashKv { compacted, hash_revision, .. } = *answer;
    let Some((revision, is_tombstone)) = Revision::from_row_key(key) else { return false };
    if revision.main > hash_revision || (is_tombstone && revision.main == compacted) {
        return false;
    }
    revision.main > compacted || keep.contains(&revision)
}
