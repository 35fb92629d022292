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
    /// The member that was asked, by position, kept its proposal until the call timed out, because
    /// there was no leader to take it.
    Parked(u8),
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
        Some(never_proposed((recording, order), story, rpc).unwrap_or(Afterwards::Unknown))
    }
}

/// How long after a call that timed out its member may still propose its write once more, in
/// nanoseconds: until the next tick. A second is many of them.
const GRACE_NS: i128 = 1_000_000_000;

/// The server's own timeouts: with them the member forgets the proposal.
const TIMEOUTS: [Reason; 3] =
    [Reason::Timeout, Reason::TimeoutDueToLeaderFail, Reason::TimeoutDueToConnectionLost];

/// Whether this is a step of a message with proposals.
fn is_prop(event: &Event) -> bool {
    match event.stage {
        Stage::RaftSend | Stage::RaftReceive | Stage::RaftDrop => {
            field!(event, RaftSend | RaftReceive | RaftDrop, type) == message::PROP
        }
        _ => false,
    }
}

/// Says so if no proposal of this request came to a leader: the one that served it or the one that
/// was to take it dropped it; or the one that served it parked it, and sent no proposal until the
/// call had timed out.
///
/// `None` if a proposal may have got through: one was sent and not dropped, more were handed over
/// than are known to be dropped or parked, the write became an entry, or records were lost. And
/// `None` if the member may yet propose it again: the call ended before the member's own timeout,
/// or the records end soon after it.
fn never_proposed(
    (recording, order): (&Recording, &Order),
    story: &Story,
    rpc: usize,
) -> Option<Afterwards> {
    let call = &recording.events[rpc];
    let own = || {
        let own = story.steps.iter().map(|step| &recording.events[step.event]);
        own.filter(|event| event.id == story.id && event.kind != Kind::Begin)
    };
    let count = |is_meant: &dyn Fn(&Event) -> bool| own().filter(|event| is_meant(event)).count();
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
    let until = order.times[rpc] + GRACE_NS;
    let of_member = || {
        let all = recording.events.iter().zip(&order.times);
        all.filter(|(event, _)| event.member == call.member)
    };
    let park = own().find(|event| {
        event.stage == Stage::RaftPark && (event.member, event.boot) == (call.member, call.boot)
    });
    // A message with the proposals of several requests bears no id.
    let sends = |park: &Event| {
        let is_later = |event: &Event| event.boot == park.boot && park.clock <= event.clock;
        of_member().any(|(event, time)| {
            event.stage == Stage::RaftSend && is_prop(event) && is_later(event) && *time < until
        })
    };
    let parked = usize::from(park.is_some_and(|park| !sends(park)));
    let stopped = unsent + untaken + parked;
    let is_stopped = handed != 0 && handed <= stopped && sent <= untaken && came == 0;
    let place = usize::from(call.member);
    let is_whole = recording.dropped.get(place).is_none_or(|lost| *lost == 0);
    let is_forgotten = call.reason.is_some_and(|reason| TIMEOUTS.contains(&reason))
        && of_member().any(|(_, time)| until <= *time);
    if !(is_stopped && is_whole && is_forgotten && story.entry.is_none()) {
        return None;
    }
    let dropped = own().find(|event| is_drop(event)).map(|event| event.member);
    let dropped = dropped.map(Afterwards::NeverProposed);
    dropped.or((0 < parked).then_some(Afterwards::Parked(call.member)))
}
