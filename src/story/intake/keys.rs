//! Texts of keys that wait for the end of the step in which they were written.
//!
//! A key waits under its owner (member, boot, thread, request) and the member clock at which it was
//! written. A step that ends asks for its own owner and its own clocks, so it looks at the keys
//! that may be its own, and at no other, however many wait. When too many keys wait, the oldest is
//! given up: its step has probably lost its end.

use std::{
    collections::{BTreeMap, btree_map::Range},
    ops::Bound,
};

use crate::story::{Event, KeyText};

/// Keys that wait at most. A key waits until its step ends, so this is more than the requests that
/// a member has under way; its text has 88 bytes at most.
pub(super) const KEYS_MAX: usize = 4096;

/// Whose key it is: member, boot, thread and request.
pub(super) type Owner = (u8, u16, u8, u64);

/// Where a key waits: its owner, and the member clock at which it was written.
type Place = (Owner, u64);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct WaitingKeys {
    /// The texts, each with its number.
    texts: BTreeMap<Place, (u64, KeyText)>,
    /// The places in the order in which the keys came, by number.
    ages: BTreeMap<u64, Place>,
    next: u64,
}

impl WaitingKeys {
    /// Lets a key wait. A key that a member sends twice waits once.
    pub(super) fn insert(&mut self, owner: Owner, clock: u64, text: KeyText) {
        let (number, place) = (self.next, (owner, clock));
        self.next += 1;
        if let Some((known, _)) = self.texts.insert(place, (number, text)) {
            self.ages.remove(&known);
        }
        self.ages.insert(number, place);
        if KEYS_MAX < self.ages.len()
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.texts.remove(&oldest);
        }
    }

    /// The key that was written in this step, which has ended: it waits no longer.
    pub(super) fn take(&mut self, step: &Event) -> Option<KeyText> {
        let (place, _) = self.written_in(step).next()?;
        let place = *place;
        let (number, text) = self.texts.remove(&place)?;
        self.ages.remove(&number);
        Some(text)
    }

    /// The keys that were written in this step: all that are looked at.
    fn written_in(&self, step: &Event) -> Range<'_, Place, (u64, KeyText)> {
        let owner = (step.member, step.boot, step.thread, step.id);
        let last = step.clock_end.max(step.clock);
        let clocks = (Bound::Excluded((owner, step.clock)), Bound::Included((owner, last)));
        self.texts.range(clocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{
        record::{Head, Kind, Record, pack_deltas},
        stage::Stage,
    };

    const THREAD: u8 = 1;

    fn step(id: u64, clock: u64, length: u64) -> Event {
        let head = Head {
            stage: Stage::Rpc as u8,
            kind: Kind::Span as u8,
            thread: THREAD,
            boot: 1,
            ..Head::default()
        };
        let mut record = Record::new(head, clock, 0, id, &[0; 8]);
        record.words[4] = pack_deltas(length, 0);
        Event::of(&record, 0).unwrap()
    }

    fn text(number: u64) -> KeyText {
        KeyText { bytes: number.to_string().into_bytes(), length: 3 }
    }

    fn insert(keys: &mut WaitingKeys, id: u64, clock: u64) {
        keys.insert((0, 1, THREAD, id), clock, text(clock));
    }

    #[test]
    fn a_key_goes_to_the_step_in_which_it_was_written() {
        let mut keys = WaitingKeys::default();
        [11, 15].into_iter().for_each(|clock| insert(&mut keys, 7, clock));
        for other in [step(8, 10, 9), step(7, 11, 3), step(7, 15, 0), step(7, 2, 8)] {
            assert_eq!(None, keys.take(&other), "{other:?}");
        }
        let next_boot = Event { boot: 2, ..step(7, 10, 9) };
        assert_eq!(None, keys.take(&next_boot), "another start of the member");
        assert_eq!([Some(text(15)), None], [0, 1].map(|_| keys.take(&step(7, 12, 3))));
        assert_eq!(Some(text(11)), keys.take(&step(7, 10, 9)));
        assert!(keys.texts.is_empty() && keys.ages.is_empty());
    }

    #[test]
    fn of_too_many_keys_the_oldest_are_given_up() {
        let mut keys = WaitingKeys::default();
        let many = KEYS_MAX as u64 + 10;
        (0..many).for_each(|clock| insert(&mut keys, 7, clock));
        // A second copy takes no second place.
        (0..10).for_each(|_| insert(&mut keys, 7, many - 1));
        assert_eq!((KEYS_MAX, KEYS_MAX), (keys.texts.len(), keys.ages.len()));
        assert_eq!(Some(text(10)), keys.take(&step(7, 0, many)));
    }

    /// Goal: what a step costs does not grow with what waits. Method: as many keys as can wait, and
    /// steps that are not theirs look at none of them; a step of theirs looks at its own.
    #[test]
    fn a_step_looks_at_no_key_but_its_own() {
        let mut keys = WaitingKeys::default();
        for id in 0..KEYS_MAX as u64 / 4 {
            (0..4).for_each(|clock| insert(&mut keys, id, 10 * clock + 5));
        }
        for id in 0..KEYS_MAX as u64 / 2 {
            let is_theirs = usize::from(id < KEYS_MAX as u64 / 4);
            assert_eq!(is_theirs, keys.written_in(&step(id, 10, 9)).count());
            assert_eq!(0, keys.written_in(&step(id, 16, 8)).count());
        }
    }
}
