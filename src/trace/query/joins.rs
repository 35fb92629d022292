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

fn is_on_disk(event: &Event, stage: Stage, index: u64) -> bool {
    event.stage == stage && (field(event, "first")..=field(event, "last")).contains(&index)
}

/// Whether another entry has taken this one's place somewhere: what is committed stays, so this
/// one never was.
pub(super) fn is_lost(lives: &HashMap<u8, Life>) -> bool {
    lives.values().any(|life| life.replaced != usize::MAX)
}

/// From where to where, in playback order, an index of the log means this entry on a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// The entry is in the member's log; 0 when that was not captured.
    start: usize,
    /// Another entry has its index: this one was lost.
    replaced: usize,
    /// It is committed and on the member's disk, and since then the member has started again or has
    /// another role, term or leader: what a new leader asks is not about this entry.
    settled: usize,
}

impl Finder<'_> {
    /// Looks on each member for the times in which the index means this entry.
    pub(super) fn lives(&self, id: u64, entry: (u64, u64)) -> HashMap<u8, Life> {
        self.lanes.iter().map(|(member, lane)| (*member, self.life(lane, id, entry))).collect()
    }

    fn life(&self, lane: &[usize], id: u64, (term, index): (u64, u64)) -> Life {
        let is_entry = |event: &Event| {
            matches!(event.stage, Stage::RaftEntry | Stage::ApplyEntry)
                && field(event, "index") == index
        };
        let own = lane.iter().position(|at| is_entry(self.event(*at)) && self.event(*at).id == id);
        let is_other = |event: &Event| {
            let other = field(event, "term");
            // Without this entry, an older one may have been replaced by it, unseen.
            is_entry(event) && if own.is_some() { other != term } else { term < other }
        };
        let rest = &lane[own.unwrap_or(0)..];
        let rank = |at: Option<&usize>| at.map_or(usize::MAX, |at| self.rank[at]);
        let replaced = match rest.iter().find(|at| is_other(self.event(**at))) {
            Some(_) if own.is_none() => 0,
            at => rank(at),
        };
        let start = own.map_or(0, |at| self.rank[&lane[at]]);
        let (mut is_committed, mut is_synced) = (false, false);
        let mut boot = 0;
        let settled = lane.iter().find(|at| {
            let event = self.event(**at);
            if is_committed && is_synced {
                return event.stage == Stage::RaftRole || event.boot != boot;
            }
            boot = event.boot;
            is_committed |= event.stage == Stage::RaftCommit && encloses(event, "commit", index);
            is_synced |= is_on_disk(event, Stage::WalFsync, index)
                && event.kind == Kind::Span
                && start <= self.rank[*at];
            false
        });
        Life { start, replaced, settled: rank(settled) }
    }

    /// The log on disk, and the counting.
    pub(super) fn log(&mut self, index: u64, lives: &HashMap<u8, Life>) {
        self.first_on_each(Relation::Log, lives, |event| {
            is_on_disk(event, Stage::WalWrite, index) || is_on_disk(event, Stage::WalFsync, index)
        });
        self.first_on_each(Relation::Quorum, lives, |event| match event.stage {
            Stage::RaftProgress => encloses(event, "match", index),
            Stage::RaftCommit => encloses(event, "commit", index),
            _ => false,
        });
    }

    /// The way into the file, after the entry was applied.
    pub(super) fn store(&mut self, index: u64, lives: &HashMap<u8, Life>) {
        let applied = |(member, life): (&u8, &Life)| {
            let is_apply = |at: &&usize| {
                self.event(**at).stage == Stage::ApplyEntry && self.picked.contains_key(*at)
            };
            let at = self.lanes[member].iter().find(is_apply);
            let start = at.map_or(life.start, |at| self.rank[at]);
            (*member, Life { start, ..*life })
        };
        let lives = lives.iter().map(applied).collect();
        self.first_on_each(Relation::Store, &lives, |event| match event.stage {
            Stage::BufferFreeze => index <= field(event, "index"),
            Stage::BackendCommit => encloses(event, "index", index),
            _ => false,
        });
    }

    /// Picks on each member the first event of each stage (and peer) that is meant, in the entry's
    /// life there, and the beginning that belongs to it.
    fn first_on_each(
        &mut self,
        relation: Relation,
        lives: &HashMap<u8, Life>,
        is_meant: impl Fn(&Event) -> bool,
    ) {
        let is_lost = is_lost(lives);
        let mut picked = Vec::new();
        for (member, events) in &self.lanes {
            let life = lives[member];
            let mut seen = HashSet::new();
            let mut clocks = HashSet::new();
            for at in events {
                let (event, rank) = (self.event(*at), self.rank[at]);
                let span = match event.stage {
                    Stage::RaftProgress => life.start..life.replaced.min(life.settled),
                    // One message may carry the entry and the news of its commit; then raft knows
                    // of the commit before the entry is taken out of it.
                    Stage::RaftCommit if is_lost => 0..0,
                    Stage::RaftCommit => 0..usize::MAX,
                    _ => life.start..life.replaced,
                };
                if span.contains(&rank)
                    && event.kind != Kind::Begin
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
    pub(super) fn messages(&mut self, id: u64, index: u64, lives: &HashMap<u8, Life>) {
        let proposer = self.proposer(id);
        let learned = self.learned();
        let mut ends: HashSet<(Part, u8, u64)> = HashSet::new();
        for stage in [Stage::RaftSend, Stage::RaftReceive] {
            for at in self.order.rows.clone() {
                let event = self.event(at);
                if event.stage != stage || event.kind == Kind::Begin {
                    continue;
                }
                for part in self.parts(at, index, proposer) {
                    if !self.is_in_time(at, part, lives, &learned)
                        || !ends.insert((
                            part,
                            self.event(at).member,
                            field(self.event(at), "peer"),
                        ))
                    {
                        continue;
                    }
                    self.picked.insert(at, Relation::Message);
                    // A matched receive is the other end of this step, not another step.
                    if let Some(other) = self.order.partner.get(&at)
                        && stage == Stage::RaftSend
                    {
                        self.picked.insert(*other, Relation::Message);
                        let receive = self.event(*other);
                        ends.insert((part, receive.member, field(receive, "peer")));
                    }
                }
            }
        }
    }

    /// When each member's commit index reached the entry.
    fn learned(&self) -> HashMap<u8, usize> {
        let commits = self.picked.keys().filter(|at| self.event(**at).stage == Stage::RaftCommit);
        commits.map(|at| (self.event(*at).member, self.rank[at])).collect()
    }

    /// Whether the message still meant this entry to the member whom it concerns: the one that is
    /// to get it, to learn of its commit, or that says it has it.
    fn is_in_time(
        &self,
        at: usize,
        part: Part,
        lives: &HashMap<u8, Life>,
        learned: &HashMap<u8, usize>,
    ) -> bool {
        let event = self.event(at);
        let is_send = event.stage == Stage::RaftSend;
        let peer = field(event, "peer");
        let peer = self.recording.members.iter().position(|member| member.member_id == peer);
        let peer = peer.and_then(|place| u8::try_from(place).ok());
        let concerned = match part {
            Part::Proposes => return true,
            Part::Carries | Part::TellsCommit => {
                if is_send {
                    peer
                } else {
                    Some(event.member)
                }
            }
            Part::Acknowledges => {
                if is_send {
                    Some(event.member)
                } else {
                    peer
                }
            }
        };
        let rank = self.rank[&at];
        let is_news = || {
            let learned = concerned.and_then(|member| learned.get(&member));
            part != Part::TellsCommit || learned.is_none_or(|learned| rank < *learned)
        };
        // Neither side has another entry in this one's place.
        let ends = [Some(event.member), peer].into_iter().flatten();
        let is_same = |member: u8| lives.get(&member).is_none_or(|life| rank < life.replaced);
        let life = concerned.and_then(|member| lives.get(&member));
        ends.clone().all(is_same) && life.is_none_or(|life| rank < life.settled) && is_news()
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
        let member = self.event(self.order.rows[at]).member;
        // A leader needs no proposal; what it proposes later, as a follower, is another request's.
        let is_leader = self.picked.keys().any(|at| {
            let event = self.event(*at);
            event.id == id
                && event.stage == Stage::RaftPropose
                && field(event, "leader") == self.recording.members[usize::from(member)].member_id
        });
        (!known && !is_leader).then_some((member, at))
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
