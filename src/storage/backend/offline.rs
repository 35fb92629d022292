//! A database file that no member uses, for tools (etcd: what etcdutl does with bbolt).
//!
//! ```text
//!   look          ── reads ──▶ file      what redb writes, such as the repair of a file that was
//!       └──────── writes ────▶ memory    not closed, stays in memory
//!   begin_again   ── one transaction ──▶ file
//!   defragment    ── copy ──▶ db.tmp ── rename ──▶ file
//! ```
//!
//! There is no buffer and no commit thread. A failure is returned and does not end the process: a
//! tool has its own words for it, and has to remove what it has made.
//!
//! Invariants
//! * A file that is empty is refused, and not made a database.
//! * The checksums of all pages have been compared before anything in the file is used: redb
//!   compares them only in part when it opens a file. Those of rows are compared as they are read.
//! * A panic of redb is an error here ([`caught`]), also one while the file is closed.
//!
//! Left out: waiting for a member that has the file open, as etcdutl does. It is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use redb::{Durability, ReadableTable};

use super::{
    Bucket, Defragmented, Error,
    defrag::{check_room, copy_beside, rename},
    file::{
        CONSISTENT_INDEX, DatabaseFile, FileRead, TERM, real_path, remove_leftovers,
        remove_unfinished, unfinished,
    },
    hash::walk,
    tail::Rows,
};
use crate::storage::{
    disk::{folder_of, sync_dir},
    redb_file::RedbFile,
    redb_panic::caught,
};

pub use super::hash::{Contents, main_revision};

/// A database that has been checked.
#[derive(Debug)]
pub struct Checked {
    name: PathBuf,
    rows: FileRead,
}

/// Checks the database in the first `len` bytes of a file, and shows it. The file is not changed.
/// Errors name it `name`.
pub fn look<T>(
    path: &Path,
    len: u64,
    name: &Path,
    see: impl FnOnce(&Checked) -> Result<T, Error>,
) -> Result<T, Error> {
    check_not_empty(len, name)?;
    let failed = |source| Error::Open { path: name.to_owned(), source };
    let file = RedbFile::look(path, len).map_err(failed)?;
    sound(name, || {
        let mut file = DatabaseFile::over(file, name)?;
        if !file.check()? {
            return Err(file.damaged("checksums do not fit".to_owned()));
        }
        let file = Arc::new(file);
        let rows = file.read().map_err(|source| file.refused(source))?;
        see(&Checked { name: name.to_owned(), rows })
    })
}

impl Checked {
    /// The value under a key.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.rows.get(bucket, key).map_err(|source| self.refused(source))
    }

    /// The raft index and term of the last entry that it has.
    pub fn consistent_index(&self) -> Result<(u64, u64), Error> {
        let (applied, _) = self.rows.state(&self.name)?;
        Ok((applied.index, applied.term))
    }

    /// The last key of a bucket.
    pub fn last(&self, bucket: Bucket) -> Result<Option<Bytes>, Error> {
        let last = self.rows.tables[bucket.place()].last();
        let last = last.map_err(|source| self.refused(source))?;
        Ok(last.map(|(key, _)| Bytes::copy_from_slice(key.value())))
    }

    /// Goes through the rows of a bucket, in the order of their keys.
    pub fn rows(
        &self,
        bucket: Bucket,
    ) -> Result<impl Iterator<Item = Result<(Bytes, Bytes), Error>> + '_, Error> {
        let rows = self.rows.range(bucket, &[], None).map_err(|source| self.refused(source))?;
        Ok(rows.map(|row| {
            let (key, entry) = row.map_err(|source| self.refused(source))?;
            // The file has no deletions.
            Ok((key, entry.value().cloned().unwrap_or_default()))
        }))
    }

    /// Goes through all rows.
    pub fn contents(&self) -> Result<Contents, Error> {
        walk(&self.rows, &[]).map_err(|source| self.refused(source))
    }

    fn refused(&self, source: redb::StorageError) -> Error {
        Error::of_redb(&self.name, source.into())
    }
}

/// Makes the database one of which no entry is applied: clears these buckets, and writes these rows
/// of the meta bucket, in one transaction. Errors name it `name`.
pub fn begin_again(
    path: &Path,
    name: &Path,
    clear: &[Bucket],
    rows: &[(&str, Vec<u8>)],
) -> Result<(), Error> {
    sound(name, || {
        let file = open(path, name)?;
        let write = || -> Result<(), redb::Error> {
            let mut transaction = file.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.set_quick_repair(true);
            for bucket in clear {
                transaction.open_table(bucket.table())?.retain(|_, _| false)?;
            }
            let mut meta = Rows::open(&transaction, Bucket::Meta)?;
            for row in [CONSISTENT_INDEX, TERM] {
                meta.put(row, &0_u64.to_be_bytes())?;
            }
            for (key, value) in rows {
                meta.put(key.as_bytes(), value)?;
            }
            drop(meta);
            Ok(transaction.commit()?)
        };
        write().map_err(|source| file.refused(source))
    })
}

/// Exchanges the file for one without free pages.
pub fn defragment(path: &Path) -> Result<Defragmented, Error> {
    let path = &real_path(path)?;
    let failed = |source| Error::Open { path: path.clone(), source };
    let len = fs::metadata(path).map_err(failed)?.len();
    look(path, len, path, |_| Ok(()))?;
    sound(path, || {
        let old = Arc::new(open(path, path)?);
        remove_leftovers(path)?;
        let sizes = old.sizes(0);
        check_room(path, sizes.in_use)?;
        let rows = old.read().map_err(|source| old.refused(source))?;
        let copied = copy_beside(&rows, path, true).and_then(|copy| {
            rename(&unfinished(path), path).map_err(failed)?;
            sync_dir(folder_of(path)).map_err(failed)?;
            Ok(copy.sizes(0))
        });
        let after = copied.inspect_err(|_| drop(remove_unfinished(&unfinished(path))))?;
        Ok(Defragmented { before: sizes.allocated, after: after.allocated })
    })
}

fn open(path: &Path, name: &Path) -> Result<DatabaseFile, Error> {
    let failed = |source| Error::Open { path: name.to_owned(), source };
    check_not_empty(fs::metadata(path).map_err(failed)?.len(), name)?;
    DatabaseFile::over(RedbFile::open(path, true).map_err(failed)?, name)
}

/// redb would make a database of an empty file.
fn check_not_empty(len: u64, name: &Path) -> Result<(), Error> {
    let why = "it is empty".to_owned();
    if len == 0 { Err(Error::NoDatabase { path: name.to_owned(), why }) } else { Ok(()) }
}

/// Runs redb over a file that may be damaged.
fn sound<T>(name: &Path, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    caught(run).unwrap_or_else(|why| Err(Error::Damaged { path: name.to_owned(), why }))
}
