//! Compaction: dropping old revisions (etcd: `store.Compact`, `scheduleCompaction`).
//!
//! It takes two steps. First, on every member at the same entry, the compacted revision moves: from
//! then on reads of older revisions are refused. Then, on each member at its own pace, a background
//! thread visits the index and deletes rows, a bounded number at a time, so that neither readers
//! nor apply wait for long.
//!
//! ```text
//!   entry applied ──▶ compacted = 8, mark "scheduled 8" ┐ together in one commit
//!   background    ──▶ index, some keys at a time        │
//!                 ──▶ rows up to 8, some at a time      │
//!                 ──▶ mark "finished 8"                 ┘ or a later one
//! ```
//!
//! After a crash in between, "scheduled" is ahead of "finished", and the background work starts
//! again. A second compaction that arrives during the first replaces it, because it deletes all
//! rows that the first would delete.

use std::{collections::HashSet, sync::Arc, thread::Thread, time::Instant};

use bytes::Bytes;

use super::{Batch, OpenError, POISONED, Revision, Store, tree_index::Portion};
use crate::{
    clock,
    metrics::recorded,
    server::Error,
    storage::backend::{Backend, Bucket, WriteGuard},
    trace::Moment,
};

/// The meta row with the revision of the newest compaction that was applied.
pub(super) const SCHEDULED: &str = "scheduledCompactRev";
/// The meta row with the revision of the newest compaction whose rows are deleted.
pub(super) const FINISHED: &str = "finishedCompactRev";

/// Reads the main revision of a mark, which has the form of a row key; −1 if there is no mark.
pub(super) fn mark(backend: &Arc<Backend>, name: &'static str) -> Result<i64, OpenError> {
    let value = backend.get(Bucket::Meta, name.as_bytes());
    read_mark(name, value.as_ref().map(|(value, _)| value))
}

/// The main revision of a mark with this value; −1 if there is no mark.
pub(super) fn read_mark(name: &'static str, value: Option<&Bytes>) -> Result<i64, OpenError> {
    let Some(value) = value else { return Ok(-1) };
    match Revision::from_row_key(value) {
        Some((revision, false)) => Ok(revision.main),
        _ => Err(OpenError::Mark(name)),
    }
}

fn set_mark(guard: &mut WriteGuard<'_>, name: &str, revision: i64) {
    let value = Bytes::copy_from_slice(&Revision::new(revision, 0).row_key());
    guard.put(Bucket::Meta, name.as_bytes(), value);
}

/// The meta row that raises the revision of a key space that nobody has open: it notes a compaction
/// up to it, which the next start carries out (etcd: `unsafeBumpBucketsRevision`,
/// `unsafeMarkRevisionCompacted`). etcd writes an empty row at the revision as well; here the mark
/// is enough.
pub(crate) fn raised(revision: i64) -> (&'static str, [u8; 17]) {
    (SCHEDULED, Revision::new(revision, 0).row_key())
}

/// The compaction that is in progress, if any.
#[derive(Debug, Default)]
pub(super) struct Worker {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    revision: i64,
    since: Instant,
    /// The revisions up to the compacted one whose rows stay; complete after the first phase.
    keep: HashSet<Revision>,
    phase: Phase,
    /// The end of the last portion, for the trace; `None` before the first.
    paused: Option<Moment>,
}

#[derive(Debug)]
enum Phase {
    /// Compact the index; the keys after this one are left (`None`: all).
    Index(Option<Bytes>),
    /// Delete rows; those from this row key on are left.
    Rows(Bytes),
}

impl Batch<'_> {
    /// Makes `revision` the oldest that can be read. Before the first compaction the compacted
    /// revision is −1, so 0 can be compacted once.
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
        // It waits for the index lock, which this batch holds.
        self.store.compactor.get().inspect(|thread| thread.unpark());
        Ok(())
    }
}

impl Store {
    /// From now on each compaction wakes this thread, which takes the steps; and so does this call,
    /// because there may have been one already.
    pub(crate) fn wake_at_compactions(&self, thread: Thread) {
        self.compactor.get_or_init(|| thread).unpark();
    }

    /// Does one bounded piece of the background work: visits `batch_limit` keys of the index or
    /// rows of the file. Returns whether there is more to do. etcd takes 1000 rows at a time, and
    /// pauses for 10 ms in between.
    pub(crate) fn step_compaction(&self, batch_limit: usize) -> bool {
        let mut worker = self.worker.lock().expect(POISONED);
        let scheduled = self.read().compacted;
        if scheduled <= self.finished_compaction() {
            return false;
        }
        let running = match worker.running.take() {
            Some(running) if running.revision == scheduled => running,
            _ => Running {
                revision: scheduled,
                since: clock::now(),
                keep: HashSet::new(),
                phase: Phase::Index(None),
                paused: None,
            },
        };
        worker.running = self.step(running, batch_limit.max(1));
        worker.running.is_some() || self.read().compacted > scheduled
    }

    /// The revision of the newest compaction whose rows are deleted; −1 if there is none.
    pub(crate) fn finished_compaction(&self) -> i64 {
        *self.finished.borrow()
    }

    /// Returns when the rows of a compaction of `revision`, or of a later one, are deleted. Then a
    /// "physical" compaction is answered.
    pub(crate) async fn compaction_finished(&self, revision: i64) {
        // The sender is a part of the store, so the channel does not close.
        let _ = self.finished.subscribe().wait_for(|finished| revision <= *finished).await;
    }

    fn step(&self, mut running: Running, limit: usize) -> Option<Running> {
        if let Some(paused) = running.paused.take() {
            crate::past!(CompactPause, 0, paused, Moment::now(), revision = running.revision);
        }
        running.phase = match std::mem::replace(&mut running.phase, Phase::Index(None)) {
            Phase::Index(after) => {
                let portion = Portion { after: after.as_ref(), limit };
                match self.compact_index(&mut running, portion) {
                    Some(last) => Phase::Index(Some(last)),
                    None => Phase::Rows(Bytes::new()),
                }
            }
            Phase::Rows(from) => {
                fail::fail_point!("compact-before-batch");
                let began = clock::now();
                let next = self.delete_rows(&running, &from, limit);
                recorded::ROW_COMPACTION_PAUSES.observe_duration(began.elapsed());
                fail::fail_point!("compact-after-batch");
                let Some(next) = next else {
                    let (took, revision) = (running.since.elapsed(), running.revision);
                    recorded::COMPACTIONS.observe_duration(took);
                    let now = i64::try_from(clock::wall().as_secs()).unwrap_or(i64::MAX);
                    recorded::LAST_COMPACTION.set(now);
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
        running.paused = Some(Moment::now());
        Some(running)
    }

    /// Compacts a portion of the index. Returns the last key visited; `None` at the end.
    fn compact_index(&self, running: &mut Running, portion: Portion<'_>) -> Option<Bytes> {
        let Running { revision, keep, .. } = running;
        let mut span = crate::stage!(CompactIndex, 0, revision = *revision);
        let mut index = self.index.write().expect(POISONED);
        let began = clock::now();
        let before = index.tree.len();
        let (last, visited) = index.tree.compact_some(*revision, portion, keep);
        let keys = index.tree.len();
        drop(index);
        recorded::INDEX_COMPACTION_PAUSES.observe_duration(began.elapsed());
        crate::set!(span, CompactIndex, visited = visited, keys_old = before, keys_new = keys);
        last
    }

    /// Deletes the rows among the next `limit` that are not kept. Returns the key of the row after
    /// them; `None` at the end.
    fn delete_rows(&self, running: &Running, from: &[u8], limit: usize) -> Option<Bytes> {
        let Running { revision, ref keep, .. } = *running;
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
        recorded::ROWS_COMPACTED.add(deleted as u64);
        crate::set!(span, CompactBatch, rows = rows.len(), deleted = deleted);
        if rows.len() == limit
            && let Some((last, _)) = rows.last()
        {
            let mut next = last.to_vec();
            next.push(0);
            return Some(Bytes::from(next));
        }
        set_mark(&mut guard, FINISHED, revision);
        self.finished.send_replace(revision);
        None
    }
}
