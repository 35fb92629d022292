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
    /// The first event of each start of a member.
    starts: BTreeMap<(u8, u16), usize>,
    /// For each start of a member, its clock when it last noticed that records were lost.
    lost: HashMap<(u8, u16), u64>,
    /// Whether records of a member were lost at a time that is not known.
    dropped: Vec<bool>,
}

/// The start of a step, on which its beginning and its end agree.
type Start = (u8, Stage, u16, u64);

fn start(event: &Event) -> Start {
    (event.member, event.stage, event.boot, event.clock)
}

impl Work {
    pub(super) fn of(recording: &Recording) -> Work {
        let dropped = recording.dropped.iter().map(|records| *records != 0).collect();
        let mut work = Work { dropped, ..Work::default() };
        let mut ended: HashSet<Start> = HashSet::new();
        for (at, event) in recording.events.iter().enumerate() {
            let is_end = event.kind == Kind::Span;
            work.note_start(at, event, recording);
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
                Stage::Lost => {
                    let noticed = work.lost.entry((event.member, event.boot)).or_default();
                    *noticed = event.clock_end.max(*noticed);
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

    fn note_start(&mut self, at: usize, event: &Event, recording: &Recording) {
        let first = self.starts.entry((event.member, event.boot)).or_insert(at);
        if event.clock < recording.events[*first].clock {
            *first = at;
        }
    }

    /// Position of the first event of the member's next start, if this is the beginning of a step
    /// that ended with its process.
    pub(super) fn ended(&self, begin: &Event) -> Option<usize> {
        let later = (begin.member, begin.boot.checked_add(1)?)..=(begin.member, u16::MAX);
        self.starts.range(later).next().map(|(_, at)| *at)
    }

    /// Whether this is the beginning of a step whose end may have been among lost records.
    pub(super) fn may_have_ended(&self, begin: &Event) -> bool {
        if begin.kind != Kind::Begin {
            return false;
        }
        let noticed = self.lost.get(&(begin.member, begin.boot));
        match noticed {
            Some(clock) => begin.clock <= *clock,
            None => self.dropped.get(usize::from(begin.member)).copied().unwrap_or(false),
        }
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
