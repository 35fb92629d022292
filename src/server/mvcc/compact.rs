//! Compaction: forgetting old revisions (etcd: `store.Compact`, `scheduleCompaction`).
//!
//! It happens in two steps. At once, and on every member at the same entry, the compacted
//! revision moves: from then on older reads are refused. Later, and on each member in its own
//! time, the index is gone through and the rows are deleted, a bounded number at a time, so that
//! neither readers nor apply wait for long.
//!
//! ```text
//!   entry applied ──▶ compacted = 8, mark "scheduled 8" ┐ together in one commit
//!   background    ──▶ index, some keys at a time        │
//!                 ──▶ rows up to 8, some at a time      │
//!                 ──▶ mark "finished 8"                 ┘ or a later one
//! ```
//!
//! After a crash in between, "scheduled" is ahead of "finished", and the work starts anew. A
//! second compaction that arrives during the first replaces it: what the first would delete, the
//! second deletes as well.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;

use super::{Batch, OpenError, POISONED, Revision, Store};
use crate::{
    clock,
    server::Error,
    storage::backend::{Backend, Bucket, WriteGuard},
};

/// The meta row with the newest compaction that has been asked for.
pub(super) const SCHEDULED: &str = "scheduledCompactRev";
/// The meta row with the newest compaction whose rows are gone.
pub(super) const FINISHED: &str = "finishedCompactRev";

/// Reads one of the two marks: the main of a 17-byte revision; −1 if there is none.
pub(super) fn mark(backend: &Arc<Backend>, name: &'static str) -> Result<i64, OpenError> {
    let Some((value, _)) = backend.get(Bucket::Meta, name.as_bytes()) else { return Ok(-1) };
    match Revision::from_row_key(&value) {
        Some((revision, false)) => Ok(revision.main),
        _ => Err(OpenError::Mark(name)),
    }
}

fn set_mark(guard: &mut WriteGuard<'_>, name: &str, revision: i64) {
    let value = Bytes::copy_from_slice(&Revision::new(revision, 0).row_key());
    guard.put(Bucket::Meta, name.as_bytes(), value);
}

/// Where the background work stands.
#[derive(Debug, Default)]
pub(super) struct Worker {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    revision: i64,
    since: Instant,
    keep: HashSet<Revision>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Going through the index; behind this key.
    Index(Option<Bytes>),
    /// Going through the rows; from this row on.
    Rows(Bytes),
}

impl Batch<'_> {
    /// Makes `revision` the oldest that can be read. −1 is "never", so 0 can be compacted once.
    pub(crate) fn compact(&mut self, id: u64, revision: i64) -> Result<(), Error> {
        if revision <= self.index.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.index.revision {
            return Err(Error::FutureRevision);
        }
        let _span = crate::stage!(
            MvccCompact,
            id,
            compacted_old = self.index.compacted.max(0),
            compacted_new = revision
        );
        self.backend.set_request(id);
        set_mark(&mut self.backend, SCHEDULED, revision);
        self.index.compacted = revision;
        self.store.scheduled.store(revision, Ordering::Release);
        Ok(())
    }
}

impl Store {
    /// Does one bounded piece of the work that compaction has left: goes through `batch_limit`
    /// keys of the index or rows of the file. Returns whether there is more to do. etcd takes
    /// 1000 rows at a time and pauses for 10 ms in between.
    pub fn step_compaction(&self, batch_limit: usize) -> bool {
        let mut worker = self.worker.lock().expect(POISONED);
        let scheduled = self.scheduled.load(Ordering::Acquire);
        if scheduled <= self.finished.load(Ordering::Acquire) {
            return false;
        }
        let running = match worker.running.take() {
            Some(running) if running.revision == scheduled => running,
            _ => Running {
                revision: scheduled,
                since: clock::now(),
                keep: HashSet::new(),
                phase: Phase::Index(None),
            },
        };
        worker.running = self.step(running, batch_limit.max(1));
        worker.running.is_some() || self.scheduled.load(Ordering::Acquire) > scheduled
    }

    /// The newest compaction whose rows are gone; −1 if there was none. "Physical" compactions
    /// are answered when this has reached their revision.
    pub fn finished_compaction(&self) -> i64 {
        self.finished.load(Ordering::Acquire)
    }

    fn step(&self, mut running: Running, limit: usize) -> Option<Running> {
        running.phase = match std::mem::replace(&mut running.phase, Phase::Index(None)) {
            Phase::Index(after) => match self.compact_index(&mut running, after.as_ref(), limit) {
                Some(after) => Phase::Index(Some(after)),
                None => Phase::Rows(Bytes::new()),
            },
            Phase::Rows(from) => {
                fail::fail_point!("compact-before-batch");
                let next = self.delete_rows(running.revision, &running.keep, &from, limit);
                fail::fail_point!("compact-after-batch");
                let Some(next) = next else {
                    let (took, revision) = (running.since.elapsed(), running.revision);
                    tracing::info!(
                        "compact-revision" = revision,
                        ?took,
                        "finished scheduled compaction"
                    );
                    return None;
                };
                Phase::Rows(next)
            }
        };
        Some(running)
    }

    /// Goes through the next `limit` keys of the index behind `after`, and returns where to go on.
    fn compact_index(
        &self,
        running: &mut Running,
        after: Option<&Bytes>,
        limit: usize,
    ) -> Option<Bytes> {
        let Running { revision, keep, .. } = running;
        let mut span = crate::stage!(CompactIndex, 0, revision = *revision);
        let mut index = self.index.write().expect(POISONED);
        let before = index.tree.len();
        let (next, visited) = index.tree.compact_some(*revision, after, limit, keep);
        let keys = index.tree.len();
        drop(index);
        crate::set!(span, CompactIndex, visited = visited, keys_old = before, keys_new = keys);
        next
    }

    /// Deletes what is not kept among the next `limit` rows, and returns where to go on.
    fn delete_rows(
        &self,
        revision: i64,
        keep: &HashSet<Revision>,
        from: &[u8],
        limit: usize,
    ) -> Option<Bytes> {
        let mut span = crate::stage!(CompactBatch, 0, revision = revision);
        let end = Revision::new(revision.saturating_add(1), 0).row_key();
        let rows = self.backend.range(Bucket::Key, from, Some(&end), limit);
        let kept = |key: &Bytes| {
            Revision::from_row_key(key).is_none_or(|(revision, _)| keep.contains(&revision))
        };
        let mut deleted = 0_usize;
        let mut guard = self.backend.write();
        for (key, _) in rows.iter().filter(|(key, _)| !kept(key)) {
            guard.delete(Bucket::Key, key);
            deleted += 1;
        }
        crate::set!(span, CompactBatch, rows = rows.len(), deleted = deleted);
        if rows.len() == limit
            && let Some((last, _)) = rows.last()
        {
            let mut next = last.to_vec();
            next.push(0);
            return Some(Bytes::from(next));
        }
        set_mark(&mut guard, FINISHED, revision);
        self.finished.store(revision, Ordering::Release);
        None
    }
}
