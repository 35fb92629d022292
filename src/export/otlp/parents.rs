//! Parents: the innermost step around a step, on the same member, of the same request.
//!
//! A member's clock counts every step, so containment is exact and needs no times. A step without
//! an enclosing one (on another member, or after the answer) is a child of the request's first
//! step, if that is exported with it. What precedes the first step on its member has no parent.
//!
//! Invariant: no parent is named that nobody exports. A member that exports alone does not know
//! whether others export too, so it only links to their steps ([`Above::Elsewhere`]). While it
//! runs, a step that has only begun contains the steps after it: its end comes later, and has the
//! same id. In a recording a step without an end is no span, and so no parent.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{Scope, SpanIds, ids::Ids, is_request};
use crate::{
    story::{Event, Recording, order::Order},
    trace::{context::root_span, record::Kind, stage::Stage},
};

/// What stands above a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Above {
    /// Nothing: it is the first of its trace.
    Nothing,
    /// Its parent, by its span id.
    Parent(u64),
    /// A step that another member may export or not, and why they belong together.
    Elsewhere(SpanIds, &'static str),
}

/// What stands above each event, by position.
pub(super) fn parents(
    recording: &Recording,
    order: &Order,
    ids: &Ids<'_>,
    scope: Scope,
) -> Vec<Above> {
    let mut parents = vec![Above::Nothing; recording.events.len()];
    let mut requests: HashMap<(u8, u16, u64), Vec<usize>> = HashMap::new();
    for (at, event) in recording.events.iter().enumerate() {
        if is_request(event) {
            requests.entry((event.member, event.boot, event.id)).or_default().push(at);
        }
        match event.stage {
            Stage::RaftReceive if event.link != 0 => {
                parents[at] = match scope {
                    Scope::Member => Above::Elsewhere(ids.sent(event), "message"),
                    Scope::Cluster if order.partner.contains_key(&at) => {
                        Above::Parent(ids.sent(event).span)
                    }
                    Scope::Cluster => Above::Nothing,
                };
            }
            // The first step belongs to the member that asked for the round.
            Stage::ReadIndexConfirmed if event.id != 0 => {
                parents[at] = above_all(ids, event, scope);
            }
            _ => (),
        }
    }
    for mut steps in requests.into_values() {
        let root = above_all(ids, &recording.events[steps[0]], scope);
        nest(ids, recording, &mut steps, (root, scope), &mut parents);
    }
    parents
}

/// The first step of a request, or round, for its outermost steps on a member.
fn above_all(ids: &Ids<'_>, event: &Event, scope: Scope) -> Above {
    match scope {
        _ if ids.has_first(event.id, scope) => Above::Parent(root_span(event.id)),
        Scope::Cluster => Above::Nothing,
        // A request of this member whose first step was forgotten, or one of another member.
        Scope::Member => Above::Elsewhere(ids.first_of(event), "request"),
    }
}

/// Finds the parents among the steps of one request on one member.
fn nest(
    ids: &Ids<'_>,
    recording: &Recording,
    steps: &mut [usize],
    (root, scope): (Above, Scope),
    parents: &mut [Above],
) {
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
    let is_first = |event: &Event| ids.place(event).span == root_span(event.id);
    let first = steps.iter().map(|at| &recording.events[*at]).find(|event| is_first(event));
    let begins = first.map_or(0, |event| event.clock);
    let mut open: Vec<(u64, u64)> = Vec::new();
    for at in steps.iter() {
        let event = &recording.events[*at];
        open.retain(|(end, _)| event.clock <= *end);
        let around = open
            .iter()
            .rev()
            .find(|(around, _)| end(event) <= *around || event.kind == Kind::Begin);
        parents[*at] = match around {
            // Its checks come before the proposal that a member makes by itself.
            None if event.clock < begins => Above::Nothing,
            _ if is_first(event) => Above::Nothing,
            None => root,
            Some((_, span)) => Above::Parent(*span),
        };
        let has_ended = ended.contains(&(event.clock, event.stage));
        // A beginning whose end exists too is counted once; one without an end may be no span.
        let is_left_out = event.kind == Kind::Begin && (has_ended || scope == Scope::Cluster);
        if event.kind != Kind::Mark && !is_left_out {
            open.push((end(event), ids.place(event).span));
        }
    }
}
