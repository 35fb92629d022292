//! The consensus loop's part in snapshots: those of this member, and those that it receives.
//!
//! A received snapshot passes three turns. When raft accepts it, it takes the place of the log in
//! memory, and its record goes to the `wal` thread. When the record is on the disk, apply gets it.
//! In between raft does not campaign, because it would look for entries that are gone.

use raft::{
    Ready,
    eraftpb::{ConfChange, ConfState, SnapshotMetadata},
};

use super::{Committed, Node, snapshot};
use crate::{mark, raft::status, trace};

impl Node {
    /// Carries out a configuration change, unless a later snapshot has brought its outcome.
    pub(super) fn new_configuration(&mut self, index: u64, change: &ConfChange) -> ConfState {
        // raft has taken over the configuration of a later snapshot.
        if index < self.raw.store().first_index() {
            return self.raw.raft.prs().conf().to_conf_state();
        }
        self.raw.apply_conf_change(change).unwrap_or_else(|error| {
            tracing::error!(%error, index, "raft refused a configuration change");
            self.raw.raft.prs().conf().to_conf_state()
        })
    }

    /// Names a snapshot of this member in the log, and drops the entries that it makes unnecessary.
    pub(super) fn snapshot_made(&mut self, made: &SnapshotMetadata) {
        self.note_applied();
        let sent = snapshot::oldest_sent(&self.raw.raft);
        if self.raw.mut_store().snapshot_made(made.clone(), sent) {
            self.outputs.writes.write_snapshot(made);
        }
    }

    /// Hands a received snapshot to apply, once its record is on the disk.
    pub(super) fn install_if_persisted(&mut self, ready: u64) {
        let Some(snapshot) = self.arriving.take(ready) else { return };
        // As far as raft is concerned it is applied: no entry before it will be handed over.
        self.applied = snapshot.index;
        self.raw.advance_apply_to(snapshot.index);
        let (snapshot, since) = (Some(snapshot), trace::handed_over());
        let _ = self.outputs.committed.send(Committed { snapshot, since, entries: Vec::new() });
    }

    /// Lets a received snapshot take the place of the log, as raft has done.
    pub(super) fn accept_snapshot(&mut self, snapshot: &SnapshotMetadata) {
        mark!(
            SnapshotAccept,
            0,
            last_old = self.raw.store().last(),
            last_new = snapshot.index,
            term = snapshot.term
        );
        status::configured(snapshot.index, snapshot.get_conf_state());
        self.raw.mut_store().apply_snapshot(snapshot);
        self.proposals.entries_skipped();
        self.arriving.begin(self.outputs.writes.last_ready(), snapshot.clone());
    }
}

/// The snapshot that a Ready brings, if any.
pub(super) fn received(ready: &Ready) -> Option<SnapshotMetadata> {
    let snapshot = ready.snapshot();
    (!snapshot.is_empty()).then(|| snapshot.get_metadata().clone())
}
