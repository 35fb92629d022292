//! What raft does with snapshots: those that this member makes, and those that it receives.
//!
//! A snapshot is the database at an index. Once one is made, the log before it is not needed any
//! more, and a follower that would need it gets the database ([`super::rafthttp`]). raft-rs only
//! says when; the database itself never goes through the raft thread.

use raft::{
    ProgressState, Raft,
    eraftpb::{ConfState, SnapshotMetadata},
    storage::Storage,
};

use crate::{
    pb::{raftpb, walpb},
    storage::wal::SnapshotRecord,
};

/// The record that names a snapshot in the log.
pub(crate) fn record(snapshot: &SnapshotMetadata, replaces_log: bool) -> SnapshotRecord {
    let (index, term) = (Some(snapshot.index), Some(snapshot.term));
    let conf_state = Some(stored(snapshot.get_conf_state()));
    SnapshotRecord { place: walpb::Snapshot { index, term, conf_state }, replaces_log }
}

/// A configuration in the form in which etcd's files have it.
pub(crate) fn stored(conf_state: &ConfState) -> raftpb::ConfState {
    raftpb::ConfState {
        voters: conf_state.voters.clone(),
        learners: conf_state.learners.clone(),
        voters_outgoing: conf_state.voters_outgoing.clone(),
        learners_next: conf_state.learners_next.clone(),
        auto_leave: Some(conf_state.auto_leave),
    }
}

/// The place of a snapshot that a record in the log names, as raft has it.
pub(crate) fn metadata(place: &walpb::Snapshot) -> SnapshotMetadata {
    let (index, term) = (place.index(), place.term());
    let mut metadata = SnapshotMetadata { index, term, ..SnapshotMetadata::default() };
    if let Some(stored) = &place.conf_state {
        let mut conf_state = ConfState::from((stored.voters.clone(), stored.learners.clone()));
        conf_state.set_voters_outgoing(stored.voters_outgoing.clone());
        conf_state.set_learners_next(stored.learners_next.clone());
        conf_state.auto_leave = stored.auto_leave();
        metadata.set_conf_state(conf_state);
    }
    metadata
}

/// A received snapshot whose record is on its way to the disk. Only then may apply install it: a
/// database that is ahead of its log would keep the member from starting.
#[derive(Debug, Default)]
pub(super) struct Arriving(Option<(u64, SnapshotMetadata)>);

impl Arriving {
    /// Notes the snapshot of the Ready with this number.
    pub(super) fn begin(&mut self, ready: u64, snapshot: SnapshotMetadata) {
        self.0 = Some((ready, snapshot));
    }

    /// Whether a snapshot is on its way. Until it has arrived, raft must not campaign: it would
    /// look for entries that the snapshot has replaced.
    pub(super) fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// Takes the snapshot if the disk has everything up to the Ready `persisted`.
    pub(super) fn take(&mut self, persisted: u64) -> Option<SnapshotMetadata> {
        self.0.take_if(|(ready, _)| *ready <= persisted).map(|(_, snapshot)| snapshot)
    }
}

/// Whether a configuration is one that raft-rs can take over: voters, learners that are no voters,
/// each id once. It would end the process at another one.
pub(super) fn is_sound(conf_state: &ConfState) -> bool {
    let ids = conf_state.voters.iter().chain(&conf_state.learners);
    let mut ids: Vec<u64> = ids.copied().collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    let is_joint = !conf_state.voters_outgoing.is_empty()
        || !conf_state.learners_next.is_empty()
        || conf_state.auto_leave;
    !conf_state.voters.is_empty() && ids.len() == count && ids.first() != Some(&0) && !is_joint
}

/// The oldest index of a snapshot that is on its way to a follower: the entries behind it must
/// stay, because the follower will ask for them next.
pub(super) fn oldest_sent<S: Storage>(raft: &Raft<S>) -> Option<u64> {
    let sent = raft.prs().iter().filter(|(_, progress)| progress.state == ProgressState::Snapshot);
    sent.map(|(_, progress)| progress.pending_snapshot).min()
}
