//! All stories of one recording, with tables that are built once for all of them.
//!
//! ```text
//!   recording ──▶ by id:     0203 → its events            request, rounds
//!       once      by index:  (member 1, 42) → its entries
//!                 ranges:    (member 1, wal.fsync) → 40..41, 42..42, …
//!                 messages:  (send, carries, member 0, peer 2) → 40..41, 42..42, …
//!                              │
//!                              └──▶ a story looks at what is near it, and at nothing else
//! ```
//!
//! Hundreds of requests among a hundred thousand events are queried one after the other, and
//! without the tables each query would read all events. Invariant: all lists are in playback
//! order, except those by id, which are in order of arrival and include withheld events.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
};

use super::{
    Finder, Story,
    brief::Briefs,
    cluster::Cluster,
    graph::Graph,
    joins::Part,
    passes::{Pass, Passes},
    ranges::{Named, Ranges},
    through::Through,
    work::Work,
};
use crate::{
    change, field, fields,
    story::{
        Event, Memberships, Recording,
        order::Order,
        state::{Watermark, changes},
    },
    trace::{message, record::Kind, stage::Stage},
};

/// A recording with the tables from which the story of any of its requests is built.
pub struct Stories<'a> {
    pub(super) recording: &'a Recording,
    pub(super) order: &'a Order,
    /// Playback rank of each event; `usize::MAX` for withheld ones.
    pub(super) rank: Vec<usize>,
    /// Positions of the events with each id.
    by_id: HashMap<u64, Vec<usize>>,
    /// Positions at which an index of the log got an entry, or that entry was applied, by member.
    entries: HashMap<(u8, u64), Vec<usize>>,
    /// What a new leader's entries replaced in members' logs, by member and the leader's term.
    cuts: HashMap<(u8, u64), Vec<RangeInclusive<u64>>>,
    /// For each member with events, the ranks at which it started again, or changed its role.
    pub(super) breaks: BTreeMap<u8, Vec<usize>>,
    /// Beginnings of spans that belong to no request, by member, stage, boot and clock.
    begins: HashMap<(u8, Stage, u16, u64), Vec<usize>>,
    /// The ranges of entries that a loop's records cover, by member, stage and peer.
    pub(super) covered: BTreeMap<(u8, Stage, Option<u64>), Ranges>,
    /// The ranges of entries for which messages did something, by end, part, member and peer; the
    /// end may be where they were dropped.
    pub(super) messages: BTreeMap<(Stage, Part, u8, u64), Ranges>,
    /// The reads that waited for each round.
    fellows: HashMap<u64, Vec<usize>>,
    /// The ids of a round's later attempts.
    attempts: HashMap<u64, Vec<u64>>,
    /// The steps of loops that made a member send the request with this id.
    causes: HashMap<u64, Vec<usize>>,
    /// The work of loops and long reads.
    pub(super) work: Work,
    /// The passes over watchers that were behind.
    pub(super) passes: Passes,
    /// The removal of what a compaction at a revision has made unreadable.
    compactions: HashMap<u64, Vec<usize>>,
    /// Positions of the events queued for a watcher, and sent to it: by member, boot and watcher.
    deliveries: HashMap<(u8, u16, u64), Vec<usize>>,
    /// Positions of standstills of processes, and of waits of their threads for a CPU.
    pub(super) stalls: Vec<usize>,
    /// Positions of sends to watchers that caught up.
    pub(super) caught_up: Vec<usize>,
    /// The newest value of each watermark of a member, and the position of the event that says so.
    newest: HashMap<(u8, Watermark), (u64, usize)>,
    /// The newest event of each member, and the rank at which its newest start begins.
    lasts: HashMap<u8, (usize, usize)>,
    /// When members left out quick steps.
    pub(super) briefs: Briefs,
    /// Who the members are.
    memberships: Memberships,
    /// Members, by raft's id, that others communicate with, but that sent no records.
    pub(super) strangers: Vec<u64>,
    /// What happened to the cluster; read when first asked for.
    cluster: OnceCell<Cluster>,
}

/// The entries, by index, that a loop's record covers: its disk, its counting, its file.
fn covers(event: &Event) -> Option<RangeInclusive<u64>> {
    Some(match event.stage {
        Stage::WalWrite | Stage::WalFsync => {
            let [first, last] = fields!(event, WalWrite | WalFsync: first, last);
            first..=last
        }
        Stage::RaftProgress => after(change!(event, RaftProgress, match)),
        Stage::RaftStable => after(change!(event, RaftStable, stable)),
        Stage::RaftCommit => after(change!(event, RaftCommit, commit)),
        Stage::BufferFreeze => 0..=field!(event, BufferFreeze, index),
        Stage::BackendCommit => after(change!(event, BackendCommit, index)),
        _ => return None,
    })
}

/// The indexes above the old one, up to the new one.
fn after([old, new]: [u64; 2]) -> RangeInclusive<u64> {
    old.checked_add(1).map_or(NONE, |first| first..=new)
}

/// The entries that a message concerns, and what it did for them. One that was dropped would have
/// carried them.
fn parts(event: &Event) -> Vec<(Part, RangeInclusive<u64>)> {
    if event.stage == Stage::RaftDrop {
        let [kind, index, last] = fields!(event, RaftDrop: type, index, last);
        let is_app = kind == message::APP;
        return is_app.then(|| (Part::Carries, after([index, last]))).into_iter().collect();
    }
    let [kind, index, last, commit, reject] =
        fields!(event, RaftSend | RaftReceive: type, index, last, commit, reject);
    let mut parts = Vec::new();
    match kind {
        // The message does not say which entry it proposes.
        message::PROP if event.stage == Stage::RaftSend => {
            parts.push((Part::Proposes, 0..=u64::MAX));
        }
        message::APP => parts.push((Part::Carries, after([index, last]))),
        message::APP_RESP if reject == 0 => parts.push((Part::Acknowledges, 0..=index)),
        _ => (),
    }
    if matches!(kind, message::APP | message::HEARTBEAT) {
        parts.push((Part::TellsCommit, 0..=commit));
    }
    parts
}

/// The field `path` of `watch.send` for a watcher that caught up; 0 is for a synced one.
const CATCH_UP: u64 = 1;
const NONE: RangeInclusive<u64> = RangeInclusive::new(1, 0);

impl<'a> Stories<'a> {
    /// Builds the tables of a recording.
    pub fn new(recording: &'a Recording, order: &'a Order) -> Stories<'a> {
        let mut stories = Stories {
            recording,
            order,
            rank: vec![usize::MAX; recording.events.len()],
            by_id: HashMap::new(),
            entries: HashMap::new(),
            cuts: HashMap::new(),
            breaks: BTreeMap::new(),
            begins: HashMap::new(),
            covered: BTreeMap::new(),
            messages: BTreeMap::new(),
            fellows: HashMap::new(),
            attempts: HashMap::new(),
            causes: HashMap::new(),
            work: Work::of(recording),
            passes: Passes::of(recording),
            compactions: HashMap::new(),
            deliveries: HashMap::new(),
            stalls: Vec::new(),
            caught_up: Vec::new(),
            newest: HashMap::new(),
            lasts: HashMap::new(),
            briefs: Briefs::of(recording),
            memberships: Memberships::of(recording),
            strangers: Vec::new(),
            cluster: OnceCell::new(),
        };
        stories.note_heard();
        stories.note_told();
        stories
    }

    /// How many members' disks count for an entry, by the configuration before it. `None` if that
    /// is unknown.
    pub(super) fn voters(&self, index: u64) -> Option<usize> {
        match self.memberships.at(index.saturating_sub(1)) {
            Some(known) => Some(known.voters.len()),
            None if self.memberships.are_told() => None,
            None => Some(self.recording.members.len() + self.strangers.len()),
        }
    }

    /// The recording.
    pub fn recording(&self) -> &'a Recording {
        self.recording
    }

    /// The playback order of the recording.
    pub fn order(&self) -> &'a Order {
        self.order
    }

    /// Builds the story of a request. `None` if nothing of it was captured.
    pub fn of(&self, id: u64) -> Option<Story> {
        Finder::story(self, id)
    }

    /// What happened to the cluster.
    pub fn cluster(&self) -> &Cluster {
        self.cluster.get_or_init(|| Cluster::of(self.recording, self.order))
    }

    /// The ids of the later attempts of a round.
    pub(super) fn attempts(&self, round: u64) -> impl Iterator<Item = u64> {
        self.attempts.get(&round).into_iter().flatten().copied()
    }

    /// The steps of loops that made a member send this request by itself.
    pub(super) fn causes(&self, id: u64) -> &[usize] {
        self.causes.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The reads, as far as captured, that waited for a round.
    pub(super) fn reads_of(&self, round: u64) -> impl Iterator<Item = u64> {
        let waits = self.fellows.get(&round).into_iter().flatten();
        waits.map(|at| self.recording.events[*at].id)
    }

    /// The steps that removed what a compaction at this revision has made unreadable.
    pub(super) fn compactions(&self, revision: u64) -> &[usize] {
        self.compactions.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// The passes that brought the watchers of a request forward.
    pub fn passes(&self, story: &Story) -> Vec<Pass> {
        self.passes.of_story(self.recording, story)
    }

    /// The events queued for a watcher, and sent to it.
    pub(super) fn deliveries(&self, watcher: (u8, u16, u64)) -> &[usize] {
        self.deliveries.get(&watcher).map_or(&[], Vec::as_slice)
    }

    /// The causes behind one of these stories.
    pub fn graph(&self, story: &Story) -> Graph {
        let mut graph = Graph::with_fellows(self.recording, self.order, story, |round| {
            self.reads_of(round).filter(|id| *id != story.id).collect()
        });
        graph.through = Through::of(self.recording, self.order, self.cluster(), story);
        graph
    }

    /// Builds the tables by id, in order of arrival.
    fn note_heard(&mut self) {
        let mut peers = BTreeSet::new();
        for (at, event) in self.recording.events.iter().enumerate() {
            self.by_id.entry(event.id).or_default().push(at);
            if matches!(event.stage, Stage::WatchQueue | Stage::WatchSend) {
                let watcher = field!(event, WatchQueue | WatchSend, watcher);
                let watcher = (event.member, event.boot, watcher);
                self.deliveries.entry(watcher).or_default().push(at);
            }
            match event.stage {
                Stage::RaftSend | Stage::RaftReceive => {
                    peers.insert(field!(event, RaftSend | RaftReceive, peer));
                }
                Stage::CompactIndex | Stage::CompactBatch | Stage::CompactPause => {
                    let revision =
                        field!(event, CompactIndex | CompactBatch | CompactPause, revision);
                    self.compactions.entry(revision).or_default().push(at);
                }
                Stage::ProcessStalled | Stage::CpuWait => self.stalls.push(at),
                Stage::LeaseExpire => {
                    let request = field!(event, LeaseExpire, request);
                    self.causes.entry(request).or_default().push(at);
                }
                Stage::ReadIndexRound if event.link != 0 => {
                    self.attempts.entry(event.link).or_default().push(event.id);
                }
                Stage::ReadIndexWait if event.kind != Kind::Begin => {
                    let round = field!(event, ReadIndexWait, round);
                    self.fellows.entry(round).or_default().push(at);
                }
                Stage::WatchSend
                    if event.kind != Kind::Begin && field!(event, WatchSend, path) == CATCH_UP =>
                {
                    self.caught_up.push(at);
                }
                _ => (),
            }
        }
        self.recording.members.iter().for_each(|member| _ = peers.remove(&member.member_id));
        peers.remove(&0);
        self.strangers = peers.into_iter().collect();
    }

    /// Builds the tables by member, in playback order.
    fn note_told(&mut self) {
        let mut covered: BTreeMap<_, Vec<Named>> = BTreeMap::new();
        let mut messages: BTreeMap<_, Vec<Named>> = BTreeMap::new();
        let mut boots: HashMap<u8, u16> = HashMap::new();
        for (rank, at) in self.order.rows.iter().enumerate() {
            let event = &self.recording.events[*at];
            let (member, stage) = (event.member, event.stage);
            self.rank[*at] = rank;
            let breaks = self.breaks.entry(member).or_default();
            let before = boots.insert(member, event.boot);
            for change in changes(event) {
                self.newest.insert((member, change.water), (change.new, *at));
            }
            let began = if before == Some(event.boot) { self.lasts[&member].1 } else { rank };
            self.lasts.insert(member, (*at, began));
            if stage == Stage::RaftRole || before.is_some_and(|boot| boot != event.boot) {
                breaks.push(rank);
            }
            if matches!(stage, Stage::RaftEntry | Stage::ApplyEntry) {
                let index = field!(event, RaftEntry | ApplyEntry, index);
                self.entries.entry((member, index)).or_default().push(*at);
            }
            if stage == Stage::LogTruncate {
                let [old, new] = change!(event, LogTruncate, last);
                let term = field!(event, LogTruncate, term);
                self.cuts.entry((member, term)).or_default().push(after([new, old]));
            }
            let is_begin = event.kind == Kind::Begin;
            let named = |range| Named { rank, event: *at, range };
            if let Some(range) = covers(event) {
                if is_begin {
                    let key = (member, stage, event.boot, event.clock);
                    self.begins.entry(key).or_default().push(*at);
                }
                // A member that has reached a commit index has reached it, regardless of the record
                // that says so.
                if !is_begin || stage == Stage::RaftCommit {
                    let is_of_peer = stage == Stage::RaftProgress;
                    let peer = is_of_peer.then(|| field!(event, RaftProgress, peer));
                    let key = (member, stage, peer);
                    covered.entry(key).or_default().push(named(range));
                }
            }
            if matches!(stage, Stage::RaftSend | Stage::RaftReceive | Stage::RaftDrop) && !is_begin
            {
                let peer = field!(event, RaftSend | RaftReceive | RaftDrop, peer);
                for (part, range) in parts(event) {
                    let key = (stage, part, member, peer);
                    messages.entry(key).or_default().push(named(range));
                }
            }
        }
        let searched = |list: Vec<Named>| Ranges::new(list);
        self.covered = covered.into_iter().map(|(key, list)| (key, searched(list))).collect();
        self.messages = messages.into_iter().map(|(key, list)| (key, searched(list))).collect();
    }

    /// Position of the newest record of a member that proves that it had not come to an index by
    /// then. `None` if it had, if records are lost, or if the member has started again since the
    /// event with this rank: then it may have come there before that.
    pub(super) fn not_by(
        &self,
        member: u8,
        water: Watermark,
        (index, since): (u64, usize),
    ) -> Option<usize> {
        let (value, at) = self.newest.get(&(member, water)).copied()?;
        let (_, began) = self.lasts.get(&member).copied()?;
        let is_whole = self.recording.dropped.get(usize::from(member)).is_none_or(|n| *n == 0);
        let is_later = since < self.rank[at];
        (value < index && began <= since && is_whole && is_later).then_some(at)
    }

    /// Position of the newest record that a start of a member has made.
    pub(super) fn last_of(&self, (member, boot): (u8, u16)) -> Option<usize> {
        let own = |at: &&usize| {
            let event = &self.recording.events[**at];
            (event.member, event.boot) == (member, boot)
        };
        match self.lasts.get(&member) {
            Some((at, _)) if own(&at) => Some(*at),
            _ => self.order.rows.iter().rev().find(own).copied(),
        }
    }

    /// Whether a start of a member has ended: a later one followed, and no record was lost that
    /// could say more.
    pub(super) fn has_ended(&self, (member, boot): (u8, u16)) -> bool {
        let is_whole = self.recording.dropped.get(usize::from(member)).is_none_or(|n| *n == 0);
        let last = self.lasts.get(&member).map(|(at, _)| &self.recording.events[*at]);
        is_whole && last.is_some_and(|last| boot < last.boot)
    }

    /// The event at a position.
    pub(super) fn event(&self, at: usize) -> &'a Event {
        &self.recording.events[at]
    }

    /// When a step began and ended, in nanoseconds since 1970 on the common axis.
    pub fn life(&self, at: usize) -> [i128; 2] {
        let (event, end) = (self.event(at), self.order.times[at]);
        let is_at_end = event.kind == Kind::Span && event.stage != Stage::RaftSend;
        [end - if is_at_end { i128::from(event.took_ns) } else { 0 }, end]
    }

    /// When a member could not run, as this event tells: where it stood still, as far as its other
    /// records leave that possible.
    pub(super) fn stall(&self, at: usize) -> [i128; 2] {
        let stalls = || self.cluster().stalls.iter().find(|stall| stall.event == at);
        let is_standstill = self.event(at).stage == Stage::ProcessStalled;
        let known = Some(()).filter(|()| is_standstill).and_then(|()| stalls());
        known.map_or_else(|| self.life(at), |stall| [stall.from, stall.to])
    }

    /// Positions of the events with an id, in order of arrival.
    pub(super) fn with_id(&self, id: u64) -> &[usize] {
        self.by_id.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Positions of a member's entries with an index, and of their applications.
    pub(super) fn entries(&self, member: u8, index: u64) -> &[usize] {
        self.entries.get(&(member, index)).map_or(&[], Vec::as_slice)
    }

    /// Whether an entry, by term and index, replaced another in a member's log.
    pub(super) fn cuts(&self, member: u8, (term, index): (u64, u64)) -> bool {
        let cuts = self.cuts.get(&(member, term));
        cuts.is_some_and(|cuts| cuts.iter().any(|cut| cut.contains(&index)))
    }

    /// Position of the record with which a member got the entry that it had at this index when a
    /// step of it began.
    pub(super) fn entry_at(&self, step: &Event, index: u64) -> Option<usize> {
        let is_before = |at: &&usize| {
            let event = self.event(**at);
            (event.boot, event.clock) < (step.boot, step.clock)
        };
        self.entries(step.member, index).iter().rfind(is_before).copied()
    }

    /// Positions of the beginnings of the span that ends with this event.
    pub(super) fn begins(&self, end: &Event) -> &[usize] {
        let key = (end.member, end.stage, end.boot, end.clock);
        self.begins.get(&key).map_or(&[], Vec::as_slice)
    }
}
