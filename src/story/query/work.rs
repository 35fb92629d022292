//! The work of loops and long reads, by member, for the question of what a wait stood behind.
//!
//! Each step that takes time is listed once: by its end, or by its beginning if no end was
//! captured.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    change, field, fields,
    story::{Event, Recording},
    trace::{record::Kind, stage::Stage},
};

/// Which work a recording has, built in one pass.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Positions of the steps of a stage on a member, in order of arrival.
    steps: BTreeMap<(u8, Stage), Vec<usize>>,
    /// The fsync up to an index, by member, boot and that index: the last one, since those that
    /// sync a vote leave the index as it is.
    synced: HashMap<(u8, u16, u64), usize>,
    /// The batch of entries up to an index, by member, boot and that index.
    batches: BTreeMap<(u8, u16, u64), usize>,
    /// The first requests that a step was for, by its start.
    shared: HashMap<(u8, u16, u64), [u64; 6]>,
    /// The call, or the write, that created a key at a revision.
    owners: BTreeMap<u64, usize>,
}

/// The start of a step, on which its beginning and its end agree.
type Start = (u8, Stage, u16, u64);

fn start(event: &Event) -> Start {
    (event.member, event.stage, event.boot, event.clock)
}

impl Work {
    pub(super) fn of(recording: &Recording) -> Work {
        let mut work = Work::default();
        let mut ended: HashSet<Start> = HashSet::new();
        for (at, event) in recording.events.iter().enumerate() {
            let is_end = event.kind == Kind::Span;
            match event.stage {
                Stage::ReadIndexRound
                | Stage::ReadThread
                | Stage::BufferWait
                | Stage::BackendCommit => {
                    work.steps.entry((event.member, event.stage)).or_default().push(at);
                    if is_end {
                        ended.insert(start(event));
                    }
                }
                Stage::WalFsync if is_end => {
                    let [old, new] = change!(event, WalFsync, synced);
                    if old != new {
                        work.synced.insert((event.member, event.boot, new), at);
                    }
                }
                Stage::ApplyBatch if is_end => {
                    let last = field!(event, ApplyBatch, last);
                    work.batches.insert((event.member, event.boot, last), at);
                }
                Stage::Shared => {
                    let step = field!(event, Shared, step);
                    let ids = fields!(event, Shared: first, second, third, fourth, fifth, sixth);
                    work.shared.insert((event.member, event.boot, step), ids);
                }
                Stage::LockEnter => {
                    work.owners.insert(field!(event, LockEnter, own), at);
                }
                Stage::MvccWrite if is_end => {
                    let [old, new] = change!(event, MvccWrite, revision);
                    if old < new {
                        work.owners.entry(new).or_insert(at);
                    }
                }
                _ => (),
            }
        }
        let is_one = |at: &usize| {
            let event = &recording.events[*at];
            event.kind == Kind::Span || !ended.contains(&start(event))
        };
        work.steps.values_mut().for_each(|list| list.retain(is_one));
        work
    }

    /// Positions of the steps of a stage on a member.
    pub(super) fn steps(&self, member: u8, stage: Stage) -> &[usize] {
        self.steps.get(&(member, stage)).map_or(&[], Vec::as_slice)
    }

    /// Position of the fsync after which the disk of this event's member had the log up to `index`,
    /// in the same start of the member.
    pub(super) fn fsync_up_to(&self, event: &Event, index: u64) -> Option<usize> {
        self.synced.get(&(event.member, event.boot, index)).copied()
    }

    /// Position of the batch in which this event's member applied the entry with this index, in the
    /// same start.
    pub(super) fn batch_of(&self, event: &Event, index: u64) -> Option<usize> {
        let from = (event.member, event.boot, index);
        let (key, at) = self.batches.range(from..).next()?;
        ((key.0, key.1) == (event.member, event.boot)).then_some(*at)
    }

    /// The first requests that a step was for, as its member has named them; of entries, by their
    /// place, with 0 where none is known.
    pub(super) fn shared(&self, step: &Event) -> &[u64] {
        let key = (step.member, step.boot, step.clock);
        self.shared.get(&key).map_or(&[], <[u64; 6]>::as_slice)
    }

    /// Position of the step that says which request created a key at this revision.
    pub(super) fn owner(&self, revision: u64) -> Option<usize> {
        self.owners.get(&revision).copied()
    }
}
