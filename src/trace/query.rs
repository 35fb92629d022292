//! The story of one request: what of all that was recorded belongs to it, on every member.
//!
//! A request's own steps carry its id. The loops' steps belong to none, and are joined:
//!
//! | what                              | joined by                                        |
//! |-----------------------------------|--------------------------------------------------|
//! | `raft.entry`, `apply.entry`, …    | id, on every member                              |
//! | `wal.write`, `wal.fsync`          | first range on each member that holds the index  |
//! | `raft.send`, `raft.receive`       | id; MsgApp whose entries hold the index; the first MsgAppResp that reaches it; the first message that tells a commit index that high |
//! | `raft.progress`, `raft.commit`    | the first whose old and new enclose the index    |
//! | `buffer.freeze`, `backend.commit` | the same, after the entry was applied            |
//! | `read_index.round`, `.confirmed`, messages of the round | the round that the read waited for |
//!
//! An index means an entry only while it stands in a member's log: an entry that a new leader's has
//! replaced has no later steps there, and what is said again to a new leader is not its story.
//!
//! Each of these is one step of the story, however many other requests it served as well. What must
//! have happened but is not in the recording is listed as missing: unknown, not absent.

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub mod diff;
pub mod graph;
mod joins;
pub mod path;
pub mod slow;

use super::{
    event::{Event, KeyText, Recording},
    order::Order,
    record::Kind,
    stage::{Family, Grain, METHODS, Stage},
};

/// Why a step is in the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// The request's own step, where it is served.
    Own,
    /// The entry in a member's log, and that log on disk.
    Log,
    /// A message that carried the entry, its acknowledgement, or the news of the commit.
    Message,
    /// Counting who has it.
    Quorum,
    /// The entry is applied.
    Apply,
    /// What was applied reaches the file.
    Store,
    /// The round of ReadIndex that let the read go.
    Round,
}

/// One step of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Place in [`Recording::events`].
    pub event: usize,
    /// How coarse it is.
    pub grain: Grain,
    /// Why it is here.
    pub relation: Relation,
}

/// A step that must have happened, or will, and is not in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// On which member.
    pub member: u8,
    /// Which step.
    pub stage: Stage,
}

/// Everything that is known of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The request.
    pub id: u64,
    /// What it was, in a few words.
    pub title: String,
    /// The entry's term and index, if it became one.
    pub entry: Option<(u64, u64)>,
    /// Another entry took its place before a majority had it: it was never committed.
    pub is_lost: bool,
    /// Its steps in playback order.
    pub steps: Vec<Step>,
    /// What is unknown.
    pub missing: Vec<Missing>,
    /// Members, by raft's id, that took part in it but were never heard: all of theirs is unknown.
    pub unheard: Vec<u64>,
}

/// A request in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The request.
    pub id: u64,
    /// The member that serves it, by place.
    pub member: u8,
    /// Its method; `unknown` for a number that this version does not know.
    pub method: &'static str,
    /// Its key, where it names one: the rpc's own, or that of any other of its steps.
    pub key: Option<KeyText>,
    /// Its first event, by place.
    pub event: usize,
    /// Its end, by place, with the numbers of the answer; `None` if it was not captured.
    pub end: Option<usize>,
    /// gRPC code; `None` while it is under way, or when its end was not captured.
    pub code: Option<u8>,
    /// How long it took, in nanoseconds, if it has ended.
    pub took_ns: Option<u64>,
}

/// All requests whose rpc was captured, in the order of their beginnings as heard.
pub fn requests(recording: &Recording) -> Vec<Summary> {
    let mut place: HashMap<(u8, u64), usize> = HashMap::new();
    let mut list: Vec<Summary> = Vec::new();
    for (at, event) in recording.events.iter().enumerate() {
        if event.stage != Stage::Rpc || event.id == 0 {
            continue;
        }
        let known = *place.entry((event.member, event.id)).or_insert(list.len());
        if known == list.len() {
            list.push(Summary {
                id: event.id,
                member: event.member,
                method: method_of(event),
                key: None,
                event: at,
                end: None,
                code: None,
                took_ns: None,
            });
        }
        let summary = &mut list[known];
        if summary.method == METHODS[0] {
            summary.method = method_of(event);
        }
        if event.key.is_some() {
            summary.key.clone_from(&event.key);
        }
        if event.kind == Kind::Span {
            (summary.code, summary.took_ns) = (Some(event.result), Some(event.took_ns));
            summary.end = Some(at);
        }
    }
    name_keys(recording, &mut list);
    list
}

/// Where the rpc's key was not captured, the steps of the same request may name it.
fn name_keys(recording: &Recording, list: &mut [Summary]) {
    let mut keys: HashMap<u64, &KeyText> = HashMap::new();
    for event in &recording.events {
        if let Some(key) = &event.key {
            keys.entry(event.id).or_insert(key);
        }
    }
    for summary in list.iter_mut().filter(|summary| summary.key.is_none()) {
        summary.key = keys.get(&summary.id).map(|key| (*key).clone());
    }
}

/// The name of the method that an rpc's event carries.
pub fn method_of(event: &Event) -> &'static str {
    let number = event.field("method").and_then(|number| usize::try_from(number).ok());
    number.and_then(|number| METHODS.get(number)).copied().unwrap_or(METHODS[0])
}

impl Story {
    /// Puts the story of a request together. `None` if nothing of it was captured.
    pub fn of(recording: &Recording, order: &Order, id: u64) -> Option<Story> {
        let mut finder = Finder::new(recording, order);
        finder.own(id);
        if finder.picked.is_empty() {
            return None;
        }
        let entry = finder.entry(id);
        let mut is_lost = false;
        if let Some((term, index)) = entry {
            let lives = finder.lives(id, (term, index));
            is_lost = joins::is_lost(&lives);
            finder.log(index, &lives);
            finder.messages(id, index, &lives);
            finder.store(index, &lives);
        }
        let rounds = finder.rounds(id);
        let missing = finder.missing(id, entry.is_some() && !is_lost, &rounds);
        let mut steps: Vec<(usize, Step)> = finder
            .picked
            .iter()
            .filter_map(|(event, relation)| {
                let grain = recording.events[*event].stage.grain();
                Some((*finder.rank.get(event)?, Step { event: *event, grain, relation: *relation }))
            })
            .collect();
        steps.sort_by_key(|(rank, _)| *rank);
        let steps = steps.into_iter().map(|(_, step)| step).collect();
        let unheard = finder.unheard(entry.is_some() && !is_lost);
        Some(Story { id, title: title(recording, id), entry, is_lost, steps, missing, unheard })
    }
}

fn title(recording: &Recording, id: u64) -> String {
    let of_id = |stage| recording.events.iter().filter(move |e| e.id == id && e.stage == stage);
    // The end knows more than the beginning.
    let Some(rpc) = of_id(Stage::Rpc).max_by_key(|event| event.kind) else {
        return format!("request {id:016x}, its rpc unknown");
    };
    let keys = of_id(Stage::Rpc).chain(of_id(Stage::TreeIndexPut));
    match keys.filter_map(|event| event.key.as_ref()).next() {
        Some(key) => format!("{} {}", method_of(rpc), key.display()),
        None => method_of(rpc).to_owned(),
    }
}

impl KeyText {
    /// The key for a reader: what is not printable is escaped, and `…` says that it was cut.
    pub fn display(&self) -> String {
        let cut = if (self.bytes.len() as u64) < self.length { "…" } else { "" };
        format!("{}{cut}", self.bytes.escape_ascii())
    }
}

/// Gathers the events of one story.
struct Finder<'a> {
    recording: &'a Recording,
    order: &'a Order,
    picked: BTreeMap<usize, Relation>,
    /// Members, with their boots, and the events of each in playback order.
    lanes: BTreeMap<u8, Vec<usize>>,
    /// When in playback order each event comes; those that are withheld do not.
    rank: HashMap<usize, usize>,
}

impl<'a> Finder<'a> {
    fn new(recording: &'a Recording, order: &'a Order) -> Finder<'a> {
        let mut lanes: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for at in &order.rows {
            lanes.entry(recording.events[*at].member).or_default().push(*at);
        }
        let rank = order.rows.iter().enumerate().map(|(rank, at)| (*at, rank)).collect();
        Finder { recording, order, picked: BTreeMap::new(), lanes, rank }
    }

    fn event(&self, at: usize) -> &'a Event {
        &self.recording.events[at]
    }

    /// Everything that carries the request's id.
    fn own(&mut self, id: u64) {
        let of_id = |(_, event): &(usize, &Event)| event.id == id;
        for (at, event) in self.recording.events.iter().enumerate().filter(of_id) {
            let relation = match event.stage {
                Stage::RaftEntry => Relation::Log,
                stage if stage.family() == Family::Loop => Relation::Message,
                Stage::ApplyEntry
                | Stage::AuthAuthorize
                | Stage::MvccWrite
                | Stage::TreeIndexPut
                | Stage::TreeIndexTombstone
                | Stage::BufferPut
                | Stage::MvccCompact
                | Stage::WatchNotify
                | Stage::WatchQueue => Relation::Apply,
                _ => Relation::Own,
            };
            self.picked.insert(at, relation);
        }
    }

    /// The entry's term and index.
    fn entry(&self, id: u64) -> Option<(u64, u64)> {
        let entries = self.recording.events.iter().filter(|event| {
            event.id == id && matches!(event.stage, Stage::RaftEntry | Stage::ApplyEntry)
        });
        entries.filter_map(|event| event.field("term").zip(event.field("index"))).max()
    }

    /// Members to which, or from which, the story's messages went, and which were never heard. An
    /// entry concerns every member that anybody talks to.
    fn unheard(&self, is_entry: bool) -> Vec<u64> {
        let named = self.recording.events.iter().enumerate().filter(|(at, event)| {
            matches!(event.stage, Stage::RaftSend | Stage::RaftReceive)
                && (is_entry || self.picked.contains_key(at))
        });
        let mut peers: BTreeSet<u64> = named.filter_map(|(_, event)| event.field("peer")).collect();
        self.recording.members.iter().for_each(|member| _ = peers.remove(&member.member_id));
        peers.remove(&0);
        peers.into_iter().collect()
    }

    /// What is known to have happened and is not in the recording.
    fn missing(&self, id: u64, is_entry: bool, rounds: &BTreeSet<u64>) -> Vec<Missing> {
        const OF_ENTRY: &[Stage] = &[
            Stage::RaftEntry,
            Stage::WalWrite,
            Stage::WalFsync,
            Stage::RaftCommit,
            Stage::ApplyEntry,
            Stage::BackendCommit,
        ];
        let has = |member: u8, stage: Stage| {
            self.picked.keys().map(|at| self.event(*at)).any(|event| {
                (event.member, event.stage) == (member, stage) && event.kind != Kind::Begin
            })
        };
        let mut missing = Vec::new();
        if is_entry {
            for place in 0..self.recording.members.len() {
                let member = u8::try_from(place).unwrap_or(u8::MAX);
                let unknown = OF_ENTRY.iter().filter(|stage| !has(member, **stage));
                missing.extend(unknown.map(|stage| Missing { member, stage: *stage }));
            }
        }
        let rpc = self.recording.events.iter().find(|e| e.id == id && e.stage == Stage::Rpc);
        if let Some(Event { member, .. }) = rpc {
            let round = Stage::ReadIndexRound;
            if !rounds.is_empty() && !has(*member, round) {
                missing.push(Missing { member: *member, stage: round });
            }
            if !has(*member, Stage::Rpc) {
                missing.push(Missing { member: *member, stage: Stage::Rpc });
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests;
