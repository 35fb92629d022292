//! The watchers of one pass of the sync thread, in portions whose events fit into memory.
//!
//! Each watcher gets events of its own, copied from the window that the pass has read. 512 watchers
//! of everything would make half a million copies of a thousand puts, and many more of large
//! transactions. So a pass goes on in portions: the copies of one are queued before those of the
//! next are made. Queues have bounds of their own.

use std::{collections::HashMap, mem};

use super::{
    lookup::{Keys, Lookup},
    notice::revision,
    watcher::Filters,
};
use crate::pb::mvccpb::Event;

/// The most copies of events in a portion, unless one watcher alone has more. Each takes some two
/// hundred bytes; keys and values are shared.
const COPIES_MAX: usize = 128 * 1024;

/// A copy of what a pass must know of a watcher. Only the sync thread changes it while the watcher
/// is unsynced.
pub(super) struct ChosenWatcher {
    pub(super) number: u64,
    /// The first revision that it has not received.
    pub(super) min_rev: i64,
    pub(super) keys: Keys,
    pub(super) filters: Filters,
}

impl ChosenWatcher {
    fn wants(&self, event: &Event) -> bool {
        revision(event) >= self.min_rev && self.filters.wants(event)
    }
}

/// Some of the watchers of a pass.
pub(super) struct Portion {
    lookup: Lookup,
    watchers: Vec<ChosenWatcher>,
}

/// The events of one watcher, in whole revisions and in order (etcd: `eventBatch`).
pub(super) struct EventBatch {
    pub(super) number: u64,
    pub(super) events: Vec<Event>,
}

/// Divides the watchers, in their order, so that those of each portion have few enough of these
/// events. It may take long, so no lock is held.
pub(super) fn portions(watchers: Vec<ChosenWatcher>, events: &[Event]) -> Vec<Portion> {
    let all = Portion::of(watchers);
    let (mut counts, mut sum) = (HashMap::<u64, usize>::new(), 0);
    for key in keys(events) {
        all.lookup.visit(key, |watcher| {
            *counts.entry(watcher).or_default() += 1;
            sum += 1;
        });
    }
    if sum <= COPIES_MAX {
        return vec![all];
    }
    let mut portions = Vec::new();
    let (mut part, mut copies) = (Vec::new(), 0);
    for watcher in all.watchers {
        let count = counts.get(&watcher.number).copied().unwrap_or_default();
        if COPIES_MAX < copies + count && !part.is_empty() {
            portions.push(Portion::of(mem::take(&mut part)));
            copies = 0;
        }
        copies += count;
        part.push(watcher);
    }
    portions.push(Portion::of(part));
    portions
}

fn keys(events: &[Event]) -> impl Iterator<Item = &[u8]> {
    events.iter().map(|event| event.kv.as_ref().map_or(b"".as_slice(), |kv| kv.key.as_ref()))
}

impl Portion {
    fn of(watchers: Vec<ChosenWatcher>) -> Portion {
        let mut lookup = Lookup::default();
        watchers.iter().for_each(|watcher| lookup.insert(&watcher.keys, watcher.number));
        Portion { lookup, watchers }
    }

    /// Whether these events may be copied at once. Looks at no more of them than that.
    pub(super) fn has_room_for(&self, events: &[Event]) -> bool {
        let mut copies = 0;
        keys(events).all(|key| {
            self.lookup.visit(key, |_| copies += 1);
            copies <= COPIES_MAX
        })
    }

    /// Finds the events of each watcher, which may have none. It may take long, so it is called
    /// without a lock, or with the index locked for the few revisions written meanwhile.
    pub(super) fn event_batches(&self, events: &[Event]) -> Vec<EventBatch> {
        fail::fail_point!("watch-sync-batches");
        let pairs = self.lookup.pairs(keys(events));
        let batch = |watcher: &ChosenWatcher| {
            let number = watcher.number;
            let first = pairs.partition_point(|pair| pair.0 < number);
            let own = pairs[first..].iter().take_while(|pair| pair.0 == number);
            let events = own.map(|(_, event)| &events[*event]);
            let events = events.filter(|event| watcher.wants(event)).cloned().collect();
            EventBatch { number, events }
        };
        self.watchers.iter().map(batch).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::pb::mvccpb::KeyValue;

    fn event(key: &str, mod_revision: i64) -> Event {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let kv = KeyValue { key, mod_revision, ..KeyValue::default() };
        Event { kv: Some(kv), ..Event::default() }
    }

    fn watcher(number: u64, key: &str, end: &str) -> ChosenWatcher {
        let keys = Keys::new(key.as_bytes(), end.as_bytes()).unwrap();
        ChosenWatcher { number, min_rev: 2, keys, filters: Filters::default() }
    }

    /// Goal: the copies that a pass makes at a time have a bound, however many watchers want every
    /// event, and each watcher gets its own once. Method: 512 watchers of everything, half of them
    /// with fewer keys; one event more per watcher than a portion may have in sum.
    #[test]
    fn the_copies_of_a_portion_have_a_bound() {
        let watchers = || {
            (0..512).map(|number| match number % 2 {
                0 => watcher(number, "", "\0"),
                _ => watcher(number, "b", ""),
            })
        };
        let events: Vec<Event> =
            (0..4000).map(|at| event(if at % 4 == 0 { "b" } else { "a" }, 2 + at)).collect();
        let portions = portions(watchers().collect(), &events);
        let mut numbers = Vec::new();
        for portion in &portions {
            let batches = portion.event_batches(&events);
            let copies: usize = batches.iter().map(|batch| batch.events.len()).sum();
            assert!(copies <= COPIES_MAX, "{copies}");
            assert!(portion.has_room_for(&events));
            for batch in batches {
                let wanted = if batch.number % 2 == 0 { 4000 } else { 1000 };
                assert_eq!(batch.events.len(), wanted, "{}", batch.number);
                numbers.push(batch.number);
            }
        }
        assert_eq!(numbers, (0..512).collect::<Vec<u64>>());
        let least = (512 * 2500_usize).div_ceil(COPIES_MAX);
        assert!((least..=least + 1).contains(&portions.len()), "{}", portions.len());
        assert!(!Portion::of(watchers().collect()).has_room_for(&events));
    }

    #[test]
    fn a_watcher_with_more_events_than_a_portion_has_one_of_its_own() {
        let events: Vec<Event> = (0..=COPIES_MAX).map(|_| event("a", 2)).collect();
        let watchers = (0..3).map(|number| watcher(number, "a", "")).collect();
        let portions = portions(watchers, &events);
        assert_eq!(portions.len(), 3);
        assert_eq!(portions[2].event_batches(&events)[0].events.len(), COPIES_MAX + 1);
    }
}
