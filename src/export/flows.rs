//! Arrows: from one step to a step that it caused.
//!
//! | from               | to                                                    | joined by        |
//! |--------------------|-------------------------------------------------------|------------------|
//! | `raft.send`        | `raft.receive` on another member                      | link             |
//! | `raft.entry`       | the first `wal.fsync` begun after it that holds its index, unless another entry takes the index first | member and index |
//! | `apply.entry`      | the first `backend.commit` after it that encloses it  | member and index |
//! | `read_index.wait`  | its `read_index.round`                                | member and round |
//!
//! The last three show what batching hides: many requests point to one write, and share its cost.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
};

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
    /// Of an index, the entries that it got since the last write, in order: a later one replaces
    /// those before it.
    in_log: BTreeMap<u64, Vec<usize>>,
    applied: BTreeMap<u64, usize>,
}

impl UnwrittenEntries {
    /// Takes the entries that this fsync has synced: at each index of the range the newest one that
    /// was there when the fsync began. One that came later waits for the next.
    fn synced(
        &mut self,
        recording: &Recording,
        fsync: &Event,
        range: RangeInclusive<u64>,
    ) -> impl Iterator<Item = usize> + use<> {
        let mut synced = Vec::new();
        if range.is_empty() {
            return synced.into_iter();
        }
        for entries in self.in_log.range_mut(range).map(|(_, entries)| entries) {
            let is_before = |at: &usize| recording.events[*at].clock < fsync.clock;
            let later = entries.split_off(entries.partition_point(is_before));
            synced.extend(std::mem::replace(entries, later).pop());
        }
        self.in_log.retain(|_, entries| !entries.is_empty());
        synced.into_iter()
    }

    /// Forgets the entries that a new leader's entries cut off. Some versions recorded that after
    /// the new entries, whose term says that they stay.
    fn cut_off(&mut self, recording: &Recording, cut: &Event) {
        let [old, new] = change!(cut, LogTruncate, last);
        let by = field!(cut, LogTruncate, term);
        let Some(first) = new.checked_add(1).filter(|first| *first <= old) else { return };
        for entries in self.in_log.range_mut(first..=old).map(|(_, entries)| entries) {
            entries.retain(|at| by <= field!(recording.events[*at], RaftEntry, term));
        }
    }
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
        let (applied, range) = match event.stage {
            _ if event.kind == Kind::Begin => continue,
            Stage::RaftEntry => {
                entries.in_log.entry(field!(event, RaftEntry, index)).or_default().push(*at);
                continue;
            }
            Stage::ApplyEntry => {
                entries.applied.insert(field!(event, ApplyEntry, index), *at);
                continue;
            }
            Stage::LogTruncate => {
                entries.cut_off(recording, event);
                continue;
            }
            Stage::WalFsync => {
                let [first, last] = fields!(event, WalFsync: first, last);
                let from = entries.synced(recording, event, first..=last);
                let name = event.stage.name();
                flows.extend(from.map(|from| Flow { category: "batch", name, from, to: *at }));
                continue;
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
        let indexes: Vec<u64> = applied.range(range).map(|(index, _)| *index).collect();
        let from = indexes.iter().filter_map(|index| applied.remove(index));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::recording;

    /// Entry 10 of term 2 is being synced when entry 10 of term 3 replaces it, and entry 11 of term
    /// 2 is cut off before any fsync. The next fsync has the entry of term 3, and another entry 11,
    /// which was not captured.
    const REPLACED: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]}]}
{"member":0,"boot":1,"stage":"raft.entry","kind":"mark","clock":1,"end":1,"at":100,"took":0,"id":"0203","fields":{"term":2,"index":10,"bytes":9}}
{"member":0,"boot":1,"stage":"raft.entry","kind":"mark","clock":3,"end":3,"at":300,"took":0,"id":"0204","fields":{"term":2,"index":11,"bytes":9}}
{"member":0,"boot":1,"stage":"log.truncate","kind":"mark","clock":4,"end":4,"at":400,"took":0,"fields":{"last.old":11,"last.new":9,"term":3}}
{"member":0,"boot":1,"stage":"raft.entry","kind":"mark","clock":5,"end":5,"at":500,"took":0,"id":"0205","fields":{"term":3,"index":10,"bytes":9}}
{"member":0,"boot":1,"stage":"wal.fsync","kind":"span","clock":2,"end":6,"at":200,"took":400,"fields":{"first":10,"last":10,"synced.old":9,"synced.new":10}}
{"member":0,"boot":1,"stage":"wal.fsync","kind":"span","clock":7,"end":8,"at":700,"took":100,"fields":{"first":10,"last":11,"synced.old":9,"synced.new":11}}
"#;

    /// Goal: an entry's arrow leads to the fsync that had this entry, and not to one that had
    /// another entry at the same index.
    #[test]
    fn an_entry_that_replaces_another_is_not_joined_with_the_fsync_of_that_one() {
        let recording = recording::read(REPLACED.as_bytes()).unwrap().recording;
        let flows = batches(&recording, &Order::of(&recording));
        let joined: Vec<(usize, usize)> = flows.iter().map(|flow| (flow.from, flow.to)).collect();
        assert_eq!([(3, 5)], joined[..]);
    }

    /// The same without the cut: the first fsync has the first entry, which nothing had replaced
    /// when it began.
    #[test]
    fn an_fsync_has_the_entries_that_were_there_when_it_began() {
        let lines = REPLACED.lines().filter(|line| !line.contains("log.truncate"));
        let lines: Vec<&str> = lines.collect();
        let recording = recording::read(lines.join("\n").as_bytes()).unwrap().recording;
        let flows = batches(&recording, &Order::of(&recording));
        let joined: Vec<(usize, usize)> = flows.iter().map(|flow| (flow.from, flow.to)).collect();
        assert_eq!([(0, 3), (2, 4), (1, 4)], joined[..]);
    }
}
