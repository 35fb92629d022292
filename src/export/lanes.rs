//! Assigns spans to rows in which they nest.
//!
//! ```text
//!   peer     ├──── raft.send ────┤   ├─ raft.send ─┤
//!   peer 2          ├──── raft.send ────┤              another connection, at the same time
//! ```
//!
//! The viewers draw a span inside another one below it, and cannot draw two that overlap in part.
//! Such spans are real: "peer" and "grpc" each name many threads of the system. So each span goes
//! into the first row in which it nests, and keeps its times.

use std::cmp::Reverse;

use crate::{
    story::{Event, Recording, order::Order},
    trace::stage::Stage,
};

/// A span with its row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    /// Position of the span in [`Recording::events`].
    pub(super) event: usize,
    /// Its start, in nanoseconds since 1970 on the common axis.
    pub(super) start: i128,
    /// Its end, in nanoseconds since 1970 on the common axis.
    pub(super) end: i128,
    /// The row, from 0.
    pub(super) lane: usize,
}

impl Slice {
    /// The span at this position, in row 0.
    pub(super) fn of(recording: &Recording, order: &Order, event: usize) -> Slice {
        let (start, end) = extent(&recording.events[event], order.times[event]);
        Slice { event, start, end, lane: 0 }
    }
}

/// Start and end of an event whose playback time is `time`: for a send that is its start, for all
/// others their end.
pub(super) fn extent(event: &Event, time: i128) -> (i128, i128) {
    let took = i128::from(event.took_ns);
    if event.stage == Stage::RaftSend { (time, time + took) } else { (time - took, time) }
}

/// Assigns each of these spans, which share a thread or a request, to the first row in which it
/// nests; afterwards they are in the order of their starts, parents before children.
pub(super) fn spread(slices: &mut [Slice], events: &[Event]) {
    slices.sort_by_key(|slice| {
        let event = &events[slice.event];
        (slice.start, Reverse(slice.end), event.stage != Stage::Rpc, event.clock)
    });
    // For each row, the ends of the spans that are open at the current start, the outermost first.
    let mut rows: Vec<Vec<i128>> = Vec::new();
    for slice in slices {
        let fits = |row: &mut Vec<i128>| {
            while row.last().is_some_and(|end| *end <= slice.start) {
                row.pop();
            }
            row.last().is_none_or(|end| slice.end <= *end)
        };
        slice.lane = rows.iter_mut().position(fits).unwrap_or(rows.len());
        if slice.lane == rows.len() {
            rows.push(Vec::new());
        }
        rows[slice.lane].push(slice.end);
    }
}
