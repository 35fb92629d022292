//! Which records of the loops are wanted: those that cover something that is kept.
//!
//! A loop record belongs to no request. It is wanted when its range of log indexes holds an entry
//! of a kept request. A record with a running watermark (the index that a peer has acknowledged,
//! the commit index that it was sent) covers the indexes between its value and the previous one for
//! that peer.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::{
    change, field, fields,
    trace::{
        message,
        record::Record,
        stage::{Family, Stage},
    },
};

/// The most kept entries to remember; the oldest is dropped first.
const ENTRIES_MAX: usize = 8192;
/// For how many commits an entry is remembered after this member's file has it, two seconds at
/// least: a member that is behind receives the entry, acknowledges it and learns of its commit only
/// then.
const COMMITS_AFTER: usize = 20;

/// The kept entries that are still on their way, and the watermarks seen last.
#[derive(Debug, Default)]
pub(super) struct Cover {
    entries: BTreeSet<u64>,
    /// The last index acknowledged and the last commit index sent, by direction and peer.
    acked: HashMap<(Stage, u64), u64>,
    commits_sent: HashMap<(Stage, u64), u64>,
    frozen: u64,
    /// The last indexes of the newest commits of the file.
    stored: VecDeque<u64>,
}

impl Cover {
    /// Notes that the entry with this index belongs to a kept request.
    pub(super) fn learn(&mut self, index: u64) {
        self.entries.insert(index);
        if ENTRIES_MAX < self.entries.len() {
            self.entries.pop_first();
        }
    }

    /// Whether the record covers a kept entry. Must be called once for each record, in clock order.
    pub(super) fn covers(&mut self, record: &Record) -> bool {
        let Some(stage) = record.stage() else { return false };
        match stage {
            Stage::RaftSend | Stage::RaftReceive => self.covers_message(stage, record),
            Stage::WalWrite | Stage::WalFsync | Stage::ApplyBatch => {
                let [first, last] = fields!(record, WalWrite | WalFsync | ApplyBatch: first, last);
                self.any([first.saturating_sub(1), last])
            }
            Stage::RaftStable => self.any(change!(record, RaftStable, stable)),
            Stage::RaftProgress => self.any(change!(record, RaftProgress, match)),
            Stage::RaftCommit => self.any(change!(record, RaftCommit, commit)),
            Stage::BufferFreeze => {
                let index = field!(record, BufferFreeze, index);
                let before = std::mem::replace(&mut self.frozen, index);
                self.any([before, index])
            }
            Stage::BackendCommit => self.any(change!(record, BackendCommit, index)),
            _ => false,
        }
    }

    /// Forgets the entries that have been in the file for [`COMMITS_AFTER`] commits.
    pub(super) fn finish(&mut self, record: &Record) {
        if record.stage() != Some(Stage::BackendCommit) {
            return;
        }
        self.stored.push_back(field!(record, BackendCommit, index_new));
        if COMMITS_AFTER < self.stored.len()
            && let Some(index) = self.stored.pop_front()
        {
            self.entries = self.entries.split_off(&index.saturating_add(1));
        }
    }

    /// Whether no kept entry is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn covers_message(&mut self, stage: Stage, record: &Record) -> bool {
        let [kind, peer, index, last, commit, reject] =
            fields!(record, RaftSend | RaftReceive: type, peer, index, last, commit, reject);
        let carries = kind == message::APP && self.any([index, last]);
        let tells = matches!(kind, message::APP | message::HEARTBEAT) && {
            let before = self.commits_sent.insert((stage, peer), commit).unwrap_or(0);
            self.any([before, commit])
        };
        let acknowledges = kind == message::APP_RESP && reject == 0 && {
            let before = self.acked.insert((stage, peer), index).unwrap_or(0);
            self.any([before, index])
        };
        carries || tells || acknowledges
    }

    /// Whether a kept entry lies above `after` and not above `last`.
    fn any(&self, [after, last]: [u64; 2]) -> bool {
        after < last && self.entries.range(after + 1..=last).next().is_some()
    }
}

/// Whether a record is kept regardless of the entries that it covers: changes of leader, entries
/// that the log loses, commits of the file, and the collector's own records.
pub(super) fn is_always_wanted(record: &Record) -> bool {
    let Some(stage) = record.stage() else { return false };
    match stage {
        Stage::RaftSend | Stage::RaftReceive => matches!(
            field!(record, RaftSend | RaftReceive, type),
            message::VOTE
                | message::VOTE_RESP
                | message::PRE_VOTE
                | message::PRE_VOTE_RESP
                | message::SNAP
                | message::TIMEOUT_NOW
        ),
        Stage::WalFsync => field!(record, WalFsync, last) == 0,
        Stage::WalWrite
        | Stage::ApplyBatch
        | Stage::RaftStable
        | Stage::RaftProgress
        | Stage::RaftCommit
        | Stage::ReadIndexRound
        | Stage::ReadIndexConfirmed => false,
        _ => stage.family() == Family::Loop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::{Head, Kind};

    fn record(stage: Stage, fields: &[(&str, u64)]) -> Record {
        let mut words = [0; 8];
        for (name, value) in fields {
            words[stage.slot(name)] = *value;
        }
        let head = Head { stage: stage as u8, kind: Kind::Mark as u8, ..Head::default() };
        Record::new(head, 1, 1, 0, &words)
    }

    fn message(kind: u64, fields: &[(&str, u64)]) -> Record {
        let mut all = vec![("type", kind), ("peer", 9)];
        all.extend(fields);
        record(Stage::RaftSend, &all)
    }

    #[test]
    fn a_range_that_holds_a_kept_entry_is_wanted_and_its_neighbours_are_not() {
        let mut cover = Cover::default();
        cover.learn(10);
        let cases = [
            (record(Stage::WalFsync, &[("first", 10), ("last", 10)]), true),
            (record(Stage::WalFsync, &[("first", 11), ("last", 12)]), false),
            (record(Stage::WalWrite, &[("first", 1), ("last", 9)]), false),
            (record(Stage::RaftCommit, &[("commit.old", 9), ("commit.new", 10)]), true),
            (record(Stage::RaftCommit, &[("commit.old", 10), ("commit.new", 12)]), false),
            (message(message::APP, &[("index", 9), ("last", 14)]), true),
            (message(message::APP, &[("index", 10), ("last", 14)]), false),
        ];
        for (record, wanted) in cases {
            assert_eq!(wanted, cover.covers(&record), "{record:?}");
        }
    }

    #[test]
    fn only_the_first_acknowledgement_and_the_first_news_of_the_commit_count() {
        let mut cover = Cover::default();
        cover.learn(10);
        let acks = [9, 10, 11].map(|index| message(message::APP_RESP, &[("index", index)]));
        assert_eq!([false, true, false], acks.map(|ack| cover.covers(&ack)));
        let news = [9, 12, 12].map(|commit| message(message::HEARTBEAT, &[("commit", commit)]));
        assert_eq!([false, true, false], news.map(|news| cover.covers(&news)));
    }

    #[test]
    fn an_entry_in_the_file_is_remembered_for_members_that_are_behind_but_not_forever() {
        let mut cover = Cover::default();
        cover.learn(10);
        cover.learn(40);
        let commit = |index: u64| {
            record(Stage::BackendCommit, &[("index.old", index - 5), ("index.new", index)])
        };
        assert!(cover.covers(&commit(10)));
        cover.finish(&commit(10));
        assert!(cover.covers(&message(message::APP, &[("index", 9), ("last", 14)])));
        (0..COMMITS_AFTER as u64).for_each(|later| cover.finish(&commit(11 + later)));
        assert!(!cover.covers(&message(message::APP, &[("index", 9), ("last", 14)])));
        assert_eq!(BTreeSet::from([40]), cover.entries);
    }

    #[test]
    fn elections_are_always_wanted() {
        assert!(is_always_wanted(&record(Stage::RaftRole, &[])));
        assert!(is_always_wanted(&record(Stage::ElectionVote, &[])));
        assert!(is_always_wanted(&message(message::PRE_VOTE, &[])));
        assert!(!is_always_wanted(&message(message::APP, &[])));
        assert!(!is_always_wanted(&record(Stage::WalWrite, &[])));
        assert!(!is_always_wanted(&record(Stage::ApplyEntry, &[])));
    }
}
