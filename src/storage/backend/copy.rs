//! A copy of one state of the file (etcd: `backend.Snapshot`, `defragdb`).
//!
//! ```text
//!   the file, as of its last commit ──rows, table by table──▶ another file
//!   [ used │ free │ used │ free … ]                            [ used │ used ]
//! ```
//!
//! The copy has the same rows with the same checksums in the same tables, so it is the same
//! database; it lacks the pages that the original does not use. A row that does not fit its
//! checksum is not copied: the member ends. The copy is made of a read transaction, so commits go
//! on meanwhile and do not change it, and it is one transaction itself: it is whole, or it is no
//! database.
//!
//! Left out: copying the bytes of the file. They change under the reader's eyes, and the free pages
//! would be copied with them.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use redb::{
    Durability, ReadOnlyTable, ReadableTable, StorageError, TableDefinition, WriteTransaction,
};

use super::{
    Backend, Bucket, Committed, Error,
    file::{DatabaseFile, FileRead, copy_name, note_format},
    tail::TAILS,
};
use crate::{clock, metrics::recorded, storage::disk::File};

/// How many copies this process has made.
static COPIES: AtomicU64 = AtomicU64::new(0);

type Name = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Raw = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What a copy contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Its rows.
    pub rows: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
}

impl FileRead {
    /// Writes everything into an empty database, in one transaction.
    pub(super) fn copy_into(&self, to: &DatabaseFile) -> Result<Copied, redb::Error> {
        let mut transaction = to.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_quick_repair(true);
        let mut copied = Copied::default();
        note_format(&transaction)?;
        for bucket in Bucket::ALL {
            let rows = &self.tables[bucket.place()];
            let check = |key: &[u8], stored: &[u8]| self.whole(bucket, key, stored).map(drop);
            copy_table((&transaction, bucket.table()), rows, check, &mut copied)?;
        }
        // A row's checksum has been compared together with its second part.
        copy_table((&transaction, TAILS), &self.tails, |_, _| Ok(()), &mut copied)?;
        fail::fail_point!("copy-before-commit");
        transaction.commit()?;
        Ok(copied)
    }
}

fn copy_table(
    (transaction, name): (&WriteTransaction, Name),
    rows: &Raw,
    check: impl Fn(&[u8], &[u8]) -> Result<(), StorageError>,
    copied: &mut Copied,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(name)?;
    for row in rows.iter()? {
        let (key, value) = row?;
        let (key, value) = (key.value(), value.value());
        check(key, value)?;
        table.insert(key, value)?;
        copied.rows += 1;
        copied.bytes += (key.len() + value.len()) as u64;
    }
    Ok(())
}

/// A file of its own with one state of the backend, for somebody who reads it as bytes. It has no
/// name, so it is gone when it is dropped, and when the member dies.
#[derive(Debug)]
pub struct FileCopy {
    file: File,
    len: u64,
    /// The last entry that it contains, and its revision.
    pub committed: Committed,
    /// The configuration of the cluster as of that entry, as JSON.
    pub conf_state: Option<Bytes>,
    /// What was copied.
    pub copied: Copied,
}

impl FileCopy {
    /// Its length in bytes, which is never 0.
    #[allow(clippy::len_without_is_empty, reason = "no database is empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` with the bytes from `offset` on, and returns how many there were.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl Backend {
    /// Commits the buffers, and copies the file as of that commit. Blocks for as long as the copy
    /// takes, and holds no lock meanwhile. The copy's room on the disk is that of the rows.
    pub fn copy(&self) -> Result<FileCopy, Error> {
        let began = clock::now();
        self.commit_now();
        let buffers = self.shared.read();
        let (file, committed) = (Arc::clone(&buffers.file), buffers.committed);
        drop(buffers);
        self.shared.check_room()?;
        let (_, conf_state) = file.state(&self.shared.path)?;
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let path = self.shared.path.with_file_name(copy_name(number));
        let copy = copy_to(&file, &path);
        // An open file without a name takes room until it is closed, and no longer.
        let _ = fs::remove_file(&path);
        let (file, len, copied) = copy.inspect_err(|error| self.shared.end_if_damaged(error))?;
        recorded::BACKEND_SNAPSHOTS.observe_duration(began.elapsed());
        Ok(FileCopy { file, len, committed, conf_state, copied })
    }
}

fn copy_to(from: &FileRead, path: &Path) -> Result<(File, u64, Copied), Error> {
    // It need not survive a crash, so it is not synced.
    let to = DatabaseFile::make(path, path, false)?;
    let copied = from.copy_into(&to).map_err(|source| to.refused(source))?;
    drop(to);
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let file = File::open_read_only(path).map_err(failed)?;
    let len = file.len().map_err(failed)?;
    Ok((file, len, copied))
}
