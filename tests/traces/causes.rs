//! The causal graph of a whole recording, and a check that it has no cycle.
//!
//! | link    | from                  | to                                          | joined by       |
//! |---------|-----------------------|---------------------------------------------|-----------------|
//! | program | an event              | the next one of the same boot of the member | member clock    |
//! | message | `raft.send`           | `raft.receive`                              | link            |
//! | batch   | `raft.entry`          | the `wal.write`, `wal.fsync` that hold it   | index           |
//! | batch   | `wal.fsync`           | `apply.entry` on the same member            | index           |
//! | batch   | `apply.entry`, `buffer.freeze` | the `backend.commit` that encloses it | index          |
//! | commit  | `raft.propose` begins | `raft.entry` on each member                 | id              |
//! | commit  | a member's `wal.fsync` | the leader's `raft.progress` of that member | index          |
//! | commit  | `raft.commit`         | `apply.entry`                               | index           |
//! | wake    | `apply.entry`         | `raft.propose` ends                         | id              |
//! | round   | `read_index.confirmed` | `read_index.round`                         | round           |
//! | round   | `read_index.round`    | `read_index.wait`                           | round           |
//! | watch   | `watch.queue`         | `watch.send`                                | id, watcher     |
//!
//! The joins use the content of the records, never their positions. So if a clock, a link or an
//! index were wrong, an effect would come before its cause, and the graph would have a cycle;
//! playback order (`story::order`) could not exist, and would have to hide that.
//!
//! Invariant: a link is drawn only where it is certain. An index that means several entries on a
//! member, because its log was truncated, joins nothing there; nor does a range whose record is
//! missing.

use std::collections::{BTreeMap, HashMap, HashSet};

use glass_etcd::{
    field, fields, slots,
    story::{Event, Recording, order},
    trace::{
        Kind, Slot, Stage,
        record::{FLAG_CANCELLED, FLAG_ERROR},
    },
};

/// Why one event comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Why {
    /// Order of the member's clock.
    Program,
    /// A message was sent before it was received.
    Message,
    /// One event's work was part of what the other did for many.
    Batch,
    /// An entry is proposed, then on disks, then committed, then applied.
    Commit,
    /// A waiting task is woken.
    Wake,
    /// A read waits for its round.
    Round,
    /// A watcher's events are queued before they are sent.
    Watch,
}

/// One event comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The cause: its position in [`Recording::events`].
    pub from: usize,
    /// The effect: its position in [`Recording::events`].
    pub to: usize,
    /// The kind of the link.
    pub why: Why,
}

/// Every link of a recording.
pub(super) fn links(recording: &Recording) -> Vec<Link> {
    let mut links = Vec::new();
    let mut last: Option<(u8, usize)> = None;
    for lane in order::lanes(recording) {
        for at in lane.events {
            if let Some((member, from)) = last.filter(|(member, _)| *member == lane.member) {
                debug_assert_eq!(member, recording.events[at].member);
                links.push(Link { from, to: at, why: Why::Program });
            }
            last = Some((lane.member, at));
        }
    }
    for (from, to) in order::partners(recording) {
        if recording.events[from].stage == Stage::RaftSend {
            links.push(Link { from, to, why: Why::Message });
        }
    }
    Joiner::new(recording).join(&mut links);
    links
}

/// A cycle of these links, if there is one: each link begins where the previous one ends.
pub(super) fn cycle(recording: &Recording, links: &[Link]) -> Option<Vec<Link>> {
    let events = recording.events.len();
    let mut missing = vec![0_usize; events];
    let mut effects: Vec<Vec<usize>> = vec![Vec::new(); events];
    for link in links {
        missing[link.to] += 1;
        effects[link.from].push(link.to);
    }
    let mut free: Vec<usize> = (0..events).filter(|at| missing[*at] == 0).collect();
    while let Some(at) = free.pop() {
        for to in &effects[at] {
            missing[*to] -= 1;
            if missing[*to] == 0 {
                free.push(*to);
            }
        }
    }
    // Every remaining event has a remaining cause: following them backwards must lead to a cycle.
    let is_left = |at: usize| missing[at] != 0;
    let left = links.iter().filter(|link| is_left(link.from) && is_left(link.to));
    let cause_of: HashMap<usize, Link> = left.map(|link| (link.to, *link)).collect();
    let mut at = (0..events).find(|at| is_left(*at))?;
    let (mut path, mut seen) = (Vec::new(), HashMap::new());
    while !seen.contains_key(&at) {
        seen.insert(at, path.len());
        let link = cause_of.get(&at)?;
        path.push(*link);
        at = link.from;
    }
    let mut cycle = path.split_off(seen[&at]);
    cycle.reverse();
    Some(cycle)
}

/// A boot of a member.
type Lane = (u8, u16);

/// The tables for the joins.
struct Joiner<'a> {
    recording: &'a Recording,
    /// The entries of each member, by index; `None` if several have had the same index.
    entries: HashMap<(u8, u64), Option<usize>>,
    /// Members whose log was truncated.
    truncated: HashSet<u8>,
    /// Ends and marks of the stages that carry an index, by lane.
    lanes: HashMap<(Lane, Stage), Vec<usize>>,
    /// Beginnings of `raft.propose`, by id.
    proposed: HashMap<u64, usize>,
    /// How many buffers were frozen at each index.
    frozen: HashMap<(Lane, u64), usize>,
}

impl<'a> Joiner<'a> {
    fn new(recording: &'a Recording) -> Joiner<'a> {
        let mut joiner = Joiner {
            recording,
            entries: HashMap::new(),
            truncated: HashSet::new(),
            lanes: HashMap::new(),
            proposed: HashMap::new(),
            frozen: HashMap::new(),
        };
        for (at, event) in recording.events.iter().enumerate() {
            if event.kind == Kind::Begin {
                if event.stage == Stage::RaftPropose {
                    joiner.proposed.insert(event.id, at);
                }
                continue;
            }
            let lane = (event.member, event.boot);
            match event.stage {
                Stage::BufferFreeze => {
                    let index = field!(event, BufferFreeze, index);
                    *joiner.frozen.entry((lane, index)).or_default() += 1;
                }
                Stage::RaftEntry => {
                    let index = field!(event, RaftEntry, index);
                    let entry = joiner.entries.entry((event.member, index));
                    entry.and_modify(|known| *known = None).or_insert(Some(at));
                }
                Stage::LogTruncate => _ = joiner.truncated.insert(event.member),
                _ => {}
            }
            joiner.lanes.entry((lane, event.stage)).or_default().push(at);
        }
        joiner
    }

    fn event(&self, at: usize) -> &'a Event {
        &self.recording.events[at]
    }

    fn join(&self, links: &mut Vec<Link>) {
        self.join_disks(links);
        self.join_apply(links);
        self.join_acknowledgements(links);
        self.join_waits(links);
        self.join_ids(links);
    }

    /// From an entry to its write and its fsync, and from there to its application.
    fn join_disks(&self, links: &mut Vec<Link>) {
        let ranges = [
            self.enclosing(Stage::WalWrite, |event| {
                Some(fields!(event, WalWrite: first, last).into())
            }),
            self.enclosing(Stage::WalFsync, |event| {
                Some(fields!(event, WalFsync: first, last).into())
            }),
        ];
        for ((member, index), at) in &self.entries {
            let (Some(at), false) = (at, self.truncated.contains(member)) else { continue };
            let lane = (*member, self.event(*at).boot);
            let disks = ranges.iter().filter_map(|ranges| ranges.get(&lane)?.holding(*index));
            links.extend(disks.map(|to| Link { from: *at, to, why: Why::Batch }));
        }
        let [_, fsyncs] = &ranges;
        for ((lane, stage), events) in &self.lanes {
            if *stage != Stage::ApplyEntry || self.truncated.contains(&lane.0) {
                continue;
            }
            let Some(fsyncs) = fsyncs.get(lane) else { continue };
            for to in events {
                let from = fsyncs.holding(field!(self.event(*to), ApplyEntry, index));
                links.extend(from.map(|from| Link { from, to: *to, why: Why::Batch }));
            }
        }
    }

    /// From the commit to the application, and from there to the file.
    fn join_apply(&self, links: &mut Vec<Link>) {
        let commits = self.steps(slots!(RaftCommit, commit));
        let stored = self.steps(slots!(BackendCommit, index));
        for ((lane, stage), events) in &self.lanes {
            if !matches!(stage, Stage::ApplyEntry | Stage::BufferFreeze) {
                continue;
            }
            for at in events {
                let index = field!(self.event(*at), ApplyEntry | BufferFreeze, index);
                let file = stored.get(lane).and_then(|stored| stored.holding(index));
                match stage {
                    Stage::ApplyEntry => {
                        let commit = commits.get(lane).and_then(|commits| commits.holding(index));
                        links.extend(commit.map(|from| Link { from, to: *at, why: Why::Commit }));
                        links.extend(file.map(|to| Link { from: *at, to, why: Why::Batch }));
                    }
                    // The rows of a compaction advance no index: then it is unknown which freeze is
                    // which.
                    Stage::BufferFreeze if self.frozen[&(*lane, index)] == 1 => {
                        links.extend(file.map(|to| Link { from: *at, to, why: Why::Batch }));
                    }
                    _ => {}
                }
            }
        }
    }

    /// From a member's fsync to the leader's progress for that member.
    fn join_acknowledgements(&self, links: &mut Vec<Link>) {
        let synced = self.steps(slots!(WalFsync, synced));
        for ((_, stage), events) in &self.lanes {
            if *stage != Stage::RaftProgress {
                continue;
            }
            for to in events {
                let event = self.event(*to);
                let [peer, index] = fields!(event, RaftProgress: peer, match_new);
                let is_peer = |member: u8| {
                    let info = self.recording.members.get(usize::from(member));
                    info.is_some_and(|info| info.member_id == peer)
                        && !self.truncated.contains(&member)
                };
                let mut known = synced
                    .iter()
                    .filter(|((member, _), _)| is_peer(*member))
                    .filter_map(|(_, synced)| synced.holding(index));
                // If there were two, in two boots, it would be unknown which one it was.
                if let (Some(from), None) = (known.next(), known.next()) {
                    links.push(Link { from, to: *to, why: Why::Commit });
                }
            }
        }
    }

    /// From the event that ends a wait to the end of the wait.
    fn join_waits(&self, links: &mut Vec<Link>) {
        let is_well =
            |event: &Event| event.result == 0 && event.flags & (FLAG_ERROR | FLAG_CANCELLED) == 0;
        let mut rounds: HashMap<u64, usize> = HashMap::new();
        for at in self.all(Stage::ReadIndexRound) {
            rounds.insert(self.event(at).id, at);
        }
        for at in self.all(Stage::ReadIndexConfirmed) {
            let round = rounds.get(&self.event(at).id).copied();
            let answered = round.filter(|round| {
                let (asked, told) = (self.event(*round), self.event(at));
                // An answer to an earlier attempt may end the round before this one is confirmed.
                is_well(asked)
                    && field!(asked, ReadIndexRound, answered) == 0
                    && field!(asked, ReadIndexRound, index)
                        == field!(told, ReadIndexConfirmed, index)
            });
            links.extend(answered.map(|to| Link { from: at, to, why: Why::Round }));
        }
        for to in self.all(Stage::ReadIndexWait).filter(|at| is_well(self.event(*at))) {
            let round = rounds.get(&field!(self.event(to), ReadIndexWait, round)).copied();
            let is_here = |round: &usize| self.event(*round).member == self.event(to).member;
            let round = round.filter(is_here);
            links.extend(round.map(|from| Link { from, to, why: Why::Round }));
        }
        let mut proposes: HashMap<(Lane, u64), usize> = HashMap::new();
        for at in self.all(Stage::RaftPropose).filter(|at| is_well(self.event(*at))) {
            let event = self.event(at);
            proposes.insert(((event.member, event.boot), event.id), at);
        }
        for from in self.all(Stage::ApplyEntry) {
            let event = self.event(from);
            let propose = proposes.get(&((event.member, event.boot), event.id)).copied();
            let propose = propose.filter(|_| event.id != 0);
            links.extend(propose.map(|to| Link { from, to, why: Why::Wake }));
        }
    }

    /// From a proposal to its entries, and from a queued event to its send.
    fn join_ids(&self, links: &mut Vec<Link>) {
        for to in self.all(Stage::RaftEntry) {
            let from = self.proposed.get(&self.event(to).id).copied();
            let from = from.filter(|_| self.event(to).id != 0);
            links.extend(from.map(|from| Link { from, to, why: Why::Commit }));
        }
        let key = |event: &Event| {
            let watcher = field!(event, WatchQueue | WatchSend, watcher);
            (event.member, event.boot, event.id, watcher)
        };
        let queued: HashMap<_, usize> =
            self.all(Stage::WatchQueue).map(|at| (key(self.event(at)), at)).collect();
        let is_live = |at: &usize| field!(self.event(*at), WatchSend, path) == 0;
        for to in self.all(Stage::WatchSend).filter(is_live) {
            let from = queued.get(&key(self.event(to))).copied();
            links.extend(from.map(|from| Link { from, to, why: Why::Watch }));
        }
    }

    fn all(&self, stage: Stage) -> impl Iterator<Item = usize> + '_ {
        let of_stage = self.lanes.iter().filter(move |((_, of), _)| *of == stage);
        of_stage.flat_map(|(_, events)| events.iter().copied())
    }

    /// The records of a stage that advance a watermark, by lane.
    fn steps(&self, [old, new]: [Slot; 2]) -> HashMap<Lane, Ranges> {
        self.enclosing(old.stage(), |event| {
            Some((event.number(&[old]).checked_add(1)?, event.number(&[new])))
        })
    }

    fn enclosing(
        &self,
        stage: Stage,
        range: impl Fn(&Event) -> Option<(u64, u64)>,
    ) -> HashMap<Lane, Ranges> {
        let mut found: HashMap<Lane, Ranges> = HashMap::new();
        for at in self.all(stage) {
            let event = self.event(at);
            if let Some((first, last)) = range(event).filter(|(first, last)| first <= last) {
                let ranges = found.entry((event.member, event.boot)).or_default();
                ranges.0.entry(last).and_modify(|known| *known = None).or_insert(Some((first, at)));
            }
        }
        found
    }
}

/// The event for each range of indexes, by the range's end; `None` if several ranges end there.
#[derive(Default)]
struct Ranges(BTreeMap<u64, Option<(u64, usize)>>);

impl Ranges {
    /// The event that holds the index.
    fn holding(&self, index: u64) -> Option<usize> {
        let (_, range) = self.0.range(index..).next()?;
        range.filter(|(first, _)| *first <= index && index != 0).map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests;
