//! The next segment, which is prepared while the present one is being filled.
//!
//! ```text
//!   offset    0 ─────────── half ────────── full ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ 4 GiB
//!   present   ├─── records ───┼───────────────┼ ─ grows while there is no next one ─ ┤
//!   next                      └─ prepared ────┴▶ cut
//! ```
//!
//! Reserving 64 MB takes milliseconds, and no write should wait for that. So a thread does it, from
//! half of the present segment on (etcd: filePipeline, which begins at once).
//!
//! A file system without room, a process without descriptors, or a directory that has become
//! read-only is therefore noticed half a segment before the new file is needed. The log names file
//! and cause, and says it again each time the present segment has doubled. The member retries every
//! second, and writes meanwhile: nothing in the format ends a segment at 64 MB, so the present one
//! takes all records until the next one is ready. etcd reads such a segment like any other.
//!
//! **Invariant.** Until it is renamed, the new file holds nothing that was acknowledged, so it is
//! always safe to remove it. A failed fsync of it still ends the member, because the other segments
//! are on the same disk.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{error::Error, segment};
use crate::{
    clock,
    storage::{disk::File, with_causes},
};

/// The pause between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// The next segment, and how far it is prepared.
#[derive(Debug)]
pub(super) struct Ahead {
    dir: PathBuf,
    /// A segment's length in bytes.
    len: u64,
    next: Next,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
enum Next {
    /// No preparation has begun.
    Idle,
    /// A thread prepares it.
    UnderWay(Preparation),
    /// The file is built, and waits for its name.
    Ready(File),
}

/// The failures since the last segment was prepared.
#[derive(Debug)]
struct Trouble {
    /// The cause of the newest failure.
    error: Error,
    attempts: u64,
    retry_at: Instant,
    /// The length of the present segment, in bytes, at which the warning is repeated.
    repeat_at: u64,
}

/// The segment that is being filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    pub(super) path: &'a Path,
    /// The end of its last record, in bytes.
    pub(super) offset: u64,
}

impl Ahead {
    /// For a log in `dir` whose segments have `len` bytes.
    pub(super) fn new(dir: &Path, len: u64) -> Ahead {
        Ahead { dir: dir.to_owned(), len, next: Next::Idle, trouble: None }
    }

    /// Begins to prepare segment number `sequence` if that is due, and notes the result of an
    /// attempt that has ended.
    pub(super) fn look(&mut self, sequence: u64, present: Present<'_>) {
        if let Next::UnderWay(preparation) = &self.next
            && preparation.is_finished()
        {
            self.collect(present);
        }
        let is_due = self.trouble.as_ref().is_none_or(|trouble| trouble.retry_at <= clock::now());
        if matches!(self.next, Next::Idle) && is_due {
            self.next = Next::UnderWay(Preparation::start(&self.dir, sequence, self.len));
        }
        self.repeat(present);
    }

    /// The prepared file, after waiting for an attempt that is under way. `None` if there is none:
    /// the present segment then has to grow.
    pub(super) fn take(&mut self, present: Present<'_>) -> Option<File> {
        self.collect(present);
        match std::mem::replace(&mut self.next, Next::Idle) {
            Next::Ready(file) => Some(file),
            Next::UnderWay(_) | Next::Idle => None,
        }
    }

    /// Notes that the file that was taken has become a segment.
    pub(super) fn succeeded(&mut self) {
        if let Some(Trouble { attempts, .. }) = self.trouble.take() {
            tracing::info!(attempts, "the log has its next segment after all");
        }
    }

    /// Notes that the next segment could not be prepared or renamed, and why.
    pub(super) fn failed(&mut self, error: Error, present: Present<'_>) {
        let retry_at = clock::now() + RETRY;
        if let Some(trouble) = &mut self.trouble {
            trouble.attempts += 1;
            (trouble.error, trouble.retry_at) = (error, retry_at);
            return;
        }
        tracing::warn!(
            cause = %with_causes(&error),
            present = %present.path.display(),
            offset = present.offset,
            needed_at = self.len,
            "the log's next segment cannot be prepared; the member tries again every second, and \
             continues in the present segment while its file system has room, to 4 GiB at most"
        );
        let repeat_at = 2 * self.len.max(present.offset);
        self.trouble = Some(Trouble { error, attempts: 1, retry_at, repeat_at });
    }

    /// The newest failure, if there is one, for the error that ends the member.
    pub(super) fn cause(&mut self) -> Option<Error> {
        self.trouble.take().map(|trouble| trouble.error)
    }

    /// Takes the result of an attempt, waiting for it if need be.
    fn collect(&mut self, present: Present<'_>) {
        self.next = match std::mem::replace(&mut self.next, Next::Idle) {
            Next::UnderWay(preparation) => match preparation.wait() {
                Ok(file) => Next::Ready(file),
                Err(error) => {
                    self.failed(error, present);
                    Next::Idle
                }
            },
            other => other,
        };
    }

    /// Repeats the warning each time the present segment has doubled.
    fn repeat(&mut self, present: Present<'_>) {
        let Some(trouble) = &mut self.trouble else { return };
        if trouble.repeat_at <= present.offset {
            trouble.repeat_at = 2 * present.offset;
            tracing::warn!(
                cause = %with_causes(&trouble.error),
                attempts = trouble.attempts,
                present = %present.path.display(),
                offset = present.offset,
                "the log still has no next segment; the member ends when the present one has 4 GiB"
            );
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Next::Ready(file) = &self.next {
            // The file is not needed any more. If it stays, the next start removes it.
            let _ = fs::remove_file(file.path());
        }
    }
}

/// The thread that prepares a file.
#[derive(Debug)]
struct Preparation {
    path: PathBuf,
    len: u64,
    /// `None` if no thread could be started: the file is then made when it is needed.
    thread: Option<JoinHandle<Result<File, Error>>>,
}

impl Preparation {
    fn start(dir: &Path, sequence: u64, len: u64) -> Preparation {
        let path = segment::unfinished(dir, sequence);
        let target = path.clone();
        let thread = thread::Builder::new()
            .name("wal-prepare".to_owned())
            .spawn(move || segment::prepare(&target, len))
            .ok();
        Preparation { path, len, thread }
    }

    fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn wait(mut self) -> Result<File, Error> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(file)) => file,
            Some(Err(_)) | None => segment::prepare(&self.path, self.len),
        }
    }
}

impl Drop for Preparation {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The result is not needed any more.
            let _ = thread.join();
            let _ = fs::remove_file(&self.path);
        }
    }
}
