//! The cheapest clock, for records only: raw ticks of the processor's counter.
//!
//! The length of a tick is measured when the process starts, and that is off by some parts in a
//! hundred thousand: after two minutes, members on one machine would seem milliseconds apart. So
//! the drain compares the ticks with the system's monotonic clock, once a second:
//!
//! ```text
//!   time                           .─┘      from each anchor on, a tick has another length:
//!                           ._.─'           that measured since the start, and a little more or
//!                 ._.──'─┘                  less, so that the error of this anchor is gone after
//!      ._.───'─┘                            some seconds
//!   ticks   ──┬─────────┬────────x┬─────────┬──▶
//!             anchor    anchor    anchor    anchor
//! ```
//!
//! The time never steps: two ticks are as far apart as the time between them, whether an anchor was
//! set in between or not, so the parts of a request add up to the whole. And a tick is always
//! converted from the anchor before it, so the beginning of a step has one time, in the record that
//! is written when it begins and in the one that is written when it ends. When [`ANCHORS_MAX`]
//! anchors are kept, every second one is dropped: a step that began hours ago may then move by the
//! error of a few seconds.

use std::{
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use quanta::Clock;

/// Upper limit on anchors: four and a half hours at first, then twice as long each time.
const ANCHORS_MAX: usize = 1 << 14;
/// The least time between two anchors in nanoseconds.
const ANCHOR_EVERY_NS: u64 = 1_000_000_000;
/// The time in which the error of an anchor goes, in nanoseconds.
const SLEW_NS: u64 = 8 * ANCHOR_EVERY_NS;
/// How often ticks and the system's clock are read for an anchor, to find two readings that no
/// other thread came between.
const READS: usize = 5;

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::new);
static START: LazyLock<(u64, Instant)> = LazyLock::new(|| (CLOCK.raw(), instant()));
static ANCHORS: LazyLock<Mutex<Anchors>> = LazyLock::new(|| Mutex::new(Anchors::new(START.0)));
/// The length of a tick, as [`Rate`] has it.
static RATE: AtomicU64 = AtomicU64::new(0);

/// Raw ticks now. Only differences mean anything, and only inside one process.
pub fn now() -> u64 {
    CLOCK.raw()
}

/// Raw ticks as nanoseconds.
pub fn to_ns(ticks: u64) -> u64 {
    match RATE.load(Relaxed) {
        // Nothing better was measured yet.
        0 => CLOCK.delta_as_nanos(0, ticks),
        rate => Rate(rate).ns(ticks),
    }
}

/// The raw ticks that these nanoseconds take.
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
    anchors(|anchors| anchors.before(raw)).convert(raw)
}

fn anchors<T>(look: impl FnOnce(&mut Anchors) -> T) -> T {
    look(&mut ANCHORS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The newest anchor, which many recent ticks can be converted from without a look at the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Newest(Option<Anchor>);

impl Newest {
    /// The newest anchor now.
    pub fn now() -> Newest {
        Newest(anchors(|anchors| anchors.list.last().copied()))
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
    let (began, start) = *START;
    let (raw, ns) = reading(start);
    if let Some(rate) = Rate::of(raw.saturating_sub(began), ns) {
        anchors(|anchors| {
            if anchors.add(raw, ns, rate) {
                RATE.store(rate.0, Relaxed);
            }
        });
    }
}

/// The ticks, and the nanoseconds since the start, at one moment: of several readings, the one with
/// the fewest ticks in between.
fn reading(start: Instant) -> (u64, u64) {
    let read = |_| {
        let before = CLOCK.raw();
        let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let took = CLOCK.raw().saturating_sub(before);
        (took, before + took / 2, ns)
    };
    let (_, raw, ns) = (0..READS).map(read).min().unwrap_or_default();
    (raw, ns)
}

/// The length of a tick, in parts of a nanosecond: `1 << 40` of them are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rate(u64);

impl Rate {
    /// The rate at which these ticks take this time; `None` if that says nothing.
    fn of(ticks: u64, ns: u64) -> Option<Rate> {
        let rate = (u128::from(ns) << 40).checked_div(u128::from(ticks))?;
        u64::try_from(rate).ok().filter(|rate| *rate != 0).map(Rate)
    }

    fn ns(self, ticks: u64) -> u64 {
        u64::try_from((u128::from(ticks) * u128::from(self.0)) >> 40).unwrap_or(u64::MAX)
    }

    /// The rate at which a clock that is ahead by `ahead_ns` now is right after [`SLEW_NS`]. It is
    /// never off by more than half.
    fn slewed(self, ahead_ns: i128) -> Rate {
        let by = i128::from(self.0) * ahead_ns / i128::from(SLEW_NS);
        let most = i128::from(self.0 / 2);
        let rate = i128::from(self.0) - by.clamp(-most, most);
        Rate(u64::try_from(rate).unwrap_or(self.0))
    }
}

/// A raw tick, the nanoseconds since the start that it stands for, and the length of the ticks that
/// follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Anchor {
    raw: u64,
    ns: u64,
    rate: Rate,
}

impl Anchor {
    fn convert(self, raw: u64) -> u64 {
        match raw.checked_sub(self.raw) {
            Some(later) => self.ns.saturating_add(self.rate.ns(later)),
            None => self.ns.saturating_sub(self.rate.ns(self.raw - raw)),
        }
    }
}

/// Anchors in the order of their ticks; never none.
struct Anchors {
    list: Vec<Anchor>,
}

impl Anchors {
    /// The first anchor is the start, with the length of a tick that was measured before it.
    fn new(start: u64) -> Anchors {
        const MANY: u64 = 1 << 30;
        let rate = Rate::of(MANY, CLOCK.delta_as_nanos(0, MANY)).unwrap_or(Rate(1 << 40));
        Anchors { list: vec![Anchor { raw: start, ns: 0, rate }] }
    }

    /// The last anchor before `raw`, or the first of all.
    fn before(&self, raw: u64) -> Anchor {
        let after = self.list.partition_point(|anchor| anchor.raw <= raw);
        self.list[after.saturating_sub(1)]
    }

    /// Adds an anchor unless the last one is too young: `raw` was at `ns` by the system's clock,
    /// and `rate` was measured since the start. It begins where the ticks before it end.
    fn add(&mut self, raw: u64, ns: u64, rate: Rate) -> bool {
        let last = self.before(u64::MAX);
        let told = last.convert(raw);
        let is_young = raw <= last.raw || told < last.ns.saturating_add(ANCHOR_EVERY_NS);
        if is_young {
            return false;
        }
        let rate = rate.slewed(i128::from(told) - i128::from(ns));
        self.list.push(Anchor { raw, ns: told, rate });
        if ANCHORS_MAX < self.list.len() {
            self.halve();
        }
        true
    }

    /// Drops every second anchor. The ticks of those that stay reach to the next one.
    fn halve(&mut self) {
        let mut at = 0;
        self.list.retain(|_| {
            at += 1;
            at % 2 == 1
        });
        for at in 1..self.list.len() {
            let next = self.list[at];
            let before = &mut self.list[at - 1];
            let rate = Rate::of(next.raw - before.raw, next.ns.saturating_sub(before.ns));
            before.rate = rate.unwrap_or(before.rate);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "trace imports nothing of ours, not even the clock")]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks of a tenth of a microsecond.
    const TICKS: u64 = ANCHOR_EVERY_NS / 100;
    const RATE: Rate = Rate(100 << 40);

    /// Anchors at these seconds, by clocks that agree.
    fn list(seconds: impl IntoIterator<Item = u64>) -> Anchors {
        let mut anchors = Anchors { list: vec![Anchor { raw: 0, ns: 0, rate: RATE }] };
        for second in seconds {
            assert!(anchors.add(second * TICKS, second * ANCHOR_EVERY_NS, RATE));
        }
        anchors
    }

    /// Goal: a step's beginning has one time, whether it is converted at once or after hours.
    #[test]
    fn a_tick_is_converted_from_the_same_anchor_however_many_follow() {
        let mut anchors = list(1..3);
        let tick = 2 * TICKS + 5;
        let before = anchors.before(tick);
        (3..100).for_each(|second| {
            anchors.add(second * TICKS, second * ANCHOR_EVERY_NS, RATE);
        });
        assert_eq!(before, anchors.before(tick));
        assert_eq!((2 * TICKS, 2 * ANCHOR_EVERY_NS), (before.raw, before.ns));
    }

    #[test]
    fn anchors_are_a_second_apart_and_bounded_and_the_first_stays() {
        let mut anchors = list([]);
        assert!(!anchors.add(TICKS - 1, ANCHOR_EVERY_NS, RATE));
        let last = ANCHORS_MAX as u64;
        let mut anchors = list(1..last);
        assert!(anchors.add(last * TICKS, last * ANCHOR_EVERY_NS, RATE));
        assert_eq!(ANCHORS_MAX / 2 + 1, anchors.list.len());
        assert_eq!([0, 2 * TICKS], [anchors.list[0].raw, anchors.list[1].raw]);
        assert_eq!(last * TICKS, anchors.list[ANCHORS_MAX / 2].raw);
    }

    /// Goal: an anchor moves no time, so the parts of a request are as long as the whole. Method: a
    /// clock whose ticks are measured 50 millionths too long at the start, and which is read with
    /// errors of a microsecond.
    #[test]
    fn an_anchor_is_no_step_and_its_error_goes() {
        let off = Rate(RATE.0 + RATE.0 / 20_000);
        let mut anchors = Anchors { list: vec![Anchor { raw: 0, ns: 0, rate: off }] };
        for second in 1..40 {
            let raw = second * (TICKS + TICKS / 1000);
            let error = if second % 2 == 0 { 1_000 } else { 0 };
            let ns = raw * 100 + error;
            let [before, after] = [raw - 1, raw + 1].map(|raw| anchors.before(raw).convert(raw));
            let rate = Rate::of(raw, ns).unwrap();
            assert!(anchors.add(raw, ns, rate));
            let told = [raw - 1, raw + 1].map(|raw| anchors.before(raw).convert(raw));
            assert_eq!(before, told[0]);
            assert!(told[1].abs_diff(after) <= 2, "{second}: {after}, {told:?}");
        }
        let (raw, ns) = (41 * TICKS, 41 * ANCHOR_EVERY_NS);
        let told = anchors.before(raw).convert(raw);
        assert!(told.abs_diff(ns) < 5_000, "{told}: 50 000 at the first anchor");
    }

    #[test]
    fn a_tick_before_the_first_anchor_is_converted_from_it() {
        assert_eq!(0, list([1, 2]).before(7).raw);
        let first = Anchor { raw: 1_000, ns: 100_000, rate: RATE };
        assert_eq!([99_000, 0], [990, 0].map(|raw| first.convert(raw)));
    }

    #[test]
    fn a_large_error_slows_the_clock_down_and_never_turns_it_back() {
        assert_eq!(Rate(RATE.0 / 2), RATE.slewed(i128::from(u64::MAX)));
        assert_eq!(Rate(RATE.0 + RATE.0 / 2), RATE.slewed(-i128::from(u64::MAX)));
        assert_eq!(RATE, RATE.slewed(0));
    }
}
