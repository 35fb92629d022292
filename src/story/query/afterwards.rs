//! What became of a write whose call had failed: it may take effect all the same.
//!
//! ```text
//!   the call   ├── rpc ── gives up ┤
//!   the entry       ├────────────────── committed ── applied, at revision 7
//! ```
//!
//! Only records decide. A write that apply refused, that another entry replaced, or whose proposal
//! a member dropped has no effect. Of one that was neither seen applied nor seen lost, the effect
//! is unknown.

use super::{Story, graph::Graph};
use crate::{
    change, field,
    story::{Event, Recording, order::Order},
    trace::{
        Reason, message,
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
        let dropped = never_proposed((recording, order), story, rpc);
        Some(dropped.map_or(Afterwards::Unknown, Afterwards::NeverProposed))
    }
}

/// How long after a call that timed out its member may still propose its write once more, in
/// nanoseconds: until the next tick. A second is many of them.
const GRACE_NS: i128 = 1_000_000_000;

/// The server's own timeouts: with them the member forgets the proposal.
const TIMEOUTS: [Reason; 3] =
    [Reason::Timeout, Reason::TimeoutDueToLeaderFail, Reason::TimeoutDueToConnectionLost];

/// The member that dropped the only proposal of this request, by position: the one that served it,
/// instead of sending it, or the one that was to take it.
///
/// `None` if a proposal may have got through: one was sent and not dropped, more were handed over
/// than are known to be dropped, the write became an entry, or records were lost. And `None` if the
/// member may yet propose it again: the call ended before the member's own timeout, or the records
/// end soon after it.
fn never_proposed(
    (recording, order): (&Recording, &Order),
    story: &Story,
    rpc: usize,
) -> Option<u8> {
    let call = &recording.events[rpc];
    let own = || {
        let own = story.steps.iter().map(|step| &recording.events[step.event]);
        own.filter(|event| event.id == story.id && event.kind != Kind::Begin)
    };
    let count = |is_meant: &dyn Fn(&Event) -> bool| own().filter(|event| is_meant(event)).count();
    let is_prop = |event: &Event| match event.stage {
        Stage::RaftSend | Stage::RaftReceive | Stage::RaftDrop => {
            field!(event, RaftSend | RaftReceive | RaftDrop, type) == message::PROP
        }
        _ => false,
    };
    let is_drop = |event: &Event| event.stage == Stage::RaftDrop && is_prop(event);
    let is_taken_back = |event: &Event| field!(event, RaftDrop, received) != 0;
    let handed = count(&|event| {
        let is_again = event.stage == Stage::RaftLost && field!(event, RaftLost, again) != 0;
        event.member == call.member && (event.stage == Stage::RaftInbox || is_again)
    });
    let sent = count(&|event| event.stage == Stage::RaftSend && is_prop(event));
    let came = count(&|event| event.stage == Stage::RaftReceive && is_prop(event));
    let [unsent, untaken] =
        [false, true].map(|is| count(&|event| is_drop(event) && is_taken_back(event) == is));
    let is_dropped = handed != 0 && handed <= unsent + untaken && sent <= untaken && came == 0;
    let place = usize::from(call.member);
    let is_whole = recording.dropped.get(place).is_none_or(|lost| *lost == 0);
    let is_forgotten = call.reason.is_some_and(|reason| TIMEOUTS.contains(&reason)) && {
        let later = recording.events.iter().zip(&order.times);
        let mut later = later.filter(|(event, _)| event.member == call.member);
        later.any(|(_, time)| order.times[rpc] + GRACE_NS <= *time)
    };
    let is_known = is_dropped && is_whole && is_forgotten && story.entry.is_none();
    own().find(|event| is_known && is_drop(event)).map(|event| event.member)
}
