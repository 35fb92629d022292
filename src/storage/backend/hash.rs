//! One number for everything in the file (etcd: `backend.Hash`).
//!
//! ```text
//!   CRC-32C of   alarm ‖ auth ‖ … ‖ key ‖ (revision ‖ row) ‖ (revision ‖ row) ‖ … ‖ meta ‖ …
//!                buckets by name, each name before its rows, rows by key
//! ```
//!
//! Members that have applied the same entries have the same hash, except for what each does in its
//! own time: it deletes the rows of compacted revisions, and sets a mark when that is done. The
//! raft index and its term are left out, as in etcd, because the log also grows without requests of
//! clients. To compare members at a revision, use `HashKV`.
//!
//! The table of the v2 store is left out, because etcd's backend has none.
//!
//! For equal rows the hash equals etcd's. But not all rows are equal: etcd 3.5.1 does not store the
//! client URLs of members. `snapshot status` of a saved file leaves out nothing, as etcdutl's.

use super::{
    Backend, Bucket, Committed,
    file::{CONSISTENT_INDEX, FileRead, TERM},
};

impl Backend {
    /// Commits the buffers, and hashes the file as of that commit.
    pub fn hash(&self) -> (u32, Committed) {
        self.commit_now();
        let buffers = self.shared.read();
        let (file, committed) = (buffers.file.clone(), buffers.committed);
        drop(buffers);
        (self.shared.sure(walk(&file, &[CONSISTENT_INDEX, TERM])).hash, committed)
    }
}

/// What a walk through all rows has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The CRC-32C of all buckets' names and rows.
    pub hash: u32,
    /// The rows of all buckets.
    pub rows: u64,
    /// The main revision of the newest row of the key bucket, 0 if there is none.
    pub revision: i64,
}

/// Goes through all rows, but leaves out these of the meta bucket.
pub(super) fn walk(file: &FileRead, left_out: &[&[u8]]) -> Result<Contents, redb::StorageError> {
    let mut buckets = Bucket::ALL;
    buckets.sort_unstable_by_key(|bucket| bucket.name());
    let mut found = Contents::default();
    for bucket in buckets.into_iter().filter(|bucket| *bucket != Bucket::V2) {
        found.hash = crc32c::crc32c_append(found.hash, bucket.name().as_bytes());
        for row in file.range(bucket, &[], None)? {
            let (key, value) = row?;
            if bucket == Bucket::Meta && left_out.contains(&&key[..]) {
                continue;
            }
            let value = value.value().map_or(&[][..], |value| &value[..]);
            found.hash = crc32c::crc32c_append(crc32c::crc32c_append(found.hash, &key), value);
            found.rows += 1;
            if bucket == Bucket::Key {
                found.revision = main_revision(&key).unwrap_or(found.revision);
            }
        }
    }
    Ok(found)
}

/// The main revision in a key of the key bucket.
pub fn main_revision(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.get(..8)?.try_into().ok()?))
}
