//! The commit thread: it freezes the buffer, writes it into the file, and drops it (etcd:
//! `batchTxBuffered.commit`, `backend.run`).
//!
//! A failpoint stands at each boundary. Wherever the process dies, the file is either as the
//! last commit left it or as this one does; the log has the rest.

use std::{
    sync::{Arc, atomic::Ordering, mpsc::SyncSender},
    time::Instant,
};

use redb::{Durability, WriteTransaction};

use super::{
    Bucket, Buffers, Error, POISONED, Shared,
    buffer::{Buffer, Entry, Frozen},
    defrag::{Defragmented, Refused},
    file::{CONF_STATE, CONSISTENT_INDEX, DatabaseFile, FileRead, TERM},
    install::Install,
    size::Sizes,
    tail::Rows,
};
use crate::{
    clock,
    metrics::recorded,
    trace::{self, raw_clock},
};

/// The requests to the commit thread, and its progress.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// The number of requests for a commit.
    pub(super) asked: u64,
    /// The last of these requests whose writes are in the file.
    pub(super) finished: u64,
    /// The active buffer has reached its limit, and is not frozen yet.
    pub(super) full: bool,
    /// Callers that wait for a defragmentation.
    pub(super) defragment: Vec<SyncSender<Result<Defragmented, Refused>>>,
    /// A received database is about to come. Until then no defragmentation begins, and no commit
    /// that nobody has asked for: readers would wait for it.
    pub(super) installs: bool,
    /// A received database that is to take the place of the file.
    pub(super) install: Option<Install>,
    /// The thread must commit once more and then end.
    pub(super) stopping: bool,
    /// The thread has ended.
    pub(super) stopped: bool,
}

/// The file as a commit has left it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: FileRead,
    pub(super) sizes: Sizes,
}

/// Ends the process if the commit thread panics: without it nothing reaches the file any more.
struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Shared {
    /// Commits until the backend is closed: the body of the commit thread.
    pub(super) fn run(&self) {
        let _alarm = Alarm;
        // Files that a defragmentation has replaced. Closing one writes to it and frees its blocks,
        // so this thread does it, and not the last reader.
        let mut retired: Vec<Arc<DatabaseFile>> = Vec::new();
        loop {
            let (asked, stopping) = self.wait_for_work();
            match self.install_if_asked() {
                // What the buffers had is in the new file.
                Some(old) => {
                    let installed = self.read().committed;
                    note_committed(installed.index, installed.revision, 0);
                    retired.push(old);
                }
                None => self.commit(),
            }
            let mut control = self.control();
            control.finished = asked;
            control.stopped = stopping;
            if stopping {
                // Who waits for a defragmentation learns that there is none.
                control.defragment.clear();
                control.install = None;
            }
            drop(control);
            self.done.notify_all();
            if stopping {
                return;
            }
            // Not earlier: who waits for the commit does not wait for this.
            retired.extend(self.defragment_if_asked());
            retired.retain(|old| 1 < Arc::strong_count(old));
        }
    }

    /// Waits until the interval is over or a commit is requested.
    fn wait_for_work(&self) -> (u64, bool) {
        let deadline: Instant = clock::now() + self.options.batch_interval;
        let mut control = self.control();
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            let is_asked = control.asked > control.finished || control.install.is_some();
            let wanted = control.stopping || control.full || is_asked;
            if wanted {
                return (control.asked, control.stopping);
            }
            if control.installs {
                control = self.wake.wait(control).expect(POISONED);
                continue;
            }
            if left.is_zero() || !control.defragment.is_empty() {
                return (control.asked, control.stopping);
            }
            control = self.wake.wait_timeout(control, left).expect(POISONED).0;
        }
    }

    /// Commits the active buffer, if anything has changed.
    fn commit(&self) {
        if !self.read().changed() {
            return;
        }
        let Some((frozen, before)) = self.freeze() else { return };
        let began = raw_clock::now();
        let mut span = crate::stage!(
            BackendCommit,
            0,
            index_old = before.index,
            revision_old = before.revision,
            writes = frozen.buffer.len(),
        );
        let written = match self.write_file(&frozen) {
            Ok(written) => written,
            Err(redb::Error::Corrupted(why)) => self.damaged(&why),
            Err(source) => {
                let path = self.path.clone();
                self.fatal(&Error::Database { path, source })
            }
        };
        crate::set!(
            span,
            BackendCommit,
            index_new = frozen.applied.index,
            revision_new = frozen.applied.revision
        );
        recorded::BACKEND_COMMIT.observe(raw_clock::to_ns(raw_clock::now() - began));
        drop(span);
        fail::fail_point!("backend-before-drop-frozen");
        self.exchange(&frozen, written);
    }

    /// Freezes the active buffer. It takes the writer's lock, so it finds whole entries only.
    pub(super) fn freeze(&self) -> Option<(Arc<Frozen>, super::Committed)> {
        fail::fail_point!("backend-before-freeze");
        let mut buffers = self.lock();
        assert!(buffers.frozen.is_none(), "one commit at a time");
        if !buffers.changed() {
            return None;
        }
        let mut span = crate::stage!(
            BufferFreeze,
            0,
            length = buffers.active.len(),
            bytes = buffers.active.bytes()
        );
        crate::set!(
            span,
            BufferFreeze,
            index = buffers.applied.index,
            revision = buffers.applied.revision
        );
        let frozen = Arc::new(buffers.take());
        self.sizes.note_writing(frozen.buffer.bytes());
        buffers.frozen = Some(frozen.clone());
        let before = buffers.committed;
        trace::watermarks().frozen.store(frozen.buffer.len() as u64, Ordering::Relaxed);
        trace::watermarks().active.store(0, Ordering::Relaxed);
        // The span's clock orders it among the puts, so it must end while the buffers are locked.
        drop(span);
        // Under both locks, so that a wake-up for the new buffer is not lost.
        self.control().full = false;
        drop(buffers);
        self.done.notify_all();
        fail::fail_point!("backend-after-freeze");
        Some((frozen, before))
    }

    /// One transaction with the rows, the consistent index, its term and the conf state.
    pub(super) fn write_file(&self, frozen: &Frozen) -> Result<Written, redb::Error> {
        fail::fail_point!("backend-before-begin");
        let database = self.database();
        let mut transaction = database.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_quick_repair(true);
        let mut stored = self.sizes.stored();
        for bucket in Bucket::ALL {
            write_bucket(&transaction, bucket, &frozen.buffer, &mut stored)?;
        }
        {
            let mut meta = Rows::open(&transaction, Bucket::Meta)?;
            meta.put(CONSISTENT_INDEX, &frozen.applied.index.to_be_bytes())?;
            meta.put(TERM, &frozen.applied.term.to_be_bytes())?;
            if let Some(conf_state) = &frozen.conf_state {
                meta.put(CONF_STATE, conf_state)?;
            }
        }
        fail::fail_point!("backend-after-writes");
        fail::fail_point!("backend-before-commit");
        let began = raw_clock::now();
        transaction.commit()?;
        recorded::BACKEND_COMMIT_WRITE.observe(raw_clock::to_ns(raw_clock::now() - began));
        fail::fail_point!("backend-after-commit");
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(Written { sizes: database.sizes(stored), file: database.read()? })
    }

    /// Exchanges the frozen buffer for the file that now has its rows, in one step.
    pub(super) fn exchange(&self, frozen: &Frozen, written: Written) {
        let mut buffers = self.lock();
        self.sizes.note(written.sizes);
        let old_file = std::mem::replace(&mut buffers.file, Arc::new(written.file));
        let old_frozen = buffers.frozen.take();
        buffers.committed = frozen.applied;
        note_committed(frozen.applied.index, frozen.applied.revision, buffers.active.len());
        drop(buffers);
        // Freed outside of the lock, because ten thousand rows take a while.
        drop((old_file, old_frozen));
    }
}

/// Stores the file's index and revision, and the rows of the active buffer, for the keyframes.
pub(super) fn note_committed(index: u64, revision: i64, active: usize) {
    let marks = trace::watermarks();
    marks.committed.store(index, Ordering::Relaxed);
    marks.committed_revision.store(u64::try_from(revision).unwrap_or(0), Ordering::Relaxed);
    marks.active.store(active as u64, Ordering::Relaxed);
    marks.frozen.store(0, Ordering::Relaxed);
}

impl Buffers {
    fn take(&mut self) -> Frozen {
        let conf_state = self.conf_state.clone().filter(|_| self.conf_state_changed);
        self.conf_state_changed = false;
        Frozen { buffer: std::mem::take(&mut self.active), applied: self.applied, conf_state }
    }
}

/// Writes one bucket's rows in the order of their keys, and keeps count of the bytes.
fn write_bucket(
    transaction: &WriteTransaction,
    bucket: Bucket,
    buffer: &Buffer,
    stored: &mut u64,
) -> Result<(), redb::Error> {
    let mut rows = buffer.range(bucket, &[], None).peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let mut table = Rows::open(transaction, bucket)?;
    for (key, entry) in rows {
        let old = match &entry {
            Entry::Put(value) => {
                *stored += (key.len() + value.len()) as u64;
                table.put(&key, value)?
            }
            Entry::Delete => table.delete(&key)?,
        };
        if let Some(old) = old {
            *stored = stored.saturating_sub((key.len() + old) as u64);
        }
    }
    Ok(())
}
