//! The cheapest clock, for records only: raw ticks of the processor's counter.
//!
//! The length of a tick is measured when the process starts, and that is off by some parts in a
//! hundred thousand: after two minutes, members on one machine would seem milliseconds apart. So
//! the drain anchors the ticks to the system's monotonic clock, once a second:
//!
//! ```text
//!   ticks   ──┬─────────┬────────x┬─────────┬──▶     x is converted from the anchor before it,
//!             anchor    anchor    anchor    anchor    however many have been set since
//! ```
//!
//! A tick is always converted from the same anchor, so the beginning of a step has one time, in the
//! record that is written when it begins and in the one that is written when it ends. When
//! [`ANCHORS_MAX`] anchors are kept, every second one is dropped: a step that began hours ago may
//! then move by the error of a few seconds, some ten microseconds.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::Instant,
};

use quanta::Clock;

/// Upper limit on anchors: four and a half hours at first, then twice as long each time.
const ANCHORS_MAX: usize = 1 << 14;
/// The least time between two anchors in nanoseconds.
const ANCHOR_EVERY_NS: u64 = 1_000_000_000;

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::new);
static START: LazyLock<(u64, Instant)> = LazyLock::new(|| (CLOCK.raw(), instant()));
static ANCHORS: Mutex<Anchors> = Mutex::new(Anchors { list: Vec::new() });

/// Raw ticks now. Only differences mean anything, and only inside one process.
pub fn now() -> u64 {
    CLOCK.raw()
}

/// Raw ticks as nanoseconds; for short times.
pub fn to_ns(ticks: u64) -> u64 {
    CLOCK.delta_as_nanos(0, ticks)
}

/// The raw ticks that these nanoseconds take; for short times.
pub fn ticks(ns: u64) -> u64 {
    /// Long enough that the quotient is exact to a millionth.
    const MANY: u64 = 1 << 30;
    let ticks = u128::from(ns) * u128::from(MANY) / u128::from(to_ns(MANY).max(1));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Nanoseconds since the process first read this clock, without the anchor: cheaper, and exact
/// enough to count seconds.
pub fn rough_ns(raw: u64) -> u64 {
    CLOCK.delta_as_nanos(START.0, raw)
}

/// Converts a raw tick to nanoseconds since the process first read this clock.
pub fn since_start_ns(raw: u64) -> u64 {
    let anchor = ANCHORS.lock().unwrap_or_else(PoisonError::into_inner).before(raw);
    anchor.unwrap_or(Anchor { raw: START.0, ns: 0 }).convert(raw)
}

/// The newest anchor, which many recent ticks can be converted from without a look at the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Newest(Option<Anchor>);

impl Newest {
    /// The newest anchor now.
    pub fn now() -> Newest {
        Newest(ANCHORS.lock().unwrap_or_else(PoisonError::into_inner).list.last().copied())
    }

    /// As [`since_start_ns`], with the same result.
    pub fn since_start_ns(self, raw: u64) -> u64 {
        match self.0 {
            Some(anchor) if anchor.raw <= raw => anchor.convert(raw),
            _ => since_start_ns(raw),
        }
    }
}

/// Sets a new anchor, if the last one is old enough. Called by one thread, at each pass over the
/// rings.
pub fn anchor() {
    let (_, start) = *START;
    let (raw, ns) = (CLOCK.raw(), u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    ANCHORS.lock().unwrap_or_else(PoisonError::into_inner).add(Anchor { raw, ns });
}

/// A raw tick, and the nanoseconds since the start that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Anchor {
    raw: u64,
    ns: u64,
}

impl Anchor {
    fn convert(self, raw: u64) -> u64 {
        match raw.checked_sub(self.raw) {
            Some(later) => self.ns + to_ns(later),
            None => self.ns.saturating_sub(to_ns(self.raw - raw)),
        }
    }
}

/// Anchors in the order of their ticks.
struct Anchors {
    list: Vec<Anchor>,
}

impl Anchors {
    /// The last anchor before `raw`, or the first of all.
    fn before(&self, raw: u64) -> Option<Anchor> {
        let after = self.list.partition_point(|anchor| anchor.raw <= raw);
        self.list.get(after.saturating_sub(1)).copied()
    }

    /// Adds an anchor unless the last one is too young.
    fn add(&mut self, anchor: Anchor) {
        let last = self.list.last();
        if last.is_some_and(|last| anchor.ns < last.ns + ANCHOR_EVERY_NS) {
            return;
        }
        if self.list.len() == ANCHORS_MAX {
            let mut at = 0;
            self.list.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
        self.list.push(anchor);
    }
}

#[allow(clippy::disallowed_methods, reason = "trace imports nothing of ours, not even the clock")]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(anchors: impl IntoIterator<Item = u64>) -> Anchors {
        let anchor = |second| Anchor { raw: second * 10, ns: second * ANCHOR_EVERY_NS };
        Anchors { list: anchors.into_iter().map(anchor).collect() }
    }

    /// Goal: a step's beginning has one time, whether it is converted at once or after hours.
    #[test]
    fn a_tick_is_converted_from_the_same_anchor_however_many_follow() {
        let mut anchors = list(0..3);
        let before = anchors.before(25);
        (3..100).for_each(|second| {
            anchors.add(Anchor { raw: second * 10, ns: second * ANCHOR_EVERY_NS });
        });
        assert_eq!(before, anchors.before(25));
        assert_eq!(Some(Anchor { raw: 20, ns: 2 * ANCHOR_EVERY_NS }), before);
    }

    #[test]
    fn anchors_are_a_second_apart_and_bounded_and_the_first_stays() {
        let mut anchors = list([0]);
        anchors.add(Anchor { raw: 9, ns: ANCHOR_EVERY_NS - 1 });
        assert_eq!(1, anchors.list.len());
        let mut anchors = list(0..ANCHORS_MAX as u64);
        anchors.add(Anchor { raw: u64::MAX, ns: u64::MAX });
        assert_eq!(ANCHORS_MAX / 2 + 1, anchors.list.len());
        assert_eq!([0, 20], [anchors.list[0].raw, anchors.list[1].raw]);
        assert_eq!(u64::MAX, anchors.list[ANCHORS_MAX / 2].raw);
    }

    #[test]
    fn a_tick_before_the_first_anchor_is_converted_from_it() {
        assert_eq!(None, list([]).before(7));
        assert_eq!(Some(10), list([1, 2]).before(7).map(|anchor| anchor.raw));
    }
}
