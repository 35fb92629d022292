//! What became of a write whose call had failed: it may take effect all the same.
//!
//! ```text
//!   the call   ├── rpc ── gives up ┤
//!   the entry       ├────────────────── committed ── applied, at revision 7
//! ```
//!
//! Only records decide. A write that apply refused, or that another entry replaced, has no effect;
//! of one that was neither seen applied nor seen replaced it is unknown.

use super::{Story, graph::Graph};
use crate::{
    change,
    story::{Recording, order::Order},
    trace::{
        record::{FLAG_CANCELLED, FLAG_ERROR, Kind},
        stage::Stage,
    },
};

/// What became of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It was applied.
    Applied {
        /// The main revision that it made; `None` if it made none, or that was not captured.
        revision: Option<u64>,
        /// The member that applied it first, by position.
        member: u8,
        /// How long after the end of the call, in nanoseconds; negative if before it. It compares
        /// two clocks if the member is not the one that was asked.
        after_ns: i128,
    },
    /// Apply refused it after the call had ended.
    Refused,
    /// Another entry replaced its own before it was committed.
    Replaced,
    /// It was handed to raft, and no more of it was captured.
    Unknown,
}

impl Afterwards {
    /// Looks at the write of a call that failed or was cancelled. `None` if the call has succeeded
    /// or has not ended, and if it proposed nothing.
    pub fn of(
        recording: &Recording,
        order: &Order,
        story: &Story,
        graph: &Graph,
    ) -> Option<Afterwards> {
        let rpc = graph.rpc?;
        let call = &recording.events[rpc];
        let has_failed = call.result != 0 || call.flags & FLAG_CANCELLED != 0;
        let own = || {
            let own = story.steps.iter().map(|step| step.event);
            own.filter(|at| recording.events[*at].id == story.id)
        };
        let is_proposed = own().any(|at| recording.events[at].stage == Stage::RaftPropose);
        if !has_failed || !is_proposed {
            return None;
        }
        let ended = |stage| {
            own().filter(move |at| {
                let event = &recording.events[*at];
                (event.stage, event.kind) == (stage, Kind::Span)
            })
        };
        if let Some(first) = ended(Stage::ApplyEntry).min_by_key(|at| order.times[*at]) {
            let applied = &recording.events[first];
            let after_ns = order.times[first] - order.times[rpc];
            if applied.reason.is_some() || applied.flags & FLAG_ERROR != 0 {
                // If it came in time, it is the call's own error.
                return (0 <= after_ns).then_some(Afterwards::Refused);
            }
            let changes = ended(Stage::MvccWrite)
                .map(|at| change!(&recording.events[at], MvccWrite, revision));
            let revision = changes.filter(|[old, new]| old < new).map(|[_, new]| new).max();
            return Some(Afterwards::Applied { revision, member: applied.member, after_ns });
        }
        Some(if story.is_lost { Afterwards::Replaced } else { Afterwards::Unknown })
    }
}
