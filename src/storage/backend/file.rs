//! The file itself: opening it, reading one consistent state of it, and copying that state.

use std::{
    fs, io,
    ops::Bound,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use redb::{
    Builder, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageError, TableDefinition, WriteTransaction,
};

use super::{
    Applied, Bucket, Error,
    buffer::{Entry, Row},
    checksum, free,
    size::Sizes,
    tail::{self, Rows, TAILS},
};
use crate::storage::{
    disk::{folder_of, sync_dir},
    redb_file::RedbFile,
};

/// The row of the meta bucket with the index of the last entry in the file.
pub(super) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
/// The row of the meta bucket with that entry's term.
pub(super) const TERM: &[u8] = b"term";
/// The row of the meta bucket with the cluster's configuration.
pub(super) const CONF_STATE: &[u8] = b"confState";

/// The form of the rows, in a table of its own: buckets and their rows are etcd's.
const FORMAT: TableDefinition<'static, &'static str, &'static str> = TableDefinition::new("format");
/// Each row has a checksum.
const ROWS: (&str, &str) = ("rows", "crc32c");

/// How much of the file redb keeps in memory. Three members often share one machine.
const CACHE_BYTES: usize = 4 << 20;

/// The names of copies that are sent somewhere: a number between these.
const PREFIX: &str = "copy-";
const SUFFIX: &str = ".tmp";

/// The open database and its path.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    pub(super) database: Database,
    pub(super) file: RedbFile,
    path: PathBuf,
}

/// A redb transaction for reading, with its tables.
pub(super) struct FileRead {
    pub(super) tables: Vec<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    pub(super) tails: ReadOnlyTable<&'static [u8], &'static [u8]>,
    _transaction: ReadTransaction,
    /// redb refuses to read from a database that is closed, and a defragmentation opens another.
    _open: Arc<DatabaseFile>,
}

impl DatabaseFile {
    /// Opens or makes the file, with all its tables.
    pub(super) fn open(path: &Path, fsync: bool) -> Result<DatabaseFile, Error> {
        let (database, file) = open_database(path, fsync)?;
        DatabaseFile { database, file, path: path.to_owned() }.with_tables()
    }

    /// Opens the database in a file, whose errors name it `path`.
    pub(super) fn over(file: RedbFile, path: &Path) -> Result<DatabaseFile, Error> {
        let (database, file) = open_file(path, file)?;
        DatabaseFile { database, file, path: path.to_owned() }.with_tables()
    }

    fn with_tables(self) -> Result<DatabaseFile, Error> {
        match self.make_tables().map_err(|source| self.refused(source))? {
            true => Ok(self),
            false => Err(Error::Old { path: self.path }),
        }
    }

    /// Compares the checksums of all pages, and reads all of them for that. False if some of the
    /// last commit did not fit: then the database is again as the commit before has left it. Fails
    /// if that is damaged too.
    pub(super) fn check(&mut self) -> Result<bool, Error> {
        self.database.check_integrity().map_err(|source| Error::of_redb(&self.path, source.into()))
    }

    /// Makes an empty database under the name `unfinished`, whose errors name it `path`. What was
    /// left under that name is removed first.
    pub(super) fn make(unfinished: &Path, path: &Path, fsync: bool) -> Result<DatabaseFile, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        remove_unfinished(unfinished)?;
        let file = RedbFile::make(unfinished, path, fsync).map_err(failed)?;
        let (database, file) = open_file(path, file)?;
        Ok(DatabaseFile { database, file, path: path.to_owned() })
    }

    /// Makes the tables that are missing. Returns false, and changes nothing, if the rows have
    /// another form.
    fn make_tables(&self) -> Result<bool, redb::Error> {
        use redb::TableHandle;
        let transaction = self.database.begin_read()?;
        let known: Vec<String> =
            transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
        let is_known = |name: &str| known.iter().any(|known| known == name);
        if is_known(Bucket::Key.name()) && !(is_known(FORMAT.name()) && has_format(&transaction)?) {
            return Ok(false);
        }
        drop(transaction);
        if Bucket::ALL.iter().map(|bucket| bucket.name()).chain([TAILS.name()]).all(is_known) {
            return Ok(true);
        }
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        for bucket in Bucket::ALL {
            Rows::open(&transaction, bucket)?;
        }
        note_format(&transaction)?;
        transaction.commit()?;
        Ok(true)
    }

    /// Opens a read transaction on the newest committed state.
    pub(super) fn read(self: &Arc<Self>) -> Result<FileRead, redb::Error> {
        let transaction = self.database.begin_read()?;
        let tables = Bucket::ALL.into_iter().map(|bucket| transaction.open_table(bucket.table()));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        let tails = transaction.open_table(TAILS)?;
        Ok(FileRead { tables, tails, _transaction: transaction, _open: Arc::clone(self) })
    }

    pub(super) fn refused(&self, source: redb::Error) -> Error {
        Error::of_redb(&self.path, source)
    }

    pub(super) fn damaged(&self, why: String) -> Error {
        Error::Damaged { path: self.path.clone(), why }
    }

    /// The sizes of the file after the last commit, if its rows have `stored` bytes. May only be
    /// called between commits.
    pub(super) fn sizes(&self, stored: u64) -> Sizes {
        let allocated = self.file.blocks().bytes();
        // A page that is not known to be free counts as used.
        let free = free::free_bytes(&self.file).unwrap_or(0);
        Sizes { stored, allocated, in_use: allocated.saturating_sub(free) }
    }
}

/// Notes the form of the rows in a database that is being made.
pub(super) fn note_format(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(FORMAT)?.insert(ROWS.0, ROWS.1)?;
    Ok(())
}

fn has_format(transaction: &ReadTransaction) -> Result<bool, redb::Error> {
    let format = transaction.open_table(FORMAT)?.get(ROWS.0)?;
    Ok(format.is_some_and(|format| format.value() == ROWS.1))
}

/// Opens the file; only its first opener makes it.
fn open_database(path: &Path, fsync: bool) -> Result<(Database, RedbFile), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(failed)?;
    let opened = if path.try_exists().map_err(failed)? {
        open_file(path, RedbFile::open(path, fsync).map_err(failed)?)?
    } else {
        make_database(path, fsync)?
    };
    remove_leftovers(path)?;
    Ok(opened)
}

/// Makes the file under another name, and renames it: redb writes its magic number last, so a file
/// of a member that was killed in between could never be opened. What such a member has left under
/// that name is emptied.
fn make_database(path: &Path, fsync: bool) -> Result<(Database, RedbFile), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let unfinished = unfinished(path);
    let left = |source| Error::Leftover { path: unfinished.clone(), source };
    let file = RedbFile::make(&unfinished, path, fsync).map_err(left)?;
    // A file that is locked, or that has the database's name by now, is another process's.
    if !file.empty().map_err(left)? || path.try_exists().map_err(failed)? {
        let source = redb::Error::DatabaseAlreadyOpen;
        return Err(Error::Database { path: path.to_owned(), source });
    }
    let made = open_file(path, file)?;
    fs::rename(&unfinished, path).map_err(failed)?;
    sync_dir(folder_of(path)).map_err(failed)?;
    Ok(made)
}

fn open_file(path: &Path, file: RedbFile) -> Result<(Database, RedbFile), Error> {
    let refused = |source: redb::DatabaseError| Error::of_redb(path, source.into());
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(file.clone())
        .map_err(refused)?;
    Ok((database, file))
}

/// The name of a file that is not finished yet, and will be renamed to `path`.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Where the file is to which a symbolic link of this name leads; the name itself if it is no link.
/// The database is exchanged by a rename, which would take the place of the link.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, Error> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            fs::canonicalize(path).map_err(|source| Error::Open { path: path.to_owned(), source })
        }
        _ => Ok(path.to_owned()),
    }
}

/// Gives a file the owner, the group and the mode of the one whose place it takes.
pub(super) fn take_after(file: &Path, old: &Path) -> io::Result<()> {
    let (is, wanted) = (fs::metadata(file)?, fs::metadata(old)?);
    if (is.uid(), is.gid()) != (wanted.uid(), wanted.gid()) {
        let given = chown(file, Some(wanted.uid()), Some(wanted.gid()));
        // Only root may give a file to a group that it is not in. The owner can use it.
        given.or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied if is.uid() == wanted.uid() => Ok(()),
            _ => Err(error),
        })?;
    }
    fs::set_permissions(file, wanted.permissions())
}

/// Removes the unfinished file of a start, or of a defragmentation, that was killed. The caller has
/// the lock of the database.
pub(super) fn remove_unfinished(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Leftover { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The name of the copy with this number, until it is open.
pub(super) fn copy_name(number: u64) -> String {
    format!("{PREFIX}{number}{SUFFIX}")
}

/// Removes what a process that was killed has left beside the database. The caller has the lock of
/// the database: without it, these files may be the work of the process that has it.
pub(super) fn remove_leftovers(path: &Path) -> Result<(), Error> {
    remove_unfinished(&unfinished(path))?;
    remove_copies(folder_of(path))
}

/// Removes the copies that a member which was killed has left in the folder of its database.
fn remove_copies(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::Open { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        if number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) {
            remove_unfinished(&entry.path())?;
        }
    }
    Ok(())
}

impl std::fmt::Debug for FileRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileRead").finish_non_exhaustive()
    }
}

impl FileRead {
    pub(super) fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let found = ReadableTable::get(&self.tables[bucket.place()], key)?;
        found.map(|value| self.whole(bucket, key, value.value())).transpose()
    }

    /// The value of a row of which the bucket's table has this. Its checksum has been compared.
    pub(super) fn whole(
        &self,
        bucket: Bucket,
        key: &[u8],
        stored: &[u8],
    ) -> Result<Bytes, StorageError> {
        let sealed = match bucket {
            Bucket::Key => tail::whole(key, stored, &self.tails)?,
            _ => Bytes::copy_from_slice(stored),
        };
        checksum::open(bucket, key, sealed)
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
        Ok(rows.map(move |row| {
            let (key, value) = row?;
            let value = Entry::Put(self.whole(bucket, key.value(), value.value())?);
            Ok((Bytes::copy_from_slice(key.value()), value))
        }))
    }

    /// The last entry in the file, and its conf state.
    pub(super) fn state(&self, path: &Path) -> Result<(Applied, Option<Bytes>), Error> {
        let meta =
            |key| self.get(Bucket::Meta, key).map_err(|source| Error::of_redb(path, source.into()));
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
