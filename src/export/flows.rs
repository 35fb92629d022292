//! Arrows: from one step to a step that it caused.
//!
//! | from               | to                                                    | joined by        |
//! |--------------------|-------------------------------------------------------|------------------|
//! | `raft.send`        | `raft.receive` on another member                      | link             |
//! | `raft.entry`       | the first `wal.fsync` after it that holds its index   | member and index |
//! | `apply.entry`      | the first `backend.commit` after it that encloses it  | member and index |
//! | `read_index.wait`  | its `read_index.round`                                | member and round |
//!
//! The last three show what batching hides: many requests point to one write, and share its cost.

use std::collections::{BTreeMap, HashMap};

use crate::{
    change, field, fields,
    story::{Event, Recording, order::Order},
    trace::{message::MESSAGES, record::Kind, stage::Stage},
};

/// An arrow between two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// Why they are joined: `message` or `batch`.
    pub(super) category: &'static str,
    /// The message's type, or the stage of the batch.
    pub(super) name: &'static str,
    /// Position of the step that it leaves.
    pub(super) from: usize,
    /// Position of the step to which it leads.
    pub(super) to: usize,
}

/// All arrows of a recording: messages first, then batches, each in playback order.
pub(super) fn flows(recording: &Recording, order: &Order) -> Vec<Flow> {
    let mut flows = messages(recording, order);
    flows.extend(batches(recording, order));
    flows.extend(rounds(recording, order));
    flows
}

fn messages(recording: &Recording, order: &Order) -> Vec<Flow> {
    let is_send = |at: &&usize| recording.events[**at].stage == Stage::RaftSend;
    let flow = |from: &usize| {
        let kind = field!(recording.events[*from], RaftSend, type);
        let name = usize::try_from(kind).ok().and_then(|kind| MESSAGES.get(kind));
        let to = *order.partner.get(from)?;
        Some(Flow { category: "message", name: name.unwrap_or(&"message"), from: *from, to })
    };
    order.rows.iter().filter(is_send).filter_map(flow).collect()
}

/// Entries of one boot of a member that wait for the disk, by index.
#[derive(Default)]
struct UnwrittenEntries {
    boot: u16,
    in_log: BTreeMap<u64, usize>,
    applied: BTreeMap<u64, usize>,
}

/// Arrows from entries to the writes that they share.
pub(super) fn batches(recording: &Recording, order: &Order) -> Vec<Flow> {
    let mut members: HashMap<u8, UnwrittenEntries> = HashMap::new();
    let mut flows = Vec::new();
    for at in &order.rows {
        let event = &recording.events[*at];
        let entries = members.entry(event.member).or_default();
        if entries.boot != event.boot {
            *entries = UnwrittenEntries { boot: event.boot, ..UnwrittenEntries::default() };
        }
        let (done, range) = match event.stage {
            _ if event.kind == Kind::Begin => continue,
            Stage::RaftEntry => {
                entries.in_log.insert(field!(event, RaftEntry, index), *at);
                continue;
            }
            Stage::ApplyEntry => {
                entries.applied.insert(field!(event, ApplyEntry, index), *at);
                continue;
            }
            Stage::WalFsync => {
                let [first, last] = fields!(event, WalFsync: first, last);
                (&mut entries.in_log, first..=last)
            }
            Stage::BackendCommit => {
                let [old, new] = change!(event, BackendCommit, index);
                (&mut entries.applied, old.saturating_add(1)..=new)
            }
            _ => continue,
        };
        // A range that ends before it begins contains no entry, and `BTreeMap::range` would panic
        // on it.
        if range.is_empty() {
            continue;
        }
        let indexes: Vec<u64> = done.range(range).map(|(index, _)| *index).collect();
        let from = indexes.iter().filter_map(|index| done.remove(index));
        let name = event.stage.name();
        flows.extend(from.map(|from| Flow { category: "batch", name, from, to: *at }));
    }
    flows
}

/// Arrows from reads to the rounds that they share.
pub(super) fn rounds(recording: &Recording, order: &Order) -> Vec<Flow> {
    let ended = |event: &Event, stage| event.stage == stage && event.kind == Kind::Span;
    let events = || order.rows.iter().map(|at| (*at, &recording.events[*at]));
    let rounds: HashMap<(u8, u64), usize> = events()
        .filter(|(_, event)| ended(event, Stage::ReadIndexRound))
        .map(|(at, event)| ((event.member, event.id), at))
        .collect();
    let waits = events().filter(|(_, event)| ended(event, Stage::ReadIndexWait));
    let name = Stage::ReadIndexRound.name();
    waits
        .filter_map(|(from, event)| {
            let round = match field!(event, ReadIndexWait, round) {
                0 => event.link,
                round => round,
            };
            let to = *rounds.get(&(event.member, round))?;
            Some(Flow { category: "batch", name, from, to })
        })
        .collect()
}
