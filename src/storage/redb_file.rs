//! The database's file as redb sees it: a [`File`] that knows how much of it the disk holds.
//!
//! ```text
//!   redb, a page of 16 blocks:  [ data, 10 blocks │ zeros, 6 blocks ]
//!   the file:                   [ data, 10 blocks │ hole            ]
//! ```
//!
//! redb's pages are powers of two, and it doubles its file when it needs one more. Measured by its
//! length, such a file would reach its quota when a third of it is used. So the size is the number
//! of blocks that were written ([`Blocks`]): these are allocated on the disk, and their number
//! grows block by block. Zeros at the end of a page are not written where the file has holes
//! already, which read the same.
//!
//! Invariants
//! * redb reads the bytes that it wrote, holes or not. Only zeros are left out, and only where the
//!   file has no block yet, so that nothing older can show through.
//! * The length is redb's at any time, because redb derives its layout from it after a crash.
//! * Blocks are given back only when redb cuts the file. A page that redb has freed keeps its
//!   blocks and is used again.
//!
//! Left out: reserving blocks before they are written, as the log does. redb's next pages lie in
//! many places of the new half, and reserving all of it would take the room that is to be saved. So
//! a full disk shows when a commit writes, and ends the member there, as it would when a commit
//! syncs.

use std::{
    io,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

use super::{
    blocks::{BLOCK, Blocks},
    disk::File,
};

/// A handle on the database's file. Clones share it: redb has one, and the backend another to look
/// at its size.
#[derive(Clone, Debug)]
pub struct RedbFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    blocks: Mutex<Blocks>,
    /// Takes redb's byte-range locks, on a handle that shares our open file description.
    locks: FileBackend,
    /// Whether syncs reach the disk; false for `--unsafe-no-fsync`.
    fsync: bool,
    /// Whether others may look at the file meanwhile.
    shared: bool,
}

impl RedbFile {
    /// Opens the database's file, or creates an empty one. Without `fsync` it is never synced.
    pub fn open(path: &Path, fsync: bool) -> io::Result<RedbFile> {
        Self::over(File::open_or_create(path)?, fsync, false)
    }

    /// Opens the first `len` bytes of a file that is not to be changed. Others may look at it
    /// meanwhile, but nobody may have it open for writing.
    pub fn look(path: &Path, len: u64) -> io::Result<RedbFile> {
        Self::over(File::look(path, len)?, false, true)
    }

    /// Creates a file under the name `unfinished`, which will be renamed to `path`; errors name it
    /// `path`.
    pub fn make(unfinished: &Path, path: &Path, fsync: bool) -> io::Result<RedbFile> {
        Self::over(File::open_or_create(unfinished)?.renamed(path), fsync, false)
    }

    /// Makes the file empty, unless somebody else has it open; false then.
    pub fn empty(&self) -> io::Result<bool> {
        self.alone(|| self.set_len(0))
    }

    /// Whether nobody else has it open.
    pub fn is_free(&self) -> io::Result<bool> {
        self.alone(|| Ok(()))
    }

    /// Does something with the file while nobody else can open it. False, and nothing is done, if
    /// somebody has.
    fn alone(&self, act: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
        let whole = (Bound::Unbounded, Bound::Unbounded);
        match self.0.locks.try_lock_range(whole.0, whole.1) {
            Ok(false) => return Ok(false),
            Ok(true) | Err(BackendError::Unsupported) => (),
            Err(error) => return Err(io::Error::other(error)),
        }
        act()?;
        match self.0.locks.unlock_range(whole.0, whole.1) {
            Ok(()) | Err(BackendError::Unsupported) => Ok(true),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn over(file: File, fsync: bool, shared: bool) -> io::Result<RedbFile> {
        let blocks = Mutex::new(Blocks::of(file.real())?);
        let locks = FileBackend::new(file.real().try_clone()?).map_err(io::Error::other)?;
        Ok(RedbFile(Arc::new(Inner { file, blocks, locks, fsync, shared })))
    }

    /// Which blocks the disk holds for the file.
    pub(super) fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.0.blocks()
    }

    /// Fills `buffer` from `offset` on; false if the file ends before.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
        Ok(self.0.file.read_at(buffer, offset)? == buffer.len())
    }
}

impl Inner {
    /// A poisoned lock means that another thread has panicked, which says nothing about the map.
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of the bytes must be written: all but the zeros at the end, in whole blocks, for
    /// which the file has no block. Notes the blocks of the others.
    fn note_written(&self, offset: u64, data: &[u8]) -> usize {
        let (mut blocks, size) = (self.blocks(), BLOCK as usize);
        let mut len = data.len();
        while size < len && len.is_multiple_of(size) && offset.is_multiple_of(BLOCK) {
            let last = offset / BLOCK + (len / size - 1) as u64;
            if blocks.has(last) || data[len - size..len].iter().any(|byte| *byte != 0) {
                break;
            }
            len -= size;
        }
        blocks.add(offset, len as u64);
        len
    }
}

type Locked<T> = Result<T, BackendError>;

impl StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        self.0.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.0.file.read_at(out, offset)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.file.set_len(len)?;
        self.0.blocks().cut(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.0.fsync { self.0.file.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        fail::fail_point!("db-disk-full", |_| Err(nix::errno::Errno::ENOSPC.into()));
        let len = self.0.note_written(offset, data);
        self.0.file.write_at(&data[..len], offset)
    }

    fn close(&self) -> io::Result<()> {
        self.0.locks.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        if self.0.shared {
            return self.0.locks.try_lock_shared_range(start, end);
        }
        self.0.locks.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.locks.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        if self.0.shared {
            return self.0.locks.lock_shared_range(start, end);
        }
        self.0.locks.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.0.locks.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.0.locks.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.locks.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use redb::{Database, ReadableDatabase, TableDefinition};

    use super::*;
    use crate::{random::Random, storage::own_process::alone};

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("t");

    fn put(database: &Database, key: u64, durability: redb::Durability) {
        let mut txn = database.begin_write().unwrap();
        txn.set_durability(durability).unwrap();
        txn.open_table(TABLE).unwrap().insert(key, key).unwrap();
        txn.commit().unwrap();
    }

    #[test]
    fn redb_on_a_lossy_file_loses_commits_that_were_not_durable() {
        alone(
            "storage::redb_file::tests::redb_on_a_lossy_file_loses_commits_that_were_not_durable",
            || {
                fail::cfg("disk-lossy", "return").unwrap();
                let dir = tempfile::tempdir().unwrap();
                let (path, copy) = (dir.path().join("db"), dir.path().join("copy"));
                let file = RedbFile::open(&path, true).unwrap();
                let database = Database::builder().create_with_backend(file).unwrap();
                put(&database, 1, redb::Durability::Immediate);
                put(&database, 2, redb::Durability::None);
                // The file on disk now is what a power failure would leave.
                std::fs::copy(&path, &copy).unwrap();
                let file = RedbFile::open(&copy, true).unwrap();
                let after = Database::builder().create_with_backend(file).unwrap();
                let table = after.begin_read().unwrap().open_table(TABLE).unwrap();
                assert_eq!(table.get(1).unwrap().unwrap().value(), 1);
                assert!(table.get(2).unwrap().is_none());
            },
        );
    }

    #[test]
    fn redb_refuses_a_file_that_another_handle_has_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let open = || Database::builder().create_with_backend(RedbFile::open(&path, true).unwrap());
        let first = open().unwrap();
        assert!(open().is_err());
        drop(first);
        assert!(open().is_ok());
    }

    /// Bytes that were written are read again, zeros or not, also after the file was opened again;
    /// and no more blocks are counted than the disk has given.
    fn writes_read_as_written(dir: &Path) {
        let (path, mut random) = (dir.join("f"), Random::new(3));
        let mut next = |bound: u64| random.below(bound);
        let mut file = RedbFile::open(&path, true).unwrap();
        let mut model = vec![0_u8; 1 << 20];
        file.set_len(1 << 20).unwrap();
        for step in 0..400 {
            if step % 100 == 99 {
                let len = (1 + next(255)) << 12;
                model.truncate(usize::try_from(len).unwrap());
                model.resize(1 << 20, 0);
                file.set_len(len).unwrap();
                file.set_len(1 << 20).unwrap();
            }
            let order = next(6);
            let offset = usize::try_from(next(256 >> order) << (12 + order)).unwrap();
            let mut page = vec![0; 4096 << order];
            let used = usize::try_from(next(4097 << order)).unwrap();
            page[..used].fill(u8::try_from(1 + step % 250).unwrap());
            file.write(offset as u64, &page).unwrap();
            model[offset..offset + page.len()].copy_from_slice(&page);
            if step % 50 == 49 {
                file.sync_data().unwrap();
                let counted = file.blocks().bytes();
                let given = file.0.file.real().metadata().unwrap().blocks() * 512;
                // The file system's own notes on where the file lies are in it, too.
                let notes = given.checked_sub(counted).expect("a block is counted that is none");
                assert!(notes <= 2 * BLOCK, "step {step}: {counted} of {given}");
                file = RedbFile::open(&path, true).unwrap();
                assert_eq!(file.blocks().bytes(), counted, "step {step}");
            }
            let mut seen = vec![0; model.len()];
            file.read(0, &mut seen).unwrap();
            assert!(seen == model, "step {step}");
        }
        let given = file.blocks().bytes();
        assert!(given < 1 << 20, "no block was left out");
    }

    #[test]
    fn zeros_at_the_end_of_a_page_take_no_room_and_are_read() {
        writes_read_as_written(tempfile::tempdir().unwrap().path());
    }

    #[test]
    fn holes_read_as_zeros_in_a_lossy_file_too() {
        alone("storage::redb_file::tests::holes_read_as_zeros_in_a_lossy_file_too", || {
            fail::cfg("disk-lossy", "return").unwrap();
            writes_read_as_written(tempfile::tempdir().unwrap().path());
        });
    }

    #[test]
    fn a_large_value_takes_its_own_blocks_and_not_a_power_of_two() {
        const LARGE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("large");
        let dir = tempfile::tempdir().unwrap();
        let file = RedbFile::open(&dir.path().join("db"), true).unwrap();
        let database = Database::builder().create_with_backend(file.clone()).unwrap();
        let before = file.blocks().bytes();
        let txn = database.begin_write().unwrap();
        for key in 0..32 {
            txn.open_table(LARGE).unwrap().insert(key, &[7; 40 << 10][..]).unwrap();
        }
        txn.commit().unwrap();
        let taken = file.blocks().bytes() - before;
        assert!((32 * 44 * 1024..32 * 46 * 1024).contains(&taken), "{taken} for 32 of 40 KiB");
        assert!(2 * taken < file.len().unwrap() + before, "redb has doubled its file");
    }
}
