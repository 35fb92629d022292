//! One number for everything that can be read at a revision (etcd: `HashKV`).
//!
//! Members that have applied the same entries have the same hash, however far each has come with
//! deleting what is compacted: rows that are only still there are left out. The tombstone at the
//! compacted revision is left out too, because etcd before 3.5.16 has deleted its row.
//!
//! ```text
//!   compacted 5, hash of 8:   2   3   4   5 │ 6   7   8 │ 9  10     rows by main revision
//!                             those that a  │ all of    │ none
//!                             compaction at │ them      │
//!                             8 would leave │           │
//! ```
//!
//! The compacted revision itself has a hash (etcd since 3.5.10): that of what the compaction leaves.
//! An answer always names the compacted revision, because a revision has different hashes before and
//! after a compaction. Two members can be compared if both the revision and the compacted revision
//! agree; then their hashes must be equal.
//!
//! What would be left is found out by a walk through the whole index. Apply must not wait for that,
//! so the index is let go of after some keys. What is written meanwhile is of later revisions and
//! changes nothing; after a compaction the walk begins again.
//!
//! Left out: late 3.5 also computes a hash while it compacts, over the rows before it deletes them.
//! It keeps the last ten in memory until it restarts, and answers with them first: with the hash that
//! the revision had before it was compacted, and with the compacted revision of that time. Such an
//! answer depends on how far the member's compaction is, and on when it was started. Here the answer
//! depends on nothing but what was applied.

use std::{collections::HashSet, sync::RwLockReadGuard};

use bytes::Bytes;

use super::{Index, Revision, Store};
use crate::{
    server::Error,
    storage::backend::{Bucket, Cut},
};

/// Keys of the index between two moments at which apply can go on.
pub(super) const KEYS_STEP: usize = 10_000;

/// A hash of the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C over the bucket's name, and over keys and values of its rows.
    pub hash: u32,
    /// The newest revision when the hash was taken.
    pub revision: i64,
    /// The compacted revision; −1 before the first compaction.
    pub compacted: i64,
    /// The revision of which this is the hash.
    pub hash_revision: i64,
}

/// What is to be hashed.
struct Hashed {
    /// All but the hash itself.
    hash: HashKv,
    /// Which rows count up to the compacted revision.
    keep: HashSet<Revision>,
    rows: Cut,
}

impl Store {
    /// Hashes the key space at `revision`; 0 is the newest. All of the bucket is read.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        let Hashed { mut hash, keep, rows } = loop {
            if let Some(hashed) = self.hashed(revision)? {
                break hashed;
            }
        };
        hash.hash = crc32c::crc32c(Bucket::Key.name().as_bytes());
        let (at, compacted) = (hash.hash_revision, hash.compacted);
        let rows = self.backend.rows(&rows);
        for (key, value) in rows.filter(|(key, _)| counts(key, at, compacted, &keep)) {
            hash.hash = crc32c::crc32c_append(hash.hash, &key);
            hash.hash = crc32c::crc32c_append(hash.hash, &value);
        }
        Ok(hash)
    }

    /// `None` if a compaction has come in between.
    fn hashed(&self, revision: i64) -> Result<Option<Hashed>, Error> {
        let index = self.read();
        let (current, compacted) = (index.revision, index.compacted);
        if revision > 0 && revision < compacted {
            return Err(Error::Compacted);
        }
        if revision > current {
            return Err(Error::FutureRevision);
        }
        let hash_revision = if revision == 0 { current } else { revision };
        let hash = HashKv { hash: 0, revision: current, compacted, hash_revision };
        let Some((mut keep, mut index)) = self.kept_at(hash_revision, index) else {
            return Ok(None);
        };
        // etcd leaves nothing out if nothing is kept at the revision of the hash. What it then finds
        // up to the compacted revision is what the compaction has left, when that is through.
        if keep.is_empty() && 0 < compacted {
            let Some(left) = self.kept_at(compacted, index) else { return Ok(None) };
            (keep, index) = left;
        }
        let rows = self.backend.cut(Bucket::Key);
        drop(index);
        Ok(Some(Hashed { hash, keep, rows }))
    }

    /// What a compaction at `at` would leave, and the index again; `None` if there was a compaction
    /// in between.
    fn kept_at<'s>(
        &'s self,
        at: i64,
        mut index: RwLockReadGuard<'s, Index>,
    ) -> Option<(HashSet<Revision>, RwLockReadGuard<'s, Index>)> {
        let compacted = index.compacted;
        let (mut keep, mut after) = (HashSet::new(), None);
        loop {
            after = index.tree.keep_some(at, after.as_ref(), KEYS_STEP, &mut keep);
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

/// Whether a row belongs to the hash of revision `at`.
fn counts(key: &Bytes, at: i64, compacted: i64, keep: &HashSet<Revision>) -> bool {
    let Some((revision, is_tombstone)) = Revision::from_row_key(key) else { return false };
    if revision.main > at || (is_tombstone && revision.main == compacted) {
        return false;
    }
    revision.main > compacted || keep.contains(&revision)
}
