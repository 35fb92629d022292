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
//! For equal rows the hash equals etcd's. But not all rows are equal: etcd 3.5.1 does not store the
//! client URLs of members.

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
        (self.shared.sure(hash(&file)), committed)
    }
}

fn hash(file: &FileRead) -> Result<u32, redb::StorageError> {
    let mut buckets = Bucket::ALL;
    buckets.sort_unstable_by_key(|bucket| bucket.name());
    let mut hash = 0;
    for bucket in buckets {
        hash = crc32c::crc32c_append(hash, bucket.name().as_bytes());
        for row in file.range(bucket, &[], None)? {
            let (key, value) = row?;
            if bucket == Bucket::Meta && [CONSISTENT_INDEX, TERM].contains(&&key[..]) {
                continue;
            }
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, value.value().map_or(&[], |value| &value[..]));
        }
    }
    Ok(hash)
}
