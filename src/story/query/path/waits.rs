//! The parts of a path in which a call waits for what is not its own entry or read.

use super::{Chain, Edge, Taker};
use crate::{
    story::query::{graph::Graph, method_of},
    trace::{record::Kind, stage::Stage},
};

/// What a write may do once its entry is applied.
const STEPS_AFTER: [Stage; 9] = [
    Stage::LockWait,
    Stage::CompactWait,
    Stage::CompactCommit,
    Stage::AnswerRoom,
    Stage::ReadQueue,
    Stage::ReadIndexWait,
    Stage::ReadThread,
    Stage::MvccRange,
    Stage::ThreadReturn,
];

/// What a hash does, which needs no entry.
const STEPS_OF_HASH: [Stage; 5] =
    [Stage::ReadQueue, Stage::ReadThread, Stage::MvccHash, Stage::BackendHash, Stage::ThreadReturn];

/// gRPC codes of calls that ended before their work did: canceled, deadline exceeded.
const ENDED_EARLY: [u8; 2] = [1, 4];

impl Chain<'_> {
    /// The waits that precede a call's read: for the lock, for the end of the compaction, for room
    /// for the answer, for other long reads.
    pub(super) fn wait(&mut self, serving: u8) {
        for stage in [Stage::LockWait, Stage::CompactWait, Stage::AnswerRoom, Stage::ReadQueue] {
            if let Some(end) = self.last_end(stage, serving) {
                self.until(self.steps.start(stage, serving));
                self.until(Some(end));
            }
        }
    }

    /// What an observer of an election does, in the order of time: it looks the leader up, perhaps
    /// many times, and sends each leader. In between it waits for a change.
    pub(super) fn observe(&mut self, serving: u8) {
        let stages = [Stage::ReadIndexWait, Stage::MvccRange, Stage::ObserveLeader];
        let of_serving = |at: &usize| {
            let event = self.steps.event(*at);
            event.member == serving && event.kind != Kind::Begin
        };
        let steps = stages.into_iter().flat_map(|stage| self.steps.all(stage)).filter(of_serving);
        let mut steps: Vec<usize> = steps.collect();
        steps.sort_by_key(|at| self.time(Edge::Start(*at)));
        for at in steps {
            let (start, end) = (self.time(Edge::Start(at)), self.time(Edge::End(at)));
            if start < self.now || self.end < end {
                continue;
            }
            if start < end {
                self.until(Some(Edge::Start(at)));
            }
            self.until(Some(Edge::End(at)));
        }
    }

    /// What a write does once its entry is applied, in the order of time: it waits for the lock, or
    /// for the end of the compaction; it reads what its answer is to have, by another round if it
    /// has waited long.
    pub(super) fn after_apply(&mut self, serving: u8, graph: &Graph) {
        if self.is_broken {
            return self.wait(serving);
        }
        self.in_order(&STEPS_AFTER, serving, graph);
    }

    /// A hash of the key space or of the file, on its thread.
    pub(super) fn hash(&mut self, serving: u8, graph: &Graph) {
        self.in_order(&STEPS_OF_HASH, serving, graph);
    }

    /// The steps of these stages, in the order of time.
    fn in_order(&mut self, stages: &[Stage], serving: u8, graph: &Graph) {
        let mut steps: Vec<usize> = stages
            .iter()
            .flat_map(|stage| self.steps.all(*stage))
            .filter(|at| self.is_after(*at, serving))
            .collect();
        steps.sort_by_key(|at| self.time(Edge::Start(*at)));
        // The thread for long reads, with the ranges that it reads.
        let mut thread: Option<usize> = None;
        for at in steps {
            let start = self.time(Edge::Start(at));
            if let Some(over) = thread.take_if(|over| self.time(Edge::End(*over)) <= start) {
                self.until(Some(Edge::End(over)));
            }
            match self.steps.event(at).stage {
                Stage::ReadThread => {
                    self.step(Some(at));
                    thread = Some(at);
                }
                Stage::CompactCommit => {
                    self.step(Some(at));
                    self.until(Some(Edge::End(at)));
                }
                Stage::ThreadReturn => self.thread_return(Some(at)),
                Stage::ReadIndexWait => _ = self.ask(serving, graph),
                _ => {
                    if self.now <= start {
                        self.until(Some(Edge::Start(at)));
                    }
                    self.until(Some(Edge::End(at)));
                }
            }
        }
        if let Some(over) = thread {
            self.until(Some(Edge::End(over)));
        }
    }

    /// The way back from a blocking thread, if it was captured.
    pub(super) fn thread_return(&mut self, at: Option<usize>) {
        if let Some(at) = at.filter(|_| !self.is_broken) {
            self.until_taken(Edge::End(at), Taker::Grpc);
        }
    }

    /// Whether a step of the member lies between where the chain stands and the end of the whole.
    /// A call whose client is gone ends its wait for the lock a moment after itself.
    fn is_after(&self, at: usize, serving: u8) -> bool {
        let event = self.steps.event(at);
        let (start, end) = (self.time(Edge::Start(at)), self.time(Edge::End(at)));
        let is_cut = event.stage == Stage::LockWait && self.gave_up && start < self.end;
        (event.member, event.kind) == (serving, Kind::Span)
            && self.now <= start
            && (end <= self.end || is_cut)
    }

    /// Whether this call reads rows, so that a story without them is incomplete. Many calls ask for
    /// a round and look at leases or members; and one that is refused reads nothing.
    pub(super) fn reads_rows(&self, serving: u8) -> bool {
        let known = [Stage::MvccRange, Stage::TreeIndexGet, Stage::ReadThread];
        if known.into_iter().any(|stage| self.steps.start(stage, serving).is_some()) {
            return true;
        }
        let Some(rpc) = self.steps.first(Stage::Rpc, serving) else { return true };
        let rpc = self.steps.event(rpc);
        let is_range = matches!(method_of(rpc), "KV/Range" | "KV/RangeStream");
        is_range && rpc.result == 0 || ENDED_EARLY.contains(&rpc.result)
    }

    /// Advances to the end of the step that looked at leases or members.
    pub(super) fn look_up(&mut self, serving: u8) {
        let stages =
            [Stage::LeaseRemaining, Stage::LeaseRenew, Stage::LeaseList, Stage::MembersList];
        for stage in stages {
            let Some(end) = self.last_end(stage, serving) else { continue };
            // Some of them contain the round.
            let start = Edge::Start(end.at());
            if !self.is_broken && self.now <= self.time(start) {
                self.until(Some(start));
            }
            self.perhaps_until(Some(end));
        }
    }
}
