//! The file itself: opening it, and reading one consistent state of it.

use std::{
    fs::File,
    ops::Bound,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use redb::{
    BackendError, Builder, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, StorageBackend, StorageError, backends::FileBackend,
};

use super::{
    Applied, Bucket, Error,
    buffer::{Entry, Row},
};
use crate::storage::disk::RedbFile;

/// The row of the meta bucket with the index of the last entry in the file.
pub(super) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
/// The row of the meta bucket with that entry's term.
pub(super) const TERM: &[u8] = b"term";
/// The row of the meta bucket with the cluster's configuration.
pub(super) const CONF_STATE: &[u8] = b"confState";

/// How much of the file redb keeps in memory. Three members often share one machine.
const CACHE_BYTES: usize = 4 << 20;

/// The open database and where it lies.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    pub(super) database: Database,
    path: PathBuf,
}

/// A redb transaction for reading, with its tables.
pub(super) struct FileRead {
    tables: Vec<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    _transaction: ReadTransaction,
}

impl DatabaseFile {
    /// Opens or makes the file, with all its tables.
    pub(super) fn open(path: &Path, fsync: bool) -> Result<DatabaseFile, Error> {
        let refused = |source| Error::Database { path: path.to_owned(), source };
        let database = open_database(path, fsync)?;
        let file = DatabaseFile { database, path: path.to_owned() };
        file.make_tables().map_err(refused)?;
        Ok(file)
    }

    fn make_tables(&self) -> Result<(), redb::Error> {
        use redb::TableHandle;
        let transaction = self.database.begin_read()?;
        let known: Vec<String> =
            transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
        drop(transaction);
        if Bucket::ALL.iter().all(|bucket| known.iter().any(|name| name == bucket.name())) {
            return Ok(());
        }
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        for bucket in Bucket::ALL {
            transaction.open_table(bucket.table())?;
        }
        Ok(transaction.commit()?)
    }

    /// Begins to read the newest committed state.
    pub(super) fn read(&self) -> Result<FileRead, redb::Error> {
        let transaction = self.database.begin_read()?;
        let tables = Bucket::ALL.into_iter().map(|bucket| transaction.open_table(bucket.table()));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        Ok(FileRead { tables, _transaction: transaction })
    }

    pub(super) fn refused(&self, source: redb::Error) -> Error {
        Error::Database { path: self.path.clone(), source }
    }

    /// The file's length in bytes; 0 if the system does not say.
    pub(super) fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }
}

/// The one place that opens the file.
fn open_database(path: &Path, fsync: bool) -> Result<Database, Error> {
    let open = |source| Error::Open { path: path.to_owned(), source };
    let refused = |source: redb::DatabaseError| Error::Database {
        path: path.to_owned(),
        source: source.into(),
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(open)?;
    }
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    if fsync {
        let file = RedbFile::open(path).map_err(open)?;
        return builder.create_with_backend(file).map_err(refused);
    }
    let mut how = File::options();
    let how = how.read(true).write(true).create(true).truncate(false);
    let file = how.open(path).map_err(open)?;
    let backend = FileBackend::new(file).map_err(refused)?;
    builder.create_with_backend(Unsynced(backend)).map_err(refused)
}

impl std::fmt::Debug for FileRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileRead").finish_non_exhaustive()
    }
}

impl FileRead {
    pub(super) fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let found = ReadableTable::get(&self.tables[bucket.place()], key)?;
        Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
    }

    pub(super) fn range(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<Row, StorageError>> + '_, StorageError> {
        let end = match to {
            Some(to) if to <= from => Bound::Excluded(from),
            Some(to) => Bound::Excluded(to),
            None => Bound::Unbounded,
        };
        let bounds = (Bound::Included(from), end);
        let rows = ReadableTable::range::<&[u8]>(&self.tables[bucket.place()], bounds)?;
        Ok(rows.map(|row| {
            let (key, value) = row?;
            let value = Entry::Put(Bytes::copy_from_slice(value.value()));
            Ok((Bytes::copy_from_slice(key.value()), value))
        }))
    }

    /// How far the file has come, and its conf state.
    pub(super) fn state(&self, path: &Path) -> Result<(Applied, Option<Bytes>), Error> {
        let meta = |key| {
            self.get(Bucket::Meta, key)
                .map_err(|source| Error::Database { path: path.to_owned(), source: source.into() })
        };
        let number = |key, row| -> Result<u64, Error> {
            let Some(value) = meta(key)? else { return Ok(0) };
            let value = <[u8; 8]>::try_from(value.as_ref());
            value
                .map(u64::from_be_bytes)
                .map_err(|_| Error::Malformed { path: path.to_owned(), row })
        };
        let index = number(CONSISTENT_INDEX, "meta/consistent_index")?;
        let term = number(TERM, "meta/term")?;
        Ok((Applied { index, term, revision: 0 }, meta(CONF_STATE)?))
    }
}

/// A file that is never synced, for `--unsafe-no-fsync`.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> std::io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
