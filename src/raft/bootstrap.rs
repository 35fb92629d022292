//! A new cluster's first entries: one configuration change for each initial member.
//!
//! etcd: raft `RawNode.Bootstrap`. Entry i carries `AddNode` for the i-th member by id, with the
//! member as JSON in its context; term 1, index i, commit n, no vote. They never appear in a Ready,
//! so they are written to the WAL before raft starts. Apply then treats them like any other
//! committed entry, and the log equals one that etcd bootstrapped.

use prost::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState};
use serde::{Deserialize, Serialize};

use crate::pb::raftpb;

/// One of the members with which the cluster starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitialMember {
    /// Raft's id of the member.
    pub(crate) id: u64,
    /// The member as JSON, as etcd writes it.
    pub(crate) context: Vec<u8>,
}

/// The first entries, and the hard state that commits them.
pub(crate) fn first_entries(mut members: Vec<InitialMember>) -> (Vec<Entry>, HardState) {
    members.sort_by_key(|member| member.id);
    let entries: Vec<Entry> =
        (1..).zip(members).map(|(index, member)| first_entry(index, member)).collect();
    let hard_state = HardState { term: 1, commit: entries.len() as u64, ..HardState::default() };
    (entries, hard_state)
}

fn first_entry(index: u64, member: InitialMember) -> Entry {
    let change = raftpb::ConfChange {
        id: Some(0),
        r#type: Some(raftpb::ConfChangeType::ConfChangeAddNode as i32),
        node_id: Some(member.id),
        context: Some(member.context.into()),
    };
    let mut entry =
        Entry { term: 1, index, data: change.encode_to_vec().into(), ..Entry::default() };
    entry.set_entry_type(EntryType::EntryConfChange);
    entry
}

/// etcd's change in raft-rs's numbers (AddLearnerNode is 3 there and 2 here; there is no UpdateNode
/// here). `None` if nothing changes for raft: apply then asks for a change of node 0.
pub(crate) fn translate(change: &raftpb::ConfChange) -> Option<ConfChange> {
    let kind = match change.r#type() {
        raftpb::ConfChangeType::ConfChangeAddNode => ConfChangeType::AddNode,
        raftpb::ConfChangeType::ConfChangeRemoveNode => ConfChangeType::RemoveNode,
        raftpb::ConfChangeType::ConfChangeAddLearnerNode => ConfChangeType::AddLearnerNode,
        raftpb::ConfChangeType::ConfChangeUpdateNode => return None,
    };
    Some(conf_change(kind, change.node_id()))
}

/// A change that changes nothing, for one that apply has refused: raft's own bookkeeping of
/// pending changes must still see it (etcd does the same).
pub(crate) fn no_change() -> ConfChange {
    conf_change(ConfChangeType::AddNode, 0)
}

fn conf_change(kind: ConfChangeType, node_id: u64) -> ConfChange {
    let mut change = ConfChange { node_id, ..ConfChange::default() };
    change.set_change_type(kind);
    change
}

/// A configuration in the JSON form in which etcd keeps it beside the consistent index.
pub(crate) fn conf_state_json(conf_state: &ConfState) -> String {
    let stored = StoredConfState {
        voters: conf_state.voters.clone(),
        learners: conf_state.learners.clone(),
        voters_outgoing: conf_state.voters_outgoing.clone(),
        learners_next: conf_state.learners_next.clone(),
        auto_leave: conf_state.auto_leave,
    };
    serde_json::to_string(&stored).expect("numbers are plain data")
}

/// Parses what [`conf_state_json`] or etcd has written.
pub(crate) fn parse_conf_state(json: &[u8]) -> Result<ConfState, serde_json::Error> {
    let stored: StoredConfState = serde_json::from_slice(json)?;
    let mut conf_state = ConfState::from((stored.voters, stored.learners));
    conf_state.set_voters_outgoing(stored.voters_outgoing);
    conf_state.set_learners_next(stored.learners_next);
    conf_state.auto_leave = stored.auto_leave;
    Ok(conf_state)
}

#[derive(Serialize, Deserialize)]
struct StoredConfState {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    voters_outgoing: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners_next: Vec<u64>,
    #[serde(default)]
    auto_leave: bool,
}
