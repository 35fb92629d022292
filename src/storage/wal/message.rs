//! Entries and hard states in etcd's encoding: proto2, with zero values written out.
//!
//! Both are written by hand. raft-rs's own encoder leaves zero values out, as proto3 does, and
//! would need a buffer of its own for each entry; here the entry's data goes straight from the
//! entry into the write. raft-rs's extra fields (`context`, `sync_log`) stay out of the file: etcd
//! does not know them, and the data has all that is needed after a restart.

use bytes::Bytes;
use prost::Message;
use raft::eraftpb::{Entry, EntryType, HardState};

use super::{Metadata, record};
use crate::pb::{etcdserverpb, raftpb, walpb};

/// The fields of an entry before its data, and the data's length.
pub(super) fn entry_head(head: &mut Vec<u8>, entry: &Entry) {
    head.clear();
    field(head, 1, entry.entry_type as u64);
    field(head, 2, entry.term);
    field(head, 3, entry.index);
    // etcd leaves nil data out, and an empty entry of a new leader has nil data.
    if !entry.data.is_empty() {
        head.push(4 << 3 | 2);
        record::put_varint(head, entry.data.len() as u64);
    }
}

/// Reads an entry; `None` if it has fields that an entry does not have, or lacks one.
pub(super) fn entry(data: &[u8]) -> Option<Entry> {
    let mut rest = data;
    let [kind, term, index] = numbers(&mut rest)?;
    let mut entry = Entry { term, index, ..Entry::default() };
    entry.entry_type = match kind {
        0 => EntryType::EntryNormal,
        1 => EntryType::EntryConfChange,
        2 => EntryType::EntryConfChangeV2,
        _ => return None,
    };
    if let Some((tag, tail)) = rest.split_first() {
        rest = tail;
        let len = record::get_varint(&mut rest)?;
        if *tag != 4 << 3 | 2 || rest.len() as u64 != len {
            return None;
        }
        entry.data = Bytes::copy_from_slice(rest);
    }
    // A change of membership has content: without it, this is a hard state under a wrong type. Only
    // the entry with which raft leaves a joint configuration has none; it is of the other type.
    let is_bare_change = kind == 1 && entry.data.is_empty();
    (entry.term != 0 && entry.index != 0 && !is_bare_change).then_some(entry)
}

/// The bytes of a hard state.
pub(super) fn hard_state_bytes(state: &HardState) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(33);
    field(&mut bytes, 1, state.term);
    field(&mut bytes, 2, state.vote);
    field(&mut bytes, 3, state.commit);
    bytes
}

/// Reads a hard state; `None` if it has other fields, or lacks one.
pub(super) fn hard_state(data: &[u8]) -> Option<HardState> {
    let mut rest = data;
    let [term, vote, commit] = numbers(&mut rest)?;
    let state = HardState { term, vote, commit, ..HardState::default() };
    (rest.is_empty() && term != 0).then_some(state)
}

/// Whether there is nothing in it to write (etcd: IsEmptyHardState).
pub(super) fn is_empty(state: &HardState) -> bool {
    state.term == 0 && state.vote == 0 && state.commit == 0
}

/// Encodes index and term of a snapshot, with all fields that etcd writes.
pub(super) fn snapshot_bytes(snapshot: &walpb::Snapshot) -> Vec<u8> {
    let conf_state = snapshot.conf_state.as_ref().map(|conf_state| raftpb::ConfState {
        auto_leave: Some(conf_state.auto_leave.unwrap_or_default()),
        ..conf_state.clone()
    });
    let (index, term) = (Some(snapshot.index()), Some(snapshot.term()));
    walpb::Snapshot { index, term, conf_state }.encode_to_vec()
}

/// Decodes index and term of a snapshot; `None` if one is missing.
pub(super) fn snapshot(data: &[u8]) -> Option<walpb::Snapshot> {
    let snapshot = walpb::Snapshot::decode(data).ok()?;
    (snapshot.index.is_some() && snapshot.term.is_some()).then_some(snapshot)
}

/// Encodes the owner of the log.
pub(super) fn metadata_bytes(metadata: &Metadata) -> Vec<u8> {
    let (node_id, cluster_id) = (Some(metadata.node_id), Some(metadata.cluster_id));
    etcdserverpb::Metadata { node_id, cluster_id }.encode_to_vec()
}

/// Decodes the owner of the log.
pub(super) fn metadata(data: &[u8]) -> Option<Metadata> {
    let metadata = etcdserverpb::Metadata::decode(data).ok()?;
    Some(Metadata { node_id: metadata.node_id?, cluster_id: metadata.cluster_id? })
}

fn field(bytes: &mut Vec<u8>, number: u8, value: u64) {
    bytes.push(number << 3);
    record::put_varint(bytes, value);
}

/// Takes the numbers of fields 1 to 3 off the front.
fn numbers(rest: &mut &[u8]) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    for (number, tag) in numbers.iter_mut().zip([1 << 3, 2 << 3, 3 << 3]) {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        if *first != tag {
            return None;
        }
        *number = record::get_varint(rest)?;
    }
    Some(numbers)
}
