//! One number for everything that can be read at a revision (etcd: `HashKV`).
//!
//! Members that have applied the same entries have the same hash, however far each has come with
//! deleting what is compacted: rows that are only still there are left out. The tombstone at the
//! compacted revision is left out too, because etcd before 3.5.16 has deleted its row.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Revision, store::Store};
use crate::{server::Error, storage::backend::Bucket};

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

impl Store {
    /// Hashes the key space at `revision`; 0 is the newest. All of the bucket is read.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        let index = self.read();
        let (current, compacted) = (index.revision, index.compacted);
        if revision > 0 && revision <= compacted {
            return Err(Error::Compacted);
        }
        if revision > current {
            return Err(Error::FutureRevision);
        }
        let hash_revision = if revision == 0 { current } else { revision };
        let keep = index.tree.keep(hash_revision);
        let cut = self.backend.cut(Bucket::Key);
        drop(index);

        let mut hash = crc32c::crc32c(Bucket::Key.name().as_bytes());
        let rows = self.backend.rows(&cut);
        for (key, value) in rows.filter(|(key, _)| counts(key, hash_revision, compacted, &keep)) {
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, &value);
        }
        Ok(HashKv { hash, revision: current, compacted, hash_revision })
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
