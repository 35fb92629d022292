//! The joins: from an entry's index, or a round's id, to the loops' records that served it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Finder, Relation};
use crate::trace::{event::Event, message, record::Kind, stage::Stage};

/// What a message did for an entry; the first of each, per sender and receiver, is in the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Proposes,
    Carries,
    Acknowledges,
    TellsCommit,
}

fn field(event: &Event, name: &str) -> u64 {
    event.field(name).unwrap_or(0)
}

fn encloses(event: &Event, name: &str, index: u64) -> bool {
    let end = |end: &str| field(event, &format!("{name}.{end}"));
    end("old") < index && index <= end("new")
}

impl Finder<'_> {
    /// The log on disk, and the counting.
    pub(super) fn log(&mut self, index: u64) {
        let holds = |event: &Event| field(event, "first") <= index && index <= field(event, "last");
        self.first_on_each(Relation::Log, Stage::RaftEntry, |event| {
            matches!(event.stage, Stage::WalWrite | Stage::WalFsync) && holds(event)
        });
        self.first_on_each(Relation::Quorum, Stage::RaftEntry, |event| match event.stage {
            Stage::RaftProgress => encloses(event, "match", index),
            Stage::RaftCommit => encloses(event, "commit", index),
            _ => false,
        });
    }

    /// The way into the file.
    pub(super) fn store(&mut self, index: u64) {
        self.first_on_each(Relation::Store, Stage::ApplyEntry, |event| match event.stage {
            Stage::BufferFreeze => index <= field(event, "index"),
            Stage::BackendCommit => encloses(event, "index", index),
            _ => false,
        });
    }

    /// Picks on each member the first event of each stage (and peer) that is meant, after the
    /// member's own `after` of this request, and the beginning that belongs to it.
    fn first_on_each(
        &mut self,
        relation: Relation,
        after: Stage,
        is_meant: impl Fn(&Event) -> bool,
    ) {
        let mut picked = Vec::new();
        for events in self.lanes.values() {
            let start = events
                .iter()
                .position(|at| self.picked.contains_key(at) && self.event(*at).stage == after);
            let mut seen = HashSet::new();
            let mut clocks = HashSet::new();
            for at in &events[start.unwrap_or(0)..] {
                let event = self.event(*at);
                if event.kind != Kind::Begin
                    && is_meant(event)
                    && seen.insert((event.stage, event.field("peer")))
                {
                    picked.push(*at);
                    clocks.insert((event.stage, event.boot, event.clock));
                }
            }
            picked.extend(events.iter().copied().filter(|at| {
                let event = self.event(*at);
                event.kind == Kind::Begin
                    && clocks.contains(&(event.stage, event.boot, event.clock))
            }));
        }
        self.picked.extend(picked.into_iter().map(|at| (at, relation)));
    }

    /// The messages that carried the entry, acknowledged it, and told that it is committed.
    pub(super) fn messages(&mut self, id: u64, index: u64) {
        let proposer = self.proposer(id);
        let mut ends: HashMap<(Part, u8, u64), bool> = HashMap::new();
        for stage in [Stage::RaftSend, Stage::RaftReceive] {
            for at in self.order.rows.clone() {
                let event = self.event(at);
                if event.stage != stage || event.kind == Kind::Begin {
                    continue;
                }
                for part in self.parts(at, index, proposer) {
                    if ends.insert((part, event.member, field(event, "peer")), true).is_some() {
                        continue;
                    }
                    self.picked.insert(at, Relation::Message);
                    // A matched receive is the other end of this step, not another step.
                    if let Some(other) = self.order.partner.get(&at)
                        && stage == Stage::RaftSend
                    {
                        self.picked.insert(*other, Relation::Message);
                        let receive = self.event(*other);
                        ends.insert((part, receive.member, field(receive, "peer")), true);
                    }
                }
            }
        }
    }

    /// Where the request was handed to raft, unless its MsgProp is known by its id: the member, and
    /// the event after which the proposal left.
    fn proposer(&self, id: u64) -> Option<(u8, usize)> {
        let is_prop = |event: &Event| field(event, "type") == message::PROP;
        let known = self
            .picked
            .iter()
            .any(|(at, relation)| *relation == Relation::Message && is_prop(self.event(*at)));
        let handed = |event: &Event| {
            event.id == id && matches!(event.stage, Stage::RaftInbox | Stage::RaftPropose)
        };
        let at = self.order.rows.iter().position(|at| handed(self.event(*at)))?;
        let place = self.order.rows[at];
        (!known).then_some((self.event(place).member, at))
    }

    /// What the message did for the entry with this index.
    fn parts(&self, at: usize, index: u64, proposer: Option<(u8, usize)>) -> Vec<Part> {
        let event = self.event(at);
        let kind = field(event, "type");
        let mut parts = Vec::new();
        match kind {
            message::PROP => {
                let is_after = |rank: usize| self.rank.get(&at).is_some_and(|own| rank < *own);
                if event.stage == Stage::RaftSend
                    && proposer.is_some_and(|(from, rank)| from == event.member && is_after(rank))
                {
                    parts.push(Part::Proposes);
                }
            }
            message::APP if field(event, "index") < index && index <= field(event, "last") => {
                parts.push(Part::Carries);
            }
            message::APP_RESP if field(event, "reject") == 0 && index <= field(event, "index") => {
                parts.push(Part::Acknowledges);
            }
            _ => (),
        }
        if matches!(kind, message::APP | message::HEARTBEAT) && index <= field(event, "commit") {
            parts.push(Part::TellsCommit);
        }
        parts
    }

    /// The rounds that the read waited for, and all that carries their ids. Returns the rounds.
    pub(super) fn rounds(&mut self, id: u64) -> BTreeSet<u64> {
        let waits = self
            .recording
            .events
            .iter()
            .filter(|event| event.id == id && event.stage == Stage::ReadIndexWait);
        let mut rounds: BTreeSet<u64> =
            waits.flat_map(|event| [field(event, "round"), event.link]).collect();
        rounds.remove(&0);
        for (at, event) in self.recording.events.iter().enumerate() {
            if rounds.contains(&event.id) {
                self.picked.insert(at, Relation::Round);
            }
        }
        rounds
    }
}
