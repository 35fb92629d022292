//! One number for everything that can be read at a revision (etcd: `HashKV`).
//!
//! Members that have applied the same entries have the same hash, however far each has come with
//! deleting what is compacted: rows that are only still there are left out. The tombstone at the
//! compacted revision is left out too, because etcd before 3.5.16 has deleted its row.
//!
//! What would be left is found out by a walk through the whole index. Apply must not wait for that,
//! so the index is let go of after some keys. What is written meanwhile is of later revisions and
//! changes nothing; after a compaction the walk begins again.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Revision, store::Store};
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
    /// What a compaction at the revision of the hash would leave.
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
        let mut index = self.read();
        let (current, compacted) = (index.revision, index.compacted);
        if revision > 0 && revision <= compacted {
            return Err(Error::Compacted);
        }
        if revision > current {
            return Err(Error::FutureRevision);
        }
        let hash_revision = if revision == 0 { current } else { revision };
        let hash = HashKv { hash: 0, revision: current, compacted, hash_revision };
        let (mut keep, mut after) = (HashSet::new(), None);
        loop {
            after = index.tree.keep_some(hash_revision, after.as_ref(), KEYS_STEP, &mut keep);
            if after.is_none() {
                break;
            }
            drop(index);
            fail::fail_point!("mvcc-hash-step");
            index = self.read();
            if index.compacted != compacted {
                return Ok(None);
            }
        }
        let rows = self.backend.cut(Bucket::Key);
        Ok(Some(Hashed { hash, keep, rows }))
    }
}

/// Whether a row belongs to the hash. An empty set means that nothing is left out: etcd tells so
/// that there was no compaction.
fn counts(key: &Bytes, at: i64, compacted: i64, keep: &HashSet<Revision>) -> bool {
    let Some((revision, is_tombstone)) = Revision::from_row_key(key) else { return false };
    if revision.main > at || (is_tombstone && revision.main == compacted) {
        return false;
    }
    revision.main > compacted || keep.is_empty() || keep.contains(&revision)
}
