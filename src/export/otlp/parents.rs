//! Parents: the innermost step around a step, on the same member, of the same request.
//!
//! A member's clock counts every step, so containment is exact and needs no times. A step that has
//! only begun contains the steps after it: its end may come later, and has the same id. A step
//! without an enclosing one (on another member, or after the answer) is a child of the request's
//! first step, if that exists.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{Scope, ids::Ids, is_request};
use crate::{
    story::{Event, Recording},
    trace::{context::root_span, record::Kind, stage::Stage},
};

/// The parent of each event, by position; 0 for none.
pub(super) fn parents(recording: &Recording, ids: &Ids<'_>, scope: Scope) -> Vec<u64> {
    let mut parents = vec![0; recording.events.len()];
    let mut requests: HashMap<(u8, u16, u64), Vec<usize>> = HashMap::new();
    for (at, event) in recording.events.iter().enumerate() {
        if is_request(event) {
            requests.entry((event.member, event.boot, event.id)).or_default().push(at);
        }
        match event.stage {
            Stage::RaftReceive if event.link != 0 => parents[at] = ids.sent(event),
            // The first step belongs to the member that asked for the round.
            Stage::ReadIndexConfirmed
                if event.id != 0 && (ids.has_first(event.id) || scope == Scope::Member) =>
            {
                parents[at] = root_span(event.id);
            }
            _ => (),
        }
    }
    for ((member, _, id), mut steps) in requests {
        let own = recording.members[usize::from(member)].member_id & 0xffff;
        // A member that exports alone knows of other members' requests only that they began
        // elsewhere.
        let has_root = ids.has_first(id) || (scope == Scope::Member && id >> 48 != own);
        let root = if has_root { root_span(id) } else { 0 };
        nest(ids, recording, &mut steps, root, &mut parents);
    }
    parents
}

/// Finds the parents among the steps of one request on one member.
fn nest(ids: &Ids<'_>, recording: &Recording, steps: &mut [usize], root: u64, parents: &mut [u64]) {
    let end = |event: &Event| if event.kind == Kind::Begin { u64::MAX } else { event.clock_end };
    // If both the beginning and the end of a step exist, the end comes last, and gives the extent.
    let ended: HashSet<(u64, Stage)> = steps
        .iter()
        .map(|at| &recording.events[*at])
        .filter(|event| event.kind == Kind::Span)
        .map(|event| (event.clock, event.stage))
        .collect();
    steps.sort_by_key(|at| {
        let event = &recording.events[*at];
        (event.clock, Reverse(end(event)))
    });
    let mut open: Vec<(u64, u64)> = Vec::new();
    for at in steps.iter() {
        let event = &recording.events[*at];
        open.retain(|(end, _)| event.clock <= *end);
        let around = open
            .iter()
            .rev()
            .find(|(around, _)| end(event) <= *around || event.kind == Kind::Begin);
        let own = ids.place(event).span;
        let parent = around.map_or(root, |(_, span)| *span);
        parents[*at] = if parent == own { 0 } else { parent };
        let is_doubled = event.kind == Kind::Begin && ended.contains(&(event.clock, event.stage));
        if event.kind != Kind::Mark && !is_doubled {
            open.push((end(event), own));
        }
    }
}
