//! `HashKV` of a database that no member has open (etcd: `etcdutl hashkv`, which late 3.5 lacks).
//!
//! The index is rebuilt from the rows, as at a start, and the hash is computed as by a member that
//! would start with this file: a compaction that was begun counts as finished.

use std::collections::HashSet;

use bytes::Bytes;

use super::{HashKv, Index, OpenError, compact, hash, restore, tree_index::Portion};
use crate::storage::backend::{self, Bucket, offline::Checked};

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum NoHash {
    /// The file cannot be read, or is damaged.
    #[error(transparent)]
    Database(#[from] backend::Error),
    /// Its rows are no key space.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// etcd: ErrCompacted.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// etcd: ErrFutureRev.
    #[error("mvcc: required revision is a future revision")]
    Future,
}

/// Hashes the key space in a database at main revision `revision` (0: the newest).
pub(crate) fn hash_of(database: &Checked, revision: i64) -> Result<HashKv, NoHash> {
    let index = open(database)?;
    let (current, compacted) = (index.revision, index.compacted);
    if revision > 0 && revision < compacted {
        return Err(NoHash::Compacted);
    }
    if revision > current {
        return Err(NoHash::Future);
    }
    let hash_revision = if revision == 0 { current } else { revision };
    let mut keep = kept_at(&index, hash_revision);
    if keep.is_empty() && 0 < compacted {
        keep = kept_at(&index, compacted);
    }
    let answer = HashKv { hash: 0, revision: current, compacted, hash_revision };
    let found = each_row(database, |rows| hash::of_rows(rows, answer, &keep))?;
    Ok(HashKv { hash: found.0, ..answer })
}

fn open(database: &Checked) -> Result<Index, NoHash> {
    let mark = |name| -> Result<i64, NoHash> {
        let mark = database.get(Bucket::Meta, str::as_bytes(name))?;
        Ok(compact::read_mark(name, mark.as_ref())?)
    };
    let compacted = mark(compact::FINISHED)?.max(mark(compact::SCHEDULED)?);
    let contents = each_row(database, |rows| restore(rows))??;
    let revision = contents.newest.max(compacted).max(1);
    Ok(Index { tree: contents.tree, revision, compacted })
}

/// The revisions that a compaction at `at` would leave.
fn kept_at(index: &Index, at: i64) -> HashSet<super::Revision> {
    let mut keep = HashSet::new();
    index.tree.keep_some(at, Portion { after: None, limit: usize::MAX }, &mut keep);
    keep
}

/// Shows the rows of the key bucket; fails if one of them cannot be read.
fn each_row<T>(
    database: &Checked,
    see: impl FnOnce(&mut dyn Iterator<Item = (Bytes, Bytes)>) -> T,
) -> Result<T, backend::Error> {
    let mut failed = None;
    let rows = database.rows(Bucket::Key)?;
    let mut rows = rows.map_while(|row| row.map_err(|error| failed = Some(error)).ok());
    let seen = see(&mut rows);
    drop(rows);
    failed.map_or(Ok(seen), Err)
}
