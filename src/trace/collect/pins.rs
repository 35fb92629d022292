//! Requests that are kept after the fact, because they failed or are slow.
//!
//! While the rings still hold a request's records, it can be kept after all. So the collector
//! follows the requests in flight, pins those that end in an error or take too long, and reads the
//! rings once more for them. Their number in a second is bounded: when everything is slow, a few
//! examples say as much as all.
//!
//! A member reports what it pins to the others, because a slow put is slow on all of them. It does
//! not pass on what others have reported: the member that found a request has informed all.

use std::collections::VecDeque;

use crate::{
    field,
    trace::{
        id::{self, IdMap},
        record::{Kind, Record},
        ring,
        waiting::waits,
    },
};

/// How long the later steps of a pinned request are still kept, in nanoseconds.
const HELD_NS: u64 = 2_000_000_000;
/// The most requests found here that are pinned at one search of the rings.
const FRESH_MAX: usize = 10;
/// The most requests reported by other members that one search of the rings looks for.
const REPORTED_MAX: usize = 30;
/// The most requests reported by other members that wait for a search. Under load searches come
/// late, and the reports of several come together: whole lists of requests would be left out.
pub(super) const WAITING_MAX: usize = 8 * REPORTED_MAX;
/// After this many nanoseconds in flight, the end of a request must have been lost.
const FORGOTTEN_NS: u64 = 60_000_000_000;
/// Requests in flight, and those that were pinned.
#[derive(Debug)]
pub(super) struct Pins {
    /// The duration from which a request is slow, in nanoseconds.
    pub(super) slow_ns: u64,
    /// Requests that have begun, and when.
    in_flight: IdMap<u64>,
    /// By request, until when its steps are kept.
    pinned: IdMap<u64>,
    /// Found here and pinned since the last search of the rings.
    fresh: Vec<u64>,
    /// Reported by other members and pinned, and not searched for yet; the oldest first.
    reported: VecDeque<u64>,
}

/// The requests to search the rings for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Found here, and to be reported to the other members.
    pub(super) found: Vec<u64>,
    /// Reported by other members.
    pub(super) reported: Vec<u64>,
}

impl Pins {
    /// No pins; `slow_ns` is the duration from which a request is slow.
    pub(super) fn new(slow_ns: u64) -> Pins {
        let (in_flight, pinned) = (IdMap::default(), IdMap::default());
        Pins { slow_ns, in_flight, pinned, fresh: Vec::new(), reported: VecDeque::new() }
    }

    /// Whether the steps of this request are wanted.
    pub(super) fn contains(&self, id: u64) -> bool {
        !self.pinned.is_empty() && self.pinned.contains_key(&id)
    }

    /// A request that is not kept has begun.
    pub(super) fn begun(&mut self, id: u64, now_ns: u64) {
        self.in_flight.insert(id, now_ns);
    }

    /// A request that is not kept has ended well.
    pub(super) fn ended(&mut self, id: u64) {
        self.in_flight.remove(&id);
    }

    /// Follows the record of an rpc, its beginning or its end.
    pub(super) fn follow(&mut self, record: &Record, now_ns: u64) {
        let (id, head) = (record.id(), record.head());
        if id::kept(id) || waits(field!(record, Rpc, method)) {
            return;
        }
        if head.kind == Kind::Begin as u8 {
            self.begun(id, now_ns);
            return;
        }
        self.ended(id);
        if head.result != 0 || self.slow_ns <= record.took_ns() {
            self.pin(id, now_ns);
        }
    }

    /// Follows a wait of a request before its rpc or after it.
    pub(super) fn note_wait(&mut self, record: &Record, now_ns: u64) {
        if self.slow_ns <= record.took_ns() {
            self.pin(record.id(), now_ns);
        }
    }

    /// Keeps a request after all, unless it is kept anyway.
    pub(super) fn pin(&mut self, id: u64, now_ns: u64) {
        if id::kept(id) {
            return;
        }
        if self.fresh.len() < FRESH_MAX && self.hold(id, now_ns) {
            self.fresh.push(id);
        }
    }

    /// Keeps a request because another member asks for it.
    pub(super) fn pin_reported(&mut self, id: u64, now_ns: u64) {
        if id::kept(id) {
            return;
        }
        if self.reported.len() < WAITING_MAX && self.hold(id, now_ns) {
            self.reported.push_back(id);
        }
    }

    /// Has the records of this request noted from now on. Whether that is new.
    fn hold(&mut self, id: u64, now_ns: u64) -> bool {
        let is_new = self.pinned.insert(id, now_ns + HELD_NS).is_none();
        if is_new {
            ring::pin(id);
        }
        is_new
    }

    /// Pins what has been in flight for too long, forgets pins that have expired, and returns what
    /// to search the rings for.
    pub(super) fn due(&mut self, now_ns: u64) -> Due {
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
        self.pinned.retain(|id, until| {
            let is_held = now_ns < *until;
            if !is_held {
                ring::unpin(*id);
            }
            is_held
        });
        let reported = self.reported.len().min(REPORTED_MAX);
        let reported = self.reported.drain(..reported).collect();
        Due { found: std::mem::take(&mut self.fresh), reported }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.pinned.keys().for_each(|id| ring::unpin(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{
        record::Head,
        stage::{METHODS, Stage},
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
        assert_eq!(vec![5], pins.due(1001 * MS).found);
        assert_eq!(Due::default(), pins.due(1500 * MS));
        assert!(pins.contains(5));
        pins.due(3001 * MS);
        assert!(!pins.contains(5));
    }

    #[test]
    fn a_request_that_hangs_is_pinned_meanwhile_and_one_that_waits_by_design_is_not() {
        let mut pins = Pins::new(100 * MS);
        pins.follow(&rpc(Kind::Begin, 5, "KV/Put", 0), 1000 * MS);
        pins.follow(&rpc(Kind::Begin, 6, "Health/Watch", 0), 1000 * MS);
        assert_eq!(Due::default(), pins.due(1099 * MS));
        assert_eq!(vec![5], pins.due(1100 * MS).found);
    }

    #[test]
    fn slow_requests_are_pinned_and_quick_ones_are_not() {
        let mut pins = Pins::new(100 * MS);
        for (id, took) in [(5, 99 * MS), (6, 101 * MS)] {
            let mut record = rpc(Kind::Span, id, "KV/Put", 0);
            record.set_length(4, took);
            pins.follow(&record, 1000 * MS);
        }
        assert_eq!(vec![6], pins.due(1000 * MS).found);
    }

    #[test]
    fn when_everything_fails_some_examples_are_enough() {
        let mut pins = Pins::new(100 * MS);
        for id in 1..1000 {
            pins.follow(&rpc(Kind::Span, id, "KV/Put", 14), 1000 * MS);
        }
        assert_eq!(FRESH_MAX, pins.due(1000 * MS).found.len());
    }

    #[test]
    fn a_pin_of_another_member_is_kept_and_not_passed_on() {
        let mut pins = Pins::new(100 * MS);
        pins.pin_reported(5, 1000 * MS);
        let due = pins.due(1000 * MS);
        assert_eq!((vec![], vec![5]), (due.found, due.reported));
        assert!(pins.contains(5));
        pins.pin(5, 1001 * MS);
        assert_eq!(Due::default(), pins.due(1001 * MS), "it is pinned already");
    }

    /// Goal: a request is kept on all members or on the one that serves it alone only if there are
    /// far too many. Method: the reports of two members for three searches come before one search.
    #[test]
    fn reports_that_come_together_are_searched_for_in_turn() {
        let mut pins = Pins::new(100 * MS);
        let all: Vec<u64> = (1..=6 * FRESH_MAX as u64).collect();
        all.iter().for_each(|id| pins.pin_reported(*id, 1000 * MS));
        assert!(all.iter().all(|id| pins.contains(*id)));
        let searches = [1000, 1100, 1200].map(|at| pins.due(at * MS).reported);
        assert!(searches.iter().all(|due| due.len() <= REPORTED_MAX));
        assert_eq!(all, searches.concat());
    }

    #[test]
    fn far_too_many_reports_are_left_out() {
        let mut pins = Pins::new(100 * MS);
        (1..1000).for_each(|id| pins.pin_reported(id, 1000 * MS));
        assert_eq!(WAITING_MAX, pins.pinned.len());
    }
}
