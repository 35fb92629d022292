//! The parts of a path in which the process of a member stood still.
//!
//! ```text
//!   before   ├──────────── socket.queue ────────────┤
//!   stalled        ├── process.stalled ──┤
//!   after    ├ s.q ┤   process.stalled   ├ sock.que ┤
//! ```

use super::{Segment, Steps, Wait};
use crate::{
    story::order::Order,
    trace::{record::Kind, stage::Stage},
};

/// Cuts the pieces where a process that they waited for stood still.
pub(super) fn apart(steps: &Steps<'_>, order: &Order, segments: Vec<Segment>) -> Vec<Segment> {
    let stalls: Vec<Stall> = steps
        .all(Stage::ProcessStalled)
        .filter(|at| steps.event(*at).kind == Kind::Span)
        .map(|at| {
            let (event, to) = (steps.event(at), order.times[at]);
            Stall { at, member: event.member, from: to - i128::from(event.took_ns), to }
        })
        .collect();
    if stalls.is_empty() {
        return segments;
    }
    let mut list = Vec::new();
    segments.into_iter().for_each(|segment| cut(steps, &stalls, segment, &mut list));
    list
}

/// A time in which a process stood still, on the common axis.
struct Stall {
    at: usize,
    member: u8,
    from: i128,
    to: i128,
}

/// Cuts one piece.
fn cut(steps: &Steps<'_>, stalls: &[Stall], whole: Segment, list: &mut Vec<Segment>) {
    let end = whole.until;
    let now = end - i128::from(whole.ns);
    let sender = steps.event(whole.from).member;
    // A message in transit waits for either end, any other piece for its own member.
    let is_waited_for = |stall: &&Stall| {
        stall.member == whole.member || whole.wait == Wait::Network && stall.member == sender
    };
    let mut rest = Segment { ns: 0, ..whole };
    let mut at = now;
    for stall in stalls.iter().filter(is_waited_for) {
        let (from, to) = (stall.from.max(at), stall.to.min(end));
        if to <= from {
            continue;
        }
        if at < from {
            list.push(Segment { to: stall.at, ns: length(at, from), until: from, ..rest });
            rest.from = stall.at;
        }
        let wait = Wait::Step(Stage::ProcessStalled);
        let (member, ns) = (stall.member, length(from, to));
        list.push(Segment { to: stall.at, member, wait, ns, until: to, ..rest });
        (rest.from, at) = (stall.at, to);
    }
    // A piece without a length stays: it says what came when.
    if at < end || now == end {
        list.push(Segment { ns: length(at, end), ..rest });
    } else if let Some(last) = list.last_mut() {
        last.to = whole.to;
    }
}

fn length(from: i128, to: i128) -> u64 {
    u64::try_from(to - from).unwrap_or(0)
}
