//! The database file and the write buffer before it (etcd: `mvcc/backend`).
//!
//! Applying an entry must not wait for a disk: the entry is already safe in the write-ahead log. So
//! a write goes into a buffer in memory only, and the commit thread writes the buffer into the file
//! ten times a second.
//!
//! ```text
//!   apply thread              commit thread                      readers
//!        │ put, delete              │                               │
//!        ▼                          │                               ▼
//!   ┌──────────┐  freeze       ┌──────────┐  one redb        1. active buffer
//!   │  active  │ ────────────▶ │  frozen  │  transaction     2. frozen buffer
//!   │  buffer  │ between       │  buffer  │ ─────────┐       3. the file, as of
//!   └──────────┘ entries       └──────────┘          ▼          the same moment
//!                                              ┌───────────┐
//!                     rows, consistent index,  │ member/   │
//!                     its term, conf state ──▶ │  snap/db  │
//!                                              └───────────┘
//! ```
//!
//! Invariants
//! * **An entry and its index are never apart.** A [`WriteGuard`] covers whole entries and is
//!   exclusive; freezing needs the same lock; the frozen buffer and the consistent index that was
//!   set with it go into one transaction. A crash at any point leaves the file at the end of
//!   some entry, with the index of that entry. (etcd 3.5.0 to 3.5.2 kept the index in memory
//!   beside the transaction and could store an index whose rows were missing.)
//! * **A reader misses nothing.** Readers take the buffers and the file's read transaction under
//!   one lock, and the commit thread exchanges "frozen buffer" for "newer file" in one step under
//!   the same lock.
//! * **No bad row is served.** Each row is stored with a checksum of its own (`checksum`), which is
//!   compared when it is read. At the start the checksums of all pages are compared as well.
//! * **The buffers are bounded.** When the active buffer is full while the frozen one is still
//!   being committed, [`Backend::write`] waits. ([`Backend::write_at_once`] does not, because its
//!   caller has waited.)
//!
//! The difference from etcd: bbolt's transaction stays open between commits, and every write goes
//! there *and* into a read buffer. Here it goes into the buffer only, which saves a lock and keeps
//! the transaction inside the commit thread; and because buffers hold deletions as well, a deletion
//! does not force a commit.
//!
//! Two things make the file as small as bbolt's or smaller: rows that would leave a good part of a
//! page empty are cut in two (`tail`), and the size is not redb's length of the file but the number
//! of blocks that the disk holds for it (`redb_file`), and of those the ones in use (`free`).
//!
//! A defragmentation ([`defrag`]) exchanges the file itself for a copy without free pages. Tools
//! use the file of a member that does not run ([`offline`]), without buffers.
//!
//! Left out: sending the file to another member.

mod batch;
mod bucket;
mod buffer;
mod checksum;
mod commit;
mod copy;
mod defrag;
mod file;
mod free;
mod hash;
pub mod offline;
mod read_tx;
mod size;
mod tail;
#[cfg(test)]
mod tests;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;

use self::{
    buffer::{Buffer, Entry, Frozen},
    commit::Control,
    file::{DatabaseFile, FileRead},
    size::Gauge,
};

pub use self::{
    batch::WriteGuard,
    bucket::Bucket,
    copy::{Copied, FileCopy},
    defrag::{Defragmented, Refused},
    read_tx::{Cut, View},
};

/// A panic while one of the locks was held has left half an entry behind.
const POISONED: &str = "a panic below this lock ends the member";

/// When the file is written, and whether it is synced.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest that a write stays in memory only (etcd: `--backend-batch-interval`, 100 ms).
    pub batch_interval: Duration,
    /// The number of writes at which the buffer is committed at once (etcd:
    /// `--backend-batch-limit`, 10 000).
    pub batch_limit: usize,
    /// Whether a commit waits for the disk. False only for `--unsafe-no-fsync`.
    pub fsync: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { batch_interval: Duration::from_millis(100), batch_limit: 10_000, fsync: true }
    }
}

/// Why the file cannot be opened. Later failures are not returned: they end the member.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to open or to make the file.
    #[error("cannot open {}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The database refused, or its file is damaged.
    #[error("cannot use {}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// The reason that redb gives.
        source: redb::Error,
    },
    /// The file has never been a database.
    #[error("{} is no database: {why}", path.display())]
    NoDatabase {
        /// The file.
        path: PathBuf,
        /// What shows it.
        why: String,
    },
    /// The content of the file is not what was written.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What redb has found.
        why: String,
    },
    /// A row does not have the form that it must have.
    #[error("{} is damaged: malformed {row}", path.display())]
    Malformed {
        /// The database file.
        path: PathBuf,
        /// The name of the row.
        row: &'static str,
    },
    /// An earlier version of this program has made the file.
    #[error("{} is from an earlier version: its rows have no checksums", path.display())]
    Old {
        /// The database file.
        path: PathBuf,
    },
    /// What an earlier process has left cannot be removed.
    #[error("cannot remove {}, which an earlier start has left", path.display())]
    Leftover {
        /// The file that is left, or what else has its name.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A copy of the file would fill the disk.
    #[error("no room for a copy of {}: it needs {needed} bytes, and {free} are free", path.display())]
    NoRoom {
        /// The database file.
        path: PathBuf,
        /// The bytes of the pages in use, and what has to stay free.
        needed: u64,
        /// The bytes that may be written.
        free: u64,
    },
    /// The commit thread could not be started.
    #[error("cannot start the commit thread")]
    Thread(#[source] std::io::Error),
}

impl Error {
    /// Whether the file cannot be used as it is, however often it is tried.
    pub fn is_damage(&self) -> bool {
        use Error::{Damaged, Malformed, NoDatabase, Old};
        matches!(self, Damaged { .. } | Malformed { .. } | NoDatabase { .. } | Old { .. })
    }

    /// What redb says of the file at `path`.
    fn of_redb(path: &Path, source: redb::Error) -> Error {
        let path = path.to_owned();
        match source {
            redb::Error::Corrupted(why) => Error::Damaged { path, why },
            redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Error::NoDatabase { path, why: error.to_string() }
            }
            redb::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Error::Damaged { path, why: "it is shorter than it was".to_owned() }
            }
            source => Error::Database { path, source },
        }
    }
}

/// Where a row was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundIn {
    /// In the buffer that takes writes.
    Active,
    /// In the buffer that is being written into the file.
    Frozen,
    /// In neither buffer, but in the file.
    File,
}

/// The last applied entry, and the revision after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The raft index of the last entry (etcd: consistent index).
    pub index: u64,
    /// The raft term of that entry.
    pub term: u64,
    /// The key space's revision after it; 0 before the key space was opened.
    pub revision: i64,
}

/// The last entry in the file: an alias of [`Applied`] that says which state is meant.
pub type Committed = Applied;

/// The state that readers, the writer and the commit thread share under one lock.
#[derive(Debug)]
struct Buffers {
    active: Buffer,
    frozen: Option<Arc<Frozen>>,
    file: Arc<FileRead>,
    applied: Applied,
    committed: Committed,
    conf_state: Option<Bytes>,
    conf_state_changed: bool,
}

/// The database file with its buffers; see the module's essay.
#[derive(Debug)]
pub struct Backend {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The state that the commit thread shares with the backend's users.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    options: Options,
    /// The open database. Only a defragmentation puts another in its place.
    database: Mutex<Arc<DatabaseFile>>,
    buffers: RwLock<Buffers>,
    control: Mutex<Control>,
    /// Wakes the commit thread before its interval is over.
    wake: Condvar,
    /// Wakes callers that wait for a commit or for room.
    done: Condvar,
    sizes: Gauge,
    commits: AtomicU64,
}

impl Backend {
    /// Opens the file, or makes it, and starts the commit thread. The file stays locked against
    /// other processes until the backend is dropped.
    pub fn open(path: &Path, options: Options) -> Result<Arc<Backend>, Error> {
        let path = &file::real_path(path)?;
        let mut database = DatabaseFile::open(path, options.fsync)?;
        if !database.check()? {
            let path = path.display();
            tracing::warn!(%path, "the database did not fit its checksums, and was repaired");
        }
        let database = Arc::new(database);
        let sizes = database.sizes(0);
        let file = database.read().map_err(|source| database.refused(source))?;
        let (applied, conf_state) = file.state(path)?;
        let buffers = Buffers {
            active: Buffer::default(),
            frozen: None,
            file: Arc::new(file),
            applied,
            committed: applied,
            conf_state,
            conf_state_changed: false,
        };
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            options,
            sizes: Gauge::default(),
            database: Mutex::new(database),
            buffers: RwLock::new(buffers),
            control: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
            commits: AtomicU64::new(0),
        });
        shared.sizes.note(sizes);
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || of_thread.run())
            .map_err(Error::Thread)?;
        Ok(Arc::new(Backend { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Locks the buffers for writing. The guard covers whole entries, with their consistent index;
    /// what is written becomes visible to readers when it is dropped. Waits while the active buffer
    /// is full and the frozen one not yet in the file.
    pub fn write(&self) -> WriteGuard<'_> {
        self.wait_for_room();
        self.write_at_once()
    }

    /// Locks the buffers for writing, and does not wait for room. For callers that have waited for
    /// room before they took locks of their own: if the buffer has been filled since then, it grows
    /// by what they write, and no thread waits for a disk behind their locks.
    pub fn write_at_once(&self) -> WriteGuard<'_> {
        WriteGuard::new(&self.shared)
    }

    /// Waits while the active buffer is full: until it has been set aside, which the commit thread
    /// does as soon as the frozen one is in the file. For callers that must wait before they take
    /// locks of their own.
    pub fn wait_for_room(&self) {
        let mut control = self.shared.control();
        if !control.full || control.stopped {
            return;
        }
        let limit = self.shared.options.batch_limit;
        let _span = crate::stage!(BufferWait, 0, limit = limit).begun();
        while control.full && !control.stopped {
            control = self.shared.done.wait(control).expect(POISONED);
        }
    }

    /// Returns the value under `key` and where it was found.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Option<(Bytes, FoundIn)> {
        let buffers = self.shared.read();
        if let Some((entry, place)) = buffers.buffered(bucket, key) {
            return entry.value().map(|value| (value.clone(), place));
        }
        let file = buffers.file.clone();
        drop(buffers);
        let value = self.shared.sure(file.get(bucket, key));
        value.map(|value| (value, FoundIn::File))
    }

    /// Returns rows from `from` on, up to but without `to` (`None`: to the bucket's end), in the
    /// order of their keys; at most `limit` if that is not 0.
    pub fn range(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let cut = self.shared.read().cut(bucket, from, to, limit);
        cut.first(&self.shared, limit)
    }

    /// Returns the bucket as it is now. Later writes do not change it.
    pub fn cut(&self, bucket: Bucket) -> Cut {
        self.shared.read().cut(bucket, &[], None, 0)
    }

    /// Returns the rows from `from` up to, but without, `to` as they are now.
    pub fn cut_range(&self, bucket: Bucket, from: &[u8], to: &[u8]) -> Cut {
        self.shared.read().cut(bucket, from, Some(to), 0)
    }

    /// Goes through the rows of a cut. A file that cannot be read ends the member.
    pub fn rows<'a>(&'a self, cut: &'a Cut) -> impl Iterator<Item = (Bytes, Bytes)> + 'a {
        cut.rows(&self.shared)
    }

    /// Looks at the buffers for rows of the key bucket on behalf of request `id`, and fixes the
    /// moment as of which [`Backend::each_row`] will read the rest.
    pub fn view(&self, id: u64, keys: &[[u8; 17]]) -> View {
        self.shared.read().view(id, keys)
    }

    /// Calls `row` with the rows that a view was taken for, in its order and one after the other,
    /// until it breaks. Each of them must exist: the index in memory says so, and a file that
    /// disagrees with it ends the member.
    pub fn each_row(
        &self,
        view: &mut View,
        keys: &[[u8; 17]],
        row: impl FnMut(Bytes) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.shared.each_row(view, keys, row)
    }

    /// As [`Backend::each_row`], for rows that may be gone.
    pub fn find_rows(
        &self,
        view: &mut View,
        keys: &[[u8; 17]],
        row: impl FnMut(Option<Bytes>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.shared.find_rows(view, keys, row)
    }

    /// The index and the term of the last applied entry, whether in a buffer or in the file.
    pub fn consistent_index(&self) -> (u64, u64) {
        let applied = self.shared.read().applied;
        (applied.index, applied.term)
    }

    /// The last entry in the file, and its revision.
    pub fn committed(&self) -> Committed {
        self.shared.read().committed
    }

    /// The configuration of the cluster as of the consistent index, as JSON (etcd: `confState`).
    pub fn conf_state(&self) -> Option<Bytes> {
        self.shared.read().conf_state.clone()
    }

    /// How many bytes the disk holds for the file, as of the last commit (etcd: dbSize). They are
    /// counted in blocks that were written once: what redb has ready behind them takes no room yet,
    /// and what it has freed keeps its room until it is used again or the file is cut.
    ///
    /// A value of zeros takes no room on the disk either, but its bytes count all the same.
    pub fn size(&self) -> u64 {
        self.shared.sizes.size()
    }

    /// How many of these bytes belong to pages that are used, as of the last commit (etcd:
    /// dbSizeInUse).
    pub fn size_in_use(&self) -> u64 {
        self.shared.sizes.in_use()
    }

    /// The bytes that count against the quota: those that the file uses, and those of a commit
    /// under way.
    pub fn used(&self) -> u64 {
        self.shared.sizes.used()
    }

    /// How many writes the active and the frozen buffer hold.
    #[cfg(test)]
    pub(crate) fn buffered(&self) -> (usize, usize) {
        let buffers = self.shared.read();
        (buffers.active.len(), buffers.frozen.as_ref().map_or(0, |frozen| frozen.buffer.len()))
    }

    /// Waits until everything that has been written so far is in the file.
    pub fn commit_now(&self) {
        let mut control = self.shared.control();
        control.asked += 1;
        let mine = control.asked;
        self.shared.wake.notify_one();
        while control.finished < mine && !control.stopped {
            control = self.shared.done.wait(control).expect(POISONED);
        }
    }

    /// Commits the remaining writes and ends the commit thread. Nothing may be written afterwards.
    pub fn stop(&self) {
        self.shared.control().stopping = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().expect(POISONED).take();
        if let Some(thread) = thread {
            // A panic in the commit thread has already ended the process.
            let _ = thread.join();
        }
    }

    /// How many transactions have been committed since the start.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Gives the backend the facts that the key space found in the key bucket: its revision, and
    /// the bytes of its rows. Called once, before anything is written.
    pub fn opened_at(&self, revision: i64, stored: u64) {
        let mut buffers = self.shared.lock();
        buffers.applied.revision = revision;
        buffers.committed.revision = revision;
        commit::note_committed(buffers.committed.index, revision, 0);
        // No commit is under way: nothing has been written.
        self.shared.sizes.note(self.shared.database().sizes(stored));
    }

    /// Ends the member because of a row that contradicts the index in memory.
    pub fn malformed(&self, row: &'static str) -> ! {
        self.shared.damaged(row)
    }

    /// The path of the database file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The commit thread, for tests that stop it at a failpoint.
    #[cfg(test)]
    pub(crate) fn commit_thread(&self) -> std::thread::ThreadId {
        self.thread.lock().unwrap().as_ref().unwrap().thread().id()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Buffers> {
        self.buffers.read().expect(POISONED)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Buffers> {
        self.buffers.write().expect(POISONED)
    }

    fn database(&self) -> Arc<DatabaseFile> {
        Arc::clone(&self.database.lock().expect(POISONED))
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().expect(POISONED)
    }

    fn sure<T>(&self, result: Result<T, redb::StorageError>) -> T {
        match result {
            Ok(read) => read,
            Err(redb::StorageError::Corrupted(why)) => self.damaged(&why),
            Err(error) => self.fatal(&error),
        }
    }

    /// Ends the member because of something in the file that it has not written.
    fn damaged(&self, why: &str) -> ! {
        crate::storage::damage::end(&self.path, why)
    }

    /// Ends the member if its rows are the reason why they were not copied.
    fn end_if_damaged(&self, not_copied: &Error) {
        if let Error::Damaged { why, .. } = not_copied {
            self.damaged(why);
        }
    }

    /// Ends the process. After a failed write or read the operating system may have lost data;
    /// another attempt would only hide that.
    fn fatal(&self, error: &dyn std::error::Error) -> ! {
        let failed = Failed { path: self.path.clone(), reason: crate::storage::with_causes(error) };
        crate::storage::fatal(&failed)
    }
}

/// The error with which the member ends.
#[derive(Debug, thiserror::Error)]
#[error("the backend {} has failed: {reason}", path.display())]
struct Failed {
    path: PathBuf,
    reason: String,
}

impl Buffers {
    /// Whether there is anything that the file does not have.
    fn changed(&self) -> bool {
        self.active.len() > 0 || self.applied != self.committed || self.conf_state_changed
    }

    /// The newest entry for a key in the two buffers.
    fn buffered(&self, bucket: Bucket, key: &[u8]) -> Option<(&Entry, FoundIn)> {
        if let Some(entry) = self.active.get(bucket, key) {
            return Some((entry, FoundIn::Active));
        }
        let entry = self.frozen.as_ref()?.buffer.get(bucket, key)?;
        Some((entry, FoundIn::Frozen))
    }
}
