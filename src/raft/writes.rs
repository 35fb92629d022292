//! The writes that raft has given to the `wal` thread, and the commit index that it still keeps.
//!
//! A Ready's entries and hard state are one write, and the `wal` thread answers with the number of
//! the last Ready that its sync covers. A Ready without anything to write has no write of its own:
//! the last write covers it. So everything that depends on a Ready being on disk waits for
//! [`Writes::last`].
//!
//! A commit index alone is not worth a write. It waits for the next entries, or for the next tick,
//! and is never synced for its own sake.

use std::collections::VecDeque;

use raft::eraftpb::{Entry, HardState, SnapshotMetadata};

use super::snapshot;
use crate::storage::wal;

/// The writes on their way to the disk.
pub(crate) struct Writes {
    wal: wal::Writer,
    /// The Ready and the last index (0 without entries) of each write that is not on disk yet.
    queue: VecDeque<(u64, u64)>,
    /// The Ready of the last write.
    last: u64,
    /// The newest Ready, whether it has a write or not.
    last_ready: u64,
    /// A hard state that the WAL does not have yet.
    unwritten: Option<HardState>,
    /// Term and vote that the WAL has been given.
    vote: (u64, u64),
}

/// The last entry and Ready on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Persisted {
    /// Everything up to and including this Ready.
    pub(crate) ready: u64,
    /// The log up to this index; 0 if no entries were written.
    pub(crate) index: u64,
}

impl Writes {
    /// No writes yet; the log has this term and vote.
    pub(crate) fn new(wal: wal::Writer, vote: (u64, u64)) -> Self {
        let queue = VecDeque::new();
        Self { wal, queue, last: 0, last_ready: 0, unwritten: None, vote }
    }

    /// Notes a new Ready.
    pub(crate) fn begin(&mut self, ready: u64) {
        self.last_ready = ready;
    }

    /// The number of the newest Ready.
    pub(crate) fn last_ready(&self) -> u64 {
        self.last_ready
    }

    /// The last Ready with a write. Effects of the newest Ready wait until this one is on disk.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Whether all writes are on disk.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Hands the Ready's snapshot, entries and hard state to the WAL. Returns whether term or vote
    /// have changed.
    pub(crate) fn persist(
        &mut self,
        received: Option<&SnapshotMetadata>,
        entries: Vec<Entry>,
        hard_state: Option<HardState>,
    ) -> bool {
        let vote = hard_state.as_ref().map(|state| (state.term, state.vote));
        let vote_changed = vote.is_some_and(|vote| vote != self.vote);
        if let Some(vote) = vote {
            self.vote = vote;
        }
        if hard_state.is_some() {
            self.unwritten = hard_state;
        }
        if received.is_some() {
            // The WAL will not have the entries that the snapshot replaces.
            self.queue.iter_mut().for_each(|(_, last)| *last = 0);
        }
        if !entries.is_empty() || vote_changed || received.is_some() {
            let hard_state = self.unwritten.take();
            let snapshot = received.map(|received| snapshot::record(received, true));
            self.write(wal::Write { snapshot, entries, hard_state, sync: true, ready: 0 });
        }
        vote_changed
    }

    /// Writes the record of a snapshot that this member has made, with the commit index, which is
    /// not below it.
    pub(crate) fn write_snapshot(&mut self, made: &SnapshotMetadata) {
        let snapshot = Some(snapshot::record(made, false));
        let hard_state = self.unwritten.take();
        self.write(wal::Write { snapshot, hard_state, sync: true, ..wal::Write::default() });
    }

    /// Writes a commit index that no entries have taken along, without a sync.
    pub(crate) fn write_commit(&mut self) {
        if let Some(hard_state) = self.unwritten.take() {
            let hard_state = Some(hard_state);
            self.write(wal::Write { hard_state, ..wal::Write::default() });
        }
    }

    /// A write without a sync bears the number of the last Ready too: it is reported only together
    /// with a sync that covers that Ready.
    fn write(&mut self, write: wal::Write) {
        let (ready, entries) = (self.last_ready, &write.entries);
        // The WAL will not have the entries that these overwrite.
        if let Some(first) = entries.first().map(|entry| entry.index) {
            for (_, last) in &mut self.queue {
                *last = (*last).min(first - 1);
            }
        }
        self.queue.push_back((ready, entries.last().map_or(0, |entry| entry.index)));
        self.last = ready;
        self.wal.write(wal::Write { ready, ..write });
    }

    /// The WAL has everything up to the Ready `number` on disk.
    pub(crate) fn persisted(&mut self, number: u64) -> Persisted {
        let ready = if self.last <= number { self.last_ready } else { number };
        let mut index = 0;
        while let Some((_, last)) = self.queue.pop_front_if(|(ready, _)| *ready <= number) {
            // An entry that a later write overwrites is not on disk in its present form.
            index = last.max(index);
        }
        Persisted { ready, index }
    }

    /// Writes what still waits, and ends the `wal` thread.
    pub(crate) fn stop(mut self) {
        self.write_commit();
        self.wal.stop();
    }
}
