//! Losses that the records themselves prove.
//!
//! A change is recorded with its old and its new value, so each record must begin at the value with
//! which the previous one ended. An old value that differs from the last new one proves that
//! something in between was not captured: it was thinned out, or lost.

use std::collections::HashMap;

use super::order::point;
use crate::{
    field, slots,
    story::{Event, Recording},
    trace::{Kind, field::Slot, stage::Stage},
};

/// A change between two events that was not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The event after the gap: its position in [`Recording::events`].
    pub event: usize,
    /// The field that changed: its name without `.old`.
    pub field: &'static str,
    /// The value before the gap.
    pub expected: u64,
    /// The value at which the event begins.
    pub found: u64,
}

/// The changes that continue from record to record. Changes of single keys, and of terms that a
/// pre-vote does not raise, are not among them.
const CHAINS: &[[Slot; 2]] = &[
    slots!(RaftCommit, commit),
    slots!(ApplyEntry, applied),
    slots!(MvccWrite, revision),
    slots!(WalWrite, written),
    slots!(WalFsync, synced),
    slots!(RaftProgress, match),
    slots!(BufferPut, length),
    slots!(BackendCommit, index),
    slots!(BackendCommit, revision),
    slots!(RaftRole, role),
    slots!(RaftRole, term),
    slots!(RaftRole, leader),
    slots!(RaftRole, vote),
];

/// All gaps, by member and clock.
pub fn gaps(recording: &Recording) -> Vec<Gap> {
    let mut by_clock: Vec<usize> = (0..recording.events.len()).collect();
    by_clock.sort_by_key(|at| {
        let event = &recording.events[*at];
        (event.member, event.boot, point(event), event.kind)
    });
    let mut last: HashMap<(u8, u16, Stage, &str, u64), u64> = HashMap::new();
    let mut gaps = Vec::new();
    for at in by_clock {
        let event = &recording.events[at];
        if event.kind == Kind::Begin {
            continue;
        }
        reset_chains_that_start_again(event, &mut last);
        let peer = match event.stage {
            Stage::RaftProgress => field!(event, RaftProgress, peer),
            _ => 0,
        };
        for [old, new] in CHAINS.iter().filter(|[old, _]| old.stage() == event.stage) {
            let field = old.name().trim_end_matches(".old");
            let (found, new) = (event.number(&[*old]), event.number(&[*new]));
            let chain = (event.member, event.boot, event.stage, field, peer);
            if let Some(expected) = last.insert(chain, new)
                && expected != found
            {
                gaps.push(Gap { event: at, field, expected, found });
            }
        }
    }
    gaps
}

/// Resets chains that start again: a frozen buffer leaves an empty one behind, a new leader learns
/// anew how far its peers are, and a truncated log is written again.
fn reset_chains_that_start_again(
    event: &Event,
    last: &mut HashMap<(u8, u16, Stage, &str, u64), u64>,
) {
    let forgotten: &[Stage] = match event.stage {
        Stage::BufferFreeze => &[Stage::BufferPut],
        Stage::RaftRole => &[Stage::RaftProgress],
        Stage::LogTruncate => &[Stage::WalWrite, Stage::WalFsync],
        _ => return,
    };
    last.retain(|(member, boot, stage, ..), _| {
        (*member, *boot) != (event.member, event.boot) || !forgotten.contains(stage)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(member: u8, clock: u64, stage: Stage, fields: &[(&str, u64)]) -> Event {
        Event::mark(member, stage, clock).with(fields)
    }

    fn commit(member: u8, clock: u64, old: u64, new: u64) -> Event {
        event(member, clock, Stage::RaftCommit, &[("commit.old", old), ("commit.new", new)])
    }

    fn gaps_of(events: Vec<Event>) -> Vec<Gap> {
        gaps(&Recording { events, ..Recording::default() })
    }

    #[test]
    fn a_complete_chain_has_no_gap_in_any_order_of_arrival() {
        let events = vec![commit(0, 3, 7, 9), commit(0, 1, 5, 7), commit(1, 2, 1, 4)];
        assert_eq!(Vec::<Gap>::new(), gaps_of(events));
    }

    #[test]
    fn an_old_that_is_not_the_last_new_is_a_gap() {
        let events = vec![commit(0, 1, 5, 7), commit(0, 2, 8, 9), commit(0, 3, 9, 10)];
        let expected = Gap { event: 1, field: "commit", expected: 7, found: 8 };
        assert_eq!(vec![expected], gaps_of(events));
    }

    #[test]
    fn peers_and_buffers_have_chains_of_their_own() {
        let progress = |clock, peer, old, new| {
            let fields = [("peer", peer), ("match.old", old), ("match.new", new)];
            event(0, clock, Stage::RaftProgress, &fields)
        };
        let put = |clock, old, new| {
            event(0, clock, Stage::BufferPut, &[("length.old", old), ("length.new", new)])
        };
        let events = vec![
            progress(1, 11, 0, 5),
            progress(2, 12, 0, 3),
            progress(3, 11, 5, 6),
            put(4, 0, 2),
            event(0, 5, Stage::BufferFreeze, &[]),
            put(6, 0, 1),
            put(7, 2, 3),
        ];
        let expected = Gap { event: 6, field: "length", expected: 1, found: 2 };
        assert_eq!(vec![expected], gaps_of(events));
    }
}
