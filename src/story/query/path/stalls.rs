//! The parts of a path in which the process of a member stood still.
//!
//! ```text
//!   before   ├──────────── socket.queue ────────────┤
//!   stalled        ├── process.stalled ──┤
//!   after    ├ s.q ┤   process.stalled   ├ sock.que ┤
//! ```

use super::{Clock, Segment, Steps, Wait, clock_of};
use crate::{story::query::through::Through, trace::stage::Stage};

/// Cuts the pieces where a process that they waited for stood still.
pub(super) fn apart(steps: &Steps<'_>, through: &Through, segments: Vec<Segment>) -> Vec<Segment> {
    let stalls: Vec<Stall> = through
        .stalls
        .iter()
        .map(|stood| {
            let (at, from, to) = (stood.stall.event, stood.stall.from, stood.stall.to);
            Stall { at, clock: clock_of(steps.event(at)), from, to }
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
    clock: Clock,
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
        let (member, _) = stall.clock;
        member == whole.member || matches!(whole.wait, Wait::Network(..)) && member == sender
    };
    let mut rest = Segment { ns: 0, ..whole };
    let last = whole.clocks[1];
    let mut at = now;
    for stall in stalls.iter().filter(is_waited_for) {
        let (from, to) = (stall.from.max(at), stall.to.min(end));
        if to <= from {
            continue;
        }
        if at < from {
            let clocks = [rest.clocks[0], stall.clock];
            list.push(Segment { to: stall.at, ns: length(at, from), until: from, clocks, ..rest });
            (rest.from, rest.clocks[0]) = (stall.at, stall.clock);
        }
        let wait = Wait::Step(Stage::ProcessStalled);
        let (member, ns) = (stall.clock.0, length(from, to));
        let clocks = [rest.clocks[0], if to == stall.to { stall.clock } else { last }];
        list.push(Segment { to: stall.at, member, wait, ns, until: to, clocks, ..rest });
        (rest.from, rest.clocks[0], at) = (stall.at, clocks[1], to);
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
