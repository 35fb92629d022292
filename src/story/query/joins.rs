//! The joins: from an entry's index, or a round's id, to the records of loops that served it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Finder, Relation, ranges::Named};
use crate::{
    field,
    story::Event,
    trace::{message, record::Kind, stage::Stage},
};

/// The part of a message in an entry's replication; the story has the first of each per sender and
/// receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    Proposes,
    Carries,
    Acknowledges,
    TellsCommit,
}

/// Whether another entry has replaced this one somewhere: committed entries stay, so this one never
/// was committed.
pub(super) fn is_lost(lives: &HashMap<u8, Life>) -> bool {
    lives.values().any(|life| life.replaced != usize::MAX)
}

/// The time in which an index of the log means this entry on a member; ranks are those of the
/// playback order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// Rank from which the index may mean this entry: its append; if that was not captured, the
    /// append of the entry before it, or 0.
    pub(super) start: usize,
    /// Boot and clock of its append, if that was captured.
    pub(super) appended: Option<(u16, u64)>,
    /// Rank of its application; `usize::MAX` if that was not captured.
    pub(super) applied: usize,
    /// Whether the log had another entry at the index before.
    pub(super) is_second: bool,
    /// Rank at which another entry takes its index: this one was lost. `usize::MAX` if none does.
    pub(super) replaced: usize,
    /// Boot and clock of the append of that other entry.
    pub(super) next: Option<(u16, u64)>,
    /// Rank at which, after the entry was committed and on the member's disk, the member starts
    /// again or changes role, term or leader: a new leader's questions are not about this entry.
    settled: usize,
}

impl Finder<'_> {
    /// Finds the period on each member in which the index means this entry.
    pub(super) fn lives(&self, id: u64, (term, index): (u64, u64)) -> HashMap<u8, Life> {
        let members = self.stories.breaks.keys();
        members.map(|member| (*member, self.life(*member, id, term, index))).collect()
    }

    fn life(&self, member: u8, id: u64, term: u64, index: u64) -> Life {
        let entries = self.stories.entries(member, index);
        let term_of = |at: &usize| field!(self.event(*at), RaftEntry | ApplyEntry, term);
        // A request that is proposed again may come to the same index, in a later term.
        let own = |stage: Stage| {
            entries.iter().position(|at| {
                let event = self.event(*at);
                event.stage == stage && event.id == id && term_of(at) == term
            })
        };
        let (append, apply) = (own(Stage::RaftEntry), own(Stage::ApplyEntry));
        let moment = |at: &usize| (self.event(*at).boot, self.event(*at).clock);
        let known = append.or(apply);
        let (earlier, later) = entries.split_at(known.unwrap_or_else(|| {
            // Without a record of this entry, its term says where it would be.
            entries.partition_point(|at| term_of(at) <= term)
        }));
        let before = earlier.iter().rfind(|at| term_of(at) != term);
        let next = later.iter().find(|at| term_of(at) != term);
        // If nothing but a later entry is known there, an older one may have been there as well.
        let unseen = next.filter(|_| known.is_none());
        let start = append.map(|own| &entries[own]).or(unseen).or(before);
        let start = start.map_or(0, |at| self.rank(*at));
        let life = Life {
            start,
            appended: append.map(|own| moment(&entries[own])),
            applied: apply.map_or(usize::MAX, |own| self.rank(entries[own])),
            is_second: before.is_some() || self.stories.cuts(member, (term, index)),
            replaced: next.map_or(usize::MAX, |at| self.rank(*at)),
            next: next.map(moment),
            settled: usize::MAX,
        };
        Life { settled: self.settled(member, index, &life), ..life }
    }

    /// The rank at which the member turned to other work, after the entry was committed and on its
    /// disk.
    fn settled(&self, member: u8, index: u64, life: &Life) -> usize {
        let commits = self.covered(member, Stage::RaftCommit);
        let commits =
            commits.filter_map(|(_, ranges)| ranges.first(0..usize::MAX, index, |_| true));
        let committed = commits.map(|named| named.rank).min();
        let fsyncs = self.covered(member, Stage::WalFsync);
        let fsyncs = fsyncs.filter_map(|(_, ranges)| self.write_of(ranges, index, life));
        let synced = fsyncs.map(|named| named.rank).min();
        let Some((committed, synced)) = committed.zip(synced) else { return usize::MAX };
        let breaks = &self.stories.breaks[&member];
        let next = breaks.partition_point(|rank| *rank <= committed.max(synced));
        breaks.get(next).copied().unwrap_or(usize::MAX)
    }

    /// Adds the log on disk, and the counting.
    pub(super) fn log(&mut self, index: u64, lives: &HashMap<u8, Life>) {
        let stages = [Stage::WalWrite, Stage::WalFsync, Stage::RaftStable];
        self.first_on_each(Relation::Log, lives, index, &stages);
        self.first_on_each(
            Relation::Quorum,
            lives,
            index,
            &[Stage::RaftProgress, Stage::RaftCommit],
        );
    }

    /// Adds the way into the file, after the entry was applied.
    pub(super) fn store(&mut self, index: u64, lives: &HashMap<u8, Life>) {
        let applied = |(member, life): (&u8, &Life)| {
            let is_apply = |at: &&usize| {
                let event = self.event(**at);
                (event.member, event.stage) == (*member, Stage::ApplyEntry)
            };
            let told = self.picked.keys().filter(is_apply).map(|at| self.rank(*at));
            let first = told.min().filter(|rank| *rank != usize::MAX);
            (*member, Life { start: first.unwrap_or(life.start), ..*life })
        };
        let lives = lives.iter().map(applied).collect();
        let stages = [Stage::BufferFreeze, Stage::BackendCommit];
        self.first_on_each(Relation::Store, &lives, index, &stages);
    }

    /// Picks, on each member, the first event of each of the stages (and peers) that covers the
    /// index within the entry's period there, and the beginning that belongs to it.
    fn first_on_each(
        &mut self,
        relation: Relation,
        lives: &HashMap<u8, Life>,
        index: u64,
        stages: &[Stage],
    ) {
        let is_lost = is_lost(lives);
        let mut picked = Vec::new();
        for (member, life) in lives {
            for stage in stages.iter().copied() {
                let span = match stage {
                    Stage::RaftProgress => life.start..life.replaced.min(life.settled),
                    // One message may carry both the entry and the new commit index; then raft
                    // advances its commit index before the entry is taken out of the message.
                    Stage::RaftCommit if is_lost => 0..0,
                    Stage::RaftCommit => 0..usize::MAX,
                    _ => life.start..life.replaced,
                };
                for (_, ranges) in self.covered(*member, stage) {
                    let is_end = |named: &Named| self.event(named.event).kind != Kind::Begin;
                    let first = match stage {
                        Stage::WalWrite | Stage::WalFsync => self.write_of(ranges, index, life),
                        _ => ranges.first(span.clone(), index, is_end),
                    };
                    let Some(named) = first else { continue };
                    picked.push(named.event);
                    picked.extend(self.stories.begins(self.event(named.event)));
                }
            }
        }
        self.picked.extend(picked.into_iter().map(|at| (at, relation)));
    }

    /// Adds the messages that carried the entry, acknowledged it, or carried its commit index.
    pub(super) fn messages(
        &mut self,
        id: u64,
        (term, index): (u64, u64),
        lives: &HashMap<u8, Life>,
    ) {
        let proposer = self.proposer(id);
        let learned = self.learned();
        let mut ends: HashSet<(Part, u8, u64)> = HashSet::new();
        for stage in [Stage::RaftSend, Stage::RaftReceive] {
            let all = self.stories.messages.iter().filter(|((end, ..), _)| *end == stage);
            let mut firsts: Vec<(usize, Part, usize)> = Vec::new();
            for ((_, part, member, peer), ranges) in all {
                let ranks = match (*part, proposer) {
                    (Part::Proposes, Some((from, rank))) if from == *member => rank + 1..usize::MAX,
                    (Part::Proposes, _) => continue,
                    _ => 0..self.end_of_time((stage, *part, *member, *peer), lives, &learned),
                };
                let is_own = |at: usize| match part {
                    // A MsgProp with one entry has the id of its request.
                    Part::Proposes => [0, id].contains(&self.event(at).id),
                    // In an earlier term the index meant another entry. 0: that is not recorded.
                    _ => match field!(self.event(at), RaftSend | RaftReceive, term) {
                        0 => true,
                        of_message => term <= of_message,
                    },
                };
                let first = ranges.first(ranks, index, |named| is_own(named.event));
                firsts.extend(first.map(|named| (named.rank, *part, named.event)));
            }
            firsts.sort_unstable();
            for (_, part, at) in firsts {
                let peer = |event: &Event| field!(event, RaftSend | RaftReceive, peer);
                let event = self.event(at);
                if !ends.insert((part, event.member, peer(event))) {
                    continue;
                }
                self.picked.insert(at, Relation::Message);
                // A matched receive is the other end of this step, not another step.
                if let Some(other) = self.stories.order.partner.get(&at)
                    && stage == Stage::RaftSend
                {
                    self.picked.insert(*other, Relation::Message);
                    let receive = self.event(*other);
                    ends.insert((part, receive.member, peer(receive)));
                }
            }
        }
    }

    /// The rank at which each member's commit index reached the entry.
    pub(super) fn learned(&self) -> HashMap<u8, usize> {
        let commits = self.picked.keys().filter(|at| self.event(**at).stage == Stage::RaftCommit);
        let told = commits.map(|at| (self.event(*at).member, self.rank(*at)));
        told.filter(|(_, rank)| *rank != usize::MAX).collect()
    }

    /// The rank up to which such a message meant this entry to the member that it concerns: the one
    /// that receives the entry, learns of its commit, or acknowledges it.
    pub(super) fn end_of_time(
        &self,
        (stage, part, member, peer): (Stage, Part, u8, u64),
        lives: &HashMap<u8, Life>,
        learned: &HashMap<u8, usize>,
    ) -> usize {
        let members = &self.stories.recording.members;
        let peer = members.iter().position(|other| other.member_id == peer);
        let peer = peer.and_then(|place| u8::try_from(place).ok());
        let is_senders = part == Part::Acknowledges;
        let is_own = (stage == Stage::RaftSend) == is_senders;
        let concerned = if is_own { Some(member) } else { peer };
        // On neither side has another entry replaced this one.
        let ends = [Some(member), peer].into_iter().flatten();
        let replaced = ends.filter_map(|end| lives.get(&end)).map(|life| life.replaced);
        let settled = concerned.and_then(|who| lives.get(&who)).map(|life| life.settled);
        // A commit index is no news to a member that has reached it.
        let known = concerned.and_then(|who| learned.get(&who)).copied();
        let known = known.filter(|_| part == Part::TellsCommit);
        replaced.chain(settled).chain(known).min().unwrap_or(usize::MAX)
    }

    /// Where the request was passed to raft, unless its MsgProp is known by its id: the member, and
    /// the event after which the proposal left.
    fn proposer(&self, id: u64) -> Option<(u8, usize)> {
        let is_prop = |event: &Event| {
            matches!(event.stage, Stage::RaftSend | Stage::RaftReceive)
                && field!(event, RaftSend | RaftReceive, type) == message::PROP
        };
        let known = self
            .picked
            .iter()
            .any(|(at, relation)| *relation == Relation::Message && is_prop(self.event(*at)));
        let handed = |at: &usize| {
            let stage = self.event(*at).stage;
            let is_told = self.rank(*at) != usize::MAX;
            is_told && matches!(stage, Stage::RaftInbox | Stage::RaftPropose)
        };
        let handed = self.stories.with_id(id).iter().copied().filter(handed);
        let at = handed.min_by_key(|at| self.rank(*at))?;
        let member = self.event(at).member;
        let member_id = self.stories.recording.members.get(usize::from(member))?.member_id;
        // A leader needs no MsgProp; one that it sends later, as a follower, belongs to another
        // request.
        let is_leader = self.picked.keys().any(|at| {
            let event = self.event(*at);
            event.id == id
                && event.stage == Stage::RaftPropose
                && field!(event, RaftPropose, leader) == member_id
        });
        (!known && !is_leader).then_some((member, self.rank(at)))
    }

    /// Adds the rounds that the read waited for, and all events with their ids. Returns the rounds.
    pub(super) fn rounds(&mut self, id: u64) -> BTreeSet<u64> {
        let waits = self.stories.with_id(id).iter().map(|at| self.event(*at));
        let waits = waits.filter(|event| event.stage == Stage::ReadIndexWait);
        let mut rounds: BTreeSet<u64> =
            waits.flat_map(|event| [field!(event, ReadIndexWait, round), event.link]).collect();
        rounds.remove(&0);
        for round in rounds.clone() {
            rounds.extend(self.stories.attempts(round));
        }
        for round in &rounds {
            let all = self.stories.with_id(*round).iter();
            self.picked.extend(all.map(|at| (*at, Relation::Round)));
        }
        rounds
    }
}
