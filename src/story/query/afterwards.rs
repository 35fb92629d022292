//! What became of a write whose call had failed: it may take effect all the same.
//!
//! ```text
//!   the call   ├── rpc ── gives up ┤
//!   the entry       ├────────────────── committed ── applied, at revision 7
//! ```
//!
//! Only records decide. A write that apply refused, that another entry replaced, or whose proposal a
//! member dropped has no effect; of one that was neither seen applied nor seen lost it is unknown.

use std::collections::BTreeSet;

use super::{Story, graph::Graph};
use crate::{
    change, field,
    story::{Event, Recording, order::Order},
    trace::{
        message,
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
    /// A member dropped its proposal, by position: it never came to a leader.
    NeverProposed(u8),
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
        if story.is_lost {
            return Some(Afterwards::Replaced);
        }
        let dropped = never_proposed(recording, story);
        Some(dropped.map_or(Afterwards::Unknown, Afterwards::NeverProposed))
    }
}

/// The member that dropped the only proposal of this request: its own, before sending it, or the
/// one that was to take it. Raft does not repeat a proposal. `None` if any may have got through: it
/// became an entry, more were handed to raft than are known to be dropped, or records were lost.
fn never_proposed(recording: &Recording, story: &Story) -> Option<u8> {
    let own = || {
        let own = story.steps.iter().map(|step| &recording.events[step.event]);
        own.filter(|event| event.id == story.id && event.kind != Kind::Begin)
    };
    let handed = own().filter(|event| event.stage == Stage::RaftInbox);
    let serving: BTreeSet<u8> = own()
        .filter(|event| event.stage == Stage::RaftPropose || event.stage == Stage::Rpc)
        .map(|event| event.member)
        .collect();
    let handed = handed.filter(|event| serving.contains(&event.member)).count();
    let is_drop = |event: &&Event| {
        event.stage == Stage::RaftDrop && field!(event, RaftDrop, type) == message::PROP
    };
    let drops: Vec<&Event> = own().filter(is_drop).collect();
    let is_whole = serving
        .iter()
        .all(|place| recording.dropped.get(usize::from(*place)).is_none_or(|lost| *lost == 0));
    let is_all = handed != 0 && handed <= drops.len();
    let first = drops.first().filter(|_| is_all && is_whole && story.entry.is_none());
    first.map(|event| event.member)
}
