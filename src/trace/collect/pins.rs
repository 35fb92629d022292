//! Requests that are kept although nobody had planned it: those that failed or are slow.
//!
//! While a ring still holds what a request did, it can be kept after all. So the collector follows
//! which requests are in flight, pins those that end in an error or take too long, and reads the
//! rings once more for them. How many a second is bounded: when everything is slow, some examples
//! say as much as all of them.
//!
//! What one member pins it tells to the others, because a slow put is slow on three members. What
//! it was told it does not tell on: the one who found it has told everybody.

use std::collections::HashMap;

use crate::{
    field,
    trace::{
        id,
        record::{Kind, Record},
        stage::METHODS,
    },
};

/// How long a pinned request's later steps are waited for, in nanoseconds.
const HELD_NS: u64 = 2_000_000_000;
/// So many are pinned at each look into the rings, of those that this member found.
const FRESH_MAX: usize = 10;
/// And so many of those that other members have told of.
pub(super) const TOLD_MAX: usize = 30;
/// A request in flight for so long has lost its end.
const FORGOTTEN_NS: u64 = 60_000_000_000;
/// What is meant to wait is not slow.
const WAITING: &[&str] = &[
    "Health/Watch",
    "Watch/Watch",
    "Lease/LeaseKeepAlive",
    "Lock/Lock",
    "Election/Campaign",
    "Election/Observe",
];

/// Requests in flight, and those that were pinned.
#[derive(Debug)]
pub(super) struct Pins {
    /// From how long on a request is slow, in nanoseconds.
    pub(super) slow_ns: u64,
    /// Requests that have begun, and when.
    in_flight: HashMap<u64, u64>,
    /// Until when the steps of a request are wanted.
    pinned: HashMap<u64, u64>,
    /// Pinned since the rings were looked through.
    fresh: Vec<u64>,
    /// And those of them that another member has told of.
    told: Vec<u64>,
}

/// What a look at the requests in flight has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// Found here: to be looked for in the rings, and told to the other members.
    pub(super) found: Vec<u64>,
    /// Told by others: to be looked for only.
    pub(super) told: Vec<u64>,
}

impl Pins {
    /// Nothing pinned yet.
    pub(super) fn new(slow_ns: u64) -> Pins {
        let (in_flight, pinned) = (HashMap::new(), HashMap::new());
        Pins { slow_ns, in_flight, pinned, fresh: Vec::new(), told: Vec::new() }
    }

    /// Whether the steps of this request are wanted.
    pub(super) fn contains(&self, id: u64) -> bool {
        !self.pinned.is_empty() && self.pinned.contains_key(&id)
    }

    /// Follows the record of an rpc, its beginning or its end.
    pub(super) fn follow(&mut self, record: &Record, now_ns: u64) {
        let (id, head) = (record.id(), record.head());
        if waits(field!(record, Rpc, method)) {
            return;
        }
        if head.kind == Kind::Begin as u8 {
            self.in_flight.insert(id, record.words[3]);
            return;
        }
        self.in_flight.remove(&id);
        if head.result != 0 || self.slow_ns <= record.took_ns() {
            self.pin(id, now_ns);
        }
    }

    /// Keeps a request after all, unless it is kept anyway.
    pub(super) fn pin(&mut self, id: u64, now_ns: u64) {
        if id::kept(id) {
            return;
        }
        if self.fresh.len() < FRESH_MAX && self.pinned.insert(id, now_ns + HELD_NS).is_none() {
            self.fresh.push(id);
        }
    }

    /// Keeps a request because another member asks for it.
    pub(super) fn pin_told(&mut self, id: u64, now_ns: u64) {
        if id::kept(id) {
            return;
        }
        if self.told.len() < TOLD_MAX && self.pinned.insert(id, now_ns + HELD_NS).is_none() {
            self.told.push(id);
        }
    }

    /// Pins what has been in flight for too long, lets go of what was held long enough, and returns
    /// what must be looked for in the rings.
    pub(super) fn turn(&mut self, now_ns: u64) -> Turn {
        self.in_flight.retain(|_, begun| now_ns < *begun + FORGOTTEN_NS);
        let slow_ns = self.slow_ns;
        let is_slow = |begun: u64| begun + slow_ns <= now_ns;
        let overdue: Vec<u64> = self
            .in_flight
            .iter()
            .filter(|(_, begun)| is_slow(**begun))
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            self.pin(id, now_ns);
        }
        self.pinned.retain(|_, until| now_ns < *until);
        Turn { found: std::mem::take(&mut self.fresh), told: std::mem::take(&mut self.told) }
    }
}

/// The same by the method's number.
pub(super) fn waits(method: u64) -> bool {
    let name = usize::try_from(method).ok().and_then(|at| METHODS.get(at));
    name.is_some_and(|name| is_waiting(name))
}

/// Whether a request with this method is meant to wait, so that it is never slow.
pub fn is_waiting(method: &str) -> bool {
    WAITING.contains(&method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{
        record::{Head, pack_deltas},
        stage::Stage,
    };

    const MS: u64 = 1_000_000;

    fn rpc(kind: Kind, id: u64, method: &str, result: u8) -> Record {
        let method = METHODS.iter().position(|name| *name == method).unwrap() as u64;
        let head = Head { stage: Stage::Rpc as u8, kind: kind as u8, result, ..Head::default() };
        Record::new(head, 1, 1000 * MS, id, &[method, 0, 0, 0, 0, 0, 0, 0])
    }

    #[test]
    fn a_failed_request_is_pinned_once_and_let_go_after_two_seconds() {
        let mut pins = Pins::new(100 * MS);
        pins.follow(&rpc(Kind::Begin, 5, "KV/Put", 0), 1000 * MS);
        pins.follow(&rpc(Kind::Span, 5, "KV/Put", 14), 1001 * MS);
        assert_eq!(vec![5], pins.turn(1001 * MS).found);
        assert_eq!(Turn::default(), pins.turn(1500 * MS));
        assert!(pins.contains(5));
        pins.turn(3001 * MS);
        assert!(!pins.contains(5));
    }

    #[test]
    fn a_request_that_hangs_is_pinned_while_it_hangs_and_what_waits_by_design_is_not() {
        let mut pins = Pins::new(100 * MS);
        pins.follow(&rpc(Kind::Begin, 5, "KV/Put", 0), 1000 * MS);
        pins.follow(&rpc(Kind::Begin, 6, "Health/Watch", 0), 1000 * MS);
        assert_eq!(Turn::default(), pins.turn(1099 * MS));
        assert_eq!(vec![5], pins.turn(1100 * MS).found);
    }

    #[test]
    fn slow_requests_are_pinned_and_quick_ones_are_not() {
        let mut pins = Pins::new(100 * MS);
        for (id, took) in [(5, 99 * MS), (6, 101 * MS)] {
            let mut record = rpc(Kind::Span, id, "KV/Put", 0);
            record.words[4] = pack_deltas(4, took);
            pins.follow(&record, 1000 * MS);
        }
        assert_eq!(vec![6], pins.turn(1000 * MS).found);
    }

    #[test]
    fn when_everything_fails_some_examples_are_enough() {
        let mut pins = Pins::new(100 * MS);
        for id in 1..1000 {
            pins.follow(&rpc(Kind::Span, id, "KV/Put", 14), 1000 * MS);
        }
        assert_eq!(FRESH_MAX, pins.turn(1000 * MS).found.len());
    }

    #[test]
    fn what_another_member_told_is_kept_and_not_told_on() {
        let mut pins = Pins::new(100 * MS);
        (1..1000).for_each(|id| pins.pin_told(id, 1000 * MS));
        let turn = pins.turn(1000 * MS);
        assert_eq!((0, TOLD_MAX), (turn.found.len(), turn.told.len()));
        assert!(pins.contains(turn.told[0]));
        pins.pin(turn.told[0], 1001 * MS);
        assert_eq!(Turn::default(), pins.turn(1001 * MS), "it is pinned already");
    }
}
