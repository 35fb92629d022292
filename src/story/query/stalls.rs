//! The times in which a member could not run, in the stories of the requests that waited meanwhile.
//!
//! ```text
//!   process.stalled       ├──────────────────────────────┤     as its thread noticed it
//!   other threads     ─●─● ●                            ●─●─●
//!   told                    ├──────────────────────────┤       what no record contradicts
//! ```
//!
//! The thread that records a standstill is not the first to run again, and may not have been the
//! last to run before. A process that takes a step does not stand still: so of the time that the
//! record names, readers see the longest part without any step of that process. All that tell of a
//! standstill take it from here.

use std::collections::{BTreeSet, HashMap};

use super::{Finder, Relation};
use crate::{
    story::{Event, Recording, order::Order},
    trace::{record::Kind, stage::Stage},
};

/// A time in which a member's process stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// The member, by position.
    pub member: u8,
    /// Position of its `process.stalled`.
    pub event: usize,
    /// When it began, on the common axis in nanoseconds.
    pub from: i128,
    /// When it ended.
    pub to: i128,
}

/// The standstills of all members, in the order of their records.
pub fn standstills(recording: &Recording, order: &Order) -> Vec<Standstill> {
    let is_one = |event: &Event| (event.stage, event.kind) == (Stage::ProcessStalled, Kind::Span);
    let all = recording.events.iter().zip(&order.times).enumerate();
    let mut found: Vec<Standstill> = all
        .filter(|(_, (event, _))| is_one(event))
        .map(|(at, (event, to))| Standstill {
            member: event.member,
            event: at,
            from: to - i128::from(event.took_ns),
            to: *to,
        })
        .collect();
    if found.is_empty() {
        return found;
    }
    let mut ran: HashMap<(u8, u16), Vec<i128>> = HashMap::new();
    for stood in &found {
        ran.entry((stood.member, recording.events[stood.event].boot)).or_default();
    }
    for (event, time) in recording.events.iter().zip(&order.times) {
        if let Some(ran) = ran.get_mut(&(event.member, event.boot)) {
            ran.extend(ran_at(event, *time).into_iter().flatten());
        }
    }
    ran.values_mut().for_each(|times| times.sort_unstable());
    for stood in &mut found {
        let ran = &ran[&(stood.member, recording.events[stood.event].boot)];
        (stood.from, stood.to) = longest_rest(ran, (stood.from, stood.to));
    }
    found
}

/// When the process ran, as this record proves: at the beginning of the step and at its end. The
/// beginning of what waits in a socket is the kernel's; the ends of a standstill are in question.
fn ran_at(event: &Event, time: i128) -> [Option<i128>; 2] {
    if event.stage == Stage::ProcessStalled {
        return [None; 2];
    }
    let took = i128::from(event.took_ns);
    let (begin, end) = match event.kind {
        Kind::Span if event.stage == Stage::RaftSend => (time, time + took),
        Kind::Span => (time - took, time),
        _ => (time, time),
    };
    [Some(begin).filter(|_| !event.stage.is_at_edge()), Some(end)]
}

/// The longest part of this time without any of these moments, which are in order.
fn longest_rest(ran: &[i128], (from, to): (i128, i128)) -> (i128, i128) {
    let first = ran.partition_point(|at| *at <= from);
    let last = ran.partition_point(|at| *at < to);
    let inside = ran.get(first..last).unwrap_or_default();
    let begins = std::iter::once(from).chain(inside.iter().copied());
    let ends = inside.iter().copied().chain([to]);
    let longest = begins.zip(ends).max_by_key(|(begin, end)| end - begin);
    longest.unwrap_or((from, to))
}

impl Finder<'_> {
    /// Adds the times in which a member that took part stood still, or had to wait for a CPU, while
    /// the caller waited.
    pub(super) fn stalls(&mut self, id: u64) {
        let stories = self.stories;
        let own = stories.with_id(id).iter().copied();
        let is_callers = |at: &usize| {
            let stage = self.event(*at).stage;
            stage == Stage::Rpc || stage.is_at_edge()
        };
        let life: Vec<[i128; 2]> = own.filter(is_callers).map(|at| stories.life(at)).collect();
        let Some(from) = life.iter().map(|[from, _]| *from).min() else { return };
        let to = life.iter().map(|[_, to]| *to).max().unwrap_or(from);
        let members: BTreeSet<u8> = self.picked.keys().map(|at| self.event(*at).member).collect();
        let met = stories.stalls.iter().copied().filter(|at| {
            let [began, ended] = stories.stall(*at);
            members.contains(&self.event(*at).member) && began < to && from < ended
        });
        self.picked.extend(met.map(|at| (at, Relation::Stall)).collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use super::longest_rest;

    #[test]
    fn a_process_that_takes_a_step_does_not_stand_still() {
        assert_eq!((10, 90), longest_rest(&[], (10, 90)));
        assert_eq!((10, 90), longest_rest(&[1, 10, 90, 95], (10, 90)));
        assert_eq!((12, 88), longest_rest(&[11, 12, 88, 89], (10, 90)));
        assert_eq!((30, 90), longest_rest(&[30], (10, 90)));
    }
}
