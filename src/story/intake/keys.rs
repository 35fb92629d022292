//! Texts of keys, kept until the step in which they were written ends.
//!
//! A key is stored under its owner (member, boot, thread, request) and the member clock at which it
//! was written. A step that ends searches its own owner and its own clocks, so it visits only keys
//! that may be its own, however many are stored. When too many keys are stored, the oldest is
//! discarded: the end of its step has probably been lost.

use std::{
    collections::{BTreeMap, btree_map::Range},
    ops::Bound,
};

use crate::story::{Event, KeyText};

/// The texts of a step: its key, and the end of its range.
pub(super) type Texts = (Option<KeyText>, Option<KeyText>);

/// Largest number of stored keys. A key is stored until its step ends, so this exceeds the number
/// of requests that a member has running; its text has 88 bytes at most.
pub(super) const KEYS_MAX: usize = 4096;

/// Owner of a key: member, boot, thread and request.
pub(super) type Owner = (u8, u16, u8, u64);

/// Where a key is stored: its owner, and the member clock at which it was written.
type OwnerAt = (Owner, u64);

/// A key, or the end of a range.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) is_end: bool,
    pub(super) text: KeyText,
}

/// The stored keys; see the essay of this module.
#[derive(Debug, Default)]
pub(super) struct WaitingKeys {
    /// The texts, each with its number in order of arrival.
    texts: BTreeMap<OwnerAt, (u64, Text)>,
    /// The places of the keys, by that number.
    ages: BTreeMap<u64, OwnerAt>,
    next: u64,
}

impl WaitingKeys {
    /// Stores a key. A key that a member sends twice is stored once.
    pub(super) fn insert(&mut self, owner: Owner, clock: u64, text: Text) {
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

    /// Removes and returns what was written in this step, which has ended.
    pub(super) fn take(&mut self, step: &Event) -> Texts {
        (self.take_first(step, false), self.take_first(step, true))
    }

    fn take_first(&mut self, step: &Event, is_end: bool) -> Option<KeyText> {
        let (place, _) = self.written_in(step).find(|(_, (_, text))| text.is_end == is_end)?;
        let place = *place;
        let (number, Text { text, .. }) = self.texts.remove(&place)?;
        self.ages.remove(&number);
        Some(text)
    }

    /// The keys written within this step; no other key is visited.
    fn written_in(&self, step: &Event) -> Range<'_, OwnerAt, (u64, Text)> {
        let owner = (step.member, step.boot, step.thread, step.id);
        let last = step.clock_end.max(step.clock);
        let clocks = (Bound::Excluded((owner, step.clock)), Bound::Included((owner, last)));
        self.texts.range(clocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{record::Kind, stage::Stage};

    const THREAD: u8 = 1;

    fn step(id: u64, clock: u64, length: u64) -> Event {
        let clock_end = clock + length;
        Event {
            kind: Kind::Span,
            thread: THREAD,
            clock_end,
            id,
            ..Event::mark(0, Stage::Rpc, clock)
        }
    }

    fn text(number: u64) -> KeyText {
        KeyText { bytes: number.to_string().into_bytes(), length: 3 }
    }

    fn insert(keys: &mut WaitingKeys, id: u64, clock: u64) {
        let text = Text { is_end: false, text: text(clock) };
        keys.insert((0, 1, THREAD, id), clock, text);
    }

    #[test]
    fn a_key_goes_to_the_step_in_which_it_was_written() {
        let mut keys = WaitingKeys::default();
        [11, 15].into_iter().for_each(|clock| insert(&mut keys, 7, clock));
        for other in [step(8, 10, 9), step(7, 11, 3), step(7, 15, 0), step(7, 2, 8)] {
            assert_eq!((None, None), keys.take(&other), "{other:?}");
        }
        let next_boot = Event { boot: 2, ..step(7, 10, 9) };
        assert_eq!((None, None), keys.take(&next_boot), "another start of the member");
        assert_eq!([Some(text(15)), None], [0, 1].map(|_| keys.take(&step(7, 12, 3)).0));
        assert_eq!((Some(text(11)), None), keys.take(&step(7, 10, 9)));
        assert!(keys.texts.is_empty() && keys.ages.is_empty());
    }

    #[test]
    fn a_range_has_a_first_key_and_an_end() {
        let mut keys = WaitingKeys::default();
        for (clock, is_end) in [(11, false), (12, true), (14, true)] {
            keys.insert((0, 1, THREAD, 7), clock, Text { is_end, text: text(clock) });
        }
        assert_eq!((None, Some(text(14))), keys.take(&step(7, 13, 2)), "the inner step's own");
        assert_eq!((Some(text(11)), Some(text(12))), keys.take(&step(7, 10, 9)));
        assert!(keys.texts.is_empty() && keys.ages.is_empty());
    }

    #[test]
    fn the_oldest_keys_are_discarded_if_there_are_too_many() {
        let mut keys = WaitingKeys::default();
        let many = KEYS_MAX as u64 + 10;
        (0..many).for_each(|clock| insert(&mut keys, 7, clock));
        // A second copy is not stored again.
        (0..10).for_each(|_| insert(&mut keys, 7, many - 1));
        assert_eq!((KEYS_MAX, KEYS_MAX), (keys.texts.len(), keys.ages.len()));
        assert_eq!(Some(text(10)), keys.take(&step(7, 0, many)).0);
    }

    /// Goal: the cost of a step does not grow with the number of stored keys. Method: store as many
    /// keys as possible; steps of other owners visit none of them, and a step of an owner visits
    /// its own.
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
