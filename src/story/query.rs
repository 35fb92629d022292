//! The story of one request: all recorded events that belong to it, on every member.
//!
//! A request's own steps carry its id. The loops' steps carry none, and are joined:
//!
//! | what                              | joined by                                        |
//! |-----------------------------------|--------------------------------------------------|
//! | `raft.entry`, `apply.entry`, …    | id, on every member                              |
//! | `wal.write`, `wal.fsync`          | index and order: that of the entry of this term, on each member |
//! | `raft.stable`                     | the first whose old and new enclose the index    |
//! | `raft.send`, `raft.receive`       | id; MsgApp whose entries hold the index; the first MsgAppResp that reaches it; the first message with a commit index that high |
//! | `raft.progress`, `raft.commit`    | the first whose old and new enclose the index    |
//! | `buffer.freeze`, `backend.commit` | the same, after the entry was applied            |
//! | `read_index.round`, `.confirmed`, messages of the round | the round that the read waited for |
//! | `watch.send` to a watcher that caught up | the revision with which it begins or ends |
//! | `watch.sync`                      | the number of the pass, in the watcher's `watch.forward` |
//!
//! An index identifies an entry only while that entry is in a member's log: an entry replaced by a
//! new leader's has no later steps there, and what is repeated to a new leader is not part of its
//! story. A message of an earlier term than the entry's is about another entry. Which of two writes
//! of an index was the entry's, `writes` says.
//!
//! Each of these is one step of the story, even if it served other requests as well. A step that
//! must have happened but is not in the recording is listed as missing: unknown, not absent.

use std::collections::{BTreeMap, BTreeSet};

pub mod address;
pub mod afterwards;
pub mod ahead;
mod brief;
pub mod callers;
pub mod chain;
pub mod cluster;
pub mod diff;
mod drops;
pub mod election;
pub mod find;
pub mod graph;
pub mod incidents;
mod joins;
mod missing;
pub mod passes;
pub mod path;
mod ranges;
mod repair;
mod requests;
pub mod silence;
pub mod slow;
pub mod stalls;
mod stories;
pub mod thinned;
pub mod through;
pub mod typed;
pub mod unbegun;
pub mod usual;
mod wait;
mod work;
mod writes;

pub use requests::{Flow, Outcome, Summary, method_of, requests};
pub use stories::Stories;

use ranges::Ranges;

use super::order::Order;
use crate::{
    change, field, fields,
    story::{Event, KeyText, Recording},
    trace::{
        THREADS,
        stage::{Family, Grain, Stage},
    },
};

/// Why a step is part of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// The request's own step, on the member that serves it.
    Own,
    /// The entry in a member's log, and that log on disk.
    Log,
    /// A message that carried the entry, its acknowledgement, or its commit index.
    Message,
    /// The counting of acknowledgements.
    Quorum,
    /// The application of the entry.
    Apply,
    /// The write of the applied entry to the file.
    Store,
    /// The round of ReadIndex that the read waited for.
    Round,
    /// The step of a loop that made the member send the request by itself.
    Cause,
    /// Work of a loop for which the request is the reason: the removal of compacted revisions.
    Aftermath,
    /// A time in which a member that took part in the request had no CPU, or its process stood
    /// still.
    Stall,
    /// A step of an election, of a step-down, or of the votes in between.
    Election,
    /// Events of other requests, sent to the request's watcher.
    Delivery,
    /// Work of another request, which the member has made to carry this one out: the grant of a
    /// lock's lease, or the deletion of its key.
    Part,
}

/// One step of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Position of the event in [`Recording::events`].
    pub event: usize,
    /// Its level of detail.
    pub grain: Grain,
    /// Why it is part of the story.
    pub relation: Relation,
}

/// A step that must have happened, may yet, or never will, and is not in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The member, by position.
    pub member: u8,
    /// The stage of the step that is missing.
    pub stage: Stage,
    /// Position of the member's newest record that proves that it had not happened by then: so far
    /// nothing is missing.
    pub not_by: Option<usize>,
    /// Whether it never happened: `not_by` is the last record of the process that was to take it,
    /// and the member has started again since.
    pub is_never: bool,
}

/// Everything known of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Id of the request.
    pub id: u64,
    /// The method and the key, for a heading.
    pub title: String,
    /// Term and index of its entry, if it became one.
    pub entry: Option<(u64, u64)>,
    /// Whether another entry replaced it before a majority had it, so that it was never committed.
    pub is_lost: bool,
    /// Its steps in playback order.
    pub steps: Vec<Step>,
    /// Steps that must have happened but were not captured, and those that had not happened yet or
    /// never did.
    pub missing: Vec<Missing>,
    /// Members, by raft's id, that took part in it but sent no records: all their steps are
    /// unknown.
    pub unheard: Vec<u64>,
    /// How many members' disks count for its entry; `None` if that is unknown, or if it has none.
    pub voters: Option<usize>,
    /// Positions of events sent to watchers that caught up over its revision: they may have
    /// included it.
    pub maybe_told: Vec<usize>,
    /// The members, by position, that left out quick steps while they worked for it.
    pub brief: Vec<u8>,
}

impl Story {
    /// Builds the story of a request. `None` if nothing of it was captured. For more than one story
    /// use [`Stories`], which reads the recording only once.
    pub fn of(recording: &Recording, order: &Order, id: u64) -> Option<Story> {
        Stories::new(recording, order).of(id)
    }
}

impl KeyText {
    /// The key for display: unprintable bytes are escaped, and `…` marks a cut key.
    pub fn display(&self) -> String {
        let cut = if (self.bytes.len() as u64) < self.length { "…" } else { "" };
        format!("{}{cut}", self.bytes.escape_ascii())
    }
}

/// Collects the events of one story.
struct Finder<'a> {
    stories: &'a Stories<'a>,
    picked: BTreeMap<usize, Relation>,
}

impl<'a> Finder<'a> {
    fn new(stories: &'a Stories<'a>) -> Finder<'a> {
        Finder { stories, picked: BTreeMap::new() }
    }

    fn story(stories: &'a Stories<'a>, id: u64) -> Option<Story> {
        let mut finder = Finder::new(stories);
        finder.own(id);
        finder.loops(id);
        finder.parts(id);
        finder.deliveries(id);
        if finder.picked.is_empty() {
            return None;
        }
        let entry = finder.entry(id);
        let mut is_lost = false;
        if let Some((term, index)) = entry {
            let lives = finder.lives(id, (term, index));
            is_lost = joins::is_lost(&lives);
            finder.log(index, &lives);
            finder.messages(id, (term, index), &lives);
            finder.drops((term, index), &lives);
            finder.store(index, &lives);
        }
        let maybe_told = finder.caught_up();
        let rounds = finder.rounds(id);
        finder.stalls(id);
        let missing = finder.missing(id, entry.filter(|_| !is_lost), &rounds);
        let unheard = finder.unheard(entry.is_some() && !is_lost);
        let (title, steps) = (finder.title(id), finder.steps());
        let brief = Vec::new();
        let voters = entry.and_then(|(_, index)| stories.voters(index));
        let mut story =
            Story { id, title, entry, is_lost, steps, missing, unheard, voters, maybe_told, brief };
        stories.briefs.note(stories.recording, &mut story);
        Some(story)
    }

    fn event(&self, at: usize) -> &'a Event {
        self.stories.event(at)
    }

    /// Watchers that catch up are related to revisions, not to requests. Those whose batch begins
    /// or ends with this request's revision received it, and are steps of the story; those that
    /// passed over it are returned.
    fn caught_up(&mut self) -> Vec<usize> {
        let picked = self.picked.keys().map(|at| self.event(*at));
        let mut writes = picked.filter(|event| event.stage == Stage::MvccWrite);
        let revision = writes.find_map(|event| {
            let [old, new] = change!(event, MvccWrite, revision);
            (old < new).then_some(new)
        });
        let Some(revision) = revision else { return Vec::new() };
        let ends = |at: usize| fields!(self.event(at), WatchSend: first, last);
        let went_over = |at: &usize| {
            let [first, last] = ends(*at);
            (first..=last).contains(&revision) && self.rank(*at) != usize::MAX
        };
        let sent = self.stories.caught_up.iter().copied().filter(went_over);
        let (told, maybe): (Vec<usize>, Vec<usize>) =
            sent.partition(|at| ends(*at).contains(&revision));
        self.picked.extend(told.into_iter().map(|at| (at, Relation::Apply)));
        maybe
    }

    /// The playback rank of an event; `usize::MAX` if it is withheld.
    fn rank(&self, at: usize) -> usize {
        self.stories.rank[at]
    }

    /// The ranges of entries that a member's records of a stage cover, by peer.
    fn covered(
        &self,
        member: u8,
        stage: Stage,
    ) -> impl Iterator<Item = (&'a (u8, Stage, Option<u64>), &'a Ranges)> + use<'a> {
        let all = (member, stage, None)..=(member, stage, Some(u64::MAX));
        self.stories.covered.range(all)
    }

    /// The collected events that are not withheld, in playback order.
    fn steps(&self) -> Vec<Step> {
        let told = self.picked.iter().filter(|(at, _)| self.rank(**at) != usize::MAX);
        let step = |(at, relation): (&usize, &Relation)| {
            let grain = self.event(*at).stage.grain();
            Step { event: *at, grain, relation: *relation }
        };
        let mut steps: Vec<Step> = told.map(step).collect();
        steps.sort_by_key(|step| self.rank(step.event));
        steps
    }

    fn title(&self, id: u64) -> String {
        let own = self.stories.with_id(id);
        let of = |stage| own.iter().map(|at| self.event(*at)).filter(move |e| e.stage == stage);
        // The end has more fields than the beginning.
        let keys = of(Stage::Rpc).chain(of(Stage::TreeIndexPut));
        let key = keys.filter_map(|event| event.key.as_ref()).next();
        match (of(Stage::Rpc).max_by_key(|event| event.kind), key) {
            (Some(rpc), Some(key)) => format!("{} {}", method_of(rpc), key.display()),
            (Some(rpc), None) => method_of(rpc).to_owned(),
            (None, Some(key)) => format!("a write of {}, its rpc not captured", key.display()),
            (None, None) => format!("request {id:016x}, its rpc not captured"),
        }
    }

    /// Adds every event that carries the request's id.
    fn own(&mut self, id: u64) {
        let relation = |at: usize| match self.event(at).stage {
            Stage::RaftEntry => Relation::Log,
            // Every member compares when it applies a transaction.
            Stage::TxnCompare | Stage::TxnBranch
                if THREADS.get(usize::from(self.event(at).thread)) == Some(&"apply") =>
            {
                Relation::Apply
            }
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
        self.picked = self.stories.with_id(id).iter().map(|at| (*at, relation(*at))).collect();
    }

    /// Adds the steps of loops that caused the request, and those that it caused.
    fn loops(&mut self, id: u64) {
        let causes = self.stories.causes(id).iter().map(|at| (*at, Relation::Cause));
        self.picked.extend(causes);
        let own = self.stories.with_id(id).iter().map(|at| self.event(*at));
        let compactions = own.filter(|event| event.stage == Stage::MvccCompact);
        let revision = compactions.map(|event| field!(event, MvccCompact, compacted_new)).max();
        if let Some(revision) = revision {
            let removed = self.stories.compactions(revision).iter();
            self.picked.extend(removed.map(|at| (*at, Relation::Aftermath)));
        }
    }

    /// Adds the steps of the requests that the member has made to carry this one out.
    fn parts(&mut self, id: u64) {
        let own = self.stories.with_id(id).iter().map(|at| self.event(*at));
        let parts: BTreeSet<u64> = own
            .filter_map(|event| match event.stage {
                Stage::SessionGrant => Some(field!(event, SessionGrant, request)),
                Stage::LockRelease => Some(field!(event, LockRelease, request)),
                Stage::CampaignProclaim => Some(field!(event, CampaignProclaim, request)),
                _ => None,
            })
            .collect();
        for part in parts.into_iter().filter(|part| *part != 0) {
            let all = self.stories.with_id(part).iter();
            self.picked.extend(all.map(|at| (*at, Relation::Part)));
        }
    }

    /// Adds the events that the request's watchers have received, and the passes that brought them
    /// forward.
    fn deliveries(&mut self, id: u64) {
        let own = self.stories.with_id(id).iter().map(|at| self.event(*at));
        let created = own.filter(|event| event.stage == Stage::WatchCreate);
        let watchers: BTreeSet<(u8, u16, u64)> = created
            .map(|event| (event.member, event.boot, field!(event, WatchCreate, watcher)))
            .collect();
        for watcher in watchers {
            let sent = self.stories.deliveries(watcher).iter();
            self.picked.extend(sent.map(|at| (*at, Relation::Delivery)));
        }
        let own = self.stories.with_id(id).iter().map(|at| self.event(*at));
        let forward = own.filter(|event| event.stage == Stage::WatchForward);
        let passes = forward.filter_map(|event| self.stories.passes.of_mark(event));
        self.picked.extend(passes.map(|at| (at, Relation::Aftermath)).collect::<Vec<_>>());
    }

    /// Term and index of the request's entry.
    fn entry(&self, id: u64) -> Option<(u64, u64)> {
        let own = self.stories.with_id(id).iter().map(|at| self.event(*at));
        let entries =
            own.filter(|event| matches!(event.stage, Stage::RaftEntry | Stage::ApplyEntry));
        entries.map(|event| fields!(event, RaftEntry | ApplyEntry: term, index).into()).max()
    }

    /// Members that sent or received the story's messages, but sent no records. An entry concerns
    /// every member that any other communicates with.
    fn unheard(&self, is_entry: bool) -> Vec<u64> {
        let strangers = self.stories.strangers.iter().copied();
        if is_entry {
            return strangers.collect();
        }
        let messages = self
            .picked
            .keys()
            .map(|at| self.event(*at))
            .filter(|event| matches!(event.stage, Stage::RaftSend | Stage::RaftReceive));
        let peers: BTreeSet<u64> =
            messages.map(|event| field!(event, RaftSend | RaftReceive, peer)).collect();
        strangers.filter(|stranger| peers.contains(stranger)).collect()
    }
}

#[cfg(test)]
mod tests;
