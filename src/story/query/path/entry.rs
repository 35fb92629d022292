//! The part of a path in which a write becomes an entry, a majority gets it, and the member that
//! serves the request applies it.

use super::{Awaited, Chain, Edge, Graph, Story, Taker};
use crate::{
    field, fields,
    trace::{message, stage::Stage},
};

impl Chain<'_> {
    /// The part from the checks to the answer of apply.
    pub(super) fn write(&mut self, serving: u8, story: &Story, graph: &Graph) {
        let steps = self.steps;
        self.perhaps(steps.start(Stage::RaftPropose, serving));
        self.awaits(Awaited::Entry);
        let inbox = steps.all(Stage::RaftInbox).find(|at| steps.is_inbox(*at, serving, story.id));
        if inbox.is_some() || !self.is_brief {
            self.step(inbox);
        }
        let appended = steps.all(Stage::RaftEntry).next();
        let earlier = appended.filter(|at| self.is_earlier_leaders(*at, serving, graph));
        match (graph.quorum.leader, story.entry, appended) {
            (Some(leader), Some((_, index)), Some(entry)) if earlier.is_some() => {
                self.inherited((serving, leader), (entry, index), graph);
            }
            (Some(leader), Some((_, index)), _) => self.replicate(serving, leader, index, graph),
            // Nobody counts acknowledgements of an entry that was replaced, but it had its place.
            (None, _, Some(entry)) if story.is_lost => {
                self.effect(Some(entry));
                self.awaits(Awaited::Quorum);
                self.until(None);
            }
            _ => self.until(None),
        }
        self.awaits(Awaited::Apply);
        match steps.first(Stage::ApplyEntry, serving) {
            at @ Some(_) => self.step(at),
            None => self.perhaps(steps.start(Stage::ApplyEntry, serving)),
        }
        self.perhaps(steps.end(Stage::ApplyEntry, serving));
        let proposal = steps.first(Stage::RaftPropose, serving);
        if proposal.is_some() || !self.is_brief {
            self.answer(proposal);
        }
        self.awaits(Awaited::Step);
    }

    /// Whether the entry got its place in the log of an earlier leader than the one that counted
    /// its acknowledgements: the member that serves the request led itself, or had sent it there.
    fn is_earlier_leaders(&self, entry: usize, serving: u8, graph: &Graph) -> bool {
        let steps = self.steps;
        let first = steps.event(entry).member;
        let led = || {
            let mut proposals = steps.list.iter().map(|at| steps.event(*at));
            proposals.any(|event| {
                event.stage == Stage::RaftPropose
                    && field!(event, RaftPropose, leader) == steps.member_id(serving)
            })
        };
        let has_sent = || {
            let ends = steps.message(serving, first, |at| steps.is_type(at, message::PROP));
            ends != (None, None)
        };
        graph.quorum.leader != Some(first) && if serving == first { led() } else { has_sent() }
    }

    /// The part from the inbox, of an entry that an earlier leader had taken and a later one
    /// committed.
    fn inherited(
        &mut self,
        (serving, leader): (u8, u8),
        (entry, index): (usize, u64),
        graph: &Graph,
    ) {
        let steps = self.steps;
        let first = steps.event(entry).member;
        if serving != first {
            self.message(steps.message(serving, first, |at| steps.is_type(at, message::PROP)));
        }
        self.effect(Some(entry));
        self.awaits(Awaited::Quorum);
        self.until(graph.quorum.commit.map(Edge::End));
        self.news(serving, leader, index, graph);
    }

    /// The part from the inbox of the serving member until that member knows of the commit.
    fn replicate(&mut self, serving: u8, leader: u8, index: u64, graph: &Graph) {
        let steps = self.steps;
        if serving != leader {
            let ends = steps.message(serving, leader, |at| steps.is_type(at, message::PROP));
            self.message(ends);
        }
        self.effect(steps.first(Stage::RaftEntry, leader));
        self.awaits(Awaited::Quorum);
        let by = graph.quorum.completed_by.and_then(|member_id| steps.place(member_id));
        match by {
            None => self.until(None),
            Some(by) if by == leader => self.fsync(leader, graph),
            Some(by) => {
                let carries = |at: usize| {
                    let [before, last] =
                        fields!(steps.event(at), RaftSend | RaftReceive: index, last);
                    steps.is_type(at, message::APP) && before < index && index <= last
                };
                self.message(steps.message(leader, by, carries));
                if let entry @ Some(_) = steps.first(Stage::RaftEntry, by)
                    && !self.is_broken
                {
                    self.effect(entry);
                }
                self.fsync(by, graph);
                if let stable @ Some(_) = steps.first(Stage::RaftStable, by)
                    && !self.is_broken
                {
                    self.effect(stable);
                }
                let tells = |at: usize| steps.is_type(at, message::APP_RESP);
                self.message(steps.message(by, leader, tells));
            }
        }
        self.effect(graph.quorum.commit);
        self.news(serving, leader, index, graph);
    }

    /// The part from the leader's commit until the serving member knows of it.
    fn news(&mut self, serving: u8, leader: u8, index: u64, graph: &Graph) {
        let steps = self.steps;
        self.awaits(Awaited::News);
        if serving != leader {
            let tells = |at: usize| {
                (steps.is_type(at, message::APP) || steps.is_type(at, message::HEARTBEAT))
                    && index <= field!(steps.event(at), RaftSend | RaftReceive, commit)
            };
            self.message(steps.message(leader, serving, tells));
            self.effect(steps.first(Stage::RaftCommit, serving));
        }
        self.own_disk(serving, graph);
    }

    /// A member applies only what is on its own disk: where its own fsync ends after the commit,
    /// apply waits for that as well.
    fn own_disk(&mut self, serving: u8, graph: &Graph) {
        let stable = self.steps.first(Stage::RaftStable, serving);
        let fsync = graph.fsync_on(serving).map(|fsync| fsync.event);
        if let (Some(stable), Some(fsync)) = (stable, fsync)
            && !self.is_broken
            && self.now < self.order.times[fsync]
        {
            self.until(Some(Edge::End(fsync)));
            self.effect(Some(stable));
        }
    }

    fn fsync(&mut self, member: u8, graph: &Graph) {
        let fsync = graph.fsync_on(member).map(|fsync| fsync.event);
        let write = self.steps.first(Stage::WalWrite, member);
        if let Some(write) = write
            && !self.is_broken
            && self.steps.event(self.from.at()).stage == Stage::RaftEntry
            && field!(self.steps.event(write), WalWrite, gathered) != 0
        {
            self.until_taken(Edge::Gathered(write), Taker::Wal);
        }
        self.perhaps_until(self.steps.start(Stage::WalWrite, member));
        self.perhaps_until(self.steps.end(Stage::WalWrite, member));
        self.until(fsync.map(Edge::Start));
        self.until(fsync.map(Edge::End));
    }
}
