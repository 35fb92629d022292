//! What a wait stood behind: the work that was in progress meanwhile, and the requests that it was
//! done for.
//!
//! ```text
//!   wal      ├── fsync of entries 5–9 ──┤├ write, fsync of 10 ┤
//!   entry 10             ├─ hand-over ──┤        stood behind the fsync, with the requests of 5–9
//! ```
//!
//! Only recorded steps are named, and only where one thing can be done at a time: on the same
//! member, by the same thread or under the same permits, while the request waited. Where the order
//! is known by number (the log on the disk, the entries of apply) it is also known whether a record
//! is missing; then what stood ahead is unknown, which is not the same as nothing.
//!
//! Left out: the raft thread, the peer thread and the grpc thread. They leave no records of how
//! long they work on what, so a wait for them has no one to name.

use super::{
    Stories, Story,
    path::{Awaited, Segment, Side, Taker, Wait},
};
use crate::{
    change, field, fields,
    story::Event,
    trace::{record::Kind, stage::Stage},
};

/// The most entries of one range that are looked up; a recording may name any range.
const ENTRIES_MAX: u64 = 4096;
/// The most steps that are named for one wait.
const BEHIND_MAX: usize = 1024;
/// A shorter wait, in nanoseconds, is not worth a line.
const SHORT_NS: u64 = 10_000;
/// A shorter wait, in nanoseconds, is not worth a line that says only what is unknown.
const NOTABLE_NS: u64 = 100_000;

/// That for which requests queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// The wal thread, which writes and syncs one group of entries at a time.
    Disk,
    /// The apply thread, which applies one entry at a time, and needs the write buffer.
    Apply,
    /// The round of reads: one is in progress at a time.
    Round,
    /// The permits for long reads.
    LongReads,
    /// The key before the caller's own in the queue of a lock or an election.
    Lock,
    /// The removal of compacted revisions.
    Compaction,
    /// The commit of the file, one at a time.
    File,
}

impl Resource {
    /// The name that text and JSON show.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Disk => "the log's disk",
            Resource::Apply => "apply",
            Resource::Round => "the read round",
            Resource::LongReads => "a permit for long reads",
            Resource::Lock => "the lock",
            Resource::Compaction => "the compaction",
            Resource::File => "the file",
        }
    }
}

/// Work that was in progress while the request waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Position of its step: the end, or the beginning if no end was captured.
    pub event: usize,
    /// The stage of that step.
    pub stage: Stage,
    /// For how much of the wait it was in progress, in nanoseconds.
    pub overlap_ns: u64,
    /// The captured requests that it was done for, in the order in which it served them.
    pub ids: Vec<u64>,
    /// The number of others that it was done for, which were not captured.
    pub others: u64,
}

/// A wait, and what it stood behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The wait, as the path names it.
    pub wait: Wait,
    /// What the request waited for.
    pub resource: Resource,
    /// The member on which it waited, by position.
    pub member: u8,
    /// Position of the event that ends the wait.
    pub event: usize,
    /// The length of the wait, in nanoseconds.
    pub ns: u64,
    /// What was in progress, in the order of time.
    pub behind: Vec<Behind>,
    /// Whether the records leave open what else was in progress.
    pub is_unknown: bool,
}

impl Ahead {
    /// For how much of the wait nothing is recorded, in nanoseconds, where one thing is done at a
    /// time: the thread was slow to wake, or waited for a lock. `None` where several are, and where
    /// records are missing.
    pub fn idle_ns(&self) -> Option<u64> {
        let is_one = matches!(self.resource, Resource::Disk | Resource::Apply | Resource::Round);
        (is_one && !self.is_unknown).then(|| self.ns - self.known_ns())
    }

    /// The work in progress: stage, part of the wait in nanoseconds, and position of its event. No
    /// stage and no event for the part that the records leave open.
    pub fn shares(&self) -> impl Iterator<Item = (Option<Stage>, u64, Option<usize>)> {
        let known = self.behind.iter();
        let known = known.map(|one| (Some(one.stage), one.overlap_ns, Some(one.event)));
        let unknown = self.ns.saturating_sub(self.known_ns());
        known.chain(self.is_unknown.then_some((None, unknown, None)))
    }

    /// For how much of the wait something known was in progress, in nanoseconds.
    pub fn known_ns(&self) -> u64 {
        self.behind.iter().map(|one| one.overlap_ns).fold(0, u64::saturating_add).min(self.ns)
    }
}

/// What the waits of a story stood behind, in the order of its critical path. A wait during which
/// nothing is known to have been in progress is left out, unless records are missing; so is one of
/// less than ten microseconds.
pub fn ahead(stories: &Stories<'_>, story: &Story, path: &[Segment]) -> Vec<Ahead> {
    let queue = Queue { stories, story };
    let all = path.iter().filter_map(|segment| queue.of(segment));
    all.filter(|one| !one.behind.is_empty() || one.is_unknown && NOTABLE_NS <= one.ns).collect()
}

/// A stretch of time, in nanoseconds since 1970 on the common axis.
#[derive(Clone, Copy)]
struct Time {
    from: i128,
    to: i128,
}

/// Entries that were applied without a pause: position of the record, and their indexes.
struct Batch {
    at: usize,
    first: u64,
    last: u64,
}

/// What was found, and whether there may be more.
type Found = (Vec<Behind>, bool);

struct Queue<'a, 'r> {
    stories: &'a Stories<'r>,
    story: &'a Story,
}

impl Queue<'_, '_> {
    fn of(&self, segment: &Segment) -> Option<Ahead> {
        if segment.ns < SHORT_NS {
            return None;
        }
        let resource = resource(segment.wait).or_else(|| self.given_up(segment))?;
        let time = Time { from: segment.until - i128::from(segment.ns), to: segment.until };
        let waiting = self.stories.event(segment.to);
        let (mut behind, is_unknown) = match resource {
            Resource::Disk => self.disk(waiting, time),
            Resource::Apply => self.apply(segment, time),
            Resource::Round => self.round(waiting, time),
            Resource::LongReads => self.long_reads(waiting, time),
            Resource::Lock => self.lock(waiting, time),
            Resource::Compaction => self.compaction(waiting, time),
            Resource::File => self.commits(waiting.member, time),
        };
        // How long work took whose end was lost is not known.
        let found = behind.len();
        behind.retain(|one| !self.stories.work.may_have_ended(self.stories.event(one.event)));
        let is_unknown = is_unknown || behind.len() != found;
        behind.retain(|one| one.overlap_ns != 0);
        behind.sort_by_key(|one| self.time_of(one.event).from);
        behind.truncate(BEHIND_MAX);
        Some(Ahead {
            wait: segment.wait,
            resource,
            member: segment.member,
            event: segment.to,
            ns: segment.ns,
            behind,
            is_unknown,
        })
    }

    /// What a request has given up waiting for: a read, for the round that began too late for it.
    fn given_up(&self, segment: &Segment) -> Option<Resource> {
        let is_known = self.stories.event(segment.to).stage == Stage::ReadIndexRound;
        let is_round = segment.wait == Wait::InVain(Awaited::Round) && is_known;
        is_round.then_some(Resource::Round)
    }

    fn time_of(&self, at: usize) -> Time {
        let (event, end) = (self.stories.event(at), self.stories.order.times[at]);
        // A long read holds its permit while it waits for its thread.
        let held_ns = match event.stage {
            Stage::ReadThread => i128::from(field!(event, ReadThread, waited)),
            _ => 0,
        };
        match event.kind {
            // A beginning without an end is in progress, unless its process has ended.
            Kind::Begin => {
                let ended = self.stories.work.ended(event).map(|at| self.stories.order.times[at]);
                Time { from: end - held_ns, to: ended.unwrap_or(i128::MAX) }
            }
            _ => Time { from: end - i128::from(event.took_ns) - held_ns, to: end },
        }
    }

    fn overlap_ns(&self, at: usize, time: Time) -> u64 {
        let own = self.time_of(at);
        u64::try_from(own.to.min(time.to) - own.from.max(time.from)).unwrap_or(0)
    }

    fn behind(&self, at: usize, time: Time, (known, others): (Vec<u64>, u64)) -> Behind {
        let event = self.stories.event(at);
        let named = self.stories.work.shared(event);
        let (ids, others) = merged(named, known, others);
        Behind { event: at, stage: event.stage, overlap_ns: self.overlap_ns(at, time), ids, others }
    }

    /// The requests of the entries that the member of a step had at these indexes when the step
    /// began, and how many more there are.
    fn of_entries(&self, step: &Event, first: u64, last: u64) -> (Vec<u64>, u64) {
        if first == 0 || last < first {
            return (Vec::new(), 0);
        }
        let looked_at = first..=last.min(first.saturating_add(ENTRIES_MAX));
        let mut ids = Vec::new();
        for index in looked_at {
            // An entry that belongs to no request is a leader's first one.
            ids.extend(self.stories.entry_at(step, index).map(|at| self.stories.event(at).id));
        }
        let others = (last - first).saturating_add(1).saturating_sub(ids.len() as u64);
        ids.retain(|id| *id != 0);
        (ids, others)
    }

    /// The groups that the wal thread wrote and synced before, each joined to the one before it by
    /// the index up to which the disk had the log.
    fn disk(&self, waiting: &Event, time: Time) -> Found {
        let mut behind = Vec::new();
        let mut synced = match waiting.stage {
            Stage::WalFsync => change!(waiting, WalFsync, synced)[0],
            _ => match self.fsync_of(waiting) {
                Some(own) => change!(self.stories.event(own), WalFsync, synced)[0],
                None => return (behind, true),
            },
        };
        while behind.len() < BEHIND_MAX {
            let Some(at) = self.stories.work.fsync_up_to(waiting, synced) else {
                return (behind, true);
            };
            let event = self.stories.event(at);
            let own = self.time_of(at);
            if own.to <= time.from {
                return (behind, false);
            }
            let [first, last] = fields!(event, WalFsync: first, last);
            behind.push(self.behind(at, time, self.of_entries(event, first, last)));
            let before = change!(event, WalFsync, synced)[0];
            if own.from <= time.from {
                return (behind, false);
            }
            if synced <= before {
                return (behind, true);
            }
            synced = before;
        }
        (behind, true)
    }

    /// The fsync in this story that covers a `wal.write`.
    fn fsync_of(&self, write: &Event) -> Option<usize> {
        let steps = self.story.steps.iter().map(|step| step.event);
        steps.into_iter().find(|at| {
            let event = self.stories.event(*at);
            (event.stage, event.kind) == (Stage::WalFsync, Kind::Span)
                && (event.member, event.boot) == (write.member, write.boot)
        })
    }

    /// The entries that the apply thread applied meanwhile: those before this one; or, once it is
    /// applied, those after it in the same batch. And its waits for the write buffer.
    fn apply(&self, segment: &Segment, time: Time) -> Found {
        let is_before = self.stories.event(segment.to).stage == Stage::ApplyEntry;
        let own = self.stories.event(if is_before { segment.to } else { segment.from });
        let index = field!(own, ApplyEntry, index);
        let Some(batch) = self.batch_of(own, index) else {
            return self.one_by_one(own, time, is_before);
        };
        let mut behind = self.buffer_waits(own.member, time);
        if !is_before {
            behind.extend(self.of_batch(&batch, time, (index.saturating_add(1), batch.last)));
            return (behind, false);
        }
        behind.extend(self.of_batch(&batch, time, (batch.first, index.saturating_sub(1))));
        let mut next = batch;
        while behind.len() < BEHIND_MAX {
            if self.time_of(next.at).from <= time.from || next.first <= 1 {
                return (behind, false);
            }
            let Some(batch) = self.batch_of(own, next.first - 1) else { return (behind, true) };
            if self.time_of(batch.at).to <= time.from {
                return (behind, false);
            }
            behind.extend(self.of_batch(&batch, time, (batch.first, batch.last)));
            next = batch;
        }
        (behind, true)
    }

    /// The batch in which the member of `own` applied the entry with this index.
    fn batch_of(&self, own: &Event, index: u64) -> Option<Batch> {
        let at = self.stories.work.batch_of(own, index)?;
        let [first, last] = fields!(self.stories.event(at), ApplyBatch: first, last);
        (first <= index).then_some(Batch { at, first, last })
    }

    /// The entries of a part of a batch: those that are captured one by one, and the others as one.
    fn of_batch(&self, batch: &Batch, time: Time, (first, last): (u64, u64)) -> Vec<Behind> {
        let member = self.stories.event(batch.at).member;
        let looked_at = first..=last.min(first.saturating_add(ENTRIES_MAX));
        let known = looked_at.filter_map(|index| self.applied(member, index));
        let mut all: Vec<Behind> = known.map(|at| self.entry(at, time)).collect();
        let count = last.saturating_add(1).saturating_sub(first);
        let others = count.saturating_sub(all.len() as u64);
        if others == 0 {
            return all;
        }
        let told: u64 = all.iter().map(|one| one.overlap_ns).fold(0, u64::saturating_add);
        let event = self.stories.event(batch.at);
        // The member has named the first entries of the batch.
        let named = (batch.first..).zip(self.stories.work.shared(event));
        let named: Vec<u64> = named
            .filter(|(index, id)| {
                let is_told = all.iter().any(|one| one.ids.contains(*id));
                **id != 0 && (first..=last).contains(index) && !is_told
            })
            .map(|(_, id)| *id)
            .collect();
        all.push(Behind {
            event: batch.at,
            stage: event.stage,
            overlap_ns: self.overlap_ns(batch.at, time).saturating_sub(told),
            others: others.saturating_sub(named.len() as u64),
            ids: named,
        });
        all
    }

    fn entry(&self, at: usize, time: Time) -> Behind {
        let id = self.stories.event(at).id;
        self.behind(at, time, (if id == 0 { Vec::new() } else { vec![id] }, 0))
    }

    /// The same in recordings without batches.
    fn one_by_one(&self, own: &Event, time: Time, is_before: bool) -> Found {
        let member = own.member;
        let mut behind: Vec<Behind> = self.buffer_waits(member, time);
        let mut index = field!(own, ApplyEntry, index);
        while behind.len() < BEHIND_MAX {
            let next = if is_before { index.checked_sub(1) } else { index.checked_add(1) };
            // The log begins with entry 1.
            let Some(next) = next.filter(|next| *next != 0) else { return (behind, false) };
            index = next;
            let Some(at) = self.applied(member, index) else { return (behind, is_before) };
            let own = self.time_of(at);
            if own.to <= time.from || time.to <= own.from {
                return (behind, false);
            }
            behind.push(self.entry(at, time));
            if is_before && own.from <= time.from {
                return (behind, false);
            }
        }
        (behind, true)
    }

    fn applied(&self, member: u8, index: u64) -> Option<usize> {
        self.stories.entries(member, index).iter().copied().rfind(|at| {
            let event = self.stories.event(*at);
            (event.stage, event.kind) == (Stage::ApplyEntry, Kind::Span)
        })
    }

    /// The commits of the file that apply waited for, because the write buffer was full.
    fn buffer_waits(&self, member: u8, time: Time) -> Vec<Behind> {
        let of = |stage| self.stories.work.steps(member, stage).iter().copied();
        let waits = of(Stage::BufferWait).filter(|at| self.overlap_ns(*at, time) != 0);
        let mut behind = Vec::new();
        for wait in waits {
            let wait = self.time_of(wait);
            let both = Time { from: wait.from.max(time.from), to: wait.to.min(time.to) };
            behind.extend(self.commits(member, both).0);
        }
        behind
    }

    /// The round that was in progress when the read came.
    fn round(&self, own: &Event, time: Time) -> Found {
        let before = field!(own, ReadIndexRound, before);
        let rounds = self.stories.work.steps(own.member, Stage::ReadIndexRound).iter().copied();
        let others = rounds.filter(|at| {
            let event = self.stories.event(*at);
            // The end of an earlier round may be missing; it was over when the next one began.
            let is_known = event.kind != Kind::Begin || before != 0 && event.id == before;
            let is_other = event.id != own.id && event.link != own.id;
            is_known && is_other && self.overlap_ns(*at, time) != 0
        });
        let behind: Vec<Behind> = others
            .map(|at| {
                let event = self.stories.event(at);
                // A later attempt is linked to its round.
                let round = if event.link == 0 { event.id } else { event.link };
                let ids: Vec<u64> = self.stories.reads_of(round).collect();
                let reads = field!(event, ReadIndexRound, reads);
                let others = reads.saturating_sub(ids.len() as u64);
                self.behind(at, time, (ids, others))
            })
            .collect();
        let is_unknown = before != 0 && behind.is_empty();
        (behind, is_unknown)
    }

    /// The reads that held the permits, or got one before this read did.
    fn long_reads(&self, own: &Event, time: Time) -> Found {
        let pool = fields!(own, ReadQueue: limit, pool);
        let limit = pool[0];
        let all = self.stories.work.steps(own.member, Stage::ReadThread).iter().copied();
        let others = all.filter(|at| {
            let event = self.stories.event(*at);
            fields!(event, ReadThread: limit, pool) == pool && self.overlap_ns(*at, time) != 0
        });
        let behind: Vec<Behind> =
            others.map(|at| self.behind(at, time, (vec![self.stories.event(at).id], 0))).collect();
        let holds = |one: &&Behind| self.time_of(one.event).from <= time.from;
        let held = behind.iter().filter(holds).count() as u64;
        (behind, held < limit)
    }

    /// The call whose key was the one before, and the request that deleted that key.
    fn lock(&self, own: &Event, time: Time) -> Found {
        let [before, by] = fields!(own, LockWait: before, by);
        let Some(at) = self.stories.work.owner(before) else { return (Vec::new(), true) };
        let ids = [self.stories.event(at).id, by].into_iter().filter(|id| *id != 0).collect();
        let overlap_ns = u64::try_from(time.to - time.from).unwrap_or(0);
        let stage = self.stories.event(at).stage;
        (vec![Behind { event: at, stage, overlap_ns, ids, others: 0 }], false)
    }

    /// The passes over index and rows, and the pauses between them, each kind as one.
    fn compaction(&self, own: &Event, time: Time) -> Found {
        let revision = field!(own, CompactWait, revision);
        let passes = self.stories.compactions(revision).iter().copied();
        let passes = passes.filter(|at| self.stories.event(*at).member == own.member);
        let mut behind: Vec<Behind> = Vec::new();
        for at in passes {
            let one = self.behind(at, time, (Vec::new(), 0));
            let stage = self.stories.event(at).stage;
            let known = behind.iter_mut().find(|it| self.stories.event(it.event).stage == stage);
            match known {
                Some(known) => known.overlap_ns = known.overlap_ns.saturating_add(one.overlap_ns),
                None => behind.push(one),
            }
        }
        let is_unknown = behind.is_empty();
        (behind, is_unknown)
    }

    /// The commits of a member's file.
    fn commits(&self, member: u8, time: Time) -> Found {
        let all = self.stories.work.steps(member, Stage::BackendCommit).iter().copied();
        let meanwhile = all.filter(|at| self.overlap_ns(*at, time) != 0);
        let behind: Vec<Behind> = meanwhile
            .map(|at| {
                let event = self.stories.event(at);
                let [old, new] = change!(event, BackendCommit, index);
                self.behind(at, time, self.of_entries(event, old.saturating_add(1), new))
            })
            .collect();
        let is_unknown = behind.is_empty();
        (behind, is_unknown)
    }
}

/// The requests that a step's member has named, then the others that are known, and how many more
/// there are.
fn merged(named: &[u64], known: Vec<u64>, others: u64) -> (Vec<u64>, u64) {
    let named: Vec<u64> = named.iter().copied().filter(|id| *id != 0).collect();
    let added = named.iter().filter(|id| !known.contains(id)).count() as u64;
    let others_known = known.into_iter().filter(|id| !named.contains(id));
    let ids = named.iter().copied().chain(others_known).collect();
    (ids, others.saturating_sub(added))
}

/// What a piece of the path waits for, if that is something for which requests queue.
fn resource(wait: Wait) -> Option<Resource> {
    match wait {
        Wait::HandOver(Taker::Wal) => Some(Resource::Disk),
        Wait::HandOver(Taker::Apply) => Some(Resource::Apply),
        Wait::HandOver(Taker::Coordinator) => Some(Resource::Round),
        Wait::Step(Stage::ReadQueue) => Some(Resource::LongReads),
        Wait::Step(Stage::LockWait) => Some(Resource::Lock),
        Wait::Step(Stage::CompactWait) => Some(Resource::Compaction),
        Wait::Step(Stage::CompactCommit) => Some(Resource::File),
        Wait::Between(from, to) => match (from.stage, to.stage) {
            // Recordings of members that did not record their hand-overs.
            (_, Stage::WalWrite | Stage::WalFsync) if from.stage != Stage::WalWrite => {
                Some(Resource::Disk)
            }
            (_, Stage::ApplyEntry) if to.side == Side::Start => Some(Resource::Apply),
            (Stage::ApplyEntry, Stage::RaftPropose) => Some(Resource::Apply),
            _ => None,
        },
        Wait::Step(_)
        | Wait::HandOver(Taker::Raft | Taker::Peer | Taker::Grpc | Taker::Blocking)
        | Wait::Network(..)
        | Wait::SilentLeader
        | Wait::NoLeader
        | Wait::InVain(_)
        | Wait::Unknown(..) => None,
    }
}
