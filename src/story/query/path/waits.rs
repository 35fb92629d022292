//! The parts of a path in which a call waits for what is not its own entry or read.

use super::{Chain, Edge};
use crate::{story::query::method_of, trace::stage::Stage};

/// gRPC codes of calls that ended before their work did: canceled, deadline exceeded.
const ENDED_EARLY: [u8; 2] = [1, 4];

impl Chain<'_> {
    /// The waits that follow a call's own entry, or precede its read: for the lock, for the end of
    /// the compaction, for room for the answer, for other long reads.
    pub(super) fn wait(&mut self, serving: u8) {
        for stage in [Stage::LockWait, Stage::CompactWait, Stage::AnswerRoom, Stage::ReadQueue] {
            if let Some(end) = self.last_end(stage, serving) {
                self.until(self.steps.start(stage, serving));
                self.until(Some(end));
            }
        }
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
