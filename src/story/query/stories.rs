//! All stories of one recording: what each of them would search the whole recording for, known
//! once.
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
//! Hundreds of requests of a hundred thousand events are asked for one after the other, and each
//! question would cost as much as reading all of it. Invariant: all lists are in playback order but
//! those by id, which are as heard, and have also what is withheld.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
};

use super::{
    Finder, Story,
    graph::Graph,
    joins::Part,
    ranges::{Named, Ranges},
};
use crate::{
    change, field, fields,
    story::{Event, Recording, order::Order},
    trace::{message, record::Kind, stage::Stage},
};

/// A recording, looked through once, that tells the story of any of its requests.
pub struct Stories<'a> {
    pub(super) recording: &'a Recording,
    pub(super) order: &'a Order,
    /// When in playback order each event comes; `usize::MAX` for those that are withheld.
    pub(super) rank: Vec<usize>,
    /// The events that carry an id.
    by_id: HashMap<u64, Vec<usize>>,
    /// Where an index of the log got an entry, or that entry was applied, on each member.
    entries: HashMap<(u8, u64), Vec<usize>>,
    /// For each member with events, the ranks at which it has started again, or has another role.
    pub(super) turns: BTreeMap<u8, Vec<usize>>,
    /// The beginnings of spans that belong to no request, by member, stage, boot and clock.
    begins: HashMap<(u8, Stage, u16, u64), Vec<usize>>,
    /// Which entries a loop's records cover, by member, stage and peer.
    pub(super) covered: BTreeMap<(u8, Stage, Option<u64>), Ranges>,
    /// For which entries messages have done something, by end, part, member and peer.
    pub(super) messages: BTreeMap<(Stage, Part, u8, u64), Ranges>,
    /// Reads that waited for a round, by the round.
    fellows: HashMap<u64, Vec<usize>>,
    /// What was sent to watchers that have caught up.
    pub(super) caught_up: Vec<usize>,
    /// Members, by raft's id, that others talk to and that were never heard.
    pub(super) strangers: Vec<u64>,
}

/// Which entries, by index, a loop's record covers: its disk, its counting, its file.
fn covers(event: &Event) -> Option<RangeInclusive<u64>> {
    Some(match event.stage {
        Stage::WalWrite | Stage::WalFsync => {
            let [first, last] = fields!(event, WalWrite | WalFsync: first, last);
            first..=last
        }
        Stage::RaftProgress => after(change!(event, RaftProgress, match)),
        Stage::RaftCommit => after(change!(event, RaftCommit, commit)),
        Stage::BufferFreeze => 0..=field!(event, BufferFreeze, index),
        Stage::BackendCommit => after(change!(event, BackendCommit, index)),
        _ => return None,
    })
}

/// Those above the old index, up to the new one.
fn after([old, new]: [u64; 2]) -> RangeInclusive<u64> {
    old.checked_add(1).map_or(NOBODY, |first| first..=new)
}

/// For which entries a message did what.
fn parts(event: &Event) -> Vec<(Part, RangeInclusive<u64>)> {
    let [kind, index, last, commit, reject] =
        fields!(event, RaftSend | RaftReceive: type, index, last, commit, reject);
    let mut parts = Vec::new();
    match kind {
        // Which entry it proposes is not in it.
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

/// The field `path` of `watch.send` for a watcher that has caught up; 0 is for one that is synced.
const CATCH_UP: u64 = 1;
const NOBODY: RangeInclusive<u64> = RangeInclusive::new(1, 0);

impl<'a> Stories<'a> {
    /// Looks through a recording.
    pub fn new(recording: &'a Recording, order: &'a Order) -> Stories<'a> {
        let mut stories = Stories {
            recording,
            order,
            rank: vec![usize::MAX; recording.events.len()],
            by_id: HashMap::new(),
            entries: HashMap::new(),
            turns: BTreeMap::new(),
            begins: HashMap::new(),
            covered: BTreeMap::new(),
            messages: BTreeMap::new(),
            fellows: HashMap::new(),
            caught_up: Vec::new(),
            strangers: Vec::new(),
        };
        stories.note_heard();
        stories.note_told();
        stories
    }

    /// Puts the story of a request together. `None` if nothing of it was captured.
    pub fn of(&self, id: u64) -> Option<Story> {
        Finder::tell(self, id)
    }

    /// What stands behind one of these stories.
    pub fn graph(&self, story: &Story) -> Graph {
        Graph::with_fellows(self.recording, self.order, story, |round| {
            let waits = self.fellows.get(&round).into_iter().flatten();
            waits.map(|at| self.recording.events[*at].id).filter(|id| *id != story.id).collect()
        })
    }

    /// What is known by id, in the order in which it was heard.
    fn note_heard(&mut self) {
        let mut peers = BTreeSet::new();
        for (at, event) in self.recording.events.iter().enumerate() {
            self.by_id.entry(event.id).or_default().push(at);
            match event.stage {
                Stage::RaftSend | Stage::RaftReceive => {
                    peers.insert(field!(event, RaftSend | RaftReceive, peer));
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

    /// What is known by member, in playback order.
    fn note_told(&mut self) {
        let mut covered: BTreeMap<_, Vec<Named>> = BTreeMap::new();
        let mut messages: BTreeMap<_, Vec<Named>> = BTreeMap::new();
        let mut boots: HashMap<u8, u16> = HashMap::new();
        for (rank, at) in self.order.rows.iter().enumerate() {
            let event = &self.recording.events[*at];
            let (member, stage) = (event.member, event.stage);
            self.rank[*at] = rank;
            let turns = self.turns.entry(member).or_default();
            let before = boots.insert(member, event.boot);
            if stage == Stage::RaftRole || before.is_some_and(|boot| boot != event.boot) {
                turns.push(rank);
            }
            if matches!(stage, Stage::RaftEntry | Stage::ApplyEntry) {
                let index = field!(event, RaftEntry | ApplyEntry, index);
                self.entries.entry((member, index)).or_default().push(*at);
            }
            let is_begin = event.kind == Kind::Begin;
            let named = |range| Named { rank, event: *at, range };
            if let Some(range) = covers(event) {
                if is_begin {
                    let key = (member, stage, event.boot, event.clock);
                    self.begins.entry(key).or_default().push(*at);
                }
                // Whoever knows of a commit knows it, whatever kind of record says so.
                if !is_begin || stage == Stage::RaftCommit {
                    let is_of_peer = stage == Stage::RaftProgress;
                    let peer = is_of_peer.then(|| field!(event, RaftProgress, peer));
                    let key = (member, stage, peer);
                    covered.entry(key).or_default().push(named(range));
                }
            }
            if matches!(stage, Stage::RaftSend | Stage::RaftReceive) && !is_begin {
                let peer = field!(event, RaftSend | RaftReceive, peer);
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

    /// The event at a place.
    pub(super) fn event(&self, at: usize) -> &'a Event {
        &self.recording.events[at]
    }

    /// The places of what carries an id, as heard.
    pub(super) fn with_id(&self, id: u64) -> &[usize] {
        self.by_id.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The places of a member's entries with an index, and of their applications.
    pub(super) fn entries(&self, member: u8, index: u64) -> &[usize] {
        self.entries.get(&(member, index)).map_or(&[], Vec::as_slice)
    }

    /// The beginnings of what has ended in this event.
    pub(super) fn begins(&self, end: &Event) -> &[usize] {
        let key = (end.member, end.stage, end.boot, end.clock);
        self.begins.get(&key).map_or(&[], Vec::as_slice)
    }
}
